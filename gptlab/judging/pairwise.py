"""Let a judge choose between two responses, and believe it only when it says the same with their places swapped.

Judges prefer a place, mostly the first, and many prefer the longer text. So every pair is shown in both orders, and the
two verdicts, mapped back to the responses, make one outcome. What mixed verdicts mean is a convention:

    the two verdicts         "agreement" (FastChat)    "lima" (LIMA, AlpaGasus)
    A and A                  win                       win
    A and tie                tie                       win
    A and B, tie and tie     tie                       tie
    B and tie                tie                       loss
    B and B                  loss                      loss

A win of A is a win. A pair of which a verdict is missing, because the server failed or the reply holds none, is left
out and counted. Two responses that are the same text are a tie and nobody is asked: the verdicts could tell of nothing
but the judge's preference for a place.

Source: Zheng et al. 2023, "Judging LLM-as-a-Judge with MT-Bench and Chatbot Arena", section 3.4; FastChat,
llm_judge/show_result.py; Zhou et al. 2023, "LIMA: Less Is More for Alignment"; Chen et al. 2023, "AlpaGasus".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from gptlab.judging.asking import Answer, Judge, Report, ask_all, prepared
from gptlab.judging.parsing import Verdict, parse_verdict
from gptlab.judging.prompts import Entry, check_responses, pairwise_messages
from gptlab.judging.statistics import binomial_test

Convention = Literal["agreement", "lima"]
Outcome = Literal["win", "tie", "loss"]

SHOWN_DIFFERENCES = 5
_SWAPPED: dict[Verdict, Verdict] = {"A": "B", "B": "A", "tie": "tie"}
_FOR_A = {"A": 1, "tie": 0, "B": -1}


@dataclass(frozen=True)
class Pair:
    """What became of one entry.

    Attributes:
        verdicts: as the judge gave them, of the first and of the second response shown: with A's response shown first,
            then with B's. None where there is none; empty if the responses are the same text, and nobody was asked.
        replies: what the judge said; None where the server failed.
        error: why it failed.
    """

    verdicts: tuple[Verdict | None, ...]
    replies: tuple[str | None, ...]
    error: str | None = None

    @property
    def status(self) -> Literal["judged", "identical", "unparsed", "failed"]:
        """How it went; the pairs that are "unparsed" or "failed" in either order have no outcome."""
        if not self.verdicts:
            return "identical"
        if self.error is not None:
            return "failed"
        return "unparsed" if None in self.verdicts else "judged"

    @property
    def agree(self) -> bool | None:
        """Whether both orders say the same of the responses; None if they were not both judged."""
        if self.status != "judged":
            return None
        return self.verdicts[0] == _SWAPPED[self.verdicts[1]]

    def outcome(self, convention: Convention = "agreement") -> Outcome | None:
        """Return what happened to the first side's response; None if the pair does not count.

        Raises:
            ValueError: there is no such convention.
        """
        if convention not in ("agreement", "lima"):
            raise ValueError(f"convention must be 'agreement' or 'lima', got {convention!r}")
        if self.status == "identical":
            return "tie"
        return outcome_of(self.verdicts[0], _SWAPPED[self.verdicts[1]], convention) if self.status == "judged" else None

    def to_dict(self) -> dict[str, Any]:
        """Return the pair as JSON can hold it."""
        outcomes = {"outcome": self.outcome(), "outcome_lima": self.outcome("lima"), "agree": self.agree}
        said = {"verdicts": list(self.verdicts), "replies": list(self.replies), "error": self.error}
        return {"status": self.status, **outcomes, **said}


def outcome_of(one: Verdict, other: Verdict, convention: Convention = "agreement") -> Outcome:
    """Return what two verdicts on the same responses, in the two orders, mean together.

    >>> outcome_of("A", "tie"), outcome_of("A", "tie", "lima")
    ('tie', 'win')
    """
    votes = _FOR_A[one] + _FOR_A[other]
    needed = 2 if convention == "agreement" else 1
    return "win" if votes >= needed else "loss" if votes <= -needed else "tie"


@dataclass(frozen=True)
class Tally:
    """Wins, ties and losses of the first side under one convention."""

    wins: int
    ties: int
    losses: int

    @property
    def win_rate(self) -> float | None:
        """Wins over all that count; None if nothing does."""
        return self.wins / self._n if self._n else None

    @property
    def adjusted_win_rate(self) -> float | None:
        """The same with each tie as half a win; 0.5 if the sides are equal."""
        return (self.wins + self.ties / 2) / self._n if self._n else None

    @property
    def p_value(self) -> float:
        """How often wins and losses would be as uneven as this if the sides were equal; the exact two-sided test."""
        return binomial_test(self.wins, self.losses)

    @property
    def _n(self) -> int:
        return self.wins + self.ties + self.losses

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and rates, as JSON can hold them."""
        rates = {"win_rate": self.win_rate, "adjusted_win_rate": self.adjusted_win_rate, "p_value": self.p_value}
        return {**asdict(self), **rates}


