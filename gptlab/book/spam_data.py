"""The spam data of the book's chapter 6: downloaded, balanced, split, and read as rows of one length.

pandas is not needed. Where the book has a DataFrame, a list of rows will do, and the rows that are drawn are the same:
pandas draws with numpy's RandomState, which is asked here itself.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gptlab.book.gpt_download import download_file
from gptlab.data.classification import encode_texts, load_labelled

__all__ = ["SpamDataset", "create_balanced_dataset", "download_and_unzip_spam_data", "random_split"]

_SEED = 123
_IN_THE_ARCHIVE = "SMSSpamCollection"


def download_and_unzip_spam_data(
    url: str, zip_path: str | Path, extracted_path: str | Path, data_file_path: str | Path
) -> None:
    """Download the SMS spam collection, unpack it, and print where it is; nothing is done if the file is there.

    A zip file that is already at `zip_path` is used, so that one fetched by hand will do.

    Raises:
        ConnectionError: the download failed; nothing goes on without data.
        ValueError: what is at `zip_path` is no zip file, or does not hold the collection.
    """
    data_file = Path(data_file_path)
    if data_file.exists():
        print(f"{data_file_path} already exists. Skipping download and extraction.")
        return
    if not zipfile.is_zipfile(zip_path):
        download_file(url, zip_path)
    if not zipfile.is_zipfile(zip_path):
        raise ValueError(f"{zip_path}, from {url}, is no zip file")
    with zipfile.ZipFile(zip_path) as archive:
        if _IN_THE_ARCHIVE not in archive.namelist():
            raise ValueError(f"{zip_path} does not hold {_IN_THE_ARCHIVE}, but {archive.namelist()[:5]}")
        archive.extractall(extracted_path)
    data_file.parent.mkdir(parents=True, exist_ok=True)
    (Path(extracted_path) / _IN_THE_ARCHIVE).replace(data_file)
    print(f"File downloaded and saved as {data_file_path}")


def create_balanced_dataset(df: Any) -> Any:
    """Return as many rows with the label "ham" as there are with "spam": the ham, drawn at random, then the spam.

    Args:
        df: a pandas DataFrame with the columns "Label" and "Text", or a list of rows, each a mapping with these keys.

    Returns:
        The same kind as `df`. The rows are those that the book's seed gives with pandas.

    Raises:
        ValueError: there is no spam, or more of it than ham.
    """
    labels = [row["Label"] for row in df] if isinstance(df, list) else list(df["Label"])
    ham = [number for number, label in enumerate(labels) if label == "ham"]
    spam = [number for number, label in enumerate(labels) if label == "spam"]
    if not 0 < len(spam) <= len(ham):
        raise ValueError(
            f"needs rows labelled 'spam', and at least as many 'ham', got {len(spam)} and {len(ham)}; "
            "balance first, and make numbers of the labels then"
        )
    return _rows(df, [ham[number] for number in _drawn(len(ham), len(spam))] + spam)


def random_split(df: Any, train_frac: float, validation_frac: float) -> tuple[Any, Any, Any]:
    """Shuffle rows and cut them in three: training, validation, and the rest for the test, which may be empty.

    Args:
        df: a pandas DataFrame or a list of rows.
        train_frac: the share of the rows for training.
        validation_frac: the share for validation.

    Returns:
        Three of the same kind as `df`. The order is that which the book's seed gives with pandas.

    Raises:
        ValueError: the shares add up to more than 1, or no row is left for training or validation.
    """
    train_end = int(len(df) * train_frac)
    validation_end = train_end + int(len(df) * validation_frac)
    if not 0 < train_end < validation_end <= len(df):
        raise ValueError(
            f"shares of {train_frac} and {validation_frac} split {len(df)} rows at {train_end} and "
            f"{validation_end}; training and validation need at least one row each"
        )
    shuffled = _rows(df, _drawn(len(df), len(df)))
    if not isinstance(df, list):
        shuffled = shuffled.reset_index(drop=True)
    return shuffled[:train_end], shuffled[train_end:validation_end], shuffled[validation_end:]


def _drawn(total: int, count: int) -> list[int]:
    """Return the numbers of `count` of `total` rows, as `DataFrame.sample(count, random_state=123)` draws them."""
    return np.random.RandomState(_SEED).choice(total, size=count, replace=False).tolist()


def _rows(df: Any, numbers: Sequence[int]) -> Any:
    return [df[number] for number in numbers] if isinstance(df, list) else df.iloc[numbers]


class SpamDataset(Dataset):
    """Texts with class numbers, every text cut or padded to one length; an item is (ids, label), both int64.

    Args:
        csv_file: with the columns "Text" and "Label", a whole number.
        tokenizer: special tokens that somebody typed stay text.
        max_length: how long the rows are; None is as long as the longest text. Longer texts are cut.
        pad_token_id: what fills shorter texts up.

    Attributes:
        data: a pandas DataFrame; without pandas, something that has `data["Text"]`, `data["Label"]`,
            `data.iloc[number]["Label"]` and a length.
        max_length: how long the rows are.
        encoded_texts: the rows, as lists of ids.
        cut: (row from 1, tokens) of the texts that were cut.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no such table, a text is empty, a label is no whole number, or max_length is below 1.
    """

    def __init__(
        self, csv_file: str | Path, tokenizer: Any, max_length: int | None = None, pad_token_id: int = 50256
    ) -> None:
        if max_length is not None and max_length < 1:
            raise ValueError(f"max_length must be >= 1 or None, got {max_length}")
        entries = load_labelled(csv_file, text="Text", label="Label")
        for number, entry in enumerate(entries, start=1):
            if not entry["label"].isdecimal():
                raise ValueError(
                    f"{csv_file}: the label of row {number} must be a whole number, got {entry['label']!r}"
                )
        self._labels = [int(entry["label"]) for entry in entries]
        texts = [entry["text"] for entry in entries]
        self.data = _table([{"Label": label, "Text": text} for label, text in zip(self._labels, texts)])
        ids, self.cut = encode_texts(texts, tokenizer, context_length=max_length, too_long="cut")
        self.max_length = max(map(len, ids)) if max_length is None else max_length
        self.encoded_texts = [row + [pad_token_id] * (self.max_length - len(row)) for row in ids]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.encoded_texts[index]), torch.tensor(self._labels[index])

    def __len__(self) -> int:
        return len(self.encoded_texts)


class _Table:
    """As much of a DataFrame as a reader's code asks of `SpamDataset.data`."""

    def __init__(self, rows: list[Mapping[str, Any]]) -> None:
        self.iloc = rows

    def __getitem__(self, column: str) -> list[Any]:
        return [row[column] for row in self.iloc]

    def __len__(self) -> int:
        return len(self.iloc)


def _table(rows: list[Mapping[str, Any]]) -> Any:
    try:
        import pandas
    except ImportError:
        return _Table(rows)
    return pandas.DataFrame(rows)
