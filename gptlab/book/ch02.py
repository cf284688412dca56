"""Chapter 2 under the book's names: two word tokenizers, byte-pair encoding from scratch, windows over a text.

`gptlab.tokenizer` and `gptlab.data.SlidingWindows` are the final forms of what is built here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import regex
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from gptlab.data import SlidingWindows
from gptlab.files import read_json, to_json, write_text
from gptlab.tokenizer import END_OF_TEXT, GPT2_PATTERN, check_utf8, gpt2_tokenizer
from gptlab.tokenizer.by_hand import merge
from gptlab.tokenizer.encoding import byte_to_letter
from gptlab.tokenizer.storage import read_merges, read_tables

UNKNOWN = "<|unk|>"
SPACE = "Ġ"  # what GPT-2's files write for a space
LETTER_OF = byte_to_letter()  # and for every other byte
BYTE_OF = {letter: byte for byte, letter in LETTER_OF.items()}

Pair = tuple[int, int]


class SimpleTokenizerV1:
    """A tokenizer that knows whole words and punctuation marks, from a table of word -> id.

    It shows why subwords are needed: a word that is not in the table cannot be encoded. White space is not kept,
    so decoding gives the text back only up to spacing. The final form is `gptlab.tokenizer.train_tokenizer`.
    """

    def __init__(self, vocab: Mapping[str, int]) -> None:
        self.str_to_int = vocab
        self.int_to_str = {token_id: word for word, token_id in vocab.items()}

    def encode(self, text: str) -> list[int]:
        """Return the ids of the words; raises KeyError with the first word that is not in the vocabulary."""
        words = self._words(text)
        for word in words:
            if word not in self.str_to_int:
                raise KeyError(f"{word!r} is not in the vocabulary of {len(self.str_to_int)} words")
        return [self.str_to_int[word] for word in words]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the words with one space between, and none before a punctuation mark."""
        words = []
        for token_id in ids:
            if token_id not in self.int_to_str:
                raise KeyError(f"id {token_id} is not in the vocabulary of {len(self.int_to_str)} words")
            words.append(self.int_to_str[token_id])
        return re.sub(r"""\s+([,.:;?!"()'])""", r"\1", " ".join(words))

    def _words(self, text: str) -> list[str]:
        pieces = re.split(r"""([,.:;?_!"()']|--|\s)""", text)
        return [piece for piece in pieces if piece.strip()]


class SimpleTokenizerV2(SimpleTokenizerV1):
    """The same, but a word that is not in the table becomes `<|unk|>`, which the table must hold.

    Nothing is refused any more, and what the unknown word was is lost. The final form, byte-level
    `gptlab.tokenizer.train_tokenizer`, has no unknown words at all.
    """

    def _words(self, text: str) -> list[str]:
        return [word if word in self.str_to_int else UNKNOWN for word in super()._words(text)]


