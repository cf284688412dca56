"""Plain text for pretraining: documents become one long row of tokens, read through a sliding window."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from gptlab.data.segments import Example
from gptlab.tokenizer import END_OF_TEXT, Tokenizer, as_tokenizer, control_id


def encode_documents(documents: Iterable[str], tokenizer: Tokenizer) -> Tensor:
    """Return the documents' tokens in a row, each closed by end-of-text, (N,) int64."""
    tokenizer = as_tokenizer(tokenizer)
    end = control_id(tokenizer, END_OF_TEXT)
    return torch.tensor([token for text in documents for token in [*tokenizer.encode_ordinary(text), end]])


class SlidingWindows(Dataset):
    """Windows of `length` tokens, every `stride` tokens, each with its targets one step further on.

    Args:
        tokens: (N,) int64, or an array of NumPy's such as `open_tokens` gives, of which only the window is read.
        length: T, the tokens of a window.
        stride: how far one window begins behind the one before; the default is `length`, no overlap.

    Raises:
        ValueError: length or stride is below 1, or there are too few tokens for one window and its last target.
    """

    def __init__(self, tokens: Tensor | np.ndarray, length: int, stride: int | None = None) -> None:
        self.tokens, self.length, self.stride = tokens, length, length if stride is None else stride
        if length < 1 or self.stride < 1:
            raise ValueError(f"length and stride must be >= 1, got {length} and {self.stride}")
        if len(tokens) <= length:
            raise ValueError(f"a window of {length} needs at least {length + 1} tokens, got {len(tokens)}")

    def __len__(self) -> int:
        return (len(self.tokens) - self.length - 1) // self.stride + 1

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        if not 0 <= number < len(self):
            raise IndexError(f"window {number} of {len(self)}")
        start = number * self.stride
        window = self.tokens[start : start + self.length + 1]
        if isinstance(window, np.ndarray):
            window = torch.from_numpy(np.asarray(window, dtype=np.int64))
        return window[:-1], window[1:]


def text_examples(documents: Iterable[str], tokenizer: Tokenizer, length: int) -> list[Example]:
    """Return the documents as windows with the loss on every token: pretraining text as one more set of a mixture.

    Joined as by `encode_documents`, cut into windows of `length` tokens that do not overlap. Each holds one token more,
    its last target, with which the next begins; so every token but the very first is a target once. The last window may
    be shorter.

    Raises:
        ValueError: the documents are a single text, the length is below 1, or there are fewer than two tokens.
    """
    if isinstance(documents, str):
        raise ValueError(f"documents must be several texts, such as a list, got the text {documents!r:.40}")
    if length < 1:
        raise ValueError(f"length must be >= 1, got {length}")
    tokens = encode_documents(documents, tokenizer).tolist()
    if len(tokens) < 2:
        raise ValueError(f"text needs at least 2 tokens to have a target, got {len(tokens)}")
    windows = [tokens[start : start + length + 1] for start in range(0, len(tokens) - 1, length)]
    return [Example(window, [True] * len(window)) for window in windows]
