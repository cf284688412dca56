"""A report card: what a data set is made of, on one page, before anything is trained on it.

    length          of instructions (with their inputs) and of outputs: percentiles and a histogram
    roots           what is asked for, by root verb and noun; a light heuristic, see `gptlab.selection.root_words`
    distinct        how many entries, instructions and outputs are literally different
    near            which entries ask nearly the same, see `gptlab.selection.duplicates`
    diversity       the share of instructions that Self-Instruct's filter would keep (ROUGE-L at most 0.7, in order),
                    and with embeddings 1 - the mean cosine of two different entries
    rejected        what was left out before, and why, if it is given
    contamination   which entries meet a test set, if it is given, see `gptlab.selection.contamination`

Neither number of diversity says that a data set is good. The first one falls with each entry that repeats a form, as
"What is the opposite of X?" does, and so with the number of entries; compare it only between sets of one size. The
second one hardly falls with size, but depends on the embeddings.

Source: the parts of the pages named above; Wang et al. 2022, "Self-Instruct", section 3, for lengths and roots.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from gptlab.files import write_text
from gptlab.selection.card_page import card_page
from gptlab.selection.contamination import ContaminationReport, contaminated
from gptlab.selection.duplicates import THRESHOLD, near_duplicates
from gptlab.selection.embedding import check_embeddings, unit_rows
from gptlab.selection.entries import FIELDS, Entry, check_entries, normalised, text_of
from gptlab.selection.novelty import novel_instructions
from gptlab.selection.root_words import RootTable, root_table
from gptlab.tokenizer import as_tokenizer

PERCENTILES = (5, 25, 50, 75, 95)
BINS = 20  # at most, before the last one, which is open
SHOWN = 12  # groups of duplicates, and matches with the test
SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Lengths:
    """How long the texts of one part are.

    Attributes:
        percentiles: percent -> length.
        mean: of all.
        least: the shortest.
        most: the longest.
        edges: where the bins of the histogram begin.
        counts: how many texts each bin holds; the last one is open to the right.
    """

    percentiles: dict[int, float]
    mean: float
    least: int
    most: int
    edges: list[int]
    counts: list[int]


@dataclass(frozen=True)
class ReportCard:
    """What a data set is made of.

    Attributes:
        title: of the data set.
        n: how many entries there are.
        n_with_input: how many have an input.
        n_empty: how many have an empty instruction or an empty output.
        unit: what lengths are counted in, "tokens" or "characters".
        lengths: of "prompt" (instruction and input) and "output".
        roots: the most frequent root verbs and nouns.
        distinct: how many "entries", "prompts", "instructions" and "outputs" are literally different.
        near: near-duplicates: "by" (ROUGE-L or cosine), "threshold", "dropped", "exact", "groups" (how many), and the
            largest groups' texts, "shown".
        novel_share: of the instructions, by ROUGE-L at most 0.7, in order.
        mean_distance: 1 - the mean cosine of two different entries; None without embeddings, or with one entry.
        rejected: reason -> how many; None if nothing was given.
        contamination: counts, and the surest matches with their texts; None if no test was given.
    """

    title: str
    n: int
    n_with_input: int
    n_empty: int
    unit: str
    lengths: dict[str, Lengths]
    roots: RootTable
    distinct: dict[str, int]
    near: dict[str, Any]
    novel_share: float
    mean_distance: float | None
    rejected: dict[str, int] | None
    contamination: dict[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """Return the card as JSON can hold it."""
        lengths = {}
        for part, found in self.lengths.items():
            lengths[part] = asdict(found) | {"percentiles": {f"{at}": value for at, value in found.percentiles.items()}}
        names = ("title", "n", "n_with_input", "n_empty", "unit", "distinct", "near", "novel_share", "mean_distance")
        rest = {name: getattr(self, name) for name in (*names, "rejected", "contamination")}
        return {**rest, "lengths": lengths, "roots": self.roots.to_dict()}

    def __str__(self) -> str:
        share = lambda count: f"{count:,} ({count / self.n:.1%})"  # noqa: E731
        rows = [
            ("entries", f"{self.n:,}, {self.n_with_input:,} with an input" + self._empty),
            *((f"different {part}", share(count)) for part, count in self.distinct.items() if part != "prompts"),
            ("near-duplicates", f"{share(self.near['dropped'])} by {self.near['by']} > {self.near['threshold']:g}"),
            ("novel instructions", f"{self.novel_share:.1%} by ROUGE-L <= 0.7, in order"),
        ]
        if self.mean_distance is not None:
            rows.append(("mean distance", f"{self.mean_distance:.3f} (1 - cosine)"))
        if self.contamination is not None:
            found = self.contamination
            rows.append(("meet the test", f"{share(found['n_contaminated'])}, {found['n_rows_met']:,} of its rows"))
        lines = [f"{self.title}", *(f"  {name:<23}  {value}" for name, value in rows)]
        heads = [*(f"{at} %" for at in PERCENTILES), "mean", "longest"]
        lines.append(f"\nlength in {self.unit:<15}" + "".join(f"{head:>9}" for head in heads))
        for part, found in self.lengths.items():
            values = [*found.percentiles.values(), found.mean, found.most]
            lines.append(f"  {part:<23}" + "".join(f"{value:>9,.0f}" for value in values))
        if self.rejected is not None:
            lines += ["\nrejected before", *(f"{count:>7,}  {why}" for why, count in self.rejected.items())]
        return "\n".join([*lines, "\nroot verbs and nouns (a light heuristic)", str(self.roots)])

    @property
    def _empty(self) -> str:
        return f", {self.n_empty:,} EMPTY" if self.n_empty else ""


def report_card(
    entries: Sequence[Entry],
    *,
    title: str = "instruction data",
    tokenizer: Any = None,
    test: Sequence[Entry] | ContaminationReport | None = None,
    rejected: Any = None,
    embeddings: Any = None,
    near: float = THRESHOLD,
    progress: bool = False,
) -> ReportCard:
    """Return what a data set is made of; `write_card` makes a page of it, `gptlab.show.plot_report_card` a picture.

    Args:
        entries: with instruction and output, perhaps input.
        title: of the data set.
        tokenizer: lengths are counted in its tokens; None counts characters.
        test: entries by which a model will be tested, or what `contaminated` said of them.
        rejected: what was left out before, and why: reason -> how many, a list of (index, reason), or a report that
            has `dropped`, such as `apply_rules` returns.
        embeddings: a vector for each entry; near-duplicates are found by them then, and a mean distance is given.
        near: likeness above this makes a near-duplicate.
        progress: whether to show bars.

    Raises:
        ValueError: no list of entries, or an empty one; near is not in [0, 1]; the embeddings or `rejected` have not
            the form above; the test is none, or the report is of another number of entries.
        ImportError: rapidfuzz is not installed.
    """
    check_entries(entries)
    counted = _rejections(rejected)
    met = _contamination(entries, test, progress)
    mean_distance = None
    if embeddings is not None:
        embeddings = check_embeddings(embeddings, len(entries))
        mean_distance = _mean_distance(embeddings)
    length = len if tokenizer is None else _token_counter(tokenizer)
    prompts, outputs = [text_of(entry) for entry in entries], [entry["output"] for entry in entries]
    instructions = [entry["instruction"] for entry in entries]
    return ReportCard(
        title=title,
        n=len(entries),
        n_with_input=sum(bool(entry.get("input")) for entry in entries),
        n_empty=sum(not entry["instruction"].strip() or not entry["output"].strip() for entry in entries),
        unit="characters" if tokenizer is None else "tokens",
        lengths={
            "prompt": measure_lengths([length(text) for text in prompts]),
            "output": measure_lengths([length(text) for text in outputs]),
        },
        roots=root_table(instructions),
        distinct={
            "entries": len({text_of(entry, FIELDS) for entry in entries}),
            "prompts": len(set(prompts)),
            "instructions": len(set(instructions)),
            "outputs": len(set(outputs)),
        },
        near=_near(entries, near, embeddings, progress),
        novel_share=len(novel_instructions(instructions, progress=progress)) / len(entries),
        mean_distance=mean_distance,
        rejected=counted,
        contamination=met,
    )


def write_card(card: ReportCard, path: str | Path) -> None:
    """Write a card as one HTML page that loads nothing and runs no script.

    Raises:
        OSError: the file cannot be written.
    """
    write_text(path, card_page(card.to_dict()))


def measure_lengths(lengths: Sequence[int]) -> Lengths:
    """Return percentiles and a histogram of lengths, whose bins are as wide as 1, 2 or 5 times a power of ten.

    Raises:
        ValueError: there are none.

    >>> measure_lengths([1, 2, 3, 4, 100]).percentiles[50]
    3.0
    """
    if not len(lengths):
        raise ValueError("there are no lengths to measure")
    values = np.asarray(lengths)
    end = float(np.percentile(values, 99))  # one very long text must not press all others into one bin
    width = next(step * 10**power for power in range(12) for step in (1, 2, 5) if step * 10**power * BINS > end)
    edges = np.arange(0, int(end) + 1, width)
    counts = np.bincount(np.minimum(values // width, len(edges) - 1), minlength=len(edges))
    return Lengths(
        percentiles=dict(zip(PERCENTILES, np.percentile(values, PERCENTILES).tolist())),
        mean=float(values.mean()),
        least=int(values.min()),
        most=int(values.max()),
        edges=edges.tolist(),
        counts=counts.tolist(),
    )


def _token_counter(tokenizer: Any) -> Any:
    tokenizer = as_tokenizer(tokenizer)
    return lambda text: len(tokenizer.encode_ordinary(text))


def _rejections(rejected: Any) -> dict[str, int] | None:
    """Return reason -> how many."""
    if rejected is None:
        return None
    counts = getattr(rejected, "dropped", rejected)
    if isinstance(counts, Sequence) and not isinstance(counts, str):
        if not all(isinstance(one, Sequence) and not isinstance(one, str) and len(one) == 2 for one in counts):
            raise ValueError(f"a list of what was rejected must hold (index, reason), got {counts!r:.80}")
        counts = dict(Counter(str(reason) for _, reason in counts).most_common())
    if not isinstance(counts, Mapping) or not all(isinstance(one, Integral) and one >= 0 for one in counts.values()):
        raise ValueError(
            f"what was rejected must be reason -> how many, (index, reason) pairs, or a report, got {rejected!r:.80}"
        )
    return {str(reason): int(count) for reason, count in counts.items()}


def _contamination(entries: Sequence[Entry], test: Any, progress: bool) -> dict[str, Any] | None:
    if test is None:
        return None
    report = test
    if not isinstance(test, ContaminationReport):
        report = contaminated(entries, test, progress=progress)
    if report.n_entries != len(entries):
        raise ValueError(
            f"the report on the test is about {report.n_entries:,} entries, the card about {len(entries):,}"
        )
    found = report.to_dict()
    shown = []
    del found["matches"]
    for match in map(asdict, report.surest[:SHOWN]):
        entry = _shortened(text_of(entries[match["index"]], FIELDS))
        row = None if report is test else _shortened(text_of(test[match["row"]], FIELDS))
        shown.append({**match, "entry_text": entry, "row_text": row})
    return {**found, "n_matches": len(report.matches), "shown": shown}


def _near(entries: Sequence[Entry], threshold: float, embeddings: Any, progress: bool) -> dict[str, Any]:
    found = near_duplicates(entries, threshold=threshold, embeddings=embeddings, progress=progress)
    shown = []
    for group in sorted(found.groups, key=len, reverse=True)[:SHOWN]:
        texts: dict[str, str] = {}  # those that are literally the same, once
        for index in group:
            texts.setdefault(normalised(text_of(entries[index])), text_of(entries[index]))
        shown.append(
            {"indices": group[:SHOWN], "size": len(group), "texts": [*map(_shortened, texts.values())][:SHOWN]}
        )
    return {
        "by": "ROUGE-L" if embeddings is None else "cosine",
        "threshold": threshold,
        "dropped": len(entries) - len(found.kept),
        "exact": found.exact,
        "groups": len(found.groups),
        "shown": shown,
    }


def _mean_distance(embeddings: np.ndarray) -> float | None:
    """Return 1 - the mean cosine of two different entries: the sum of all cosines is the squared length of the sum."""
    rows = unit_rows(embeddings, np.float64)
    n = len(rows)
    if n < 2:
        return None
    total = np.square(rows.sum(axis=0)).sum() - np.square(rows).sum()
    return float(1 - total / (n * (n - 1)))


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
