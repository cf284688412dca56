"""Exercises of chapter 4, the GPT model. Write the functions, then run this file: it checks what is there so far.

    python chapters/ch04_model/exercises.py                     # all of them
    python chapters/ch04_model/exercises.py model.layer_norm    # one

Solutions are in solutions.py. They help most when they are opened last.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


def describe_feed_forward(D: int) -> tuple[tuple[int, int], tuple[int, int], int]:
    """Predict, for a feed-forward network D -> 4D -> D made of two nn.Linear with biases, three things.

    They are the shape of the first `.weight`, the shape of the second `.weight`, and the number of all parameters.
    """
    raise NotImplementedError


def layer_norm(x: Tensor, scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    """Give every token of x, (B, T, D), mean 0 and variance 1; then apply scale and shift, (D,) each: (B, T, D).

    Write it without nn.LayerNorm and F.layer_norm.
    """
    raise NotImplementedError


def gelu(x: Tensor) -> Tensor:
    """Return GELU of each number of x, in GPT-2's tanh form. Write it without nn.GELU and F.gelu."""
    raise NotImplementedError


def transformer_block(
    x: Tensor,
    norm1: Callable[[Tensor], Tensor],
    att: Callable[[Tensor], Tensor],
    norm2: Callable[[Tensor], Tensor],
    ff: Callable[[Tensor], Tensor],
) -> Tensor:
    """Put a block of GPT-2 together from its four parts, which are functions (B, T, D) -> (B, T, D).

    Leave dropout out, and leave the tensor x that came in as it was.
    """
    raise NotImplementedError


def count_parameters(V: int, context_length: int, D: int, n_layers: int, qkv_bias: bool, tie_weights: bool) -> int:
    """Return how many parameters such a GPT has, from the sizes alone.

    Args:
        V: size of the vocabulary.
        context_length: the longest sequence.
        D: length of a token's vector.
        n_layers: number of blocks.
        qkv_bias: whether query, key and value have biases. All other linear layers in the blocks always have one.
        tie_weights: whether the output head, which has no bias, shares its matrix with the token embedding.
    """
    raise NotImplementedError


def write_greedily(model: nn.Module, ids: Tensor, new_tokens: int, context_length: int) -> Tensor:
    """Append the most likely token, new_tokens times: ids (B, T) -> (B, T + new_tokens), the prompt in front.

    `model` turns ids (B, T) into logits (B, T, V) and cannot read more than context_length tokens. It may come in
    training mode. No gradients are needed.
    """
    raise NotImplementedError


EXERCISES = {
    "model.shapes": describe_feed_forward,
    "model.layer_norm": layer_norm,
    "model.gelu": gelu,
    "model.block": transformer_block,
    "model.count_parameters": count_parameters,
    "model.greedy": write_greedily,
}

if __name__ == "__main__":
    from gptlab.checks import run

    raise SystemExit(run(EXERCISES))
