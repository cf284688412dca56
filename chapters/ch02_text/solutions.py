"""One solution of each exercise of chapter 2; there are others. Run it like exercises.py."""

from collections import Counter
from itertools import pairwise

from torch import Tensor


def shape_of_embeddings(B: int, T: int, V: int, D: int) -> tuple[int, ...]:
    return (B, T, D)  # each id is replaced by a row of the table; the positions' vectors are added, not appended


def count_pairs(words: dict[tuple[int, ...], int]) -> dict[tuple[int, int], int]:
    counts = Counter()
    for word, often in words.items():
        for pair in pairwise(word):
            counts[pair] += often
    return counts


def merge_pair(ids: list[int], pair: tuple[int, int], new_id: int) -> list[int]:
    merged, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            merged.append(new_id)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


def encode(word: str, merges: list[tuple[int, int]]) -> list[int]:
    ids = list(word.encode("utf-8"))
    for new_id, pair in enumerate(merges, start=256):  # a merge only makes pairs that were learned later
        ids = merge_pair(ids, pair, new_id)
    return ids


def decode(ids: list[int], pieces: list[bytes]) -> str:
    return b"".join(pieces[token] for token in ids).decode("utf-8", errors="replace")


def windows(tokens: Tensor, length: int, stride: int) -> tuple[Tensor, Tensor]:
    rows = tokens.unfold(0, length + 1, stride)  # (number of windows, length + 1)
    return rows[:, :-1], rows[:, 1:]


if __name__ == "__main__":
    from exercises import EXERCISES

    from gptlab.checks import run

    raise SystemExit(run({name: globals()[stub.__name__] for name, stub in EXERCISES.items()}))
