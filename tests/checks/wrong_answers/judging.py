"""Usual mistakes in chapter 12: the check, the wrong answer, and words of the hint that it must get."""

import math
import random
import re
import string
from statistics import fmean, pstdev

import numpy as np

DROPPED = dict.fromkeys(map(ord, string.punctuation))


def same(make_plain):
    """Return an exact_match that compares what `make_plain` makes of the texts."""
    return lambda prediction, reference: make_plain(prediction) == make_plain(reference)


def plain(
    text,
    lower=str.lower,
    punctuation=lambda text: text.translate(DROPPED),
    articles=lambda text: re.sub(r"\b(a|an|the)\b", " ", text),
    spaces=lambda text: " ".join(text.split()),
):
    return spaces(articles(punctuation(lower(text))))


def plain_but(**parts):
    return same(lambda text: plain(text, **parts))


def no_change(text):
    return text


def articles_first(text):
    text = re.sub(r"\b(a|an|the)\b", " ", text.lower())
    return " ".join(text.translate(DROPPED).split())


def squeezes_first(text):
    text = " ".join(text.lower().translate(DROPPED).split())
    return re.sub(r"\b(a|an|the)\b", " ", text).strip()


def match_checks(name="judging.exact_match"):
    return [
        (name, plain_but(lower=no_change), "upper and lower case"),
        (name, plain_but(punctuation=no_change), "a full stop"),
        (name, plain_but(punctuation=lambda text: text.rstrip(".")), "holds more than the full stop"),
        (name, plain_but(articles=no_change), "an article should make no difference"),
        (name, plain_but(articles=lambda text: re.sub(r"\bthe\b", " ", text)), "all three articles"),
        (name, plain_but(articles=lambda text: re.sub(r"an|a|the", "", text)), "only whole words"),
        (name, plain_but(articles=lambda text: re.sub(r"an", "", text)), "an article should make no difference"),
        (name, plain_but(articles=lambda text: re.sub(r"\b(a|an|the)", "", text)), "only whole words"),
        (name, plain_but(spaces=no_change), "spaces too many"),
        (name, same(squeezes_first), "squeeze spaces at the end"),
        (name, plain_but(spaces=lambda text: text.strip().replace("  ", " ")), "spaces too many"),
        (name, plain_but(spaces=lambda text: text.replace(" ", "")), "gone altogether"),
        (name, plain_but(spaces=lambda text: sorted(text.split())), "another order"),
        (name, plain_but(spaces=lambda text: set(text.split())), "another order"),
        (name, plain_but(spaces=lambda text: tuple(dict.fromkeys(text.split()))), "comes twice"),
        (name, plain_but(punctuation=lambda text: re.sub(r"[^\w\s]", " ", text)), "no space comes in its place"),
        (name, same(articles_first), "punctuation goes before the articles"),
        (name, plain_but(punctuation=lambda text: re.sub(r"[^a-z\s]", "", text)), "digits are to stay"),
        (name, lambda prediction, reference: plain(prediction) in plain(reference), "a part of the reference"),
        (name, lambda prediction, reference: plain(prediction), "True or False"),
        (name, lambda prediction, reference: None, "`return`"),
    ]


def table_lcs(
    *, same_cell=lambda table, i, j: table[i - 1][j - 1] + 1, other_cell=None, pick=lambda table: table[-1][-1]
):
    """Return an lcs_length by a table, with the cells that are asked to be wrong."""

    def lcs_length(first, second):
        table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
        for i in range(1, len(first) + 1):
            for j in range(1, len(second) + 1):
                if first[i - 1] == second[j - 1]:
                    table[i][j] = same_cell(table, i, j)
                elif other_cell is None:
                    table[i][j] = max(table[i - 1][j], table[i][j - 1])
                else:
                    table[i][j] = other_cell(table, i, j)
        return pick(table)

    return lcs_length


def greedy(first, second):
    place, length = 0, 0
    for word in first:
        if word in second[place:]:
            place = second.index(word, place) + 1
            length += 1
    return length


