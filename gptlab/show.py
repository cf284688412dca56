"""Pictures. matplotlib is imported inside the functions, so that the library works without it."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gptlab.training import History

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def can_draw() -> bool:
    """Say whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def plot_losses(panels: Mapping[str, Mapping[str, History]]) -> Figure:
    """Return a figure with one panel for each stage of training, and in it a curve for each model.

    A thin line is the loss of single batches, the thick one their running mean, dots are validation losses.

    Args:
        panels: panel title -> label -> history.
    """
    figure = new_figure(width=5.2 * len(panels), height=3.6)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, (title, histories) in zip(axes, panels.items()):
        for number, (label, history) in enumerate(histories.items()):
            steps, color = range(1, len(history.losses) + 1), f"C{number}"
            axis.plot(steps, history.losses, color=color, alpha=0.25, linewidth=0.8)
            window = min(25, max(1, len(steps) // 20))  # a longer mean would lag behind a short training
            axis.plot(steps, history.smoothed(window), color=color, linewidth=1.8, label=label)
            if history.validation:
                axis.plot(*zip(*history.validation), "o", color=color, markersize=5, label=f"{label}, validation")
        axis.set(title=title, xlabel="optimizer steps", ylabel="loss per token (nats)", ylim=(0, None))
        axis.grid(alpha=0.3)
        axis.legend()
    return figure


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches, made without pyplot: no window, no global state, and a notebook shows it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    figure._repr_png_ = lambda: to_png(figure)  # what IPython asks of an object that ends a cell
    return figure


def to_png(figure: Figure) -> bytes:
    """Return the figure as the content of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
