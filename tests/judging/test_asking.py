"""Many questions, several at a time: order, failures in their places, and three ways to end early."""

import os
import queue
import random
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from gptlab.judging.asking import Answer, ask_all, prepared
from gptlab.servers import Cached, Reply, Scripted, ServerError

QUESTIONS = [[{"role": "user", "content": str(number)}] for number in range(40)]
ANSWERS = [Answer(f"to {number}") for number in range(40)]


def answer(messages):
    return f"to {messages[-1]['content']}"


def failing_at(numbers, error):
    def judge(messages):
        if int(messages[-1]["content"]) in numbers:
            raise error
        return answer(messages)

    return judge


@pytest.mark.parametrize("workers", [1, 3, 100])
def test_answers_come_in_the_order_of_the_questions(workers):
    def judge(messages):
        time.sleep(random.Random(messages[-1]["content"]).random() / 100)
        return answer(messages)

    assert ask_all(judge, QUESTIONS, workers=workers) == ANSWERS
    assert ask_all(judge, [], workers=workers) == []


def test_so_many_questions_are_asked_at_the_same_time():
    together, lock = threading.Barrier(4), threading.Lock()
    now, most = 0, 0

    def judge(messages):
        nonlocal now, most
        with lock:
            now, most = now + 1, max(most, now + 1)
        together.wait(timeout=20)  # broken unless four are asked at once
        with lock:
            now -= 1
        return answer(messages)

    assert ask_all(judge, QUESTIONS, workers=4) == ANSWERS
    assert most == 4


@pytest.mark.parametrize("workers", [1, 4])
def test_a_failure_stays_in_its_place_with_its_reason(workers):
    answers = ask_all(failing_at({3, 17}, ServerError("no reply within 120 s")), QUESTIONS, workers=workers)
    for number in (3, 17):
        assert answers[number] == Answer(None, "no reply within 120 s")
        answers[number] = ANSWERS[number]
    assert answers == ANSWERS


def test_errors_of_plain_functions_are_told_with_their_type():
    assert ask_all(failing_at({0}, KeyError("choices")), QUESTIONS[:2])[0] == Answer(None, "KeyError: 'choices'")
    no_text = ask_all(lambda messages: {"0": "fine"}.get(messages[-1]["content"]), QUESTIONS[:2])
    assert no_text[1] == Answer(None, "TypeError: the judge must return text, got None")


def test_a_fatal_error_ends_the_asking():
    judge = Scripted(["one", ServerError("nothing answers at http://x", fatal=True)])
    answers = ask_all(judge, QUESTIONS[:5])
    assert answers[0].text == "one"
    assert answers[1].error == "nothing answers at http://x"
    assert answers[2:] == [Answer(None, "not asked: nothing answers at http://x")] * 3
    assert judge.calls == 2


def test_with_more_workers_a_fatal_error_ends_it_soon():
    calls = []

    def judge(messages):
        calls.append(messages)
        if len(calls) > 4:
            raise ServerError("gone", fatal=True)
        return "fine"

    answers = ask_all(judge, QUESTIONS, workers=4)
    assert len(calls) < 12
    assert sum(answer.error is None for answer in answers) == 4
    assert {answer.error for answer in answers} == {None, "gone", "not asked: gone"}


def test_patience_ends_after_failures_in_a_row():
    bad = {0, 1, 3, 4, *range(10, 40)}
    judge = failing_at(bad, failure("busy", passing=True))
    answers = ask_all(judge, QUESTIONS, patience=3)
    assert [number for number, one in enumerate(answers) if one.error == "busy"] == [0, 1, 3, 4, 10, 11, 12]
    assert {one.error for one in answers[13:]} == {"not asked: 3 questions in a row failed, the last by: busy"}


@pytest.mark.parametrize("workers", [1, 4])
def test_when_nothing_was_answered_the_first_error_is_raised(workers):
    errors = [ServerError(f"error {number}") for number in range(40)]
    with pytest.raises(ServerError, match="^error [0-3]\n") as raised:
        ask_all(Scripted(errors), QUESTIONS, workers=workers)
    assert re.fullmatch(r"question [1-4] of 40 was the first that failed", *raised.value.__notes__)
    answers = ask_all(Scripted(errors), QUESTIONS, workers=workers, need_one=False)
    assert all(one.error for one in answers)


