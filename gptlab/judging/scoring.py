"""Let a judge score responses from 0 to 100, and say how far the mean can be trusted.

Each entry is asked about with the source's prompt. Where the reply holds no score it is asked about a second time, more
sharply. Where that does not help either, the entry stays in its place, unparsed, with what the judge said. The source
leaves such entries out of its mean, which flatters a model whose responses bewilder the judge; to count them as 0 is
unfair to one that a chatty judge likes. So both means are given. Entries at which the server failed are in neither.

Source: Raschka 2024, "Build a Large Language Model (From Scratch)", section 7.8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from gptlab.judging.asking import Answer, Judge, ScoredReport, ask_all, prepared
from gptlab.judging.parsing import parse_score
from gptlab.judging.prompts import Messages, check_responses, score_prompt, sharper_score_prompt
from gptlab.judging.statistics import Interval, bootstrap_interval

BINS = ("0-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70-79", "80-89", "90-100")
BAR = 30  # characters of the longest bar


@dataclass(frozen=True)
class Score:
    """What became of one entry.

    Attributes:
        score: 0 to 100, or None.
        status: "scored", "unparsed" (there is no score in the replies), or "failed" (the last question got no reply).
        replies: what the judge said: one text, two if it was asked a second time, or none.
        error: why it failed.
    """

    score: int | None
    status: Literal["scored", "unparsed", "failed"]
    replies: tuple[str, ...]
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON can hold it."""
        return {"score": self.score, "status": self.status, "replies": list(self.replies), "error": self.error}


@dataclass(frozen=True)
class ScoreReport(ScoredReport):
    """The scores of one set of responses.

    Attributes:
        results: one for each entry, in order.
        judge: who scored.
    """

    results: tuple[Score, ...]

    @property
    def mean_with_zeros(self) -> float | None:
        """The mean with each unparsed entry as 0; failed ones are left out. None if there is no reply at all."""
        replied = self.n_scored + self.n_unparsed
        return sum(self._found) / replied if replied else None

    @cached_property
    def interval(self) -> Interval | None:
        """Where `mean` would lie for other entries of the same kind, at 95 % (bootstrap); None below two scores."""
        return bootstrap_interval(self._found) if self.n_scored > 1 else None

    @property
    def histogram(self) -> dict[str, int]:
        """How many scores lie in each of ten bins; the last one holds the 100."""
        counts = dict.fromkeys(BINS, 0)
        for score in self._found:
            counts[BINS[min(score // 10, len(BINS) - 1)]] += 1
        return counts

    def summary(self) -> dict[str, Any]:
        """Return the numbers alone, as JSON can hold them."""
        names = ("judge", "n_total", "n_scored", "n_unparsed", "n_failed", "mean", "mean_with_zeros", "histogram")
        numbers = {name: getattr(self, name) for name in names}
        return {**numbers, "interval": None if self.interval is None else list(self.interval)}

    def __str__(self) -> str:
        spread = self.interval and f"{self.interval.low:.1f} to {self.interval.high:.1f} with 95 % (bootstrap)"
        rows = [
            ("judge", self.judge, ""),
            ("entries", f"{self.n_total:,}", ""),
            ("scored", f"{self.n_scored:,}", ""),
            ("unparsed", f"{self.n_unparsed:,}", ""),
            ("failed", f"{self.n_failed:,}", f"the first: {self._first_error}" if self._first_error else ""),
            ("mean of the scored", _number(self.mean), spread or ""),
            ("mean, unparsed as 0", _number(self.mean_with_zeros), ""),
        ]
        lines = [f"{name:<19}  {value:>8}  {note}".rstrip() for name, value, note in rows]
        return "\n".join([*lines, "", *_bars(self.histogram)])


def score_responses(
    entries: Sequence[Mapping[str, Any]],
    judge: Judge,
    *,
    key: str = "model_response",
    workers: int = 1,
    cache: str | Path | None = None,
    progress: bool = False,
) -> ScoreReport:
    """Return the judge's scores of the entries' responses, in the entries' order.

    Args:
        entries: with instruction, output, perhaps input, and a response; an empty response is asked about, too.
        judge: a server of `gptlab.servers`, or any function from messages, `[{"role", "content"}]`, to text.
        key: where an entry holds its response.
        workers: how many questions are asked at the same time.
        cache: a file that keeps the replies, so that a run goes on where it was interrupted.
        progress: whether to show a bar.

    Raises:
        ValueError: the entries are no list of entries with output and response (the message has the number, from 1),
            or workers is below 1.
        TypeError: the judge cannot be called.
        OSError: not one question was answered (the first error), or the cache cannot be read or written.

    Source: Raschka 2024, section 7.8.

    >>> entry = {"instruction": "Name a colour.", "output": "Blue.", "model_response": "Red."}
    >>> report = score_responses([entry, entry], judge=lambda messages: "95")
    >>> report.scores, report.mean
    ([95, 95], 95.0)
    """
    check_responses(entries, key, needs=("output",))
    judge, name = prepared(judge, cache)
    questions = [_question(score_prompt(entry, entry[key])) for entry in entries]
    first = ask_all(judge, questions, workers=workers, progress=progress, title="scoring")
    again = [place for place, answer in enumerate(first) if answer.error is None and _score(answer) is None]
    sharper = [_question(sharper_score_prompt(entries[place], entries[place][key])) for place in again]
    second = ask_all(judge, sharper, workers=workers, progress=progress and bool(again), title="again", need_one=False)
    asked_twice = dict(zip(again, second))
    return ScoreReport(tuple(_result(answer, asked_twice.get(place)) for place, answer in enumerate(first)), name)


def _question(text: str) -> Messages:
    return [{"role": "user", "content": text}]


def _score(answer: Answer) -> int | None:
    """Return the score in an answer; the last line of one that was cut short may be half a number, and counts not."""
    text = answer.text or ""
    return parse_score(text.rpartition("\n")[0] + "\n..." if answer.cut_short else text)


def _result(first: Answer, second: Answer | None) -> Score:
    last = second or first
    replies = tuple(str(answer.text) for answer in (first, second) if answer and answer.text is not None)
    if last.error is not None:
        return Score(None, "failed", replies, last.error)
    score = _score(last)
    return Score(score, "unparsed" if score is None else "scored", replies)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _bars(histogram: Mapping[str, int]) -> list[str]:
    """Return a histogram as lines of text; a bin that is not empty has at least the thinnest bar."""
    most = max(histogram.values()) or 1
    lines = []
    for name, count in histogram.items():
        bar = "█" * max(round(BAR * count / most), count > 0)
        lines.append(f"{name:>6}  {count:>5,}  {bar}".rstrip())
    return lines
