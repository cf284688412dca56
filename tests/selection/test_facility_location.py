import contextlib
import importlib
import io

import numpy as np
import pytest
import torch

from gptlab.selection.embedding import unit_rows
from gptlab.selection.facility_location import coverage, coverage_curve, facility_location, scaled_quality
from gptlab.selection.similarity import UNIT, AllPairs, NearestPairs

module = importlib.import_module("gptlab.selection.facility_location")  # the package has the function by that name


def vectors(n, dimensions=16, clusters=None, seed=0):
    """Return vectors without ties: isotropic, or around as many directions as there are clusters."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, dimensions))
    return rows if clusters is None else rng.standard_normal((clusters, dimensions))[np.arange(n) % clusters] + rows


def naive(embeddings, k, quality, alpha):
    rows = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    similar, cover, picked = np.maximum(rows @ rows.T, 0), np.zeros(len(rows)), []
    for _ in range(k):
        gains = (1 - alpha) * np.maximum(similar - cover, 0).mean(axis=1) + alpha * quality
        gains[picked] = -np.inf
        picked.append(int(gains.argmax()))
        cover = np.maximum(cover, similar[picked[-1]])
    return picked


class TestExact:
    @pytest.mark.filterwarnings("ignore:Please import .csr_matrix:DeprecationWarning")  # submodlib's
    @pytest.mark.parametrize("optimizer", ["NaiveGreedy", "LazyGreedy"])
    def test_submodlibs_picks_and_gains(self, optimizer):
        FacilityLocationFunction = pytest.importorskip("submodlib").FacilityLocationFunction  # for Linux alone

        embeddings = vectors(300, clusters=20)
        rows = unit_rows(embeddings, np.float64)
        similar = np.maximum(rows @ rows.T, 0).astype(np.float32)
        theirs = FacilityLocationFunction(n=300, mode="dense", sijs=similar, separate_rep=False)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            expected = theirs.maximize(budget=20, optimizer=optimizer, show_progress=False)
        picked = facility_location(embeddings, 20)
        assert picked == [number for number, _ in expected]
        gains = np.diff(coverage_curve(embeddings, picked), prepend=0) * 300
        assert gains == pytest.approx([gain for _, gain in expected], abs=1e-3)

    @pytest.mark.parametrize("alpha", [0.0, 0.2, 0.5, 0.9, 1.0])
    @pytest.mark.parametrize("clusters", [None, 15])
    def test_the_picks_of_the_plain_loop(self, alpha, clusters):
        embeddings = vectors(250, clusters=clusters, seed=2)
        quality = np.random.default_rng(3).uniform(1, 5, 250) / 1000
        assert facility_location(embeddings, 25, quality=quality, alpha=alpha) == naive(embeddings, 25, quality, alpha)

    def test_quality_is_taken_as_given(self):
        embeddings = vectors(60)
        quality = np.random.default_rng(0).uniform(1, 5, 60)
        by_quality = np.argsort(-quality)[:10].tolist()
        assert facility_location(embeddings, 10, quality=quality, alpha=1) == by_quality
        assert facility_location(embeddings, 10, quality=quality, alpha=0.5)[:1] == by_quality[:1]  # 1 to 5 outweighs d
        assert facility_location(embeddings, 10, quality=quality, alpha=0) == facility_location(embeddings, 10)

    def test_neither_lengths_nor_the_kind_of_array_matter(self):
        embeddings = vectors(80)
        expected = facility_location(embeddings, 12)
        lengths = 2.0 ** np.random.default_rng(1).integers(-20, 20, (80, 1))
        assert facility_location(embeddings * lengths, 12) == expected
        assert facility_location(torch.tensor(embeddings, requires_grad=True), 12) == expected
        assert facility_location(embeddings.tolist(), 12) == expected

    def test_a_shorter_selection_is_the_beginning_of_a_longer_one(self):
        embeddings = vectors(100, seed=4)
        whole = facility_location(embeddings, 100)
        assert sorted(whole) == list(range(100))
        assert facility_location(embeddings, 30) == whole[:30]


class TestTies:
    def test_equal_embeddings_are_picked_in_their_order_after_all_others(self):
        once = vectors(37, 24, seed=5).astype(np.float32)
        embeddings = np.concatenate([once, once, once])
        picked = facility_location(embeddings, 111)
        assert sorted(picked[:37]) == list(range(37))  # the first of the three, each time
        assert picked[37:] == list(range(37, 111))  # which add nothing any more

    def test_two_that_cover_each_other_and_nothing_else(self):
        """The gains are the same sum in another order, which rounding would tell apart."""
        for seed in range(8):
            pairs = np.zeros((12, 18))
            for row, weights in enumerate(np.random.default_rng(seed).uniform(1, 2, (12, 3))):
                pairs[row, row // 2 * 3 : row // 2 * 3 + 3] = weights
            assert {number % 2 for number in facility_location(pairs, 6)} == {0}

    def test_equal_quality(self):
        assert facility_location(np.eye(4), 4, quality=[2, 3, 3, 2], alpha=1) == [1, 2, 0, 3]

    def test_zeros_are_like_nothing_and_come_last(self):
        embeddings = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])
        assert facility_location(embeddings, 4) == [1, 3, 0, 2]
        assert coverage(embeddings, [0, 2]) == 0


class TestNeighbours:
    def test_all_neighbours_are_exact(self):
        embeddings = vectors(60)
        assert facility_location(embeddings, 60, neighbours=60) == facility_location(embeddings, 60)
        assert facility_location(embeddings, 20, neighbours=10**6) == facility_location(embeddings, 20)

    @pytest.mark.parametrize("clusters", [None, 40])
    def test_a_few_reach_nearly_the_exact_objective(self, clusters):
        embeddings = vectors(800, 32, clusters)
        exact = coverage_curve(embeddings, facility_location(embeddings, 200))
        found = coverage_curve(embeddings, facility_location(embeddings, 200, neighbours=50))
        for k, least in ((1, 1), (10, 0.98), (50, 0.995), (200, 0.995)):
            assert found[k - 1] >= least * exact[k - 1] - 1e-6

    def test_quality_counts_there_too(self):
        embeddings, quality = vectors(300, 32), np.random.default_rng(0).uniform(0, 1, 300)
        picked = facility_location(embeddings, 20, quality=quality, alpha=1, neighbours=5)
        assert picked == np.argsort(-quality)[:20].tolist()

    def test_more_entries_than_are_computed_exactly(self, monkeypatch):
        embeddings = vectors(150)
        monkeypatch.setattr(module, "EXACT", 100)
        monkeypatch.setattr(module, "NEIGHBOURS", 20)
        assert facility_location(embeddings, 30) == facility_location(embeddings, 30, neighbours=20)
        assert facility_location(embeddings[:100], 30) == facility_location(embeddings[:100], 30, neighbours=100)

    def test_the_graph_is_scikit_learns(self, monkeypatch):
        from sklearn.neighbors import NearestNeighbors

        from gptlab.selection import similarity

        monkeypatch.setattr(similarity, "BLOCK", 1000)  # several blocks, the last one shorter
        rows = unit_rows(vectors(130))
        pairs = NearestPairs(rows, 7)
        nearest = NearestNeighbors(n_neighbors=7, metric="cosine").fit(rows).kneighbors(rows, return_distance=False)
        for number in range(130):
            places, similar = pairs.near(number)
            assert places.tolist() == np.flatnonzero((nearest == number).any(axis=1)).tolist()
            assert similar / UNIT == pytest.approx(np.maximum(rows[places] @ rows[number], 0), abs=1e-6)
        exact = AllPairs(rows)
        assert pairs.totals / UNIT == pytest.approx(exact.totals / UNIT, abs=1e-4)
        assert pairs.row(3) / UNIT == pytest.approx(exact.row(3) / UNIT, abs=1e-6)


class TestCoverage:
    def test_by_the_definition(self):
        embeddings, picked = vectors(50), [3, 1, 40]
        rows = unit_rows(embeddings, np.float64)
        expected = [np.maximum(rows @ rows[picked[:j]].T, 0).max(axis=1).mean() for j in (1, 2, 3)]
        assert coverage_curve(embeddings, picked) == pytest.approx(expected)
        assert coverage(embeddings, picked) == pytest.approx(expected[-1])
        assert coverage(embeddings, range(50)) == pytest.approx(1)
        assert coverage_curve(embeddings, []) == []

    def test_greedy_is_above_its_bound_and_its_gains_shrink(self):
        from itertools import combinations

        embeddings = vectors(14, 4)
        best = max(coverage(embeddings, three) for three in combinations(range(14), 3))
        curve = coverage_curve(embeddings, facility_location(embeddings, 14))
        assert best >= curve[2] - 1e-6 >= (1 - 1 / np.e) * best
        assert (np.diff(curve, 2, prepend=0) <= 1e-6).all()

    def test_embeddings_are_looked_at_without_picks_too(self):
        with pytest.raises(ValueError, match="that of entry 0 is not"):
            coverage([[np.nan]], [])

    @pytest.mark.parametrize("number", [-1, 5])
    def test_an_entry_that_is_none(self, number):
        with pytest.raises(ValueError, match=rf"picked must be in \[0, 5\), got {number}"):
            coverage(np.eye(5), [0, number])


class TestScaledQuality:
    def test_what_greedy_climbs_is_coverage_and_mean_quality(self):
        scores = [1, 3, 5, 2]
        assert scaled_quality(scores, 2) == [0, 0.25, 0.5, 0.125]
        assert sum(scaled_quality(scores, 4)) == pytest.approx((np.mean(scores) - 1) / 4)
        assert scaled_quality([4, 4], 1) == [0, 0]

    def test_alpha_trades_one_for_the_other(self):
        embeddings, scores = vectors(200, clusters=10), np.random.default_rng(1).uniform(1, 5, 200)
        quality = scaled_quality(scores, 20)
        picks = [facility_location(embeddings, 20, quality=quality, alpha=alpha) for alpha in (0, 0.3, 0.7, 1)]
        covered = [coverage(embeddings, picked) for picked in picks]
        means = [scores[picked].mean() for picked in picks]
        assert covered == sorted(covered, reverse=True)
        assert means == sorted(means)
        assert len(set(covered)) == len(set(means)) == 4

    @pytest.mark.parametrize(("scores", "k", "says"), [([], 1, "each of 0"), ([1], 2, r"k must be in \[1, 1\]")])
    def test_what_cannot_be_scaled(self, scores, k, says):
        with pytest.raises(ValueError, match=says):
            scaled_quality(scores, k)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"k": 0}, r"k must be in \[1, 4\], the number of entries, got 0"),
        ({"k": 5}, "got 5"),
        ({"k": 1.5}, r"k must be in \[1, 4\], the number of entries, got 1.5"),
        ({"k": "2"}, "got '2'"),
        ({"alpha": 1.5, "quality": [1] * 4}, r"alpha must be in \[0, 1\], got 1.5"),
        ({"alpha": -0.1}, "got -0.1"),
        ({"alpha": float("nan")}, "got nan"),
        ({"alpha": 0.5}, "alpha=0.5 weighs a quality, and none is given"),
        ({"neighbours": 0}, "neighbours must be >= 1, got 0"),
        ({"quality": [1, 2, 3]}, r"each of 4 entries, got shape \(3,\)"),
        ({"quality": [1, 2, None, 4]}, "that of entry 2 is not"),
        ({"quality": [1, float("inf"), 3, 4]}, "that of entry 1 is not"),
        ({"quality": ["good"] * 4}, "must be a number for each entry"),
    ],
)
def test_what_is_refused(options, says):
    with pytest.raises(ValueError, match=says):
        facility_location(np.eye(4), **({"k": 2} | options))


def test_embeddings_that_are_none():
    with pytest.raises(ValueError, match="that of entry 1 is not"):
        facility_location([[1.0], [np.nan]], 1)
