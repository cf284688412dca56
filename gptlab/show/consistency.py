"""How alike two models choose, beside what chance would give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from gptlab.show.figure import COLORS, new_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Chance(Protocol):
    """Mean and band of what shuffling gives."""

    mean: float
    low: float
    high: float


class Agreement(Protocol):
    """How alike two models see the options of a set of questions."""

    rank_correlation: float
    by_question: Sequence[float]
    options_shuffled: Chance
    questions_shuffled: Chance


KINDS = (("options_shuffled", "options shuffled", "#b3b3b3"), ("questions_shuffled", "questions shuffled", COLORS[5]))


def plot_consistency(agreements: Mapping[str, Agreement]) -> Figure:
    """Return a figure: for each way of asking, each question's correlation of ranks, their mean, and chance below.

    A small dot is a question, the diamond the mean. A bar is where 95 % of the shuffled means lie: a diamond outside
    the grey bar alone may be a liking for some letters that both models share.

    Args:
        agreements: such as `ConsistencyReport.agreements`.

    Raises:
        ValueError: there are none.
    """
    if not agreements:
        raise ValueError("there is nothing to draw: no agreements")
    figure, [axis] = new_axes(width=7, height=0.9 + 0.95 * len(agreements))
    for row, found in enumerate(agreements.values()):
        spread = [row - 0.1 - 0.22 * (number % 7) / 6 for number in range(len(found.by_question))]  # so that all show
        label = "a question" if row == 0 else None
        axis.scatter(found.by_question, spread, s=8, color=COLORS[0], alpha=0.35, linewidths=0, label=label)
        for place, (kind, title, color) in enumerate(KINDS):
            chance = getattr(found, kind)
            wide = max(chance.high - chance.low, 0.008)  # seen even where all shuffles are alike
            label = title if row == 0 else None
            axis.barh([row + 0.18 + 0.17 * place], [wide], left=chance.low, height=0.13, color=color, label=label)
        label = "the mean" if row == 0 else None
        axis.plot([found.rank_correlation], [row], "D", color=COLORS[1], markersize=7, label=label)
        place = (found.rank_correlation, row)
        text = f"{found.rank_correlation:.2f}"
        axis.annotate(text, place, (0, 7), textcoords="offset points", ha="center", fontsize=8, fontweight="bold")
    axis.axvline(0, color="black", linewidth=0.6)
    axis.set_yticks(range(len(agreements)), agreements)
    axis.set(xlim=(-1.06, 1.06), ylim=(len(agreements) - 0.45, -0.55), xlabel="correlation of ranks, base and tuned")
    handles, labels = axis.get_legend_handles_labels()
    axis.legend(handles, labels, frameon=False, fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure
