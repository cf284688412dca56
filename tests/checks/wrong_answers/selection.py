"""Usual mistakes in the exercises of chapter 11, and words of the hint that must come."""

import numpy as np


def known_numbers(scores):
    return [number for number, score in enumerate(scores) if score is not None]


def shifted_ratings(scores, k):
    known = [score for score in scores if score is not None]
    return sorted(range(len(known)), key=lambda number: -known[number])[:k]


def none_is_best(scores, k):
    return sorted(range(len(scores)), key=lambda number: -9 if scores[number] is None else -scores[number])[:k]


def none_is_zero(scores, k):
    return sorted(range(len(scores)), key=lambda number: -(scores[number] or 0))[:k]


def worst_first(scores, k):
    return sorted(known_numbers(scores), key=lambda number: scores[number])[:k]


def in_list_order(scores, k):
    return sorted(sorted(known_numbers(scores), key=lambda number: -scores[number])[:k])


def last_of_equals(scores, k):
    return sorted(known_numbers(scores), key=lambda number: (scores[number], number), reverse=True)[:k]


def zero_is_none(scores, k):
    return sorted((n for n, score in enumerate(scores) if score), key=lambda number: -scores[number])[:k]


def drops_in_place(scores, k):
    best = sorted(known_numbers(scores), key=lambda number: -scores[number])[:k]
    while None in scores:
        scores.remove(None)
    return best


def best_checks(name="selection.keep_best"):
    return [
        (name, shifted_ratings, "the ratings have moved"),
        (name, none_is_best, "has no rating and was picked"),
        (name, none_is_zero, "None says that there is none"),
        (name, worst_first, "the worst comes first"),
        (name, in_list_order, "the best comes first"),
        (name, last_of_equals, "of equal ratings the first"),
        (name, zero_is_none, "0 is a rating"),
        (name, drops_in_place, "was changed"),
        (name, lambda scores, k: [scores[n] for n in known_numbers(scores)][:k], "whole numbers"),
        (name, lambda scores, k: None, "`return`"),
    ]


def lloyd(*, distance=lambda rows, centres: ((rows[:, None] - centres) ** 2).sum(axis=2), nearest=np.argmin, move=None):
    def step(rows, centres):
        labels = nearest(distance(rows, centres), axis=1)
        moved = centres.copy()
        for number in range(len(centres)):
            mine = rows[labels == number]
            if move is not None:
                moved[number] = move(mine, centres[number])
            elif len(mine):
                moved[number] = mine.mean(axis=0)
        return labels, moved

    return step


def mean_of_nothing(mine, centre):
    return mine.sum(axis=0) / np.float64(len(mine)) if len(mine) else np.full(2, np.nan)


def last_nearest(distances, axis):
    return distances.shape[1] - 1 - distances[:, ::-1].argmin(axis=axis)


def moves_in_place(rows, centres):
    labels, moved = lloyd()(rows, centres)
    centres[:] = moved
    return labels, centres


def step_checks(name="selection.lloyd_step"):
    return [
        (name, lloyd(nearest=np.argmax), "farthest"),
        (name, lloyd(distance=lambda rows, centres: -(rows @ centres.T)), "farthest"),
        (name, lloyd(distance=lambda rows, centres: np.abs(rows[:, None] - centres).sum(axis=2)), "square the"),
        (name, lloyd(move=mean_of_nothing), "became NaN"),
        (name, lloyd(move=lambda mine, centre: mine.sum(axis=0) / max(len(mine), 1)), "moved to 0"),
        (name, lloyd(move=lambda mine, centre: mine.sum(axis=0) if len(mine) else centre), "the sum of its rows"),
        (name, lloyd(move=lambda mine, centre: centre), "did not move"),
        (name, lloyd(nearest=last_nearest), "the first one counts"),
        (name, moves_in_place, "move a copy"),
        (name, lambda rows, centres: lloyd()(rows, centres)[::-1], "should have the shape"),
        (name, lambda rows, centres: lloyd()(rows, centres)[1][0], "should be a tuple"),
        (name, lambda rows, centres: None, "`return`"),
    ]


def won(*, clip=True, cover=lambda picked: picked.max(axis=0), cut=True, of=lambda gains: gains.mean(axis=1)):
    def gains(similar, picked):
        similar = np.maximum(similar, 0) if clip else similar
        covered = cover(similar[picked]) if picked else np.zeros(len(similar))
        each = similar - covered
        return of(np.maximum(each, 0) if cut else each)

    return gains


def minus_infinity(similar, picked):
    found = won()(similar, picked)
    found[picked] = -np.inf
    return found


def clips_in_place(similar, picked):
    np.maximum(similar, 0, out=similar)
    return won()(similar, picked)


def gain_checks(name="selection.gains"):
    return [
        (name, won(clip=False, cut=False), "below 0 counts as 0"),
        (name, won(of=lambda gains: gains.sum(axis=1)), "d is a mean"),
        (name, won(of=lambda gains: gains.max(axis=1)), "not their largest"),
        (name, won(cover=lambda picked: np.zeros(picked.shape[1])), "nothing has changed"),
        (name, won(cut=False), "a gain is below 0"),
        (name, won(cover=lambda picked: picked[-1]), "not to the last one"),
        (name, won(cover=lambda picked: picked.sum(axis=0)), "not their sum"),
        (name, won(cover=lambda picked: picked.mean(axis=0)), "not their sum or mean"),
        (name, minus_infinity, "not finite"),
        (name, clips_in_place, "was changed"),
        (name, lambda similar, picked: float(won()(similar, picked).max()), "a gain for each entry"),
        (name, lambda similar, picked: None, "`return`"),
    ]


