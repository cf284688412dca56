"""One solution of each exercise of chapter 4; there are others. Run it like exercises.py."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def describe_feed_forward(D: int) -> tuple[tuple[int, int], tuple[int, int], int]:
    weights = D * 4 * D + 4 * D * D
    biases = 4 * D + D
    return (4 * D, D), (D, 4 * D), weights + biases  # nn.Linear keeps its weight as (outputs, inputs)


def layer_norm(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    mean = x.mean(dim=-1, keepdim=True)  # (B, T, 1)
    variance = x.var(dim=-1, keepdim=True, unbiased=False)  # (B, T, 1)
    return scale * (x - mean) / torch.sqrt(variance + eps) + shift


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def transformer_block(
    x: Tensor,
    norm1: Callable[[Tensor], Tensor],
    att: Callable[[Tensor], Tensor],
    norm2: Callable[[Tensor], Tensor],
    ff: Callable[[Tensor], Tensor],
) -> Tensor:
    x = x + att(norm1(x))
    x = x + ff(norm2(x))
    return x


def count_parameters(V: int, context_length: int, D: int, n_layers: int, qkv_bias: bool, tie_weights: bool) -> int:
    attention = 4 * D * D + D + (3 * D if qkv_bias else 0)
    feed_forward = 8 * D * D + 5 * D
    norms = 2 * (D + D)
    embeddings = V * D + context_length * D
    final_norm = 2 * D
    head = 0 if tie_weights else D * V
    return embeddings + n_layers * (attention + feed_forward + norms) + final_norm + head


def write_greedily(model: nn.Module, ids: Tensor, new_tokens: int, context_length: int) -> Tensor:
    model.eval()
    with torch.no_grad():
        for _ in range(new_tokens):
            logits = model(ids[:, -context_length:])[:, -1]  # (B, V)
            ids = torch.cat([ids, logits.argmax(dim=-1, keepdim=True)], dim=1)
    return ids


if __name__ == "__main__":
    from exercises import EXERCISES

    from gptlab.checks import run

    raise SystemExit(run({name: globals()[stub.__name__] for name, stub in EXERCISES.items()}))
