"""Learn a byte-level byte-pair encoding from text.

Text is cut into words, a word into its UTF-8 bytes; then, over and over, the most frequent pair of neighbours
becomes a new token. Because every byte is a token from the start, nothing is unknown. A trained tokenizer is a
`tiktoken.Encoding`, so that everything written for GPT-2's works with it.

The counts are kept up to date while merging: a merge only changes the words that hold the pair. Which words those
are is remembered, and the next pair comes from a heap. Two pairs of the same count are merged in the order of
their ids, so a text gives the same vocabulary every time (and the same as Hugging Face's trainer).

Source: Sennrich et al. 2016, arXiv 1508.07909, algorithm 1.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from itertools import pairwise

import regex
import tiktoken

from gptlab.tokenizer.encoding import END_OF_TEXT, GPT2_PATTERN, check_utf8, gpt2_byte_order, make_encoding

Pair = tuple[int, int]


def train_tokenizer(text: str, vocab_size: int, *, name: str = "gptlab") -> tiktoken.Encoding:
    """Learn a byte-level BPE from `text`.

    The ids are 256 bytes in GPT-2's order, then the merges in the order they were learned, then `<|endoftext|>`.

    Args:
        text: what to learn from.
        vocab_size: how many tokens, `<|endoftext|>` among them.
        name: what `Encoding.name` says.

    Raises:
        ValueError: vocab_size is below 257, more than the text has pairs to merge for, or the text holds a lone
            surrogate, which UTF-8 cannot write.

    >>> tokenizer = train_tokenizer("low lower lowest", vocab_size=260)
    >>> [tokenizer.decode([token]) for token in tokenizer.encode("lowest low")]
    ['low', 'e', 's', 't', ' low']
    """
    if not isinstance(text, str):
        raise ValueError(f"text must be one string, got a {type(text).__name__}")
    if not isinstance(vocab_size, int) or vocab_size < 257:
        raise ValueError(f"vocab_size must be >= 257 (256 bytes and {END_OF_TEXT}), got {vocab_size}")
    bytes_of = [bytes([byte]) for byte in gpt2_byte_order()]  # token id -> its bytes
    id_of = {piece: token for token, piece in enumerate(bytes_of)}
    words, counts = _count_words(check_utf8(text), id_of)
    pair_counts, words_with = _count_pairs(words, counts)
    heap = [(-count, pair) for pair, count in pair_counts.items()]
    heapq.heapify(heap)

    while len(bytes_of) < vocab_size - 1:
        pair = _pop_most_frequent(heap, pair_counts)
        if pair is None:
            raise ValueError(f"vocab_size must be <= {len(bytes_of) + 1} for so short a text, got {vocab_size}")
        piece = bytes_of[pair[0]] + bytes_of[pair[1]]
        if piece not in id_of:  # two different pairs may spell the same bytes; they are one token
            id_of[piece] = len(bytes_of)
            bytes_of.append(piece)
        changed = _merge_everywhere(pair, id_of[piece], words, counts, pair_counts, words_with)
        for other in changed:
            if pair_counts[other] > 0:
                heapq.heappush(heap, (-pair_counts[other], other))
    return make_encoding(name, id_of, {END_OF_TEXT: len(bytes_of)})


def _count_words(text: str, id_of: dict[bytes, int]) -> tuple[list[list[int]], list[int]]:
    """Return every distinct word as byte ids, and how often each occurs."""
    counted = Counter(regex.findall(GPT2_PATTERN, text))
    words = [[id_of[bytes([byte])] for byte in word.encode("utf-8")] for word in counted]
    return words, list(counted.values())


def _count_pairs(words: list[list[int]], counts: list[int]) -> tuple[Counter[Pair], defaultdict[Pair, set[int]]]:
    """Return how often each pair of neighbours occurs, and in which words."""
    pair_counts: Counter[Pair] = Counter()
    words_with: defaultdict[Pair, set[int]] = defaultdict(set)
    for number, (word, count) in enumerate(zip(words, counts)):
        for pair in pairwise(word):
            pair_counts[pair] += count
            words_with[pair].add(number)
    return pair_counts, words_with


def _pop_most_frequent(heap: list[tuple[int, Pair]], pair_counts: Counter[Pair]) -> Pair | None:
    """Take the pair with the highest count, the smallest ids on a tie; entries of outdated counts are thrown away."""
    while heap:
        negative, pair = heapq.heappop(heap)
        if -negative == pair_counts[pair]:
            return pair
    return None


def _merge_everywhere(
    pair: Pair,
    token: int,
    words: list[list[int]],
    counts: list[int],
    pair_counts: Counter[Pair],
    words_with: defaultdict[Pair, set[int]],
) -> set[Pair]:
    """Replace `pair` by `token` in all words, correct the counts, and return the pairs whose counts changed."""
    changed: set[Pair] = set()
    for number in words_with.pop(pair):
        old, count = words[number], counts[number]
        new = _merge_word(old, pair, token)
        for before in pairwise(old):
            pair_counts[before] -= count
            changed.add(before)
        for after in pairwise(new):
            pair_counts[after] += count
            words_with[after].add(number)
            changed.add(after)
        words[number] = new
    changed.discard(pair)
    del pair_counts[pair]
    return changed


def _merge_word(word: list[int], pair: Pair, token: int) -> list[int]:
    merged, i = [], 0
    while i < len(word):
        if i + 1 < len(word) and (word[i], word[i + 1]) == pair:
            merged.append(token)
            i += 2
        else:
            merged.append(word[i])
            i += 1
    return merged
