"""What a data set is made of: root verbs and their nouns, lengths, and what was rejected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gptlab.show.figure import COLORS, new_figure
from gptlab.show.tokens import families, label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHADES = ("#0072b2", "#3f95c6", "#7fb8d9", "#b3d5e8")  # of a verb's nouns, the most frequent first
OTHERS = "#d9d9d9"
MOST_REASONS = 10
PARTS = {"prompt": "prompts", "output": "outputs"}
FEWEST_ROWS = 6  # so that a single bar is no block


def plot_report_card(card: Any) -> Figure:
    """Return a figure: at the left the root verbs with their nouns, at the right lengths, and what was rejected.

    A bar is a verb, its parts are its most frequent nouns, named beside it; grey are all others. The last bar of a
    histogram holds all that is longer.

    Args:
        card: what `gptlab.selection.report_card` returns, or its dictionary.

    Raises:
        ValueError: this is no report card.
    """
    card = card.to_dict() if hasattr(card, "to_dict") else card
    if not isinstance(card, Mapping) or not {"title", "n", "roots", "lengths"} <= set(card):
        raise ValueError(f"a report card is needed, or its dictionary, got {card!r:.80}")
    reasons = sorted((card.get("rejected") or {}).items(), key=lambda item: -item[1])[:MOST_REASONS]
    verbs = card["roots"]["rows"]
    figure = new_figure(11, max(4.2 + (0.4 + 0.22 * len(reasons) if reasons else 0), 1.4 + 0.24 * len(verbs)))
    left, right = figure.subfigures(1, 2, width_ratios=[1.45, 1])
    _draw_roots(left.subplots(), verbs)
    heights = [1.6, 1.6, *([0.5 + 0.22 * len(reasons)] if reasons else [])]
    axes = right.subplots(len(heights), 1, height_ratios=heights)
    for axis, (part, title) in zip(axes, PARTS.items()):
        _draw_lengths(axis, card["lengths"][part], f"{title}, in {card['unit']}")
    if reasons:
        _draw_reasons(axes[2], reasons)
    figure.suptitle(f"{label(card['title'])}: {card['n']:,} entries", fontsize=12, fontfamily=families())
    return figure


def _draw_roots(axis: Axes, verbs: list[Mapping[str, Any]]) -> None:
    most = max((verb["count"] for verb in verbs), default=1)
    for row, verb in enumerate(verbs):
        start = 0
        for (_, count), color in zip(verb["nouns"], SHADES):
            axis.barh([row], [count], left=start, height=0.82, color=color, edgecolor="white")
            start += count
        axis.barh([row], [verb["count"] - start], left=start, height=0.82, color=OTHERS, edgecolor="white")
        text = ", ".join(f"{label(noun)} {count:,}" for noun, count in verb["nouns"])
        inside = verb["count"] > 0.55 * most  # a long bar leaves no room at its right
        place = 0 if inside else verb["count"]
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
        look = {"va": "center", "fontsize": 7.5, "fontfamily": families(), "bbox": box if inside and text else None}
        axis.annotate(text, (place, row), (5, 0), textcoords="offset points", **look)
    labels = [f"{label(verb['verb'])}  {verb['count']:,}" for verb in verbs]
    axis.set_yticks(range(len(verbs)), labels, fontsize=9, fontfamily=families())
    axis.set(xlim=(0, 1.02 * most), ylim=(max(len(verbs), FEWEST_ROWS) - 0.5, -0.5), xlabel="instructions")
    axis.set_title("root verbs and nouns, by a light heuristic", fontsize=10, loc="left")
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.xaxis.get_major_locator().set_params(integer=True)


def _draw_lengths(axis: Axes, found: Mapping[str, Any], title: str) -> None:
    edges, counts, median = found["edges"], found["counts"], found["percentiles"]["50"]
    width = edges[1] - edges[0] if len(edges) > 1 else 1
    axis.bar(edges, counts, width=0.94 * width, align="edge", color=COLORS[4])
    axis.axvline(median, color=COLORS[0], linewidth=1.8)
    axis.set_title(
        f"{title}: median {found['percentiles']['50']:,.0f}, longest {found['most']:,}", fontsize=9, loc="left"
    )
    axis.set(ylabel="entries", xlim=(0, edges[-1] + width))
    axis.spines[["top", "right"]].set_visible(False)
    axis.yaxis.get_major_locator().set_params(integer=True)


def _draw_reasons(axis: Axes, reasons: list[tuple[str, int]]) -> None:
    axis.barh(range(len(reasons)), [count for _, count in reasons], color=COLORS[1], height=0.75)
    for row, (_, count) in enumerate(reasons):
        axis.annotate(f"{count:,}", (count, row), (3, 0), textcoords="offset points", va="center", fontsize=8)
    names = [label(reason if len(reason) <= 32 else f"{reason[:31]}…") for reason, _ in reasons]
    axis.set_yticks(range(len(reasons)), names, fontsize=8, fontfamily=families())
    axis.set(xlim=(0, 1.15 * max(1, *(count for _, count in reasons))))
    axis.set_title(f"rejected before: {sum(count for _, count in reasons):,}", fontsize=9, loc="left")
    axis.invert_yaxis()
    axis.tick_params(axis="y", length=0)
    axis.set_xticks([])
    axis.spines[:].set_visible(False)
