"""Texts with a label: read them, balance them, split them, and make batches of them.

A classifier is the same model with another head, and a batch for it looks like any other: inputs, and targets that are
IGNORE_INDEX everywhere but at one position of each row, which holds the class. So the loss, the evaluation and the
training loop of language models serve for it as they are.
"""

from __future__ import annotations

import csv
import io
import math
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gptlab.data.batching import IGNORE_INDEX
from gptlab.data.instruction import load_entries, split_entries
from gptlab.files import read_text
from gptlab.tokenizer import Tokenizer, as_tokenizer, check_utf8

Item = TypeVar("Item", bound=Mapping[str, Any] | Sequence[Any])  # {"text": ..., "label": ...}, or (text, label)
Position = Literal["last_real", "last"]
TooLongText = Literal["raise", "cut"]


class LabelledExample(NamedTuple):
    """Token ids of a text, and the number of its class."""

    ids: list[int]
    label: int


def load_labelled(
    path: str | Path, *, text: str = "text", label: str = "label", columns: Sequence[str] | None = None
) -> list[dict[str, str]]:
    """Read texts and labels from a table or from JSON, as entries with "text" and "label".

    A .csv may quote a field, and must if it holds a comma. A .tsv cannot: each line is one text, and a quotation mark
    is a character like any other. Labels are taken without the white space around them; a number becomes text.

    Args:
        path: .csv, .tsv, .json (a list) or .jsonl; UTF-8, with or without a byte-order mark.
        text: the column or key of the text.
        label: the column or key of the label.
        columns: the names of the columns when the table does not begin with them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is of another kind, empty or damaged, or a line lacks a text or a label (the message names
            the line, for JSON the entry, from 1).
    """
    kind = Path(path).suffix.lower()
    if kind in (".csv", ".tsv"):
        rows: Iterable[tuple[str, Mapping[str, Any]]] = table_rows(path, [text, label], columns)
    elif kind in (".json", ".jsonl"):
        entries = load_entries(path, needs=[text, label])
        rows = ((f"{path}: entry {number}", entry) for number, entry in enumerate(entries, start=1))
    else:
        raise ValueError(f"{path} must end in .csv, .tsv, .json or .jsonl")
    labelled = [as_labelled((row[text], row[label]), where) for where, row in rows]
    if not labelled:
        raise ValueError(f"{path} holds no texts")
    return labelled


def table_rows(
    path: str | Path, needs: Sequence[str], columns: Sequence[str] | None
) -> Iterator[tuple[str, dict[str, str]]]:
    """Give every row with the place where it stands; an empty line is none."""
    form = {"delimiter": ","} if Path(path).suffix.lower() == ".csv" else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    reader = csv.reader(io.StringIO(read_text(path)), strict=True, **form)
    try:
        columns = columns or next(reader, [])
        for name in needs:
            if columns and name not in columns:
                raise ValueError(f"{path} has no column {name!r}; its columns are {list(columns)}")
        for row in filter(None, reader):
            where = f"{path}, line {reader.line_num}"
            if len(row) != len(columns):
                raise ValueError(f"{where} has {len(row)} fields for {len(columns)} columns")
            yield where, dict(zip(columns, row))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None


def as_labelled(item: Any, where: str) -> dict[str, str]:
    """Return an entry with "text" and "label", or a pair (text, label), as {"text": ..., "label": ...}.

    Raises:
        ValueError: it is neither, or the text or the label is empty; with `where`.
    """
    if isinstance(item, Mapping):
        missing = [key for key in ("text", "label") if key not in item]
        if missing:
            raise ValueError(f"{where} has no {missing[0]!r}; its keys are {list(item)}")
        text, label = item["text"], item["label"]
    elif isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 2:
        text, label = item
    else:
        raise ValueError(f"{where} must have a text and a label, got {item!r:.80}")
    if not isinstance(text, str) or not text:
        raise ValueError(f"{where}: the text must not be empty, got {text!r:.80}")
    if isinstance(label, bool) or not isinstance(label, str | Integral) or not str(label).strip():
        raise ValueError(f"{where}: the label must be a word or a whole number, got {label!r:.80}")
    try:
        return {"text": check_utf8(text), "label": check_utf8(str(label).strip())}
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def balance(items: Sequence[Item], *, seed: int = 0) -> list[Item]:
    """Return as many items of each label as the rarest label has, drawn at random, in the order that they had.

    Raises:
        ValueError: there are no items, or one is not labelled.
    """
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for number, item in enumerate(items):
        numbers[as_labelled(item, f"entry {number + 1}")["label"]].append(number)
    if not numbers:
        raise ValueError("there are no entries to balance")
    rng, fewest = random.Random(seed), min(map(len, numbers.values()))
    kept = [number for label in sorted(numbers) for number in rng.sample(numbers[label], k=fewest)]
    return [items[number] for number in sorted(kept)]


def split_in_three(
    items: Sequence[Item], validation: float = 0.1, test: float = 0.2, *, seed: int = 0
) -> tuple[list[Item], list[Item], list[Item]]:
    """Shuffle items and split them: (training, validation, test). The two numbers are shares of all items.

    Raises:
        ValueError: a share is not in (0, 1), nothing is left for training, or a part would be empty.
    """
    if not (0 < validation < 1 and 0 < test < 1 and validation + test < 1):
        raise ValueError(f"the shares must be above 0 and leave something for training, got {validation} and {test}")
    rest, tested = split_entries(items, test, seed=seed)
    training, validated = split_entries(rest, validation / (1 - test), seed=seed)
    return training, validated, tested


