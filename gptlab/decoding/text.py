"""Text as it is written: never half a character, and an end where a stop string appears."""

from __future__ import annotations

import codecs
from collections.abc import Generator, Iterator, Sequence
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class Streamed(Generic[Result]):
    """The pieces of a text to go through, and, when they are over, what their generator returned.

    >>> def generator():
    ...     yield "In "
    ...     yield "Fenn."
    ...     return "stop"
    >>> pieces = Streamed(generator())
    >>> "".join(pieces), pieces.result
    ('In Fenn.', 'stop')
    """

    def __init__(self, pieces: Generator[str, None, Result]) -> None:
        self._pieces = pieces
        self.result: Result | None = None

    def __iter__(self) -> Iterator[str]:
        self.result = yield from self._pieces


class TextWriter:
    """Turns one row's tokens into text, and watches for stop strings.

    A byte-level token may hold a part of a character, and a stop string may begin in one token and end in another. So
    the last piece of the text is held back while it could still become either.

    Args:
        tokenizer: any with `decode`; one with `decode_single_token_bytes`, as tiktoken's, is read byte by byte.
        stop: strings that end the text, and are not part of it.

    Attributes:
        text: all that is certain, without the part that is held back.
        stopped: whether a stop string came.
        kept: how many tokens lie before the stop string, counting none that holds a part of it; None until it comes.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        self.text, self.stopped, self.kept = "", False, None
        self._stop = tuple(stop)
        self._bytes_of = getattr(tokenizer, "decode_single_token_bytes", None)
        self._decode_all = tokenizer.decode
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._ids: list[int] = []
        self._held = ""  # decoded, but perhaps the beginning of a stop string
        self._ends: list[int] = []  # for each token, the length of the text after it

    def write(self, token: int) -> str:
        """Take the next token and return the text that has become certain, often none."""
        self._ids.append(token)
        piece, unfinished = self._decoded(token)
        self._held += piece
        self._ends.append(len(self.text) + len(self._held) + unfinished)  # half a character belongs to what follows
        found = self._first_stop()
        if found is not None:
            self.stopped = True
            self.kept = sum(end <= len(self.text) + found for end in self._ends)
            self._held = self._held[:found]
            return self._let_go(len(self._held))
        return self._let_go(len(self._held) - self._could_begin_a_stop())

    def finish(self) -> str:
        """Return what was held back: no more tokens come."""
        if not self.stopped:
            self._held += self._rest()
        return self._let_go(len(self._held))

    def _let_go(self, count: int) -> str:
        certain, self._held = self._held[:count], self._held[count:]
        self.text += certain
        return certain

    def _decoded(self, token: int) -> tuple[str, bool]:
        """Return the new characters, and whether the token ends inside one."""
        if self._bytes_of is not None:
            return self._utf8.decode(self._bytes_of(token)), bool(self._utf8.getstate()[0])
        whole = self._decode_all(self._ids)
        unfinished = whole.endswith("\ufffd")
        return "" if unfinished else whole[len(self.text) + len(self._held) :], unfinished

    def _rest(self) -> str:
        if self._bytes_of is not None:
            return self._utf8.decode(b"", final=True)
        return self._decode_all(self._ids)[len(self.text) + len(self._held) :]

    def _first_stop(self) -> int | None:
        places = [place for place in map(self._held.find, self._stop) if place >= 0]
        return min(places, default=None)

    def _could_begin_a_stop(self) -> int:
        """Return how many characters at the end are the beginning of a stop string."""
        longest = max(map(len, self._stop), default=1) - 1
        for count in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-count:]) for stop in self._stop):
                return count
        return 0
