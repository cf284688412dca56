"""Usual mistakes about text and tokenizers: the check, the wrong answer, and words of the hint that it must get."""

from collections import Counter
from itertools import pairwise

import torch
from torch import Tensor

Words = dict[tuple[int, ...], int]
Pair = tuple[int, int]
_KEPT: Counter[Pair] = Counter()


def each_word_once(words: Words) -> dict[Pair, int]:
    return dict(Counter(pair for word in words for pair in pairwise(word)))


def across_words(words: Words) -> dict[Pair, int]:
    return dict(Counter(pairwise([token for word, often in words.items() for token in word * often])))


def without_overlaps(words: Words) -> dict[Pair, int]:
    counts: Counter[Pair] = Counter()
    for word, often in words.items():
        i = 0
        while i + 1 < len(word):
            counts[word[i], word[i + 1]] += often
            i += 2 if i + 2 < len(word) and word[i] == word[i + 1] == word[i + 2] else 1
    return dict(counts)


def last_pair_missing(words: Words) -> dict[Pair, int]:
    counts: Counter[Pair] = Counter()
    for word, often in words.items():
        for i in range(len(word) - 2):
            counts[word[i], word[i + 1]] += often
    return counts


def right_id_first(words: Words) -> dict[Pair, int]:
    counts: Counter[Pair] = Counter()
    for word, often in words.items():
        for left, right in pairwise(word):
            counts[right, left] += often
    return counts


def counts_that_stay(words: Words) -> dict[Pair, int]:
    for word, often in words.items():
        for pair in pairwise(word):
            _KEPT[pair] += often
    counts = dict(_KEPT)
    if len(words) == 1:
        _KEPT.clear()
    return counts


def all_pairs_of_ids(words: Words) -> dict[Pair, int]:
    return {(a, b): often for word, often in words.items() for a in word for b in word}


