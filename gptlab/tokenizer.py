"""Byte-level byte-pair encoding: learn a vocabulary from text, save it, load it.

Text is cut into words, a word into its UTF-8 bytes; then, over and over, the most frequent pair of neighbours
becomes a new token. Because every byte is a token from the start, nothing is unknown. A trained tokenizer is a
`tiktoken.Encoding`, so that everything written for GPT-2's works with it.

The counts are kept up to date while merging: a merge only changes the words that hold the pair. Which words those
are is remembered, and the next pair comes from a heap. Two pairs of the same count are merged in the order of
their ids, so a text gives the same vocabulary every time (and the same as Hugging Face's trainer).

Source: Sennrich et al. 2016, arXiv 1508.07909, algorithm 1; Radford et al. 2019, section 2.2 (bytes, the pattern).
"""

from __future__ import annotations

import heapq
import json
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import regex
import tiktoken

from gptlab.files import read_json, read_text, write_together

END_OF_TEXT = "<|endoftext|>"

# GPT-2's splitting: English contractions, letters, numbers and the rest apart, a leading space joins the word.
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

Pair = tuple[int, int]


class Tokenizer(Protocol):
    """What the library asks of a tokenizer; every `tiktoken.Encoding` has it."""

    @property
    def special_tokens_set(self) -> set[str]: ...

    def encode_ordinary(self, text: str) -> list[int]: ...

    def encode_single_token(self, text: str) -> int: ...

    def decode(self, ids: list[int]) -> str: ...


class ByteLevelEncoding(tiktoken.Encoding):
    """A `tiktoken.Encoding` that refuses a lone surrogate, where tiktoken would silently write U+FFFD."""

    def encode(self, text: str, **kwargs) -> list[int]:
        return super().encode(check_utf8(text), **kwargs)

    def encode_ordinary(self, text: str) -> list[int]:
        return super().encode_ordinary(check_utf8(text))


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
    if vocab_size < 257:
        raise ValueError(f"vocab_size must be >= 257 (256 bytes and {END_OF_TEXT}), got {vocab_size}")
    bytes_of = [bytes([byte]) for byte in _gpt2_byte_order()]  # token id -> its bytes
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
    return _encoding(name, id_of, {END_OF_TEXT: len(bytes_of)})


def save_tokenizer(tokenizer: tiktoken.Encoding, directory: str | Path) -> None:
    """Write `vocab.json` and `merges.txt`, Hugging Face's two files for a byte-level BPE, into `directory`."""
    write_together(directory, tokenizer_files(tokenizer))


def tokenizer_files(tokenizer: tiktoken.Encoding) -> dict[str, str]:
    """Return the text of `vocab.json` and `merges.txt` by file name.

    tiktoken keeps only the tokens. Which pair a token was merged from is found by encoding it with the tokens
    that came before.
    """
    ranks: dict[bytes, int] = tokenizer._mergeable_ranks
    letters = _byte_to_letter()
    spelled = {piece: "".join(letters[byte] for byte in piece) for piece in ranks}
    vocab = {spelled[piece]: token for piece, token in ranks.items()} | tokenizer._special_tokens
    merges = ["#version: 0.2"]
    for piece, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(piece) > 1:
            left, right = _merge_bytes(piece, ranks, below=rank)
            merges.append(f"{spelled[left]} {spelled[right]}")
    return {"vocab.json": json.dumps(vocab, ensure_ascii=False), "merges.txt": "\n".join(merges) + "\n"}


def load_tokenizer(directory: str | Path, *, name: str = "gptlab") -> tiktoken.Encoding:
    """Read `vocab.json` and `merges.txt` from `directory`.

    Entries like `<|...|>` or `[...]` that are neither a byte nor a merge become special tokens.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: a file is damaged, the two do not belong together, or the ids are not in the order of the merges,
            which is what tiktoken merges by.
    """
    directory = Path(directory)
    vocab, merges = read_json(directory / "vocab.json"), _read_merges(directory / "merges.txt")
    if not isinstance(vocab, dict) or sorted(vocab.values(), key=str) != sorted(range(len(vocab)), key=str):
        raise ValueError(f"{directory / 'vocab.json'} must map tokens to the ids 0, 1, 2, ..., each once")
    byte_of = {letter: byte for byte, letter in _byte_to_letter().items()}
    merged = ["".join(merge) for merge in merges]
    ordinary = {*byte_of, *merged}
    missing = [token for token in [*byte_of, *merged] if token not in vocab]
    if missing:
        raise ValueError(f"{directory / 'vocab.json'} lacks {len(missing)} tokens of merges.txt, first {missing[0]!r}")
    if any(vocab[later] <= vocab[earlier] for earlier, later in pairwise(merged)):
        raise ValueError(f"{directory}: ids must rise in the order of merges.txt, as in GPT-2's files")
    special = {token: rank for token, rank in vocab.items() if token not in ordinary}
    unknown = [token for token in special if not regex.fullmatch(r"<.+>|\[.+\]", token)]
    if unknown:
        raise ValueError(f"{directory / 'merges.txt'} lacks {len(unknown)} tokens of vocab.json, first {unknown[0]!r}")
    ranks = {bytes(byte_of[letter] for letter in token): vocab[token] for token in sorted(ordinary, key=vocab.get)}
    return _encoding(name, ranks, special)


def _read_merges(path: Path) -> list[list[str]]:
    letters = set(_byte_to_letter().values())
    merges = [line.split(" ") for line in read_text(path).split("\n") if line and not line.startswith("#version")]
    for merge in merges:
        if len(merge) != 2 or not letters.issuperset("".join(merge)):
            raise ValueError(f"{path} must hold two tokens a line in GPT-2's letters, got {' '.join(merge)!r}")
    return merges


def check_utf8(text: str) -> str:
    """Return `text` when UTF-8 can write it.

    Raises:
        ValueError: it holds a lone surrogate.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"character {error.start} is {text[error.start]!r}, half of a surrogate pair, which UTF-8 cannot write"
        ) from None
    return text


def control_id(tokenizer: Tokenizer, name: str) -> int:
    """Return the id of the special token `name`.

    Raises:
        ValueError: the tokenizer has no such special token.
    """
    if name not in tokenizer.special_tokens_set:
        raise ValueError(f"{name!r} is no special token; the tokenizer has {sorted(tokenizer.special_tokens_set)}")
    return tokenizer.encode_single_token(name)


def _encoding(name: str, ranks: dict[bytes, int], special: dict[str, int]) -> ByteLevelEncoding:
    return ByteLevelEncoding(name, pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=special)


def _gpt2_byte_order() -> list[int]:
    """Return the 256 bytes, first those that print as one visible character, then the rest."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return visible + [byte for byte in range(256) if byte not in visible]


def _byte_to_letter() -> dict[int, str]:
    """Return GPT-2's visible stand-in for each byte; a byte that does not print gets a letter from U+0100 on."""
    visible, hidden = _gpt2_byte_order()[:188], _gpt2_byte_order()[188:]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


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


def _merge_bytes(piece: bytes, ranks: dict[bytes, int], below: int) -> list[bytes]:
    """Encode `piece` using only tokens of a rank lower than `below`."""
    parts = [bytes([byte]) for byte in piece]
    while True:
        ranked = [(ranks.get(left + right, below), i) for i, (left, right) in enumerate(pairwise(parts))]
        rank, i = min(ranked, default=(below, 0))
        if rank >= below:
            return parts
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
