"""Ask a judge many questions, several at a time, and lose none of the answers.

A question that fails stays in its place with the reason, and the others go on. Three things end the asking before its
time: an error that says that further questions are pointless (nothing listens there), many failures in a row that are
not of the questions' making (the server has gone away without saying so), and Ctrl-C. What was answered by then is
kept, by the caller or in a cache.

The threads are daemons and not those of `concurrent.futures`: Python waits at its end for the latter, so that after
Ctrl-C a program would sit there until the slowest reply has come. One worker needs no thread at all.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from tqdm import tqdm

from gptlab.judging.prompts import Messages
from gptlab.servers import Cached

Judge = Callable[[Messages], str]

PATIENCE = 10  # failures in a row of the kind that may pass
LOOK_UP_SECONDS = 0.2  # Windows does not hear Ctrl-C inside a wait, so the wait is cut into pieces


@dataclass(frozen=True)
class Answer:
    """What became of one question: a text, or the reason why there is none."""

    text: str | None
    error: str | None = None

    @property
    def cut_short(self) -> bool:
        """Whether the server says that the text was not written to its end."""
        return getattr(self.text, "reason", "stop") == "length"


@dataclass(frozen=True)
class Report:
    """What became of all entries: what reports of every kind count.

    Attributes:
        results: one for each entry, in order; each with a status, and with an error if that is "failed".
        judge: who was asked; numbers of different judges cannot be compared.
    """

    results: tuple[Any, ...]
    judge: str

    @property
    def n_total(self) -> int:
        """How many entries there are."""
        return len(self.results)

    @property
    def n_unparsed(self) -> int:
        """Of how many the judge said something in which nothing could be read."""
        return self._count("unparsed")

    @property
    def n_failed(self) -> int:
        """At how many the server failed, or was not asked any more."""
        return self._count("failed")

    @property
    def _first_error(self) -> str | None:
        return next((result.error for result in self.results if result.error), None)

    def _count(self, status: str) -> int:
        return sum(result.status == status for result in self.results)

    def summary(self) -> dict[str, Any]:
        """Return the numbers alone, as JSON can hold them."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers and the results, as JSON can hold them."""
        return {"summary": self.summary(), "results": [result.to_dict() for result in self.results]}


@dataclass(frozen=True)
class ScoredReport(Report):
    """A report whose results have a score each, None where there is none."""

    @property
    def scores(self) -> list[Any]:
        """One for each entry, in order; None where there is none."""
        return [result.score for result in self.results]

    @property
    def n_scored(self) -> int:
        """How many have a score."""
        return self._count("scored")

    @property
    def mean(self) -> float | None:
        """The mean over the entries that have a score; None if there are none."""
        return fmean(self._found) if self._found else None

    @property
    def _found(self) -> list[Any]:
        return [score for score in self.scores if score is not None]


def ask_all(
    judge: Judge,
    questions: Sequence[Messages],
    *,
    workers: int = 1,
    progress: bool = False,
    title: str = "asking",
    patience: int = PATIENCE,
    need_one: bool = True,
) -> list[Answer]:
    """Return the judge's answers in the order of the questions.

    Args:
        judge: a server, or any function from messages to text; with more workers it is called by several threads.
        questions: messages, as for `gptlab.servers`.
        workers: how many questions are asked at the same time.
        progress: whether to show a bar.
        title: of the bar.
        patience: after so many failures in a row the rest is not asked, which is their error then. A failure that lies
            with its question, such as one that is longer than the judge's context, counts neither way.
        need_one: whether it is an error when there are questions and none was answered.

    Raises:
        ValueError: workers or patience is no whole number >= 1.
        Exception: no question was answered, and this was the first reason.
    """
    for name, count in (("workers", workers), ("patience", patience)):
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ValueError(f"{name} must be a whole number >= 1, got {count!r}")
    asking = _Asking(judge, questions, patience)
    try:
        with tqdm(total=len(questions), desc=title, disable=not progress) as bar:
            if workers == 1:
                while asking.ask_next():
                    bar.update()
            else:
                _in_threads(asking, min(workers, len(questions)), bar.update)
    except BaseException:
        asking.ended = "interrupted"  # for threads that still run
        raise
    if need_one and asking.first_error and not any(answer and answer.error is None for answer in asking.answers):
        asking.first_error.add_note(f"question {asking.first_failed + 1} of {len(questions)} was the first that failed")
        raise asking.first_error
    return [answer or Answer(None, f"not asked: {asking.ended}") for answer in asking.answers]


def prepared(judge: Any, cache: str | Path | None) -> tuple[Judge, str]:
    """Return what is to be asked, `judge` or a cache before it, and the judge's name for reports.

    A cache tells the replies of plain functions by their names: after changing one, take another file.

    Raises:
        TypeError: the judge cannot be called.
        OSError: the cache cannot be read or written.
    """
    if not callable(judge):
        raise TypeError(f"the judge must be a server or a function from messages to text, got {judge!r:.80}")
    name = str(getattr(judge, "name", None) or getattr(judge, "__qualname__", None) or type(judge).__qualname__)
    return (judge if cache is None else Cached(judge, cache, name=name)), name


class _Asking:
    """The questions, what became of them so far, and whether to go on; shared by the threads."""

    def __init__(self, judge: Judge, questions: Sequence[Messages], patience: int) -> None:
        self.judge, self.questions, self.patience = judge, questions, patience
        self.answers: list[Answer | None] = [None] * len(questions)
        self.first_error: Exception | None = None
        self.first_failed = 0
        self.ended: str | None = None
        self._taken, self._failures_in_a_row = 0, 0
        self._lock = threading.Lock()

    def ask_next(self) -> bool:
        """Ask the next question; False if there is none, or the asking has ended."""
        with self._lock:
            if self.ended is not None or self._taken == len(self.questions):
                return False
            number = self._taken
            self._taken += 1
        try:
            text = self.judge(self.questions[number])
            if not isinstance(text, str):
                raise TypeError(f"the judge must return text, got {text!r:.80}")
        except Exception as error:
            self._failed(number, error)
        else:
            with self._lock:
                self.answers[number], self._failures_in_a_row = Answer(text), 0
        return True

    def _failed(self, number: int, error: Exception) -> None:
        # A server's errors are sentences for people; others say little without their type.
        reason = str(error) if hasattr(error, "fatal") else f"{type(error).__name__}: {error}"
        with self._lock:
            self.answers[number] = Answer(None, reason)
            if self.first_error is None:
                self.first_error, self.first_failed = error, number
            self._failures_in_a_row += getattr(error, "passing", True)
            if getattr(error, "fatal", False):
                self.ended = self.ended or reason
            elif self._failures_in_a_row >= self.patience:
                self.ended = self.ended or f"{self._failures_in_a_row} questions in a row failed, the last by: {reason}"


def _in_threads(asking: _Asking, workers: int, on_answer: Callable[[], Any]) -> None:
    """Let `workers` threads ask until nothing is left to ask."""
    news: queue.SimpleQueue[BaseException | bool] = queue.SimpleQueue()  # True: one question less; False: a thread ends

    def work() -> None:
        try:
            while asking.ask_next():
                news.put(True)
            news.put(False)
        except BaseException as error:  # such as Ctrl-C that a judge raises itself: it belongs to the caller
            news.put(error)

    for _ in range(workers):
        threading.Thread(target=work, daemon=True).start()
    while workers:
        try:
            event = news.get(timeout=LOOK_UP_SECONDS)
        except queue.Empty:
            continue
        if isinstance(event, BaseException):
            raise event
        if event:
            on_answer()
        else:
            workers -= 1
