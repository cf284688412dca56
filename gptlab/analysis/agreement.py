"""Do two models order the options of multiple-choice questions alike? Correlations, and what chance would give.

For each question both models spread a probability over its options, p and q. The probabilities give way to their ranks,
the most likely option first, equal ones sharing a rank with no gap after it (dense), and Pearson's correlation of the
two lists of ranks is one question's consistency. A model that gives every option the same has no order: its
correlation would be 0 / 0, and counts as 0. The mean over all questions is reported.

With few options such a number is coarse (four options allow eleven values), and two models that know nothing agree now
and then. So what chance gives stands beside it, in two kinds:

    options shuffled     the tuned model's options in any order, question by question: no agreement at all
    questions shuffled   the base's answer to one question beside the tuned one's to another: what a common liking for
                         the first letter, whatever is asked, gives without any knowledge

Source: Ren et al. 2024, arXiv 2402.18243, and its code for ranks, NaN and mean; the two shuffles are this project's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

Groups = list[tuple[np.ndarray, np.ndarray, np.ndarray]]  # of one number of options: base, tuned, which questions


class Chance(NamedTuple):
    """What shuffling gives.

    Attributes:
        mean: of the shuffled correlations.
        low: 2.5 % of them are below.
        high: 2.5 % are above.
        p: how often a shuffle gives at least what was found, the found one counted too.
    """

    mean: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Agreement:
    """How alike two models see the options of a set of questions.

    Attributes:
        n: questions.
        rank_correlation: mean of Pearson's correlation of the dense ranks.
        correlation: mean of Pearson's correlation of the probabilities themselves.
        undefined: questions for which one model has no order, so that their correlation counts as 0.
        kl: mean KL(base || tuned) over the options, in nats.
        cosine: mean cosine of the two lists of probabilities.
        same_choice: share of questions for which both like the same option best.
        base_accuracy: share of questions with the right option first; None where right answers are not known.
        tuned_accuracy: the same of the tuned model.
        by_question: the rank correlation of each question.
        options_shuffled: what chance gives for the rank correlation; see the module.
        questions_shuffled: the same with a common liking for some letters left in.
    """

    n: int
    rank_correlation: float
    correlation: float
    undefined: int
    kl: float
    cosine: float
    same_choice: float
    base_accuracy: float | None
    tuned_accuracy: float | None
    by_question: list[float]
    options_shuffled: Chance
    questions_shuffled: Chance

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        shuffled = {name: getattr(self, name)._asdict() for name in ("options_shuffled", "questions_shuffled")}
        return {**asdict(self), **shuffled}


def agreement(
    base: Sequence[Sequence[float]],
    tuned: Sequence[Sequence[float]],
    answers: Sequence[int | None] | None = None,
    *,
    permutations: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Compare two models' probabilities of the options of each question.

    Args:
        base: for each question, the probability of each option.
        tuned: the same of the other model.
        answers: for each question, which option is right, from 0; None where it is not known.
        permutations: how many shuffles of each kind.
        seed: of the shuffles.

    Raises:
        ValueError: there are no questions, they differ in number or in options, one has fewer than two options, a
            number is no probability, or permutations is below 1.
    """
    if not len(base) or len(base) != len(tuned) or (answers is not None and len(answers) != len(base)):
        raise ValueError(f"need both models' options for the same questions, got {len(base)} and {len(tuned)}")
    if permutations < 1:
        raise ValueError(f"permutations must be >= 1, got {permutations}")
    pairs = [
        _check(number, *(np.asarray(side, dtype=float) for side in pair))
        for number, pair in enumerate(zip(base, tuned), start=1)
    ]
    groups: Groups = _by_size(pairs)
    ranked = [(_standard(dense_ranks(p)), _standard(dense_ranks(q)), rows) for p, q, rows in groups]
    raw = [(_standard(p), _standard(q), rows) for p, q, rows in groups]
    each = np.empty(len(pairs))
    for p, q, rows in ranked:
        each[rows] = (p * q).sum(axis=1)
    found, rng = float(each.mean()), np.random.default_rng(seed)
    by_options = [_shuffled(ranked, lambda q: rng.permuted(q, axis=1)) for _ in range(permutations)]
    by_questions = [_shuffled(ranked, lambda q: q[rng.permutation(len(q))]) for _ in range(permutations)]
    known = [(p, q, answer) for (p, q), answer in zip(pairs, answers or []) if answer is not None]
    return Agreement(
        n=len(pairs),
        rank_correlation=found,
        correlation=_mean([(p * q).sum(axis=1) for p, q, _ in raw]),
        undefined=sum(int(((p == 0).all(axis=1) | (q == 0).all(axis=1)).sum()) for p, q, _ in ranked),
        kl=_mean([_kl(p, q) for p, q, _ in groups]),
        cosine=_mean([(_unit(p) * _unit(q)).sum(axis=1) for p, q, _ in groups]),
        same_choice=_mean([p.argmax(axis=1) == q.argmax(axis=1) for p, q, _ in groups]),
        base_accuracy=_mean([np.array([p.argmax() == answer for p, _, answer in known])]) if known else None,
        tuned_accuracy=_mean([np.array([q.argmax() == answer for _, q, answer in known])]) if known else None,
        by_question=each.tolist(),
        options_shuffled=_chance(by_options, found),
        questions_shuffled=_chance(by_questions, found),
    )


