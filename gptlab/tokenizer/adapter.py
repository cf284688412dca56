"""Tokenizers of another kind: any object with `encode` and `decode`, seen as the library's Tokenizer.

Not every GPT-2 reads byte-level BPE. The Chinese ones, for example, have BERT's vocabulary of characters. Whatever
takes a tokenizer in this library also takes one of transformers or tokenizers, or a class of your own.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gptlab.files import read_json, read_text
from gptlab.tokenizer.encoding import END_OF_TEXT, Tokenizer

# What closes a text, by the names that vocabularies give it; BERT's closes a sentence.
_ENDS = (END_OF_TEXT, "</s>", "<eos>", "[EOS]", "[SEP]")


class AdaptedTokenizer:
    """An object with `encode` and `decode`, with the names that the library asks for.

    Attributes:
        special_tokens_set: the names of the tokenizer's own special tokens, such as `[CLS]`; and `<|endoftext|>` when
            an id closes a text, whatever its own name is.
        eot_token: that id, or None.
        n_vocab: how many ids there are; None when the object does not tell.
    """

    def __init__(
        self,
        encode: Callable[[str], list[int]],
        decode: Callable[[list[int]], str],
        eot_token: int | None,
        n_vocab: int | None,
        special: Mapping[str, int] | None = None,
    ) -> None:
        self.encode_ordinary, self._decode = encode, decode
        self.eot_token, self.n_vocab = eot_token, n_vocab
        self._special = dict(special or {}) | ({} if eot_token is None else {END_OF_TEXT: eot_token})
        self.special_tokens_set = set(self._special)
        self.file: str | None = None  # the text of tokenizer.json, when it can be written
        self.kind = "tokenizer"  # what an error calls it

    def encode(self, text: str, **_: Any) -> list[int]:
        """Return the ids of `text`, in which no special token is looked for."""
        return self.encode_ordinary(text)

    def encode_single_token(self, name: str) -> int:
        """Return the id of a special token.

        Raises:
            KeyError: the tokenizer has no special token of this name.
        """
        return self._special[name]

    def decode(self, ids: list[int]) -> str:
        """Return the text of `ids`."""
        return self._decode([int(token) for token in ids])


def as_tokenizer(tokenizer: Any, end_of_text: int | None = None) -> Tokenizer:
    """Return `tokenizer` with the names that the library asks for; a `tiktoken.Encoding` comes back as it is.

    Args:
        tokenizer: of tiktoken, transformers or tokenizers, or any object with `encode(text)`, which returns ids or an
            object with `ids`, and `decode(ids)`.
        end_of_text: the id that closes a text, when the object does not say.

    Raises:
        TypeError: the object has no `encode` or no `decode`.
    """
    if all(
        hasattr(tokenizer, name) for name in ("special_tokens_set", "encode_ordinary", "encode_single_token", "decode")
    ):
        return tokenizer
    if not (callable(getattr(tokenizer, "encode", None)) and callable(getattr(tokenizer, "decode", None))):
        raise TypeError(f"a tokenizer needs encode and decode, got a {type(tokenizer).__name__}")
    if hasattr(tokenizer, "convert_tokens_to_ids"):
        return _of_transformers(tokenizer, end_of_text)
    if hasattr(tokenizer, "token_to_id") and hasattr(tokenizer, "to_str"):
        return _of_tokenizers(tokenizer, end_of_text)
    known = (getattr(tokenizer, name, None) for name in ("eot_token", "eos_token_id", "eos_id"))
    end = next((token for token in (end_of_text, *known) if isinstance(token, int)), None)
    sizes = (getattr(tokenizer, name, None) for name in ("n_vocab", "vocab_size"))
    size = next((size for size in sizes if isinstance(size, int)), None)
    adapted = AdaptedTokenizer(lambda text: _plain_ids(tokenizer.encode(text)), tokenizer.decode, end, size)
    adapted.kind = type(tokenizer).__name__
    return adapted


def _of_transformers(tokenizer: Any, end_of_text: int | None) -> AdaptedTokenizer:
    def encode(text: str) -> list[int]:  # what looks like a special token in a text stays text
        return tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)

    ends = (end_of_text, tokenizer.eos_token_id, tokenizer.sep_token_id)
    end = next((token for token in ends if token is not None), None)
    special = _special_ids(getattr(tokenizer, "added_tokens_decoder", {}))
    adapted = AdaptedTokenizer(encode, tokenizer.decode, end, len(tokenizer), special)
    if getattr(tokenizer, "backend_tokenizer", None) is not None:
        adapted.file = _text_only(tokenizer.backend_tokenizer.to_str())
    adapted.kind = type(tokenizer).__name__
    return adapted


def _of_tokenizers(tokenizer: Any, end_of_text: int | None) -> AdaptedTokenizer:
    text_only = type(tokenizer).from_str(tokenizer.to_str())
    text_only.encode_special_tokens = True
    adapted = AdaptedTokenizer(
        lambda text: text_only.encode(text, add_special_tokens=False).ids,
        lambda ids: text_only.decode(ids, skip_special_tokens=False),
        end_by_name(tokenizer) if end_of_text is None else end_of_text,
        tokenizer.get_vocab_size(),
        _special_ids(tokenizer.get_added_tokens_decoder()),
    )
    adapted.file = _text_only(tokenizer.to_str())
    return adapted


def end_by_name(tokenizer: Any) -> int | None:
    """Return the id that closes a text in a `tokenizers.Tokenizer`, which does not say: its name tells, or None."""
    ends = (tokenizer.token_to_id(name) for name in _ENDS)
    return next((token for token in ends if token is not None), None)


def _special_ids(added: Mapping[int, Any]) -> dict[str, int]:
    """Return name -> id of the special ones among the tokens that both packages keep beside the vocabulary."""
    return {token.content: number for number, token in added.items() if token.special}


def _text_only(file: str) -> str:
    """Return a tokenizer.json that adds nothing to a text, such as BERT's [CLS] and [SEP]: the ids that we use."""
    return json.dumps(json.loads(file) | {"post_processor": None}, ensure_ascii=False)


