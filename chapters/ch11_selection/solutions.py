"""One solution of each exercise of chapter 11; there are others. Run it like exercises.py."""

import math

import numpy as np
from torch import Tensor


def keep_best(scores: list[float | None], k: int) -> list[int]:
    known = [number for number, score in enumerate(scores) if score is not None]
    return sorted(known, key=lambda number: -scores[number])[:k]  # sorting keeps the order of equal ones


def lloyd_step(rows: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    distances = ((rows[:, None] - centres) ** 2).sum(axis=2)  # (n, c)
    labels = distances.argmin(axis=1)
    moved = centres.astype(float)  # a copy
    for number in set(labels.tolist()):
        moved[number] = rows[labels == number].mean(axis=0)
    return labels, moved


def gains(similar: np.ndarray, picked: list[int]) -> np.ndarray:
    similar = np.maximum(similar, 0)
    cover = similar[picked].max(axis=0) if picked else np.zeros(len(similar))
    return np.maximum(similar - cover, 0).mean(axis=1)


def greedy(similar: np.ndarray, k: int, quality: np.ndarray, alpha: float) -> list[int]:
    picked: list[int] = []
    while len(picked) < k:
        worth = (1 - alpha) * gains(similar, picked) + alpha * quality
        worth[picked] = -np.inf
        picked.append(int(worth.argmax()))
    return picked


def shift_kinds(logits: Tensor, tokens: Tensor) -> list[str]:
    larger = (logits > logits.gather(1, tokens[:, None])).sum(dim=1)
    return ["unshifted" if count == 0 else "marginal" if count <= 2 else "shifted" for count in larger.tolist()]


def rank_correlation(p: list[float], q: list[float]) -> float:
    x, y = centred_ranks(p), centred_ranks(q)
    scale = math.sqrt((x**2).sum() * (y**2).sum())
    return float((x * y).sum() / scale) if scale else 0.0


def centred_ranks(values: list[float]) -> np.ndarray:
    different = sorted(set(values), reverse=True)
    ranks = np.array([1.0 + different.index(value) for value in values])
    return ranks - ranks.mean()


if __name__ == "__main__":
    from exercises import EXERCISES

    from gptlab.checks import run

    raise SystemExit(run({name: globals()[stub.__name__] for name, stub in EXERCISES.items()}))
