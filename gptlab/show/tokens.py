"""Tokens as a reader can tell them apart: spaces seen, half characters as bytes, in fonts that have the characters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

_CHINESE_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei"),
    *("PingFang SC", "Hiragino Sans GB", "Heiti SC", "Microsoft YaHei", "SimHei", "Arial Unicode MS"),
)


@cache
def families() -> list[str]:
    """Return matplotlib's own font, and the fonts with Chinese characters that are installed."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _CHINESE_FONTS if name in installed)]


def token_text(tokenizer: Any, token: int) -> str:
    """Return one token's text: a space as ␣, the end of a line as ↵, half a character as its bytes, no token as #id.

    >>> import tiktoken
    >>> bytes_only = tiktoken.Encoding("b", pat_str=".", mergeable_ranks={bytes([i]): i for i in range(256)},
    ...                                special_tokens={})
    >>> token_text(bytes_only, 32), token_text(bytes_only, 228)
    ('␣', '\\\\xe4')
    """
    bytes_of = getattr(tokenizer, "decode_single_token_bytes", None)
    if bytes_of is None:
        text = tokenizer.decode([token])
    else:
        try:
            raw = bytes_of(token)
        except KeyError:  # a model may have more rows than its tokenizer has tokens
            return f"#{token}"
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            return "".join(f"\\x{byte:02x}" for byte in raw)
    return text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥") or "(nothing)"


def token_labels(ids: Iterable[int], tokenizer: Any) -> list[str]:
    """Return a label for each token of a picture: its text where an installed font has all characters, else #id."""
    labels = []
    for token in ids:
        text = token_text(tokenizer, int(token))
        labels.append(text if drawable(text) else f"#{int(token)}")
    return labels


def drawable(text: str) -> bool:
    """Say whether every character is in one of the fonts; the others would be boxes, which look all alike."""
    from matplotlib import font_manager

    fonts = [font_manager.get_font(font_manager.findfont(name)) for name in families()]
    return all(any(font.get_char_index(ord(character)) for font in fonts) for character in text)


def escape_formulas(labels: Sequence[str]) -> list[str]:
    """Return the labels for matplotlib, to which a pair of dollars would be a formula."""
    return [label.replace("$", r"\$") for label in labels]


def label(text: str) -> str:
    """Return a text for matplotlib that its fonts can draw; what they cannot is a question mark in a box."""
    return escape_formulas(["".join(one if drawable(one) else "\ufffd" for one in text)])[0]
