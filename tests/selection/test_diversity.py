import numpy as np
import pytest

from gptlab.selection.diversity import kmeans_diverse
from gptlab.selection.embedding import unit_rows


def blobs(n, clusters, dimensions=8, seed=0):
    """Return n vectors around as many directions as there are clusters, and whose they are."""
    rng = np.random.default_rng(seed)
    middles, labels = rng.standard_normal((clusters, dimensions)), np.arange(n) % clusters
    return middles[labels] + 0.05 * rng.standard_normal((n, dimensions)), labels


def test_the_nearest_to_each_middle_that_scikit_learn_finds():
    from sklearn.cluster import KMeans

    embeddings, _ = blobs(300, 12, seed=1)
    rows = unit_rows(embeddings)
    kmeans = KMeans(20, n_init=1, random_state=7).fit(rows)
    sizes = np.bincount(kmeans.labels_)
    expected = [
        int(min(np.flatnonzero(kmeans.labels_ == label), key=lambda i: kmeans.transform(rows[[i]])[0, label]))
        for label in sorted(range(20), key=lambda label: -sizes[label])
    ]
    assert kmeans_diverse(embeddings, 20, seed=7) == expected


def test_one_from_each_kind_whatever_the_lengths_of_the_vectors():
    embeddings, labels = blobs(200, 10)
    lengths = np.random.default_rng(2).uniform(0.1, 10, (200, 1))
    picked = kmeans_diverse(embeddings * lengths, 10)
    assert sorted(labels[picked]) == list(range(10))


def test_fewer_clusters_give_their_second_nearest_too():
    embeddings, labels = blobs(90, 3)
    picked = kmeans_diverse(embeddings, 7, clusters=3)
    assert len(set(picked)) == 7
    first, second, third = labels[picked][:3], labels[picked][3:6], labels[picked][6:]
    assert list(first) == list(second)
    assert sorted(first) == [0, 1, 2]
    assert third == first[0]
    assert picked[:3] == kmeans_diverse(embeddings, 3)


def test_more_clusters_than_picks():
    embeddings, labels = blobs(64, 4)
    assert len(set(labels[kmeans_diverse(embeddings[:-1], 2, clusters=4)])) == 2


def test_always_k_different_ones():
    embeddings = np.repeat(np.eye(3), 10, axis=0)  # three different vectors
    embeddings[4] = 0
    for k in (1, 2, 3, 8, 30):
        picked = kmeans_diverse(embeddings, k)
        assert len(picked) == len(set(picked)) == k
        assert all(type(number) is int for number in picked)
    assert sorted(kmeans_diverse(np.delete(embeddings, 4, axis=0), 3)) == [0, 9, 19]  # of equal ones the first


def test_a_seed_and_the_global_random_state():
    embeddings, _ = blobs(100, 30)
    np.random.seed(3)
    expected = np.random.random()
    np.random.seed(3)
    first = kmeans_diverse(embeddings, 10, seed=1)
    assert np.random.random() == expected
    assert kmeans_diverse(embeddings, 10, seed=1) == first
    assert kmeans_diverse(embeddings, 10, seed=2) != first


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"k": 0}, r"k must be in \[1, 4\], the number of entries, got 0"),
        ({"k": 5}, "got 5"),
        ({"k": 2.0}, r"k must be in \[1, 4\], the number of entries, got 2.0"),
        ({"k": 2, "clusters": 0}, r"clusters must be in \[1, 4\], the number of entries, got 0"),
        ({"k": 2, "clusters": 9}, "got 9"),
    ],
)
def test_numbers_out_of_their_range(options, says):
    with pytest.raises(ValueError, match=says):
        kmeans_diverse(np.eye(4), **options)


def test_embeddings_that_are_none():
    with pytest.raises(ValueError, match="that of entry 2 is not"):
        kmeans_diverse([[1.0], [2.0], [np.nan]], 1)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.cluster", None)
    with pytest.raises(ImportError, match=r"pip install \"gptlab\[data\]\""):
        kmeans_diverse(np.eye(4), 2)
