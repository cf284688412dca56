"""Asking again after a failure that may pass, a little later each time.

The waits double, and each is up to a quarter longer by chance, so that eight workers that failed together do not come
back together. Where a server says how long to wait (Retry-After), it is not asked before.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar

from gptlab.servers.protocol import ServerError

FIRST_WAIT = 0.5  # seconds
LONGEST_WAIT = 60.0  # a server that wants more than that is not waited for
Answer = TypeVar("Answer")

_chance = random.Random()  # its own, so that asking a judge leaves the random state of a training as it was


class TryAgain(ServerError):
    """A failure that may pass.

    Attributes:
        wait: the seconds that the server asked to be left alone.
        retries: the most that are worth their time, whatever was allowed; None is no opinion.
    """

    def __init__(
        self, message: str, *, fatal: bool = False, wait: float | None = None, retries: int | None = None
    ) -> None:
        super().__init__(message, fatal=fatal, passing=True)
        self.wait, self.retries = wait, retries


def ask_again(attempt: Callable[[], Answer], *, retries: int, sleep: Callable[[float], object] = time.sleep) -> Answer:
    """Return what `attempt` returns, after as many more attempts as it takes and as are allowed.

    Args:
        attempt: raises TryAgain where another attempt may help; any other error goes up at once.
        retries: the most attempts after the first.
        sleep: waits so many seconds.

    Raises:
        ServerError: the last attempt failed as well; it says how many there were.
    """
    for tries in range(1, retries + 2):
        try:
            return attempt()
        except TryAgain as error:
            failure = error
        allowed = retries if failure.retries is None else min(retries, failure.retries)
        wanted = failure.wait or 0.0
        if tries > allowed or wanted > LONGEST_WAIT:
            break
        sleep(max(wanted, min(FIRST_WAIT * 2 ** (tries - 1), LONGEST_WAIT)) * _chance.uniform(1, 1.25))
    asked = f" (asked {tries} times)" if tries > 1 else ""
    late = f"; it wants to be left alone for {wanted:.0f} s" if wanted > LONGEST_WAIT else ""
    raise ServerError(f"{failure}{asked}{late}", fatal=failure.fatal, passing=True) from None


def seconds_to_wait(retry_after: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for; None if it says nothing that can be understood.

    Source: RFC 9110, 10.2.3: a number of seconds, or a date.

    >>> seconds_to_wait("2"), seconds_to_wait("soon")
    (2.0, None)
    """
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            when = parsedate_to_datetime(retry_after)
        except ValueError:
            return None
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        seconds = (when - datetime.now(UTC)).total_seconds()
    return max(seconds, 0.0) if math.isfinite(seconds) else None
