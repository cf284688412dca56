"""Longest first, ties in order, by the tokens of one tokenizer."""

import numpy as np
import pytest

from gptlab.data import InstructionDataset
from gptlab.selection.length import longest
from gptlab.tokenizer import train_tokenizer

TOKENIZER = train_tokenizer("the cat sat on the mat, the dog sat on the log", 270)
OUTPUTS = ["the cat", "xyz", "", "on the mat", "dog sat on the log", "猫坐下了", "xyz", "<|endoftext|>"]


def entries_of(outputs):
    return [{"instruction": "Say.", "input": "", "output": output} for output in outputs]


def test_the_same_as_a_stable_argsort():
    lengths = np.array([len(TOKENIZER.encode_ordinary(output)) for output in OUTPUTS])
    expected = np.argsort(-lengths, kind="stable").tolist()
    assert longest(entries_of(OUTPUTS), len(OUTPUTS), TOKENIZER) == expected
    assert longest(entries_of(OUTPUTS), 3, TOKENIZER) == expected[:3]
    assert expected.index(1) + 1 == expected.index(6)  # equally long, in order


def test_tokens_count_and_not_characters():
    assert longest(entries_of(["the the the the", "qqqqqqqqqq"]), 1, TOKENIZER) == [1]


def test_what_would_be_cut_is_left_out_as_the_data_set_sees_it():
    entries = entries_of(["a" * size for size in (5, 40, 20, 60)])
    limit = 160
    data = InstructionDataset(entries, TOKENIZER, context_length=limit, too_long="drop")
    dropped = {number - 1 for number, _ in data.dropped}
    assert dropped
    fitting = [place for place in (3, 1, 2, 0) if place not in dropped]
    assert longest(entries, len(fitting), TOKENIZER, max_tokens=limit) == fitting
    with pytest.raises(ValueError, match=f"pick 4 entries out of 4, {len(fitting)} of which fit into 160 tokens"):
        longest(entries, 4, TOKENIZER, max_tokens=limit)


def test_bad_input_is_refused():
    entries = entries_of(["a", "b"])
    with pytest.raises(ValueError, match="cannot pick 3 entries out of 2$"):
        longest(entries, 3, TOKENIZER)
    for k in (0, -1, 1.0, True):
        with pytest.raises(ValueError, match=f"k must be a whole number >= 1, got {k}"):
            longest(entries, k, TOKENIZER)
    with pytest.raises(ValueError, match="max_tokens must be a whole number >= 1, got 0"):
        longest(entries, 1, TOKENIZER, max_tokens=0)
    with pytest.raises(ValueError, match="entry 2 has no 'output'"):
        longest([entries[0], {"instruction": "a"}], 1, TOKENIZER)
    with pytest.raises(ValueError, match="entries must be a list, got a dict"):
        longest({}, 1, TOKENIZER)
    with pytest.raises(TypeError, match="a tokenizer needs encode and decode, got a str"):
        longest(entries, 1, "gpt2")
