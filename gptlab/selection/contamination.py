"""Contamination: which training entries hold what the test asks, so that the test would measure memory.

Three rules, from the certain to the likely:

    exact    the entry's instruction and input are those of a test row, but for case, width, spaces and full stops
    ngram    the entry, output included, shares a run of n words with a test row, output included
    rouge    ROUGE-L of the two prompts, instruction and input, is above a threshold

GPT-3 took n = 13 words, without punctuation and case, and down to 8 for test sets of short texts; GPT-2 took 8. Short
instructions hold no 13 words, and are left to the other two rules. A run that stands in more than ten training entries
is a turn of phrase and says nothing, as in GPT-3. Of Chinese each character is a word here; 13 of them are a shorter
text than 13 English words, and chance meetings are likelier.

A rule finds texts and not meanings: a translated or reworded test question passes all three, and in a data set of few
forms ROUGE-L takes "What is the capital of Peru?" for the same with Chile. Raise the threshold there, or leave it out.

Source: Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C; Radford et al. 2019, "Language Models
are Unsupervised Multitask Learners", section 4; Wang et al. 2022, "Self-Instruct", for the ROUGE-L threshold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, Literal

from tqdm import tqdm

from gptlab.selection.entries import (
    FIELDS,
    Entry,
    check_count,
    check_entries,
    check_share,
    normalised,
    text_of,
    words_of,
)
from gptlab.selection.novelty import THRESHOLD, NoveltyFilter

NGRAM = 13  # words; GPT-3, appendix C
SHORT_NGRAM = 8  # words; GPT-2, section 4, and GPT-3 for short texts
COMMON = 10  # training entries that may hold a run before it counts as a turn of phrase; GPT-3, appendix C
RULES = ("exact", "ngram", "rouge")
SHOWN = 8  # matches in a printed report

Finder = Callable[[int], Iterator[tuple[int, "Match"]]]  # from an entry's index to (row, match)


@dataclass(frozen=True)
class Match:
    """One entry that meets one test row.

    Attributes:
        index: of the entry.
        row: of the test row.
        rule: "exact", "ngram" or "rouge": the first that finds the two.
        score: the share of the row's runs that the entry holds, or ROUGE-L; 1 for "exact".
        shared: for "ngram" the first run of words that both hold.
    """

    index: int
    row: int
    rule: Literal["exact", "ngram", "rouge"]
    score: float
    shared: str = ""


@dataclass(frozen=True)
class ContaminationReport:
    """What meets what.

    Attributes:
        matches: by entry, then by row.
        n_entries: how many entries were looked at.
        n_rows: how many rows the test has.
    """

    matches: list[Match]
    n_entries: int
    n_rows: int

    @property
    def indices(self) -> list[int]:
        """The entries that meet a test row, in order."""
        return sorted({match.index for match in self.matches})

    @property
    def rows(self) -> list[int]:
        """The test rows that an entry meets, in order."""
        return sorted({match.row for match in self.matches})

    @property
    def clean(self) -> list[int]:
        """The entries that meet none, in order."""
        found = set(self.indices)
        return [index for index in range(self.n_entries) if index not in found]

    @property
    def surest(self) -> list[Match]:
        """The matches, by rule and then by score."""
        return sorted(self.matches, key=lambda match: (RULES.index(match.rule), -match.score))

    @property
    def by_rule(self) -> dict[str, int]:
        """How many entries each rule finds, each counted under the first rule that finds it."""
        first: dict[int, int] = {}
        for match in self.matches:
            first[match.index] = min(first.get(match.index, len(RULES)), RULES.index(match.rule))
        counts = Counter(first.values())
        return {rule: counts[number] for number, rule in enumerate(RULES)}

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON can hold it."""
        return {
            "n_entries": self.n_entries,
            "n_rows": self.n_rows,
            "n_contaminated": len(self.indices),
            "n_rows_met": len(self.rows),
            "by_rule": self.by_rule,
            "matches": [asdict(match) for match in self.matches],
        }

    def __str__(self) -> str:
        counts = ", ".join(f"{rule} {count:,}" for rule, count in self.by_rule.items())
        lines = [
            f"{len(self.indices):,} of {self.n_entries:,} entries meet {len(self.rows):,} of {self.n_rows:,} test rows "
            f"({counts})"
        ]
        for match in self.surest[:SHOWN]:
            shared = f"  {match.shared}" if match.shared else ""
            lines.append(f"  entry {match.index + 1:,}, row {match.row + 1:,}: {match.rule} {match.score:.2f}{shared}")
        if len(self.matches) > SHOWN:
            lines.append(f"  and {len(self.matches) - SHOWN:,} more")
        return "\n".join(lines)


