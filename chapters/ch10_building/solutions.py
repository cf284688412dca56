"""One solution of each exercise of chapter 10; there are others. Run it like exercises.py."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any


def counts(pairs: int, per_pair: int, both_directions: bool, rounds: int) -> tuple[int, int]:
    entries = pairs * per_pair * (2 if both_directions else 1)
    return entries, entries * (1 + rounds)  # a round adds at most one for each entry of the pool, which does not grow


def fill(template: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\[([a-z_]+)\]", lambda hole: values[hole[1]], template)


def leaks(test: Sequence[tuple[str, str]], training: Sequence[tuple[str, str]]) -> int:
    known = {text for pair in training for text in pair}
    return sum(not known.isdisjoint(pair) for pair in test)


def find_objects(text: str) -> list[dict[str, Any]]:
    found, start = [], text.find("{")
    while start >= 0:
        try:
            one, length = json.JSONDecoder().raw_decode(text[start:])
            found.append(one)
            start = text.find("{", start + length)
        except json.JSONDecodeError:
            start = text.find("{", start + 1)
    return found


def is_new(words: Sequence[str], pool: Sequence[Sequence[str]], threshold: float = 0.7) -> bool:
    return all(rouge_l(words, other) <= threshold for other in pool)


def rouge_l(words: Sequence[str], others: Sequence[str]) -> float:
    above = [0] * (len(others) + 1)  # one row of the table is enough
    for word in words:
        row = [0]
        for place, other in enumerate(others):
            row.append(above[place] + 1 if word == other else max(above[place + 1], row[place]))
        above = row
    common = above[-1]
    if common == 0:
        return 0.0
    precision, recall = common / len(words), common / len(others)
    return 2 * precision * recall / (precision + recall)


def says_equal(reply: str) -> bool | None:
    plain = reply.lower().replace("*", "").strip(" .\n\t\r")
    return {"equal": True, "not equal": False}.get(plain)


if __name__ == "__main__":
    from exercises import EXERCISES

    from gptlab.checks import run

    raise SystemExit(run({name: globals()[stub.__name__] for name, stub in EXERCISES.items()}))
