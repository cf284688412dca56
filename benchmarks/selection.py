"""Choosing entries: seconds, memory and how well the picks cover all entries, on clustered vectors of 384 dimensions.

Run: python benchmarks/selection.py exact     the picks of lazy greedy beside those of a plain loop, 5,000 entries
     python benchmarks/selection.py sparse    what the neighbours leave out: share of the exact objective
     python benchmarks/selection.py large     52,000 entries, 1,000 picks (--picks), and the peak of memory
     python benchmarks/selection.py kmeans    K-means, and what mini-batches would lose
     python benchmarks/selection.py embed     52,000 short texts by TF-IDF and SVD
"""

import argparse
import random
import time

import numpy as np

from gptlab.devices import peak_memory
from gptlab.selection.diversity import kmeans_diverse
from gptlab.selection.embedding import embed, unit_rows
from gptlab.selection.facility_location import coverage, coverage_curve, facility_location, scaled_quality


def vectors(n: int, *, clusters: int, spread: float = 1.5, dimensions: int = 384) -> np.ndarray:
    """Return rows of length 1 around random middles; clusters differ in size and in how far they spread."""
    rng = np.random.default_rng(0)
    middles = rng.standard_normal((clusters, dimensions))
    labels = rng.choice(clusters, n, p=rng.dirichlet(np.full(clusters, 0.7)))
    spreads = rng.uniform(0.3, spread, (clusters, 1))
    rows = middles[labels] + spreads[labels] * rng.standard_normal((n, dimensions))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def naive(embeddings: np.ndarray, k: int, quality: np.ndarray, alpha: float) -> list[int]:
    """Return what facility location picks, by looking at every entry for every pick.

    Two entries that cover each other and nothing else gain the same; rounding to 2^-30 keeps that true in float64.
    """
    rows = unit_rows(embeddings, np.float64)
    similar = np.rint(np.maximum(rows @ rows.T, 0) * 2**30) / 2**30
    cover, picked = np.zeros(len(rows)), []
    for _ in range(k):
        gains = (1 - alpha) * np.maximum(similar - cover, 0).mean(axis=1) + alpha * quality
        gains[picked] = -np.inf
        picked.append(int(gains.argmax()))
        cover = np.maximum(cover, similar[picked[-1]])
    return picked


class Clock:
    """Seconds on the wall, and of the processor, which other work on the machine does not lengthen as much."""

    def __init__(self) -> None:
        self.begin, self.cpu = time.perf_counter(), time.process_time()

    def __str__(self) -> str:
        return f"{time.perf_counter() - self.begin:.1f} s ({time.process_time() - self.cpu:.1f} s of the processor)"


def measure_exact(n: int = 5000, k: int = 250) -> None:
    embeddings = vectors(n, clusters=200)
    scores = np.random.default_rng(1).uniform(1, 5, n)
    quality = np.array(scaled_quality(scores, k))
    for alpha in (0.0, 0.1, 0.5, 0.9, 1.0):
        clock = Clock()
        picked = facility_location(embeddings, k, quality=quality, alpha=alpha)
        lazy, clock = str(clock), Clock()
        same = picked == naive(embeddings, k, quality, alpha)
        print(f"α {alpha}: the same {k} picks: {same}; lazy {lazy}, plain {clock}", end="; ")
        print(f"coverage {coverage(embeddings, picked):.3f}, mean quality {scores[picked].mean():.2f}", flush=True)


def measure_sparse(k: int = 1000, at: tuple[int, ...] = (1, 5, 10, 20, 50, 100, 250, 1000)) -> None:
    kinds = {
        "5,000 in 200 clusters": vectors(5000, clusters=200),
        "10,000 in 400 clusters": vectors(10_000, clusters=400),
        "10,000 in 2,000 clusters": vectors(10_000, clusters=2000),
        "5,000 without clusters": vectors(5000, clusters=5000),
    }
    at = [picks for picks in at if picks <= k]
    print("picks".ljust(32), *(f"{picks:>7}" for picks in at))
    for title, embeddings in kinds.items():
        exact = np.array(coverage_curve(embeddings, facility_location(embeddings, k)))
        rows = {title: exact}
        for neighbours in (50, 200):
            picked = facility_location(embeddings, k, neighbours=neighbours)
            rows[f"  {neighbours} neighbours: share of that"] = np.array(coverage_curve(embeddings, picked)) / exact
        order = np.random.default_rng(1).permutation(len(embeddings))[:k]
        rows["  at random"] = np.array(coverage_curve(embeddings, order)) / exact
        for name, values in rows.items():
            print(name.ljust(32), *(f"{values[picks - 1]:7.4f}" for picks in at), flush=True)


def measure_large(n: int = 52_000, k: int = 1000) -> None:
    embeddings = vectors(n, clusters=1000)
    before, clock = peak_memory("cpu"), Clock()
    picked = facility_location(embeddings, k)
    print(f"{n:,} entries, {k:,} picks: {clock}; ", end="")
    print(f"the process held at most {peak_memory('cpu') / 2**20:,.0f} MiB, {before / 2**20:,.0f} MiB before")
    print(f"coverage {coverage(embeddings, picked):.4f}, of the first {k:,} {coverage(embeddings, range(k)):.4f}")


def measure_kmeans(k: int = 1000) -> None:
    from sklearn.cluster import MiniBatchKMeans

    for n in (10_000, 52_000):
        embeddings = vectors(n, clusters=n // 50)
        clock = Clock()
        picked = kmeans_diverse(embeddings, k)
        print(f"{n:,} entries, {k:,} clusters: {clock}, coverage {coverage(embeddings, picked):.4f}", flush=True)
        clock = Clock()
        middles = MiniBatchKMeans(k, batch_size=4096, n_init=1, random_state=0).fit(embeddings).cluster_centers_
        nearest = np.unique((embeddings @ unit_rows(middles).T).argmax(axis=0))
        print(f"    by mini-batches: {clock}, coverage of {len(nearest):,} picks {coverage(embeddings, nearest):.4f}")


def measure_embed(n: int = 52_000) -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randrange(3, 9))) for _ in range(20_000)]
    shares = [1 / rank for rank in range(1, len(words) + 1)]  # Zipf's law
    texts = [" ".join(rng.choices(words, shares, k=rng.randrange(6, 20))) for _ in range(n)]
    clock = Clock()
    rows = embed(texts, dimensions=384)
    print(f"{n:,} texts: {rows.shape}, {clock}, {peak_memory('cpu') / 2**20:,.0f} MiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["exact", "sparse", "large", "kmeans", "embed"])
    parser.add_argument("--picks", type=int)
    arguments = parser.parse_args()
    given = {} if arguments.picks is None else {"k": arguments.picks}
    run = globals()[f"measure_{arguments.what}"]
    run() if arguments.what == "embed" else run(**given)
