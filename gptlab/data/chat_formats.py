"""How a conversation is written out for a model: the formats.

A format says four things: what opens a conversation, how a question is put, how an answer is closed, and what closes
the conversation. Tuning and chatting use the same four, so that a chat's tokens are those that the model was tuned on.
Each piece knows what part of the conversation it is, by which a loss rule chooses.

Sources: MOSS, finetune_moss.py; ChatGLM-6B, ptuning/main.py; OpenAI's ChatML; Abdin et al. 2024, arXiv 2404.14219.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

from gptlab.data.conversation import Conversation, Turn
from gptlab.data.conversation_files import MOSS_PARTS, after_words, as_question
from gptlab.data.segments import Segment
from gptlab.data.templates import Template, fill
from gptlab.tokenizer import END_OF_TEXT

Part = Literal["system", "user", "thoughts", "commands", "results", "frame", "assistant"]


class Piece(NamedTuple):
    """A piece of a conversation as it is written out: see `Segment`."""

    text: str
    part: Part
    control: bool = False

    def segment(self, trained: bool) -> Segment:
        """Return the piece as a segment; a mark may be text where the tokenizer does not have it, end-of-text not."""
        return Segment(self.text, trained, self.control, may_be_text=self.control and self.text != END_OF_TEXT)


@dataclass(frozen=True)
class ChatFormat(ABC):
    """The four things that a format says; those that follow override them.

    Attributes:
        name: what a checkpoint remembers.
        loss_on: the loss rule that belongs to the format.
        has_tools: whether thoughts, commands and results have a place in it.
        tuned_length: in nine of ten samples that the model was tuned on, at most so many tokens stood before the last
            answer; None if nobody knows. What stands at later positions it may read badly.
    """

    tuned_length: int | None = field(default=None, kw_only=True)

    name: ClassVar[str]
    loss_on: ClassVar[str] = "assistant"
    has_tools: ClassVar[bool] = False

    @property
    def title(self) -> str:
        """What people are told it is called."""
        return self.name

    def opening(self, system: str) -> list[Piece]:
        """Return what comes before the first turn."""
        return [Piece(system, "system")] if system else []

    @abstractmethod
    def question(self, turn: Turn, number: int) -> list[Piece]:
        """Return a turn up to where the answer begins; its number counts from 0."""

    @abstractmethod
    def answer(self, text: str, last: bool) -> list[Piece]:
        """Return the answer, the mark that ends it, and what stands between it and the next turn.

        The first piece is the answer alone, perhaps with a space before it; the second is the mark, which the last
        answer always has.
        """

    def closing(self) -> list[Piece]:
        """Return what comes after the last answer."""
        return []

    def turn(self, turn: Turn, number: int, last: bool) -> list[Piece]:
        """Return a whole turn, or its question alone when it is not answered.

        Raises:
            ValueError: it used tools, and the format has no place for that.
        """
        if turn.used_tools and not self.has_tools:
            raise ValueError(
                f"the {self.title} form has no place for thoughts, commands and results: moss has, or leave them out "
                "by conversation.without_tools()"
            )
        answer = [] if turn.assistant is None else self.answer(turn.assistant, last)
        return [*self.question(turn, number), *answer]

    @property
    def only_last_ends(self) -> bool:
        """Whether only the newest answer has its mark, so that there must be a sample for each turn."""
        return False

    @property
    def end_of_answer(self) -> Piece:
        """The mark that ends an answer."""
        return self.answer("", last=True)[1]

    @property
    def markers(self) -> list[str]:
        """The control tokens that the format would like the tokenizer to have, besides end-of-text."""
        turn = self.turn(Turn("?", "!"), 0, True)
        pieces = [*self.opening("."), *turn, *self.closing()]
        return list(dict.fromkeys(piece.text for piece in pieces if piece.control and piece.text != END_OF_TEXT))

    def to_dict(self) -> dict[str, Any]:
        """Return the format as a plain dictionary, from which `format_from_dict` makes it again."""
        return {"format": self.name, **asdict(self)}

    def write_out(self, conversation: Conversation) -> tuple[list[Piece], list[list[Piece]], list[Piece]]:
        """Return the opening, the turns and the closing of a conversation; an unanswered one has no closing."""
        turns, end = conversation.turns, len(conversation.turns) - 1
        pieces = [self.turn(turn, number, last=number == end) for number, turn in enumerate(turns)]
        return self.opening(conversation.system), pieces, self.closing() if conversation.answered else []

    def prompt_segments(self, asked: Any) -> list[Segment]:
        """Return everything that the model reads before it answers.

        Args:
            asked: a conversation, or an Alpaca entry; an answer to its last question is not looked at.
        """
        opening, turns, _ = self.write_out(as_question(asked))
        return [piece.segment(False) for pieces in (opening, *turns) for piece in pieces]


@dataclass(frozen=True)
class Moss(ChatFormat):
    """`<|Human|>: ...<eoh>`, thoughts, commands, results, `<|MOSS|>: ...<eom>`, each on a line.

    The five tokens that end the parts are control tokens; the words in `<|...|>` are text, as in MOSS's own code.
    """

    name: ClassVar[str] = "moss"
    loss_on: ClassVar[str] = "moss"
    has_tools: ClassVar[bool] = True

    def question(self, turn: Turn, number: int) -> list[Piece]:
        texts = (turn.user, turn.thoughts, turn.commands, turn.results)
        pieces = []
        for part, text, (_, words, end) in zip(("user", "thoughts", "commands", "results"), texts, MOSS_PARTS):
            if part == "results":  # the words and the end carry loss, what the tool said does not
                pieces += [Piece(words, "frame"), Piece(after_words(text), part), Piece(end, "frame", control=True)]
            else:
                pieces += [Piece(words + after_words(text), part), Piece(end, part, control=True)]
            pieces.append(Piece("\n", "frame"))
        return [*pieces, Piece(MOSS_PARTS[-1][1], "frame")]

    def answer(self, text: str, last: bool) -> list[Piece]:
        end = Piece(MOSS_PARTS[-1][2], "assistant", control=True)
        return [Piece(after_words(text), "assistant"), end, Piece("\n", "frame")]


@dataclass(frozen=True)
class ChatGLM(ChatFormat):
    """`[Round 0]`, `问：...`, `答：...`, a line each.

    Args:
        first_round: what the first round is called: 0 in ChatGLM-6B, 1 in ChatGLM2 (whose form also has empty lines
            between the parts, which are not written here).
        ends_in_history: whether end-of-text closes every answer, so that a conversation which is one sample teaches
            to stop after each; ChatGLM-6B closes the newest one only, for which there must be a sample per turn.
    """

    first_round: int = 0
    ends_in_history: bool = True

    name: ClassVar[str] = "chatglm"

    def __post_init__(self) -> None:
        if self.first_round not in (0, 1):
            raise ValueError(f"first_round must be 0 or 1, got {self.first_round!r}")

    @property
    def only_last_ends(self) -> bool:
        return not self.ends_in_history

    def question(self, turn: Turn, number: int) -> list[Piece]:
        return [Piece(f"[Round {number + self.first_round}]\n问：{turn.user}\n答：", "user")]

    def answer(self, text: str, last: bool) -> list[Piece]:
        end = [Piece(END_OF_TEXT, "assistant", control=True)] if last or self.ends_in_history else []
        return [Piece(text, "assistant"), *end, Piece("\n", "frame")]


@dataclass(frozen=True)
class ChatML(ChatFormat):
    """`<|im_start|>user`, a line, the message, `<|im_end|>`."""

    name: ClassVar[str] = "chatml"

    def opening(self, system: str) -> list[Piece]:
        return [*self._message("system", system, "system"), Piece("\n", "frame")] if system else []

    def question(self, turn: Turn, number: int) -> list[Piece]:
        start = Piece("<|im_start|>", "frame", control=True)
        return [*self._message("user", turn.user, "user"), Piece("\n", "frame"), start, Piece("assistant\n", "frame")]

    def answer(self, text: str, last: bool) -> list[Piece]:
        return [Piece(text, "assistant"), Piece("<|im_end|>", "assistant", control=True), Piece("\n", "frame")]

    def _message(self, role: str, text: str, part: Part) -> list[Piece]:
        start, end = (Piece(mark, "frame", control=True) for mark in ("<|im_start|>", "<|im_end|>"))
        return [start, Piece(f"{role}\n{text}", part), end]


@dataclass(frozen=True)
class Phi3(ChatFormat):
    """`<|user|>`, a line, the message, `<|end|>`; end-of-text closes the conversation."""

    name: ClassVar[str] = "phi3"

    def opening(self, system: str) -> list[Piece]:
        return self._message("<|system|>", system, "system") if system else []

    def question(self, turn: Turn, number: int) -> list[Piece]:
        start = Piece("<|assistant|>", "frame", control=True)
        return [*self._message("<|user|>", turn.user, "user"), start, Piece("\n", "frame")]

    def answer(self, text: str, last: bool) -> list[Piece]:
        return [Piece(text, "assistant"), Piece("<|end|>", "assistant", control=True), Piece("\n", "frame")]

    def closing(self) -> list[Piece]:
        return [Piece(END_OF_TEXT, "frame", control=True)]

    def _message(self, mark: str, text: str, part: Part) -> list[Piece]:
        start, end = (Piece(each, "frame", control=True) for each in (mark, "<|end|>"))
        return [start, Piece(f"\n{text}", part), end, Piece("\n", "frame")]


@dataclass(frozen=True)
class BookPhi3(ChatFormat):
    """Phi-3's form as an exercise of the book has it: the marks are text, and a colon follows the assistant's."""

    name: ClassVar[str] = "phi3_book"

    def opening(self, system: str) -> list[Piece]:
        return [Piece(f"{system}\n", "system")] if system else []

    def question(self, turn: Turn, number: int) -> list[Piece]:
        return [Piece(f"<|user|>\n{turn.user}\n<|assistant|>:\n", "user")]

    def answer(self, text: str, last: bool) -> list[Piece]:
        return [Piece(text, "assistant"), Piece(END_OF_TEXT, "assistant", control=True), Piece("\n", "frame")]


@dataclass(frozen=True)
class OverTurns(ChatFormat):
    """A template of Alpaca's kind, stretched over turns.

    What stands before the last empty line above `{instruction}` opens the conversation, unless it has a system message,
    which takes that place. The rest is repeated for each turn, after an empty line.
    """

    template: Template

    name: ClassVar[str] = "template"

    def __post_init__(self) -> None:
        if "{instruction}" not in self.template.prompt_no_input:
            raise ValueError(f"template {self.template.name!r}: 'prompt_no_input' must hold {{instruction}}")

    @property
    def title(self) -> str:
        return self.template.name

    def opening(self, system: str) -> list[Piece]:
        opening, _ = self._split()
        if not opening and system:
            return [Piece(f"{system}\n\n", "system")]
        return super().opening(system or opening)

    def question(self, turn: Turn, number: int) -> list[Piece]:
        opening, repeated = self._split()
        # At the end of the opening, an empty line would be another token than it is before the words that follow.
        space = "\n\n" if opening or number else ""
        return [Piece(space + fill(repeated, {"instruction": turn.user}), "user")]

    def answer(self, text: str, last: bool) -> list[Piece]:
        return [Piece(text, "assistant"), Piece(END_OF_TEXT, "assistant", control=True)]

    def _split(self) -> tuple[str, str]:
        """Return what opens a conversation, and what is repeated."""
        opening, space, _ = self.template.prompt_no_input.partition("{instruction}")[0].rpartition("\n\n")
        return opening, self.template.prompt_no_input.removeprefix(opening + space)


FORMATS: Mapping[str, type[ChatFormat]] = {each.name: each for each in (Moss, ChatGLM, ChatML, Phi3, BookPhi3)}
