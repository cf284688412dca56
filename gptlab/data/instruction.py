"""Alpaca entries: read from a file, check, split, and make examples of them."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from torch.utils.data import Dataset

from gptlab.data.segments import Example, encode
from gptlab.data.templates import Template, TrainOn, load_template
from gptlab.files import read_json, read_text, to_json, write_text
from gptlab.tokenizer import Tokenizer, as_tokenizer, check_utf8

Entry = Mapping[str, Any]
Item = TypeVar("Item")
TooLong = Literal["raise", "drop", "cut"]


def load_entries(path: str | Path, *, needs: Sequence[str] = ("instruction", "output")) -> list[dict[str, Any]]:
    """Read a JSON list of entries, or JSON Lines when the name ends in .jsonl.

    WizardLM's file of instructions has Alpaca's keys; records of Dolly's get them here.

    Args:
        path: UTF-8, with or without a byte-order mark.
        needs: the keys that every entry must have.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not JSON, not a list, empty, or an entry lacks a key (the message names its number from 1).
    """
    entries = [dolly_entry(record) for record in read_records(path)]
    for number, entry in enumerate(entries, start=1):
        check_entry(entry, f"{path}: entry {number}", needs=needs)
    return entries


def dolly_entry(record: Any) -> Any:
    """Return a record of Dolly's file as an Alpaca entry, with what else it has, such as `category`; others as is.

    >>> dolly_entry({"instruction": "Who?", "context": "", "response": "Ada.", "category": "open_qa"})
    {'instruction': 'Who?', 'input': '', 'output': 'Ada.', 'category': 'open_qa'}
    """
    if not isinstance(record, Mapping) or not {"instruction", "context", "response"} <= set(record):
        return record
    names = {"context": "input", "response": "output"}
    return {names.get(key, key): value for key, value in record.items()}


def save_entries(path: str | Path, entries: Sequence[Entry]) -> None:
    """Write entries as a JSON list that people can read, Chinese included."""
    write_text(path, to_json(list(entries)))


def check_entry(entry: Any, where: str, *, needs: Sequence[str] = ("instruction", "output")) -> None:
    """Make sure that `entry` is an Alpaca entry.

    Raises:
        ValueError: with `where`, the key and what was found there.
    """
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where} must be an object with {' and '.join(needs)}, got {entry!r:.80}")
    for key in needs:
        if key not in entry:
            raise ValueError(f"{where} has no {key!r}; its keys are {list(entry)}")
    for key in ("instruction", "output"):
        if key in entry and not isinstance(entry[key], str):
            raise ValueError(f"{where}: {key!r} must be text, got {entry[key]!r:.80}")
    if entry.get("input") is not None and not isinstance(entry["input"], str):
        raise ValueError(f"{where}: 'input' must be text, got {entry['input']!r:.80}")
    examples = [] if entry.get("examples") is None else entry["examples"]
    if not isinstance(examples, list):
        raise ValueError(f"{where}: 'examples' must be a list, got {examples!r:.80}")
    for number, example in enumerate(examples, start=1):
        if not isinstance(example, Mapping) or not all(isinstance(text, str) for text in example.values()):
            raise ValueError(f"{where}: example {number} must hold texts, got {example!r:.80}")
        if "output" not in example:
            raise ValueError(f"{where}: example {number} has no 'output'; its keys are {list(example)}")
    for key in ("instruction", "input", "output"):
        try:
            check_utf8(entry.get(key) or "")
        except ValueError as error:
            raise ValueError(f"{where}, {key!r}: {error}") from None


def split_entries(entries: Sequence[Item], share: float, *, seed: int = 0) -> tuple[list[Item], list[Item]]:
    """Shuffle entries, or examples made of them, and split off a share: (training, validation).

    Raises:
        ValueError: share is not in (0, 1), or one of the parts would be empty.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share must be between 0 and 1, got {share}")
    count = round(len(entries) * share)
    if not 0 < count < len(entries):
        raise ValueError(f"a share of {share} splits {len(entries)} entries into {len(entries) - count} and {count}")
    shuffled = random.Random(seed).sample(list(entries), k=len(entries))
    return shuffled[count:], shuffled[:count]


class InstructionDataset(Dataset):
    """Alpaca entries as examples, ready for `collate`.

    Args:
        entries: checked here.
        tokenizer: with an `<|endoftext|>` token.
        template: a name, a path, or a Template.
        train_on: "response" or "all"; see `Template.segments`.
        context_length: how many tokens the model reads at once; None sets no limit. An example may be one longer,
            because its last token is only a target.
        too_long: what becomes of an entry that does not fit. "raise" is an error. "drop" leaves it out. "cut"
            shortens the response and leaves off end-of-text, so that stopping in the middle is not learned; an entry
            whose prompt fills the context is dropped all the same.

    Attributes:
        dropped: (number from 1, tokens) of the entries that are not in the data set.
        cut: (number from 1, tokens) of the entries that were shortened.

    Raises:
        ValueError: an entry is not one, is too long (with "raise"), or no entry is left.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        tokenizer: Tokenizer,
        template: str | Path | Template = "alpaca",
        train_on: TrainOn = "response",
        *,
        context_length: int | None = None,
        too_long: TooLong = "raise",
    ) -> None:
        if too_long not in ("raise", "drop", "cut"):
            raise ValueError(f"too_long must be 'raise', 'drop' or 'cut', got {too_long!r}")
        tokenizer = as_tokenizer(tokenizer)
        self.template = template if isinstance(template, Template) else load_template(template)
        self.context_length = context_length
        self.examples: list[Example] = []
        self.dropped: list[tuple[int, int]] = []
        self.cut: list[tuple[int, int]] = []
        limit = None if context_length is None else context_length + 1
        for number, entry in enumerate(entries, start=1):
            check_entry(entry, f"entry {number}")
            prompt, *response = self.template.segments(entry, train_on)
            prompt, response = encode([prompt], tokenizer), encode(response, tokenizer)
            length = len(prompt.ids) + len(response.ids)
            if limit is not None and length > limit:
                if too_long == "raise":
                    raise ValueError(f"entry {number} has {length} tokens, the context holds {context_length}")
                if too_long == "drop" or len(prompt.ids) >= limit:
                    self.dropped.append((number, length))
                    continue
                self.cut.append((number, length))
            joined = Example(prompt.ids + response.ids, prompt.trained + response.trained)
            self.examples.append(Example(joined.ids[:limit], joined.trained[:limit]))
        if not self.examples:
            raise ValueError(f"no entry to train on: {len(entries)} given, {self.length_report()}")

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, number: int) -> Example:
        return self.examples[number]

    def length_report(self) -> str:
        """Say how many entries were dropped or cut, and how long the longest of them was."""
        longest = max((length for _, length in self.dropped + self.cut), default=0)
        longest_one = f" (the longest has {longest} tokens)" if longest else ""
        context = self.context_length
        return f"{len(self.dropped)} dropped and {len(self.cut)} cut for the context of {context}{longest_one}"


def read_records(path: str | Path) -> list[Any]:
    """Return what a JSON list holds, or JSON Lines when the name ends in .jsonl.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not UTF-8, not JSON, not a list, or empty.
    """
    entries = _read_lines(path) if Path(path).suffix == ".jsonl" else read_json(path)
    if not isinstance(entries, list):
        raise ValueError(f"{path} must hold a JSON list of entries, got a {type(entries).__name__}")
    if not entries:
        raise ValueError(f"{path} holds no entries")
    return entries


def _read_lines(path: str | Path) -> list[Any]:
    entries = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            try:
                entries.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}, is not JSON: {error}") from None
    return entries