@dataclass(frozen=True)
class PairwiseReport(Report):
    """One set of responses, side A, against another, side B. `wins` and its like follow the convention "agreement".

    Attributes:
        results: one for each entry, in order.
        judge: who compared.
        length_ratio: characters of A's responses over those of B's; None if B's are empty. Far from 1, a judge's
            preference for long texts may have decided.
    """

    results: tuple[Pair, ...]
    length_ratio: float | None

    def tally(self, convention: Convention = "agreement") -> Tally:
        """Return the counts under a convention.

        Raises:
            ValueError: there is no such convention.
        """
        outcomes = [pair.outcome(convention) for pair in self.results]
        return Tally(outcomes.count("win"), outcomes.count("tie"), outcomes.count("loss"))

    @property
    def wins(self) -> int:
        """How often A was better in both orders."""
        return self.tally().wins

    @property
    def ties(self) -> int:
        """How often neither was."""
        return self.tally().ties

    @property
    def losses(self) -> int:
        """How often B was better in both orders."""
        return self.tally().losses

    @property
    def win_rate(self) -> float | None:
        """Wins over all that count; None if nothing does."""
        return self.tally().win_rate

    @property
    def adjusted_win_rate(self) -> float | None:
        """The same with each tie as half a win."""
        return self.tally().adjusted_win_rate

    @property
    def p_value(self) -> float:
        """The exact two-sided binomial test over wins and losses."""
        return self.tally().p_value

    @property
    def consistency(self) -> float | None:
        """The share of the judged pairs of which both orders say the same; None if no pair was judged."""
        judged = [pair.agree for pair in self.results if pair.agree is not None]
        return sum(judged) / len(judged) if judged else None

    @property
    def n_judged(self) -> int:
        """How many have a verdict in both orders."""
        return self._count("judged")

    @property
    def n_identical(self) -> int:
        """How many have the same text on both sides; they are ties."""
        return self._count("identical")

    def summary(self) -> dict[str, Any]:
        """Return the numbers alone, as JSON can hold them."""
        names = ("judge", "n_total", "n_judged", "n_identical", "n_unparsed", "n_failed", "consistency", "length_ratio")
        numbers = {name: getattr(self, name) for name in names}
        return {**numbers, "agreement": self.tally().to_dict(), "lima": self.tally("lima").to_dict()}

    def __str__(self) -> str:
        rows = [
            ("judge", self.judge, ""),
            ("entries", f"{self.n_total:,}", f"{self.n_identical:,} with one response on both sides: ties"),
            ("unparsed", f"{self.n_unparsed:,}", "left out: a reply holds no verdict"),
            ("failed", f"{self.n_failed:,}", f"left out; the first: {self._first_error}" if self._first_error else ""),
            ("orders agree", _share(self.consistency), ""),
            ("length, A to B", "-" if self.length_ratio is None else f"{self.length_ratio:.2f}", ""),
        ]
        head = "\n".join(f"{name:<14}  {value:>8}  {note}".rstrip() for name, value, note in rows)
        table = f"{'convention':<14}{'wins':>8}{'ties':>8}{'losses':>8}{'win rate':>10}{'ties half':>11}{'p':>8}"
        for name in ("agreement", "lima"):
            tally = self.tally(name)
            counts = f"{name:<14}{tally.wins:>8,}{tally.ties:>8,}{tally.losses:>8,}"
            rates = f"{_share(tally.win_rate):>10}{_share(tally.adjusted_win_rate):>11}{tally.p_value:>8.3f}"
            table += f"\n{counts}{rates}"
        return f"{head}\n\n{table}"


