"""Tokens of a corpus of any size in a file, which is mapped into memory and read where a window lies.

The file is NumPy's own format, so that `numpy.load` opens it anywhere: two bytes a token when the vocabulary fits.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from tqdm import tqdm

from gptlab.tokenizer import END_OF_TEXT, Tokenizer, as_tokenizer, control_id


def write_tokens(path: str | Path, documents: Iterable[str], tokenizer: Tokenizer, *, progress: bool = False) -> int:
    """Write the documents' tokens, each document closed by end-of-text, and return how many there are.

    One document at a time is in memory. The file takes its name when it is complete.

    Args:
        path: ends in .npy.
        documents: read once; may be a generator.
        tokenizer: with an `<|endoftext|>` token.
        progress: whether to show a bar.

    Raises:
        ValueError: the name does not end in .npy, or there are no documents.
        OSError: the file cannot be written.
    """
    path, tokenizer = Path(path), as_tokenizer(tokenizer)
    if path.suffix != ".npy":
        raise ValueError(f"a file of tokens must end in .npy, got {path}")
    end = control_id(tokenizer, END_OF_TEXT)
    dtype, count = np.dtype("<u2" if tokenizer.n_vocab <= 2**16 else "<u4"), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            _write_header(file, dtype, 0)
            for text in tqdm(documents, desc="tokens", unit=" documents", disable=not progress):
                ids = np.array([*tokenizer.encode_ordinary(text), end], dtype=dtype)
                file.write(ids.tobytes())
                count += len(ids)
            file.seek(0)
            _write_header(file, dtype, count)
        if not count:
            raise ValueError("there are no documents to write")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return count


def open_tokens(path: str | Path) -> np.ndarray:
    """Map a file of tokens into memory, (N,) uint16 or uint32; nothing is read before it is used.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not what `write_tokens` writes, or was cut off.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        tokens = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path} is no complete .npy file of tokens: {error}") from None
    if not isinstance(tokens, np.ndarray) or tokens.ndim != 1 or tokens.dtype not in (np.uint16, np.uint32):
        found = f"{tokens.dtype} of shape {tokens.shape}" if isinstance(tokens, np.ndarray) else "an archive"
        raise ValueError(f"{path} must hold one row of uint16 or uint32 tokens, got {found}")
    return tokens


def _write_header(file, dtype: np.dtype, count: int) -> None:
    """Write NumPy's header, which leaves room for the count to grow, so that it can be written again."""
    npy.write_array_header_1_0(file, {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)})
