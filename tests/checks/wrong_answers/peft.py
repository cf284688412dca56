"""Usual mistakes in chapter 9: the check, the wrong answer, and words of the hint that it must get."""

import math

import torch
from torch.nn import functional as F


def counts(size):
    """Return a count_lora that adds up `size(out, in, rank)` over the layers."""
    return lambda shapes, rank: sum(size(out, in_, rank) for out, in_ in shapes)


def right_size(out, in_, rank):
    return rank * (out + in_)


def pops_shapes(shapes, rank):
    total = 0
    while shapes:
        total += right_size(*shapes.pop(), rank)
    return total


def only(choose):
    return lambda shapes, rank: sum(right_size(*shape, rank) for shape in choose(shapes))


def forward(
    *, base=F.linear, branch=lambda x, A, B: F.linear(F.linear(x, A), B), scale=lambda alpha, A: alpha / len(A)
):
    """Return the right low_rank_forward, but for what is asked to be wrong."""

    def low_rank_forward(x, weight, bias, A, B, alpha, drop):
        return base(x, weight, bias) + scale(alpha, A) * branch(drop(x), A, B)

    return low_rank_forward


def drops(where):
    """Return the right low_rank_forward, but for where `drop` is."""

    def low_rank_forward(x, weight, bias, A, B, alpha, drop):
        at = {name: drop if name == where else lambda given: given for name in ("base", "small", "branch", "all", "A")}
        if where == "x":
            x = drop(x)
        small = at["small"](F.linear(x, at["A"](A)))
        added = at["branch"](alpha / len(A) * F.linear(small, B))
        return at["all"](F.linear(at["base"](x), weight, bias) + added)

    return low_rank_forward


def drops_twice(x, weight, bias, A, B, alpha, drop):
    return forward()(x, weight, bias, A, B, alpha, lambda given: drop(drop(given)))


def drops_without_use(x, weight, bias, A, B, alpha, drop):
    drop(x)
    return forward()(x, weight, bias, A, B, alpha, lambda given: given)


def merged_in_forward(x, weight, bias, A, B, alpha, drop):
    return F.linear(x, weight + alpha / len(A) * B @ A, bias)


def merges_in_place(x, weight, bias, A, B, alpha, drop):
    weight += alpha / len(A) * B @ A
    return F.linear(x, weight, bias)


def behind_the_layer(x, weight, bias, A, B, alpha, drop):
    y = F.linear(drop(x), weight, bias)
    return y + alpha / len(A) * F.linear(F.linear(y, A), B)


def scales_all(x, weight, bias, A, B, alpha, drop):
    return alpha / len(A) * (F.linear(x, weight, bias) + F.linear(F.linear(drop(x), A), B))


def without_gradient(x, weight, bias, A, B, alpha, drop):
    with torch.no_grad():
        return forward()(x, weight, bias, A, B, alpha, drop)


def frozen_without_gradient(x, weight, bias, A, B, alpha, drop):
    with torch.no_grad():
        y = F.linear(x, weight, bias)
    return y + alpha / len(A) * F.linear(F.linear(drop(x), A), B)


def rank_from_inputs(alpha, A):
    return alpha / A.shape[1]


def merge(*, product=lambda A, B: B @ A, scale=lambda alpha, A: alpha / len(A), old=1):
    """Return the right merge_weight, but for what is asked to be wrong."""
    return lambda weight, A, B, alpha: old * weight + scale(alpha, A) * product(A, B)


def merge_in_place(weight, A, B, alpha):
    weight += alpha / len(A) * B @ A
    return weight


def merge_scaling_in_place(weight, A, B, alpha):
    B *= alpha / len(A)
    return weight + B @ A


def scales_the_weight(weight, A, B, alpha):
    return alpha / len(A) * (weight + B @ A)


def largest_magnitude(weights):
    return weights.abs().max()


def nearest(ratios, levels):
    return (ratios[:, None] - levels).abs().argmin(1)


def block(*, absmax=largest_magnitude, kept=lambda absmax: absmax, codes=nearest, zero=7):
    """Return the right nf4_block, but for what is asked to be wrong."""

    def nf4_block(weights, levels):
        largest = absmax(weights)
        if not weights.any():
            return torch.full((64,), int((levels == 0).nonzero()) + zero - 7), kept(largest)
        return codes(weights / largest, levels), kept(largest)

    return nf4_block


