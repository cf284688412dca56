"""Learning 1,000 merges on 136 KB of English: gptlab, the plain algorithm, and Hugging Face's trainer in Rust.

The plain algorithm is the one that minbpe and most lessons use: after every merge, count all pairs of the text again.
It is written here in its best form, so that one process can compare them. Run: python benchmarks/tokenizer.py
"""

import platform
import time
from collections import Counter
from itertools import pairwise
from pydoc_data.topics import topics  # the language reference that ships with Python

import regex
import tiktoken
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from gptlab.tokenizer import GPT2_PATTERN, tokenizer_files, train_tokenizer

MERGES = 1000
TEXT = "".join(topics.values()).encode()[:136_000].decode(errors="ignore")


def plain() -> list[tuple[int, int]]:
    words = [list(word.encode()) for word in regex.findall(GPT2_PATTERN, TEXT)]
    merges = []
    for token in range(256, 256 + MERGES):
        counts = Counter()
        for word in words:
            counts.update(pairwise(word))
        pair = max(counts, key=counts.get)
        merges.append(pair)
        words = [merge(word, pair, token) for word in words]
    return merges


def merge(word: list[int], pair: tuple[int, int], token: int) -> list[int]:
    new, i = [], 0
    while i < len(word):
        if i + 1 < len(word) and word[i] == pair[0] and word[i + 1] == pair[1]:
            new.append(token)
            i += 2
        else:
            new.append(word[i])
            i += 1
    return new


def gptlab() -> list[str]:
    return tokenizer_files(train_tokenizer(TEXT, 256 + MERGES + 1))["merges.txt"].splitlines()[1:]


def hugging_face() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=256 + MERGES, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([TEXT], trainer)
    return tokenizer


if __name__ == "__main__":
    print(f"{platform.machine()}, Python {platform.python_version()}, tiktoken {tiktoken.__version__}")
    seconds = {}
    for function, runs in ((gptlab, 5), (hugging_face, 5), (plain, 1)):
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        seconds[function.__name__] = sorted(times)[len(times) // 2]
    for name, median in seconds.items():
        print(f"{name:<14}{median:8.3f} s   {median / seconds['gptlab']:7.2f} x gptlab")
