"""The book's picture of a training: two curves over epochs, and along the top what was seen until then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_over_epochs(epochs_seen: Any, seen: Any, train_values: Any, val_values: Any, label: str, top: str) -> Figure:
    """Return the picture, which is pyplot's current figure too, so that `plt.savefig` and `plt.show` mean it.

    A notebook shows it once, at the end of the cell, whether or not it is the cell's last value.
    """
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    figure = pyplot.figure(figsize=(5, 3), layout="constrained")
    figure._ipython_display_ = lambda: None
    axis = figure.subplots()
    axis.plot(epochs_seen, train_values, label=f"Training {label}")
    axis.plot(epochs_seen, val_values, linestyle="-.", label=f"Validation {label}")
    axis.set(xlabel="Epochs", ylabel=label.capitalize())
    axis.legend()
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    upper = axis.twiny()
    upper.plot(seen, train_values, alpha=0)  # nothing to see: it gives the upper axis its range
    upper.set_xlabel(top)
    return figure
