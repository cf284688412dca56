"""From pieces of text to token ids with a mark for what is learned: the one form that all tuning data takes.

A prompt and its answer, a conversation, a tool call: each is a list of segments, and each segment says for itself
whether it is trained on. A segment is tokenised on its own, so the marks follow from the text; they never depend
on where a token happens to begin.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, NamedTuple

from gptlab.tokenizer import END_OF_TEXT, Tokenizer, as_tokenizer, control_id


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


def encode(
    segments: Iterable[Segment], tokenizer: Tokenizer, *, missing: Literal["error", "text"] = "error"
) -> Example:
    """Tokenise each segment on its own and join them.

    Args:
        segments: in their order.
        tokenizer: with the control tokens.
        missing: what becomes of a control segment that is no special token of the tokenizer: an error, or the letters
            of its name, as text. End-of-text has no letters.

    Raises:
        ValueError: a control segment is no special token, and missing is "error".
    """
    tokenizer, example = as_tokenizer(tokenizer), Example([], [])
    known = tokenizer.special_tokens_set
    for segment in segments:
        if segment.control and (missing == "error" or segment.text in known or segment.text == END_OF_TEXT):
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