class BPETokenizerSimple:
    """Byte-pair encoding with nothing hidden: the tables are plain dictionaries, and every step is a method.

    It is two tokenizers. After `train`, the letters are characters: the first 256 and those of the text; a character
    beyond them is an error. After `load_vocab_and_merges_from_openai`, the letters are bytes as in GPT-2, every text
    can be encoded, and the ids are tiktoken's. The final forms, byte-level in both cases and far faster, are
    `gptlab.tokenizer.train_tokenizer` and `gptlab.tokenizer.gpt2_tokenizer`.

    Attributes:
        vocab: id -> token, with "Ġ" for a space.
        inverse_vocab: token -> id.
        bpe_merges: (id, id) -> id of the token that the two become, in the order they were learned.
    """

    def __init__(self) -> None:
        self._use({}, {})

    def train(
        self, text: str, vocab_size: int, allowed_special: Collection[str] | None = frozenset({END_OF_TEXT})
    ) -> None:
        """Learn merges from `text` until there are `vocab_size` tokens, or no two tokens are left to merge.

        The ids are 256 characters, the other characters of the text, the special tokens, the merges. Special tokens
        inside the text cut it; nothing is learned across them. The most frequent pair is merged, the first on a tie.

        Raises:
            ValueError: vocab_size has no room for the characters and special tokens, or the text holds "Ġ".
        """
        special = sorted(allowed_special) if isinstance(allowed_special, set | frozenset) else allowed_special or ()
        parts = [part for part in _split_at(text, special) if part not in special]
        words = [word for part in parts for word in self.pretokenize_text(part)]
        letters = [chr(number) for number in range(256)]
        letters += sorted({letter for word in words for letter in word}.difference(letters))
        letters += [SPACE] if SPACE not in letters else []
        tokens = [*letters, *(name for name in special if name not in letters)]
        if vocab_size < len(tokens):
            raise ValueError(f"vocab_size must be >= {len(tokens)}, the characters and specials, got {vocab_size}")

        vocab, merges = dict(enumerate(tokens)), {}
        id_of = {token: token_id for token_id, token in vocab.items()}
        sequences = [[id_of[letter] for letter in word] for word in words]
        for new_id in range(len(tokens), vocab_size):
            pair = self.find_freq_pair(sequences)
            if pair is None:
                break
            sequences = self.replace_pair(sequences, pair, new_id)
            merges[pair] = new_id
            vocab[new_id] = vocab[pair[0]] + vocab[pair[1]]
        self._use(vocab, merges)

    def load_vocab_and_merges_from_openai(self, vocab_path: str | Path, bpe_merges_path: str | Path) -> None:
        """Read GPT-2's `encoder.json` and `vocab.bpe`, or another byte-level BPE in these two formats.

        Raises:
            FileNotFoundError: a file is missing; `gptlab.tokenizer.gpt2_tokenizer` knows where they may be.
            ValueError: a file is damaged, or the two do not belong together.
        """
        read_tables(Path(vocab_path), Path(bpe_merges_path))  # for its checks
        id_of = read_json(vocab_path)
        merges = {
            (id_of[left], id_of[right]): id_of[left + right] for left, right in read_merges(Path(bpe_merges_path))
        }
        self._use({token_id: token for token, token_id in id_of.items()}, merges)

    def encode(self, text: str, allowed_special: Literal["all"] | Collection[str] | None = None) -> list[int]:
        """Return the ids of `text`. A special token in it must be allowed, as in tiktoken, or is an error.

        Raises:
            ValueError: the text holds a special token that is not allowed, an allowed one that the vocabulary lacks,
                or a character that it lacks.
        """
        allowed = set(self._special if allowed_special == "all" else allowed_special or ())
        refused = [name for name in self._special if name in text and name not in allowed]
        if refused:
            raise ValueError(f"Disallowed special tokens encountered in text: {refused}; see allowed_special")
        ids = []
        for part in _split_at(text, allowed):
            if part in allowed:
                if part not in self.inverse_vocab:
                    raise ValueError(f"Special token {part!r} not found in vocabulary; it has {self._special}")
                ids.append(self.inverse_vocab[part])
                continue
            for word in self._words(part):
                known = self.inverse_vocab.get(word)
                ids.extend([known] if known is not None else self.tokenize_with_bpe(word))
        return ids

    def tokenize_with_bpe(self, token: str) -> list[int]:
        """Return the ids that one word, spelled as in `vocab`, is merged into.

        With GPT-2's tables the pair that was learned first is merged first. After `train`, as in the published class,
        passes from left to right merge whatever pair was learned: often more tokens than training itself would leave.

        Raises:
            ValueError: a letter is not in the vocabulary.
        """
        missing = sorted({letter for letter in token if letter not in self.inverse_vocab})
        if missing:
            raise ValueError(f"Characters not found in vocab: {missing}; it has {len(self.vocab)} tokens")
        if self._ranks:
            return [self._ranks[part] for part in merge(_to_bytes(token), self._ranks, below=len(self.vocab))]
        ids, before = [self.inverse_vocab[letter] for letter in token], None
        while ids != before:
            ids, before = _merged(ids, self.bpe_merges), ids
        return ids

    def decode(self, token_ids: Iterable[int]) -> str:
        """Return the text; bytes that are no UTF-8, as when a character is cut in two, become U+FFFD.

        Raises:
            ValueError: an id is not in the vocabulary.
        """
        tokens = []
        for token_id in token_ids:
            if token_id not in self.vocab:
                raise ValueError(f"Token ID {token_id} not found in vocab of {len(self.vocab)} tokens")
            tokens.append(self.vocab[token_id])
        if self._ranks:
            spelled = (token.encode() if token in self._special else _to_bytes(token) for token in tokens)
            return b"".join(spelled).decode("utf-8", errors="replace")
        return "".join(token if token in self._special else token.replace(SPACE, " ") for token in tokens)

    def save_vocab_and_merges(self, vocab_path: str | Path, bpe_merges_path: str | Path) -> None:
        """Write two JSON files: id -> token, and the list of merges, {"pair": [id, id], "new_id": id} each."""
        merges = [{"pair": list(pair), "new_id": new_id} for pair, new_id in self.bpe_merges.items()]
        write_text(vocab_path, to_json(self.vocab))
        write_text(bpe_merges_path, to_json(merges))

    def load_vocab_and_merges(self, vocab_path: str | Path, bpe_merges_path: str | Path) -> None:
        """Read what `save_vocab_and_merges` wrote, here or in the published class.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is not of that form.
        """
        vocab, merges = read_json(vocab_path), read_json(bpe_merges_path)
        try:
            vocab = {int(token_id): token for token_id, token in vocab.items()}
            merges = {(entry["pair"][0], entry["pair"][1]): entry["new_id"] for entry in merges}
            self._use(vocab, merges)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise ValueError(f"{vocab_path} and {bpe_merges_path} are not what was saved: {error!r}") from None

    def get_special_token_id(self, token: str) -> int | None:
        """Return the id of a token, or None if there is none."""
        return self.inverse_vocab.get(token)

    @staticmethod
    def pretokenize_text(text: str) -> list[str]:
        """Return the words that `train` learns from: each takes one space before it along, as "Ġ".

        >>> BPETokenizerSimple.pretokenize_text("Hello,  world\\n")
        ['Hello,', 'Ġ', 'Ġworld', '\\n']
        """
        if SPACE in text:
            raise ValueError(
                f"{SPACE!r} stands for a space in this vocabulary, the text holds it at {text.find(SPACE)}"
            )
        return [word.replace(" ", SPACE) for word in re.findall(r" ?\S+|\s", text)]

    @staticmethod
    def find_freq_pair(token_ids: Sequence, mode: Literal["most", "least"] = "most") -> Pair | None:
        """Return the pair of neighbours that occurs most often, or least; the first on a tie, None without any.

        Args:
            token_ids: a list of ids, or a list of such lists; no pair reaches from one to the next.
            mode: "most" or "least".
        """
        if mode not in ("most", "least"):
            raise ValueError(f"Invalid mode. Choose 'most' or 'least', got {mode!r}")
        sequences = token_ids if _nested(token_ids) else [token_ids]
        counts = Counter(pair for sequence in sequences for pair in pairwise(sequence))
        best = max if mode == "most" else min
        return best(counts, key=counts.__getitem__, default=None)

    @staticmethod
    def replace_pair(token_ids: Sequence, pair_id: Pair, new_id: int) -> list:
        """Return a list of ids, or a list of such lists, with `new_id` in place of every `pair_id`, from the left."""
        if _nested(token_ids):
            replace_pair = BPETokenizerSimple.replace_pair
            return [replace_pair(ids, pair_id, new_id) if pair_id[0] in ids else ids for ids in token_ids]
        return _merged(token_ids, {tuple(pair_id): new_id})

    def _words(self, text: str) -> list[str]:
        if not self._ranks:
            return self.pretokenize_text(text)
        words = regex.findall(GPT2_PATTERN, check_utf8(text))
        return ["".join(LETTER_OF[byte] for byte in word.encode("utf-8")) for word in words]

    def _use(self, vocab: dict[int, str], merges: dict[Pair, int]) -> None:
        """Take these tables. Of GPT-2's kind are those that have a visible letter for every byte: no line break."""
        self.vocab, self.bpe_merges = vocab, merges
        self.inverse_vocab = {token: token_id for token_id, token in vocab.items()}
        merged = set(merges.values())
        ordinary = {token_id: token for token_id, token in vocab.items() if len(token) == 1 or token_id in merged}
        self._special = [token for token_id, token in vocab.items() if token_id not in ordinary]
        self._ranks: dict[bytes, int] = {}
        if vocab and "\n" not in self.inverse_vocab:
            self._ranks = {_to_bytes(token): token_id for token_id, token in ordinary.items()}


