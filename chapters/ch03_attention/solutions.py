"""One solution of each exercise of chapter 3; there are others. Run it like exercises.py."""

import math

import torch
from torch import Tensor


def shape_of_scores(B: int, T: int, H: int, head_dim: int) -> tuple[int, ...]:
    return (B, H, T, T)  # every query meets every key, in each head; head_dim is summed over


def attention_weights(queries: Tensor, keys: Tensor) -> Tensor:
    scores = queries @ keys.transpose(1, 2) / math.sqrt(keys.shape[-1])  # (B, T, S)
    return torch.softmax(scores, dim=-1)


def causal_weights(scores: Tensor) -> Tensor:
    T = scores.shape[-1]
    later = torch.ones(T, T, dtype=torch.bool).triu(diagonal=1)
    return torch.softmax(scores.masked_fill(later, -math.inf), dim=-1)


def split_heads(x: Tensor, heads: int) -> Tensor:
    B, T, D = x.shape
    return x.view(B, T, heads, D // heads).transpose(1, 2)


def drop_weights(weights: Tensor, p: float, training: bool) -> Tensor:
    if not training:
        return weights
    kept = torch.rand_like(weights) >= p
    return weights * kept / (1 - p)


def causal_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    scores = queries @ keys.transpose(2, 3) / math.sqrt(keys.shape[-1])  # (B, H, T, T)
    return causal_weights(scores) @ values


if __name__ == "__main__":
    from exercises import EXERCISES

    from gptlab.checks import run

    raise SystemExit(run({name: globals()[stub.__name__] for name, stub in EXERCISES.items()}))
