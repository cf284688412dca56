"""What the selections ask of entries, and how they read them."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import regex

from gptlab.data.instruction import check_entry
from gptlab.rouge import CJK

Entry = Mapping[str, Any]

PROMPT = ("instruction", "input")
FIELDS = (*PROMPT, "output")

_WORD = regex.compile(rf"[{CJK}]|(?:(?![{CJK}])[\p{{L}}\p{{M}}\p{{N}}])+")
_ENDS = " .,;:!?…\"'“”‘’«»。，；：、"


def check_entries(entries: Any, *, needs: Sequence[str] = ("instruction", "output"), what: str = "entries") -> None:
    """Make sure that `entries` is a list of Alpaca entries, and not an empty one.

    Raises:
        ValueError: with `what`, and the number of the entry, from 1.
    """
    check_list(entries, what)
    for number, entry in enumerate(entries, start=1):
        check_entry(entry, f"{what}, number {number}," if what != "entries" else f"entry {number}", needs=needs)


def check_list(items: Any, what: str) -> None:
    """Make sure that `items` is a list, or the like, and not an empty one.

    Raises:
        ValueError: it is not; the message calls it `what`.
    """
    if isinstance(items, str | Mapping) or not isinstance(items, Sequence):
        raise ValueError(f"{what} must be a list, got a {type(items).__name__}: {items!r:.80}")
    if not items:
        raise ValueError(f"{what} must not be empty")


def check_share(value: Any, name: str) -> float:
    """Return `value` if it is a number in [0, 1].

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value) or not 0 <= value <= 1:
        raise ValueError(f"the {name} must be a number in [0, 1], got {value!r}")
    return value


def check_count(value: Any, name: str, least: int = 1) -> int:
    """Return `value` if it is a whole number, and not below `least`.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be a whole number >= {least}, got {value!r}")
    return value


def text_of(entry: Entry | str, fields: Sequence[str] = PROMPT) -> str:
    """Return these fields of an entry as one text, a line break between them; a text is returned as it is.

    >>> text_of({"instruction": "Add.", "input": "1 + 2", "output": "3"})
    'Add.\\n1 + 2'
    """
    return entry if isinstance(entry, str) else "\n".join(entry[key] for key in fields if entry.get(key))


def normalised(text: str) -> str:
    """Return a text in lower case and single width, with single spaces, and without punctuation at its ends.

    A text of punctuation alone keeps it: "?" and "!" are two answers.

    >>> normalised("  Name　３ colours. ") == normalised("name 3 Colours")
    True
    """
    whole = " ".join(unicodedata.normalize("NFKC", text).lower().split())
    return whole.strip(_ENDS) or whole


def words_of(text: str) -> list[str]:
    """Return the words of a text in any language, in lower case; of Chinese, Japanese and Korean each character.

    >>> words_of("Größe: 3 m, 三米")
    ['größe', '3', 'm', '三', '米']
    """
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())
