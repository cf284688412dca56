"""Where AdaLoRA keeps its rank: the rank of every place over the steps."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from gptlab.show.figure import COLORS, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gptlab.peft.adalora import RankAllocation


def plot_ranks(record: RankAllocation | Sequence[tuple[int, Mapping[str, int]]]) -> Figure:
    """Return a figure: above, the ranks of all places together; below, a row for each place, bright where it is high.

    A choice of ranks holds from its step to the next choice.

    Args:
        record: AdaLoRA's hook, or what it recorded: (step, place -> rank) pairs, in the order of the steps.

    Raises:
        ValueError: nothing is recorded, the steps do not rise, or the places are not the same throughout.
    """
    from matplotlib import colormaps

    record = list(getattr(record, "ranks", record))
    steps, places = [step for step, _ in record], list(record[0][1]) if record else []
    if not places or any(list(ranks) != places for _, ranks in record) or any(b <= a for a, b in pairwise(steps)):
        raise ValueError(f"the record must hold ranks of the same places at rising steps, got steps {steps[:5]}")
    rows = [[ranks[place] for _, ranks in record] for place in places]
    edges = [*steps, steps[-1] + 1]
    figure = new_figure(width=8, height=1.9 + max(1.5, 0.15 * len(places)))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.1, max(1.5, 0.15 * len(places))])

    totals = [sum(column) for column in zip(*rows)]
    above.stairs(totals, edges, baseline=None, color=COLORS[0], linewidth=1.8)
    above.set(ylim=(0, 1.08 * max(*totals, 1)), ylabel="all ranks")
    above.spines[["top", "right"]].set_visible(False)
    above.grid(alpha=0.3)

    highest = max(1, *map(max, rows))
    colors = colormaps["viridis"].resampled(highest + 1)  # one for each rank
    heat = below.pcolormesh(edges, range(len(places) + 1), rows, cmap=colors, vmin=-0.5, vmax=highest + 0.5)
    below.set_yticks([row + 0.5 for row in range(len(places))], [_short(place) for place in places])
    below.tick_params(axis="y", length=0, labelsize=8 if len(places) <= 24 else 6.5)
    below.set(xlabel="optimizer steps", xlim=(edges[0], edges[-1]))
    below.invert_yaxis()  # the first layer on top
    bar = figure.colorbar(heat, ax=below, label="rank", fraction=0.04, pad=0.015)
    bar.ax.yaxis.get_major_locator().set_params(integer=True)
    return figure


def _short(place: str) -> str:
    """Return "3 W_query" for "trf_blocks.3.att.W_query"."""
    return re.sub(r"^trf_blocks\.(\d+)\.(att\.)?", r"\1 ", place)