def contaminated(
    entries: Sequence[Entry],
    test: Sequence[Entry],
    *,
    ngram: int | None = NGRAM,
    threshold: float | None = THRESHOLD,
    common: int = COMMON,
    progress: bool = False,
) -> ContaminationReport:
    """Return which training entries meet which test rows, and by which rule.

    Args:
        entries: to train on, with instruction and output.
        test: to test by, with instruction, perhaps input and output.
        ngram: how many words in a row may not be shared; None leaves the rule out.
        threshold: of ROUGE-L, above which two prompts are one; None leaves the rule out.
        common: a run of words in more entries than this is a turn of phrase.
        progress: whether to show a bar.

    Raises:
        ValueError: a list is none or empty, an entry is none, ngram or common is below 1, or the threshold is not in
            [0, 1].
        ImportError: rapidfuzz is not installed.

    Source: Brown et al. 2020, appendix C; Wang et al. 2022, section 2.2.

    >>> train = [{"instruction": "Name the capital of France.", "output": "Paris."}]
    >>> print(contaminated(train, [{"instruction": "name the capital of France!"}]))
    1 of 1 entries meet 1 of 1 test rows (exact 1, ngram 0, rouge 0)
      entry 1, row 1: exact 1.00
    """
    check_entries(entries)
    check_entries(test, needs=("instruction",), what="the test")
    check_count(common, "common")
    rules: list[Finder] = [_exact(entries, test)]
    if threshold is not None:
        check_share(threshold, "threshold")
    if ngram is not None:
        rules.append(_shared_runs(entries, test, check_count(ngram, "ngram"), common))
    if threshold is not None:
        rules.append(_alike(entries, test, threshold))
    matches: list[Match] = []
    for index in tqdm(range(len(entries)), desc="contamination", disable=not progress):
        found: dict[int, Match] = {}
        for row, match in chain.from_iterable(rule(index) for rule in rules):
            found.setdefault(row, match)
        matches += [found[row] for row in sorted(found)]
    return ContaminationReport(matches, len(entries), len(test))


def _exact(entries: Sequence[Entry], test: Sequence[Entry]) -> Finder:
    rows_of: dict[str, list[int]] = {}
    for row, one in enumerate(test):
        rows_of.setdefault(normalised(text_of(one)), []).append(row)

    def find(index: int) -> Iterator[tuple[int, Match]]:
        for row in rows_of.get(normalised(text_of(entries[index])), []):
            yield row, Match(index, row, "exact", 1.0)

    return find


def _shared_runs(entries: Sequence[Entry], test: Sequence[Entry], n: int, common: int) -> Finder:
    rows_of: dict[tuple[str, ...], list[int]] = {}
    runs_in = [_runs(one, n) for one in test]
    for row, runs in enumerate(runs_in):
        for run in runs:
            rows_of.setdefault(run, []).append(row)
    held = [[run for run in _runs(entry, n) if run in rows_of] for entry in entries]
    times = Counter(chain.from_iterable(held))

    def find(index: int) -> Iterator[tuple[int, Match]]:
        telling = [run for run in held[index] if times[run] <= common]
        met = Counter(row for run in telling for row in rows_of[run])
        for row, count in met.items():
            first = next(run for run in telling if row in rows_of[run])
            yield row, Match(index, row, "ngram", count / len(runs_in[row]), " ".join(first))

    return find


def _runs(entry: Entry, n: int) -> dict[tuple[str, ...], None]:
    """Return the different runs of n words of an entry, in order."""
    words = words_of(text_of(entry, FIELDS))
    return dict.fromkeys(zip(*(words[start:] for start in range(n))))


def _alike(entries: Sequence[Entry], test: Sequence[Entry], threshold: float) -> Finder:
    pool = NoveltyFilter(threshold, pool=[text_of(one) for one in test])

    def find(index: int) -> Iterator[tuple[int, Match]]:
        prompt = text_of(entries[index])
        for score, row in [] if pool.is_novel(prompt) else pool.nearest(prompt, k=len(pool)):
            if score > threshold:
                yield row, Match(index, row, "rouge", score)

    return find
