"""A long run, written down step by step, so that it can be stopped anywhere and goes on where it was.

The file has a line of JSON for each step, written as soon as the step is done. The first line says what kind of run it
is and with which settings:

    {"journal": "self-instruct", "settings": {"seed": 0, ...}}

A run rebuilds its state from the records, and draws at random by the number of a step, with
`random.Random(f"{seed}/{step}")`, and not from one generator for all. Then a run that was killed and started again
writes the same file as one that was not. The journal is also the result's history: it tells of every entry what it was
made from, and of every one that was thrown away why.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptlab.files import append_json


class Journal:
    """The records of one run, in a file or in memory alone.

    Two programs must not write one file at the same time.

    Args:
        path: the file; it is made when it is missing, with its folder. None keeps the records in memory.
        kind: of the run, such as "self-instruct".
        settings: all that decides what the run does, JSON-able; a file can be gone on with only by the same.

    Attributes:
        records: what was read from the file, and what was added since.

    Raises:
        ValueError: the file is no journal, one of another kind, or one with other settings.
        OSError: the file cannot be read or written.

    >>> journal = Journal(None, "example", {"seed": 0})
    >>> journal.append({"step": 1})
    >>> journal.records
    [{'step': 1}]
    """

    def __init__(self, path: str | Path | None, kind: str, settings: Mapping[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.kind, self.settings = kind, json.loads(json.dumps(settings))  # as it will be read again: lists, not tuples
        self.records: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        if self.path is not None:
            self._open(self.path)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write a record down; where that fails, as on a full disk, no part of it stays.

        Raises:
            OSError: it cannot be written.
        """
        with self._lock:
            if self.path is not None:
                append_json(self.path, record)
            self.records.append(dict(record))

    def _open(self, path: Path) -> None:
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a directory, not a journal")
        path.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes() if path.exists() else b""
        whole = content.rfind(b"\n") + 1  # what follows was being written when the run was killed
        if content[:1] not in (b"", b"{"):
            raise ValueError(f"{path} is no journal: it begins with {content[:40]!r}")
        lines = [self._parsed(raw, number) for number, raw in enumerate(content[:whole].splitlines(), start=1)]
        if lines:
            self._check(lines[0])
            self.records = lines[1:]
        elif content and not b'{"journal": '.startswith(content[:12]):
            raise ValueError(f"{path} is no journal: it begins with {content[:40]!r}")
        if whole < len(content):
            with path.open("r+b") as file:
                file.truncate(whole)
        if not lines:
            append_json(path, {"journal": self.kind, "settings": self.settings})

    def _parsed(self, raw: bytes, number: int) -> dict[str, Any]:
        try:
            line = json.loads(raw)
        except (ValueError, RecursionError):
            line = None
        if not isinstance(line, dict):
            raise ValueError(f"{self.path} is no journal: line {number} is {raw[:60]!r}")
        return line

    def _check(self, header: Mapping[str, Any]) -> None:
        """Raise ValueError unless the file's first line is this run's."""
        if header.get("journal") != self.kind:
            kind = header.get("journal", "no run")
            raise ValueError(f"{self.path} is the journal of {kind}, not of {self.kind}; choose another file")
        theirs, ours = header.get("settings") or {}, self.settings
        different = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
        if different:
            changes = (f"{name} was {theirs.get(name)!r:.60}, and is {ours.get(name)!r:.60}" for name in different)
            told = "; ".join(changes)
            raise ValueError(f"{self.path} was begun with other settings: {told}; use those, or another file")
