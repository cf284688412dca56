"""What tuning changed, token by token: shares by position, the tokens shifted most, and answers in colour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, Protocol

from gptlab.show.figure import COLORS, new_figure
from gptlab.show.tokens import drawable, escape_formulas, families

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KINDS = ("unshifted", "marginal", "shifted")
LOOKS = (("#d9d9d9", ""), (COLORS[4], "..."), (COLORS[1], "///"))  # told apart without colours too
_STYLES = {
    "unshifted": "",
    "marginal": "background:#cfe8f7;color:#000000;border-radius:2px",
    "shifted": "background:#d55e00;color:#ffffff;border-radius:2px",
}
_BRACKETS = {"unshifted": ("", ""), "marginal": ("(", ")"), "shifted": ("[", "]")}


class Shares(Protocol):
    """A group of tokens: how many, and the shares of the three kinds; `gptlab.analysis.token_shift` gives them."""

    tokens: int
    unshifted: float
    marginal: float
    shifted: float
    kl: float


class Place(Protocol):
    """The tokens at places `first` to `last` of their answers."""

    first: int
    last: int
    shares: Shares


class Counted(Protocol):
    """A token, how often it was written, and how often it was shifted."""

    token: int
    text: str
    shifted: int
    tokens: int


def plot_token_shift(places: Sequence[Place], most_shifted: Sequence[Counted] = ()) -> Figure:
    """Return a figure: the shares of the three kinds by position, the mean KL below, the tokens shifted most beside.

    The number above a bar says how many tokens it stands for: far on, few answers are left.

    Args:
        places: such as `TokenShift.by_position()`.
        most_shifted: such as `TokenShift.most_shifted()`; without any the third panel is left out.

    Raises:
        ValueError: there are no places.
    """
    if not places:
        raise ValueError("there are no places to draw")
    beside = bool(most_shifted)
    high = max(4.4, 0.24 * len(most_shifted) + 1.6)
    figure = new_figure(width=max(5.2, 0.42 * len(places) + 2) + 3.4 * beside, height=high)
    left, *right = figure.subfigures(1, 1 + beside, squeeze=False, width_ratios=[2, 1.1][: 1 + beside])[0]
    above, below = left.subplots(2, 1, sharex=True, height_ratios=[2.2, 1])
    floor = [0.0] * len(places)
    for kind, (color, hatch) in zip(KINDS, LOOKS):
        heights = [getattr(place.shares, kind) for place in places]
        bars = {"bottom": floor, "width": 0.86, "color": color, "edgecolor": "white", "hatch": hatch, "label": kind}
        above.bar(range(len(places)), heights, linewidth=0.5, **bars)
        floor = [low + height for low, height in zip(floor, heights)]
    turned = 90 if len(places) > 14 else 0
    for number, place in enumerate(places):
        above.text(number, 1.02, f"{place.shares.tokens:,}", ha="center", va="bottom", fontsize=6.5, rotation=turned)
    above.set(ylim=(0, 1.25 if turned else 1.12), yticks=[0, 0.25, 0.5, 0.75, 1], ylabel="share of tokens")
    above.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), fontsize=8)
    below.bar(range(len(places)), [place.shares.kl for place in places], width=0.86, color=COLORS[0])
    labels = [f"{p.first}" if p.first == p.last else f"{p.first}-{p.last}" for p in places]
    below.set_xticks(range(len(places)), labels, fontsize=7.5, rotation=turned or 30 * (len(places) > 8))
    below.set(xlabel="position in the answer", ylabel="KL, nats")
    for axis in (above, below):
        axis.spines[["top", "right"]].set_visible(False)
    if beside:
        _bars_of_tokens(right[0].subplots(), most_shifted)
    return figure


def _bars_of_tokens(axis, counted: Sequence[Counted]) -> None:
    rows = range(len(counted))
    axis.barh(rows, [each.tokens for each in counted], height=0.8, color="#d9d9d9", label="written")
    axis.barh(rows, [each.shifted for each in counted], height=0.5, color=COLORS[1], hatch="///", label="shifted")
    texts = [each.text if drawable(each.text) else f"#{each.token}" for each in counted]
    axis.set_yticks(rows, escape_formulas(texts), fontfamily=families(), fontsize=8)
    axis.invert_yaxis()
    axis.set(xlabel="times", title="shifted most often")
    axis.title.set_fontsize(9)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8, loc="lower right")


class ShiftedToken(NamedTuple):
    """A token of an answer: its text, its kind, and what is said when the mouse is over it."""

    text: str
    kind: str
    about: str


@dataclass(frozen=True)
class ShiftedAnswers:
    """Answers to look at. A notebook shows them in colour, `print` writes [shifted] and (marginal) tokens in brackets.

    Attributes:
        rows: the tokens of each answer.
        names: what the answers are called.
    """

    rows: Sequence[Sequence[ShiftedToken]]
    names: Sequence[str]

    def __str__(self) -> str:
        lines = []
        for name, row in zip(self.names, self.rows):
            runs = [(kind, "".join(piece.text for piece in run)) for kind, run in groupby(row, key=lambda p: p.kind)]
            lines.append(f"{name}: " + "".join(text.join(_BRACKETS[kind]) for kind, text in runs))
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return what a notebook shows. <mark>, <u> and <b> stay where a code host takes the colours away."""
        parts = []
        for name, row in zip(self.names, self.rows):
            tokens = "<wbr>".join(map(_html, row))
            parts.append(f"<p style='line-height:1.8'>{escape(name)}<br><code>{tokens}</code></p>")
        key = "<wbr> ".join(_html(ShiftedToken(kind, kind, "")) for kind in KINDS)
        return f"<div>{''.join(parts)}<p>{key}</p></div>"


def show_token_shift(rows: Sequence[Sequence[ShiftedToken]], names: Sequence[str] = ()) -> ShiftedAnswers:
    """Return answers in colour: which tokens the base would not have written.

    Args:
        rows: the tokens of each answer, such as `TokenShift.rows()`.
        names: what the answers are called, such as their questions; none are numbered.

    Raises:
        ValueError: there are names, but not as many as rows; or a kind is not known.
    """
    names = list(names) or [f"answer {number}" for number in range(1, len(rows) + 1)]
    if len(names) != len(rows):
        raise ValueError(f"{len(rows)} answers need as many names, got {len(names)}")
    rows = [[ShiftedToken(*piece) for piece in row] for row in rows]
    unknown = {piece.kind for row in rows for piece in row} - {*KINDS}
    if unknown:
        raise ValueError(f"a token's kind must be one of {', '.join(KINDS)}, got {min(unknown)!r}")
    return ShiftedAnswers(rows, names)


def _html(piece: ShiftedToken) -> str:
    text = escape(piece.text)
    inside = {"unshifted": text, "marginal": f"<u>{text}</u>", "shifted": f"<b>{text}</b>"}[piece.kind]
    tag = "span" if piece.kind == "unshifted" else "mark"
    return f"<{tag} style='{_STYLES[piece.kind]}' title='{escape(piece.about)}'>{inside}</{tag}>"
