"""Save a tokenizer and load it: Hugging Face's two files for a byte-level BPE, `vocab.json` and `merges.txt`.

A tokenizer of another kind is one file, `tokenizer.json`, that the package tokenizers reads.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import regex
import tiktoken

from gptlab.files import read_json, read_text, write_together
from gptlab.tokenizer.adapter import AdaptedTokenizer, as_tokenizer, open_other_tokenizer
from gptlab.tokenizer.by_hand import merge
from gptlab.tokenizer.encoding import SPECIAL_NAME, Tokenizer, byte_to_letter, make_encoding

# Of these a folder holds those of one tokenizer.
VOCABULARY_FILES = frozenset({"vocab.json", "merges.txt", "tokenizer.json", "vocab.txt"})


def save_tokenizer(tokenizer: Tokenizer, directory: str | Path) -> None:
    """Write `vocab.json` and `merges.txt`, or `tokenizer.json` for a tokenizer of another kind, into `directory`.

    Raises:
        ValueError: the tokenizer is of a kind that has no file.
    """
    files = tokenizer_files(tokenizer)
    write_together(directory, files, stale=VOCABULARY_FILES - set(files))


def tokenizer_files(tokenizer: Tokenizer) -> dict[str, str]:
    """Return the text of `vocab.json` and `merges.txt`, or of `tokenizer.json`, by file name.

    tiktoken keeps only the tokens. Which pair a token was merged from is found by encoding it with the tokens
    that came before.

    Raises:
        ValueError: the tokenizer is of a kind that has no file.
    """
    if not isinstance(tokenizer, tiktoken.Encoding):
        tokenizer = as_tokenizer(tokenizer)
        text = getattr(tokenizer, "file", None)
        if text is None:
            kind = getattr(tokenizer, "kind", type(tokenizer).__name__)
            raise ValueError(
                f"a {kind} has no file to be saved in; a tiktoken.Encoding has one, and a tokenizers.Tokenizer"
            )
        return {"tokenizer.json": text}
    ranks: dict[bytes, int] = tokenizer._mergeable_ranks
    letters = byte_to_letter()
    spelled = {piece: "".join(letters[byte] for byte in piece) for piece in ranks}
    vocab = {spelled[piece]: token for piece, token in ranks.items()} | tokenizer._special_tokens
    merges = ["#version: 0.2"]
    for piece, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(piece) > 1:
            left, right = merge(piece, ranks, below=rank)
            merges.append(f"{spelled[left]} {spelled[right]}")
    return {"vocab.json": json.dumps(vocab, ensure_ascii=False), "merges.txt": "\n".join(merges) + "\n"}


def load_tokenizer(directory: str | Path, *, name: str = "gptlab") -> tiktoken.Encoding | AdaptedTokenizer:
    """Read `vocab.json` and `merges.txt` from `directory`, or, without these, a tokenizer of another kind.

    Entries like `<|...|>` or `[...]` that are neither a byte nor a merge become special tokens.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: a file is damaged, the two do not belong together, or the ids are not in the order of the merges,
            which is what tiktoken merges by.
    """
    there = {path.name for path in Path(directory).glob("*")}
    if not {"vocab.json", "merges.txt"} <= there and {"tokenizer.json", "vocab.txt"} & there:
        return open_other_tokenizer(directory)
    ranks, special = read_tables(Path(directory) / "vocab.json", Path(directory) / "merges.txt")
    return make_encoding(name, ranks, special)


def read_tables(vocab_file: Path, merges_file: Path) -> tuple[dict[bytes, int], dict[str, int]]:
    """Return what two such files hold, whatever they are called: ordinary tokens' bytes -> id, special names -> id.

    Raises as `load_tokenizer` does.
    """
    vocab, merges = read_json(vocab_file), read_merges(merges_file)
    ids = list(vocab.values()) if isinstance(vocab, dict) else [None]
    if not all(type(token_id) is int for token_id in ids) or sorted(ids) != list(range(len(ids))):
        raise ValueError(f"{vocab_file} must map tokens to the ids 0, 1, 2, ..., each once")
    byte_of = {letter: byte for byte, letter in byte_to_letter().items()}
    merged = ["".join(pair) for pair in merges]
    missing = [token for token in [*byte_of, *merged] if token not in vocab]
    if missing:
        raise ValueError(f"{vocab_file} lacks {len(missing)} tokens of {merges_file.name}, first {missing[0]!r}")
    if any(vocab[later] <= vocab[earlier] for earlier, later in pairwise(merged)):
        raise ValueError(f"{vocab_file}: ids must rise in the order of {merges_file.name}, as in GPT-2's files")
    ordinary = {*byte_of, *merged}
    special = {token: rank for token, rank in vocab.items() if token not in ordinary}
    unknown = [token for token in special if not regex.fullmatch(SPECIAL_NAME, token)]
    if unknown:
        raise ValueError(f"{merges_file} lacks {len(unknown)} tokens of {vocab_file.name}, first {unknown[0]!r}")
    by_id = sorted(ordinary, key=vocab.get)
    return {bytes(byte_of[letter] for letter in token): vocab[token] for token in by_id}, special


def read_merges(path: Path) -> list[list[str]]:
    """Return the pairs of such a file, in GPT-2's letters; raises as `load_tokenizer` does."""
    letters = set(byte_to_letter().values())
    merges = [line.split(" ") for line in read_text(path).split("\n") if line and not line.startswith("#version")]
    for pair in merges:
        if len(pair) != 2 or not letters.issuperset("".join(pair)):
            raise ValueError(f"{path} must hold two tokens a line in GPT-2's letters, got {' '.join(pair)!r}")
    return merges
