"""Checks about tuning a few parameters: LoRA's size, forward pass and merging, NF4, a prefix, and AdaLoRA's budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gptlab.checks.core import check_of, close, expect, expect_returned, expect_tensor, expect_tuple
from gptlab.model.attention import causal_mask
from gptlab.peft.nf4 import NF4_LEVELS, quantize_nf4

_ALPHA = 3.0


@check_of("peft.count_lora", "how many parameters LoRA adds")
def count_lora(answer) -> None:
    got = _counted(answer, [(11, 4)], 3)  # sizes for which all mistakes give different numbers
    for wrong, hint in (
        (44, "that is the layer's own weight, which is frozen and not added"),
        (44 + 45, "the layer's own weight is counted, too; it was there before"),
        (12, "that is A alone; B is learned, too"),
        (33, "that is B alone; A is learned, too"),
        (3 * 44, "out times in times rank is too much: A has one of the two sizes, and B the other"),
        (15, "the rank changes nothing: A has so many rows, and B so many columns"),
        (24, "both are counted with the size `in`; B has a row for each output"),
        (66, "both are counted with the size `out`; A has a column for each input"),
        (45 + 11, "a bias is counted, too; LoRA's A and B have none"),
        (45 + 3, "one number more for each rank: that is AdaLoRA's Lambda, which LoRA does not have"),
    ):
        expect(got != wrong, hint)
    expect(got == 45, f"a layer of (11, 4) with rank 3 gets an A of 3 x 4 and a B of 11 x 3, which is 45, got {got}")
    shapes = [(11, 4), (6, 6), (6, 6), (2, 9)]
    got = _counted(answer, shapes, 3)
    for wrong, hint in (
        (45, "only the first layer is counted"),
        (33, "only the last layer is counted"),
        (114, "layers of the same shape are counted once, but each has an A and a B of its own"),
        (180, "all layers are counted with the shape of the first one"),
    ):
        expect(got != wrong, hint)
    expect(got == 150, f"layers of {shapes} with rank 3 get 45, 36, 36 and 33 parameters, got {got}")
    got = _counted(answer, [(768, 768)] * 24, 8)
    expect(got == 294_912, f"24 layers of (768, 768) with rank 8 get 294912 parameters, got {got}")


def _counted(answer: Any, shapes: list[tuple[int, int]], rank: int) -> int:
    given = list(shapes)
    got = answer(given, rank)
    expect_returned(got)
    expect(given == shapes, "the list of shapes that came in was changed: count, without taking anything away")
    several = isinstance(got, tuple | list) or (isinstance(got, Tensor) and got.dim() > 0)
    expect(not several, "one number was asked for, the sum over all layers")
    expect(isinstance(got, int), f"a number of parameters is a whole number, got {got!r:.60}")
    return got


@check_of("peft.low_rank_forward", "the forward pass of a linear layer with LoRA")
def low_rank_forward(answer) -> None:
    for out, in_, r, places in ((5, 5, 5, (2, 3)), (4, 7, 2, (6,)), (4, 7, 2, ())):
        x, (weight, bias, A, B) = torch.randn(*places, in_), _layer(out, in_, r)
        got = _forward(answer, x, weight, bias, A, B)
        branch = _ALPHA / r * F.linear(x, B @ A)
        layer = F.linear(x, weight, bias)
        for wrong, hint in (
            (branch, "only the branch comes back; it is added to what the layer gives"),
            (layer + branch - bias, "the layer's bias is missing"),
            (layer + branch + bias, "the bias is added twice: the branch has none"),
            (_ALPHA / r * layer + branch, "the scale is for the branch, not for what the layer gives"),
        ):
            expect(not close(got, wrong, 1e-4), hint)
        if out == in_:
            behind = layer + _ALPHA / r * F.linear(layer, B @ A)
            expect(not close(got, behind, 1e-4), "the branch reads what the layer gives; it reads x, as the layer does")
        _look_at_weight(got, lambda whole, x=x, bias=bias: F.linear(x, whole, bias), weight, A, B)
    _look_at_dropout(answer)
    _look_at_gradients(answer)


def _forward(answer: Any, x: Tensor, weight: Tensor, bias: Tensor, A: Tensor, B: Tensor, drop=None) -> Tensor:
    tensors = {"x": x, "weight": weight, "bias": bias, "A": A, "B": B}
    given = [tensor.clone() for tensor in tensors.values()]
    got = expect_tensor(answer(*given, _ALPHA, drop or (lambda given: given)), (*x.shape[:-1], len(weight)))
    for (name, before), after in zip(tensors.items(), given):
        expect(torch.equal(before, after), f"the {name} that came in was changed: `+=` and the like change the tensor")
    return got


def _look_at_dropout(answer: Any) -> None:
    x, (weight, bias, A, B) = torch.randn(2, 5, 7), _layer(4, 7, 2)
    read = []

    def drop(given: Tensor) -> Tensor:
        read.append(given)
        return _drop_every_third(given)

    got = _forward(answer, x, weight, bias, A, B, drop)
    expect(bool(read), "`drop` is never called")
    scale, d, layer = _ALPHA / 2, _drop_every_third, F.linear(x, weight, bias)
    branch, right = scale * F.linear(x, B @ A), layer + scale * F.linear(d(x), B @ A)
    lost = F.linear(d(x), weight, bias) - layer
    at_weights = "`drop` is at A or B; it is for what the branch reads, x"
    for wrong, hint in (
        (layer + branch, "what `drop` returns is not used"),
        (right + lost, "the frozen layer loses inputs, too; `drop` is for the branch only"),
        (layer + lost + branch, "`drop` is at the frozen layer; it belongs to what the branch reads"),
        (d(layer + branch), "`drop` is at the whole result; it is for what the branch reads, before A"),
        (layer + d(branch), "`drop` is at what the branch gives; it is for what the branch reads, before A"),
        (layer + scale * F.linear(d(F.linear(x, A)), B), "`drop` is between A and B; it is for what the branch reads"),
        (layer + scale * F.linear(x, B @ d(A)), at_weights),
        (layer + scale * F.linear(x, d(B) @ A), at_weights),
        (layer + scale * F.linear(x, d(B @ A)), at_weights),
        (layer + scale * F.linear(d(d(x)), B @ A), "x is dropped twice; once is enough"),
    ):
        expect(not close(got, wrong, 1e-4), hint)
    expect(close(got, right, 1e-4), f"with dropout the result is not right; `drop` was called {len(read)} times")


def _drop_every_third(given: Tensor) -> Tensor:
    """Stand in for dropout: set every third number to zero and scale the others."""
    return given * (torch.arange(given.numel()).view(given.shape) % 3 != 0) * 1.5


def _look_at_gradients(answer: Any) -> None:
    x, (weight, bias, A, B) = torch.randn(2, 5, 7), _layer(4, 7, 2)
    learning = [tensor.requires_grad_() for tensor in (x, A, B)]
    got = answer(x, weight, bias, A, B, _ALPHA, lambda given: given)
    expect(got.requires_grad, "the result has lost its way back to A and B, so nothing can be learned: keep to tensors")
    direction = torch.randn(2, 5, 4)
    grads = torch.autograd.grad(got, learning, direction, allow_unused=True, materialize_grads=True)
    for name, grad in zip("AB", grads[1:]):
        expect(bool(grad.any()), f"no gradient reaches {name}, so it cannot learn")
    through_layer, through_branch = direction @ weight, _ALPHA / 2 * direction @ B @ A
    for wrong, hint in (
        (through_branch, "no gradient passes through the layer to x, by which earlier layers learn: only W is frozen"),
        (through_layer, "no gradient passes through the branch to x, by which earlier layers learn"),
        (torch.zeros_like(x), "no gradient reaches x, by which earlier layers learn"),
    ):
        expect(not close(grads[0], wrong, 1e-4), hint)
    expect(close(grads[0], through_layer + through_branch, 1e-4), "the gradient that reaches x is not right")


@check_of("peft.merge_weight", "one weight for a layer and its branch")
def merge_weight(answer) -> None:
    for out, in_, r in ((5, 5, 5), (4, 7, 2)):
        weight, _, A, B = _layer(out, in_, r)
        given = [weight.clone(), A.clone(), B.clone()]
        got = expect_tensor(answer(*given, _ALPHA), (out, in_), "the merged weight")
        expect(torch.equal(given[0], weight), "the weight that came in was changed, so a second call adds to it again")
        expect(torch.equal(given[1], A) and torch.equal(given[2], B), "the A or B that came in was changed")
        _look_at_weight(got, lambda whole: whole, weight, A, B)


def _layer(out: int, in_: int, r: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return torch.randn(out, in_), torch.randn(out), torch.randn(r, in_), torch.randn(out, r)


def _look_at_weight(got: Tensor, effect: Callable[[Tensor], Tensor], weight: Tensor, A: Tensor, B: Tensor) -> None:
    """Expect that `got` is the effect of the weight and alpha / r B A together."""
    (r, in_), out = A.shape, len(B)
    scale, product = _ALPHA / r, B @ A
    wrongs = [
        (scale * product, "the layer's own weight is missing: what LoRA learns is added to it"),
        (scale * (weight + product), "the scale is for B A, not for the layer's own weight"),
    ]
    if out == in_ == r:  # then what is the wrong way round runs, too
        wrongs += [
            (weight + scale * A @ B, "A and B are swapped: x goes through A first, and then through B"),
            (weight + scale * product.T, "the rows of B A are the outputs, like the weight's: mind its transpose"),
            (weight + scale * (A @ B).T, "mind both transposes: A is (r, in) and B (out, r), each like a weight"),
            (weight + scale * B @ A.T, "mind the transpose of A: it is (r, in), like the weight of a linear layer"),
            (weight + scale * B.T @ A, "mind the transpose of B: it is (out, r), like the weight of a linear layer"),
            (weight + scale * B * A, "`*` multiplies number by number; here it is the product of matrices"),
            (weight.T + scale * product, "mind the transpose of the layer's own weight: it is (out, in)"),
            ((weight + scale * product).T, "all is transposed; the weight is (out, in)"),
        ]
    factors = [
        (0, "LoRA's part is missing: nothing is added"),
        (_ALPHA, "LoRA's part is scaled by alpha, not by alpha / r"),
        (1, "LoRA's part is not scaled: alpha changes nothing"),
        (_ALPHA / math.sqrt(r), "alpha / sqrt(r) is the scale of rank-stabilised LoRA; here it is alpha / r"),
        (_ALPHA * r, "LoRA's part is multiplied by r; r is what alpha is divided by"),
        (r / _ALPHA, "the scale is upside down: alpha makes LoRA's part stronger"),
        (_ALPHA / in_, "alpha is divided by the number of inputs; r is how many rows A has"),
        (_ALPHA / out, "alpha is divided by the number of outputs; r is how many rows A has"),
        (-scale, "LoRA's part is taken away; it is added"),
        (2 * scale, "LoRA's part is added twice"),
    ]
    wrongs += [(weight + factor * product, hint) for factor, hint in factors if factor != scale]
    for wrong, hint in wrongs:
        expect(not close(got, effect(wrong), 1e-4), hint)
    right = close(got, effect(weight + scale * product), 1e-4)
    expect(right, f"with in={in_}, out={out}, r={r} and alpha={_ALPHA:g} it is not what W and alpha / r B A give")


@check_of("peft.nf4_block", "a block of weights in NF4")
def nf4_block(answer) -> None:
    levels, weights = torch.tensor(NF4_LEVELS), torch.randn(64).clamp(-3, 3) * 0.05
    weights[17] = -0.2  # the largest magnitude is that of a negative weight
    packed = quantize_nf4(weights, double=False).codes
    right = torch.stack([packed >> 4, packed & 15], dim=1).view(-1).long()
    codes, absmax = _quantized(answer, weights, levels)
    _look_at_absmax(absmax, weights)
    _look_at_codes(codes, weights / 0.2, weights, levels, right)
    for factor in (1000.0, 0.001):
        codes, absmax = _quantized(answer, weights * factor, levels)
        same = torch.equal(codes, right) and close(absmax / factor, 0.2)
        expect(same, f"weights {factor:g} times as large should get the same codes, and an absmax so much larger")
    _look_at_ties(answer)
    for its_levels in (levels, _dyadic_levels()):
        codes, absmax = _quantized(answer, torch.zeros(64), its_levels)
        zero = int((its_levels == 0).nonzero())
        expect(close(absmax, 0.0), f"the absmax of a block of zeros is 0, got {absmax:g}")
        hint = f"in a block of zeros each code should be {zero}, that of the level 0, got {codes[0]}: what is 0 / 0?"
        expect(bool((codes == zero).all()), hint)


def _quantized(answer: Any, weights: Tensor, levels: Tensor) -> tuple[Tensor, float]:
    given = weights.clone(), levels.clone()
    got = expect_tuple(answer(*given), "the result")
    expect(len(got) == 2, f"two things were asked for, the codes and the absmax, got {len(got)}")
    for what, before, after in zip(("weights", "levels"), (weights, levels), given):
        expect(torch.equal(before, after), f"the {what} that came in were changed: `/=` and the like change the tensor")
    sizes = [each.numel() if isinstance(each, Tensor) else 1 for each in got]
    expect(sizes != [1, 64], "the two are the wrong way round: the codes come first, then the absmax")
    expect(sizes[0] != 32, "two codes are in one byte; here each has a place of its own")
    codes = expect_tensor(got[0], (64,), "the codes")
    whole = not codes.is_floating_point() and codes.dtype != torch.bool
    expect(whole, f"a code is a whole number, which counts the levels; got {codes.dtype}, such as {codes[0]:.3f}")
    expect(got[1] is not None and sizes[1] == 1, f"the absmax is one number for the whole block, got {sizes[1]}")
    return codes.long(), float(got[1])


def _look_at_absmax(got: float, weights: Tensor) -> None:
    largest = weights.abs().max()
    for wrong, hint in (
        (weights.max(), "the absmax is the largest weight; here a negative one is larger in magnitude"),
        (weights.min(), "the absmax has a sign; it is a magnitude"),
        (weights.abs().mean(), "that is the mean magnitude; the absmax is the largest one"),
        (weights.std(), "that is the standard deviation; the absmax is the largest magnitude"),
        (1 / largest, "that is 1 / absmax, which one may multiply by; the absmax itself must be kept"),
        (1.0, "the absmax is 1, that of the ratios; keep that of the weights, or they cannot be made again"),
    ):
        expect(not close(got, wrong), hint)
    expect(close(got, largest), f"the largest magnitude in the block is {largest:.4f}, got {got:.4f}")


def _look_at_codes(codes: Tensor, ratios: Tensor, weights: Tensor, levels: Tensor, right: Tensor) -> None:
    even = (ratios + 1) * 7.5
    evenly = "these are codes of evenly spaced levels; NF4's are close together near 0 and wide apart near -1 and 1"
    for wrong, hint in (
        (right + 1, "the levels are counted from 1; they count from 0 to 15"),
        (torch.bucketize(ratios, levels, right=True) - 1, "each weight takes the next level below, not the nearest"),
        (torch.bucketize(ratios, levels), "each weight takes the next level above, not the nearest"),
        (even.round(), evenly),
        (even.long(), evenly),
        (_nearest(weights, levels), "the weights are not divided by the absmax"),
        (_nearest(ratios.abs(), levels), "the signs are lost: only the absmax goes by magnitudes"),
        ((ratios[:, None] - levels).argmin(1), "all have the code of the largest level: a distance has no sign"),
    ):
        expect(not torch.equal(codes, wrong.long()), hint)
    for ratio, code, number in zip(ratios, codes, right):
        hint = f"nearest to weight / absmax = {ratio:.3f} is level {number}, {levels[number]:.3f}, got the code {code}"
        expect(bool(code == number), hint)


def _look_at_ties(answer: Any) -> None:
    levels = _dyadic_levels()
    middles = (levels[:-1] + levels[1:]) / 2
    weights = 2 * torch.cat([levels, middles, levels, middles, torch.zeros(2)])
    codes = _quantized(answer, weights, levels)[0][:31]
    right = torch.cat([torch.arange(16), torch.arange(15)])
    own = _nearest(weights[:31] / 2, torch.tensor(NF4_LEVELS))
    expect(not torch.equal(codes, own), "with other levels the codes stay those of NF4: use the levels that came in")
    expect(torch.equal(codes[:16], right[:16]), f"weights of 2 times each level got the codes {codes[:16].tolist()}")
    higher = bool((codes == right + 1).any())
    expect(not higher, "a weight in the middle between two levels took the higher one; the lower one was asked for")
    expect(torch.equal(codes, right), f"weights in the middle between two levels got the codes {codes[16:].tolist()}")


def _dyadic_levels() -> Tensor:
    """Return 16 levels whose middles need no rounding, so that ties are ties however they are computed."""
    return torch.tensor([-64, -48, -40, -32, -24, -16, -12, -8, 0, 4, 8, 16, 24, 36, 48, 64]) / 64


def _nearest(ratios: Tensor, levels: Tensor) -> Tensor:
    return torch.bucketize(ratios, (levels[:-1] + levels[1:]) / 2)


@check_of("peft.prefix_attention", "causal attention behind a prefix")
def prefix_attention(answer) -> None:
    text, (prefix_keys, prefix_values) = torch.randn(3, 2, 4, 5, 8), torch.randn(2, 1, 4, 3, 8)
    got, (queries, keys, values) = _gathered(answer, text, prefix_keys, prefix_values), text
    both_keys, both_values = _joined(prefix_keys, keys), _joined(prefix_values, values)
    seen, every, of_prefix = causal_mask(5, 8), torch.ones(5, 8, dtype=torch.bool), torch.arange(8) < 3
    for mask, hint in (
        (seen & ~of_prefix, "the prefix changes nothing: no token sees it"),
        (of_prefix.expand(5, 8), "the tokens see the prefix only, and nothing of their text"),
        (every, "nothing is masked in the text: each token sees later ones, too"),
        (every.tril(), "the mask is aligned at the wrong end, as is_causal=True has it: token 0 sees one key, not 4"),
        (seen & (~of_prefix | every.tril()), "the prefix is masked, too: of it, token 0 sees the first key only"),
        (seen.tril(2), "the tokens do not see themselves: the mask is off by one"),
        (every.tril(4), "each token sees the one after it, too: the mask is off by one"),
    ):
        expect(not close(got, _attention(queries, both_keys, both_values, mask), 1e-4), hint)
    alone = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    of_its_own = F.scaled_dot_product_attention(queries, prefix_keys, prefix_values)
    two = "the prefix has a softmax of its own; one goes over all that a token sees"
    scores = queries @ both_keys.transpose(2, 3) / math.sqrt(8)
    for wrong, hint in (
        (alone + of_its_own, two),
        ((alone + of_its_own) / 2, two),
        (_attention(queries, both_keys, both_values, seen, scale=1.0), "the scores are not divided by sqrt(head_dim)"),
        (scores.softmax(-1) * seen @ both_values, "masked after the softmax, a token's weights do not sum to 1"),
        ((scores * seen).softmax(-1) @ both_values, "a score of 0 still gets a weight, for e^0 is 1"),
        (_attention(queries, both_keys, _joined(prefix_keys, values), seen), "the prefix's keys are its values, too"),
    ):
        expect(not close(got, wrong, 1e-4), hint)
    for B, T, n in ((2, 5, 3), (1, 2, 6), (3, 1, 4)):
        text, prefix = torch.randn(3, B, 4, T, 8), torch.randn(2, 1, 4, n, 8)
        got = _gathered(answer, text, *prefix)
        right = _attention(text[0], _joined(prefix[0], text[1]), _joined(prefix[1], text[2]), causal_mask(T, n + T))
        expect(close(got, right, 1e-4), f"with B={B}, T={T} and a prefix of {n}, the result is not right")


def _gathered(answer: Any, text: Tensor, prefix_keys: Tensor, prefix_values: Tensor) -> Tensor:
    _, B, H, T, head_dim = text.shape
    try:
        got = answer(*text.clone(), prefix_keys.clone(), prefix_values.clone())
    except RuntimeError as error:
        expect("Sizes of tensors must match" not in str(error), "the prefix has one row, the batch several: `expand`")
        raise
    rows = got.shape[2] if isinstance(got, Tensor) and got.dim() == 4 else T
    expect(rows != prefix_keys.shape[2] + T, "the prefix's tokens gather something, too, but they have no queries")
    return expect_tensor(got, (B, H, T, head_dim))


def _joined(first: Tensor, rest: Tensor) -> Tensor:
    return torch.cat([first.expand(len(rest), -1, -1, -1), rest], dim=2)


def _attention(queries: Tensor, keys: Tensor, values: Tensor, seen: Tensor, scale: float | None = None) -> Tensor:
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=seen, scale=scale)


@check_of("peft.rank_budget", "the triplets that stay within one budget")
def rank_budget(answer) -> None:
    importance = [torch.tensor([9.0, 1.0, 8.0, 7.0]), torch.tensor([2.0, 6.0, 0.5, 0.25]), torch.tensor([5.0, 4.0])]
    got = _kept(answer, importance, 3)
    shares = [scores / scores.sum() for scores in importance]
    per_matrix = [_largest([scores], min(3, len(scores)))[0] for scores in importance]
    one_each = [_largest([scores], 1)[0] for scores in importance]
    reverse = [[not stays for stays in mask] for mask in _largest(importance, 3)]
    for wrong, hint in (
        (per_matrix, "each matrix gets the whole budget, but it is one for all of them together"),
        (one_each, "each matrix gets the same part of the budget, but one may need all of it and another nothing"),
        (reverse, "the masks are the wrong way round: True is what stays"),
        (_largest([-scores for scores in importance], 3), "the least important ones stay, not the most"),
        (_largest(shares, 3), "scores are compared as shares of their own matrix; all compete as they are"),
    ):
        expect(got != wrong, hint)
    for budget in (3, 6, 1, 0, 10):
        got, right = _kept(answer, importance, budget), _largest(importance, budget)
        count = sum(map(sum, got))
        expect(count == budget, f"with a budget of {budget} of 10 triplets, {count} stay")
        expect(got == right, f"with a budget of {budget} the masks should have {[*map(sum, right)]} True, got {got}")
    for sizes in ((1, 7, 3), (12, 12, 12, 12), (5,)):
        drawn, budget = (torch.arange(sum(sizes)) * 7.0 % sum(sizes)).split(sizes), sum(sizes) // 2
        right = _kept(answer, list(drawn), budget) == _largest(drawn, budget)
        expect(right, f"with matrices of {sizes} triplets and a budget of {budget}, the masks are not right")


def _kept(answer: Any, importance: list[Tensor], budget: int) -> list[list[bool]]:
    given, total = [scores.clone() for scores in importance], sum(map(len, importance))
    try:
        got = answer(given, budget)
    except (RuntimeError, IndexError) as error:
        expect(budget not in (0, total), f"with a budget of {budget} of {total} it fails: {type(error).__name__}")
        raise
    expect_returned(got)
    expect(isinstance(got, list | tuple), f"a list of masks was asked for, got a {type(got).__name__}")
    unchanged = len(given) == len(importance) and all(map(torch.equal, given, importance))
    expect(unchanged, "the scores that came in were changed: make new tensors")
    expect(len(got) == len(importance), f"there are {len(importance)} matrices, got {len(got)} masks")
    for mask, scores in zip(got, importance):
        expect_tensor(mask, tuple(scores.shape), "each mask")
        expect(mask.dtype == torch.bool, f"a mask is bool, True where a triplet stays; got {mask.dtype}")
    return [mask.tolist() for mask in got]


def _largest(importance: list[Tensor], budget: int) -> list[list[bool]]:
    together = sorted(score for scores in importance for score in scores.tolist())
    best = together[len(together) - budget :]
    return [[score in best for score in scores.tolist()] for scores in importance]
