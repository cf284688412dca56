"""Usual mistakes about attention: the check, the wrong answer, and words of the hint that it must get."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def softmax_over_queries(queries: Tensor, keys: Tensor) -> Tensor:
    return (queries @ keys.transpose(1, 2) / math.sqrt(keys.shape[-1])).softmax(dim=1)


def masked_after_softmax(scores: Tensor) -> Tensor:
    return scores.softmax(dim=-1).tril()


def diagonal_masked(scores: Tensor) -> Tensor:
    return scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(), -math.inf).softmax(dim=-1)


def earlier_masked(scores: Tensor) -> Tensor:
    return scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).tril(-1), -math.inf).softmax(dim=-1)


def mask_in_place(scores: Tensor) -> Tensor:
    return scores.masked_fill_(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf).softmax(dim=-1)


def masked_and_softmax_over_queries(scores: Tensor) -> Tensor:
    return scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf).softmax(dim=-2)


def drop_without_scaling(weights: Tensor, p: float, training: bool) -> Tensor:
    return weights * (torch.rand_like(weights) >= p) if training else weights


def scale_by_p(weights: Tensor, p: float, training: bool) -> Tensor:
    return weights * (torch.rand_like(weights) >= p) / p if training else weights


def scale_by_two(weights: Tensor, p: float, training: bool) -> Tensor:
    return weights * (torch.rand_like(weights) >= p) * 2 if training else weights


def keep_a_share_of_p(weights: Tensor, p: float, training: bool) -> Tensor:
    return weights * (torch.rand_like(weights) < p) / p if training else weights


def drop_with_a_seed(weights: Tensor, p: float, training: bool) -> Tensor:
    torch.manual_seed(3)
    return F.dropout(weights, p, training)


def drop_rows(weights: Tensor, p: float, training: bool) -> Tensor:
    return weights * (torch.rand(*weights.shape[:-1], 1) >= p) / (1 - p) if training else weights


def drop_in_place(weights: Tensor, p: float, training: bool) -> Tensor:
    return F.dropout(weights, p, training, inplace=True)


def add_times_infinity(scores: Tensor) -> Tensor:
    return (scores + torch.ones_like(scores).triu(1) * -math.inf).softmax(-1)


def masked_with_zero(scores: Tensor) -> Tensor:
    return scores.tril().softmax(-1)


def softmax_forgotten(scores: Tensor) -> Tensor:
    return scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf)


WRONG = [
    ("attention.dropout", drop_with_a_seed, "draw anew at each call"),
    ("attention.dropout", drop_rows, "for each weight by itself"),
    ("attention.dropout", drop_in_place, "were changed"),
    ("attention.causal_mask", add_times_infinity, "0 times -inf is NaN"),
    ("attention.causal_mask", masked_with_zero, "e^0 is 1"),
    ("attention.causal_mask", softmax_forgotten, "softmax is missing"),
    ("attention.split_heads", lambda x, H: x.chunk(H, -1), "one tensor with a dimension for the heads"),
    ("attention.weights", lambda q, k: (q @ k.transpose(1, 2) / math.sqrt(5)).softmax(-1), "the number of queries"),
    ("attention.shapes", lambda B, T, H, head_dim: (B, T, T, H), "heads come before the tokens"),
    ("attention.shapes", lambda B, T, H, head_dim: (B, H, T, head_dim), "summed over"),
    ("attention.shapes", lambda B, T, H, head_dim: (B, T, T), "four dimensions"),
    ("attention.weights", softmax_over_queries, "the columns sum to 1"),
    ("attention.weights", lambda q, k: (q @ k.transpose(1, 2)).softmax(-1), "not divided by sqrt"),
    ("attention.weights", lambda q, k: (q @ k.transpose(1, 2) / q.shape[-1]).softmax(-1), "not by head_dim"),
    ("attention.weights", lambda q, k: q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]), "softmax is missing"),
    ("attention.weights", lambda q, k: None, "`return` seems to be missing"),
    ("attention.causal_mask", lambda scores: scores.softmax(-1), "falls on later tokens"),
    ("attention.causal_mask", masked_after_softmax, "before the softmax"),
    ("attention.causal_mask", diagonal_masked, "mind the diagonal"),
    ("attention.causal_mask", earlier_masked, "wrong way round"),
    ("attention.causal_mask", masked_and_softmax_over_queries, "the columns sum to 1"),
    ("attention.causal_mask", mask_in_place, "not masked_fill_"),
    ("attention.split_heads", lambda x, H: x.view(2, H, 5, -1), "different tokens are mixed"),
    ("attention.split_heads", lambda x, H: x.view(2, 5, H, -1), "one transpose is missing"),
    ("attention.split_heads", lambda x, H: x.view(2, 5, -1, H).permute(0, 3, 1, 2), "neighbouring features"),
    ("attention.dropout", lambda w, p, training: F.dropout(w, p), "training=False"),
    ("attention.dropout", drop_without_scaling, "scaled by 1 / (1 - p)"),
    ("attention.dropout", keep_a_share_of_p, "not kept"),
    ("attention.dropout", scale_by_p, "divided by p"),
    ("attention.dropout", scale_by_two, "1.25 times"),
    ("attention.dropout", lambda w, p, training: w, "nothing is dropped"),
    ("attention.causal_attention", lambda q, k, v: F.scaled_dot_product_attention(q, k, v), "looked ahead"),
    (
        "attention.causal_attention",
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0),
        "not divided by sqrt",
    ),
]
