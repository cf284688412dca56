"""GPT-2 as plain functions over named weights, with a switch for every step that is often done otherwise.

Nothing here is fast or trained. It is written a second time, apart from `gptlab.model`, so that one step can be
exchanged and all others kept: this is what the experiments of `compare` are made with.

Source: Radford et al. 2019, section 2.3; Vaswani et al. 2017, arXiv 1706.03762, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gptlab.analysis.trace import FORWARD

Weights = Mapping[str, Tensor]  # by the book's names; inside a block without its number
LINEARS = ("att.W_query", "att.W_key", "att.W_value", "att.out_proj", "ff.layers.0", "ff.layers.2", "out_head")


def softmax_under_mask(diagonal: int | None = 0, hidden: float = -math.inf, dim: int = -1) -> Callable:
    """Return the step from scores (B, H, T, S) to weights; a token sees itself and, of those after it, `diagonal`."""

    def weigh(scores: Tensor) -> Tensor:
        if diagonal is not None:
            seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril(diagonal)
            scores = scores.masked_fill(~seen, hidden)
        return torch.softmax(scores, dim=dim)

    return weigh


causal_softmax = softmax_under_mask()


def split_heads(x: Tensor, heads: int) -> Tensor:
    B, T, D = x.shape
    return x.view(B, T, heads, D // heads).transpose(1, 2)  # (B, H, T, head_dim)


def join_heads(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)  # (B, T, D)


def standardize(x: Tensor, eps: float) -> Tensor:
    return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True, unbiased=False) + eps)


def pre_norm(x: Tensor, norm1: Callable, att: Callable, norm2: Callable, ff: Callable) -> Tensor:
    x = x + att(norm1(x))
    return x + ff(norm2(x))


@dataclass(frozen=True)
class Recipe:
    """How GPT-2 computes: one field for each thing that is often done otherwise."""

    heads: int = 1
    embed: Callable[[Tensor, Tensor], Tensor] = lambda tokens, table: tokens + table[: tokens.shape[1]]
    normalize: Callable[[Tensor, float], Tensor] = standardize
    eps: float = 1e-5
    norm_scale: bool = True
    norm_shift: bool = True
    roles: str = "qkv"  # which projection serves as query, as key and as value
    split: Callable[[Tensor, int], Tensor] = split_heads
    join: Callable[[Tensor], Tensor] = join_heads
    divisor: Callable[[Tensor, int], float] = lambda queries, heads: math.sqrt(queries.shape[-1])
    weigh: Callable[[Tensor], Tensor] = causal_softmax
    out_proj: bool = True
    activation: Callable[[Tensor], Tensor] = lambda x: F.gelu(x, approximate="tanh")
    arrange: Callable[..., Tensor] = pre_norm
    no_bias: tuple[str, ...] = ()
    transposed: tuple[str, ...] = ()
    final_norm: bool = True
    head: str = "out_head"
    finish: Callable[[Tensor], Tensor] = lambda logits: logits


def linear(x: Tensor, w: Weights, recipe: Recipe, name: str) -> Tensor:
    weight = w[f"{recipe.head if name == 'out_head' else name}.weight"]
    if name in recipe.transposed and weight.shape[0] == weight.shape[1]:  # any other would not have run
        weight = weight.T
    return F.linear(x, weight, None if name in recipe.no_bias else w.get(f"{name}.bias"))


def norm(x: Tensor, w: Weights, recipe: Recipe, name: str) -> Tensor:
    x = recipe.normalize(x, recipe.eps)
    x = x * w[f"{name}.scale"] if recipe.norm_scale else x
    return x + w[f"{name}.shift"] if recipe.norm_shift else x


def attention(x: Tensor, w: Weights, recipe: Recipe, name: str) -> Tensor:
    projected = {"q": "W_query", "k": "W_key", "v": "W_value"}
    queries, keys, values = (
        recipe.split(linear(x, w, recipe, f"{name}.{projected[role]}"), recipe.heads) for role in recipe.roles
    )
    scores = queries @ keys.transpose(-2, -1) / recipe.divisor(queries, recipe.heads)
    gathered = recipe.join(recipe.weigh(scores) @ values).reshape(x.shape)
    return linear(gathered, w, recipe, f"{name}.out_proj") if recipe.out_proj else gathered


def activation(x: Tensor, w: Weights, recipe: Recipe, name: str) -> Tensor:
    return recipe.activation(x)


def feed_forward(x: Tensor, w: Weights, recipe: Recipe, name: str) -> Tensor:
    widened = recipe.activation(linear(x, w, recipe, f"{name}.layers.0"))
    return linear(widened, w, recipe, f"{name}.layers.2")


def block(x: Tensor, w: Weights, recipe: Recipe, name: str) -> Tensor:
    parts = {"norm1": norm, "att": attention, "norm2": norm, "ff": feed_forward}
    steps = [lambda x, part=part, step=step: step(x, w, recipe, part) for part, step in parts.items()]
    return recipe.arrange(x, *steps)


def embeddings(ids: Tensor, w: Weights, recipe: Recipe, name: str) -> Tensor:
    return recipe.embed(w["tok_emb.weight"][ids], w["pos_emb.weight"])


def head(x: Tensor, w: Weights, recipe: Recipe, name: str) -> Tensor:
    """From the last block's output to what the model returns."""
    x = norm(x, w, recipe, "final_norm") if recipe.final_norm else x
    return recipe.finish(linear(x, w, recipe, "out_head"))


def whole(ids: Tensor, w: Weights, recipe: Recipe, name: str) -> Tensor:
    x = embeddings(ids, w, recipe, name)
    for number in range(1 + max(int(key.split(".")[1]) for key in w if key.startswith("trf_blocks."))):
        x = block(x, of_a_block(w, f"trf_blocks.{number}"), recipe, "block")
    return head(x, w, recipe, name)


def of_a_block(w: Weights, prefix: str) -> Weights:
    """Return the weights of one block by their names inside it."""
    return {name.removeprefix(f"{prefix}."): weight for name, weight in w.items() if name.startswith(f"{prefix}.")}


COMPUTE: dict[str, Callable[[Tensor, Weights, Recipe, str], Tensor]] = {
    "embeddings": embeddings,
    **dict.fromkeys(("norm1", "norm2", "final_norm"), norm),
    **dict.fromkeys(LINEARS, linear),
    "att": attention,
    "ff": feed_forward,
    "ff.layers.1": activation,
    "block": block,
    "head": head,
    "returned": lambda x, w, recipe, name: recipe.finish(x),
    FORWARD: whole,
}
