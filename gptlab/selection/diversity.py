"""Diversity by clusters: group the entries by K-means, and take from each group the one nearest to its middle.

K-means looks for c middles such that the squared distances of the entries to their nearest middle sum to as little as
possible: give each entry to the nearest middle, move each middle to the mean of its entries, and again until nothing
moves (Lloyd). On vectors of length 1 the squared distance is 2 - 2 cosine, so groups are by cosine.

A large group has no more picks than a small one, so rare kinds of entries come in more often than by chance, and so do
odd ones. Mini-batches would take a fraction of the time, and cover less: they are left out (see benchmarks/README.md).

Sources: Lloyd 1982; Arthur and Vassilvitskii 2007 (k-means++, the first middles).
"""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any

import numpy as np

from gptlab.selection.embedding import check_embeddings, unit_rows


def kmeans_diverse(embeddings: Any, k: int, *, clusters: int | None = None, seed: int = 0) -> list[int]:
    """Return the numbers of k different entries, one or more of each cluster.

    Each cluster gives the entry nearest to its middle, large clusters first. When that is not k yet, because fewer
    clusters were asked for or entries with equal embeddings left some empty, each gives its second nearest, and so on.
    A round of Lloyd's takes entries x clusters x dimensions steps: clusters far below k make it fast.

    Args:
        embeddings: (n, dimensions), of any length, such as `embed` returns; rows of zeros stay zeros.
        k: how many to pick.
        clusters: how many clusters to look for; None is k. With more than k, the k largest give.
        seed: of the first middles.

    Raises:
        ValueError: embeddings are not finite numbers (n, dimensions), or k or clusters is not in [1, n].
        ImportError: scikit-learn is not installed.

    >>> sorted(kmeans_diverse([[1, 0], [1, 0.2], [1, 0.1], [0, 1], [0.2, 1], [0.1, 1]], 2))
    [2, 5]
    """
    rows = unit_rows(check_embeddings(embeddings))
    clusters = k if clusters is None else clusters
    for name, value in (("k", k), ("clusters", clusters)):
        if not isinstance(value, Integral) or not 1 <= value <= len(rows):
            raise ValueError(f"{name} must be in [1, {len(rows)}], the number of entries, got {value!r}")
    labels, distances = _cluster(rows, clusters, seed)
    order = np.lexsort((distances, labels))  # cluster by cluster, the nearest to the middle first
    sizes = np.bincount(labels, minlength=clusters)
    starts = sizes.cumsum() - sizes
    ranks = np.empty(len(rows), np.int64)  # 0 is a cluster's nearest
    ranks[order] = np.arange(len(rows)) - starts[labels[order]]
    return np.lexsort((labels, -sizes[labels], ranks))[:k].tolist()


def _cluster(rows: np.ndarray, clusters: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return each entry's cluster and its squared distance to the middle, both (n,)."""
    try:
        from sklearn.cluster import KMeans
        from sklearn.exceptions import ConvergenceWarning
    except ImportError:
        raise ImportError('kmeans_diverse needs scikit-learn: pip install "gptlab[data]"') from None
    kmeans = KMeans(clusters, n_init=1, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different entries than clusters: some stay empty
        labels = kmeans.fit_predict(rows)
    return labels, ((rows - kmeans.cluster_centers_[labels]) ** 2).sum(axis=1)
