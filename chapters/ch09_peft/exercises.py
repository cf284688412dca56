"""Exercises of chapter 9, tuning a few parameters. Write the functions, then run this file: it checks what is there.

    python chapters/ch09_peft/exercises.py                     # all of them
    python chapters/ch09_peft/exercises.py peft.merge_weight   # one

All of them need tensors only, and no model. Solutions are in solutions.py. They help most when they are opened last.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def count_lora(shapes: list[tuple[int, int]], rank: int) -> int:
    """Predict: how many parameters does LoRA add to these linear layers, all together?

    Args:
        shapes: (out, in) of the weight of each layer that gets a branch.
        rank: r, the same for all.
    """
    raise NotImplementedError


def low_rank_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    A: Tensor,
    B: Tensor,
    alpha: float,
    drop: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return what a linear layer with LoRA gives, (..., out): W x + b, and alpha / r times B A drop(x).

    The layer is frozen, but gradients still pass through it to x, A and B.

    Args:
        x: (..., in).
        weight: W, (out, in).
        bias: b, (out,).
        A: (r, in).
        B: (out, r).
        alpha: the strength.
        drop: dropout, such as `nn.Dropout(0.1)`. It is for what the branch reads, and for nothing else.
    """
    raise NotImplementedError


def merge_weight(weight: Tensor, A: Tensor, B: Tensor, alpha: float) -> Tensor:
    """Return the one weight, (out, in), that does what the weight and its LoRA branch did together.

    It is a new tensor, and the weight that came in stays as it was: without it, nobody could take the branch off again.

    Args:
        weight: (out, in).
        A: (r, in).
        B: (out, r).
        alpha: the strength; the scale is alpha / r.
    """
    raise NotImplementedError


def nf4_block(weights: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Quantise one block as NF4 does, and return (codes, absmax): the numbers of the levels, and their unit.

    The absmax is the largest magnitude in the block. Divided by it, a weight is in [-1, 1], and its code is the number
    of the nearest level, from 0 to 15. A weight in the middle between two levels takes the lower one. A block of zeros
    has the absmax 0, and each of its codes is the number of the level 0.

    Args:
        weights: one block, (64,) float32.
        levels: from -1 to 1, the smallest first, (16,) float32; 0 is one of them.

    Returns:
        codes: whole numbers, (64,), each in a place of its own, not yet two to a byte.
        absmax: one number.
    """
    raise NotImplementedError


def prefix_attention(
    queries: Tensor, keys: Tensor, values: Tensor, prefix_keys: Tensor, prefix_values: Tensor
) -> Tensor:
    """Return what each token of a text gathers, (B, H, T, head_dim), when a prefix stands in front of it.

    Every token sees the whole prefix, the tokens before it, and itself. One softmax goes over all that it sees. The
    prefix has keys and values, but no queries.

    Args:
        queries: of the text, (B, H, T, head_dim).
        keys: of the text, (B, H, T, head_dim).
        values: of the text, (B, H, T, head_dim).
        prefix_keys: (1, H, n, head_dim), the same for every text; `expand` makes B rows of one.
        prefix_values: (1, H, n, head_dim).
    """
    raise NotImplementedError


def rank_budget(importance: list[Tensor], budget: int) -> list[Tensor]:
    """Return which triplets AdaLoRA keeps: the `budget` most important ones of all matrices together.

    How many a matrix keeps is not fixed: it may be all of its triplets, or none.

    Args:
        importance: for each matrix the scores of its triplets, (r,), where r may differ; no two scores are equal.
        budget: how many triplets stay, from 0 to all of them.

    Returns:
        For each matrix a mask, (r,) bool, True where a triplet stays.
    """
    raise NotImplementedError


EXERCISES = {
    "peft.count_lora": count_lora,
    "peft.low_rank_forward": low_rank_forward,
    "peft.merge_weight": merge_weight,
    "peft.nf4_block": nf4_block,
    "peft.prefix_attention": prefix_attention,
    "peft.rank_budget": rank_budget,
}

if __name__ == "__main__":
    from gptlab.checks import run

    raise SystemExit(run(EXERCISES))
