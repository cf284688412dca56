"""Every entry that goes out is like one that stays, and no two that stay are alike, whatever the blocks."""

import numpy as np
import pytest

from gptlab.rouge import rouge_l
from gptlab.selection import duplicates
from gptlab.selection.duplicates import near_duplicates, without_near_duplicates
from gptlab.selection.embedding import unit_rows
from gptlab.selection.novelty import novel_instructions


def greedy(alike, n):
    """Return what is kept, and of each its group: the plain loop."""
    groups = {}
    for place in range(n):
        scores = [(alike(place, first), -first) for first in groups]
        found, first = max((one for one in scores if one[0] is not None), default=(None, 0))
        if found is None:
            groups[place] = [place]
        else:
            groups[-first].append(place)
    return sorted(groups), [group for group in groups.values() if len(group) > 1]


@pytest.mark.parametrize("block", [1, 3, 7, 100])
@pytest.mark.parametrize("threshold", [0.0, 0.6, 0.9])
def test_cosines_in_blocks_are_those_of_the_plain_loop(monkeypatch, block, threshold):
    monkeypatch.setattr(duplicates, "BLOCK", block)
    rows = np.random.default_rng(0).normal(size=(60, 4))
    rows[7] = 0
    units = unit_rows(rows)

    def alike(one, other):
        cosine = float(units[one] @ units[other])
        return cosine if cosine > threshold else None

    kept, groups = greedy(alike, len(rows))
    found = near_duplicates([f"text {n}" for n in range(60)], threshold=threshold, embeddings=rows)
    assert (found.kept, found.groups) == (kept, groups)
    assert 1 < len(kept) < 60 and 7 in kept


def test_at_threshold_one_no_cosine_is_above_it():
    """In float32 the cosine of a vector with itself may come out as 1.0000001."""
    rows = np.random.default_rng(0).normal(size=(60, 384)).astype(np.float32)
    units = unit_rows(rows)
    assert (units @ units.T).max() > 1
    texts = [f"text {number}" for number in range(120)]
    assert near_duplicates(texts, threshold=1, embeddings=np.repeat(rows, 2, axis=0)).groups == []


def test_answers_of_punctuation_alone_are_told_apart():
    answers = [{"instruction": "Which mark is missing?", "output": mark} for mark in ("?", "!", "？", "...", "")]
    assert near_duplicates(answers, fields=("output",)).groups == [[0, 2]]


def test_words_are_compared_as_by_rouge_l():
    texts = [f"name {a} {b} in the city of {c}" for a in ("one", "two") for b in ("cats", "dogs") for c in "abcd"]
    threshold = 0.8

    def alike(one, other):
        score = rouge_l(texts[one], texts[other])
        return score if score > threshold else None

    found = near_duplicates(texts, threshold=threshold)
    assert (found.kept, found.groups) == greedy(alike, len(texts))
    assert found.kept == novel_instructions(texts, threshold=threshold) == without_near_duplicates(texts, threshold=0.8)
    assert sorted(found.kept + found.dropped) == list(range(len(texts)))


def test_what_is_literally_the_same_goes_first_and_at_threshold_one_alone():
    texts = ["写一首诗。", "C++", "写一首诗", "C#", "ＷＨＯ?", "who", "who  "]
    found = near_duplicates(texts, threshold=1)
    assert (found.kept, found.groups, found.exact) == ([0, 1, 3, 4], [[0, 2], [4, 5, 6]], 3)
    embeddings = np.eye(7)
    assert near_duplicates(texts, embeddings=embeddings).kept == found.kept


def test_it_is_no_chain():
    chain = [[1, 0], [0.8, 0.6], [0.28, 0.96]]  # each like the next
    found = near_duplicates(["a", "b", "c"], threshold=0.75, embeddings=chain)
    assert (found.kept, found.groups) == ([0, 2], [[0, 1]])


def test_entries_are_compared_by_the_fields_that_are_named():
    entries = [
        {"instruction": "Add.", "input": "1 and 2", "output": "3"},
        {"instruction": "Add.", "input": "two hundred to seven", "output": "207"},
        {"instruction": "Which prime is odd and least?", "input": None, "output": "3"},
    ]
    assert without_near_duplicates(entries) == [0, 1, 2]
    assert without_near_duplicates(entries, fields=["instruction"]) == [0, 2]
    assert without_near_duplicates(entries, fields=("output",)) == [0, 1]


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="entries must not be empty"):
        near_duplicates([])
    with pytest.raises(ValueError, match="entries must be a list, got a str"):
        near_duplicates("abc")
    with pytest.raises(ValueError, match="text 2 must be text, as the first, got 3"):
        near_duplicates(["a", 3])
    with pytest.raises(ValueError, match="entry 1 has no 'instruction'"):
        near_duplicates([{"output": "a"}])
    with pytest.raises(ValueError, match=r"threshold must be a number in \[0, 1\], got 1.5"):
        near_duplicates(["a"], threshold=1.5)
    with pytest.raises(ValueError, match="1"):
        near_duplicates(["a", "b"], embeddings=[[1.0]])
    with pytest.raises(ValueError, match="(?i)nan|finite"):
        near_duplicates(["a"], embeddings=[[float("nan")]])
