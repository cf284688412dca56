"""A bound on what a run may ask: so many calls, or so much money.

A run that builds data asks until it has enough, and a model that answers nonsense would be asked for ever. The bound
stands between the run and the server, so that no loop has to remember it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

from gptlab.servers.protocol import Messages, Reply, Server, ServerError, check_messages, reply_checked, with_options

BYTES_PER_TOKEN = 4  # of UTF-8, for English and, roughly, for Chinese, whose characters take three bytes each
PRICES_ARE_PER = 1_000_000  # tokens


class BudgetSpent(ServerError):
    """The next call would go beyond the bound, and was not made."""

    def __init__(self, message: str) -> None:
        super().__init__(message, fatal=True)


class Bounded:
    """A server that may be asked only so much.

    A call counts also when it fails, and counts once, however often a server tries (its `retries`). What one costs is
    known only when its reply is there, so the last one may go beyond the bound, by the price of that reply; with
    several threads, one reply of each. Put a cache around this, and not this around a cache: then what the file holds
    costs nothing.

    Args:
        server: a server, or a function from messages to text.
        calls: how many are allowed; None any number.
        cost: how much may be spent, in the currency of `price`; None any sum.
        price: of a million tokens of question, and of reply.
        count_tokens: returns how many tokens a text has. By default a token is taken to be four bytes, which may be
            wrong by a third; what the maker bills is what counts.

    Attributes:
        name: the server's.
        identity: the server's.
        calls: how many were made.
        spent: what they cost, as estimated.

    Raises:
        ValueError: a bound is negative or none, a price is negative, or a cost is given without a price.

    >>> from gptlab.servers import Scripted
    >>> bounded = Bounded(Scripted(lambda asked: "Yes."), calls=1)
    >>> bounded([{"role": "user", "content": "Again?"}]), bounded.calls
    ('Yes.', 1)
    """

    def __init__(
        self,
        server: Server | Callable[[Messages], str],
        *,
        calls: int | None = None,
        cost: float | None = None,
        price: tuple[float, float] = (0.0, 0.0),
        count_tokens: Callable[[str], int] | None = None,
    ) -> None:
        if calls is not None and (not isinstance(calls, int) or isinstance(calls, bool) or calls < 0):
            raise ValueError(f"calls must be a whole number >= 0, or None, got {calls!r}")
        if not isinstance(price, Sequence) or len(price) != 2 or not all(_is_sum(one) for one in price):
            raise ValueError(f"price must be two numbers >= 0, per million tokens of question and reply, got {price!r}")
        if cost is not None and not _is_sum(cost):
            raise ValueError(f"cost must be a number >= 0, or None, got {cost!r}")
        if cost is not None and not any(price):
            raise ValueError(f"a cost of {cost} needs a price: of a million tokens of question and of reply")
        self.server, self.price = server, tuple(price)
        self.most_calls, self.most_cost = calls, cost
        self.name = getattr(server, "name", "server")
        self._count_tokens = count_tokens or _estimate
        self._account = {"calls": 0, "spent": 0.0}  # one for all that `with_options` makes of this
        self._lock = threading.Lock()

    @property
    def identity(self) -> dict[str, Any]:
        """The server's: a bound changes no reply."""
        return self.server.identity

    @property
    def calls(self) -> int:
        """How many calls were made."""
        return self._account["calls"]

    @property
    def spent(self) -> float:
        """What they cost, as estimated."""
        return self._account["spent"]

    def __call__(self, messages: Messages) -> Reply:
        """Return the server's reply.

        Raises:
            ValueError: these are no messages.
            BudgetSpent: this call would go beyond the bound.
            ServerError: there is no whole reply.
        """
        messages = check_messages(messages)
        asked = self._price(0, *(message["content"] for message in messages))
        with self._lock:
            if self.most_calls is not None and self.calls >= self.most_calls:
                raise BudgetSpent(f"{self.name} was asked {self.calls} times, which is the bound")
            if self.most_cost is not None and (self.spent >= self.most_cost or self.spent + asked > self.most_cost):
                raise BudgetSpent(f"{self.spent:.4g} of {self.most_cost:g} is spent; the next call would go beyond it")
            self._account["calls"] += 1
            self._account["spent"] += asked
        reply = reply_checked(self.server(messages), who=self.name)
        with self._lock:
            self._account["spent"] += self._price(1, reply)
        return reply

    def with_options(self, **options: Any) -> Bounded:
        """Return the same server with other options and the same account; see `gptlab.servers.with_options`."""
        server = with_options(self.server, **options)
        if server is self.server:
            return self
        other = copy(self)
        other.server = server
        return other

    def close(self) -> None:
        """Close the server's connections, if it has any."""
        getattr(self.server, "close", lambda: None)()

    def _price(self, side: int, *texts: str) -> float:
        """Return what texts cost: 0 is the question's side, 1 the reply's."""
        return self.price[side] * sum(map(self._count_tokens, texts)) / PRICES_ARE_PER if self.price[side] else 0.0


def _estimate(text: str) -> int:
    return math.ceil(len(text.encode()) / BYTES_PER_TOKEN)


def _is_sum(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
