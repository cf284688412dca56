"""One solution of each exercise of chapter 9; there are others. Run it like exercises.py."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def count_lora(shapes: list[tuple[int, int]], rank: int) -> int:
    return sum(rank * (rows + columns) for rows, columns in shapes)  # B (out, r) and A (r, in)


def low_rank_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    A: Tensor,
    B: Tensor,
    alpha: float,
    drop: Callable[[Tensor], Tensor],
) -> Tensor:
    small = F.linear(drop(x), A)  # (..., r)
    return F.linear(x, weight, bias) + alpha / len(A) * F.linear(small, B)  # (..., out)


def merge_weight(weight: Tensor, A: Tensor, B: Tensor, alpha: float) -> Tensor:
    return weight + alpha / len(A) * B @ A  # a new tensor, unlike weight += ...


def nf4_block(weights: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    absmax = weights.abs().max()
    ratios = weights / absmax if absmax > 0 else weights  # zeros stay zeros
    distances = (ratios[:, None] - levels).abs()  # (64, 16)
    return distances.argmin(dim=1), absmax  # of two that are equally near, argmin takes the first


def prefix_attention(
    queries: Tensor, keys: Tensor, values: Tensor, prefix_keys: Tensor, prefix_values: Tensor
) -> Tensor:
    B, _, T, head_dim = queries.shape
    n = prefix_keys.shape[2]
    keys = torch.cat([prefix_keys.expand(B, -1, -1, -1), keys], dim=2)  # (B, H, n + T, head_dim)
    values = torch.cat([prefix_values.expand(B, -1, -1, -1), values], dim=2)
    seen = torch.ones(T, n + T, dtype=torch.bool).tril(diagonal=n)  # query t sees n + t + 1 keys
    scores = queries @ keys.transpose(2, 3) / math.sqrt(head_dim)  # (B, H, T, n + T)
    return scores.masked_fill(~seen, -math.inf).softmax(dim=-1) @ values


def rank_budget(importance: list[Tensor], budget: int) -> list[Tensor]:
    together = torch.cat(importance)
    kept = torch.zeros(len(together), dtype=torch.bool)
    kept[together.topk(budget).indices] = True
    return list(kept.split([len(scores) for scores in importance]))


if __name__ == "__main__":
    from exercises import EXERCISES

    from gptlab.checks import run

    raise SystemExit(run({name: globals()[stub.__name__] for name, stub in EXERCISES.items()}))
