"""A conversation: what a user said and what an assistant answered, in turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gptlab.tokenizer import check_utf8

NOTHING = "None"  # what MOSS writes where it thought, commanded or was told nothing

_ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}


@dataclass(frozen=True)
class Turn:
    """A message of the user and what came of it.

    Attributes:
        user: the message.
        assistant: the answer; None while there is none.
        thoughts: of the model, before it answers; this and the next two exist in MOSS's form only.
        commands: what it asked its tools.
        results: what they told it.
    """

    user: str
    assistant: str | None = None
    thoughts: str = NOTHING
    commands: str = NOTHING
    results: str = NOTHING

    @property
    def used_tools(self) -> bool:
        """Whether something stands between the question and the answer."""
        return (self.thoughts, self.commands, self.results) != (NOTHING, NOTHING, NOTHING)


@dataclass(frozen=True)
class Conversation:
    """Turns in their order, and perhaps what was said to the model before the first.

    Attributes:
        turns: at least one. Only the last may be without an answer: it is what the model is asked.
        system: how the assistant shall behave; MOSS calls it meta instruction.

    Raises:
        ValueError: there is no turn, a message is empty or no text, or an earlier turn has no answer.
    """

    turns: Sequence[Turn]
    system: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "turns", tuple(self.turns))
        if not self.turns:
            raise ValueError("a conversation needs at least one turn, got none")
        _check_text(self.system, "the system message", may_be_empty=self.system == "")
        for number, turn in enumerate(self.turns, start=1):
            _check_text(turn.user, f"turn {number}, the user's message")
            if turn.assistant is not None:
                _check_text(turn.assistant, f"turn {number}, the assistant's answer")
            elif number < len(self.turns):
                raise ValueError(f"turn {number} of {len(self.turns)} has no answer; only the last may be without")
            for name in ("thoughts", "commands", "results"):
                _check_text(getattr(turn, name), f"turn {number}, the {name}", may_be_empty=True)

    @property
    def answered(self) -> bool:
        """Whether the last turn has an answer."""
        return self.turns[-1].assistant is not None

    def with_turns(self, turns: Sequence[Turn]) -> Conversation:
        """Return the conversation with other turns."""
        return Conversation(turns, self.system)

    def without_tools(self) -> Conversation:
        """Return the conversation without thoughts, commands and results."""
        return self.with_turns([Turn(turn.user, turn.assistant) for turn in self.turns])

    def messages(self) -> list[dict[str, str]]:
        """Return `[{"role": ..., "content": ...}]`, the form that most libraries take.

        Raises:
            ValueError: a turn has thoughts, commands or results, which that form has no place for.
        """
        said = [{"role": "system", "content": self.system}] if self.system else []
        for number, turn in enumerate(self.turns, start=1):
            if turn.used_tools:
                raise ValueError(f"turn {number} used tools, which messages have no place for: see without_tools")
            said.append({"role": "user", "content": turn.user})
            if turn.assistant is not None:
                said.append({"role": "assistant", "content": turn.assistant})
        return said


def from_messages(
    messages: Sequence[Mapping[str, Any]], *, role: str = "role", content: str = "content"
) -> Conversation:
    """Return the conversation of messages in turn: perhaps one of the system, then user, assistant, user, ...

    Args:
        messages: the roles may also be called "human" and "gpt", as in ShareGPT's files.
        role: the key that says who speaks.
        content: the key that says what.

    Raises:
        ValueError: a message is none, is empty or broken text, its role is not known, or one speaks twice in a row.
    """
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        raise ValueError(f"messages must be a list, got a {type(messages).__name__}")
    said: list[tuple[str, str]] = []
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping) or role not in message or content not in message:
            raise ValueError(f"message {number} must be an object with {role!r} and {content!r}, got {message!r:.80}")
        speaker = _ROLES.get(message[role]) if isinstance(message[role], str) else None
        if speaker is None:
            raise ValueError(f"message {number} has the role {message[role]!r}; allowed are {', '.join(_ROLES)}")
        _check_text(message[content], f"message {number}")
        said.append((speaker, message[content]))
    system = said.pop(0)[1] if said and said[0][0] == "system" else ""
    before = len(messages) - len(said)
    turns = []
    for place, (speaker, text) in enumerate(said):
        number, expected = place + before + 1, ("user", "assistant")[place % 2]
        if speaker == "system":
            raise ValueError(f"message {number} is from the system, which may only speak first")
        if speaker != expected:
            if place == 0:
                raise ValueError(f"message {number} is from the assistant; a conversation begins with the user")
            raise ValueError(f"messages {number - 1} and {number} are both from the {speaker}; they must take turns")
        if speaker == "user":
            turns.append(Turn(text))
        else:
            turns[-1] = Turn(turns[-1].user, text)
    return Conversation(turns, system)


def _check_text(text: Any, where: str, *, may_be_empty: bool = False) -> None:
    if not isinstance(text, str):
        raise ValueError(f"{where} must be text, got {text!r:.80}")
    if not may_be_empty and not text.strip():
        raise ValueError(f"{where} is empty")
    try:
        check_utf8(text)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
