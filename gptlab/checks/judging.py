"""Checks about judging: equality and overlap, reading replies, means and their interval, verdicts in both orders."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np

from gptlab.checks.core import check_of, close, expect, expect_returned, expect_tuple
from gptlab.judging.statistics import bootstrap_interval
from gptlab.rouge import lcs_length

_CONVENTIONS = ("agreement", "lima")


@check_of("judging.exact_match", "are two texts equal, but for their form?")
def exact_match(answer) -> None:
    for prediction, reference, same, hint in (
        ("Vale", "Vale", True, "a text is equal to itself"),
        ("Vale", "Fenn", False, "'Vale' is not 'Fenn'"),
        ("IN VALE", "in Vale", True, "upper and lower case should make no difference"),
        ("In Vale.", "In Vale", True, "a full stop should make no difference"),
        ("yes, in Vale!", "yes in Vale", True, "string.punctuation holds more than the full stop"),
        ("in   Vale ", "in Vale", True, "spaces too many should make no difference"),
        ("the goat", "goat", True, "an article should make no difference"),
        ("The goat", "goat", True, "'The' is an article, too: lower case comes first"),
        ("Vale", "The home is in Vale.", False, "a part of the reference is not equal to it"),
        ("theory", "ory", False, "'theory' lost its 'the': only whole words are articles"),
        ("see the goat", "see goat", True, "where an article was, two spaces are left: squeeze spaces at the end"),
        ("an owl and a cat", "owl and cat", True, "all three articles go, wherever they stand"),
        ("in Vale", "inVale", False, "spaces are gone altogether: one should stay between two words"),
        ("in Vale", "Vale", False, "the reference and more is not equal to it"),
        ("Tusolu greets Lumika", "Lumika greets Tusolu", False, "the same words in another order are another text"),
        ("very very old", "very old", False, "a word that comes twice counts twice"),
        ("well-known", "wellknown", True, "punctuation is taken away; no space comes in its place"),
        ("the-goat", "goat", False, "'the-goat' is no article and a word: punctuation goes before the articles"),
        ("3.", "3", True, "digits are to stay, and their full stop goes"),
        ("3", "4", False, "digits are to stay: '3' is not '4'"),
        ("the", "", True, "an article alone is an empty text"),
    ):
        for one, other in ((prediction, reference), (reference, prediction)):
            got = answer(one, other)
            expect_returned(got)
            expect(isinstance(got, bool | np.bool_), f"True or False was asked for, got {got!r:.60}")
            expect(bool(got) == same, f"{hint} ({one!r} and {other!r} gave {got})")


@check_of("judging.lcs", "the length of the longest common subsequence")
def lcs(answer) -> None:
    for first, second, right, hint in (
        ("abc", "abc", 3, "a text has all of itself in common"),
        ("abc", "xyz", 0, "nothing is in both"),
        ("", "abc", 0, "an empty text has nothing in common with any"),
        ("abc", "", 0, "an empty text has nothing in common with any"),
        ("abcde", "xaxce", 3, "a, c and e come in this order in both: gaps are allowed"),
        ("abc", "cba", 1, "all three letters are in both, but not in the same order"),
        ("aaa", "a", 1, "one word of the one cannot be taken twice for the same word of the other"),
        ("a", "aaa", 1, "one word of the one cannot be taken twice for the same word of the other"),
        ("aab", "ab", 2, "both texts begin with a and end with b, so at least these two are common"),
        ("abc", "bca", 2, "to take each word as soon as it comes is not always the longest way: here that is b, c"),
    ):
        got = _length(answer, list(first), list(second))
        expect(got == right, f"{hint} ({first!r} and {second!r} have {right} in common, got {got})")
    words = _length(answer, ["in", "vale"], ["ni", "vale"])
    expect(words == 1, f"words are compared as a whole, not letter by letter; of 'in vale' and 'ni vale' got {words}")
    chance = random.Random(0)
    for lengths in ((5, 9), (9, 5), (30, 30), (200, 180)):
        first, second = ([chance.choice("abcd") for _ in range(length)] for length in lengths)
        got, right = _length(answer, first, second), lcs_length(first, second)
        expect(got == right, f"two random lists of {lengths[0]} and {lengths[1]} have {right} in common, got {got}")


def _length(answer: Any, first: list[str], second: list[str]) -> int:
    given = list(first), list(second)
    got = answer(*given)
    expect_returned(got)
    expect(given == (first, second), "the lists that came in were changed")
    is_number = isinstance(got, int | np.integer) and not isinstance(got, bool)
    expect(is_number, f"a length, which is a whole number, was asked for, got {got!r:.60}")
    return int(got)


@check_of("judging.parse_score", "read a reply strictly")
def parse_score(answer) -> None:
    read = {"85": 85, "7": 7, "100": 100, "0": 0, " 85\n": 85, "\n\n85": 85}
    read |= {"Score: 85": 85, "score: 85": 85, "SCORE: 85\n": 85, "Score: 0": 0, "85/100": 85, " 0/100": 0}
    for text, right in read.items():
        got = _read(answer, text)
        hint = (
            "0 is a score, and a bad one; None says that there is none" if right == 0 else "this reply states a score"
        )
        expect(got == right, f"{hint}: {text!r} is {right}, got {got}")
    for text, hint in (
        ("", "an empty reply holds no score"),
        ("I cannot judge this.", "there is no number in it"),
        ("850", "no score is above 100; do not read a part of the number either"),
        ("101", "no score is above 100"),
        ("Score: 850", "no score is above 100; do not read a part of the number either"),
        ("-5", "-5 is no score, and 5 is not what was said"),
        ("Score: -5", "-5 is no score, and 5 is not what was said"),
        ("+85", "a sign is something else than a number alone; int() is more lenient than the task"),
        ("8_5", "that is not digits alone, although int() reads 85 there"),
        ("8/10", "8 of 10 is not 8 of 100"),
        ("85/1000", "85 of 1000 is not 85 of 100: the whole reply has to match"),
        ("850/100", "no score is above 100; do not read a part of the number either"),
        ("85.5", "85.5 is no whole number, and 85 is not what was said"),
        ("8 5", "two numbers are not one"),
        ("It names 3 of 4 planets.", "a number in a sentence need not be the score"),
        ("On a scale from 0 to 100 I give 85", "the first number of a sentence need not be the score"),
        ("On a scale from 0 to 100 it is good", "the last number of a sentence need not be the score"),
        ("Score: 85, no, Score: 20", "a reply that contradicts itself has no score"),
        ("High score: 85 points", "there is more in the reply than the task allows"),
        ("<think>85</think>", "what stands in the thought does not count, and nothing comes after it"),
        ("<think>Score: 85", "a thought that does not end is no reply"),
    ):
        got = _read(answer, text)
        expect(got is None, f"{hint}: {text!r} should be None, got {got}")
    for text in (
        "<think>Is it 40?</think>\n\n85",
        "<think>40</think>Score: 85",
        "40</think>85",
        "a</think>40</think>85",
    ):
        got = _read(answer, text)
        expect(got == 85, f"only what stands behind the last </think> counts: {text!r} is 85, got {got}")


def _read(answer: Any, text: str) -> int | None:
    got = answer(text)
    whole = got is None or (isinstance(got, int) and not isinstance(got, bool))
    expect(whole, f"a whole number or None was asked for, and {text!r} gave {got!r:.60} ({type(got).__name__})")
    return got


@check_of("judging.means", "the mean of the scored, and the one with zeros")
def means(answer) -> None:
    scores, failed = [80, None, 100, None, 30], [False, False, False, True, False]
    got = _two_means(answer, scores, failed)
    expect(not close(got[0] or 0.0, 52.5) or not close(got[1] or 0.0, 70), "the two are the wrong way round")
    for wrong, hint in (
        (52.5, "the first mean is over the scored alone: nothing else is in its sum or its count"),
        (42, "the first mean is divided by all entries, also by those that have no score"),
        (105, "the sum is divided by the number of entries without a score"),
    ):
        expect(not close(got[0] or 0.0, wrong), hint)
    expect(close(got[0] or 0.0, 70), f"the mean of 80, 100 and 30 is 70, got {got[0]}")
    for wrong, hint in (
        (70, "the second mean is that of the scored: an unread reply counts as 0 there"),
        (42, "a failed entry is counted as 0; it says nothing about the response, so leave it out"),
    ):
        expect(not close(got[1] or 0.0, wrong), hint)
    expect(close(got[1] or 0.0, 52.5), f"with the unread one as 0 it is 210 / 4 = 52.5, got {got[1]}")
    got = _two_means(answer, [0, 100], [False, False])
    expect(got == (50, 50), f"0 is a score like any other: the means of 0 and 100 are 50 and 50, got {got}")
    got = _two_means(answer, [None, None], [False, False])
    expect(got[0] is None, f"without a single score there is no mean: it is None, got {got[0]}")
    expect(got[1] == 0, f"two unread replies as 0 have the mean 0, got {got[1]}")
    got = _two_means(answer, [None, 60], [True, False])
    expect(got == (60, 60), f"one failed and one scored 60: both means are 60, got {got}")
    got = _two_means(answer, [None, None], [True, True])
    expect(got == (None, None), f"if all failed there is nothing to take a mean of: None and None, got {got}")


def _two_means(answer: Any, scores: list[int | None], failed: list[bool]) -> tuple[float | None, float | None]:
    given = list(scores), list(failed)
    try:
        got = expect_tuple(answer(*given), "the result")
    except ZeroDivisionError:
        expect(False, f"division by zero, for the scores {scores}: a mean of nothing is None")
    expect(given == (scores, failed), "the lists that came in were changed")
    expect(len(got) == 2, f"two means were asked for, got {len(got)}")
    for one in got:
        expect(one is None or isinstance(one, int | float | np.number), f"a mean is a number or None, got {one!r:.60}")
    return got


@check_of("judging.interval", "a bootstrap interval of the mean")
def interval(answer) -> None:
    got = _ends(answer, [70.0] * 20, 200)
    expect(close(got, (70.0, 70.0)), f"20 scores of 70: every drawn mean is 70, and so are both ends, got {got}")
    values = [100.0] * 22 + [40.0, 45.0, 30.0, 60.0, 0.0, 35.0, 80.0, 50.0]
    n, mean, spread = len(values), float(np.mean(values)), float(np.std(values))
    low, high = _ends(answer, values, 4000)
    width, usual = high - low, 2 * 1.96 * spread / math.sqrt(n)
    expect(width > 1e-6, "both ends are the same: drawn without repetition, every mean is that of the values")
    at = np.quantile(values, [0.025, 0.975])
    expect(not close((low, high), at, 0.02), "these are quantiles of the values; take those of the drawn means")
    symmetric = close((low, high), (mean - usual / 2, mean + usual / 2), 1e-3)
    expect(not symmetric, "that is mean ± 1.96 standard errors, a formula; here the means are to be drawn")
    right = bootstrap_interval(values, resamples=20_000)
    ratio = width / (right.high - right.low)
    for wrong, hint in (
        (1.645 / 1.96, "the ends leave out 5 % at each side, which makes 90 %; 95 % leave out 2.5 % at each"),
        (2.576 / 1.96, "the ends are those of 99 %; 95 % leave out 2.5 % at each side"),
        (0.674 / 1.96, "the ends are those of 50 %: 0.025 and 0.975 were asked for"),
        (math.sqrt(2), "as if only half as many values were drawn for each mean; draw as many as there are"),
        (math.sqrt(1 / 2), "as if twice as many values were drawn for each mean; draw as many as there are"),
    ):
        expect(abs(ratio / wrong - 1) > 0.06, hint)
    expect(ratio < 2.5, "far too wide: a mean is taken of as many drawn values as there are, not of one or a few")
    expect(ratio > 0.4, "far too narrow: each mean is of as many drawn values as there are, not of more")
    expect(
        max(abs(low - right.low), abs(high - right.high)) < 0.06 * width,
        f"from {low:.1f} to {high:.1f}; it should be near {right.low:.1f} to {right.high:.1f}",
    )
    _look_at_draws(answer, values)


def _look_at_draws(answer: Any, values: list[float]) -> None:
    one = _ends(answer, values, 1)
    expect(one[0] == one[1], "with draws=1 there is one mean, and both ends are it: is `draws` used?")
    same = [_ends(answer, values, 50, seed=3) for _ in range(2)]
    expect(same[0] == same[1], "the same rng gave two intervals: all that is random must come from `rng`")
    other = {_ends(answer, values, 50, seed=seed) for seed in range(4)}
    expect(len(other) > 1, "every rng gives the same interval: all that is random must come from `rng`")


def _ends(answer: Any, values: list[float], draws: int, seed: int = 0) -> tuple[float, float]:
    given = list(values)
    got = expect_tuple(answer(given, draws, np.random.default_rng(seed)), "the interval")
    expect(given == values, "the values that came in were changed")
    expect(len(got) == 2, f"two ends were asked for, got {len(got)}")
    ends = float(got[0]), float(got[1])
    expect(all(map(math.isfinite, ends)), f"both ends are numbers, got {ends}")
    expect(ends[0] <= ends[1], f"the lower end comes first, got {ends}")
    inside = min(values) - 1e-9 <= ends[0] and ends[1] <= max(values) + 1e-9
    expect(inside, f"no mean of drawn values is below their smallest or above their largest, got {ends}")
    return ends


@check_of("judging.outcome", "what the verdicts in both orders mean")
def outcome(answer) -> None:
    for convention in _CONVENTIONS:
        got = _outcome(answer, "A", "B", convention)
        hint = "A when we stood first, B when we stood second: both are votes for us"
        expect(got == "win", f"{hint}. Map the second verdict back; with {convention!r} it is a win, got {got!r}")
        got = _outcome(answer, "B", "A", convention)
        expect(got == "loss", f"B and then A are two votes against us; with {convention!r} a loss, got {got!r}")
        for both in "AB":
            got = _outcome(answer, both, both, convention)
            hint = f"{both} in both orders is one vote for each side: the judge likes a place"
            expect(got == "tie", f"{hint}. With {convention!r} that is a tie, got {got!r}")
        got = _outcome(answer, "tie", "tie", convention)
        expect(got == "tie", f"two ties are a tie with {convention!r}, got {got!r}")
    for one, other, lima in (("A", "tie", "win"), ("tie", "B", "win"), ("B", "tie", "loss"), ("tie", "A", "loss")):
        got = _outcome(answer, one, other, "agreement")
        expect(got == "tie", f"with 'agreement' one vote is not enough: {one} and {other} are a tie, got {got!r}")
        got = _outcome(answer, one, other, "lima")
        expect(got == lima, f"with 'lima' a vote and a tie decide: {one} and {other} are a {lima}, got {got!r}")


def _outcome(answer: Any, one: str, other: str, convention: str) -> str:
    got = answer(one, other, convention)
    expect_returned(got)
    expect(got in ("win", "tie", "loss"), f"'win', 'tie' or 'loss' was asked for, got {got!r:.60}")
    return got
