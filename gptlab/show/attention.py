"""Which token looks at which: attention weights as heat maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gptlab.show.figure import new_figure
from gptlab.show.tokens import families, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_attention(
    weights: Tensor, labels: Sequence[str], *, titles: Sequence[str] | None = None, columns: int = 4
) -> Figure:
    """Return a heat map for each head: a row for each query, a column for each key, white where nothing is seen.

    All maps share one scale, from 0 to 1, which dark stands for. Up to eight tokens, the numbers are written in.

    Args:
        weights: (H, T, S) or (T, S), such as `MultiHeadAttention(x, return_weights=True)` gives for one row.
        labels: the S tokens' texts; `token_labels` makes them of ids. The queries are the last T of them.
        titles: one for each map; None is "head 1", "head 2" ...
        columns: maps side by side.

    Raises:
        ValueError: the shapes, the labels and the titles do not fit together.
    """
    maps = weights.detach().float().cpu()
    maps = maps.unsqueeze(0) if maps.dim() == 2 else maps  # (H, T, S)
    if maps.dim() != 3 or maps.shape[2] != len(labels) or maps.shape[1] > len(labels):
        raise ValueError(
            f"weights must be (heads, queries, keys) with {len(labels)} keys, one for each label, got shape "
            f"{tuple(weights.shape)}"
        )
    if titles is None:
        titles = [f"head {number}" for number in range(1, len(maps) + 1)] if len(maps) > 1 else [""]
    if len(titles) != len(maps):
        raise ValueError(f"{len(maps)} maps need as many titles, got {len(titles)}")
    columns = min(columns, len(maps))
    rows = math.ceil(len(maps) / columns)
    side = max(1.9, 0.26 * len(labels) + 0.9)
    figure = new_figure(width=side * columns + 0.7, height=side * rows + 0.3)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    drawn = [*map(label, labels)]
    for axis, title, values in zip(axes, titles, maps):
        image = axis.imshow(values.numpy(), vmin=0, vmax=1, cmap="Blues")
        axis.set_xticks(range(len(drawn)), drawn, rotation=90, fontsize=7, fontfamily=families())
        axis.set_yticks(range(maps.shape[1]), drawn[-maps.shape[1] :], fontsize=7, fontfamily=families())
        axis.set_title(title, fontsize=9)
        axis.tick_params(length=0)
        if len(labels) <= 8:
            _write_numbers(axis, values)
    for axis in list(axes):  # what is left of the last row
        axis.set_visible(False)
    figure.colorbar(image, ax=figure.axes[: len(maps)], label="attention weight", shrink=0.8)
    return figure


def _write_numbers(axis, values: Tensor) -> None:
    for row, column in torch.cartesian_prod(torch.arange(values.shape[0]), torch.arange(values.shape[1])).tolist():
        value = values[row, column].item()
        if value > 0:
            color = "white" if value > 0.6 else "black"
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=color)