def picking(*, again=True, best=np.argmax, weights=lambda alpha: (1 - alpha, alpha), mark=True):
    def greedy(similar, k, quality, alpha):
        picked, of_gain, of_quality = [], *weights(alpha)
        for _ in range(k):
            worth = of_gain * won()(similar, picked if again else []) + of_quality * quality
            if mark:
                worth[picked] = np.inf if best is np.argmin else -np.inf
            picked.append(int(best(worth)))
        return picked

    return greedy


def last_of_largest(worth):
    return len(worth) - 1 - int(worth[::-1].argmax())


def marks_quality(similar, k, quality, alpha):
    picked = []
    for _ in range(k):
        picked.append(int(((1 - alpha) * won()(similar, picked) + alpha * quality).argmax()))
        quality[picked[-1]] = -1e9
    return picked


def greedy_checks(name="selection.greedy"):
    return [
        (name, picking(again=False), "computed anew"),
        (name, picking(best=np.argmin), "the least gain"),
        (name, picking(weights=lambda alpha: (alpha, 1 - alpha)), "which of the two gets 1 - alpha"),
        (name, picking(best=last_of_largest), "3 before 4"),
        (name, picking(weights=lambda alpha: (1, alpha)), "with alpha = 1"),
        (name, picking(weights=lambda alpha: (1 - alpha, 1 if alpha else 0)), "with alpha = 0.2"),
        (name, picking(mark=False), "picked twice"),
        (name, marks_quality, "was changed"),
        (name, lambda similar, k, quality, alpha: picking()(similar, k, quality, alpha)[:-1], "picks were asked for"),
        (name, lambda similar, k, quality, alpha: None, "`return`"),
    ]


def kinds(*, ranks=lambda logits, own: 1 + (logits > own).sum(dim=1), marginal=3, own=None):
    def shift_kinds(logits, tokens):
        found = ranks(logits, logits.gather(1, tokens[:, None]) if own is None else own(logits, tokens))
        return ["unshifted" if r <= 1 else "marginal" if r <= marginal else "shifted" for r in found.tolist()]

    return shift_kinds


def from_zero(logits, own):
    return (logits > own).sum(dim=1)


def kind_checks(name="selection.shift_kinds"):
    return [
        (name, kinds(ranks=lambda logits, own: 1 + (logits < own).sum(dim=1)), "the least logit got rank 1"),
        (name, kinds(ranks=lambda logits, own: 1 + (logits >= own).sum(dim=1)), "a 1 too many"),
        (name, kinds(ranks=from_zero), "1 + missing"),
        (name, kinds(marginal=2), "rank 3 is marginal"),
        (name, kinds(marginal=4), "rank 4 is shifted"),
        (name, kinds(ranks=lambda logits, own: (logits >= own).sum(dim=1)), "only larger logits count"),
        (name, kinds(own=lambda logits, tokens: logits[0, tokens][:, None]), "in its own row"),
        (name, lambda logits, tokens: ["unshifted"], "as many kinds"),
        (name, lambda logits, tokens: [1] * len(tokens), "a kind is"),
        (name, lambda logits, tokens: None, "`return`"),
    ]


def dense(values):
    different = sorted(set(values), reverse=True)
    return np.array([1.0 + different.index(value) for value in values])


def with_gaps(values):
    return np.array([1.0 + sum(other > value for other in values) for value in values])


def mean_ranks(values):
    return np.array([1.0 + sum(o > v for o in values) + (sum(o == v for o in values) - 1) / 2 for v in values])


def by_place(values):
    order = sorted(range(len(values)), key=lambda number: -values[number])
    return np.array([1.0 + order.index(number) for number in range(len(values))])


def correlation(first=dense, second=None, *, flat=0.0):
    def rank_correlation(p, q):
        x, y = np.array(first(p), dtype=float), np.array((second or first)(q), dtype=float)
        if (x == x[0]).all() or (y == y[0]).all():
            return flat
        return float(np.corrcoef(x, y)[0, 1])

    return rank_correlation


def shares_no_rank(p, q):
    return correlation(dense if 1 in (len({*p}), len({*q})) else by_place)(p, q)


def correlation_checks(name="selection.rank_correlation"):
    return [
        (name, correlation(np.array), "take ranks"),
        (name, correlation(dense, lambda values: -dense(values)), "the same direction"),
        (name, correlation(flat=float("nan")), "NaN"),
        (name, correlation(flat=1.0), "has no order"),
        (name, correlation(by_place), "has no order"),
        (
            name,
            lambda p, q: correlation(dense if len({*p}) == 1 or len({*q}) == 1 else by_place)(p, q),
            "they share one",
        ),
        (name, correlation(with_gaps), "no rank is left out"),
        (name, correlation(mean_ranks), "not the mean of two ranks"),
        (name, lambda p, q: [1.0], "a number was asked for"),
        (name, lambda p, q: None, "`return`"),
    ]


WRONG = [
    *best_checks(),
    *step_checks(),
    *gain_checks(),
    *greedy_checks(),
    *kind_checks(),
    *correlation_checks(),
]
