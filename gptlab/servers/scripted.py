"""A server that says what it was told to say, for tests and for lessons."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gptlab.servers.protocol import Messages, Reply, ServerError, check_messages, question, reply_checked


class Scripted:
    """Replies from a list, in order, or from what the last message says.

    Args:
        replies: a list of replies; or a mapping, or a function, from the text of the last message to its reply. An
            exception in the place of a reply is raised.
        name: what reports call it.

    Attributes:
        calls: how often it was asked.
        asked: the messages of every call.

    Raises:
        TypeError: the replies are none of these.

    >>> judge = Scripted(["85", "20"])
    >>> judge([{"role": "user", "content": "How good is it?"}]), judge.calls
    ('85', 1)
    """

    def __init__(
        self,
        replies: Sequence[str | BaseException] | Mapping[str, str | BaseException] | Callable[[str], Any],
        *,
        name: str = "scripted",
    ) -> None:
        listed = isinstance(replies, Sequence) and not isinstance(replies, str)
        if not (listed or isinstance(replies, Mapping) or callable(replies)):
            raise TypeError(f"replies must be a list, a mapping or a function, got {replies!r:.80}")
        self.name, self.replies = name, replies
        self.identity = {"kind": "scripted", "model": name}
        self.asked: list[list[dict[str, str]]] = []
        self._lock = threading.Lock()

    @property
    def calls(self) -> int:
        """How often it was asked."""
        return len(self.asked)

    def __call__(self, messages: Messages) -> Reply:
        """Return the next reply, or the one to the last message.

        Raises:
            ValueError: these are no messages.
            ServerError: there is no reply left, which is fatal, or none to this message, which is not.
        """
        messages = check_messages(messages)
        with self._lock:
            self.asked.append(messages)
            number = len(self.asked)
        reply = self._reply(messages, number)
        if isinstance(reply, BaseException):
            raise reply
        return reply_checked(reply, who=self.name)

    def _reply(self, messages: list[dict[str, str]], number: int) -> Any:
        if callable(self.replies):
            return self.replies(messages[-1]["content"])
        if isinstance(self.replies, Mapping):
            if messages[-1]["content"] not in self.replies:
                raise ServerError(f"{self.name} has no reply to {question(messages)!r}")
            return self.replies[messages[-1]["content"]]
        if number > len(self.replies):
            raise ServerError(f"{self.name} has {len(self.replies)} replies and was asked once more", fatal=True)
        return self.replies[number - 1]
