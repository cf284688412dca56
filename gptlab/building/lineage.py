"""From which entry each was made, as a tree: the records of a run of Evol-Instruct, read and written as text.

    0  Name three fruits.
      0.1  constraints  kept  Name three fruits that keep all winter.
        0.2  deepen  equal  Name three fruits that keep through the winter.
        0.3  breadth  kept  Name two vegetables that grow without light.

An entry is a root. Below each instruction stands what was made from it, in the order of the rounds: what was thrown
away has nothing below it, because its parent went back to the pool. A picture of the same is
`gptlab.show.plot_lineage`.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gptlab.files import read_text
from gptlab.show.lineage import new_part, told

Record = Mapping[str, Any]

LINE_WIDTH = 120  # columns of a terminal
DETAIL_WIDTH = 40  # of them for the reason, such as a server's error


@dataclass(frozen=True)
class Node:
    """One record, and what was made from it."""

    record: Record
    children: list[Node] = field(default_factory=list)

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Node]]:
        """Yield this node and all below it with their depths, each before its children."""
        yield depth, self
        for child in self.children:
            yield from child.walk(depth + 1)


def read_lineage(path: str | Path) -> list[dict[str, Any]]:
    """Return the records of a journal of Evol-Instruct, without changing the file; it may still be written to.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such journal.
    """
    whole = read_text(path).split("\n")[:-1]  # the last line is being written, or empty
    lines = []
    for number, text in enumerate(whole, start=1):
        try:
            lines.append(json.loads(text))
        except (ValueError, RecursionError):
            raise ValueError(f"{path}, line {number}, is not JSON: {text[:60]!r}") from None
    if not lines or not isinstance(lines[0], dict) or lines[0].get("journal") != "evol-instruct":
        raise ValueError(f"{path} is no journal of evol-instruct: it begins with {whole[0][:60] if whole else ''!r}")
    return lines[1:]


def lineage_tree(records: Sequence[Record]) -> list[Node]:
    """Return the roots with all that was made from them, in the order of the records.

    Raises:
        ValueError: an id stands there twice, or a parent does not stand before its child.

    >>> [apple] = lineage_tree([{"id": "0", "parent": None}, {"id": "0.1", "parent": "0"}])
    >>> [node.record["id"] for _, node in apple.walk()]
    ['0', '0.1']
    """
    nodes: dict[str, Node] = {}
    roots = []
    for record in records:
        if record["id"] in nodes:
            raise ValueError(f"two records have the id {record['id']!r}")
        node = nodes[record["id"]] = Node(record)
        if record["parent"] is None:
            roots.append(node)
        elif record["parent"] in nodes and record["parent"] != record["id"]:
            nodes[record["parent"]].children.append(node)
        else:
            raise ValueError(f"record {record['id']!r} has the parent {record['parent']!r}, which is not before it")
    return roots


def lineage_text(records: Sequence[Record], *, width: int = LINE_WIDTH) -> str:
    """Return the tree as text: a line for each record, with its operation, its verdict, and its instruction.

    An instruction that is too long for its line begins where it parts from its parent, and is cut at the line's end.

    Args:
        records: of a report's lineage, or of `read_lineage`.
        width: columns of a line; a Chinese character takes two.

    Raises:
        ValueError: the records are no tree, or the width is below 20.
    """
    if width < 20:
        raise ValueError(f"width must be >= 20, got {width}")
    nodes = [found for root in lineage_tree(records) for found in root.walk()]
    told_of = {None: "", **{node.record["id"]: told(node.record) for _, node in nodes}}
    lines = []
    for depth, node in nodes:
        beginning, text = f"{'  ' * depth}{_heading(node.record)}  ", told_of[node.record["id"]]
        if columns(beginning + text) > width:
            text = new_part(text, told_of[node.record["parent"]])
        lines.append(shortened(beginning + text, width))
    return "\n".join(lines)


def shortened(text: str, width: int) -> str:
    """Return a text on one line that takes at most so many columns of a terminal, with "..." where it was cut.

    >>> shortened("Name three fruits.", 12), shortened("说出三种水果。", 12)
    ('Name thre...', '说出三种...')
    """
    text = "".join(character if character.isprintable() else " " for character in text)
    if columns(text) <= width:
        return text
    room, kept = width - 3, 0
    while kept < len(text) and (room := room - columns(text[kept])) >= 0:
        kept += 1
    return text[:kept] + "..."


def columns(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for a Chinese character, none for an accent alone.

    >>> columns("fruit"), columns("水果"), columns("e\u0301")
    (5, 4, 1)
    """
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def _heading(record: Record) -> str:
    """Return what stands before the instruction on a line of the tree."""
    detail = f" ({shortened(record['detail'], DETAIL_WIDTH)})" if record.get("detail") else ""
    verdict = None if record["verdict"] == "given" else record["verdict"] + detail
    return "  ".join(part for part in (record["id"], record["op"], verdict) if part)
