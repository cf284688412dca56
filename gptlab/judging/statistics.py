"""How far a number from a small test set can be trusted: an interval, a test, an agreement.

Each is a few lines, for these are the ideas by which two models are compared; scipy and scikit-learn have them too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

DRAWS_AT_ONCE = 2**20  # numbers that are in memory together


class Interval(NamedTuple):
    """Where a mean lies, with the probability that was asked for."""

    low: float
    high: float


def bootstrap_interval(
    values: Sequence[float], *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Return an interval for the mean of what `values` were drawn from.

    As many values as there are get drawn from `values`, with repetition, again and again; the means of these draws lie
    about as far from the mean of `values` as that lies from the true one. The interval leaves out the same share of
    them at both ends. It says how much another test set of this size could differ, not whether the judge is right; from
    one value alone it has no width and says nothing.

    Args:
        values: at least one.
        level: the share of means inside.
        resamples: how many draws.
        seed: of the draws; the same seed gives the same interval.

    Raises:
        ValueError: there are no values, one is not finite, or a setting is out of its range.

    Source: Efron 1979; Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13 (percentile interval).
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level!r}")
    if resamples < 1:
        raise ValueError(f"resamples must be >= 1, got {resamples!r}")
    found = np.asarray(values, dtype=float)
    if not found.size:
        raise ValueError("an interval needs at least one value, got none")
    if not np.isfinite(found).all():
        raise ValueError(f"values must be finite, got {float(found[~np.isfinite(found)][0])}")
    rng, means = np.random.default_rng(seed), np.empty(resamples)
    rows = max(1, DRAWS_AT_ONCE // found.size)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        means[start : start + count] = found[rng.integers(found.size, size=(count, found.size))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def binomial_test(wins: int, losses: int) -> float:
    """Return how often a fair coin would fall at least as unevenly, to either side: the exact two-sided p-value.

        p = min(1, 2 Σ_{i <= min(wins, losses)} C(n, i) / 2^n),    n = wins + losses

    Ties are left out: they speak for neither side. Without a win or a loss nothing was seen, and p is 1.

    Args:
        wins: how often the one side won.
        losses: how often the other did.

    Raises:
        ValueError: one of them is no whole number >= 0.

    Source: the sign test (Dixon and Mood 1946); equal to scipy's `binomtest(wins, wins + losses).pvalue`.

    >>> binomial_test(9, 1)
    0.021484375
    """
    for name, count in (("wins", wins), ("losses", losses)):
        if not isinstance(count, int) or count < 0:
            raise ValueError(f"{name} must be a whole number >= 0, got {count!r}")
    n, ways, chosen = wins + losses, 0, 1
    for i in range(min(wins, losses) + 1):
        ways += chosen
        chosen = chosen * (n - i) // (i + 1)  # C(n, i + 1)
    return min(1.0, 2 * ways / 2**n)


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Return by how much two judges agree beyond chance: 1 always, 0 as often as by chance, below 0 less often.

        kappa = (p_o - p_e) / (1 - p_e)

    p_o is the share of items with the same label, p_e the share that would be the same if each judge gave labels as
    often as now, but blindly.

    Args:
        first: one judge's label for each item.
        second: the other's, in the same order.

    Returns:
        Kappa; None when both give one and the same label throughout, which chance explains as well.

    Raises:
        ValueError: there are no items, or not as many labels of the one as of the other.

    Source: Cohen 1960, "A Coefficient of Agreement for Nominal Scales".

    >>> cohen_kappa(["A", "A", "B", "tie"], ["A", "B", "B", "tie"])
    0.6363636363636364
    """
    if not len(first) or len(first) != len(second):
        raise ValueError(f"two judges need labels for the same items, got {len(first)} and {len(second)}")
    n = len(first)
    same = sum(one == other for one, other in zip(first, second)) * n  # p_o and p_e times n², whole numbers
    ones, others = Counter(first), Counter(second)
    by_chance = sum(count * others[label] for label, count in ones.items())
    return None if by_chance == n * n else (same - by_chance) / (n * n - by_chance)
