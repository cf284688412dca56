"""Tables of pairs: two texts of which one answers the other, such as a sentence and its translation.

A pair is a mapping: its `source`, its `target`, and whatever else is known of it, such as the two languages. Any two
columns may play these parts, a question and its answer, a text and its label; all functions here take their names.

What has to happen before a template is put around a pair happens here: the same pair must not stand in the data twice,
and it must be decided which pairs are held out. Split afterwards, and a sentence of the test is in the training data in
another wording; split by rows, and in the other direction a translation that the test asks for is a training input.

Left out: pairs that are nearly the same (see `gptlab.selection`), and aligning texts sentence by sentence.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gptlab.data.classification import table_rows
from gptlab.data.instruction import read_records
from gptlab.tokenizer import check_utf8

Pair = Mapping[str, Any]


def load_pairs(
    path: str | Path,
    *,
    source: str = "source",
    target: str = "target",
    columns: Sequence[str] | None = None,
    left_out: list[tuple[str, str]] | None = None,
    **known: str,
) -> list[dict[str, Any]]:
    """Read pairs from a table or from JSON, each with an "id", by which what is made of it can be traced.

    A .csv may quote a field; in a .tsv a quotation mark is a character like any other. A whole number as a side, such
    as a label, becomes text.

    Args:
        path: .csv, .tsv, .json (a list) or .jsonl; UTF-8.
        source: the column or key of what is asked.
        target: that of the right answer.
        columns: the names of the columns when the table does not begin with them.
        left_out: gets (where, reason) of rows with an empty side or a side that is no text; None makes them an error.
        known: what is to be said of all pairs that do not say it themselves, such as src_lang="German". A row without
            "id" gets its number, from 1.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another kind, damaged, lacks a column or holds no pairs, or a row is no pair (the
            message names the line, for JSON the record, from 1).
    """
    kind = Path(path).suffix.lower()
    if kind in (".csv", ".tsv"):
        rows: Iterable[tuple[str, Any]] = table_rows(path, [source, target], columns)
    elif kind in (".json", ".jsonl"):
        rows = ((f"{path}: record {number}", row) for number, row in enumerate(read_records(path), start=1))
    else:
        raise ValueError(f"{path} must end in .csv, .tsv, .json or .jsonl")
    pairs = []
    for number, (where, row) in enumerate(rows, start=1):
        pair = {"id": number, **known, **row} if isinstance(row, Mapping) else row
        try:
            pairs.append(_checked(pair, where, source, target))
        except ValueError as error:
            if left_out is None:
                raise
            left_out.append((where, str(error)))
    if not pairs:
        raise ValueError(f"{path} holds no pairs")
    return pairs


def _checked(pair: Any, where: str, source: str, target: str) -> dict[str, Any]:
    if isinstance(pair, Mapping):
        whole = {key: str(pair[key]) for key in (source, target) if type(pair.get(key)) is int}
        pair = {**pair, **whole}
    check_pair(pair, where, source=source, target=target)
    return pair


def check_pair(pair: Any, where: str, *, source: str = "source", target: str = "target") -> None:
    """Make sure that `pair` has two sides.

    Raises:
        ValueError: with `where`, the column and what was found there.
    """
    if not isinstance(pair, Mapping):
        raise ValueError(f"{where} must be an object with {source!r} and {target!r}, got {pair!r:.80}")
    for key in (source, target):
        if key not in pair:
            raise ValueError(f"{where} has no {key!r}; its keys are {list(pair)}")
        if not isinstance(pair[key], str):
            raise ValueError(f"{where}: {key!r} must be text, got {pair[key]!r:.80}")
        if not pair[key].strip():
            raise ValueError(f"{where}: {key!r} is empty")
        try:
            check_utf8(pair[key])
        except ValueError as error:
            raise ValueError(f"{where}, {key!r}: {error}") from None


def reversed_pair(pair: Pair, *, source: str = "source", target: str = "target") -> dict[str, Any]:
    """Return the pair in the other direction: its sides are exchanged, and each src_... with its tgt_...

    >>> reversed_pair({"source": "cat", "target": "猫", "src_lang": "English", "tgt_lang": "Chinese"})
    {'source': '猫', 'target': 'cat', 'src_lang': 'Chinese', 'tgt_lang': 'English'}
    """
    other = {source: target, target: source}
    for key in pair:
        twin = key.replace("src_", "tgt_", 1) if key.startswith("src_") else key
        if twin != key and twin in pair:
            other |= {key: twin, twin: key}
    return {key: pair[other.get(key, key)] for key in pair}


def directed(pair: Pair, *, source: str = "source", target: str = "target") -> tuple[Any, ...]:
    """Return what makes a pair in one direction the same as another: languages and texts, whatever their spaces."""
    return pair.get("src_lang"), _plain(pair[source]), pair.get("tgt_lang"), _plain(pair[target])


def unique_pairs(
    pairs: Sequence[Pair], *, both_directions: bool = True, source: str = "source", target: str = "target"
) -> list[Pair]:
    """Return the pairs without those that were there before, in their order.

    Args:
        pairs: what to look through.
        both_directions: whether a pair is the same as the one in the other direction.
        source: the column of what is asked.
        target: that of the right answer.

    Raises:
        ValueError: a pair is none.
    """
    names, seen, kept = {"source": source, "target": target}, set(), []
    for number, pair in enumerate(pairs, start=1):
        check_pair(pair, f"pair {number}", **names)
        if directed(pair, **names) in seen:
            continue
        kept.append(pair)
        seen.add(directed(pair, **names))
        if both_directions:
            seen.add(directed(reversed_pair(pair, **names), **names))
    return kept


def split_pairs(
    pairs: Sequence[Pair], share: float, *, seed: int = 0, columns: Sequence[str] = ("source", "target")
) -> tuple[list[Pair], list[Pair]]:
    """Split off a share of the pairs: (training, held out), each in their order.

    Pairs with a text in common, be it the one's source and the other's target, stay together; so no text of the one
    part is in the other, in either direction. The share is met as nearly as such groups allow, from below.

    Args:
        pairs: what to split.
        share: of the pairs that is held out, in (0, 1).
        seed: of what is held out.
        columns: whose texts may not stand in both parts. Of texts and labels, that is the texts alone: nearly all
            pairs have a label in common.

    Raises:
        ValueError: share is not in (0, 1), a pair lacks a column, or one of the parts would be empty.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share must be between 0 and 1, got {share}")
    groups = _groups(pairs, columns)
    wanted, held_out = round(share * len(pairs)), set()
    for group in random.Random(seed).sample(groups, k=len(groups)):
        if len(held_out) + len(group) <= wanted:
            held_out.update(group)
    if not 0 < len(held_out) < len(pairs):
        largest = max(map(len, groups), default=0)
        raise ValueError(
            f"a share of {share} splits {len(pairs)} pairs into {len(pairs) - len(held_out)} and {len(held_out)}; "
            f"{largest} of them have texts in common in {' or '.join(columns)} and stay together"
        )
    parts: tuple[list[Pair], list[Pair]] = ([], [])
    for number, pair in enumerate(pairs):
        parts[number in held_out].append(pair)
    return parts


def _groups(pairs: Sequence[Pair], columns: Sequence[str]) -> list[list[int]]:
    """Return the numbers of the pairs that are connected through texts in common."""
    parent = list(range(len(pairs)))  # a forest; each tree is a group, known by its root

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = number = parent[parent[number]]
        return number

    first: dict[str, int] = {}  # text -> the first pair that has it
    for number, pair in enumerate(pairs):
        for column in columns:
            if not isinstance(pair.get(column), str):
                raise ValueError(f"pair {number + 1} has no text in {column!r}; its keys are {list(pair)}")
            parent[root(number)] = root(first.setdefault(_plain(pair[column]), number))
    groups = defaultdict(list)
    for number in range(len(pairs)):
        groups[root(number)].append(number)
    return list(groups.values())


def _plain(text: str) -> str:
    return " ".join(text.split())
