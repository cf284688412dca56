"""Facility location: pick entries so that every entry has one like it among those picked (QDIT, with quality).

How well the picked set A covers all n entries V is the mean of what each finds in it:

    d(A) = 1/n sum_v max_{a in A} sim(a, v)        sim(a, v) = max(0, cosine)

and what one more entry would add,

    d(a | A) = 1/n sum_v max(0, sim(a, v) - c_v)   c_v = max_{b in A} sim(b, v), 0 at first.

QDIT weighs it against the entry's own quality q: each pick is the entry with the largest (1 - α) d(a|A) + α q(a).

Lazy greedy: as A grows, d(a|A) can only shrink (submodularity). So a gain that was computed earlier is an upper bound
now, and what is still the largest after computing it anew needs no look at the others. The picks are those of the plain
greedy algorithm, which reach at least 1 - 1/e of the best possible d; a term that only adds up, as q does, changes
nothing in this.

Negative cosines count as 0: without that an entry like none of those picked would be worth less than nothing, and d of
the empty set would have no value.

Sources: Bukharin et al. 2023, arXiv 2311.14736 (QDIT); Nemhauser, Wolsey and Fisher 1978 (the bound); Minoux 1978 (lazy
greedy).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from tqdm import tqdm

from gptlab.selection.embedding import check_embeddings, unit_rows
from gptlab.selection.similarity import UNIT, AllPairs, NearestPairs, Similarities

EXACT = 10_000  # entries; their table of similarities takes 400 MB
NEIGHBOURS = 200  # above that; see benchmarks/README.md for what they cost and lose


def facility_location(
    embeddings: Any,
    k: int,
    *,
    quality: Sequence[float] | None = None,
    alpha: float = 0.0,
    neighbours: int | None = None,
    progress: bool = False,
) -> list[int]:
    """Return the numbers of k entries in the order of picking, each the best to add to those before it.

    α says little by itself: d(a|A) falls as 1/k does, to thousandths within a few hundred picks, and a quality from 1
    to 5 outweighs it at any α but 0. `scaled_quality` brings both to one scale. Where it is exact, entries that tie are
    picked in their order. Ties are common late in a selection: two entries that cover each other and nothing else gain
    the same, and programs that let rounding decide pick either. An entry whose embedding is zeros is like nothing,
    itself included.

    Args:
        embeddings: (n, dimensions), of any length, such as `embed` returns.
        k: how many to pick.
        quality: a number for each entry, taken as it is.
        alpha: from 0, coverage alone, to 1, quality alone.
        neighbours: None computes exactly with up to EXACT entries, and above with each entry's NEIGHBOURS nearest. A
            number forces so many, the entry itself among them, and n or more is exact again. What is left out is that
            a pick also serves entries that it is not a neighbour of: c_v knows it, the comparison of candidates does
            not. That costs something with few picks, when k * neighbours is far below n, and next to nothing with many.
        progress: show bars.

    Raises:
        ValueError: embeddings are not finite numbers (n, dimensions); k or neighbours is out of its range; alpha is
            outside [0, 1] or needs a quality; quality has another length or is not finite.

    >>> facility_location([[1, 0], [1, 0.1], [0, 1], [0.1, 1], [1, 1]], 3)
    [4, 0, 2]
    >>> facility_location([[1, 0], [1, 0.1], [0, 1]], 2, quality=[0.1, 0.9, 0.2], alpha=1)
    [1, 2]
    """
    embeddings = check_embeddings(embeddings)
    n = len(embeddings)
    _check_count(k, n)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1], got {alpha!r}")
    if neighbours is not None and neighbours < 1:
        raise ValueError(f"neighbours must be >= 1, got {neighbours!r}")
    if quality is None and alpha > 0:
        raise ValueError(f"alpha={alpha!r} weighs a quality, and none is given")
    worth = np.zeros(n) if quality is None else alpha * _check_quality(quality, n)
    if neighbours is None:
        neighbours = n if n <= EXACT else NEIGHBOURS
    similarities: Similarities
    if neighbours >= n:
        similarities = AllPairs(embeddings, progress=progress)
    else:
        similarities = NearestPairs(embeddings, neighbours, progress=progress)
    return _lazy_greedy(similarities, k, (1 - alpha) / (n * UNIT), worth, progress)


def coverage(embeddings: Any, picked: Sequence[int]) -> float:
    """Return d(picked): the mean over all entries of the largest similarity to one picked, in [0, 1].

    Args:
        embeddings: as `facility_location` takes them.
        picked: numbers of entries, in any order; none cover nothing.

    Raises:
        ValueError: embeddings are not finite numbers (n, dimensions), or picked holds other numbers than theirs.

    >>> coverage([[1, 0], [0, 1]], [0]), coverage([[1, 0], [0, 1]], [])
    (0.5, 0.0)
    """
    curve = coverage_curve(embeddings, picked)
    return curve[-1] if curve else 0.0


def coverage_curve(embeddings: Any, picked: Sequence[int]) -> list[float]:
    """Return d after the first pick, the first two, and so on.

    Arguments and errors as for `coverage`.

    >>> coverage_curve([[1, 0], [0, 1]], [0, 1])
    [0.5, 1.0]
    """
    rows = unit_rows(check_embeddings(embeddings))
    for number in picked:
        if not 0 <= number < len(rows):
            raise ValueError(f"picked must be in [0, {len(rows)}), got {number!r}")
    chosen = rows[np.asarray(picked, dtype=np.int64)].T  # (dimensions, picks)
    sums = np.zeros(len(picked))
    for start in range(0, len(rows), 1024):
        best = np.maximum.accumulate(rows[start : start + 1024] @ chosen, axis=1)
        sums += best.clip(0, 1).sum(axis=0, dtype=np.float64)
    return (sums / len(rows)).tolist()


def scaled_quality(scores: Sequence[float], k: int) -> list[float]:
    """Return scores for which α means the same whatever the data, when k entries are to be picked.

    Scores are brought to [0, 1], the worst to the best, and divided by k. Summed over k picks they are then their mean,
    and what the greedy algorithm climbs is (1 - α) coverage + α mean quality, both from 0 to 1. Equal scores all
    become 0.

    Raises:
        ValueError: there are no scores, one is not finite, or k is not in [1, scores].

    >>> scaled_quality([1, 5, 4], 2)
    [0.0, 0.5, 0.375]
    """
    values = _check_quality(scores, len(scores))
    _check_count(k, len(values))
    low, high = values.min(), values.max()
    return ((values - low) / (high - low if high > low else 1.0) / k).tolist()


def _lazy_greedy(
    similarities: Similarities, k: int, weight: float, worth: np.ndarray, progress: bool = False
) -> list[int]:
    """Return k picks; a gain is `weight` times the similarity that is won, in units, plus the entry's `worth`."""
    cover = np.zeros(len(worth), np.int32)  # c_v
    heap = [(-gain, number) for number, gain in enumerate((weight * similarities.totals + worth).tolist())]
    heapq.heapify(heap)  # of upper bounds, the largest first; of equal ones, the entry that comes first
    computed_at = [0] * len(worth)  # with how many picks each bound was computed
    picked: list[int] = []
    with tqdm(total=k, desc="picking", disable=not progress) as bar:
        while len(picked) < k:
            number = heap[0][1]
            if computed_at[number] == len(picked):
                heapq.heappop(heap)
                picked.append(number)
                np.maximum(cover, similarities.row(number), out=cover)
                bar.update()
                continue
            places, similar = similarities.near(number)
            won = int(np.maximum(similar - cover[places], 0).sum(dtype=np.int64))
            computed_at[number] = len(picked)
            heapq.heapreplace(heap, (-(weight * won + worth[number]), number))
    return picked


def _check_count(k: int, n: int) -> None:
    if not isinstance(k, Integral) or not 1 <= k <= n:
        raise ValueError(f"k must be in [1, {n}], the number of entries, got {k!r}")


def _check_quality(quality: Sequence[float], n: int) -> np.ndarray:
    try:
        values = np.asarray(quality, dtype=np.float64)  # None becomes NaN
    except (TypeError, ValueError):
        raise ValueError("quality must be a number for each entry") from None
    if values.shape != (n,) or not n:
        raise ValueError(f"quality must be a number for each of {n} entries, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"quality must be finite, that of entry {int(np.isfinite(values).argmin())} is not")
    return values
