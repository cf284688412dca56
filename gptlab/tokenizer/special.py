"""New special tokens for a tokenizer that is there, such as the `<eoh>` and `<eom>` that close the turns of a talk.

A special token is a name for one id that no text can spell: a person who types `<eom>` has typed five characters. So
the new ids are put behind the old ones, and nothing changes in how text is encoded.
"""

from __future__ import annotations

from collections.abc import Iterable

import regex
import tiktoken

from gptlab.tokenizer.adapter import AdaptedTokenizer, as_tokenizer, end_by_name
from gptlab.tokenizer.encoding import SPECIAL_NAME, Tokenizer, byte_to_letter, check_utf8


def with_special_tokens(tokenizer: Tokenizer, tokens: Iterable[str]) -> Tokenizer:
    """Return a tokenizer that has the special tokens `tokens` besides its own; the given one stays as it is.

    Names that are special tokens already are passed over; if none is new, the same tokenizer comes back.

    Args:
        tokenizer: a `tiktoken.Encoding`, or one of another kind that has a `tokenizer.json`.
        tokens: names like `<name>` or `[name]`; their ids follow the last one, in this order.

    Raises:
        ValueError: a name is not of this form, comes twice, is an ordinary token, or would be decoded as another; the
            tokenizer is of a kind that takes no new tokens; its ids have gaps; or the name would close its texts.

    >>> from gptlab.tokenizer import train_tokenizer
    >>> tokenizer = with_special_tokens(train_tokenizer("low lower", 260), ["<eoh>", "<eom>"])
    >>> tokenizer.encode_single_token("<eom>"), tokenizer.decode([260, 261])
    (261, '<eoh><eom>')
    """
    tokenizer = as_tokenizer(tokenizer)
    new = _new_names(tokenizer, tokens)
    if not new:
        return tokenizer
    if isinstance(tokenizer, tiktoken.Encoding):
        return _extend_encoding(tokenizer, new)
    if isinstance(tokenizer, AdaptedTokenizer) and tokenizer.file is not None:
        return _extend_file(tokenizer, new)
    kind = getattr(tokenizer, "kind", type(tokenizer).__name__)
    raise ValueError(f"a {kind} takes no new tokens; a tiktoken.Encoding does, and a tokenizers.Tokenizer")


def _new_names(tokenizer: Tokenizer, tokens: Iterable[str]) -> list[str]:
    """Return the names that are no special tokens yet, each checked."""
    if isinstance(tokens, str):
        raise ValueError(f"tokens must be a list of names, got the text {tokens!r}")
    names = list(tokens)
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ValueError(f"the special token {name!r} comes twice")
        known = isinstance(name, str) and name in tokenizer.special_tokens_set
        if not known and not (isinstance(name, str) and regex.fullmatch(SPECIAL_NAME, check_utf8(name))):
            raise ValueError(f"a special token must be named like '<name>' or '[name]', got {name!r}")
    return [name for name in names if name not in tokenizer.special_tokens_set]


def _extend_encoding(encoding: tiktoken.Encoding, names: list[str]) -> tiktoken.Encoding:
    """Return a tiktoken.Encoding of the same class, name, pattern and merges, with more special tokens."""
    byte_of = {letter: byte for byte, letter in byte_to_letter().items()}
    for name in names:
        _check_ordinary(name, encoding._mergeable_ranks.get(name.encode("utf-8")))
        if byte_of.keys() >= set(name):  # transformers would take the name for a token that is spelled in letters
            _check_shown(name, bytes(byte_of[letter] for letter in name).decode("utf-8", errors="replace"))
    special = encoding._special_tokens | {name: encoding.n_vocab + number for number, name in enumerate(names)}
    return type(encoding)(
        encoding.name,
        pat_str=encoding._pat_str,
        mergeable_ranks=encoding._mergeable_ranks,
        special_tokens=special,
    )


def _extend_file(tokenizer: AdaptedTokenizer, names: list[str]) -> AdaptedTokenizer:
    """Return the tokenizer of the same `tokenizer.json`, with more special tokens."""
    import tokenizers

    inner = tokenizers.Tokenizer.from_str(tokenizer.file)
    vocabulary, end = inner.get_vocab(), end_by_name(inner)
    for name in names:
        _check_ordinary(name, vocabulary.get(name))
    if max(vocabulary.values()) >= len(vocabulary):  # the new ids would be those of old tokens
        raise ValueError(f"the ids of the {len(vocabulary)} tokens have gaps: the last is {max(vocabulary.values())}")
    inner.add_special_tokens(names)
    extended = as_tokenizer(inner, tokenizer.eot_token)
    for name in names:
        _check_shown(name, extended.decode([extended.encode_single_token(name)]))
    if tokenizer.eot_token is not None and end_by_name(inner) != end:  # when it is saved and loaded again
        raise ValueError(
            f"{inner.id_to_token(end_by_name(inner))!r} would close texts in place of "
            f"{inner.id_to_token(tokenizer.eot_token)!r}; give the token another name"
        )
    return extended


def _check_ordinary(name: str, token: int | None) -> None:
    if token is not None:
        raise ValueError(f"{name!r} is an ordinary token of the vocabulary, with id {token}")


def _check_shown(name: str, shown: str) -> None:
    if shown != name:
        raise ValueError(f"{name!r} would be decoded as {shown!r}; give the token another name")
