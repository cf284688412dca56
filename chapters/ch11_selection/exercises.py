"""Exercises of chapter 11, choosing data. Write the functions, then run this file: it checks what is there so far.

    python chapters/ch11_selection/exercises.py                    # all of them
    python chapters/ch11_selection/exercises.py selection.greedy   # one

None of them needs a model or a network. Solutions are in solutions.py. They help most when they are opened last.
"""

import numpy as np
from torch import Tensor


def keep_best(scores: list[float | None], k: int) -> list[int]:
    """Return the numbers of the k best rated entries, from 0, the best first.

    Of equal ratings the one that comes first in the list comes first. An entry without a rating is never picked; if
    fewer than k entries have one, return all of those.

    Args:
        scores: one for each entry, in the entries' order; None where a judge's reply could not be read.
        k: how many.
    """
    raise NotImplementedError


def lloyd_step(rows: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return one step of K-means: each row's nearest centre, and the centres moved.

    Nearest is by the squared distance; of equal ones the first centre counts. Then a centre moves to the mean of the
    rows that it is nearest to. A centre that is nearest to none stays where it is.

    Args:
        rows: (n, d) float.
        centres: (c, d) float; it must not be changed.

    Returns:
        The numbers of the nearest centres, (n,), and the moved centres, (c, d).
    """
    raise NotImplementedError


def gains(similar: np.ndarray, picked: list[int]) -> np.ndarray:
    """Return what each entry would add to the coverage, if it were picked next: d(a | picked), (n,).

    It is the mean over all entries v of max(0, similar[a, v] - c_v), where c_v is the largest similarity of v to one
    that is picked, and 0 when none is.

    Args:
        similar: (n, n), symmetric; cosines, some of which may be negative: those count as 0.
        picked: numbers of the entries picked so far, perhaps none.
    """
    raise NotImplementedError


def greedy(similar: np.ndarray, k: int, quality: np.ndarray, alpha: float) -> list[int]:
    """Return the numbers of k different entries, in the order of picking, as QDIT picks them.

    Each pick is the entry, among those not yet picked, with the largest (1 - alpha) * gain + alpha * quality; the gain
    is that of the exercise before. Of equal ones the first is picked. `np.argmax` gives the first of the largest.

    Args:
        similar: (n, n), symmetric, in [0, 1].
        k: how many, at most n.
        quality: of each entry, (n,), taken as it is.
        alpha: in [0, 1].
    """
    raise NotImplementedError


def shift_kinds(logits: Tensor, tokens: Tensor) -> list[str]:
    """Return "unshifted", "marginal" or "shifted" for each token of an answer.

    A token's rank is 1 + how many tokens of the vocabulary have larger logits in its place. Rank 1 is unshifted, 2 and
    3 are marginal, above is shifted.

    Args:
        logits: of the base, as it reads the answer, (T, V): row t holds what it thinks of the place of token t.
        tokens: the answer's, (T,) int64.
    """
    raise NotImplementedError


def rank_correlation(p: list[float], q: list[float]) -> float:
    """Return how alike two models order the options of one question, from -1 to 1.

    Replace each model's probabilities by their ranks: 1 for the largest, equal ones share a rank, and no rank is left
    out (0.4, 0.4, 0.2 have the ranks 1, 1, 2). Return Pearson's correlation of the two lists of ranks: with the means
    taken away, the sum of the products, divided by the root of both sums of squares. If a model gives all options the
    same, it has no order, and the correlation counts as 0.

    Args:
        p: one model's probabilities of the options, 2 or more.
        q: the other model's, as many.
    """
    raise NotImplementedError


EXERCISES = {
    "selection.keep_best": keep_best,
    "selection.lloyd_step": lloyd_step,
    "selection.gains": gains,
    "selection.greedy": greedy,
    "selection.shift_kinds": shift_kinds,
    "selection.rank_correlation": rank_correlation,
}

if __name__ == "__main__":
    from gptlab.checks import run

    raise SystemExit(run(EXERCISES))
