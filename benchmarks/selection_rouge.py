"""ROUGE-L of one instruction against 20,000: gptlab, rouge-score, and rapidfuzz on the whole pool.

The instructions are made from 8,000 words that are as common as words are (Zipf's law), about 10 in each, every fifth a
variation of an earlier one. "novel?" asks whether any F-measure is above 0.7, "nearest" for the ten highest; the other
two compute all 20,000 F-measures. Run: python benchmarks/selection_rouge.py
"""

import argparse
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import rapidfuzz
from rapidfuzz import process
from rapidfuzz.distance import LCSseq
from rouge_score.rouge_scorer import RougeScorer

from gptlab.selection.novelty import NoveltyFilter, novel_instructions

WORDS = [f"w{number}" for number in range(8000)]
COMMON = [1 / (rank + 3) for rank in range(len(WORDS))]


def make_instructions(count: int, seed: int = 0) -> list[str]:
    random_ = random.Random(seed)
    texts: list[str] = []
    for number in range(count):
        if number % 5 == 4:
            words = random_.choice(texts).split()
            words[random_.randrange(len(words))] = random_.choice(WORDS)
        else:
            words = random_.choices(WORDS, COMMON, k=random_.randint(5, 15))
        texts.append(" ".join(words))
    return texts


def seconds(function: Callable[[str], object], texts: Sequence[str]) -> list[float]:
    times = []
    for text in texts:
        start = time.perf_counter()
        function(text)
        times.append(time.perf_counter() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pool", type=int, default=20_000)
    parser.add_argument("--candidates", type=int, default=200)
    size = parser.parse_args()
    texts = make_instructions(size.pool + size.candidates)
    pool, candidates = texts[: size.pool], texts[size.pool :]
    novelty = NoveltyFilter(pool=pool)
    scorer = RougeScorer(["rougeL"])
    ids = {word: chr(number + 1) for number, word in enumerate(WORDS)}
    strings = ["".join(map(ids.__getitem__, text.split())) for text in pool]

    def whole_pool(text: str) -> None:
        process.cdist(["".join(map(ids.__getitem__, text.split()))], strings, scorer=LCSseq.similarity, dtype=np.int32)

    def peer(text: str) -> list[float]:
        return [scorer.score(other, text)["rougeL"].fmeasure for other in pool]

    times = {
        "gptlab, novel?": seconds(novelty.is_novel, candidates),
        "gptlab, nearest": seconds(novelty.nearest, candidates),
        "rapidfuzz, all": seconds(whole_pool, candidates),
        "rouge-score, all": seconds(peer, candidates[:2]),
    }
    print(f"{platform.machine()}, Python {platform.python_version()}, rapidfuzz {rapidfuzz.__version__}")
    print(f"one of about 10 words against {size.pool:,}      median          90 %")
    for name, found in times.items():
        ninety = sorted(found)[int(0.9 * len(found))]
        print(f"{name:<34}{1000 * statistics.median(found):9.2f} ms  {1000 * ninety:9.2f} ms")

    start = time.perf_counter()
    kept = novel_instructions(texts)
    passed = time.perf_counter() - start
    print(
        f"in order, {len(texts):,} texts: {passed:.1f} s, {1000 * passed / len(texts):.2f} ms each, {len(kept):,} kept"
    )
    highest = max(peer(candidates[0]))
    print("the same highest F-measure as rouge-score:", novelty.nearest(candidates[0], k=1)[0][0] == highest)


if __name__ == "__main__":
    main()