def divides_by_zero(weights, levels):
    absmax = largest_magnitude(weights)
    return nearest(weights / absmax, levels), absmax


def not_divided(weights, levels):
    return nearest(weights, levels), largest_magnitude(weights)


def divided_in_place(weights, levels):
    absmax = largest_magnitude(weights)
    weights /= absmax.clamp(min=1e-30)
    return nearest(weights, levels), absmax


def constants(weights, levels):
    from gptlab.peft.nf4 import NF4_LEVELS

    return block()(weights, torch.tensor(NF4_LEVELS))


def higher_of_two(ratios, levels):
    return torch.bucketize(ratios, (levels[:-1] + levels[1:]) / 2, right=True)


def added_to_absmax(weights, levels):
    absmax = largest_magnitude(weights)
    return nearest(weights / (absmax + 1e-5), levels), absmax


def next_below(ratios, levels):
    return torch.bucketize(ratios, levels, right=True) - 1


def packed(ratios, levels):
    codes = nearest(ratios, levels)
    return codes[::2] << 4 | codes[1::2]


def absmax_of_ratios(weights, levels):
    codes, absmax = block()(weights, levels)
    return codes, (weights / absmax).abs().max()


def joined(first, rest):
    return torch.cat([first.expand(len(rest), -1, -1, -1), rest], dim=2)


def attend(mask, *, scale=None, swapped=False):
    """Return the right prefix_attention, but for what is asked to be wrong; `mask` makes one of (T, n)."""

    def prefix_attention(queries, keys, values, prefix_keys, prefix_values):
        T, n = queries.shape[2], prefix_keys.shape[2]
        keys, values = joined(prefix_keys, keys), joined(prefix_keys if swapped else prefix_values, values)
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask(T, n), scale=scale)

    return prefix_attention


def right_mask(T, n):
    return aligned(n)(T, n)


def aligned(diagonal):
    return lambda T, n: torch.ones(T, n + T, dtype=torch.bool).tril(diagonal)


def causal_prefix(T, n):
    return torch.cat([torch.ones(T, size, dtype=torch.bool).tril() for size in (n, T)], dim=1)


def is_causal(queries, keys, values, prefix_keys, prefix_values):
    keys, values = joined(prefix_keys, keys), joined(prefix_values, values)
    return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)


def without_prefix(queries, keys, values, prefix_keys, prefix_values):
    return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)


def two_softmaxes(queries, keys, values, prefix_keys, prefix_values):
    alone = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    return alone + F.scaled_dot_product_attention(queries, prefix_keys, prefix_values)


def masked_after(queries, keys, values, prefix_keys, prefix_values, *, softmax_last=False):
    T, n = queries.shape[2], prefix_keys.shape[2]
    scores = queries @ joined(prefix_keys, keys).transpose(2, 3) / math.sqrt(queries.shape[3])
    seen, values = right_mask(T, n), joined(prefix_values, values)
    return (scores * seen).softmax(-1) @ values if softmax_last else scores.softmax(-1) * seen @ values


def masked_with_zero(*given):
    return masked_after(*given, softmax_last=True)


def without_expand(queries, keys, values, prefix_keys, prefix_values):
    return torch.cat([prefix_keys, keys], dim=2)


def queries_of_prefix(queries, keys, values, prefix_keys, prefix_values):
    return is_causal(joined(prefix_keys, queries), keys, values, prefix_keys, prefix_values)


def behind_the_text(queries, keys, values, prefix_keys, prefix_values):
    T, n = queries.shape[2], prefix_keys.shape[2]
    keys, values = (
        torch.cat([rest, first.expand(len(rest), -1, -1, -1)], dim=2)
        for rest, first in ((keys, prefix_keys), (values, prefix_values))
    )
    return F.scaled_dot_product_attention(queries, keys, values, attn_mask=right_mask(T, n))


def thresholds(*, above=lambda scores, threshold: scores >= threshold, by=lambda scores: scores, shift=0):
    """Return the right rank_budget, but for what is asked to be wrong."""

    def rank_budget(importance, budget):
        ranked = torch.cat([by(scores) for scores in importance]).sort(descending=True).values.tolist()
        ranked.append(-math.inf)
        threshold = math.inf if budget + shift < 1 else ranked[min(budget + shift, len(ranked)) - 1]
        return [above(by(scores), threshold) for scores in importance]

    return rank_budget


