"""Longest responses: the simplest selection there is, and one that is hard to beat.

A long answer of a large set is mostly a detailed one, in the style that tuning is to teach, and whoever takes the 1,000
longest asks no judge and computes no embedding. Length is counted in tokens of one tokenizer: characters would favour
English over Chinese, which says the same in a third of them.

Two things to know. The longest entries are exactly those that do not fit into a model's context: cut, they teach never
to stop; give `max_tokens` to leave them out. And judges like length, too, so what this selection wins by a judge's word
needs a second look; a text that repeats itself is long as well.

Source: Zhao et al. 2024, "Long Is More for Alignment"; Shen 2024, "Rethinking Data Selection for Supervised
Fine-Tuning".
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gptlab.data import Template, encode, load_template
from gptlab.selection.entries import Entry, check_count, check_entries
from gptlab.tokenizer import as_tokenizer


def longest(
    entries: Sequence[Entry],
    k: int,
    tokenizer: Any,
    *,
    max_tokens: int | None = None,
    template: str | Path | Template = "alpaca",
) -> list[int]:
    """Return the indices of the `k` entries with the longest outputs in tokens, longest first.

    Of outputs that are equally long, the one that comes first in `entries` comes first.

    Args:
        entries: with instruction and output.
        k: how many are picked.
        tokenizer: as for `gptlab.tokenizer.as_tokenizer`.
        max_tokens: how much a model reads at once; an entry that would be cut, prompt and end-of-text counted, is left
            out. None leaves out nothing.
        template: around the entries, for `max_tokens`.

    Raises:
        ValueError: k or max_tokens is below 1, there are fewer than k entries (that fit), or one is no entry.
        TypeError: this is no tokenizer.

    Source: Zhao et al. 2024, section 3.

    >>> from gptlab.tokenizer import train_tokenizer
    >>> entries = [{"instruction": "?", "output": output} for output in ("no", "I do not know", "yes, it is so")]
    >>> longest(entries, 2, train_tokenizer("byte by byte", 260))
    [1, 2]
    """
    check_entries(entries)
    check_count(k, "k")
    tokenizer = as_tokenizer(tokenizer)
    places = list(range(len(entries)))
    if max_tokens is not None:
        check_count(max_tokens, "max_tokens")
        template = template if isinstance(template, Template) else load_template(template)
        # The last token is only a target and never read, as in InstructionDataset.
        wholes = [len(encode(template.segments(entry), tokenizer).ids) - 1 for entry in entries]
        places = [place for place in places if wholes[place] <= max_tokens]
    if k > len(places):
        fitting = "" if max_tokens is None else f", {len(places)} of which fit into {max_tokens} tokens"
        raise ValueError(f"cannot pick {k} entries out of {len(entries)}{fitting}")
    lengths = {place: len(tokenizer.encode_ordinary(entries[place]["output"])) for place in places}
    return sorted(places, key=lambda place: (-lengths[place], place))[:k]
