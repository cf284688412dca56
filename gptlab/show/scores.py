"""What a judge said: the scores of sets of responses with their means, and the outcomes of comparisons.

The reports of `gptlab.judging` are drawn; anything that has the same names will do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from gptlab.show.figure import COLORS, new_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BIN = 10  # points of one bar
NONE_AT = -9  # where the bar of the entries without a score stands
CONVENTIONS = ("agreement", "lima")
LOOKS = {"wins": (COLORS[0], ""), "ties": ("#d9d9d9", ""), "losses": (COLORS[1], "///")}


class Scores(Protocol):
    """The scores of one set of responses, as `score_responses` reports them."""

    scores: Sequence[int | None]
    mean: float | None
    mean_with_zeros: float | None
    interval: tuple[float, float] | None


class Outcomes(Protocol):
    """The outcomes of one comparison, as `compare_responses` reports them."""

    consistency: float | None

    def tally(self, convention: str) -> Any:
        """Return wins, ties and losses under a convention."""
        ...


def plot_scores(reports: Mapping[str, Scores]) -> Figure:
    """Return a figure with a histogram for each report, one below the other.

    A line is the mean of what has a score, the band around it its interval, and a dotted line the mean with what could
    not be read as 0. The hatched bar at the left counts the entries without a score.

    Args:
        reports: title -> report.

    Raises:
        ValueError: there are no reports.
    """
    _need(reports)
    figure, axes = new_axes(8, 0.6 + 1.5 * len(reports), rows=len(reports))
    for axis, (title, report) in zip(axes, reports.items()):
        found = [score for score in report.scores if score is not None]
        counts = [0] * (100 // BIN)
        for score in found:
            counts[min(score // BIN, len(counts) - 1)] += 1  # the last one holds the 100
        lefts = range(0, 100, BIN)
        axis.bar(lefts, counts, width=0.94 * BIN, align="edge", color=COLORS[4])
        missing = len(report.scores) - len(found)
        axis.bar([NONE_AT], [missing], width=0.7 * BIN, color="white", edgecolor="black", hatch="///")
        label = title
        if report.mean is not None:
            axis.axvline(report.mean, color=COLORS[0], linewidth=2)
            label += f": {report.mean:.1f}"
        if report.interval is not None:
            axis.axvspan(*report.interval, color=COLORS[0], alpha=0.2)
            label += f", from {report.interval[0]:.1f} to {report.interval[1]:.1f}"
        if report.mean_with_zeros not in (None, report.mean):
            axis.axvline(report.mean_with_zeros, color="black", linestyle=":", linewidth=1.8)
            label += f"; unread as 0: {report.mean_with_zeros:.1f}"
        axis.set_title(label, fontsize=10, loc="left")
        axis.set(xlim=(NONE_AT - BIN / 2, 101), ylim=(0, 1.15 * max(*counts, missing, 1)), ylabel="entries")
        axis.set_xticks([NONE_AT, *range(0, 101, 2 * BIN)], ["none", *map(str, range(0, 101, 2 * BIN))])
        axis.yaxis.get_major_locator().set_params(integer=True)
    axes[-1].set_xlabel("score")
    return figure


def plot_outcomes(reports: Mapping[str, Outcomes]) -> Figure:
    """Return a figure with two bars for each comparison: wins, ties and losses under either convention.

    The numbers in the bars are pairs. At the right stands on which share of the judged pairs both orders agree.

    Args:
        reports: title -> report; a title may have several lines.

    Raises:
        ValueError: there are no reports.
    """
    _need(reports)
    figure, [axis] = new_axes(9, 0.9 + 0.95 * len(reports))
    places, labels = [], []
    for number, (title, report) in enumerate(reports.items()):
        for row, convention in enumerate(CONVENTIONS):
            place = 2.6 * number + row
            places.append(place)
            labels.append(convention)
            _draw_row(axis, place, report.tally(convention), named=not number + row)
        middle = 2.6 * number + 0.5
        agree = "-" if report.consistency is None else f"{report.consistency:.0%}"
        beside = {"transform": axis.get_yaxis_transform(), "va": "center"}
        axis.text(1.02, middle, f"orders agree:\n{agree}", ha="left", **beside)
        axis.text(-0.145, middle, title, ha="right", **beside)
    axis.set_yticks(places, labels, fontsize=9)
    axis.set(xlim=(0, 1), xlabel="share of the pairs that count")
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.invert_yaxis()
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def _draw_row(axis: Any, place: float, tally: Any, *, named: bool) -> None:
    """Draw wins, ties and losses as one bar of length 1."""
    total, start = tally.wins + tally.ties + tally.losses, 0.0
    for name, (color, hatch) in LOOKS.items():
        count = getattr(tally, name)
        width = count / total if total else 0.0
        look = {"color": color, "hatch": hatch, "edgecolor": "white", "label": name if named else None}
        axis.barh([place], [width], left=start, height=0.85, **look)
        if count:
            box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
            axis.text(start + width / 2, place, f"{count:,}", ha="center", va="center", fontsize=9, bbox=box)
        start += width


def _need(reports: Mapping[str, Any]) -> None:
    if not reports:
        raise ValueError("a picture needs at least one report, got none")
