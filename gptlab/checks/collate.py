"""Checks about batches of instruction data: shapes, padding, shifted targets, and what is ignored."""

from __future__ import annotations

import torch
from torch import Tensor

from gptlab.checks.core import check_of, expect, expect_tensor, expect_tuple

_ITEMS = [[3, 1, 4, 1, 5], [9, 2], [6, 5, 3]]
_END = 99


@check_of("collate.shapes", "the shape of a batch")
def shapes(answer) -> None:
    for lengths in ([5, 2, 3], [7], [1, 8, 8, 2]):
        got, B, longest = expect_tuple(answer(list(lengths)), "the shape"), len(lengths), max(lengths)
        expect(got != (longest, B), "the batch comes first: one row for each item")
        expect(
            got != (B, longest + 1),
            "with its end an item is one longer, but inputs leave off the last token and targets the first",
        )
        expect(got != (B, longest - 1), "the shift takes one token away, but the end-of-text has added one before")
        expect(got == (B, longest), f"for items of {lengths} ids the rows are as long as the longest item, got {got}")


@check_of("collate.padding", "inputs, padded to the longest item")
def padding(answer) -> None:
    items = [list(item) for item in _ITEMS]
    got = answer(items, _END)
    expect(items == _ITEMS, "the items that came in were changed: make new lists, do not append to those given")
    if isinstance(got, Tensor) and got.dim() == 2:
        expect(got.shape[1] != 6, "the rows are one too long: inputs need no end-of-text behind the longest item")
        expect(got.shape[1] >= 5, f"the rows have {got.shape[1]} tokens and the longest item 5: pad, do not cut")
    expect_tensor(got, (3, 5), "the inputs")
    expect(not got.is_floating_point(), "ids are whole numbers: the tensor should be int64")
    rows = got.tolist()
    expect(rows[1][-2:] != [9, 2], "the padding stands on the left; it belongs behind the item")
    expect(rows[1][2:] != [0, 0, 0], "the padding is 0, which is the id of some token; take the id that is given")
    expect(-100 not in rows[1], "-100 is for targets; as an input it is the id of no token")
    for row, item in zip(rows, _ITEMS):
        expect(row[: len(item)] == item, f"the item {item} became {row}")
        expect(set(row[len(item) :]) <= {_END}, f"behind the item {item} there should be {_END} only, got {row}")


@check_of("collate.targets", "targets, shifted by one, padding ignored")
def targets(answer) -> None:
    got = answer([list(item) for item in _ITEMS], _END)
    expect(not isinstance(got, tuple), "only the targets are asked for, not the inputs with them")
    expect_tensor(got, (3, 5), "the targets")
    expect(not got.is_floating_point(), "ids are whole numbers: the tensor should be int64")
    first = got[0].tolist()
    expect(
        first != _ITEMS[0], "the targets are the inputs themselves: shift them by one, or there is nothing to predict"
    )
    expect(
        first[1:] != _ITEMS[0][:-1],
        "shifted in the wrong direction: the target of a token is the one that follows, not the one before",
    )
    expect(
        first[:4] == _ITEMS[0][1:], f"for the inputs {_ITEMS[0]} the targets should begin {_ITEMS[0][1:]}, got {first}"
    )
    expect(first[4] != -100, "the first end-of-text of the longest item is ignored, so nothing teaches where to stop")
    expect(first[4] == _END, f"after its last id an item ends: that target should be {_END}, got {first[4]}")
    second = got[1].tolist()
    expect(second[:2] != [2, -100], "all end-of-text are ignored, also the first, so nothing teaches where to stop")
    expect(second[2:] != [_END] * 3, "the padding is still a target: -100 for all but the first end-of-text of a row")
    expect(second[:2] == [2, _END], f"the targets of {_ITEMS[1]} should begin [2, {_END}], got {second}")
    expect(second[2:] == [-100] * 3, f"behind the first end-of-text should be -100 only, got {second}")
    joined = [[7, 8, _END, 5, 6], [1]]
    inside = answer(joined, _END)[0].tolist()
    expect(
        inside[4] != -100 and inside[1] != -100,
        "an item that holds an end-of-text itself loses its end: find the padding by the item's length, not by value",
    )
    expect(
        inside == [8, _END, 5, 6, _END], f"the targets of {joined[0]} should be [8, {_END}, 5, 6, {_END}], got {inside}"
    )


@check_of("collate.response_only", "targets of the response alone")
def response_only(answer) -> None:
    given = torch.tensor([[11, 12, 13, 14, _END], [21, 22, _END, -100, -100]])
    before = given.clone()
    got = expect_tensor(answer(given, [3, 1]), (2, 5), "the targets")
    expect(torch.equal(given, before), "the targets that came in were changed: work on a clone")
    first = got[0].tolist()
    expect(first[:2] == [-100, -100], "the prompt is still trained: its targets must be -100")
    expect(
        first[2] != -100,
        "one too many is ignored: targets are shifted, so the last token of the prompt predicts the response's first",
    )
    expect(first[2:] == [13, 14, _END], f"the response's targets should stay [13, 14, {_END}], got {first[2:]}")
    expect(
        got[1].tolist() == before[1].tolist(),
        "a prompt of one token predicts the response at once, so its row stays as it is; each row has its own length",
    )
