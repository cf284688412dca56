"""Replies on disk: what was asked once is not asked again, and a class can work from a file without any server.

The file has a line of JSON for each reply, written as soon as the reply is there:

    {"key": ..., "server": identity, "messages": [...], "reply": ..., "reason": "stop", "time": seconds}

The key is a digest of identity and messages, so another model, another option and another question are all asked anew.
A line is written at once or not at all, but for the last one when a run was killed: that is cut off.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from copy import copy
from pathlib import Path
from typing import Any

from gptlab.files import append_json
from gptlab.servers.protocol import (
    Messages,
    Reply,
    Server,
    ServerError,
    check_messages,
    question,
    reply_checked,
    with_options,
)

BEGINNING = b'{"key": "'  # of every line, by which the rest of a killed run is told from somebody's file

_writing = threading.Lock()  # threads of a run that was interrupted still write when the next one opens the file


class NotRecorded(ServerError):
    """The recorded file does not hold this question."""

    def __init__(self, message: str) -> None:
        super().__init__(message, fatal=True)


class Cached:
    """A server that is asked only what it was not asked before, by this run or another.

    Failures are not kept, so they are asked again. Threads may share it; the same question, asked by two of them at
    once, is asked once. Two programs must not write one file at the same time.

    Args:
        server: a server, or a function from messages to text.
        path: the file; it is made when it is missing, with its folder.
        name: needed for a function, whose replies must be told from those of others.

    Attributes:
        name: the server's.
        identity: the server's.
        hits: how many replies came from the file.

    Raises:
        ValueError: the file holds something else, or a function has no name.
        OSError: the file cannot be read or written.
    """

    def __init__(
        self, server: Server | Callable[[Messages], str], path: str | Path, *, name: str | None = None
    ) -> None:
        identity = getattr(server, "identity", None)
        if identity is None and name is None:
            raise ValueError("a function needs a name, by which the cache tells its replies from those of others")
        self.server, self.path = server, Path(path)
        self.name = name or server.name
        self.identity = dict(identity) if identity is not None else {"kind": "function", "model": name}
        self._hits: list[int] = [0]  # in a list, like the rest, so that `with_options` shares it
        self._lock, self._locks = threading.Lock(), {}
        self._replies = {line["key"]: _reply(line) for line in _open_for_writing(self.path)}

    def __call__(self, messages: Messages) -> Reply:
        """Return the reply, from the file if it is there.

        Raises:
            ValueError: these are no messages.
            ServerError: there is no whole reply; or it cannot be written down, which is fatal.
        """
        messages = check_messages(messages)
        key = key_of(self.identity, messages)
        with self._lock:
            asking = self._locks.setdefault(key, threading.Lock())
        with asking:
            if key in self._replies:
                with self._lock:
                    self._hits[0] += 1
                return self._replies[key]
            began = time.monotonic()
            reply = reply_checked(self.server(messages), who=self.name)
            line = {"key": key, "server": self.identity, "messages": messages, "reply": str(reply)}
            line |= {"reason": reply.reason, "time": round(time.monotonic() - began, 3)}
            with self._lock:
                _append(self.path, line)
                self._replies[key] = reply
            return reply

    @property
    def hits(self) -> int:
        """How many replies came from the file."""
        return self._hits[0]

    def with_options(self, **options: Any) -> Cached:
        """Return the same server with other options over the same file; see `gptlab.servers.with_options`."""
        server = with_options(self.server, **options)
        if server is self.server:
            return self
        other = copy(self)
        other.server, other.identity = server, dict(server.identity)
        return other

    def close(self) -> None:
        """Close the server's connections, if it has any."""
        getattr(self.server, "close", lambda: None)()


