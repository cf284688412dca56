"""An empty figure and its PNG. matplotlib is imported inside the functions, so that the library works without it."""

from __future__ import annotations

import importlib.util
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which everyone can tell apart, without the yellow, which is pale on white.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")


def can_draw() -> bool:
    """Say whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, in inches, made without pyplot: no window, no global state, and a notebook shows it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", dpi=120)
    figure._repr_png_ = lambda: to_png(figure)  # what IPython asks of an object that ends a cell
    return figure


def new_axes(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return an empty figure and its axes, row by row, whose curves take COLORS in turn."""
    from cycler import cycler
    from matplotlib import rc_context

    figure = new_figure(width, height)
    with rc_context({"axes.prop_cycle": cycler(color=COLORS), "axes.spines.top": False, "axes.spines.right": False}):
        return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def to_png(figure: Figure) -> bytes:
    """Return the figure as the content of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