def compare_responses(
    entries_a: Sequence[Mapping[str, Any]],
    entries_b: Sequence[Mapping[str, Any]],
    judge: Judge,
    *,
    key_a: str = "model_response",
    key_b: str | None = None,
    workers: int = 1,
    cache: str | Path | None = None,
    progress: bool = False,
) -> PairwiseReport:
    """Let a judge compare two sets of responses to the same entries, each pair in both orders.

    Args:
        entries_a: with instruction, perhaps input, and the responses of the side whose wins are counted.
        entries_b: the same entries, in the same order, with the other side's responses.
        judge: a server of `gptlab.servers`, or any function from messages, `[{"role", "content"}]`, to text.
        key_a: where an entry of A holds its response.
        key_b: the same of B; None is key_a.
        workers: how many questions are asked at the same time.
        cache: a file that keeps the replies, so that a run goes on where it was interrupted.
        progress: whether to show a bar.

    Raises:
        ValueError: one of the sides is no list of entries with responses, the sides do not line up (the message names
            the entries, from 1), or workers is below 1.
        TypeError: the judge cannot be called.
        OSError: not one question was answered (the first error), or the cache cannot be read or written.

    Source: Zheng et al. 2023, section 3.4.
    """
    key_b = key_a if key_b is None else key_b
    check_responses(entries_a, key_a, where="A, entry")
    check_responses(entries_b, key_b, where="B, entry")
    check_lined_up(entries_a, entries_b)
    judge, name = prepared(judge, cache)
    texts = [(one[key_a], other[key_b]) for one, other in zip(entries_a, entries_b)]
    asked = [place for place, (one, other) in enumerate(texts) if one != other]
    questions = []
    for place in asked:
        one, other = texts[place]
        questions += [pairwise_messages(entries_a[place], one, other), pairwise_messages(entries_a[place], other, one)]
    answers = ask_all(judge, questions, workers=workers, progress=progress, title="comparing")
    judged = {place: _pair(answers[2 * turn], answers[2 * turn + 1]) for turn, place in enumerate(asked)}
    results = tuple(judged.get(place, Pair((), ())) for place in range(len(texts)))
    lengths = [sum(map(len, side)) for side in zip(*texts)]
    return PairwiseReport(results, name, lengths[0] / lengths[1] if lengths[1] else None)


def check_lined_up(entries_a: Sequence[Entry], entries_b: Sequence[Entry]) -> None:
    """Make sure that two lists hold the same tasks in the same order.

    Raises:
        ValueError: they do not; the message has the numbers of the entries, from 1, and the first that differs.
    """
    one, other = ([_task(entry) for entry in side] for side in (entries_a, entries_b))
    differ = [number for number, tasks in enumerate(zip(one, other), start=1) if tasks[0] != tasks[1]]
    if not differ and len(one) == len(other):
        return
    say = [f"A and B do not line up: A has {len(one)} entries, B has {len(other)}"]
    if differ:
        first = differ[0]
        shown = ", ".join(map(str, differ[:SHOWN_DIFFERENCES])) + (", ..." if len(differ) > SHOWN_DIFFERENCES else "")
        say.append(f"{len(differ)} of them have different tasks ({shown})")
        say.append(f"entry {first} of A is {one[first - 1]!r:.100}, of B {other[first - 1]!r:.100}")
    else:
        say.append(f"entry {min(len(one), len(other)) + 1} is in one of them only")
    raise ValueError("; ".join(say))


def _task(entry: Entry) -> str:
    return "\n".join(filter(None, [entry["instruction"], entry.get("input")]))


def _pair(first: Answer, swapped: Answer) -> Pair:
    """Return what two answers say; of one that was cut short the last verdict, which counts, may be missing."""
    answers = (first, swapped)
    verdicts = tuple(
        None if answer.text is None or answer.cut_short else parse_verdict(answer.text) for answer in answers
    )
    replies = tuple(None if answer.text is None else str(answer.text) for answer in answers)
    return Pair(verdicts, replies, first.error or swapped.error)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
