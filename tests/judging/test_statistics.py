"""The interval, the test and the agreement as scipy and scikit-learn compute them."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap
from sklearn.metrics import cohen_kappa_score

from gptlab.judging.statistics import binomial_test, bootstrap_interval, cohen_kappa

SCORES = [85, 90, 0, 45, 70, 100, 60, 85, 30, 95, 20, 75]


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_the_interval_is_about_that_of_scipy(level):
    settings = {"method": "percentile", "confidence_level": level, "n_resamples": 50_000, "rng": 1}
    theirs = bootstrap([SCORES], np.mean, **settings).confidence_interval
    assert bootstrap_interval(SCORES, level=level, resamples=50_000) == pytest.approx(tuple(theirs), abs=0.7)


def test_the_interval_of_many_values_is_the_normal_one():
    values = np.random.default_rng(3).normal(50, 10, size=5_000)
    low, high = bootstrap_interval(values.tolist(), resamples=2_000)
    half = 1.96 * values.std() / math.sqrt(values.size)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05)


def test_the_seed_makes_the_interval_again():
    first = bootstrap_interval(SCORES, resamples=50)
    assert first == bootstrap_interval(SCORES, resamples=50, seed=0)
    assert first != bootstrap_interval(SCORES, resamples=50, seed=1)
    assert bootstrap_interval(SCORES, level=0.5).low > bootstrap_interval(SCORES).low
    assert bootstrap_interval([7]) == bootstrap_interval([7, 7, 7]) == (7, 7)


def test_draws_in_pieces_are_all_made(monkeypatch):
    """A place in memory that no draw was written to would widen the interval without end."""
    monkeypatch.setattr("gptlab.judging.statistics.DRAWS_AT_ONCE", 30)
    low, high = bootstrap_interval(SCORES, resamples=1_001, level=0.9999)
    assert min(SCORES) <= low < high <= max(SCORES)
    assert bootstrap_interval(SCORES, resamples=1_001) == pytest.approx(bootstrap_interval(SCORES), abs=3)


def test_wrong_requests_for_an_interval():
    with pytest.raises(ValueError, match="at least one value, got none"):
        bootstrap_interval([])
    with pytest.raises(ValueError, match="values must be finite, got nan"):
        bootstrap_interval([1, math.nan])
    for level in (0, 1, 95):
        with pytest.raises(ValueError, match=f"level must be between 0 and 1, got {level}"):
            bootstrap_interval(SCORES, level=level)
    with pytest.raises(ValueError, match="resamples must be >= 1, got 0"):
        bootstrap_interval(SCORES, resamples=0)


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_p_value_is_that_of_scipy(wins, losses):
    theirs = binomtest(wins, wins + losses).pvalue if wins + losses else 1
    assert binomial_test(wins, losses) == pytest.approx(theirs, rel=1e-9)
    assert binomial_test(wins, losses) == binomial_test(losses, wins)


def test_large_and_wrong_counts():
    assert binomial_test(2_400, 2_600) == pytest.approx(binomtest(2_400, 5_000).pvalue, rel=1e-9)
    with pytest.raises(ValueError, match="losses must be a whole number >= 0, got -1"):
        binomial_test(3, -1)
    with pytest.raises(ValueError, match="wins must be a whole number >= 0, got 2.5"):
        binomial_test(2.5, 1)


labels = st.sampled_from(["A", "B", "tie"])


@given(st.lists(st.tuples(labels, labels), min_size=1))
def test_kappa_is_that_of_scikit_learn(pairs):
    first, second = zip(*pairs)
    ours = cohen_kappa(first, second)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of what is not defined
        theirs = cohen_kappa_score(first, second)
    if math.isnan(theirs):
        assert ours is None
    else:
        assert ours == pytest.approx(theirs, abs=1e-12)


def test_kappa_of_few():
    assert cohen_kappa(["A", "B"], ["A", "B"]) == 1
    assert cohen_kappa(["A", "B"], ["B", "A"]) == -1
    assert cohen_kappa(["A", "A"], ["A", "A"]) is None
    for first, second in (([], []), (["A"], ["A", "B"])):
        with pytest.raises(ValueError, match=f"the same items, got {len(first)} and {len(second)}"):
            cohen_kappa(first, second)
