"""What a batch teaches: every token in colour, trained on or ignored, and a warning where something looks wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any

from torch import Tensor

from gptlab.data import IGNORE_INDEX
from gptlab.show.tokens import token_text
from gptlab.tokenizer import as_tokenizer

_TRAINED = "background:#0072b2;color:#ffffff;border-radius:2px;padding:0 1px"  # blue and grey: no eye mixes them up
_IGNORED = "background:#e6e6e6;color:#555555;border-radius:2px;padding:0 1px"


@dataclass(frozen=True)
class ShownToken:
    """A token of a row: its text, and what is said when the mouse is over it."""

    text: str
    trained: bool
    id: int | None  # None where only its being ignored is known


@dataclass(frozen=True)
class Targets:
    """A batch to look at. A notebook shows it in colour, `print` writes trained tokens in [brackets].

    Attributes:
        rows: the tokens of each row.
        warnings: what looks wrong, one sentence each, with the row's number from 1.
        names: what the rows are called; none are numbered.
    """

    rows: Sequence[Sequence[ShownToken]]
    warnings: Sequence[str]
    names: Sequence[str] = ()

    def __str__(self) -> str:
        lines = []
        for name, row in self._named():
            shown = "".join(
                f"[{piece.text}]" * count if piece.trained else _repeat(piece.text, count)
                for piece, count in _runs(row)
            )
            lines.append(f"{name} ({_count(row)}): {shown}")
        return "\n".join([*lines, *(f"Warning: {warning}" for warning in self.warnings)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return what a notebook shows. <mark> and <b> stay where a code host takes the colours away."""
        parts = []
        for name, row in self._named():
            tokens = "<wbr>".join(_html(piece, count) for piece, count in _runs(row))
            title = f"{escape(name)} ({_count(row)})"
            parts.append(f"<p style='line-height:1.8'>{title}: <code>{tokens}</code></p>")
        parts += [f"<p><b>Warning:</b> {escape(warning)}</p>" for warning in self.warnings]
        key = f"<mark style='{_TRAINED}'><b>trained</b></mark> <span style='{_IGNORED}'>ignored</span>"
        return f"<div>{''.join(parts)}<p>{key}</p></div>"

    def _named(self) -> Iterator[tuple[str, Sequence[ShownToken]]]:
        names = self.names or [f"row {number}" for number in range(1, len(self.rows) + 1)]
        return zip(names, self.rows)


def show_targets(inputs: Tensor, targets: Tensor, tokenizer: Any, *, max_rows: int = 8, stops: bool = True) -> Targets:
    """Return the batch in colour: each token trained on or ignored, with warnings.

    Warned of are: a row that trains nothing; an end-of-text that is never trained on, so that the model would never
    stop; an answer that is cut off by the end of the row; targets that are not the inputs shifted by one.

    Args:
        inputs: (B, T) or (T,) ids.
        targets: the same shape, already shifted; IGNORE_INDEX where nothing is learned.
        tokenizer: the model's.
        max_rows: how many rows are shown; all are looked at for warnings.
        stops: whether each row should teach where to stop; windows of plain text do not.

    Raises:
        ValueError: inputs and targets are not of one such shape, or max_rows is below 1.
    """
    if inputs.dim() == 1:
        inputs, targets = inputs.unsqueeze(0), targets.unsqueeze(0)
    if inputs.dim() != 2 or inputs.shape != targets.shape or not inputs.shape[1]:
        raise ValueError(
            f"inputs and targets must have one shape, (B, T), got {tuple(inputs.shape)} and {tuple(targets.shape)}"
        )
    if max_rows < 1:
        raise ValueError(f"max_rows must be >= 1, got {max_rows}")
    tokenizer = as_tokenizer(tokenizer)
    rows, warnings = [], []
    for number, (given, wanted) in enumerate(zip(inputs.tolist(), targets.tolist()), start=1):
        warnings += [
            f"row {number}: {text}" for text in _warnings(given, wanted, tokenizer.eot_token if stops else None)
        ]
        if number <= max_rows:
            rows.append(_pieces(given, wanted, tokenizer))
    if len(inputs) > max_rows:
        warnings.append(f"{len(inputs) - max_rows} more rows are not shown")
    return Targets(rows, warnings)


def _pieces(given: list[int], wanted: list[int], tokenizer: Any) -> list[ShownToken]:
    """Return the tokens of one row: the first input, and then what follows each input."""
    pieces = [ShownToken(token_text(tokenizer, given[0]), False, given[0])]
    for target, following in zip(wanted, [*given[1:], None]):
        token = following if target == IGNORE_INDEX else target
        text = "…" if token is None else token_text(tokenizer, token)
        pieces.append(ShownToken(text, target != IGNORE_INDEX, token))
    return pieces


def _warnings(given: list[int], wanted: list[int], end_of_text: int | None) -> list[str]:
    trained = [place for place, target in enumerate(wanted) if target != IGNORE_INDEX]
    if not trained:
        return ["nothing is trained"]
    found = []
    if any(wanted[place] != given[place + 1] for place in trained[:-1]):  # after the last, padding may follow
        found.append("the targets are not the inputs shifted by one; each target must be the next input")
    if end_of_text is not None and end_of_text not in (wanted[place] for place in trained):
        if trained[-1] == len(wanted) - 1:
            found.append("the answer is cut off: the row ends before end-of-text")
        else:
            found.append("end-of-text is never trained, so the model would not learn to stop")
    return found


def _runs(row: Sequence[ShownToken]) -> list[tuple[ShownToken, int]]:
    """Return each token with how often it stands there in a row: padding is long and says little."""
    return [(piece, len(list(same))) for piece, same in groupby(row)]


def _repeat(text: str, count: int) -> str:
    return text * count if count < 4 else f"{text}×{count}"


def _html(piece: ShownToken, count: int) -> str:
    title = "" if piece.id is None else f" title='id {piece.id}'"
    if piece.trained:
        return f"<mark style='{_TRAINED}'{title}><b>{escape(piece.text)}</b></mark>" * count
    return f"<span style='{_IGNORED}'{title}>{escape(_repeat(piece.text, count))}</span>"


def _count(row: Sequence[ShownToken]) -> str:
    return f"{sum(piece.trained for piece in row)} of {len(row) - 1} trained"