def dense_ranks(values: np.ndarray) -> np.ndarray:
    """Return each value's rank in its row, 1 for the largest; equal values share one, and no rank is left out.

    >>> dense_ranks(np.array([[0.1, 0.5, 0.1, 0.3]])).tolist()
    [[3, 1, 3, 2]]
    """
    return np.stack([np.unique(-row, return_inverse=True)[1].reshape(row.shape) + 1 for row in values])


def _check(number: int, p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if p.ndim != 1 or p.shape != q.shape or len(p) < 2:
        raise ValueError(f"question {number} needs two options or more, as many for both, got {p.shape} and {q.shape}")
    for values in (p, q):
        if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
            raise ValueError(f"question {number}: the options need probabilities, got {values.tolist()}")
    return p / p.sum(), q / q.sum()


def _by_size(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Groups:
    """Put questions with as many options together, so that they are computed at once."""
    sizes: dict[int, list[int]] = defaultdict(list)
    for row, (p, _) in enumerate(pairs):
        sizes[len(p)].append(row)
    return [
        (np.stack([pairs[row][0] for row in rows]), np.stack([pairs[row][1] for row in rows]), np.array(rows))
        for rows in sizes.values()
    ]


def _standard(values: np.ndarray) -> np.ndarray:
    """Return rows of mean 0 and norm 1, whose products are Pearson's correlations; equal values give a row of 0."""
    flat = (values == values[:, :1]).all(axis=1, keepdims=True)  # subtracting the mean could leave rounding behind
    centred = np.where(flat, 0.0, values - values.mean(axis=1, keepdims=True))
    return _unit(centred)


def _unit(values: np.ndarray) -> np.ndarray:
    norms = np.sqrt((values**2).sum(axis=1, keepdims=True))
    return np.divide(values, norms, out=np.zeros_like(values, dtype=float), where=norms > 0)


def _kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    tiny = np.finfo(float).tiny  # an option that is impossible to the tuned model only
    return (p * np.log(np.maximum(p, tiny) / np.maximum(q, tiny))).sum(axis=1)


def _mean(parts: Sequence[np.ndarray]) -> float:
    return float(np.concatenate(parts).mean())


def _shuffled(groups: Groups, shuffle: Any) -> float:
    return _mean([(p * shuffle(q)).sum(axis=1) for p, q, _ in groups])


def _chance(drawn: Sequence[float], found: float) -> Chance:
    low, high = np.quantile(drawn, [0.025, 0.975])
    at_least = sum(value >= found - 1e-12 for value in drawn)
    return Chance(float(np.mean(drawn)), float(low), float(high), (1 + at_least) / (1 + len(drawn)))
