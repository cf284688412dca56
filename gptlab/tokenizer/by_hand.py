"""Byte-pair encoding, applied by hand: what `Encoding.encode` does in a compiled library, to be read.

A word starts as its bytes. Of all neighbouring pairs that form a token, the one that was learned first is merged; this
goes on until no pair forms a token. The library uses tiktoken, which gives the same ids some hundred times faster.

Source: Sennrich et al. 2016, arXiv 1508.07909; Radford et al. 2019, section 2.2.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise
from typing import Literal

import regex
import tiktoken

from gptlab.tokenizer.encoding import check_utf8


def encode_by_hand(
    text: str, tokenizer: tiktoken.Encoding, allowed_special: Literal["all"] | Collection[str] = ()
) -> list[int]:
    """Return the ids of `text`, as `tokenizer.encode(text, allowed_special=..., disallowed_special=())` does.

    Args:
        text: what to encode.
        tokenizer: whose vocabulary and pattern to use.
        allowed_special: names of special tokens, or "all", that become one id where they occur; others are plain text.

    Raises:
        ValueError: a name is no special token, or the text holds a lone surrogate.
    """
    if allowed_special == "all":
        allowed_special = tokenizer.special_tokens_set
    unknown = set(allowed_special) - tokenizer.special_tokens_set
    if unknown:
        raise ValueError(f"{sorted(unknown)} are no special tokens; there are {sorted(tokenizer.special_tokens_set)}")
    ranks: dict[bytes, int] = tokenizer._mergeable_ranks
    ids: list[int] = []
    names = "|".join(regex.escape(name) for name in sorted(allowed_special, key=len, reverse=True))
    for piece in regex.split(f"({names})", check_utf8(text)) if names else [text]:
        if piece in allowed_special:
            ids.append(tokenizer.encode_single_token(piece))
            continue
        for word in regex.findall(tokenizer._pat_str, check_utf8(piece)):
            ids.extend(ranks[part] for part in merge(word.encode("utf-8"), ranks))
    return ids


def merge(word: bytes, ranks: dict[bytes, int], below: int | None = None) -> list[bytes]:
    """Return the tokens that the bytes of one word merge into.

    Args:
        word: the bytes.
        ranks: token -> when it was learned.
        below: use only tokens that were learned before this one.

    >>> merge(b"lowest", {b"lo": 256, b"es": 257, b"low": 258, b"est": 259})
    [b'low', b'est']
    """
    parts = [bytes([byte]) for byte in word]
    never = max(ranks.values(), default=0) + 1 if below is None else below
    while True:
        ranked = [(ranks.get(left + right, never), i) for i, (left, right) in enumerate(pairwise(parts))]
        rank, i = min(ranked, default=(never, 0))
        if rank >= never:
            return parts
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
