"""The forms that conversations come in, and files of them.

Known are lists of messages, ShareGPT's and WizardLM's `conversations`, MOSS's `chat`, Alpaca's entries (with the
`history` and `system` that some tools add to them), Dolly's records, and ChatGLM's `prompt`, `response`, `history`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gptlab.data.conversation import NOTHING, Conversation, Turn, from_messages
from gptlab.data.instruction import check_entry, dolly_entry, load_entries, read_records
from gptlab.data.templates import load_template
from gptlab.files import to_json, write_text

# The parts of a turn in MOSS's files, in their order: key, words before, token after.
MOSS_PARTS = (
    ("Human", "<|Human|>:", "<eoh>"),
    ("Inner Thoughts", "<|Inner Thoughts|>:", "<eot>"),
    ("Commands", "<|Commands|>:", "<eoc>"),
    ("Tool Responses", "<|Results|>:", "<eor>"),
    ("MOSS", "<|MOSS|>:", "<eom>"),
)


def as_conversation(value: Any, where: str = "the conversation") -> Conversation:
    """Return the conversation that `value` is, in whichever of the known forms.

    Args:
        value: a Conversation, a list of messages, or an object with the keys of one of the forms.
        where: what an error begins with.

    Raises:
        ValueError: it is of no known form, or breaks the rules of its own.
    """
    try:
        if isinstance(value, Conversation):
            return value
        if isinstance(value, Sequence) and not isinstance(value, str):
            return from_messages(value)
        if isinstance(value, Mapping):
            for keys, read in _FORMS:
                if all(key in value for key in keys):
                    return read(value)
            raise ValueError(f"has no known form; its keys are {list(value)}")
        raise ValueError(f"must be a conversation, messages or an object, got {value!r:.80}")
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def as_question(value: Any, where: str = "the conversation") -> Conversation:
    """Return the conversation up to its last question; an answer to that, even an empty one, is not looked at.

    Raises as `as_conversation`.
    """
    if isinstance(value, Mapping) and "instruction" in value:
        value = {key: field for key, field in dolly_entry(value).items() if key != "output"}
    conversation = as_conversation(value, where)
    return conversation.with_turns([*conversation.turns[:-1], replace(conversation.turns[-1], assistant=None)])


def from_moss(record: Mapping[str, Any]) -> Conversation:
    """Return the conversation of one record of MOSS's files.

    Each text there carries its marks, `<|Human|>: ...<eoh>`; they are taken off, and `render` puts them on again, as
    most of MOSS's records have them: a space or a line's end before the text, every part there, a line's end behind.

    Raises:
        ValueError: `num_turns` is not the number of turns, a turn is missing or lacks a part, or a part its marks.
    """
    chat, said = record["chat"], record.get("num_turns")
    if not isinstance(chat, Mapping):
        raise ValueError(f"'chat' must be an object, got {chat!r:.80}")
    if said is not None and str(said) != str(len(chat)):
        raise ValueError(f"num_turns is {said!r}, but the chat has {len(chat)} turns")
    turns = []
    for number in range(1, len(chat) + 1):
        turn = chat.get(f"turn_{number}")
        if not isinstance(turn, Mapping):
            raise ValueError(f"the chat has no 'turn_{number}'; its keys are {list(chat)}")
        user, thoughts, commands, results, answer = (_without_marks(turn, number, *part) for part in MOSS_PARTS)
        turns.append(Turn(user, answer, thoughts, commands, results))
    return Conversation(turns, record["meta_instruction"])


def to_moss(conversation: Conversation, conversation_id: str = "0") -> dict[str, Any]:
    """Return a conversation as a record of MOSS's files.

    Raises:
        ValueError: the last turn has no answer.
    """
    if not conversation.answered:
        raise ValueError("the last turn has no answer, which MOSS's form needs")
    chat = {}
    for number, turn in enumerate(conversation.turns, start=1):
        texts = (turn.user, turn.thoughts, turn.commands, turn.results, turn.assistant)
        chat[f"turn_{number}"] = {
            key: f"{words}{after_words(text)}{end}\n" for text, (key, words, end) in zip(texts, MOSS_PARTS)
        }
    return {
        "conversation_id": conversation_id,
        "meta_instruction": conversation.system,
        "num_turns": len(chat),
        "chat": chat,
    }


def after_words(text: str) -> str:
    """Return `text` as MOSS puts it after `<|Human|>:` and the like: a space between, unless it begins a line.

    >>> after_words("Hello"), after_words("\\nA page from the web.\\n")
    (' Hello', '\\nA page from the web.\\n')
    """
    return text if text.startswith("\n") else f" {text}"


def _without_marks(turn: Mapping[str, Any], number: int, key: str, words: str, end: str) -> str:
    if key not in turn and key not in ("Human", "MOSS"):
        return NOTHING
    text = turn.get(key)
    if not isinstance(text, str) or not text.startswith(words) or not text.rstrip("\n").endswith(end):
        raise ValueError(f"turn_{number}: {key!r} must be '{words} ...{end}\\n', got {text!r:.80}")
    return text.removeprefix(words).rstrip("\n").removesuffix(end).removeprefix(" ")


def from_sharegpt(record: Mapping[str, Any]) -> Conversation:
    """Return the conversation of one record of ShareGPT's form, which WizardLM's newer files have, too.

    Raises:
        ValueError: see `from_messages`.
    """
    said = record["conversations"]
    if isinstance(said, Sequence) and said and isinstance(said[0], Mapping) and "from" in said[0]:
        conversation = from_messages(said, role="from", content="value")
    else:
        conversation = from_messages(said)
    return _with_system(conversation, record)


def from_entry(entry: Mapping[str, Any]) -> Conversation:
    """Return an Alpaca entry as a conversation: turns of its `history`, then instruction and input as one message.

    Raises:
        ValueError: it is no Alpaca entry, or its history is not a list of pairs.
    """
    check_entry(entry, "the entry", needs=["instruction"])
    asked = load_template("plain").prompt(entry).rstrip("\n")
    return _with_system(_after_history(entry, asked, entry.get("output")), entry)


def from_dolly(record: Mapping[str, Any]) -> Conversation:
    """Return a record of Dolly's file, `instruction`, `context`, `response`, as a conversation of one turn."""
    return from_entry(dolly_entry(record))


