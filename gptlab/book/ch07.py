"""The names of the book's chapter 7: instruction data, formatted, tokenised and put into batches.

`gptlab.InstructionDataset` and `gptlab.collate` do this with a mark for what is learned. The book does it with lists of
ids and finds the padding again by its token; here the end of an item is known by its length, so an end-of-text id
inside an item stays a target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from gptlab.book.gpt_download import download_file
from gptlab.book.pending import refuse_pending
from gptlab.data import IGNORE_INDEX, Example, collate, load_template
from gptlab.files import read_json
from gptlab.tokenizer import as_tokenizer

__all__ = [
    "InstructionDataset",
    "InstructionDatasetPhi",
    "InstructionDatasetWithMasking",
    "custom_collate_draft_1",
    "custom_collate_draft_2",
    "custom_collate_fn",
    "custom_collate_with_masking_fn",
    "download_and_load_file",
    "format_input",
    "format_input_phi",
]
__getattr__ = refuse_pending(__name__)

Entry = Mapping[str, Any]

_TEMPLATE = load_template("book")
_RESPONSE = f"\n\n{_TEMPLATE.response_split}\n"


def download_and_load_file(file_path: str | Path, url: str) -> Any:
    """Return what the JSON file `file_path` holds; if it is not there, it is downloaded first.

    Raises:
        ConnectionError: the file is not there, and `url` does not give it.
        ValueError: the file is not JSON; one that was just downloaded is not kept.
    """
    path = Path(file_path)
    if path.exists():
        return read_json(path)
    download_file(url, path)
    try:
        return read_json(path)
    except ValueError:
        path.unlink()
        raise


def format_input(entry: Entry) -> str:
    """Return the prompt of an entry in the book's form, without the heading of the response.

    Raises:
        ValueError: the entry has no instruction; an input may be missing.
    """
    prompt = _TEMPLATE.prompt({"instruction": _field(entry, "instruction"), "input": _input(entry)})
    return prompt.removesuffix(_RESPONSE)


def format_input_phi(entry: Entry) -> str:
    """Return the prompt of an entry in the form of Phi-3, as in the book's exercise 7.1.

    Raises:
        ValueError: the entry has no instruction; an input may be missing.
    """
    given = _input(entry)
    return f"<|user|>\n{_field(entry, 'instruction')}" + (f"\n{given}" if given else "")


class InstructionDataset(Dataset):
    """Entries as lists of ids: prompt, heading and output in one piece, without an end.

    What looks like a special token in an entry stays text.

    Attributes:
        data: the entries.
        encoded_texts: their ids.

    Raises:
        ValueError: an entry has no instruction or no output.
    """

    _prompt_of: Callable[[Entry], str] = staticmethod(format_input)
    _heading = _RESPONSE

    def __init__(self, data: Sequence[Entry], tokenizer: Any) -> None:
        self.data = data
        encode = as_tokenizer(tokenizer).encode_ordinary
        self.encoded_texts = [
            encode(f"{self._prompt_of(entry)}{self._heading}{_field(entry, 'output')}") for entry in data
        ]

    def __getitem__(self, index: int) -> list[int]:
        return self.encoded_texts[index]

    def __len__(self) -> int:
        return len(self.data)


class InstructionDatasetPhi(InstructionDataset):
    """The same in the form of Phi-3."""

    _prompt_of = staticmethod(format_input_phi)
    _heading = "\n<|assistant|>:\n"


class InstructionDatasetWithMasking(InstructionDataset):
    """The same for `custom_collate_with_masking_fn`: an item is (tokens of the prompt, ids).

    The heading of the response is not counted, so it is trained on, as in the book's exercise 7.2.

    Attributes:
        instruction_lengths: how many tokens each prompt has by itself.
    """

    def __init__(self, data: Sequence[Entry], tokenizer: Any) -> None:
        super().__init__(data, tokenizer)
        encode = as_tokenizer(tokenizer).encode_ordinary
        self.instruction_lengths = [len(encode(self._prompt_of(entry))) for entry in data]

    def __getitem__(self, index: int) -> tuple[int, list[int]]:
        return self.instruction_lengths[index], self.encoded_texts[index]


def custom_collate_draft_1(
    batch: Sequence[Sequence[int]], pad_token_id: int = 50256, device: torch.device | str = "cpu"
) -> Tensor:
    """Return the inputs alone, padded to the longest item, (B, T) int64."""
    return custom_collate_draft_2(batch, pad_token_id, device)[0]


def custom_collate_draft_2(
    batch: Sequence[Sequence[int]], pad_token_id: int = 50256, device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Return inputs and next-token targets, (B, T) int64 each, in which all the padding is a target too."""
    return custom_collate_fn(batch, pad_token_id, ignore_index=pad_token_id, device=device)


def custom_collate_fn(
    batch: Sequence[Sequence[int]],
    pad_token_id: int = 50256,
    ignore_index: int = IGNORE_INDEX,
    allowed_max_length: int | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Return inputs and next-token targets, (B, T) int64 each; the first pad after an item is its end, and a target.

    Args:
        batch: items of ids, without an end.
        pad_token_id: ends every item, and fills the inputs up.
        ignore_index: what the other targets past the end hold.
        allowed_max_length: T is at most this; a longer item loses its end.
        device: where the batch goes.

    Raises:
        ValueError: the batch or an item is empty, or allowed_max_length is below 1.
    """
    return custom_collate_with_masking_fn(
        [(0, ids) for ids in batch], pad_token_id, ignore_index, allowed_max_length, device
    )


def custom_collate_with_masking_fn(
    batch: Sequence[tuple[int, Sequence[int]]],
    pad_token_id: int = 50256,
    ignore_index: int = IGNORE_INDEX,
    allowed_max_length: int | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor]:
    """Return what `custom_collate_fn` does, with `targets[:instruction_length - 1]` masked too.

    A row that is masked from end to end is allowed; chapter 5's loss leaves it out.

    Args:
        batch: items (instruction_length, ids); of the ids, so many from the first are no target.
        pad_token_id: as in `custom_collate_fn`, like all the rest.
    """
    if allowed_max_length is not None and allowed_max_length < 1:
        raise ValueError(f"allowed_max_length must be >= 1 or None, got {allowed_max_length}")
    examples = []
    for prompt_length, ids in batch:
        ids = [*ids, pad_token_id]
        examples.append(Example(ids, [position >= prompt_length for position in range(len(ids))]))
    inputs, targets = collate(examples, pad_id=pad_token_id)
    targets[targets == IGNORE_INDEX] = ignore_index
    return inputs[:, :allowed_max_length].to(device), targets[:, :allowed_max_length].to(device)


def _field(entry: Entry, key: str) -> str:
    if key not in entry:
        raise ValueError(f"an entry must have {key!r}; this one has {list(entry)}")
    return str(entry[key])


def _input(entry: Entry) -> str:
    return str(entry.get("input") or "")