def pops(first, second):
    return table_lcs()([first.pop(0) for _ in range(len(first))], second)


def lcs_checks(name="judging.lcs"):
    contiguous = table_lcs(other_cell=lambda table, i, j: 0, pick=lambda table: max(map(max, table)))
    return [
        (name, contiguous, "gaps are allowed"),
        (name, lambda first, second: len(set(first) & set(second)), "not in the same order"),
        (name, lambda first, second: sum(word in second for word in first), "not in the same order"),
        (name, lambda first, second: sum(a == b for a, b in zip(first, second)), "gaps are allowed"),
        (name, table_lcs(same_cell=lambda table, i, j: table[i - 1][j] + 1), "cannot be taken twice"),
        (name, table_lcs(same_cell=lambda table, i, j: table[i][j - 1] + 1), "cannot be taken twice"),
        (name, table_lcs(other_cell=lambda table, i, j: table[i - 1][j - 1]), "gaps are allowed"),
        (name, table_lcs(other_cell=lambda table, i, j: table[i - 1][j]), "gaps are allowed"),
        (name, lambda first, second: table_lcs()(first[:20], second[:20]), "two random lists"),
        (name, greedy, "as soon as it comes"),
        (name, lambda first, second: table_lcs()("".join(first), "".join(second)), "letter by letter"),
        (name, table_lcs(pick=lambda table: table), "a length"),
        (name, pops, "were changed"),
        (name, lambda first, second: None, "`return`"),
    ]


def by_pattern(pattern, *, flags=0, find=re.fullmatch, most=100, think=True):
    """Return a parse_score by one pattern."""

    def parse_score(text):
        answer = text.rpartition("</think>")[2].strip() if think else text.strip()
        found = find(pattern, answer, flags)
        return int(found[1]) if found and int(found[1]) <= most else None

    return parse_score


WHOLE = r"(?:score: *)?(\d{1,3})(?:/100)?"


def by_int(text):
    try:
        return int(text)
    except ValueError:
        return None


def lenient_int(text):
    answer = text.rpartition("</think>")[2].strip().lower().removeprefix("score:").removesuffix("/100")
    score = by_int(answer)
    return score if score is not None and 0 <= score <= 100 else None


def falsy(text):
    return by_pattern(WHOLE, flags=re.I)(text) or None


def zero_for_none(text):
    return by_pattern(WHOLE, flags=re.I)(text) or 0


def score_checks(name="judging.parse_score"):
    ignore = {"flags": re.I}
    return [
        (name, by_int, "this reply states a score"),
        (name, by_pattern(r"(\d+)", find=re.search), "-5 is no score"),
        (name, by_pattern(r"(\d{1,3})", find=re.search, **ignore), "-5 is no score"),
        (name, by_pattern(r"\D*(\d+)\D*"), "this reply states a score"),
        (name, by_pattern(WHOLE), "this reply states a score"),
        (name, by_pattern(WHOLE, most=10**6, **ignore), "no score is above 100"),
        (name, by_pattern(r"(?:score: *)?(\d\d?0?)", find=re.match, **ignore), "no score is above 100"),
        (name, by_pattern(r"(?:score: *)?-?(\d{1,3})(?:/100)?", **ignore), "5 is not what was said"),
        (name, by_pattern(r"(?:score: *)?(\d{1,3})(?:/\d+)?", **ignore), "8 of 10 is not 8 of 100"),
        (name, by_pattern(r"(?:score: *)?(\d{1,3})(?:\.\d+)?(?:/100)?", **ignore), "85.5 is no whole number"),
        (
            name,
            by_pattern(r"(?:score: *)?(\d{1,3})(?:/100)?\d*", **ignore),
            "85 of 1000 is not",
        ),
        (name, by_pattern(WHOLE + r"(?:\D.*)?", flags=re.I), "digits alone"),
        (name, by_pattern(r".*?\b(?:score: *)?(\d{1,3})(?:/100)?", **ignore), "is not what was said"),
        (name, by_pattern(WHOLE, think=False, **ignore), "behind the last </think>"),
        (
            name,
            lambda text: by_pattern(WHOLE, flags=re.I, think=False)(text.partition("</think>")[2] or text),
            "behind the last",
        ),
        (name, lenient_int, "a sign is something else"),
        (name, lambda text: lenient_int(text) if "+" not in text else None, "although int() reads 85"),
        (name, falsy, "0 is a score"),
        (name, zero_for_none, "should be None, got 0"),
        (name, lambda text: "85", "a whole number or None"),
        (name, lambda text: None, "this reply states a score"),
    ]


