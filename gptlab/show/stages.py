"""How training in stages went: what each learned, and what was forgotten meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gptlab.show.figure import COLORS, new_axes
from gptlab.training import StagesHistory

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_stages(history: StagesHistory) -> Figure:
    """Return a figure of all stages, one after the other: the training loss and, below it, the forgetting curve.

    A thin line is the loss of single batches, the thick one their running mean within the stage; dotted lines are
    where stages meet. Without measurements on a validation text there is no second panel.
    """
    panels = 2 if history.forgetting else 1
    figure, axes = new_axes(width=7.5, height=0.8 + 2.6 * panels, rows=panels)
    for number, (name, border, stage) in enumerate(zip(history.names, history.borders, history.histories)):
        steps, color = range(border + 1, border + stage.steps + 1), COLORS[number % len(COLORS)]
        window = min(25, max(1, stage.steps // 20))
        axes[0].plot(steps, stage.losses, color=color, alpha=0.25, linewidth=0.8)
        axes[0].plot(steps, stage.smoothed(window), color=color, linewidth=1.8, label=name)
        if panels == 2 and stage.validation:
            measured = [(border + step, loss) for step, loss in stage.validation]
            axes[1].plot(*zip(*measured), "o-", color=color, markersize=4, linewidth=1.8, clip_on=False)
    for axis in axes:
        for border in history.borders[1:]:
            axis.axvline(border, color="black", linewidth=1, linestyle=":")
        axis.set(xlim=(0, len(history.losses)), ylim=(0, 1.05 * axis.dataLim.y1), ylabel="loss per token (nats)")
        axis.grid(alpha=0.3)
    axes[0].set(title="Training loss")
    if panels == 2:
        axes[1].set(title="Forgetting: loss on the validation text")
    axes[-1].set(xlabel="optimizer steps, all stages")
    columns = max(1, 85 // (8 + max(map(len, history.names))))  # as many as the width has room for
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=columns)
    return figure
