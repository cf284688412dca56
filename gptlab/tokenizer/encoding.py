"""The tokenizer's interface: `tiktoken.Encoding`, GPT-2's splitting pattern, and its letters for bytes.

Source: Radford et al. 2019, section 2.2 (bytes, the pattern).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Protocol

import regex
import tiktoken

END_OF_TEXT = "<|endoftext|>"

# What special tokens are called. By it vocab.json, which has one table for all tokens, tells them from ordinary ones.
SPECIAL_NAME = r"<.+>|\[.+\]"

# GPT-2's splitting: English contractions, letters, numbers and the rest apart, a leading space joins the word.
GPT2_PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


class Tokenizer(Protocol):
    """What the library asks of a tokenizer; every `tiktoken.Encoding` has it."""

    @property
    def special_tokens_set(self) -> set[str]: ...

    def encode_ordinary(self, text: str) -> list[int]: ...

    def encode_single_token(self, text: str) -> int: ...

    def decode(self, ids: list[int]) -> str: ...


class ByteLevelEncoding(tiktoken.Encoding):
    """A `tiktoken.Encoding` that takes every text there is.

    A lone surrogate is an error, where tiktoken would silently write U+FFFD. A run of more than 200,000 spaces, on
    which tiktoken's pattern matcher can run out of stack, is encoded in parts; no token crosses from one to the next.
    """

    def encode(self, text: str, **kwargs: Any) -> list[int]:
        encode = super().encode
        return [token for part in _parts(check_utf8(text)) for token in encode(part, **kwargs)]

    def encode_ordinary(self, text: str) -> list[int]:
        encode = super().encode_ordinary
        return [token for part in _parts(check_utf8(text)) for token in encode(part)]


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
        raise ValueError(
            f"{name!r} is no special token; the tokenizer has {sorted(tokenizer.special_tokens_set)} "
            "(as_tokenizer(tokenizer, end_of_text=ID) says which id closes a text)"
        )
    return tokenizer.encode_single_token(name)


def make_encoding(name: str, ranks: dict[bytes, int], special: dict[str, int]) -> ByteLevelEncoding:
    """Return the encoding that merges by `ranks` (piece -> id) and has the special tokens `special` (name -> id)."""
    return ByteLevelEncoding(name, pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens=special)


def gpt2_byte_order() -> list[int]:
    """Return the 256 bytes, first those that print as one visible character, then the rest."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return visible + [byte for byte in range(256) if byte not in visible]


def byte_to_letter() -> dict[int, str]:
    """Return GPT-2's visible stand-in for each byte; a byte that does not print gets a letter from U+0100 on."""
    visible, hidden = gpt2_byte_order()[:188], gpt2_byte_order()[188:]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


def _parts(text: str, longest_run: int = 200_000) -> list[str]:
    """Return the text cut inside every longer run of white space; the last of a run stays with what follows it."""
    if len(text) <= longest_run:
        return [text]
    cuts = [run.end() for run in regex.finditer(rf"\s{{{longest_run}}}(?=\s\s)", text)]
    return [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]