@pytest.mark.skipif(os.name == "nt", reason="a signal for one thread")
@pytest.mark.parametrize("workers", [1, 4])
def test_ctrl_c_goes_up_at_once_and_nothing_more_is_asked(workers):
    asked, hanging = queue.SimpleQueue(), threading.Event()

    def judge(messages):
        asked.put(messages)
        hanging.wait(60)
        return "late"

    def press():
        while asked.qsize() < workers:
            time.sleep(0.01)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        ask_all(judge, QUESTIONS, workers=workers)
    assert time.monotonic() - began < 30
    hanging.set()
    time.sleep(0.2)  # the threads that hung could take another question now
    assert asked.qsize() == workers


def test_ctrl_c_inside_a_judge_is_the_callers():
    with pytest.raises(KeyboardInterrupt):
        ask_all(failing_at({5}, KeyboardInterrupt()), QUESTIONS, workers=3)


@pytest.mark.skipif(os.name == "nt", reason="a signal for one process")
def test_after_ctrl_c_a_program_does_not_wait_for_slow_replies():
    program = (
        "import os, signal, threading, time\n"
        "from gptlab.judging.asking import ask_all\n"
        "threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "ask_all(lambda messages: time.sleep(600), [[]] * 9, workers=3)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert ended.returncode != 0
    assert "KeyboardInterrupt" in ended.stderr


@pytest.mark.parametrize("workers", [1, 3])
def test_the_bar_is_shown_on_request(workers, capsys):
    ask_all(answer, QUESTIONS, workers=workers)
    assert capsys.readouterr() == ("", "")
    ask_all(answer, QUESTIONS, workers=workers, progress=True, title="scoring")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "scoring" in shown.err
    assert "40/40" in shown.err


@pytest.mark.parametrize("count", [0, -1, 2.0, True, None])
def test_settings_out_of_range(count):
    with pytest.raises(ValueError, match=f"workers must be a whole number >= 1, got {count}"):
        ask_all(answer, QUESTIONS, workers=count)
    with pytest.raises(ValueError, match=f"patience must be a whole number >= 1, got {count}"):
        ask_all(answer, QUESTIONS, patience=count)


def test_a_reply_knows_that_it_was_cut_short():
    assert Answer(Reply("8", "length")).cut_short
    assert not Answer(Reply("85")).cut_short
    assert not Answer("85").cut_short


def test_a_judge_has_a_name_and_may_have_a_cache(tmp_path):
    judge = Scripted(["85"], name="phi3")
    assert prepared(judge, None) == (judge, "phi3")
    assert prepared(answer, None) == (answer, "answer")
    cached, name = prepared(judge, tmp_path / "replies.jsonl")
    assert isinstance(cached, Cached)
    assert name == "phi3"


def test_judges_that_are_none(tmp_path):
    with pytest.raises(TypeError, match="the judge must be a server or a function .* got 'phi3'"):
        prepared("phi3", None)


def test_a_cache_knows_a_plain_function_by_its_name(tmp_path):
    cached, name = prepared(answer, tmp_path / "replies.jsonl")
    assert name == "answer"
    assert cached.identity["model"] == "answer"


def failure(text, *, passing):
    """A failure that may pass, or one that lies with its question."""
    error = ServerError(text)
    error.passing = passing
    return error


def test_questions_that_cannot_be_answered_do_not_end_the_asking():
    errors = [failure(f"too long {number}", passing=False) for number in range(25)]
    answers = ask_all(Scripted([*errors, *["85"] * 15]), QUESTIONS)
    assert [one.text for one in answers] == [None] * 25 + ["85"] * 15
    gone = [failure("away", passing=True) for _ in range(9)]
    between = [*gone, failure("too long", passing=False), *gone]
    answers = ask_all(Scripted([*between, *["85"] * 21]), QUESTIONS, need_one=False)
    assert answers[11].error.startswith("not asked: 10 questions in a row failed")