def open_other_tokenizer(directory: str | Path) -> AdaptedTokenizer:
    """Return the tokenizer of a folder that has `tokenizer.json`, or BERT's `vocab.txt`.

    Raises:
        FileNotFoundError: the folder has neither.
        ValueError: the file is damaged, or the package tokenizers, which reads it, is not installed.
    """
    directory = Path(directory)
    file = next((directory / name for name in ("tokenizer.json", "vocab.txt") if (directory / name).is_file()), None)
    if file is None:
        raise FileNotFoundError(f"{directory} has no vocab.json and merges.txt, nor tokenizer.json or vocab.txt")
    if importlib.util.find_spec("tokenizers") is None:
        raise ValueError(f"{file} is read by the package tokenizers, which is not installed: pip install tokenizers")
    import tokenizers

    text = read_text(file)
    try:
        if file.suffix == ".json":
            return as_tokenizer(tokenizers.Tokenizer.from_str(text))
        return as_tokenizer(_bert(_pieces(text), directory))
    except Exception as error:  # tokenizers raises bare ones
        raise ValueError(f"{file} is damaged: {error}") from error


def _pieces(text: str) -> list[str]:
    """Return the lines of `vocab.txt`. A vocabulary may hold U+2028 and its like, at which splitlines would cut."""
    pieces = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    if len(set(pieces)) < len(pieces):
        twice = next(piece for number, piece in enumerate(pieces) if piece in pieces[:number])
        raise ValueError(f"the line {twice!r} comes twice")
    return pieces


def _bert(pieces: list[str], directory: Path) -> Any:
    """Return BERT's tokenizer over the lines of `vocab.txt`."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    settings = directory / "tokenizer_config.json"
    lowercase = read_json(settings).get("do_lower_case", True) if settings.is_file() else True
    bert = Tokenizer(models.WordPiece({piece: number for number, piece in enumerate(pieces)}, unk_token="[UNK]"))
    bert.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    bert.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    bert.decoder = decoders.WordPiece()
    bert.add_special_tokens([name for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if name in pieces])
    return bert


def _plain_ids(encoded: Any) -> list[int]:
    ids = getattr(encoded, "ids", encoded)
    return [int(token) for token in ids]
