"""How alike two entries are, max(0, cosine), for all pairs or for the nearest ones, in whole numbers.

Similarities are kept as int32, in units of 2^-30 (about 1e-9): half of what float64 takes. Sums of whole numbers are
exact in any order. So with all pairs, which are computed in float64 and rounded, two entries with the same embedding
have the same gain to the last bit, whatever the order in which a processor's cores add, and "the first of those that
tie" means something. The nearest pairs are computed in float32, whose rounding is coarser than a unit: there either of
two that tie may come first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from tqdm import tqdm

from gptlab.selection.embedding import unit_rows

UNIT = 2**30  # similarity 1
BLOCK = 2**25  # similarities that are computed at once: 128 MiB of float32


class Similarities(Protocol):
    """What the greedy selection asks for.

    Attributes:
        totals: each entry's similarities to all entries, summed: (n,) int64.
    """

    totals: np.ndarray

    def near(self, number: int) -> tuple[Any, np.ndarray]:
        """Return the places where an entry's similarities are kept, as an index, and the similarities, int32."""
        ...

    def row(self, number: int) -> np.ndarray:
        """Return an entry's similarities to all entries, (n,) int32."""
        ...


class AllPairs:
    """The whole table, computed in float64: four bytes for each of n² pairs."""

    def __init__(self, embeddings: np.ndarray, *, progress: bool = False) -> None:
        rows = unit_rows(embeddings, np.float64)
        self.table = np.empty((len(rows), len(rows)), np.int32)
        for part in _parts(len(rows), progress):
            self.table[part] = _in_units(rows[part] @ rows.T)
        self.totals = self.table.sum(axis=1, dtype=np.int64)

    def near(self, number: int) -> tuple[Any, np.ndarray]:
        return slice(None), self.table[number]

    def row(self, number: int) -> np.ndarray:
        return self.table[number]


class NearestPairs:
    """For each entry its nearest ones, itself counted: eight bytes a pair. All pairs are computed once, in float32.

    They are kept the other way round, for each entry the entries among whose nearest it is, since those are the ones
    that it would cover.
    """

    def __init__(self, embeddings: np.ndarray, neighbours: int, *, progress: bool = False) -> None:
        self.rows = unit_rows(embeddings)
        n = len(self.rows)
        nearest = np.empty((n, neighbours), np.int32)
        similar = np.empty((n, neighbours), np.int32)
        self.totals = np.zeros(n, np.int64)
        for part in _parts(n, progress):
            block = torch.from_numpy(self.rows[part] @ self.rows.T)
            values, places = block.topk(neighbours, dim=1, sorted=False)
            nearest[part], similar[part] = places.numpy(), _in_units(values.numpy())
            self.totals[part] = block.relu_().sum(dim=1).double().numpy() * UNIT
        order = np.argsort(nearest, axis=None, kind="stable")  # by the neighbour, then by the entry
        self.covered = (order // neighbours).astype(np.int32)
        self.similar = similar.ravel()[order]
        self.ends = np.bincount(nearest.ravel(), minlength=n).cumsum()

    def near(self, number: int) -> tuple[Any, np.ndarray]:
        part = slice(self.ends[number - 1] if number else 0, self.ends[number])
        return self.covered[part], self.similar[part]

    def row(self, number: int) -> np.ndarray:
        return _in_units(self.rows @ self.rows[number])


def _parts(n: int, progress: bool) -> Iterator[slice]:
    size = max(1, BLOCK // n)
    with tqdm(total=n, desc="similarities", disable=not progress) as bar:
        for start in range(0, n, size):
            yield slice(start, start + size)
            bar.update(min(size, n - start))


def _in_units(cosines: np.ndarray) -> np.ndarray:
    """Return max(0, cosine) in units, int32; the array given is used up."""
    np.clip(cosines, 0, 1, out=cosines)
    cosines *= UNIT
    return np.rint(cosines, out=cosines).astype(np.int32)