class LabelledTexts(Dataset):
    """Labelled texts as examples, ready for `collate_labelled`.

    The number of a class is its place in `label_names`. Hand the names of the training set to every other set: found
    anew in a set that lacks a label, they would number the classes differently.

    Args:
        items: entries with "text" and "label", or pairs (text, label).
        tokenizer: special tokens that somebody typed stay text.
        label_names: None takes the labels that occur, numbers in their order and then words in alphabetical order.
        context_length: how many tokens the model reads at once; None sets no limit.
        too_long: what becomes of a text that does not fit. "raise" is an error, "cut" keeps its beginning.

    Attributes:
        examples: the texts' ids and classes, in the order of the items.
        label_names: the class with number i is called `label_names[i]`.
        cut: (number from 1, tokens) of the texts that were shortened.

    Raises:
        ValueError: there are no items, one is not labelled, has no tokens or a label that is not in `label_names`, or
            is too long (with "raise").
    """

    def __init__(
        self,
        items: Sequence[Item],
        tokenizer: Tokenizer,
        label_names: Sequence[str] | None = None,
        *,
        context_length: int | None = None,
        too_long: TooLongText = "raise",
    ) -> None:
        entries = [as_labelled(item, f"entry {number}") for number, item in enumerate(items, start=1)]
        if not entries:
            raise ValueError("there are no labelled texts")
        labels = [entry["label"] for entry in entries]
        self.label_names = (
            sorted(set(labels), key=_numbers_first) if label_names is None else list(map(str, label_names))
        )
        if len(set(self.label_names)) < len(self.label_names):
            raise ValueError(f"label_names must differ from one another, got {self.label_names}")
        number_of = {name: number for number, name in enumerate(self.label_names)}
        for number, label in enumerate(labels, start=1):
            if label not in number_of:
                raise ValueError(f"entry {number} has the label {label!r}; the labels are {self.label_names}")
        texts = [entry["text"] for entry in entries]
        ids, self.cut = encode_texts(texts, tokenizer, context_length=context_length, too_long=too_long)
        self.examples = [LabelledExample(row, number_of[label]) for row, label in zip(ids, labels)]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, number: int) -> LabelledExample:
        return self.examples[number]


def _numbers_first(name: str) -> tuple[float, str]:
    return (int(name) if re.fullmatch(r"-?\d+", name) else math.inf, name)


def encode_texts(
    texts: Sequence[str], tokenizer: Tokenizer, *, context_length: int | None = None, too_long: TooLongText = "raise"
) -> tuple[list[list[int]], list[tuple[int, int]]]:
    """Return the ids of each text, and (number from 1, tokens) of those that were cut to `context_length`.

    Raises:
        ValueError: `texts` is a single text, one has no tokens, or one is too long (with "raise").
    """
    if isinstance(texts, str):
        raise ValueError(f"texts must be a list of texts, got one text, {texts!r:.80}")
    if too_long not in ("raise", "cut"):
        raise ValueError(f"too_long must be 'raise' or 'cut', got {too_long!r}")
    encode, encoded, cut = as_tokenizer(tokenizer).encode_ordinary, [], []
    for number, text in enumerate(texts, start=1):
        ids = encode(text)
        if not ids:
            raise ValueError(f"text {number} is empty")
        if context_length is not None and len(ids) > context_length:
            if too_long == "raise":
                raise ValueError(f"text {number} has {len(ids)} tokens, there is room for {context_length}")
            cut.append((number, len(ids)))
        encoded.append(ids[:context_length])
    return encoded, cut


def collate_labelled(
    examples: Sequence[LabelledExample], *, pad_id: int, position: Position = "last_real", length: int | None = None
) -> tuple[Tensor, Tensor]:
    """Stack examples into inputs and targets; a row's only target is its class, where the model is to give it.

    A token sees only what is before it, so that the answer has to come last. Behind the last token of the text
    ("last_real") padding changes nothing. At the last position of the row ("last", as in the book) shorter texts are
    judged by what the model makes of padding, and the class can change with the number of padding tokens.

    Args:
        examples: at least one.
        pad_id: what fills the rows up.
        position: "last_real" or "last".
        length: how long the rows are; None is as long as the longest example.

    Returns:
        Inputs and targets, each (B, T) int64; IGNORE_INDEX is everywhere in the targets but at one position a row.

    Raises:
        ValueError: there are no examples, one is empty or longer than `length`, or `position` is another word.

    >>> inputs, targets = collate_labelled([LabelledExample([5, 6], 1), LabelledExample([7, 8, 9], 0)], pad_id=0)
    >>> inputs.tolist(), targets.tolist()
    ([[5, 6, 0], [7, 8, 9]], [[-100, 1, -100], [-100, -100, 0]])
    """
    if not examples:
        raise ValueError("a batch needs at least one example, got none")
    if position not in ("last_real", "last"):
        raise ValueError(f"position must be 'last_real' or 'last', got {position!r}")
    lengths = [len(example.ids) for example in examples]
    T = max(lengths) if length is None else length
    if min(lengths) < 1 or max(lengths) > T:
        raise ValueError(f"rows of {T} hold examples of 1 to {T} tokens, got {min(lengths)} to {max(lengths)}")
    inputs = torch.full((len(examples), T), pad_id)
    targets = torch.full((len(examples), T), IGNORE_INDEX)
    for row, (ids, label) in enumerate(examples):
        inputs[row, : len(ids)] = torch.tensor(ids)
        targets[row, len(ids) - 1 if position == "last_real" else -1] = label
    return inputs, targets
