"""Checks about text and tokenizers: shapes, pairs, merges, ids and back, windows of inputs and targets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from gptlab.checks.core import check_of, expect, expect_returned, expect_tuple

Pair = tuple[int, int]


@check_of("text.shape_of_embeddings", "the shape of embeddings")
def shape_of_embeddings(answer) -> None:
    for B, T, V, D in ((2, 5, 50, 8), (3, 7, 11, 4)):
        got = expect_tuple(answer(B, T, V, D), "the shape")
        expect(V not in got, "V is how many rows there are to choose from; only the chosen rows are in the result")
        expect(2 * D not in got and 2 * T not in got, "position vectors are added to the token vectors, not appended")
        expect(got != (B, D), "nothing is summed over the tokens: each of them keeps a vector of its own")
        expect(got != (B, D, T), "the D numbers of a token stand side by side, in the last dimension")
        expect(len(got) == 3, f"every id of (B, T) becomes a vector, which is one dimension more; got {got}")
        expect(got == (B, T, D), f"for B={B}, T={T}, V={V}, D={D}: each id becomes a vector of D numbers, got {got}")


@check_of("text.count_pairs", "how often each pair comes")
def count_pairs(answer) -> None:
    words = {(7, 8, 9): 5, (8, 9): 2, (4,): 3, (6, 6, 6): 4, (9, 8): 1}
    got = answer(dict(words))
    expect_returned(got)
    expect(isinstance(got, Mapping), f"a dictionary of pair -> count was asked for, got a {type(got).__name__}")
    got = {pair: count for pair, count in got.items() if count}
    expect(bool(got), "no pair is counted")
    expect(all(isinstance(pair, tuple) and len(pair) == 2 for pair in got), "each key should be a tuple of two ids")
    right = _pairs(words)
    across = {pair for pair in pairwise([token for word in words for token in word]) if pair not in right}
    for pair in sorted(across & got.keys()):
        expect(False, f"{pair} is counted, but its two ids stand in different words")
    expect(set(got) != {pair[::-1] for pair in right}, "the pairs are back to front: the left id, then the right one")
    for pair in sorted(got.keys() - right.keys()):
        expect(False, f"{pair} is counted, but these two are nowhere neighbours")
    for pair in sorted(right.keys() - got.keys()):
        expect(False, f"{pair} is missing; does the loop reach the last pair of each word?")
    expect(got != _pairs(dict.fromkeys(words, 1)), "a word that comes 5 times counts 5 times: words.items() has both")
    last = {pair: often for word, often in words.items() for pair in pairwise(word)}
    expect(got != last, "a pair that comes again should add to its count, not replace it")
    expect(got[6, 6] != 4, "(6, 6) stands at two places in (6, 6, 6), and both count")
    for pair, count in right.items():
        expect(got[pair] == count, f"{pair} comes {count} times, got {got[pair]}")
    expect(dict(answer({(1, 2): 3})) == {(1, 2): 3}, "called a second time, it still has the counts of the first time")


@check_of("text.merge_pair", "a pair becomes one id, everywhere")
def merge_pair(answer) -> None:
    given = [1, 2, 3, 1, 2]
    got = answer(given, (1, 2), 9)
    expect(given == [1, 2, 3, 1, 2], "the list that came in was changed; make a new one")
    expect_returned(got)
    got = _as_list(got)
    expect(got != given, "nothing was merged: compare the two neighbours with the pair (a slice of a list is a list)")
    expect(got != [9, 3, 1, 2], "only the first place is merged")
    expect(got != [9, 3, 1], "the last id is lost, or the last pair is not looked at")
    expect(
        got not in ([9, 2, 3, 9, 2], [9, 2, 3, 9]), "after a merge the right id of the pair is still there: skip both"
    )
    expect(got != [1, 9, 3, 1, 9], "after a merge the left id of the pair is still there: the new id replaces both")
    expect(got == [9, 3, 9], f"(1, 2) -> 9 makes [9, 3, 9] of [1, 2, 3, 1, 2], got {got}")
    expect(_as_list(answer([3, 1, 2, 4], (1, 2), 9)) == [3, 9, 4], "an id after the last pair, here 4, must stay")
    expect(_as_list(answer([2, 1, 2, 1], (2, 1), 9)) == [9, 9], "a pair is taken for the same two ids in other order")
    expect(_as_list(answer([2, 1], (1, 2), 9)) == [2, 1], "a pair is taken for the same two ids in other order")
    for ids, right in (([7, 7, 7], [9, 7]), ([7, 7, 7, 7], [9, 9]), ([5, 7, 7, 7], [5, 9, 7])):
        got = _as_list(answer(list(ids), (7, 7), 9))
        expect(
            got != right[::-1] or got == right, f"go from left to right: (7, 7) -> 9 makes {right} of {ids}, got {got}"
        )
        expect(len(got) >= len(right), f"an id is lost where pairs overlap: {ids} became {got}")
        expect(len(got) <= len(right), f"of neighbours {ids} some pair (7, 7) was not merged: {got}")
        expect(got == right, f"where pairs overlap an id is used twice: {ids} became {got}")
    expect(_as_list(answer([], (7, 8), 9)) == [], "an empty list has nothing to merge, and stays empty")
    expect(_as_list(answer([7], (7, 8), 9)) == [7], "a single id has no neighbour, and stays as it is")


@check_of("text.encode", "the ids of a word")
def encode(answer) -> None:
    got = _as_list(answer("goat", []))
    expect_returned(got)
    expect(got == list(b"goat"), f"without merges the ids are the bytes, {list(b'goat')} for 'goat', got {got}")
    for word in ("é", "山羊", "🐐"):
        got = _as_list(answer(word, []))
        expect(
            got != [ord(character) for character in word],
            f"{word!r} gave {got}, Unicode's numbers of characters; start from the bytes of UTF-8",
        )
        expect(got == list(word.encode("utf-8")), f"without merges the ids are the bytes of UTF-8; {word!r} gave {got}")
    expect(_as_list(answer("", [(1, 2)])) == [], "an empty word has no ids")

    learned = [(_pair("ab"), _pair("bc")), (_pair("bc"), _pair("ab")), (_pair("bc"), _pair("ab"), (257, ord("c")))]
    for merges in learned:
        _look_at_ids(answer, "abc", list(merges))
    merges = _learn(" banana aaaa slow low newest widest ll ol abc bcd bc 山羊 山 🐐", 40)
    for word in (" lowest", " slower", "newest", " banana", "aaaaa", "abcabc", "山羊山上", " Knoll", "oll", "🐐🐐"):
        _look_at_ids(answer, word, merges)


def _look_at_ids(answer: Any, word: str, merges: list[Pair]) -> None:
    got, right, pieces = _as_list(answer(word, list(merges))), _merged(word, merges), _pieces(merges)
    expect(got != list(word.encode("utf-8")) or got == right, f"no merge is done in {word!r}")
    expect(
        all(isinstance(token, int) and 0 <= token < len(pieces) for token in got),
        f"{got} holds an id that no merge makes: the first one makes 256",
    )
    spelled = b"".join(pieces[token] for token in got)
    expect(
        spelled == word.encode("utf-8"),
        f"the ids of {word!r} spell {spelled.decode('utf-8', 'replace')!r}; a merge makes the id 256 + its number",
    )
    expect(
        got not in (_from_the_left(word, merges), _longest_first(word, pieces)) or got == right,
        f"{word!r} was merged from left to right; of all pairs that can be merged, the first learned goes first",
    )
    expect(got != _merged(word, merges, last=True) or got == right, "the merge that was learned last went first")
    expect(
        len(got) <= len(right),
        f"there are still pairs to merge in {word!r}: a merge can make a new pair, and a pair can come twice",
    )
    expect(got == right, f"{word!r} should become {right}, got {got}: mind the order of the merges")


@check_of("text.decode", "the text of ids")
def decode(answer) -> None:
    merges = _learn("a goat on a boat", 5)
    pieces = _pieces(merges)
    ids = _merged("a goat on a boat", merges)
    got = answer(list(ids), list(pieces))
    expect_returned(got)
    expect(not isinstance(got, bytes), "it returns bytes; a text was asked for")
    expect(isinstance(got, str), f"it should return a text, got a {type(got).__name__}")
    expect(got != " ".join(pieces[token].decode() for token in ids), "spaces were put between: tokens hold their own")
    expect(got == "a goat on a boat", f"the ids of 'a goat on a boat' gave {got!r}")
    for text in ("café", "山羊在河边", "🐐!"):
        stored = list(text.encode("utf-8"))
        try:
            got = answer(list(stored), list(pieces))
        except UnicodeDecodeError:
            expect(False, f"a token of {text!r} is only a part of a character: join the bytes of all tokens first")
        expect(
            got != "".join(chr(byte) for byte in stored),
            "each byte became a character of its own; bytes are UTF-8 here",
        )
        expect("\ufffd" not in got, f"{text!r} gave {got!r}: tokens were decoded one by one; join all bytes first")
        expect(got == text, f"the ids of {text!r} gave {got!r}")
    part = list("goat 山".encode())[:-1]
    try:
        got = answer(list(part), list(pieces))
    except UnicodeDecodeError:
        expect(
            False, "ids that end inside a character raise an error; bytes.decode can write \ufffd for what is broken"
        )
    expect(got != "goat ", "ids that end inside a character lose it in silence; it should show as \ufffd")
    expect(got == "goat \ufffd", f"a character that is cut off should show as \ufffd, got {got!r}")
    expect(answer([], list(pieces)) == "", "no ids are an empty text")


@check_of("text.windows", "inputs and targets")
def windows(answer) -> None:
    for count, length, stride in ((13, 4, 4), (13, 4, 2), (14, 4, 4), (12, 4, 4), (20, 3, 5), (10, 4, 1), (6, 5, 3)):
        tokens = torch.randperm(count) + 100
        try:
            got = answer(tokens.clone(), length, stride)
        except RuntimeError as error:
            if "equal size" not in str(error):
                raise
            expect(False, "the last windows are shorter than the others: each needs length + 1 tokens of the text")
        expect_returned(got)
        expect(
            isinstance(got, tuple | list) and len(got) == 2,
            f"two tensors were asked for, inputs and targets, got a {type(got).__name__}",
        )
        _look_at_windows(*map(_as_tensor, got), tokens, length, stride)


def _look_at_windows(inputs: Tensor, targets: Tensor, tokens: Tensor, length: int, stride: int) -> None:
    case = f"{len(tokens)} tokens, length {length}, stride {stride}"
    for what, got in (("the inputs", inputs), ("the targets", targets)):
        expect(got.dim() == 2, f"{what} should be (number of windows, length), got the shape {tuple(got.shape)}")
        expect(
            got.shape[1] != length - 1,
            f"{what} have {length - 1} columns for length {length}: cut length + 1 tokens, so that both have length",
        )
        expect(got.shape[1] == length, f"{what} should have {length} columns, got the shape {tuple(got.shape)}")
    expect(len(inputs) == len(targets), f"{len(inputs)} windows of inputs, but {len(targets)} of targets")
    expect(not torch.equal(targets, inputs), "the targets are the inputs, so a model would only learn to copy: shift")
    expect(
        not torch.equal(targets[:, 1:], inputs[:, :-1]),
        "the targets are shifted the wrong way: each target is the token before its input, not the one after",
    )
    rows = tokens.unfold(0, length + 1, stride)  # the windows, each with its last target
    if len(inputs) and inputs[0, 0] == tokens[0]:
        expect(bool(targets[0, 0] == tokens[1]), "each target should be the token right after its input: shift by one")
    if len(rows) > 1 and len(inputs) > 1:
        step = (tokens == inputs[1, 0]).nonzero().flatten().tolist()
        expect(step != [length] or stride == length, f"the stride is ignored: windows begin every {length} tokens")
        expect(step == [stride], f"with {case}, the second window should begin at place {stride}, got {step}")
    expect(len(inputs) >= len(rows), f"the last window is lost: {case} make {len(rows)} windows, got {len(inputs)}")
    expect(len(inputs) <= len(rows), f"{case} make {len(rows)} windows, got {len(inputs)}: the last has too few tokens")
    expect(
        not torch.equal(targets[:, :-1], inputs[:, 1:]) or torch.equal(targets[:, -1], rows[:, -1]),
        "the last target of a window is not the token that follows in the text",
    )
    expect(torch.equal(inputs, rows[:, :-1]), f"the inputs of {case} are not those tokens of the text in their order")
    expect(torch.equal(targets, rows[:, 1:]), "each target should be the token right after its input")


def _as_list(got: Any) -> list[int]:
    expect_returned(got)
    expect(isinstance(got, list | tuple), f"a list of ids was asked for, got a {type(got).__name__}")
    return list(got)


def _as_tensor(got: Any) -> Tensor:
    if isinstance(got, list | tuple) and got and all(isinstance(row, Tensor) for row in got):
        expect(False, "a list of windows should be stacked into one tensor")
    expect(isinstance(got, Tensor), f"inputs and targets should be tensors, got a {type(got).__name__}")
    return got


def _pair(letters: str) -> Pair:
    return ord(letters[0]), ord(letters[1])


def _pairs(words: Mapping[tuple[int, ...], int]) -> dict[Pair, int]:
    counts: Counter[Pair] = Counter()
    for word, often in words.items():
        for pair in pairwise(word):
            counts[pair] += often
    return dict(counts)


def _join(ids: list[int], place: int, new_id: int) -> list[int]:
    return [*ids[:place], new_id, *ids[place + 2 :]]


def _merged(word: str, merges: list[Pair], *, last: bool = False) -> list[int]:
    """Return the ids of a word: of all pairs the one that was learned first (or last) is merged, the leftmost of it."""
    ids, number_of = list(word.encode("utf-8")), {pair: number for number, pair in enumerate(merges)}
    while known := [(number_of[pair], place) for place, pair in enumerate(pairwise(ids)) if pair in number_of]:
        number = max(known)[0] if last else min(known)[0]
        ids = _join(ids, min(place for found, place in known if found == number), 256 + number)
    return ids


def _from_the_left(word: str, merges: list[Pair]) -> list[int]:
    """Return what merging the leftmost pair of all that can be merged, again and again, would give."""
    ids, number_of = list(word.encode("utf-8")), {pair: number for number, pair in enumerate(merges)}
    while known := [(place, number_of[pair]) for place, pair in enumerate(pairwise(ids)) if pair in number_of]:
        place, number = min(known)
        ids = _join(ids, place, 256 + number)
    return ids


def _longest_first(word: str, pieces: list[bytes]) -> list[int]:
    """Return what taking the longest token that fits, from the left, would give."""
    rest, ids = word.encode("utf-8"), []
    while rest:
        piece = max((piece for piece in pieces if rest.startswith(piece)), key=len)
        ids.append(pieces.index(piece))
        rest = rest[len(piece) :]
    return ids


def _pieces(merges: list[Pair]) -> list[bytes]:
    pieces = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        pieces.append(pieces[left] + pieces[right])
    return pieces


def _learn(text: str, count: int) -> list[Pair]:
    """Return up to that many merges learned from a text that is cut at its spaces."""
    merges: list[Pair] = []
    while len(merges) < count:
        words = [tuple(_merged(f" {word}", merges)) for word in text.split()]
        pairs = _pairs(Counter(words))
        if not pairs:
            break
        merges.append(max(pairs, key=lambda pair: (pairs[pair], pair)))
    return merges