def merge(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    merged, i = [], 0
    while i < len(ids):
        found = tuple(ids[i : i + 2]) == tuple(pair)
        merged.append(new_id if found else ids[i])
        i += 2 if found else 1
    return merged


def first_place_only(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    for i, neighbours in enumerate(pairwise(ids)):
        if neighbours == pair:
            return [*ids[:i], new_id, *ids[i + 2 :]]
    return ids


def right_one_stays(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    return [new_id if tuple(ids[i : i + 2]) == pair else ids[i] for i in range(len(ids))]


def left_one_stays(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    return ids[:1] + [new_id if (left, right) == pair else right for left, right in pairwise(ids)]


def last_one_lost(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    merged, i = [], 0
    while i < len(ids) - 1:
        found = (ids[i], ids[i + 1]) == pair
        merged.append(new_id if found else ids[i])
        i += 2 if found else 1
    return merged


def from_the_right(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    return merge(ids[::-1], pair[::-1], new_id)[::-1]


def list_and_tuple(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    return [new_id if ids[i : i + 2] == pair else ids[i] for i in range(len(ids))]


def in_place(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    ids[:] = merge(ids, pair, new_id)
    return ids


def either_order(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    merged, i = [], 0
    while i < len(ids):
        found = tuple(sorted(ids[i : i + 2])) == tuple(sorted(pair))
        merged.append(new_id if found else ids[i])
        i += 2 if found else 1
    return merged


def used_twice(ids: list[int], pair: Pair, new_id: int) -> list[int]:
    merged, i = [], 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            merged.append(new_id)
            i += 1 if ids[i + 1 : i + 3] == list(pair) else 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


def encode_from_the_left(word: str, merges: list[Pair]) -> list[int]:
    ids, i = list(word.encode()), 0
    while i + 1 < len(ids):
        if (ids[i], ids[i + 1]) in merges:
            ids[i : i + 2], i = [256 + merges.index((ids[i], ids[i + 1]))], 0
        else:
            i += 1
    return ids


def encode_longest_first(word: str, merges: list[Pair]) -> list[int]:
    pieces = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        pieces.append(pieces[left] + pieces[right])
    rest, ids = word.encode(), []
    while rest:
        length = max(n for n in range(1, len(rest) + 1) if rest[:n] in pieces)
        ids.append(pieces.index(rest[:length]))
        rest = rest[length:]
    return ids


def encode_characters(word: str, merges: list[Pair]) -> list[int]:
    ids = [ord(character) for character in word]
    for new_id, pair in enumerate(merges, start=256):
        ids = merge(ids, pair, new_id)
    return ids


def encode_last_learned_first(word: str, merges: list[Pair]) -> list[int]:
    ids = list(word.encode())
    while found := [pair for pair in reversed(merges) if pair in pairwise(ids)]:
        ids = first_place_only(ids, found[0], 256 + merges.index(found[0]))
    return ids


def encode_ids_off_by_one(word: str, merges: list[Pair]) -> list[int]:
    ids = list(word.encode())
    for new_id, pair in enumerate(merges, start=255):
        ids = merge(ids, pair, new_id)
    return ids


def encode_each_merge_once(word: str, merges: list[Pair]) -> list[int]:
    ids = list(word.encode())
    for new_id, pair in enumerate(merges, start=256):
        ids = first_place_only(ids, pair, new_id)
    return ids


def shifted_back(tokens: Tensor, length: int, stride: int) -> tuple[Tensor, Tensor]:
    rows = tokens.unfold(0, length + 1, stride)
    return rows[:, 1:], rows[:, :-1]


def shifted_back_and_round(tokens: Tensor, length: int, stride: int) -> tuple[Tensor, Tensor]:
    rows = tokens.unfold(0, length + 1, stride)[:, :-1]
    return rows, rows.roll(1, dims=1)


def shifted_round(tokens: Tensor, length: int, stride: int) -> tuple[Tensor, Tensor]:
    rows = tokens.unfold(0, length + 1, stride)[:, :-1]
    return rows, rows.roll(-1, dims=1)


def not_shifted(tokens: Tensor, length: int, stride: int) -> tuple[Tensor, Tensor]:
    rows = tokens.unfold(0, length + 1, stride)
    return rows[:, :-1], rows[:, :-1]


def shorter_by_one(tokens: Tensor, length: int, stride: int) -> tuple[Tensor, Tensor]:
    rows = tokens.unfold(0, length, stride)
    return rows[:, :-1], rows[:, 1:]


def shifted_by_two(tokens: Tensor, length: int, stride: int) -> tuple[Tensor, Tensor]:
    starts = range(0, len(tokens) - length, stride)
    padded = torch.cat([tokens, tokens[:2]])
    return torch.stack([tokens[s : s + length] for s in starts]), torch.stack(
        [padded[s + 2 : s + length + 2] for s in starts]
    )


def last_window_lost(tokens: Tensor, length: int, stride: int) -> tuple[Tensor, Tensor]:
    starts = range(0, max(len(tokens) - length - 1, 1), stride)
    return torch.stack([tokens[s : s + length] for s in starts]), torch.stack(
        [tokens[s + 1 : s + length + 1] for s in starts]
    )


def padded_window_more(tokens: Tensor, length: int, stride: int) -> tuple[Tensor, Tensor]:
    starts = range(0, len(tokens) - length + 1, stride)
    padded = torch.cat([tokens, torch.zeros(length, dtype=torch.int64)])
    return torch.stack([padded[s : s + length] for s in starts]), torch.stack(
        [padded[s + 1 : s + length + 1] for s in starts]
    )


def lists_of_windows(tokens: Tensor, length: int, stride: int) -> tuple[list[Tensor], list[Tensor]]:
    rows = tokens.unfold(0, length + 1, stride)
    return list(rows[:, :-1]), list(rows[:, 1:])


def counts_replaced(words: Words) -> dict[Pair, int]:
    counts = {}
    for word, often in words.items():
        for pair in pairwise(word):
            counts[pair] = often
    return counts


def one_window_more(tokens: Tensor, length: int, stride: int) -> tuple[Tensor, Tensor]:
    starts = range(0, len(tokens) - length + 1, stride)
    inputs = [tokens[start : start + length] for start in starts]
    targets = [tokens[start + 1 : start + length + 1] for start in starts]
    return torch.stack(inputs), torch.stack(targets)


def next_window(tokens: Tensor, length: int, stride: int) -> tuple[Tensor, Tensor]:
    rows = tokens.unfold(0, length, stride)
    return rows[:-1], rows[1:]


WRONG = [
    ("text.shape_of_embeddings", lambda B, T, V, D: (B, T, V), "only the chosen rows"),
    ("text.shape_of_embeddings", lambda B, T, V, D: (B, T, 2 * D), "not appended"),
    ("text.shape_of_embeddings", lambda B, T, V, D: (B, D), "nothing is summed"),
    ("text.shape_of_embeddings", lambda B, T, V, D: (B, D, T), "in the last dimension"),
    ("text.shape_of_embeddings", lambda B, T, V, D: (B, T), "one dimension more"),
    ("text.count_pairs", each_word_once, "counts 5 times"),
    ("text.count_pairs", across_words, "in different words"),
    ("text.count_pairs", without_overlaps, "both count"),
    ("text.count_pairs", last_pair_missing, "the last pair"),
    ("text.count_pairs", right_id_first, "back to front"),
    ("text.count_pairs", counts_that_stay, "the first time"),
    ("text.count_pairs", all_pairs_of_ids, "nowhere neighbours"),
    ("text.count_pairs", lambda words: None, "`return` seems to be missing"),
    ("text.count_pairs", lambda words: list(each_word_once(words)), "a dictionary"),
    ("text.merge_pair", first_place_only, "only the first place"),
    ("text.merge_pair", right_one_stays, "the right id of the pair is still there"),
    ("text.merge_pair", left_one_stays, "the left id of the pair is still there"),
    ("text.merge_pair", last_one_lost, "must stay"),
    ("text.merge_pair", from_the_right, "from left to right"),
    ("text.merge_pair", list_and_tuple, "a slice of a list is a list"),
    ("text.merge_pair", in_place, "was changed"),
    ("text.merge_pair", either_order, "in other order"),
    ("text.merge_pair", used_twice, "used twice"),
    ("text.encode", encode_from_the_left, "from left to right"),
    ("text.encode", encode_longest_first, "from left to right"),
    ("text.encode", encode_characters, "start from the bytes"),
    ("text.encode", encode_last_learned_first, "learned last went first"),
    ("text.encode", encode_ids_off_by_one, "256 + its number"),
    ("text.encode", encode_each_merge_once, "a pair can come twice"),
    ("text.encode", lambda word, merges: list(word.encode()), "no merge is done"),
    ("text.encode", lambda word, merges: None, "`return` seems to be missing"),
    ("text.decode", lambda ids, pieces: "".join(pieces[i].decode() for i in ids), "join the bytes of all tokens first"),
    ("text.decode", lambda ids, pieces: "".join(pieces[i].decode(errors="replace") for i in ids), "one by one"),
    ("text.decode", lambda ids, pieces: b"".join(pieces[i] for i in ids), "it returns bytes"),
    ("text.decode", lambda ids, pieces: b"".join(pieces[i] for i in ids).decode(), "raise an error"),
    ("text.decode", lambda ids, pieces: b"".join(pieces[i] for i in ids).decode(errors="ignore"), "in silence"),
    ("text.decode", lambda ids, pieces: b"".join(pieces[i] for i in ids).decode("latin-1"), "a character of its own"),
    ("text.decode", lambda ids, pieces: b" ".join(pieces[i] for i in ids).decode(), "spaces were put between"),
    ("text.shape_of_embeddings", lambda B, T, V, D: B * T * D, "should be a tuple"),
    ("text.count_pairs", counts_replaced, "add to its count"),
    ("text.windows", one_window_more, "each needs length + 1 tokens"),
    ("text.windows", next_window, "shift by one"),
    ("text.windows", not_shifted, "only learn to copy"),
    ("text.windows", shifted_back, "wrong way"),
    ("text.windows", shifted_back_and_round, "wrong way"),
    ("text.windows", shifted_round, "not the token that follows"),
    ("text.windows", shifted_by_two, "right after its input"),
    ("text.windows", shorter_by_one, "so that both have length"),
    ("text.windows", last_window_lost, "the last window is lost"),
    ("text.windows", padded_window_more, "too few tokens"),
    ("text.windows", lists_of_windows, "stacked into one tensor"),
    ("text.windows", lambda t, length, stride: shifted_back(t, length, length)[::-1], "the stride is ignored"),
]