def two_means(first, second):
    """Return a `means` by two functions of the scores and of which failed."""
    return lambda scores, failed: (first(scores, failed), second(scores, failed))


def scored(scores, failed):
    found = [score for score in scores if score is not None]
    return fmean(found) if found else None


def with_zeros(scores, failed):
    replied = [score or 0 for score, lost in zip(scores, failed) if not lost]
    return fmean(replied) if replied else None


def all_as_zero(scores, failed):
    return fmean(score or 0 for score in scores)


def over_all(scores, failed):
    return sum(score for score in scores if score is not None) / len(scores)


def unguarded(scores, failed):
    found = [score for score in scores if score is not None]
    return sum(found) / len(found)


def without_zeros(scores, failed):
    found = [score for score in scores if score]
    return fmean(found) if found else None


def takes_out(scores, failed):
    result = scored(scores, failed), with_zeros(scores, failed)
    while None in scores:
        scores.remove(None)
    return result


def mean_checks(name="judging.means"):
    return [
        (name, two_means(with_zeros, with_zeros), "the first mean is over the scored alone"),
        (name, two_means(over_all, with_zeros), "divided by all entries"),
        (name, two_means(scored, scored), "that of the scored"),
        (name, two_means(scored, all_as_zero), "a failed entry is counted as 0"),
        (name, two_means(with_zeros, scored), "the wrong way round"),
        (name, two_means(unguarded, with_zeros), "a mean of nothing is None"),
        (name, two_means(without_zeros, with_zeros), "0 is a score like any other"),
        (name, two_means(lambda *given: scored(*given) or 0.0, with_zeros), "it is None, got 0.0"),
        (name, two_means(scored, lambda *given: with_zeros(*given) or None), "have the mean 0, got None"),
        (name, two_means(scored, lambda *given: with_zeros(*given) or 0.0), "None and None, got"),
        (name, takes_out, "were changed"),
        (name, lambda scores, failed: scored(scores, failed), "should be a tuple"),
        (name, lambda scores, failed: None, "`return`"),
    ]


def bootstrap(*, size=len, ends=(0.025, 0.975), replace=True, of=lambda drawn: drawn.mean(axis=1), count=None):
    """Return an `interval`, right but for what is asked to be wrong."""

    def interval(values, draws, rng):
        drawn = rng.choice(values, size=(count or draws, size(values)), replace=True)
        if not replace:
            drawn = np.stack([rng.permutation(values) for _ in range(draws)])
        low, high = np.quantile(of(drawn), ends)
        return float(low), float(high)

    return interval


def standard_errors(values, draws, rng):
    half = 1.96 * pstdev(values) / math.sqrt(len(values))
    return fmean(values) - half, min(fmean(values) + half, max(values))


def deviations(values, draws, rng):
    return fmean(values) - 1.96 * pstdev(values), fmean(values) + 1.96 * pstdev(values)


def own_chance(values, draws, rng):
    means = [fmean(random.choices(values, k=len(values))) for _ in range(draws)]
    return tuple(np.quantile(means, [0.025, 0.975]))


def own_seed(values, draws, rng):
    return bootstrap()(values, draws, np.random.default_rng(0))


def sorts(values, draws, rng):
    values.sort()
    return bootstrap()(values, draws, rng)


