"""What every server is: a callable from messages to a reply, with a name, an identity, and one kind of error.

A plain function from messages to text is a server too, but for what needs an identity, such as a cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

ROLES = ("system", "user", "assistant")
LONGEST_REPLY = 1_000_000  # characters; a judge that writes more has lost its way

Messages = Sequence[Mapping[str, str]]


class Reply(str):
    """The text of a reply, as the model wrote it, which also knows how it ended.

    Attributes:
        reason: "stop" if the model ended it, "length" if it was cut short.

    >>> Reply("85") == "85", Reply("85").reason
    (True, 'stop')
    """

    reason: Literal["stop", "length"]

    def __new__(cls, text: str, reason: Literal["stop", "length"] = "stop") -> Reply:
        """Make a reply of its text and how it ended."""
        reply = super().__new__(cls, text)
        reply.reason = reason
        return reply


class ServerError(OSError):
    """There is no reply, or no whole one.

    Attributes:
        fatal: whether asking this server for something else is pointless, as when nothing listens there.
        passing: whether the same question may be answered later, as after a time-out or when the server is busy.
    """

    def __init__(self, message: str, *, fatal: bool = False, passing: bool = False) -> None:
        super().__init__(message)
        self.fatal, self.passing = fatal, passing


@runtime_checkable
class Server(Protocol):
    """A language model that can be asked.

    Attributes:
        name: what reports call it, such as "phi3".
        identity: all that decides what it replies, JSON-able: kind, model, address, options; no key, no time-out.
    """

    name: str
    identity: dict[str, Any]

    def __call__(self, messages: Messages) -> Reply:
        """Return the reply to the last message.

        Raises:
            ValueError: these are no messages; see `check_messages`.
            ServerError: there is no whole reply.
        """
        ...


OPTIONS = ("temperature", "top_p", "presence_penalty", "max_tokens", "stop", "seed")


def with_options(server: Any, **options: Any) -> Any:
    """Return the same server with other options, in its own words; the one that was given stays as it is.

    Servers that know no options, such as a script, a recorded file or a function, are returned as they are: with them
    the options decide nothing.

    Args:
        server: a server, or any function from messages to text.
        options: temperature (0 takes the most likely token), top_p, presence_penalty, max_tokens (of the reply), stop
            (a list of up to four texts at which a reply ends), seed. None says nothing about one.

    Raises:
        ValueError: there is no such option, or it is out of its range.
    """
    unknown = [name for name in options if name not in OPTIONS]
    if unknown:
        raise ValueError(f"no option is called {unknown[0]!r}; there are {', '.join(OPTIONS)}")
    change = getattr(server, "with_options", None)
    return server if change is None else change(**options)


def check_messages(messages: Messages) -> list[dict[str, str]]:
    """Return the messages as plain dictionaries, each with role and content alone.

    Raises:
        ValueError: there are none, one is none or holds what UTF-8 cannot write, or the last is not the user's.
    """
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence) or not messages:
        raise ValueError(f"messages must be a list of at least one message, got {messages!r:.80}")
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping) or message.get("role") not in ROLES:
            raise ValueError(f"message {number} must have a role, one of {', '.join(ROLES)}, got {message!r:.80}")
        content = message.get("content")
        if not isinstance(content, str):
            raise ValueError(f"the content of message {number} must be text, got {content!r:.80}")
        try:
            content.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError(f"message {number}: UTF-8 cannot write {content[error.start]!r}") from None
    if messages[-1]["role"] != "user" or not messages[-1]["content"].strip():
        raise ValueError(f"the last message must be the user's, and not empty, got {messages[-1]!r:.80}")
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def question(messages: Messages, longest: int = 80) -> str:
    """Return how the last message begins, on one line, by which an error names what was asked.

    What stands before an Alpaca instruction is the same in all of them, and left out.
    """
    content = messages[-1]["content"]
    text = " ".join((content.partition("### Instruction:")[2] or content).split())
    return text if len(text) <= longest else f"{text[:longest]}..."


def reply_checked(text: Any, reason: Literal["stop", "length"] = "stop", *, who: str) -> Reply:
    """Return what a server said as a Reply.

    Args:
        text: what it said; a Reply keeps its reason.
        reason: how it ended.
        who: the server, for the errors.

    Raises:
        TypeError: it is no text.
        ServerError: it is empty, longer than any reply, or holds what UTF-8 cannot write.
    """
    if not isinstance(text, str):
        raise TypeError(f"{who} must reply with text, got {text!r:.80}")
    if not text.strip():
        cut = "; it was cut short before it said anything, so allow more tokens" if reason == "length" else ""
        raise ServerError(f"{who} sent an empty reply{cut}")
    if len(text) > LONGEST_REPLY:
        raise too_long(who)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:  # half of a character, escaped in JSON
        raise ServerError(f"{who} sent a reply that is no text: UTF-8 cannot write {text[error.start]!r}") from None
    return text if isinstance(text, Reply) else Reply(text, reason)


def too_long(who: str) -> ServerError:
    """Return the error about a reply without end."""
    return ServerError(f"{who} sent a reply of more than {LONGEST_REPLY:,} characters; it was given up")
