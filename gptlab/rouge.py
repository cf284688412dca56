"""ROUGE-L: how much of a text comes again in another, in the same order.

The longest common subsequence (LCS) of two lists of tokens is the longest list that both contain in order, gaps
allowed. With its length L, a candidate of n tokens and a reference of m:

    precision P = L / n        recall R = L / m        F = (1 + β²) P R / (R + β² P)

β says how much more recall counts than precision: 1 is their harmonic mean, the usual choice today; Lin's own
evaluations took it so large that recall alone was left.

Tokens are those of Google's rouge-score, so that the numbers are the published ones: runs of a-z and 0-9 in lower case,
without stemming. By that rule alone a Chinese text has no tokens, and every score of it is 0. So each Chinese, Japanese
or Korean character is a token of its own here. What is written in other letters has none, as there.

Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", section 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import regex

CJK = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}"  # written without spaces between words, or nearly so
FULL_WIDTH = {0xFF01 + place: 0x21 + place for place in range(94)}  # "Ａ１，" as Chinese keyboards write "A1,"

_TOKEN = regex.compile(rf"[a-z0-9]+|[{CJK}]")


class RougeL(NamedTuple):
    """The three numbers of one comparison, each in [0, 1]."""

    precision: float
    recall: float
    fmeasure: float


def rouge_l(candidate: str, reference: str, *, beta: float = 1.0) -> float:
    """Return the F-measure of ROUGE-L; 0 if either text has no tokens.

    Args:
        candidate: what was written.
        reference: what was wanted.
        beta: above 1 recall counts for more, below 1 precision does; 0 leaves precision alone.

    Raises:
        ValueError: beta is negative or not finite.

    Source: Lin 2004, equation 4; equal to rouge-score's "rougeL" at beta=1 for English.

    >>> rouge_l("The cat sat.", "the black cat sat down"), rouge_l("猫坐下了", "黑猫坐下")
    (0.7499999999999999, 0.75)
    """
    return rouge_l_scores(candidate, reference, beta=beta).fmeasure


def rouge_l_scores(candidate: str, reference: str, *, beta: float = 1.0) -> RougeL:
    """Return precision, recall and F-measure of ROUGE-L.

    Arguments, errors and source as for `rouge_l`.
    """
    if not (math.isfinite(beta) and beta >= 0):
        raise ValueError(f"beta must be a number >= 0, got {beta!r}")
    written, wanted = rouge_tokens(candidate), rouge_tokens(reference)
    common = lcs_length(written, wanted)
    if not common:
        return RougeL(0.0, 0.0, 0.0)
    precision, recall = common / len(written), common / len(wanted)
    # In this order of operations the last bit is rouge-score's, which matters to whoever sorts out by "above 0.7".
    fmeasure = (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
    return RougeL(precision, recall, fmeasure)


def rouge_tokens(text: str) -> list[str]:
    """Return the tokens that ROUGE compares.

    Letters and digits of double width, as Chinese keyboards write them, are read as the plain ones.

    >>> rouge_tokens("GPT-2's vocabulary: 50,257 词")
    ['gpt', '2', 's', 'vocabulary', '50', '257', '词']
    """
    return _TOKEN.findall(text.translate(FULL_WIDTH).lower())


def lcs_length(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Return the length of the longest common subsequence.

    In the table L[i][j], the LCS of the first i and the first j tokens, neighbours in a column differ by 0 or 1. So a
    column is a number with a bit for each i: 0 where L grows by one there, 1 where it does not. Python's integers are
    as long as need be, and one addition, whose carry runs to the next place where L may grow, makes the next column.
    That is len(second) steps on whole columns, not len(first) * len(second) on cells.

    Source: Hyyrö 2004, "Bit-parallel LCS-length computation revisited".

    >>> lcs_length("abcde", "xaxce")
    3
    """
    places: dict[Hashable, int] = {}  # token -> the bits of where it stands in `first`
    for place, token in enumerate(first):
        places[token] = places.get(token, 0) | 1 << place
    everywhere = (1 << len(first)) - 1
    column = everywhere
    for token in second:
        matches = column & places.get(token, 0)
        column = ((column + matches) | (column - matches)) & everywhere
    return len(first) - column.bit_count()