def _to_bytes(token: str) -> bytes:
    return bytes(BYTE_OF[letter] for letter in token)


def _merged(ids: Sequence[int], merges: Mapping[Pair, int]) -> list[int]:
    """Return the ids after one pass from the left that merges every pair in `merges`."""
    merged, i = [], 0
    while i < len(ids):
        new_id = merges.get((ids[i], ids[i + 1])) if i + 1 < len(ids) else None
        merged.append(ids[i] if new_id is None else new_id)
        i += 1 if new_id is None else 2
    return merged


def _nested(token_ids: Sequence) -> bool:
    return len(token_ids) > 0 and isinstance(token_ids[0], list | tuple)


def _split_at(text: str, names: Collection[str]) -> list[str]:
    """Return the text cut at the names, the longest first, which stay as parts of their own."""
    pattern = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.split(f"({pattern})", text) if pattern else [text]


class GPTDatasetV1(Dataset):
    """Windows over a text's tokens, each with its targets one token further on.

    The final form is `gptlab.data.SlidingWindows`, which cuts a window when it is asked for.

    Args:
        txt: the text; an `<|endoftext|>` in it becomes the special token.
        tokenizer: with tiktoken's `encode`.
        max_length: T, the tokens of a window.
        stride: how far one window begins behind the one before.

    Attributes:
        input_ids: one tensor for each window, (T,) int64.
        target_ids: the same, one token further on.

    Raises:
        ValueError: the text is too short for one window and its last target.
    """

    def __init__(self, txt: str, tokenizer: Any, max_length: int, stride: int) -> None:
        self.tokenizer = tokenizer
        token_ids = tokenizer.encode(txt, allowed_special={END_OF_TEXT})
        if len(token_ids) <= max_length:
            raise ValueError(
                f"max_length {max_length} needs a text of at least {max_length + 1} tokens, got {len(token_ids)}"
            )
        windows = SlidingWindows(torch.tensor(token_ids), max_length, stride)
        pairs = [windows[number] for number in range(len(windows))]
        self.input_ids = [inputs.clone() for inputs, _ in pairs]
        self.target_ids = [targets.clone() for _, targets in pairs]

    def __len__(self) -> int:
        return len(self.input_ids)

    def __getitem__(self, idx: int) -> tuple[Tensor, Tensor]:
        return self.input_ids[idx], self.target_ids[idx]


def create_dataloader_v1(
    txt: str,
    batch_size: int = 4,
    max_length: int = 256,
    stride: int = 128,
    shuffle: bool = True,
    drop_last: bool = True,
    num_workers: int = 0,
) -> DataLoader:
    """Return batches of windows over a text, encoded with GPT-2's tokenizer: (inputs, targets), (B, T) int64 each.

    Raises:
        ValueError: the text is too short for one window, or for one batch when drop_last drops what is left over.
    """
    dataset = GPTDatasetV1(txt, gpt2_tokenizer(), max_length, stride)
    if drop_last and len(dataset) < batch_size:
        raise ValueError(
            f"the text gives {len(dataset)} windows of {max_length} tokens, fewer than one batch of {batch_size}, "
            "and drop_last drops them: take a smaller batch_size, max_length or stride, or drop_last=False"
        )
    return DataLoader(dataset, batch_size=batch_size, shuffle=shuffle, drop_last=drop_last, num_workers=num_workers)