def from_chatglm(record: Mapping[str, Any]) -> Conversation:
    """Return a record of ChatGLM-6B's tuning files: `prompt`, `response`, and `history`, a list of pairs."""
    return _after_history(record, record["prompt"], record["response"])


def _after_history(record: Mapping[str, Any], asked: str, answer: str | None) -> Conversation:
    history = record.get("history") or []
    if not isinstance(history, Sequence) or any(
        isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2 for pair in history
    ):
        raise ValueError(f"'history' must be a list of pairs, question and answer, got {history!r:.80}")
    return Conversation([*(Turn(*pair) for pair in history), Turn(asked, answer)])


def _with_system(conversation: Conversation, record: Mapping[str, Any]) -> Conversation:
    system = record.get("system") or ""
    return Conversation(conversation.turns, system) if system else conversation


_FORMS = (  # the keys that a form is known by
    (("chat", "meta_instruction"), from_moss),
    (("conversations",), from_sharegpt),
    (("messages",), lambda record: _with_system(from_messages(record["messages"]), record)),
    (("instruction", "context", "response"), from_dolly),
    (("instruction",), from_entry),
    (("prompt", "response"), from_chatglm),
)


def is_entry(record: Any) -> bool:
    """Say whether a record is an Alpaca entry or one of Dolly's, without history or system message."""
    single = isinstance(record, Mapping) and "instruction" in record
    return single and not record.get("history") and not record.get("system")


def load_entries_or_conversations(path: str | Path) -> list[dict[str, Any]] | list[Conversation]:
    """Return Alpaca entries when a file holds nothing else, and conversations otherwise.

    Raises as `load_entries` and `load_conversations`.
    """
    records = read_records(path)
    return load_entries(path) if all(map(is_entry, records)) else load_conversations(path)


def load_conversations(path: str | Path, *, left_out: list[tuple[int, str]] | None = None) -> list[Conversation]:
    """Read conversations of any known form from a JSON list, or from JSON Lines when the name ends in .jsonl.

    Args:
        path: UTF-8, with or without a byte-order mark.
        left_out: gets (number from 1, reason) of records that are no conversations; None makes them an error.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not UTF-8, not JSON, not a list, empty, or a record is no conversation (the message names its
            number from 1).
    """
    conversations = []
    for number, record in enumerate(read_records(path), start=1):
        try:
            conversations.append(as_conversation(record, f"{path}: record {number}"))
        except ValueError as error:
            if left_out is None:
                raise
            left_out.append((number, str(error)))
    if not conversations:
        raise ValueError(f"{path} holds no conversations")
    return conversations


def save_conversations(path: str | Path, conversations: Sequence[Conversation]) -> None:
    """Write conversations as a JSON list of `{"messages": [...]}`; those that used tools have MOSS's form."""
    write_text(path, to_json([to_record(conversation) for conversation in conversations]))


def to_record(conversation: Conversation) -> dict[str, Any]:
    """Return a conversation as what stands for it in a file: `{"messages": [...]}`, or MOSS's form if it used tools."""
    if any(turn.used_tools for turn in conversation.turns):
        return to_moss(conversation)
    return {"messages": conversation.messages()}
