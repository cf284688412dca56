"""What all servers that are asked over HTTP have in common: limits in time and size, tries, and errors in plain words.

The official clients bound the wait for the next bytes, but neither the whole reply nor its size: a server that sends a
byte a second is never late, and one that never stops fills the memory. So a hook stands between the network and the
client, counts, and looks at the clock.
"""

from __future__ import annotations

import math
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from functools import cache
from typing import Any, ClassVar, TypeVar

from gptlab.servers.addresses import goes_through_proxy, is_local
from gptlab.servers.protocol import Messages, Reply, ServerError, check_messages, reply_checked, too_long
from gptlab.servers.retrying import TryAgain, ask_again, seconds_to_wait

MOST_BYTES = 64 * 2**20  # of one reply; a token costs a few hundred of them on the wire
CONNECT_SECONDS = 10.0
MOST_STOPS = 4  # texts at which a reply ends; OpenAI's API takes no more
MAY_PASS = {408, 409, 425, 429}  # these, and every status from 500 on

RemoteServerType = TypeVar("RemoteServerType", bound="RemoteServer")


class RemoteServer(ABC):
    """A model behind an address; what follows says how it is asked.

    Args:
        model: what the server calls it.
        url: the address, tidy.
        timeout: seconds for a whole reply.
        retries: attempts after the first.
        sleep: waits so many seconds before one.

    Raises:
        ValueError: one of them is not what it should be.
    """

    title: ClassVar[str]  # what people call this kind of server

    def __init__(
        self, model: str, url: str, *, timeout: float, retries: int, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        if not isinstance(model, str) or not model.strip():
            raise ValueError(f"model must be the name of a model, got {model!r}")
        if not _is_number(timeout) or timeout <= 0:
            raise ValueError(f"timeout must be a number of seconds > 0, got {timeout!r}")
        if not _is_whole(retries) or retries < 0:
            raise ValueError(f"retries must be a whole number >= 0, got {retries!r}")
        self.name = self.model = model
        self.url, self.timeout, self.retries, self.sleep = url, timeout, retries, sleep
        self.identity: dict[str, Any] = {}
        self.options: dict[str, Any] = {}
        self._secrets: list[str] = []

    def __call__(self, messages: Messages) -> Reply:
        """Return the reply to the last message.

        Raises:
            ValueError: these are no messages.
            ServerError: there is no whole reply, after as many tries as are allowed.
        """
        messages = check_messages(messages)
        return ask_again(lambda: self._attempt(messages), retries=self.retries, sleep=self.sleep)

    def __repr__(self) -> str:
        """Show what is asked and where, never a key."""
        return f"{type(self).__name__}({self.model!r}, {self.url!r})"

    def __enter__(self) -> RemoteServer:
        """Close the connections when the block ends."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def with_options(self: RemoteServerType, **options: Any) -> RemoteServerType:
        """Return the same server with other options; see `gptlab.servers.with_options`.

        Raises:
            ValueError: there is no such option, or it is out of its range.
        """
        checked = checked_options(**options)
        other = copy(self)
        other._made_from = self  # whose end would close the connections, which both use
        other.options = self.options | {self._own_name(name): value for name, value in checked.items()}
        other.identity = self.identity | {"options": other.options}
        return other

    def _own_name(self, option: str) -> str:
        """Return what this kind of server calls an option."""
        return option

    def close(self) -> None:
        """Close the connections; without this they are closed when the server is forgotten."""
        self._closing()

    def models(self) -> list[str]:
        """Return the names of the models that the server has.

        Raises:
            ServerError: it does not say.
        """
        try:
            return self._names()
        except Exception as error:
            failure = self._in_words(error)
        raise failure  # out here, where no error of the client, with its request and key, hangs on to it

    @abstractmethod
    def _pieces(self, messages: list[dict[str, str]]) -> Iterator[tuple[str, str | None]]:
        """Yield the reply in pieces, the last with why it ended: "stop" or "length"."""

    @abstractmethod
    def _names(self) -> list[str]:
        """Return the names of the models that are there, or raise what the client raises."""

    @abstractmethod
    def _is_missing(self, names: Sequence[str] | None) -> str:
        """Say that the model is not among these; None are unknown."""

    def _attempt(self, messages: list[dict[str, str]]) -> Reply:
        """Ask once."""
        pieces, reason, failure = [], None, None
        try:
            for piece, ended in self._pieces(messages):
                pieces.append(piece)
                reason = ended or reason
        except Exception as error:
            if reason is None or not _comes_from(error, "RequestError"):  # a break after the end does no harm
                failure = self._in_words(error)
        if failure is not None:  # raised out here, as the client's own error holds the request, and with it the key
            raise failure
        if not pieces:
            raise TryAgain(f"what {self.url} sent is no reply of {self.title}")
        text = "".join(pieces)
        if reason is None:
            raise TryAgain(f"the reply from {self.url} broke off after {len(text)} characters")
        return reply_checked(text, reason, who=f"{self.model} at {self.url}")

    # ---- limits

    def _client_options(self) -> dict[str, Any]:
        """Return what the HTTP client under an official one is made with."""
        me = weakref.proxy(self)  # the client must not keep alive whom it is closed with
        hooks = {
            "request": [lambda request: me._start_clock(request)],
            "response": [lambda response: me._watch(response)],
        }
        return {"event_hooks": hooks, "trust_env": not is_local(self.url)}

    def _opened(self, make: Callable[[], Any]) -> Any:
        """Return the client that `make` makes, which is closed with the server, or when nobody knows it any longer."""
        try:
            client = make()
        except (ImportError, ValueError) as error:  # a proxy of a kind that the client cannot use
            client, said = None, str(error)
        if client is None:
            raise ServerError(f"{self.url} cannot be asked: {said}{self._about_proxy()}", fatal=True)
        self._closing = weakref.finalize(self, client.close)
        return client

    def _start_clock(self, request: Any) -> None:
        request.extensions["began"] = time.monotonic()

    def _watch(self, response: Any) -> None:
        deadline = response.request.extensions["began"] + self.timeout
        response.stream = _watched(type(response.stream))(response.stream, deadline, self)

    # ---- errors

    def _late(self) -> TryAgain:
        words = f"{self.url} sent no whole reply in {self.timeout:g} s; a larger timeout waits longer"
        return TryAgain(words, retries=1)  # more would cost as many times the time-out

    def _in_words(self, error: Exception) -> ServerError:
        """Return what a client raised as an error that says what to do; raise it again if it is no such thing."""
        if isinstance(error, ServerError):
            return error
        status = getattr(error, "status_code", None)
        if isinstance(status, int) and status >= 400:
            return self._refused(status, error)
        if _comes_from(error, "ConnectError", "ConnectTimeout", "ProxyError"):
            return TryAgain(self._nobody(_reason(error)) + self._about_proxy(), fatal=True)
        if _comes_from(error, "TimeoutException"):
            return self._late()
        if _comes_from(error, "RequestError", "ResponseError", "APIError"):  # in the middle
            said = self._redacted(_said(error) or _reason(error))
            return TryAgain(f"the reply from {self.url} broke off: {said}")
        if isinstance(error, ValueError | AttributeError | TypeError | KeyError):  # the client could not read it
            said = self._redacted(f"{type(error).__name__}: {error}")
            return TryAgain(f"what {self.url} sent is no reply of {self.title} ({said})")
        raise error

    def _refused(self, status: int, error: Exception) -> ServerError:
        """Return the error about a reply of status 400 or more."""
        said = self._redacted(_said(error) or "without a word of what is wrong")
        answer = f"{self.url} answered {status}: {said}" + self._about_proxy() * (status in (502, 503, 504))
        if status == 404:
            return self._not_found(said)
        if status in (401, 403):
            return ServerError(f"{answer}; {self._about_key()}", fatal=True)
        if status == 402 or "insufficient_quota" in (getattr(error, "code", None), getattr(error, "type", None)):
            return ServerError(f"{answer}; the account has no credit left", fatal=True)
        if status in MAY_PASS or status >= 500:
            return TryAgain(answer, wait=seconds_to_wait(_header(error, "retry-after")))
        return ServerError(answer)

    def _not_found(self, said: str) -> ServerError:
        """Return the error about a model that is not there, or about an address at which something else is."""
        try:
            names = self._names()
        except Exception:  # of any kind: it knows no such question
            names = None
        words = said.lower()
        if names is None and "model" in words and ("not found" in words or "not exist" in words):
            return ServerError(self._is_missing(None), fatal=True)
        if names is None or {self.model, f"{self.model}:latest"} & set(names):
            return ServerError(f"{self.url} answered 404: {said}; {self._about_address()}", fatal=True)
        return ServerError(self._is_missing(names), fatal=True)

    @abstractmethod
    def _nobody(self, reason: str) -> str:
        """Say that nothing answers, and what to do."""

    @abstractmethod
    def _about_key(self) -> str:
        """Say which key was refused."""

    @abstractmethod
    def _about_address(self) -> str:
        """Say what the address should be."""

    def _about_proxy(self) -> str:
        if not goes_through_proxy(self.url):
            return ""
        return (
            "; it was asked through a proxy, which HTTP_PROXY or the system names; NO_PROXY lists what is asked without"
        )

    def _redacted(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        text = " ".join(text.split())
        return text if len(text) <= 300 else f"{text[:300]}..."


def listed(names: Sequence[str] | None, longest: int = 10) -> str:
    """Say which models a server has; None are unknown."""
    if names is None:
        return "it does not say which it has"
    rest = f" and {len(names) - longest} more" if len(names) > longest else ""
    return "it has " + (", ".join(names[:longest]) or "none") + rest


def checked_options(**options: Any) -> dict[str, Any]:
    """Return the options that are not None.

    Raises:
        ValueError: one is not in its range: a number for temperature, top_p and presence_penalty, up to four texts for
            stop, and a whole number for all others.
    """
    for name, value in options.items():
        if value is None:
            continue
        allowed, fits = _ALLOWED.get(name, ("a whole number", _is_whole))
        if not fits(value):
            raise ValueError(f"{name} must be {allowed}, or None, got {value!r}")
    chosen = {name: float(value) if name in _FLOATS else value for name, value in options.items() if value is not None}
    return chosen | ({"stop": list(chosen["stop"])} if "stop" in chosen else {})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_stops(value: Any) -> bool:
    texts = isinstance(value, Sequence) and not isinstance(value, str) and 0 < len(value) <= MOST_STOPS
    return texts and all(isinstance(one, str) and one for one in value)


_FLOATS = ("temperature", "top_p", "presence_penalty")
_ALLOWED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "temperature": ("a number >= 0", lambda value: _is_number(value) and value >= 0),
    "top_p": ("a number in (0, 1]", lambda value: _is_number(value) and 0 < value <= 1),
    "presence_penalty": ("a number in [-2, 2]", lambda value: _is_number(value) and -2 <= value <= 2),
    "stop": (f"a list of 1 to {MOST_STOPS} texts", _are_stops),
}


@cache
def _watched(stream: type) -> type:
    """Return a byte stream with limits, of the family of `stream`: the clients do not use the same HTTP library."""
    family = next(base for base in stream.__mro__ if base.__name__ == "SyncByteStream")
    return type("Watched", (_Watched, family), {})


class _Watched:
    """The bytes of a response, until there are too many or it is too late.

    When the client stops at OpenAI's end mark, what is left is read, so that the connection can be used again.
    """

    def __init__(self, stream: Any, deadline: float, server: RemoteServer) -> None:
        self._stream, self._deadline, self._server = stream, deadline, server
        self._chunks, self._end = None, b""

    def __iter__(self) -> Iterator[bytes]:
        size, self._chunks = 0, iter(self._stream)
        for chunk in self._chunks:
            size += len(chunk)
            if size > MOST_BYTES:
                raise too_long(self._server.url)
            if time.monotonic() > self._deadline:
                raise self._server._late()
            self._end = chunk[-20:]
            yield chunk
        self._end = b""

    def close(self) -> None:
        try:
            if self._end.strip().endswith(b"data: [DONE]"):
                next(self._chunks, None)
        finally:
            self._stream.close()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, the one that it was raised from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _comes_from(error: BaseException, *names: str) -> bool:
    """Whether an error, or one that it was raised from, is of a class of such a name, in whichever library."""
    return any(base.__name__ in names for one in _chain(error) for base in type(one).__mro__)


def _reason(error: BaseException) -> str:
    """Return what the first of a chain of errors says."""
    *_, first = _chain(error)
    return str(first) or type(first).__name__


def _header(error: BaseException, name: str) -> str | None:
    """Return a header of the response that an error is about."""
    responses = (one.response for one in _chain(error) if getattr(one, "response", None) is not None)
    return next((response.headers.get(name) for response in responses), None)


def _said(error: Exception) -> str:
    """Return what the server said, out of the several places where the clients put it; "" if it said nothing."""
    said = getattr(error, "body", None) or getattr(error, "error", None) or ""
    if isinstance(said, Mapping):
        said = said.get("message") or said
    return str(said)