class Recorded:
    """A server that knows only what a file of `Cached` holds, and asks nobody.

    Args:
        path: the file.
        server: which server's replies, where it holds several: its kind, such as "ollama", or some items of its
            identity, such as {"options": {...}}.
        model: which model's.

    One model may have been recorded with several settings, or at several addresses; then a question is looked up in all
    of them, and the reply that was recorded last is taken.

    Attributes:
        name: the model's.
        identity: that of the server that was recorded; of several, the last.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file holds something else, nothing of that server, or several models that the arguments fit.
    """

    def __init__(
        self, path: str | Path, *, server: str | Mapping[str, Any] | None = None, model: str | None = None
    ) -> None:
        self.path = Path(path)
        lines = _lines(self.path, _content(self.path))[0]
        wanted = {"kind": server} if isinstance(server, str) else dict(server or {})
        wanted |= {"model": model} if model is not None else {}
        fitting = [line for line in lines if wanted.items() <= line["server"].items()]
        if len({_who(line) for line in fitting}) != 1:
            many, none = "several servers; choose one by server= or model=", f"no replies of {wanted or 'anybody'}"
            there = ", ".join(dict.fromkeys(map(_who, fitting or lines))) or "nothing"
            raise ValueError(f"{path} holds {many if fitting else none}; it has {there}")
        self.identity = fitting[-1]["server"]
        self.name = str(self.identity.get("model", self.identity.get("kind")))
        self._replies = {_canonical(line["messages"]): _reply(line) for line in fitting}

    def __call__(self, messages: Messages) -> Reply:
        """Return the recorded reply.

        Raises:
            ValueError: these are no messages.
            NotRecorded: it is not there.
        """
        messages = check_messages(messages)
        key = _canonical(messages)
        if key not in self._replies:
            raise NotRecorded(
                f"{self.path} holds {len(self._replies)} replies of {self.name}, but none to {question(messages)!r}; "
                "it was recorded with other questions, or not to the end"
            )
        return self._replies[key]

    def close(self) -> None:
        """Nothing is open."""


def key_of(identity: Mapping[str, Any], messages: Messages) -> str:
    """Return the digest by which a question to a server is found again."""
    return hashlib.sha256(_canonical({"server": identity, "messages": messages}).encode()).hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _who(line: Mapping[str, Any]) -> str:
    """Return who gave a reply, in the words by which it is chosen."""
    return f"server={line['server'].get('kind')!r} model={line['server'].get('model')!r}"


def _reply(line: Mapping[str, Any]) -> Reply:
    return Reply(line["reply"], line["reason"])


def _content(path: Path) -> bytes:
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a directory, not a file of replies")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}") from None


def _lines(path: Path, content: bytes) -> tuple[list[dict[str, Any]], int]:
    """Return the lines of a file's content, and how many bytes of it are whole lines.

    Raises:
        ValueError: it holds something else.
    """
    lines, whole = [], 0
    for number, raw in enumerate(content.splitlines(keepends=True), start=1):
        line = _parsed(raw)
        if line is None and raw.strip():
            if whole + len(raw) == len(content) and not raw.endswith(b"\n") and _is_rest(raw):
                break
            raise ValueError(f"{path} is no file of recorded replies: line {number} is {raw[:60]!r}")
        lines += [line] if line else []
        whole += len(raw)
    return lines, whole


def _parsed(raw: bytes) -> dict[str, Any] | None:
    """Return a line of ours, None if it is none."""
    try:
        line = json.loads(raw)
        kinds = {"key": str, "server": dict, "messages": list, "reply": str, "reason": str}
        return line if all(isinstance(line[name], kind) for name, kind in kinds.items()) else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _is_rest(raw: bytes) -> bool:
    """Whether this is the beginning of a line of ours."""
    return raw.startswith(BEGINNING) or BEGINNING.startswith(raw)


def _open_for_writing(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file that can be written to, made if it is missing, and ends with a whole line."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _writing, path.open("a+b", buffering=0) as file:
            file.seek(0)
            content = file.read()
            lines, whole = _lines(path, content)
            if whole < len(content):
                file.truncate(whole)
            elif content and not content.endswith(b"\n"):  # somebody's editor left it out
                file.write(b"\n")
    except OSError as error:
        raise type(error)(f"cannot write to {path}: {error.strerror}") from None
    return lines


def _append(path: Path, line: Mapping[str, Any]) -> None:
    """Write a line; where that fails, as on a full disk, no part of it stays.

    Raises:
        ServerError: it fails.
    """
    try:
        with _writing:
            append_json(path, line)
    except OSError as error:
        raise ServerError(f"cannot write to {path}: {error.strerror or error}", fatal=True) from None
