"""One solution of each exercise of chapter 12; there are others. Run it like exercises.py."""

import re
import string
from collections.abc import Hashable, Sequence
from statistics import fmean
from typing import Literal

import numpy as np


def exact_match(prediction: str, reference: str) -> bool:
    return plain(prediction) == plain(reference)


def plain(text: str) -> str:
    text = text.lower().translate(dict.fromkeys(map(ord, string.punctuation)))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def lcs_length(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    above = [0] * (len(second) + 1)  # one row of the table is enough
    for one in first:
        row = [0]
        for place, other in enumerate(second):
            row.append(above[place] + 1 if one == other else max(above[place + 1], row[place]))
        above = row
    return above[-1]


def parse_score(text: str) -> int | None:
    answer = text.rpartition("</think>")[2].strip()
    found = re.fullmatch(r"(?:score: *)?([0-9]{1,3})", answer, re.IGNORECASE) or re.fullmatch(
        r"([0-9]{1,3})/100", answer
    )
    return int(found[1]) if found and int(found[1]) <= 100 else None


def means(scores: list[int | None], failed: list[bool]) -> tuple[float | None, float | None]:
    replied = [score for score, lost in zip(scores, failed) if not lost]
    scored = [score for score in replied if score is not None]
    return fmean(scored) if scored else None, sum(scored) / len(replied) if replied else None


def interval(values: list[float], draws: int, rng: np.random.Generator) -> tuple[float, float]:
    drawn = rng.choice(values, size=(draws, len(values)))  # with repetition, unless replace=False
    low, high = np.quantile(drawn.mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def outcome(
    first_order: Literal["A", "B", "tie"],
    second_order: Literal["A", "B", "tie"],
    convention: Literal["agreement", "lima"],
) -> Literal["win", "tie", "loss"]:
    votes = {"A": 1, "tie": 0, "B": -1}[first_order] + {"B": 1, "tie": 0, "A": -1}[second_order]
    needed = 2 if convention == "agreement" else 1
    return "win" if votes >= needed else "loss" if votes <= -needed else "tie"


if __name__ == "__main__":
    from exercises import EXERCISES

    from gptlab.checks import run

    raise SystemExit(run({name: globals()[stub.__name__] for name, stub in EXERCISES.items()}))
