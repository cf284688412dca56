"""Text that comes token by token: whole characters, and an end where a stop string appears."""

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from gptlab.decoding.text import TextWriter
from gptlab.tokenizer import END_OF_TEXT, as_tokenizer

BYTES = tiktoken.Encoding(
    "bytes", pat_str=r"[\s\S]", mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={END_OF_TEXT: 256}
)


class WordPieces:
    """A tokenizer whose text is only known as a whole: spaces come between words."""

    def encode(self, text):
        return [ord(letter) - 97 for letter in text if letter != " "]

    def decode(self, ids):
        return " ".join(chr(97 + i) for i in ids)


def pieces_of(tokenizer, ids, stop=()):
    writer = TextWriter(tokenizer, stop)
    pieces = []
    for token in ids:
        pieces.append(writer.write(token))
        if writer.stopped:
            break
    pieces.append(writer.finish())
    return writer, pieces


@given(st.text(), st.lists(st.text(min_size=1, max_size=4), max_size=3))
def test_pieces_make_up_the_text_before_the_first_stop(text, stops):
    """Every character comes in up to four tokens, so that all borders lie inside one."""
    ids = list(text.encode("utf-8"))
    writer, pieces = pieces_of(BYTES, ids, stops)
    ends = {stop: text.find(stop) + len(stop) for stop in stops if stop in text}
    if ends:  # the one that is complete first; of those, the one that begins first
        soonest = min(ends.values())
        expected = text[: min(end - len(stop) for stop, end in ends.items() if end == soonest)]
    else:
        expected = text
    assert writer.text == "".join(pieces) == expected
    assert writer.stopped == bool(ends)
    assert not any("\ufffd" in piece for piece in pieces) or "\ufffd" in text
    if writer.stopped:
        assert bytes(ids[: writer.kept]).decode("utf-8") == expected


def test_half_a_character_is_held_back():
    writer = TextWriter(BYTES)
    assert [writer.write(byte) for byte in "猫".encode()] == ["", "", "猫"]
    assert writer.write(0xE7) == ""
    assert writer.finish() == "\ufffd"  # it never became whole


def test_a_possible_stop_is_held_back_until_it_is_certain():
    writer = TextWriter(BYTES, ["\n\n"])
    assert [writer.write(ord(letter)) for letter in "a\nb\n"] == ["a", "", "\nb", ""]
    assert not writer.stopped
    assert writer.write(ord("\n")) == ""
    assert writer.stopped
    assert writer.text == "a\nb"
    assert writer.kept == 3


def test_a_token_that_holds_a_part_of_the_stop_string_is_not_kept():
    tokens = tiktoken.Encoding(
        "two",
        pat_str=r"[\s\S]+",
        mergeable_ranks={**{bytes([i]): i for i in range(256)}, b"a#": 256},
        special_tokens={},
    )
    writer, pieces = pieces_of(tokens, [ord("b"), 256, ord("#"), ord("c")], ["##"])
    assert "".join(pieces) == "ba"
    assert writer.kept == 1


@pytest.mark.parametrize("stop", ["", "c d"])
def test_any_tokenizer_with_decode(stop):
    _, pieces = pieces_of(as_tokenizer(WordPieces()), [0, 1, 2, 3, 4], [stop] if stop else [])
    assert "".join(pieces) == ("a b " if stop else "a b c d e")
    assert pieces[:2] == ["a", " b"]