def per_matrix(importance, budget):
    return [thresholds()([scores], min(budget, len(scores)))[0] for scores in importance]


def shared_out(importance, budget):
    return [thresholds()([scores], budget // len(importance))[0] for scores in importance]


def whole_matrices(importance, budget):
    best = max(range(len(importance)), key=lambda number: importance[number].sum().item())
    return [torch.full_like(scores, number == best, dtype=torch.bool) for number, scores in enumerate(importance)]


def by_kthvalue(importance, budget):
    together = torch.cat(importance)
    threshold = together.kthvalue(len(together) - budget).values
    return [scores > threshold for scores in importance]


def empties_scores(importance, budget):
    masks = thresholds()(importance, budget)
    for scores, mask in zip(importance, masks):
        scores[~mask] = 0
    return masks


def as_places(importance, budget):
    return [mask.nonzero().flatten() for mask in thresholds()(importance, budget)]


def one_mask(importance, budget):
    return torch.cat(thresholds()(importance, budget))


def matrices_of_one_size(importance, budget):
    flat = torch.cat(thresholds()(importance, budget))
    size = len(importance[0])
    return [flat[number * size : number * size + len(scores)] for number, scores in enumerate(importance)]


def count_checks(name="peft.count_lora"):
    return [
        (name, counts(lambda out, in_, rank: rank * in_), "A alone"),
        (name, counts(lambda out, in_, rank: out * rank), "B alone"),
        (name, counts(lambda out, in_, rank: out * in_ * rank), "one of the two sizes"),
        (name, counts(lambda out, in_, rank: out * in_), "the layer's own weight, which is frozen"),
        (name, counts(lambda out, in_, rank: out * in_ + right_size(out, in_, rank)), "it was there before"),
        (name, counts(lambda out, in_, rank: out + in_), "the rank changes nothing"),
        (name, counts(lambda out, in_, rank: 2 * in_ * rank), "with the size `in`"),
        (name, counts(lambda out, in_, rank: 2 * out * rank), "with the size `out`"),
        (name, counts(lambda out, in_, rank: right_size(out, in_, rank) + out), "a bias is counted"),
        (name, counts(lambda out, in_, rank: right_size(out, in_, rank) + rank), "AdaLoRA's Lambda"),
        (name, only(lambda shapes: shapes[:1]), "only the first layer"),
        (name, only(lambda shapes: shapes[-1:]), "only the last layer"),
        (name, only(set), "counted once"),
        (name, only(lambda shapes: shapes[:1] * len(shapes)), "the shape of the first one"),
        (name, only(lambda shapes: shapes[:20]), "294912"),
        (name, pops_shapes, "without taking anything away"),
        (name, lambda shapes, rank: [right_size(*shape, rank) for shape in shapes], "one number was asked for"),
        (name, lambda shapes, rank: pops_shapes([*shapes], rank) / 1, "a whole number"),
        (name, lambda shapes, rank: None, "`return`"),
    ]


def forward_checks(name="peft.low_rank_forward"):
    return [
        (name, forward(scale=lambda alpha, A: alpha), "scaled by alpha, not by alpha / r"),
        (name, forward(scale=lambda alpha, A: 1), "is not scaled"),
        (name, forward(scale=lambda alpha, A: alpha / math.sqrt(len(A))), "rank-stabilised"),
        (name, forward(scale=lambda alpha, A: alpha * len(A)), "multiplied by r"),
        (name, forward(scale=lambda alpha, A: len(A) / alpha), "upside down"),
        (name, forward(scale=lambda alpha, A: -alpha / len(A)), "taken away"),
        (name, forward(scale=rank_from_inputs), "divided by the number of inputs"),
        (name, forward(branch=lambda x, A, B: F.linear(x, A @ B)), "A and B are swapped"),
        (name, forward(branch=lambda x, A, B: F.linear(F.linear(x, B), A)), "A and B are swapped"),
        (name, forward(branch=lambda x, A, B: x @ A @ B), "mind both transposes"),
        (name, forward(branch=lambda x, A, B: x @ (B @ A)), "the rows of B A are the outputs"),
        (name, forward(branch=lambda x, A, B: x @ A @ B.T), "mind the transpose of A"),
        (name, forward(branch=lambda x, A, B: x @ A.T @ B), "mind the transpose of B"),
        (name, forward(branch=lambda x, A, B: F.linear(x, B * A)), "number by number"),
        (name, forward(branch=lambda x, A, B: 0), "nothing is added"),
        (name, forward(base=lambda x, weight, bias: 0), "only the branch comes back"),
        (name, forward(base=lambda x, weight, bias: F.linear(x, weight)), "bias is missing"),
        (name, forward(base=lambda x, weight, bias: F.linear(x, weight, 2 * bias)), "bias is added twice"),
        (name, forward(base=lambda x, weight, bias: bias), "the layer's own weight is missing"),
        (name, forward(base=lambda x, weight, bias: x @ weight + bias), "mind the transpose of the layer's own weight"),
        (name, scales_all, "not for what the layer gives"),
        (name, behind_the_layer, "it reads x"),
        (name, drops("x"), "the frozen layer loses inputs"),
        (name, drops("base"), "at the frozen layer"),
        (name, drops("all"), "at the whole result"),
        (name, drops("branch"), "at what the branch gives"),
        (name, drops("small"), "between A and B"),
        (name, drops("A"), "at A or B"),
        (name, drops("nowhere"), "never called"),
        (name, drops_twice, "dropped twice"),
        (name, drops_without_use, "is not used"),
        (name, merged_in_forward, "never called"),
        (name, merges_in_place, "the weight that came in was changed"),
        (name, without_gradient, "lost its way back"),
        (name, frozen_without_gradient, "only W is frozen"),
        (name, forward(branch=lambda x, A, B: F.linear(F.linear(x, A.detach()), B)), "no gradient reaches A"),
        (name, forward(branch=lambda x, A, B: F.linear(F.linear(x.detach(), A), B)), "through the branch to x"),
        (name, lambda x, *rest: forward()(x, *rest).sum(), "should have the shape (2, 3, 5)"),
        (name, lambda *given: None, "`return`"),
    ]


def merge_checks(name="peft.merge_weight"):
    return [
        (name, merge(scale=lambda alpha, A: alpha), "scaled by alpha, not by alpha / r"),
        (name, merge(scale=lambda alpha, A: 1), "is not scaled"),
        (name, merge(scale=rank_from_inputs), "divided by the number of inputs"),
        (name, merge(scale=lambda alpha, A: -alpha / len(A)), "taken away"),
        (name, merge(scale=lambda alpha, A: 2 * alpha / len(A)), "added twice"),
        (name, merge(product=lambda A, B: A @ B), "A and B are swapped"),
        (name, merge(product=lambda A, B: (B @ A).T), "the rows of B A are the outputs"),
        (name, merge(product=lambda A, B: B.T @ A.T), "mind both transposes"),
        (name, merge(product=lambda A, B: B * A), "number by number"),
        (name, merge(old=0), "own weight is missing"),
        (name, lambda weight, A, B, alpha: merge()(weight, A, B, alpha).T, "all is transposed"),
        (name, scales_the_weight, "not for the layer's own weight"),
        (name, merge_in_place, "a second call adds to it again"),
        (name, merge_scaling_in_place, "the A or B that came in was changed"),
        (name, lambda weight, A, B, alpha: weight.clone(), "nothing is added"),
        (name, lambda weight, A, B, alpha: (weight, B @ A), "should be a tensor"),
    ]


def block_checks(name="peft.nf4_block"):
    return [
        (name, block(absmax=lambda weights: weights.max()), "a negative one is larger"),
        (name, block(absmax=lambda weights: weights.min()), "has a sign"),
        (name, block(absmax=lambda weights: weights.abs().mean()), "the mean magnitude"),
        (name, block(absmax=lambda weights: weights.std()), "standard deviation"),
        (name, block(kept=lambda absmax: 1 / absmax), "that is 1 / absmax"),
        (name, absmax_of_ratios, "that of the ratios"),
        (name, block(codes=next_below), "the next level below"),
        (name, block(codes=lambda ratios, levels: torch.bucketize(ratios, levels)), "the next level above"),
        (name, block(codes=lambda ratios, levels: ((ratios + 1) * 7.5).round().long()), "evenly spaced"),
        (name, block(codes=lambda ratios, levels: ((ratios + 1) * 7.5).int()), "evenly spaced"),
        (name, block(codes=lambda ratios, levels: nearest(ratios, levels) + 1), "counted from 1"),
        (name, block(codes=lambda ratios, levels: nearest(ratios.abs(), levels)), "the signs are lost"),
        (name, block(codes=lambda ratios, levels: (ratios[:, None] - levels).argmin(1)), "a distance has no sign"),
        (name, block(codes=lambda ratios, levels: levels[nearest(ratios, levels)]), "a code is a whole number"),
        (name, block(codes=lambda ratios, levels: nearest(ratios, levels).float()), "a code is a whole number"),
        (name, block(codes=lambda ratios, levels: 15 - nearest(ratios, levels)), "got the code"),
        (name, block(codes=packed), "two codes are in one byte"),
        (name, block(codes=higher_of_two), "took the higher one"),
        (name, not_divided, "not divided by the absmax"),
        (name, added_to_absmax, "times as large"),
        (name, constants, "the levels that came in"),
        (name, divides_by_zero, "what is 0 / 0"),
        (name, block(zero=8), "in a block of zeros each code should be 7"),
        (name, block(kept=lambda absmax: absmax.clamp(min=1e-4)), "of a block of zeros is 0, got 0.0001"),
        (name, divided_in_place, "the weights that came in were changed"),
        (name, lambda weights, levels: block()(weights, levels)[::-1], "the wrong way round"),
        (name, lambda weights, levels: block()(weights, levels)[0], "should be a tuple"),
        (name, lambda weights, levels: (block()(weights, levels)[0], weights.abs()), "one number for the whole block"),
    ]


def prefix_checks(name="peft.prefix_attention"):
    return [
        (name, is_causal, "aligned at the wrong end"),
        (name, attend(aligned(0)), "aligned at the wrong end"),
        (name, attend(causal_prefix), "the prefix is masked, too"),
        (name, attend(lambda T, n: None), "nothing is masked"),
        (name, attend(lambda T, n: aligned(n - 1)(T, n)), "do not see themselves"),
        (name, attend(lambda T, n: aligned(n + 1)(T, n)), "the one after it"),
        (name, attend(lambda T, n: (torch.arange(n + T) < n).expand(T, -1)), "see the prefix only"),
        (name, attend(right_mask, scale=1.0), "not divided by sqrt"),
        (name, attend(right_mask, swapped=True), "the prefix's keys are its values"),
        (name, attend(lambda T, n: aligned(3)(T, n)), "with B=1, T=2 and a prefix of 6"),
        (name, without_prefix, "the prefix changes nothing"),
        (name, two_softmaxes, "a softmax of its own"),
        (name, masked_after, "masked after the softmax"),
        (name, masked_with_zero, "e^0 is 1"),
        (name, without_expand, "`expand`"),
        (name, queries_of_prefix, "they have no queries"),
        (name, behind_the_text, "the result is not right"),
        (name, lambda *given: None, "`return`"),
    ]


def budget_checks(name="peft.rank_budget"):
    return [
        (name, per_matrix, "each matrix gets the whole budget"),
        (name, shared_out, "the same part of the budget"),
        (name, whole_matrices, "4 stay"),
        (name, thresholds(above=lambda scores, threshold: scores > threshold), "with a budget of 3 of 10 triplets, 2"),
        (name, thresholds(shift=1), "with a budget of 3 of 10 triplets, 4"),
        (name, thresholds(above=lambda scores, threshold: scores < threshold), "True is what stays"),
        (name, thresholds(by=lambda scores: -scores), "the least important ones"),
        (name, thresholds(by=lambda scores: scores / scores.sum()), "shares of their own matrix"),
        (name, thresholds(above=lambda scores, threshold: (scores >= threshold).float()), "a mask is bool"),
        (name, thresholds(above=lambda scores, threshold: scores * (scores >= threshold)), "a mask is bool"),
        (name, by_kthvalue, "with a budget of 10 of 10 it fails"),
        (name, lambda importance, budget: thresholds()(importance, max(budget, 1)), "with a budget of 0 of 10"),
        (name, empties_scores, "make new tensors"),
        (name, as_places, "each mask should have the shape (4,)"),
        (name, one_mask, "a list of masks"),
        (name, lambda importance, budget: thresholds()(importance, budget)[:1], "there are 3 matrices, got 1"),
        (name, matrices_of_one_size, "with matrices of (1, 7, 3)"),
    ]


WRONG = [
    *count_checks(),
    *forward_checks(),
    *merge_checks(),
    *block_checks(),
    *prefix_checks(),
    *budget_checks(),
]
