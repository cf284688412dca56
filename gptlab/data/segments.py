"""From pieces of text to token ids with a mark for what is learned: the one form that all tuning data takes.

A prompt and its answer, a conversation, a tool call: each is a list of segments, and each segment says for itself
whether it is trained on. A segment is tokenised on its own, so the marks follow from the text; they never depend
on where a token happens to begin.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from gptlab.tokenizer import Tokenizer, as_tokenizer, control_id


@dataclass(frozen=True)
class Segment:
    """A piece of text.

    Attributes:
        text: what it says.
        trained: whether its tokens are targets of the loss.
        control: whether it is the name of a special token. Only then does it become that token's id; an
            `<|endoftext|>` that somebody typed stays text.
    """

    text: str
    trained: bool
    control: bool = False


class Example(NamedTuple):
    """Token ids, and for each whether it is a target when the one before it is read."""

    ids: list[int]
    trained: list[bool]


def encode(segments: Iterable[Segment], tokenizer: Tokenizer) -> Example:
    """Tokenise each segment on its own and join them.

    Raises:
        ValueError: a control segment is no special token of the tokenizer.
    """
    tokenizer, example = as_tokenizer(tokenizer), Example([], [])
    for segment in segments:
        ids = [control_id(tokenizer, segment.text)] if segment.control else tokenizer.encode_ordinary(segment.text)
        example.ids.extend(ids)
        example.trained.extend([segment.trained] * len(ids))
    return example
