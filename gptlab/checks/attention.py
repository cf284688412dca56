"""Checks about attention: shapes, weights, the causal mask, heads, dropout, and all of it together."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from gptlab.checks.core import check_of, close, expect, expect_returned, expect_tensor, expect_tuple


@check_of("attention.shapes", "the shape of the scores")
def shapes(answer) -> None:
    for B, T, H, head_dim in ((2, 5, 3, 4), (1, 7, 2, 8)):
        got = expect_tuple(answer(B, T, H, head_dim), "the shape")
        expect(len(got) == 4, f"scores have four dimensions: batch, heads, queries, keys; got {got}")
        expect(head_dim not in got, "head_dim is summed over by the product of a query and a key, so it is gone")
        expect(got != (B, T, T, H), "the heads come before the tokens, so that each head has a matrix of its own")
        expect(got == (B, H, T, T), f"for B={B}, T={T}, H={H}: every query meets every key in every head, got {got}")


@check_of("attention.weights", "attention weights of queries and keys")
def weights(answer) -> None:
    queries, keys = torch.randn(2, 5, 16) * 2, torch.randn(2, 7, 16) * 2
    got = expect_tensor(answer(queries.clone(), keys.clone()), (2, 5, 7), "the weights")
    if not close(got.sum(dim=2), torch.ones(2, 5)):
        expect(
            not close(got.sum(dim=1), torch.ones(2, 7)),
            "the columns sum to 1, not the rows: softmax goes over the keys, dim=-1",
        )
        expect(bool((got >= 0).all()), "there are negative weights: softmax is missing")
    expect(close(got.sum(dim=2), torch.ones(2, 5)), "each query shares out a weight of 1, so each row must sum to 1")
    products = queries @ keys.transpose(1, 2)
    expect(not close(got, products.softmax(-1)), "the scores are not divided by sqrt(head_dim)")
    expect(not close(got, (products / 16).softmax(-1)), "divide by the square root of head_dim, not by head_dim")
    expect(not close(got, (products * 4).softmax(-1)), "divide by sqrt(head_dim), do not multiply")
    for number, what in ((7, "keys"), (5, "queries")):
        expect(
            not close(got, (products / math.sqrt(number)).softmax(-1)),
            f"head_dim is the last dimension, not the number of {what}",
        )
    expect(close(got, (products / 4).softmax(-1)), "the weights are not softmax(Q K^T / sqrt(head_dim))")


@check_of("attention.causal_mask", "weights that see no later token")
def causal_mask(answer) -> None:
    scores = torch.randn(2, 3, 6, 6)
    given = scores.clone()
    got = answer(given)
    if isinstance(got, Tensor) and got.shape == scores.shape and got.isnan().any():
        expect(
            not got[:, :, -1].isnan().any(),
            "0 times -inf is NaN: put -inf where it belongs with masked_fill or torch.where, do not multiply",
        )
        expect(False, "a row of NaN: its query sees no key at all; each token must see itself (mind the diagonal)")
    expect_tensor(got, (2, 3, 6, 6), "the weights")
    later = torch.ones(6, 6, dtype=torch.bool).triu(diagonal=1)
    expect(not close(got.tril(), scores.tril()), "these are still scores, no weights: softmax is missing")
    expect(
        not close(got, scores.masked_fill(later, 0.0).softmax(-1)),
        "a score of 0 still gets a weight, for e^0 is 1: which number has e to it equal to 0?",
    )
    expect(
        not close(got.masked_fill(later.T, 0.0), got) or close(got.masked_fill(later, 0.0), got),
        "each query sees only later keys: the mask is the wrong way round",
    )
    expect(
        close(got.masked_fill(later, 0.0), got),
        "some weight falls on later tokens; the weights above the diagonal must be 0",
    )
    expect(bool((got.diagonal(dim1=-2, dim2=-1) > 0).all()), "each token must see itself too: the diagonal stays open")
    expect(
        not close(got.sum(dim=-2), torch.ones(2, 3, 6)),
        "the columns sum to 1, not the rows: softmax goes over the keys, dim=-1",
    )
    expect(
        close(got.sum(dim=-1), torch.ones(2, 3, 6)),
        "the rows do not sum to 1: mask the scores with -inf before the softmax, not the weights with 0 after it",
    )
    expect(
        close(got, scores.masked_fill(later, -math.inf).softmax(-1)),
        "among the keys that may be seen, the weights are not those of softmax",
    )
    expect(close(given, scores), "the scores that came in were changed: use masked_fill, not masked_fill_")


@check_of("attention.split_heads", "from features to heads")
def split_heads(answer) -> None:
    B, T, H, head_dim = 2, 5, 3, 4
    x = torch.randn(B, T, H * head_dim)
    got = answer(x.clone(), H)
    expect_returned(got)
    expect(
        isinstance(got, Tensor), f"one tensor with a dimension for the heads is asked for, got a {type(got).__name__}"
    )
    expect(tuple(got.shape) != (B, T, H, head_dim), "the heads must come before the tokens: one transpose is missing")
    expect_tensor(got, (B, H, T, head_dim), "the heads")
    expect(
        not close(got, x.reshape(B, H, T, head_dim)),
        "the shape is right, but different tokens are mixed: view can only split the last dimension, not move one",
    )
    expect(
        not close(got, x.view(B, T, head_dim, H).permute(0, 3, 1, 2)),
        "each head takes neighbouring features: the first one x[..., :head_dim]",
    )
    for head in range(H):
        expect(
            close(got[:, head], x[:, :, head * head_dim : (head + 1) * head_dim]),
            f"head {head} must hold the features {head * head_dim} to {(head + 1) * head_dim - 1} of every token",
        )


@check_of("attention.dropout", "dropout on attention weights")
def dropout(answer) -> None:
    weights = torch.rand(4, 50, 50).softmax(-1)
    given = weights.clone()
    still = answer(given, 0.5, False)
    expect_tensor(still, (4, 50, 50), "the weights")
    expect(close(still, weights), "something is dropped with training=False: when the model is used, nothing may be")
    dropped = expect_tensor(answer(given, 0.5, True), (4, 50, 50), "the weights")
    expect(close(given, weights), "the weights that came in were changed: make new ones")
    share = (dropped == 0).float().mean().item()
    expect(share > 0, "nothing is dropped with training=True")
    kept = dropped != 0
    expect(
        not close(dropped[kept], weights[kept]),
        "what is kept must be scaled by 1 / (1 - p), or else the sum is smaller in training than in use",
    )
    expect(close(dropped[kept], weights[kept] * 2), "with p = 0.5 what is kept must be doubled")
    expect(0.4 < share < 0.6, f"with p = 0.5 about half of the weights should be 0, got {share:.2f}")
    zero = dropped == 0
    whole = bool(zero.all(dim=-1).any() or zero.all(dim=-2).any()) or torch.equal(zero[0], zero[1])
    expect(not whole, "whole rows, columns or texts share what is dropped: draw for each weight by itself")
    again = answer(weights.clone(), 0.5, True)
    expect(
        not torch.equal(again == 0, zero),
        "a second call drops the same weights: draw anew at each call, without setting the seed",
    )
    fewer = answer(weights.clone(), 0.2, True)
    share = (fewer == 0).float().mean().item()
    expect(not 0.75 < share < 0.85, f"p is the share that is dropped, not kept: with p = 0.2 it was {share:.2f}")
    expect(0.15 < share < 0.25, f"with p = 0.2 about a fifth of the weights should be 0, got {share:.2f}")
    kept = fewer != 0
    expect(
        not close(fewer[kept], weights[kept] / 0.2),
        "what is kept is divided by p; this is right for p = 0.5 only: divide by the share that is kept",
    )
    expect(close(fewer[kept], weights[kept] / 0.8), "with p = 0.2 what is kept must be 1.25 times as large")


@check_of("attention.causal_attention", "causal attention with several heads")
def causal_attention(answer) -> None:
    queries, keys, values = torch.randn(3, 2, 4, 6, 8).unbind(0)
    got = answer(queries.clone(), keys.clone(), values.clone())
    expect(
        not (isinstance(got, Tensor) and got.shape == values.shape and got[:, :, 0].isnan().any()),
        "the first token's result is NaN: does each token see itself?",
    )
    expect_tensor(got, (2, 4, 6, 8))
    changed = answer(
        queries,
        torch.cat([keys[:, :, :-1], keys[:, :, -1:] + 1], 2),
        torch.cat([values[:, :, :-1], values[:, :, -1:] + 1], 2),
    )
    expect(
        close(changed[:, :, :-1], got[:, :, :-1]),
        "when the last token is changed, earlier results change: they have looked ahead",
    )
    expect(close(got[:, :, 0], values[:, :, 0]), "the first token sees only itself, so it must get its own value")
    right = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    unscaled = F.scaled_dot_product_attention(queries, keys, values, is_causal=True, scale=1.0)
    expect(not close(got, unscaled), "the scores are not divided by sqrt(head_dim)")
    expect(close(got, right, 1e-4), "the result is not softmax(Q K^T / sqrt(head_dim) + mask) V")
