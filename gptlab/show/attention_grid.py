"""All attention maps of a model at once: a row for each layer, a column for each head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from gptlab.show.figure import new_figure
from gptlab.show.tokens import families, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LABELS = 24  # more are not readable at this size


def plot_attention_grid(weights: Tensor, labels: Sequence[str] | None = None, *, side: float | None = None) -> Figure:
    """Return a heat map for each head of each layer, small, to find those worth a look with `plot_attention`.

    All maps share one scale, from 0 to 1, which dark stands for. A query is a row, a key a column.

    Args:
        weights: (layers, H, T, S), as `gptlab.analysis.attention_maps` gives them.
        labels: the S tokens' texts, written at the left and the lower edge while they are few.
        side: of one map, in inches; None takes what suits the number of tokens.

    Raises:
        ValueError: the shapes and the labels do not fit together.
    """
    maps = weights.detach().float().cpu()
    if maps.dim() != 4 or 0 in maps.shape:
        raise ValueError(f"weights must be (layers, heads, queries, keys), got shape {tuple(weights.shape)}")
    layers, heads, T, S = maps.shape
    if labels is not None and (len(labels) != S or T > S):
        raise ValueError(f"{S} keys need as many labels, got {len(labels)} and {T} queries")
    labelled = labels is not None and S <= MOST_LABELS
    side = side or (max(1.1, 0.13 * S) if labelled else 1.1)
    figure = new_figure(width=side * heads + 1.4, height=side * layers + 0.9)
    axes = figure.subplots(layers, heads, squeeze=False, sharex=True, sharey=True)
    for layer, row in enumerate(axes):
        for head, axis in enumerate(row):
            image = axis.imshow(maps[layer, head].numpy(), vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
            axis.tick_params(length=0)
            axis.set(xticks=[], yticks=[])
            if layer == 0:
                axis.set_title(f"head {head + 1}", fontsize=8)
        row[0].set_ylabel(f"layer {layer + 1}", fontsize=8)
    if labelled:
        drawn, size = [*map(label, labels)], 5.5
        for axis in axes[-1]:
            axis.set_xticks(range(S), drawn, rotation=90, fontsize=size, fontfamily=families())
        for row in axes:
            row[0].set_yticks(range(T), drawn[-T:], fontsize=size, fontfamily=families())
    figure.colorbar(image, ax=axes, label="attention weight", shrink=min(1.0, 2.4 / (side * layers)))
    return figure
