"""Exercises of chapter 12, judging. Write the functions, then run this file: it checks what is there so far.

    python chapters/ch12_judging/exercises.py                       # all of them
    python chapters/ch12_judging/exercises.py judging.parse_score   # one

None of them needs a model or a server. Solutions are in solutions.py. They help most when they are opened last.
"""

import re
from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np


def exact_match(prediction: str, reference: str) -> bool:
    """Return whether two texts are equal when each has been made plain, in this order:

    lower case; no punctuation (all of `string.punctuation`, taken away and not replaced); a space in place of each of
    the words a, an and the; and in the end one space between words and none around.
    """
    raise NotImplementedError


def lcs_length(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Return the length of the longest common subsequence: the longest list that both hold in order, gaps allowed.

    It must be fast enough for two texts of 200 words, so fill a table; trying all subsequences takes forever.

    Args:
        first: words, say.
        second: words, too; the two may have different lengths, and either may be empty.
    """
    raise NotImplementedError


def parse_score(text: str) -> int | None:
    """Return the score that a judge's reply states, a whole number from 0 to 100, or None.

    What stands before the last "</think>" is a thought and does not count. Of the rest, these three are read, with
    spaces and line ends around:

        85
        Score: 85        with any upper or lower case
        85/100

    Each must be the whole reply. All else is None: other texts around, numbers above 100, signs, fractions, "8/10".
    """
    raise NotImplementedError


def means(scores: list[int | None], failed: list[bool]) -> tuple[float | None, float | None]:
    """Return the mean of the scored entries, and the mean in which each unread reply counts as 0.

    An entry whose server failed says nothing about the response, so it is in neither. A mean of nothing is None.

    Args:
        scores: one for each entry; None where there is none.
        failed: for each entry, whether the server failed. Where it did not and the score is None, there was a reply
            that could not be read.
    """
    raise NotImplementedError


def interval(values: list[float], draws: int, rng: np.random.Generator) -> tuple[float, float]:
    """Return the bootstrap interval of the mean at 95 %.

    Draw as many values as there are, with repetition, and take their mean; do that `draws` times. The interval goes
    from the quantile 0.025 of these means to the quantile 0.975.

    Args:
        values: scores, at least one.
        draws: how many means.
        rng: for all that is random, such as rng.integers or rng.choice.

    Returns:
        The lower and the upper end, two numbers.
    """
    raise NotImplementedError


def outcome(
    first_order: Literal["A", "B", "tie"],
    second_order: Literal["A", "B", "tie"],
    convention: Literal["agreement", "lima"],
) -> Literal["win", "tie", "loss"]:
    """Return what two verdicts mean for our model.

    Args:
        first_order: what the judge said when our response was shown first, as A.
        second_order: what it said when our response was shown second, as B.
        convention: with "agreement" a win needs both votes, and a loss, too; all else is a tie. With "lima" a vote and
            a tie are also a win, or a loss; one vote for each side is a tie.
    """
    raise NotImplementedError


EXERCISES = {
    "judging.exact_match": exact_match,
    "judging.lcs": lcs_length,
    "judging.parse_score": parse_score,
    "judging.means": means,
    "judging.interval": interval,
    "judging.outcome": outcome,
}

if __name__ == "__main__":
    from gptlab.checks import run

    raise SystemExit(run(EXERCISES))
