"""The usual mistakes in writing a GPT, each as a change to GPT-2's recipe: a table of sentences and functions.

To teach `compare` another mistake, add a line. It needs a field of `Recipe` that says how GPT-2 does it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from gptlab.analysis.recipe import LINEARS, softmax_under_mask


class Fault(NamedTuple):
    """A mistake: the part that it is made in, a sentence, and the fields of the recipe that it changes."""

    where: str
    says: str
    changes: dict[str, Any]


def _variance_norm(unbiased: bool = False, eps_outside: bool = False, root: bool = True, dim: int = -1) -> Callable:
    def normalize(x: Tensor, eps: float) -> Tensor:
        variance = x.var(dim, keepdim=True, unbiased=unbiased)
        spread = variance.sqrt() + eps if eps_outside else (variance + eps).sqrt() if root else variance + eps
        return (x - x.mean(dim, keepdim=True)) / spread

    return normalize


def _split_without_transpose(x: Tensor, heads: int) -> Tensor:
    B, T, D = x.shape
    return x.reshape(B, heads, T, D // heads)


def _split_interleaved(x: Tensor, heads: int) -> Tensor:
    B, T, D = x.shape
    return x.reshape(B, T, D // heads, heads).permute(0, 3, 1, 2)


def _gelu(x: Tensor, factor: float) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + factor * x**3)))


_EMBED_POSITIONS = {
    "the positions are left out": lambda tokens, table: tokens,
    "the positions are added twice": lambda tokens, table: tokens + 2 * table[: tokens.shape[1]],
    "the positions begin at 1, not at 0": lambda tokens, table: tokens + table[1 : tokens.shape[1] + 1],
    "the positions run backwards": lambda tokens, table: tokens + table[: tokens.shape[1]].flip(0),
    "every token gets position 0": lambda tokens, table: tokens + table[0],
    "the positions are counted along the batch": lambda tokens, table: tokens + table[: len(tokens)].unsqueeze(1),
    "the positions are multiplied, not added": lambda tokens, table: tokens * table[: tokens.shape[1]],
}
_EMBED_TOKENS = {
    "the positions stand alone: the tokens are left out": lambda tokens, table: table[: tokens.shape[1]].expand_as(
        tokens
    ),
    "the tokens are multiplied by sqrt(emb_dim) before the positions are added": lambda tokens, table: (
        tokens * math.sqrt(tokens.shape[2]) + table[: tokens.shape[1]]
    ),
}
_NORMALIZE = {
    "the variance is unbiased (divided by D - 1, not by D)": _variance_norm(unbiased=True),
    "eps is added to the standard deviation, not to the variance": _variance_norm(eps_outside=True),
    "the standard deviation is unbiased, and eps is added to it": _variance_norm(unbiased=True, eps_outside=True),
    "the square root of the variance is missing": _variance_norm(root=False),
    "the mean and variance are taken over the tokens, not over the features": _variance_norm(dim=1),
    "the mean is not subtracted (RMS norm)": lambda x, eps: x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt(),
    "the mean is subtracted, but nothing is divided": lambda x, eps: x - x.mean(-1, keepdim=True),
    "the input is not normalised": lambda x, eps: x,
}
_SOFTMAX = {
    "the causal mask is missing: every token sees all tokens": softmax_under_mask(None),
    "the causal mask is shifted: every token also sees the one after it": softmax_under_mask(1),
    "the causal mask is shifted: a token does not see itself": softmax_under_mask(-1),
    "the causal mask is shifted: a token does not see itself (masked with a large number)": softmax_under_mask(
        -1, -1e9
    ),
    "the causal mask is upside down: a token sees itself and those after it": lambda scores: torch.softmax(
        scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).tril(-1), -math.inf), dim=-1
    ),
    "masked scores are set to 0, which softmax does not ignore, instead of -inf": softmax_under_mask(0, 0.0),
    "the mask is applied after the softmax, so that a row no longer sums to 1": lambda scores: torch.softmax(
        scores, dim=-1
    ).tril(),
    "the softmax runs over the queries, not over the keys": softmax_under_mask(dim=-2),
    "the softmax runs over the queries, and the causal mask is missing": softmax_under_mask(None, dim=-2),
    "the softmax runs over the heads, not over the keys": softmax_under_mask(0, -1e9, dim=1),
    "the softmax is missing": lambda scores: scores.tril(),
}
_DIVIDE = {
    "the attention scale is missing: scores are not divided by sqrt(head_dim)": lambda queries, heads: 1.0,
    "the attention scale is wrong: scores are divided by head_dim, without the root": lambda queries, heads: (
        queries.shape[-1]
    ),
    "the attention scale is wrong: scores are divided by sqrt(emb_dim), not by sqrt(head_dim)": lambda queries, heads: (
        math.sqrt(queries.shape[-1] * heads)
    ),
    "the attention scale is wrong: scores are multiplied by sqrt(head_dim)": lambda queries, heads: (
        1 / math.sqrt(queries.shape[-1])
    ),
    "the attention scale is wrong: scores are divided by sqrt(tokens)": lambda queries, heads: math.sqrt(
        queries.shape[-2]
    ),
    "the attention scale is wrong: scores are divided by sqrt(n_heads)": lambda queries, heads: math.sqrt(heads),
}
_SPLIT = {
    "the heads are split wrongly: view(B, H, T, head_dim) mixes tokens with features": _split_without_transpose,
    "the heads are split wrongly: a head takes every H-th feature, not a block of them": _split_interleaved,
}
_JOIN = {
    "the heads are joined wrongly: they are not transposed back before the view": lambda x: x.reshape(
        x.shape[0], x.shape[2], -1
    ),
    "the heads are joined wrongly: features are interleaved": lambda x: x.permute(0, 2, 3, 1).flatten(2),
}
_ACTIVATION = {
    "GELU is the exact one (erf), not the tanh form": F.gelu,
    "ReLU in place of GELU": F.relu,
    "SiLU in place of GELU": F.silu,
    "GELU is the sigmoid form, x sigmoid(1.702 x)": lambda x: x * torch.sigmoid(1.702 * x),
    "GELU's cube has another factor: 0.44715": lambda x: _gelu(x, 0.44715),
    "GELU's cube is missing": lambda x: _gelu(x, 0.0),
    "tanh in place of GELU": torch.tanh,
    "sigmoid in place of GELU": torch.sigmoid,
    "the activation is missing": lambda x: x,
}


# Each takes a block's input x and its parts n1, att, n2, ff in order.
_ARRANGE = {
    "post-norm: the norms come after the residuals, not before att and ff": lambda x, n1, att, n2, ff: n2(
        (h := n1(x + att(x))) + ff(h)
    ),
    "the norms come after attention and feed-forward": lambda x, n1, att, n2, ff: (h := x + n1(att(x))) + n2(ff(h)),
    "the residual around attention is missing": lambda x, n1, att, n2, ff: (h := att(n1(x))) + ff(n2(h)),
    "the residual around feed-forward is missing": lambda x, n1, att, n2, ff: ff(n2(x + att(n1(x)))),
    "both residuals are missing": lambda x, n1, att, n2, ff: ff(n2(att(n1(x)))),
    "the residual around attention starts behind the norm": lambda x, n1, att, n2, ff: (
        (h := (n := n1(x)) + att(n)) + ff(n2(h))
    ),
    "the residual around feed-forward starts behind the norm": lambda x, n1, att, n2, ff: (
        (m := n2(x + att(n1(x)))) + ff(m)
    ),
    "both residuals start behind the norms": lambda x, n1, att, n2, ff: (m := n2((n := n1(x)) + att(n))) + ff(m),
    "the residual around feed-forward starts at the block's input": lambda x, n1, att, n2, ff: (
        x + ff(n2(x + att(n1(x))))
    ),
    "attention and feed-forward run side by side": lambda x, n1, att, n2, ff: x + att(n1(x)) + ff(n2(x)),
    "feed-forward comes before attention": lambda x, n1, att, n2, ff: (h := x + ff(n2(x))) + att(n1(h)),
    "norm1 is left out": lambda x, n1, att, n2, ff: (h := x + att(x)) + ff(n2(h)),
    "norm2 is left out": lambda x, n1, att, n2, ff: (h := x + att(n1(x))) + ff(h),
    "both norms are left out": lambda x, n1, att, n2, ff: (h := x + att(x)) + ff(h),
    "norm1 stands where norm2 belongs": lambda x, n1, att, n2, ff: (h := x + att(n1(x))) + ff(n1(h)),
    "norm1 and norm2 have changed places": lambda x, n1, att, n2, ff: (h := x + att(n2(x))) + ff(n1(h)),
    "attention is left out": lambda x, n1, att, n2, ff: x + ff(n2(x)),
    "feed-forward is left out": lambda x, n1, att, n2, ff: x + att(n1(x)),
}
_FINISH = {
    "the model returns probabilities (softmax), not logits": lambda logits: torch.softmax(logits, dim=-1),
    "the model returns log-probabilities, not logits": lambda logits: torch.log_softmax(logits, dim=-1),
    "the model returns only the last position": lambda logits: logits[:, -1:],
    "the model returns only the last position, without a dimension for it": lambda logits: logits[:, -1],
}


def _rows(where: str, field: str, table: dict[str, Any]) -> list[Fault]:
    return [Fault(where, says, {field: value}) for says, value in table.items()]


FAULTS = [
    *_rows("pos_emb", "embed", _EMBED_POSITIONS),
    *_rows("tok_emb", "embed", _EMBED_TOKENS),
    *_rows("norm", "normalize", _NORMALIZE),
    *(Fault("norm", f"eps is {eps:g}", {"eps": eps}) for eps in (1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 1e-12, 0.0)),
    Fault("norm", "the scale is left out", {"norm_scale": False}),
    Fault("norm", "the shift is left out", {"norm_shift": False}),
    *_rows("att", "weigh", _SOFTMAX),
    *_rows("att", "divisor", _DIVIDE),
    *_rows("att", "split", _SPLIT),
    *_rows("att", "join", _JOIN),
    *(
        Fault("att", f"{q} serves as query, {k} as key, {v} as value", {"roles": q[2] + k[2] + v[2]})
        for q, k, v in permutations(("W_query", "W_key", "W_value"))
    ),
    Fault("att", "the biases of query, key and value are left out", {"no_bias": LINEARS[:3]}),
    Fault("att", "out_proj is left out", {"out_proj": False}),
    *_rows("ff.layers.1", "activation", _ACTIVATION),
    *_rows("block", "arrange", _ARRANGE),
    *(Fault(name, f"the weight of {name} is transposed", {"transposed": (name,)}) for name in LINEARS),
    *(Fault(name, f"the bias of {name} is left out", {"no_bias": (name,)}) for name in LINEARS),
    Fault("final_norm", "the final norm is left out", {"final_norm": False}),
    Fault(
        "out_head",
        "the head is the token embeddings (tied), the reference's has weights of its own",
        {"head": "tok_emb"},
    ),
    *_rows("returned", "finish", _FINISH),
]
