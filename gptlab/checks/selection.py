"""Checks about choosing data: ratings, K-means, coverage and quality; and about what tuning changed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gptlab.checks.core import check_of, close, expect, expect_returned, expect_tuple


@check_of("selection.keep_best", "the best rated, with ratings missing")
def keep_best(answer) -> None:
    scores = [None, 1.0, None, 5.0, 3.0, None, 4.0]
    got = _numbers(answer(list(scores), 3), len(scores))
    expect(
        got != [1, 3, 2], "the ratings have moved: entry 3 is rated 5, entry 1 is not. What is dropped shifts the rest"
    )
    expect(not got or scores[got[0]] is not None, f"entry {got[0] if got else 0} has no rating and was picked")
    expect(got[:1] != [1], "the worst comes first: the largest rating is the best")
    expect(set(got) != {3, 6, 4} or got == [3, 6, 4], f"the right ones, but the best comes first, got {got}")
    expect(got == [3, 6, 4], f"the three best of {scores} are 3, 6 and 4, got {got}")
    got = _numbers(answer([2.0, 4.0, 4.0, 4.0, 2.0], 4), 5)
    expect(got == [1, 2, 3, 0], f"of equal ratings the first in the list comes first: [1, 2, 3, 0], got {got}")
    got = _numbers(answer([0.0, None, -1.0], 2), 3)
    expect(got == [0, 2], f"0 is a rating, and a bad one; None says that there is none: [0, 2], got {got}")
    got = _numbers(answer([None, 2.0, None], 3), 3)
    expect(got == [1], f"only one entry has a rating, so only it can be picked, got {got}")
    given = [3.0, None, 5.0]
    answer(given, 1)
    expect(given == [3.0, None, 5.0], "the list that came in was changed")


@check_of("selection.lloyd_step", "one step of K-means")
def lloyd_step(answer) -> None:
    rows = np.array([[0.0, 0.0], [0.0, 2.0], [10.0, 0.0], [10.0, 4.0], [10.0, 2.0]])
    centres = np.array([[9.0, 0.0], [1.0, 0.0], [50.0, 50.0]])
    labels, moved = _step(answer, rows, centres)
    expect(labels != [2, 2, 1, 1, 1] and 2 not in labels, "a row was given to the centre that is farthest from it")
    expect(labels == [1, 1, 0, 0, 0], f"the nearest centres are 1, 1, 0, 0, 0, got {labels}")
    empty = moved[2]
    expect(np.isfinite(empty).all(), "a centre that is nearest to no row became NaN: the mean of nothing is none")
    expect(not close(empty, [0.0, 0.0]), "a centre that is nearest to no row moved to 0; it stays where it is")
    expect(close(empty, [50.0, 50.0]), f"a centre that is nearest to no row stays where it is, got {empty.tolist()}")
    expect(not close(moved, centres), "the centres did not move")
    expect(not close(moved[0], [30.0, 6.0]), "a centre moved to the sum of its rows; divide by how many there are")
    expect(not close(moved[0], [19.0 / 2, 1.0]), "the old centre is no row: it is not in the mean")
    expect(close(moved[0], [10.0, 2.0]), f"the mean of rows 3 to 5 is (10, 2), got {moved[0].tolist()}")
    expect(close(moved[1], [0.0, 1.0]), f"the mean of rows 1 and 2 is (0, 1), got {moved[1].tolist()}")
    labels, _ = _step(answer, np.array([[1.0, 0.0]]), np.array([[0.5, 0.0], [3.0, 0.0]]))
    expect(labels == [0], "by the product of row and centre the long one wins; take the distance")
    labels, _ = _step(answer, np.array([[0.0, 0.0]]), np.array([[2.0, 2.0], [0.0, 3.0]]))
    expect(labels == [0], "(2, 2) is nearer to (0, 0) than (0, 3) is: square the differences before they are summed")
    labels, _ = _step(answer, np.array([[1.0]]), np.array([[0.0], [2.0]]))
    expect(labels == [0], "of two centres that are equally near the first one counts")


def _step(answer: Any, rows: np.ndarray, centres: np.ndarray) -> tuple[list[int], np.ndarray]:
    given = rows.copy(), centres.copy()
    got = expect_tuple(answer(*given), "the nearest centres and the moved centres")
    expect(len(got) == 2, f"two arrays were asked for, got {len(got)}")
    expect(np.array_equal(given[1], centres), "the centres that came in were changed; move a copy")
    expect(np.array_equal(given[0], rows), "the rows that came in were changed")
    labels, moved = np.asarray(got[0]), np.asarray(got[1], dtype=float)
    expect(
        labels.shape == (len(rows),), f"the nearest centres should have the shape ({len(rows)},), got {labels.shape}"
    )
    expect(moved.shape == centres.shape, f"the centres should keep the shape {centres.shape}, got {moved.shape}")
    return labels.astype(int).tolist(), moved


SIMILAR = np.array(
    [
        [1.0, 0.8, 0.2, 0.0, -0.6],
        [0.8, 1.0, 0.4, 0.0, -0.6],
        [0.2, 0.4, 1.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 1.0, 0.0],
        [-0.6, -0.6, 0.0, 0.0, 1.0],
    ]
)


@check_of("selection.gains", "what each entry would add to what is covered")
def gains(answer) -> None:
    got = _gains(answer, SIMILAR, [])
    expect(not close(got, SIMILAR.mean(axis=1)), "a negative cosine made a gain smaller; below 0 counts as 0")
    expect(not close(got, np.maximum(SIMILAR, 0).sum(axis=1)), "these are sums over v; d is a mean, divide by n")
    expect(not close(got, np.maximum(SIMILAR, 0).max(axis=1)), "the gain is a mean over all v, not their largest")
    right = np.array([0.4, 0.44, 0.32, 0.2, 0.2])
    expect(close(got, right), f"when nothing is picked, the gains are {right.tolist()}, got {got.round(3).tolist()}")
    got = _gains(answer, SIMILAR, [1])
    expect(not close(got, right), "after a pick nothing has changed: what is covered already is not won again")
    expect(got.min() > -1e-9, "a gain is below 0: what a would cover worse than it is covered is no loss, cut off at 0")
    right = np.array([0.04, 0.0, 0.12, 0.2, 0.2])
    expect(got[1] < 1e-9, "an entry that is picked adds nothing any more")
    expect(close(got, right), f"after pick 1 the gains are {right.tolist()}, got {got.round(3).tolist()}")
    got = _gains(answer, SIMILAR, [0, 2])
    right = np.array([0.0, 0.04, 0.0, 0.2, 0.2])
    hint = "c_v is the largest similarity to any that is picked, not to the last one, and not their sum or mean"
    expect(
        close(got, right), f"after picks 0 and 2 the gains are {right.tolist()}, got {got.round(3).tolist()}: {hint}"
    )
    got = _gains(answer, SIMILAR, [3])
    expect(
        close(got, [0.4, 0.44, 0.32, 0.0, 0.2]), "to be covered by something unlike it is to be covered by 0, not less"
    )


def _gains(answer: Any, similar: np.ndarray, picked: list[int]) -> np.ndarray:
    given = similar.copy(), list(picked)
    got = answer(*given)
    expect_returned(got)
    expect(np.array_equal(given[0], similar) and given[1] == picked, "what came in was changed")
    got = np.asarray(got, dtype=float)
    expect(got.shape == (len(similar),), f"a gain for each entry was asked for, ({len(similar)},), got {got.shape}")
    expect(bool(np.isfinite(got).all()), "a gain is not finite; -inf for what is picked belongs into the choice")
    return got


@check_of("selection.greedy", "coverage and quality, pick by pick")
def greedy(answer) -> None:
    similar, quality = np.maximum(SIMILAR, 0), np.array([0.5, 0.1, 0.9, 0.2, 0.3])
    got = _picks(answer, similar, 3, quality, 0.0)
    expect(got != [1, 0, 2], "the picks are those of the first gains: after each pick they must be computed anew")
    expect(got != [3, 0, 1] and got[:1] != [3], "the least gain was picked; take the largest")
    expect(
        got != [2, 0, 4], "alpha = 0 is coverage alone, and here the quality decided: which of the two gets 1 - alpha?"
    )
    expect(got != [1, 4, 3], "of equal ones the first is picked: 3 before 4")
    expect(got == [1, 3, 4], f"with alpha = 0 the picks are 1, 3, 4, got {got}")
    got = _picks(answer, similar, 3, quality / 100, 1.0)
    expect(got == [2, 0, 4], f"with alpha = 1 the quality alone decides: 2, 0, 4, got {got}")
    got = _picks(answer, similar, 5, np.zeros(5), 0.0)
    expect(sorted(got) == [0, 1, 2, 3, 4], f"all five were asked for, each once, got {got}")
    got = _picks(answer, similar, 4, quality / 4, 0.2)
    expect(got == [1, 4, 3, 2], f"with alpha = 0.2 and small qualities the picks are 1, 4, 3, 2, got {got}")
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40, 4))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    similar, quality = np.maximum(rows @ rows.T, 0), rng.random(40) / 10
    for alpha in (0.0, 0.3, 0.7):
        got, right = _picks(answer, similar, 12, quality, alpha), _greedy(similar, 12, quality, alpha)
        expect(
            got == right, f"for 40 random entries and alpha = {alpha} the picks are {right[:6]}..., got {got[:6]}..."
        )


def _greedy(similar: np.ndarray, k: int, quality: np.ndarray, alpha: float) -> list[int]:
    cover, picked = np.zeros(len(similar)), []
    for _ in range(k):
        worth = (1 - alpha) * np.maximum(similar - cover, 0).mean(axis=1) + alpha * quality
        worth[picked] = -np.inf
        picked.append(int(worth.argmax()))
        cover = np.maximum(cover, similar[picked[-1]])
    return picked


def _picks(answer: Any, similar: np.ndarray, k: int, quality: np.ndarray, alpha: float) -> list[int]:
    given = similar.copy(), quality.copy()
    got = _numbers(answer(given[0], k, given[1], alpha), len(similar))
    unchanged = np.array_equal(given[0], similar) and np.array_equal(given[1], quality)
    expect(unchanged, "what came in was changed")
    expect(len(set(got)) == len(got), f"an entry was picked twice: {got}")
    expect(len(got) == k, f"{k} picks were asked for, got {len(got)}")
    return got


def _numbers(got: Any, n: int) -> list[int]:
    expect_returned(got)
    expect(isinstance(got, list | tuple | np.ndarray), f"a list of numbers was asked for, got {got!r:.60}")
    numbers = list(got)
    whole = all(isinstance(one, int | np.integer) and not isinstance(one, bool) for one in numbers)
    expect(whole, f"the entries' numbers were asked for, whole numbers, got {numbers!r:.60}")
    expect(all(0 <= one < n for one in numbers), f"entries have the numbers 0 to {n - 1}, got {numbers!r:.60}")
    return [int(one) for one in numbers]


@check_of("selection.shift_kinds", "unshifted, marginal or shifted")
def shift_kinds(answer) -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0, 2.0, -1.0]]).repeat(5, 1)
    got = _kinds(answer, logits, torch.tensor([1, 3, 2, 0, 4]))
    right = ["unshifted", "marginal", "marginal", "shifted", "shifted"]
    expect(
        got != ["shifted", "shifted", "marginal", "marginal", "unshifted"],
        "the least logit got rank 1, not the largest",
    )
    expect(
        got[0] == "unshifted", "the token with the largest logit has rank 1 and is unshifted: is there a 1 too many?"
    )
    expect(got[1] != "unshifted", "the second best is marginal: is 1 + missing in the rank?")
    expect(got[2] == "marginal", "rank 3 is marginal still")
    expect(got[3] == "shifted", "rank 4 is shifted: marginal are only 2 and 3")
    expect(got == right, f"the ranks are 1 to 5, so {right}, got {got}")
    logits = torch.tensor([[5.0, 1.0, 2.0, 3.0], [0.0, 9.0, 8.0, 7.0], [4.0, 3.0, 2.0, 1.0]])
    got = _kinds(answer, logits, torch.tensor([0, 0, 3]))
    expect(got == ["unshifted", "shifted", "shifted"], f"each token is looked up in its own row, got {got}")
    got = _kinds(answer, torch.zeros(1, 6), torch.tensor([5]))
    expect(got == ["unshifted"], "only larger logits count: where all are equal, each token has rank 1")
    got = _kinds(answer, torch.tensor([[-30.0, -20.0, -25.0]]), torch.tensor([1]))
    expect(got == ["unshifted"], "logits may be below 0, and the largest still has rank 1")


def _kinds(answer: Any, logits: Tensor, tokens: Tensor) -> list[str]:
    got = answer(logits.clone(), tokens.clone())
    expect_returned(got)
    expect(isinstance(got, list | tuple), f"a list was asked for, got {got!r:.60}")
    expect(len(got) == len(tokens), f"{len(tokens)} tokens need as many kinds, got {len(got)}")
    known = all(kind in ("unshifted", "marginal", "shifted") for kind in got)
    expect(known, f"a kind is 'unshifted', 'marginal' or 'shifted', got {list(got)!r:.60}")
    return list(got)


@check_of("selection.rank_correlation", "do two models order the options alike?")
def rank_correlation(answer) -> None:
    sure, unsure = [0.7, 0.1, 0.15, 0.05], [0.3, 0.24, 0.26, 0.2]
    got = _correlation(answer, sure, unsure)
    expect(not close(got, np.corrcoef(sure, unsure)[0, 1]), "this is the correlation of the probabilities; take ranks")
    expect(not close(got, -1), "the same order gave -1: are the two ranked in the same direction?")
    expect(close(got, 1), f"the same order is 1, however sure a model is, got {got:.4f}")
    got = _correlation(answer, sure, [0.1, 0.3, 0.2, 0.4])
    expect(close(got, -1), f"the reverse order is -1, got {got:.4f}")
    for p, q in (([0.25] * 4, sure), (sure, [0.25] * 4), ([0.5, 0.5], [0.5, 0.5])):
        got = _correlation(answer, p, q)
        expect(not math.isnan(got), "a model that gives all options the same: 0 / 0 is NaN, and should count as 0")
        expect(close(got, 0), f"a model that gives all options the same has no order, so 0, got {got:.4f}")
    p, q = [0.4, 0.4, 0.15, 0.05], [0.1, 0.6, 0.2, 0.1]
    x, y = np.array([1, 1, 2, 3]), np.array([3, 1, 2, 3])
    right = float(np.corrcoef(x, y)[0, 1])
    got = _correlation(answer, p, q)
    left_out = float(np.corrcoef([1, 1, 3, 4], [3, 1, 2, 3])[0, 1])
    shared = float(np.corrcoef([1.5, 1.5, 3, 4], [3.5, 1, 2, 3.5])[0, 1])
    in_order = float(np.corrcoef([1, 2, 3, 4], [3, 1, 2, 4])[0, 1])
    expect(not close(got, in_order), "equal probabilities got different ranks; they share one")
    expect(not close(got, left_out), "after two that share rank 1 comes rank 2: no rank is left out")
    expect(not close(got, shared), "equal ones share the rank itself, not the mean of two ranks")
    expect(close(got, right), f"the ranks {x.tolist()} and {y.tolist()} correlate with {right:.4f}, got {got:.4f}")
    got = _correlation(answer, [0.5, 0.3, 0.2], [0.3, 0.5, 0.2])
    expect(close(got, 0.5), f"the ranks 1, 2, 3 and 2, 1, 3 correlate with 0.5, got {got:.4f}")


def _correlation(answer: Any, p: list[float], q: list[float]) -> float:
    given = list(p), list(q)
    with np.errstate(all="ignore"):
        got = answer(*given)
    expect_returned(got)
    expect(given == (p, q), "the lists that came in were changed")
    expect(isinstance(got, int | float | np.floating | np.integer), f"a number was asked for, got {got!r:.60}")
    return float(got)
