"""Several examples in one row, without their seeing each other: no padding, and no more rows than needed.

Three things keep a packed row equal to separate ones: a token sees only its own document, positions begin at 0 in each
document, and no target crosses from one document to the next.

Source: Krell et al. 2021, arXiv 2107.02027 (packing without cross-contamination); best-fit decreasing is a classical
heuristic of bin packing (Johnson 1973).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gptlab.data.batching import IGNORE_INDEX, check_examples
from gptlab.data.segments import Example


class PackedBatch(NamedTuple):
    """Inputs, targets and the number of the document that each token belongs to, (B, T) int64 each."""

    inputs: Tensor
    targets: Tensor
    documents: Tensor


def collate_packed(examples: Sequence[Example], *, pad_id: int, length: int | None = None) -> PackedBatch:
    """Put examples into as few rows as best-fit decreasing finds; what is left of a row is a document of padding.

    Args:
        examples: at least one.
        pad_id: what fills the inputs up; any id will do, since no target sees it.
        length: the most inputs in a row; None is as many as the longest example has.

    Raises:
        ValueError: there are no examples, one is shorter than two tokens, or one is longer than `length` + 1.

    >>> first, second = Example([5, 6, 7, 9], [False, False, True, True]), Example([1, 2], [False, True])
    >>> inputs, targets, documents = collate_packed([first, second], pad_id=0, length=5)
    >>> inputs.tolist(), targets.tolist(), documents.tolist()
    ([[5, 6, 7, 1]], [[-100, 7, 9, 2]], [[0, 0, 0, 1]])
    """
    check_examples(examples)
    sizes = [len(example.ids) - 1 for example in examples]
    room = max(sizes) if length is None else length
    if max(sizes) > room:
        raise ValueError(f"an example of {max(sizes) + 1} tokens does not fit into a row of {room} inputs")
    rows = best_fit(sizes, room)
    T = max(sum(sizes[number] for number in row) for row in rows)
    inputs = torch.full((len(rows), T), pad_id)
    targets = torch.full((len(rows), T), IGNORE_INDEX)
    documents = torch.empty(len(rows), T, dtype=torch.int64)
    for place, row in enumerate(rows):
        documents[place] = len(row)
        start = 0
        for document, number in enumerate(row):
            (ids, trained), end = examples[number], start + sizes[number]
            ids = torch.tensor(ids)
            inputs[place, start:end] = ids[:-1]
            targets[place, start:end] = ids[1:].where(torch.tensor(trained[1:]), IGNORE_INDEX)
            documents[place, start:end] = document
            start = end
    return PackedBatch(inputs, targets, documents)


def best_fit(sizes: Sequence[int], room: int) -> list[list[int]]:
    """Return rows of item numbers: the largest item first, each into the row that it leaves the least room in.

    >>> best_fit([4, 5, 2, 3], room=7)
    [[1, 2], [0, 3]]
    """
    rows: list[list[int]] = []
    left: list[int] = []
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        fitting = [row for row in range(len(rows)) if left[row] >= sizes[number]]
        if not fitting:
            rows.append([])
            left.append(room)
            fitting = [len(rows) - 1]
        row = min(fitting, key=lambda row: left[row])
        rows[row].append(number)
        left[row] -= sizes[number]
    return rows


def separate(documents: Tensor) -> tuple[Tensor, Tensor]:
    """Return positions that begin at 0 in every document, (B, T), and a mask that lets it see only itself, (B, T, T).

    >>> positions, mask = separate(torch.tensor([[0, 0, 1]]))
    >>> positions.tolist(), mask.int().tolist()
    ([[0, 1, 0]], [[[1, 1, 0], [1, 1, 0], [0, 0, 1]]])
    """
    places = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    starts = places.where(begins, 0).cummax(dim=1).values  # (B, T), where the token's document begins
    return places - starts, documents.unsqueeze(2) == documents.unsqueeze(1)