def interval_checks(name="judging.interval"):
    return [
        (name, bootstrap(replace=False), "drawn without repetition"),
        (name, lambda values, draws, rng: tuple(np.quantile(values, [0.025, 0.975])), "quantiles of the values"),
        (name, bootstrap(of=np.ravel), "far too wide"),
        (name, bootstrap(size=lambda values: 1), "far too wide"),
        (name, standard_errors, "a formula"),
        (name, deviations, "above their largest"),
        (name, bootstrap(ends=(0.05, 0.95)), "which makes 90 %"),
        (name, bootstrap(ends=(0.005, 0.995)), "those of 99 %"),
        (name, bootstrap(ends=(0.25, 0.75)), "those of 50 %"),
        (name, bootstrap(ends=(0.975, 0.025)), "the lower end comes first"),
        (name, bootstrap(size=lambda values: max(1, len(values) // 2)), "only half as many"),
        (name, bootstrap(size=lambda values: 2 * len(values)), "twice as many"),
        (name, bootstrap(size=lambda values: 3), "far too wide"),
        (name, bootstrap(size=lambda values: 1000), "far too narrow"),
        (name, bootstrap(of=lambda drawn: np.median(drawn, axis=1)), "both ends are the same"),
        (name, bootstrap(ends=(0.06, 0.99)), "it should be near"),
        (name, bootstrap(count=4000), "is `draws` used?"),
        (name, own_chance, "must come from `rng`"),
        (name, own_seed, "every rng gives the same interval"),
        (name, sorts, "were changed"),
        (name, lambda values, draws, rng: fmean(values), "should be a tuple"),
        (name, lambda values, draws, rng: (0.0, float("nan")), "both ends are numbers"),
        (name, lambda values, draws, rng: None, "`return`"),
    ]


BACK = {"A": "B", "B": "A", "tie": "tie"}
VOTE = {"A": 1, "tie": 0, "B": -1}


def by_votes(*, mapped=BACK.get, needed=lambda convention: 2 if convention == "agreement" else 1):
    def outcome(first_order, second_order, convention):
        votes = VOTE[first_order] + VOTE[mapped(second_order)]
        return "win" if votes >= needed(convention) else "loss" if votes <= -needed(convention) else "tie"

    return outcome


def first_counts(first_order, second_order, convention):
    return {"A": "win", "tie": "tie", "B": "loss"}[first_order]


def loses_ties(first_order, second_order, convention):
    second_order = "B" if second_order == "A" else "A"
    return by_votes(mapped=lambda verdict: verdict)(first_order, second_order, convention)


def one_vote_wins(first_order, second_order, convention):
    both = {first_order, BACK[second_order]}
    if convention == "agreement":
        return by_votes()(first_order, second_order, convention)
    return "win" if "A" in both else "loss" if "B" in both else "tie"


def outcome_checks(name="judging.outcome"):
    return [
        (name, by_votes(mapped=lambda verdict: verdict), "Map the second verdict back"),
        (name, by_votes(needed=lambda convention: 1), "with 'agreement' one vote is not enough"),
        (name, by_votes(needed=lambda convention: 2), "with 'lima' a vote and a tie decide"),
        (name, by_votes(needed=lambda convention: 1 if convention == "agreement" else 2), "one vote is not enough"),
        (name, first_counts, "one vote for each side"),
        (name, loses_ties, "two ties are a tie"),
        (name, one_vote_wins, "one vote for each side"),
        (name, lambda *given: "A", "'win', 'tie' or 'loss' was asked for"),
        (
            name,
            lambda *given: {"win": "loss", "loss": "win", "tie": "tie"}[by_votes()(*given)],
            "both are votes for us",
        ),
        (name, lambda *given: None, "`return`"),
    ]


WRONG = [
    *match_checks(),
    *lcs_checks(),
    *score_checks(),
    *mean_checks(),
    *interval_checks(),
    *outcome_checks(),
]
