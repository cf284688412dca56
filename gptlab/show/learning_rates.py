"""What `find_learning_rate` tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gptlab.show.figure import COLORS, new_axes
from gptlab.training import RateSearch

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_learning_rates(search: RateSearch) -> Figure:
    """Return a figure of the loss over the learning rates that `find_learning_rate` tried, with its suggestion."""
    figure, [axis] = new_axes(width=5.2, height=3.2)
    axis.plot(search.rates, search.losses, color=COLORS[0], alpha=0.3, linewidth=1)
    axis.plot(search.rates, search.smoothed, color=COLORS[0])
    axis.axvline(search.suggestion, color=COLORS[1], linestyle="--")
    axis.annotate(
        f" {search.suggestion:.1e}", (search.suggestion, 0.95), xycoords=("data", "axes fraction"), color=COLORS[1]
    )
    low, high = min(search.smoothed), search.smoothed[0]
    axis.set(xscale="log", ylim=(low - 0.2 * (high - low), high + 0.6 * (high - low)))
    axis.set(xlabel="learning rate", ylabel="loss (nats per token)")
    return figure
