"""Exercises of chapter 3, attention. Write the functions, then run this file: it checks what is there so far.

    python chapters/ch03_attention/exercises.py                        # all of them
    python chapters/ch03_attention/exercises.py attention.weights      # one

Solutions are in solutions.py. They help most when they are opened last.
"""

import torch
from torch import Tensor


def shape_of_scores(B: int, T: int, H: int, head_dim: int) -> tuple[int, ...]:
    """Predict: queries and keys are (B, H, T, head_dim) each. Which shape do the attention scores have?"""
    raise NotImplementedError


def attention_weights(queries: Tensor, keys: Tensor) -> Tensor:
    """Return softmax(Q K^T / sqrt(head_dim)) from queries (B, T, head_dim) and keys (B, S, head_dim): (B, T, S)."""
    raise NotImplementedError


def causal_weights(scores: Tensor) -> Tensor:
    """Return the weights for (scaled) scores (B, H, T, T), in which each token sees itself and those before it."""
    raise NotImplementedError


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Give each head its slice of the features: (B, T, D) -> (B, heads, T, D / heads)."""
    raise NotImplementedError


def drop_weights(weights: Tensor, p: float, training: bool) -> Tensor:
    """In training, set each weight to 0 with probability p, anew at each call, and scale up the others.

    Otherwise return the weights as they are.
    """
    raise NotImplementedError


def causal_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Put it together: what each token gathers, (B, H, T, head_dim), from queries, keys and values of that shape."""
    raise NotImplementedError


EXERCISES = {
    "attention.shapes": shape_of_scores,
    "attention.weights": attention_weights,
    "attention.causal_mask": causal_weights,
    "attention.split_heads": split_heads,
    "attention.dropout": drop_weights,
    "attention.causal_attention": causal_attention,
}

if __name__ == "__main__":
    from gptlab.checks import run

    raise SystemExit(run(EXERCISES))
