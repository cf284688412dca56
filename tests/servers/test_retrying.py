import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from gptlab.servers import ServerError
from gptlab.servers.retrying import TryAgain, ask_again, seconds_to_wait


def failing(*failures):
    """Return an attempt that fails so often and then says "85"."""
    waiting = list(failures)

    def attempt():
        if waiting:
            raise waiting.pop(0)
        return "85"

    return attempt


def test_waits_double_and_a_little_more_by_chance(naps):
    assert ask_again(failing(*[TryAgain("busy")] * 5), retries=5, sleep=naps.append) == "85"
    for nap, least in zip(naps, [0.5, 1, 2, 4, 8], strict=True):
        assert least <= nap <= 1.25 * least


def test_asking_leaves_the_random_state_as_it_was(naps):
    random.seed(0)
    before = random.getstate()
    ask_again(failing(TryAgain("busy")), retries=1, sleep=naps.append)
    assert random.getstate() == before


def test_after_the_last_try_it_tells_how_many_there_were(naps):
    with pytest.raises(ServerError, match=r"^busy \(asked 3 times\)$") as caught:
        ask_again(failing(*[TryAgain("busy", fatal=True)] * 9), retries=2, sleep=naps.append)
    assert caught.value.fatal
    assert caught.value.passing
    assert len(naps) == 2
    assert not isinstance(caught.value, TryAgain)


def test_a_failure_may_be_worth_fewer_tries(naps):
    with pytest.raises(ServerError, match="asked 2 times"):
        ask_again(failing(*[TryAgain("late", retries=1)] * 9), retries=5, sleep=naps.append)
    with pytest.raises(ServerError, match=r"^late$"):
        ask_again(failing(TryAgain("late", retries=1)), retries=0, sleep=naps.append)


@pytest.mark.parametrize("error", [ServerError("no such model"), ValueError("no"), KeyboardInterrupt()])
def test_other_errors_go_up_at_once(naps, error):
    with pytest.raises(type(error)):
        ask_again(failing(error), retries=5, sleep=naps.append)
    assert naps == []


def test_a_server_is_not_asked_before_it_wants_to_be(naps):
    ask_again(failing(TryAgain("busy", wait=30)), retries=1, sleep=naps.append)
    assert 30 <= naps[0] <= 37.5


def test_a_wait_that_is_too_long_is_a_failure(naps):
    with pytest.raises(ServerError, match="busy; it wants to be left alone for 61 s"):
        ask_again(failing(TryAgain("busy", wait=61)), retries=1, sleep=naps.append)
    assert naps == []


def test_however_many_tries_are_allowed_no_wait_is_longer_than_a_minute(naps):
    with pytest.raises(ServerError, match="asked 51 times"):
        ask_again(failing(*[TryAgain("busy")] * 99), retries=50, sleep=naps.append)
    assert max(naps) <= 75


@pytest.mark.parametrize(("header", "seconds"), [(None, None), ("3", 3), ("0.5", 0.5), ("-2", 0), ("soon", None)])
def test_how_long_a_server_wants_to_be_left_alone(header, seconds):
    assert seconds_to_wait(header) == seconds


@pytest.mark.parametrize("header", ["inf", "nan", "", "Wed, 99 Foo 2024"])
def test_what_says_nothing_about_waiting(header):
    assert seconds_to_wait(header) is None


def test_a_date_until_which_to_wait():
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    assert 17 < seconds_to_wait(later) <= 20
    assert seconds_to_wait("Wed, 21 Oct 2015 07:28:00 GMT") == 0
