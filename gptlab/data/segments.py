"""From pieces of text to token ids with a mark for what is learned: the one form that all tuning data takes.

A prompt and its answer, a conversation, a tool call: each is a list of segments, and each segment says for itself
whether it is trained on. A segment is tokenised on its own, so the marks follow from the text; they never depend
on where a token happens to begin.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
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
        may_be_text: whether the letters of that name will do where the tokenizer has no such token.
    """

    text: str
    trained: bool
    control: bool = False
    may_be_text: bool = field(default=False, repr=False)


class Example(NamedTuple):
    """Token ids, and for each whether it is a target when the one before it is read."""

    ids: list[int]
    trained: list[bool]


def encode(segments: Iterable[Segment], tokenizer: Tokenizer) -> Example:
    """Tokenise each segment on its own and join them.

    Raises:
        ValueError: a control segment is no special token of the tokenizer, and may not be text.
    """
    tokenizer, example = as_tokenizer(tokenizer), Example([], [])
    known = tokenizer.special_tokens_set
    for segment in segments:
        if segment.control and (segment.text in known or not segment.may_be_text):
            ids = [control_id(tokenizer, segment.text)]
        else:
            ids = tokenizer.encode_ordinary(segment.text)
        example.ids.extend(ids)
        example.trained.extend([segment.trained] * len(ids))
    return example


def no_loss_spans(trained: Sequence[bool]) -> list[tuple[int, int]]:
    """Return where nothing is learned, as MOSS's code calls it: (begin, end) of each run, the end not in it.

    >>> no_loss_spans([False, False, True, False, True])
    [(0, 2), (3, 4)]
    """
    spans, place = [], 0
    for learned, run in groupby(trained):
        end = place + len(list(run))
        if not learned:
            spans.append((place, end))
        place = end
    return spans
