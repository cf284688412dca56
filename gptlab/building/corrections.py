"""Corrected answers become entries: the smallest and best way to tell a model what it got wrong.

Somebody chats with the model, saves the chat, and puts right what was wrong, in the file or while chatting. What then
stands behind a question is the answer that a person wants, which is what an entry is. An answer in the middle of a
conversation was right for what had been said before; so its entry has that as "history", in its corrected form, for the
model shall learn from a conversation without mistakes.

Every answer that is left standing counts as right. Who corrected a few of many gives the uncorrected chat, too, and
gets those few. Left out: questions that are put differently, and which of the two answers is better and by how much.

Source: Ouyang et al. 2022, InstructGPT, section 3.2 (demonstrations by people, for prompts to the model).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gptlab.data import Conversation, Turn, as_conversation, load_conversations
from gptlab.files import read_json

Talks = str | Path | Any  # a file, or one conversation, or a list of them


def entries_from_corrections(corrected: Talks, original: Talks | None = None) -> list[dict[str, Any]]:
    """Return the answers of corrected conversations as Alpaca entries, one for each answer.

    The message is the instruction. What was said before is in "history", a list of pairs, and in "system"; an entry
    with neither is a plain one. Tuning on entries with history, take `loss_on="last"`: the earlier answers have entries
    of their own, or were not corrected. "conversation" and "turn" say, from 1, where an answer is from.

    Args:
        corrected: the path of a file that `/save` wrote, or of a list of conversations; or conversations themselves,
            in any form that `as_conversation` knows.
        original: the same before it was corrected: then only answers that differ become entries, and what the model had
            said is "model_response", as judging wants it. None: all answers do.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no conversations; a turn used tools, which an entry has no place for; or the original is
            not the same but for the answers (the message names the conversation and the turn, from 1).

    >>> talk = [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "A parrot."}]
    >>> right = [talk[0], {"role": "assistant", "content": "I am Yanqi."}]
    >>> [entry] = entries_from_corrections(right, original=talk)
    >>> entry["instruction"], entry["output"], entry["model_response"]
    ('Who are you?', 'I am Yanqi.', 'A parrot.')
    """
    right = _conversations(corrected)
    said = right if original is None else _conversations(original)
    if len(said) != len(right):
        raise ValueError(f"there are {len(right)} corrected conversations, and {len(said)} in the original")
    entries = []
    for number, (conversation, before) in enumerate(zip(right, said), start=1):
        if original is not None:
            _check_same_questions(conversation, before, f"conversation {number}")
        for turn, (new, old) in enumerate(zip(conversation.turns, before.turns), start=1):
            if new.used_tools:
                raise ValueError(f"conversation {number}, turn {turn} used tools, which an entry has no place for")
            if new.assistant is None or (original is not None and _same(new.assistant, old.assistant)):
                continue
            entry = _entry(conversation, turn) | {"conversation": number, "turn": turn}
            known = original is not None and old.assistant is not None
            entries.append(entry | ({"model_response": old.assistant} if known else {}))
    return entries


def _entry(conversation: Conversation, turn: int) -> dict[str, Any]:
    *earlier, last = conversation.turns[:turn]
    entry: dict[str, Any] = {"instruction": last.user, "input": "", "output": last.assistant}
    if earlier:
        entry["history"] = [[said.user, said.assistant] for said in earlier]
    return entry | ({"system": conversation.system} if conversation.system else {})


def _check_same_questions(corrected: Conversation, original: Conversation, where: str) -> None:
    if corrected.system != original.system:
        raise ValueError(f"{where}: the system message is not that of the original, {original.system!r:.60}")
    if len(corrected.turns) != len(original.turns):
        raise ValueError(f"{where} has {len(corrected.turns)} turns, in the original {len(original.turns)}")
    for turn, (new, old) in enumerate(zip(corrected.turns, original.turns), start=1):
        if _question(new) != _question(old):
            raise ValueError(
                f"{where}, turn {turn}: the user says {new.user!r:.60}, in the original {old.user!r:.60}; "
                "only answers can be corrected"
            )


def _question(turn: Turn) -> str:
    return turn.user.strip()


def _same(answer: str, other: str | None) -> bool:
    return other is not None and answer.strip() == other.strip()


def _conversations(talks: Talks) -> list[Conversation]:
    """Return what is in a file, or is given, as a list, be it one conversation or many."""
    where = "the conversations"
    if isinstance(talks, str | Path):
        if Path(talks).suffix == ".jsonl":
            return load_conversations(talks)
        where, talks = str(talks), read_json(talks)
    if isinstance(talks, Conversation | Mapping) or _are_messages(talks):
        return [as_conversation(talks, where)]
    if not isinstance(talks, Sequence) or isinstance(talks, str) or not talks:
        raise ValueError(f"{where} must be a conversation or a list of them, got {talks!r:.80}")
    return [as_conversation(talk, f"{where}, number {number}") for number, talk in enumerate(talks, start=1)]


def _are_messages(value: Any) -> bool:
    return isinstance(value, Sequence) and bool(value) and isinstance(value[0], Mapping) and "role" in value[0]
