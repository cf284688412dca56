"""Conversations as examples, in one of two arrangements.

A conversation of n turns can be n samples, each with the turns before it and loss on its last turn (ChatGLM-6B), or one
sample with loss in every turn (MOSS). A causal model cannot look ahead, so what it predicts in turn k is the same in
both: the summed loss and its gradient are equal, and one sample costs a fraction of the tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from torch.utils.data import Dataset

from gptlab.data.chat_formats import ChatFormat, Piece
from gptlab.data.conversation import Conversation
from gptlab.data.conversation_files import as_conversation
from gptlab.data.rendering import LOSS_RULES, counting, find_format, to_segments
from gptlab.data.segments import Example, encode
from gptlab.data.templates import Template
from gptlab.tokenizer import Tokenizer, as_tokenizer

Arrangement = Literal["per_session", "per_turn"]


class ConversationDataset(Dataset):
    """Conversations as examples, ready for `collate`.

    Marks of the format that the tokenizer has no token for are written as text.

    Args:
        conversations: of any form that `as_conversation` knows; each must end with an answer.
        tokenizer: the model's.
        format: how they are written out; see `find_format`.
        arrangement: "per_session", one sample, or "per_turn", one for each turn.
        max_length: the most tokens of a sample; None sets no limit. It may be one more than the model reads at once,
            because the last token is only a target. Whole turns are left out, never parts: of a session the last ones,
            of the sample of one turn the first ones, so that its question is never cut.
        loss_on: see `render`; None is the format's own rule. "last" means the last turn that is kept.

    Attributes:
        examples: the samples.
        dropped: (number of the conversation from 1, tokens) of samples in which not even one turn fitted.
        numbers: of the conversation from 1 that each sample comes from.
        dropped_turns: how many turns were left out of the samples that stayed.
        plain_marks: the format's marks that are written as text. A user who types one cannot be told from the format.

    Raises:
        ValueError: a conversation is none or has no last answer, a setting is not known, the arrangement does not fit
            the format, or no sample is left.
    """

    def __init__(
        self,
        conversations: Sequence[Any],
        tokenizer: Tokenizer,
        *,
        format: str | Path | Template | ChatFormat = "moss",
        arrangement: Arrangement = "per_session",
        max_length: int | None = None,
        loss_on: str | None = None,
    ) -> None:
        self.format = find_format(format)
        self.loss_on = self.format.loss_on if loss_on is None else loss_on
        self.arrangement, self.max_length = arrangement, max_length
        self._check_settings()
        self.tokenizer = as_tokenizer(tokenizer)
        self.plain_marks = [mark for mark in self.format.markers if mark not in self.tokenizer.special_tokens_set]
        self.examples: list[Example] = []
        self.numbers: list[int] = []
        self.dropped: list[tuple[int, int]] = []
        self.dropped_turns = 0
        for number, record in enumerate(conversations, start=1):
            conversation = as_conversation(record, f"conversation {number}")
            if not conversation.answered:
                turns = len(conversation.turns)
                raise ValueError(f"conversation {number}: turn {turns} has no answer, so it cannot be trained on")
            self._encoded: dict[tuple, Example] = {}  # of this conversation
            arrange = self._session if arrangement == "per_session" else self._turns
            try:
                arrange(conversation, number)
            except ValueError as error:
                raise ValueError(f"conversation {number}: {error}") from None
            self.numbers += [number] * (len(self.examples) - len(self.numbers))
        if not self.examples:
            raise ValueError(f"no conversation to train on: {len(conversations)} given, {self.length_report()}")

    def _check_settings(self) -> None:
        if self.arrangement not in ("per_session", "per_turn"):
            raise ValueError(f"arrangement must be 'per_session' or 'per_turn', got {self.arrangement!r}")
        if self.max_length is not None and self.max_length < 2:
            raise ValueError(f"max_length must be >= 2, got {self.max_length}")
        if self.loss_on not in LOSS_RULES:
            raise ValueError(f"loss_on must be one of {list(LOSS_RULES)}, got {self.loss_on!r}")
        if self.arrangement == "per_turn" and self.loss_on == "last":
            raise ValueError("loss_on must not be 'last' with per_turn, which has a sample for each turn")
        if self.arrangement == "per_session" and self.format.only_last_ends:
            raise ValueError(
                "with ends_in_history=False only the newest answer has an end, so one sample would teach to stop once "
                "in a conversation; arrange it per_turn"
            )

    def _encode(self, pieces: Sequence[Piece], *, counts: bool = True) -> Example:
        key = (tuple(pieces), counts)
        if key not in self._encoded:  # a turn comes again in the samples of all later ones
            self._encoded[key] = encode(to_segments(pieces, self.loss_on, counts=counts), self.tokenizer)
        return self._encoded[key]

    def _session(self, conversation: Conversation, number: int) -> None:
        """Take turns from the first on, as long as they fit."""
        opening, turns, closing = self.format.write_out(conversation)
        before, end = self._encode(opening), self._encode(closing)
        length, kept = len(before.ids) + len(end.ids), 0
        for turn in turns:
            length += len(self._encode(turn).ids)
            if self._too_long(length):
                break
            kept += 1
        if not kept:
            self.dropped.append((number, length))
            return
        counts = counting(self.loss_on, kept)
        self.dropped_turns += len(turns) - kept
        self.examples.append(_joined([before, *(self._encode(turn, counts=c) for turn, c in zip(turns, counts)), end]))

    def _turns(self, conversation: Conversation, number: int) -> None:
        """Make a sample of each turn, with as many of the turns before it as fit."""
        turns = conversation.turns
        for end in range(1, len(turns) + 1):
            for start in range(end):
                part = conversation.with_turns(turns[start:end])
                sample = self._sample(part, first=end == 1, last=end == len(turns))
                if not self._too_long(len(sample.ids)):
                    self.examples.append(sample)
                    self.dropped_turns += start
                    break
            else:
                self.dropped.append((number, len(sample.ids)))

    def _sample(self, conversation: Conversation, *, first: bool, last: bool) -> Example:
        """Return a sample with loss in its last turn; the opening counts in the first, the closing in the last one."""
        opening, turns, closing = self.format.write_out(conversation)
        before = [self._encode(opening, counts=first), *(self._encode(turn, counts=False) for turn in turns[:-1])]
        return _joined([*before, self._encode(turns[-1]), self._encode(closing, counts=last)])

    def _too_long(self, length: int) -> bool:
        return self.max_length is not None and length > self.max_length

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, number: int) -> Example:
        return self.examples[number]

    def by_conversation(self) -> list[list[Example]]:
        """Return the samples of each conversation that has any."""
        groups: dict[int, list[Example]] = {}
        for number, example in zip(self.numbers, self.examples):
            groups.setdefault(number, []).append(example)
        return list(groups.values())

    def length_report(self) -> str:
        """Say how many samples and turns were left out because they were too long."""
        longest = max((length for _, length in self.dropped), default=0)
        longest_one = f" (the longest has {longest} tokens)" if longest else ""
        left_out = f"{len(self.dropped)} dropped and {self.dropped_turns} turns left out"
        return f"{left_out} for the length of {self.max_length}{longest_one}"


def _joined(parts: Sequence[Example]) -> Example:
    return Example([i for part in parts for i in part.ids], [t for part in parts for t in part.trained])
