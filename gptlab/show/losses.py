"""How training went: the loss over the steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gptlab.show.figure import COLORS, new_axes
from gptlab.training import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_losses(panels: Mapping[str, Mapping[str, History]]) -> Figure:
    """Return a figure with one panel for each stage of training, and in it a curve for each model.

    A thin line is the loss of single batches, the thick one their running mean, dots are validation losses.

    Args:
        panels: panel title -> label -> history.
    """
    figure, axes = new_axes(width=5.2 * len(panels), height=3.6, columns=len(panels))
    for axis, (title, histories) in zip(axes, panels.items()):
        for number, (label, history) in enumerate(histories.items()):
            steps, color = range(1, len(history.losses) + 1), COLORS[number % len(COLORS)]
            axis.plot(steps, history.losses, color=color, alpha=0.25, linewidth=0.8)
            window = min(25, max(1, len(steps) // 20))  # a longer mean would lag behind a short training
            axis.plot(steps, history.smoothed(window), color=color, linewidth=1.8, label=label)
            if history.validation:
                axis.plot(*zip(*history.validation), "o", color=color, markersize=5, label=f"{label}, validation")
        axis.set(title=title, xlabel="optimizer steps", ylabel="loss per token (nats)", ylim=(0, None))
        axis.grid(alpha=0.3)
        axis.legend()
    return figure
