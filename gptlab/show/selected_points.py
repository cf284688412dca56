"""Entries as points in the plane, with those that each method picked: what was covered, and what was passed over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from gptlab.show.figure import COLORS, new_axes
from gptlab.show.tokens import families, label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREY = "#c8c8c8"


def plot_selected_points(
    embeddings: Any, selections: Mapping[str, Sequence[int]], *, columns: int = 3, captions: Sequence[str] = ()
) -> Figure:
    """Return a figure with one plane for each selection: all entries in grey, those picked in colour.

    Vectors of more than two dimensions are drawn by their first two principal components. The plane shows so much of
    what they differ in as the axes' labels say; points that lie together in it may be far apart otherwise.

    Args:
        embeddings: (n, dimensions) numbers; with two dimensions they are drawn as they are.
        selections: title -> numbers of the entries picked.
        columns: planes in a row.
        captions: a line under each title, such as what the selection covers.

    Raises:
        ValueError: there are no selections, another number of captions, columns is below 1, embeddings are not finite
            numbers (n, dimensions >= 2), or a selection has a number that is no entry's.
    """
    if isinstance(embeddings, Tensor):
        embeddings = embeddings.detach().double().cpu()
    rows = np.asarray(embeddings, dtype=np.float64)
    if rows.ndim != 2 or not len(rows) or rows.shape[1] < 2 or not np.isfinite(rows).all():
        raise ValueError(f"embeddings must be finite numbers (n, dimensions >= 2), got shape {rows.shape}")
    if not selections:
        raise ValueError("a picture needs at least one selection, got none")
    if columns < 1:
        raise ValueError(f"columns must be >= 1, got {columns}")
    if captions and len(captions) != len(selections):
        raise ValueError(f"{len(selections)} selections need as many captions, got {len(captions)}")
    for title, picked in selections.items():
        wrong = [number for number in picked if not 0 <= number < len(rows)]
        if wrong:
            raise ValueError(f"{title!r} picks from {len(rows)} entries, got entry {wrong[0]!r}")
    points, labels = (rows, ("", "")) if rows.shape[1] == 2 else _principal_plane(rows)
    columns = min(columns, len(selections))
    lines = -(-len(selections) // columns)
    figure, axes = new_axes(3.4 * columns, 3.6 * lines, lines, columns)
    size = float(np.clip(6000 / len(points), 2, 24))  # thousands of large points would be one spot
    for number, (title, picked) in enumerate(selections.items()):
        axis, chosen = axes[number], points[list(picked)]
        axis.scatter(*points.T, s=size, color=GREY, linewidths=0)
        look = {"s": max(size, 14), "color": COLORS[number % len(COLORS)], "edgecolors": "white", "linewidths": 0.4}
        axis.scatter(*chosen.T, **look)
        lines_of_title = [
            f"{label(title)}: {len(chosen):,} of {len(points):,}",
            *map(label, captions[number : number + 1]),
        ]
        axis.set_title("\n".join(lines_of_title), fontsize=10, fontfamily=families())
        axis.set(xlabel=labels[0], ylabel=labels[1], xticks=[], yticks=[])
        axis.set_aspect("equal", adjustable="datalim")
    for axis in axes[len(selections) :]:
        axis.set_axis_off()
    return figure


def _principal_plane(rows: np.ndarray) -> tuple[np.ndarray, tuple[str, str]]:
    """Return the points (n, 2) in the plane in which the rows vary most, and its axes' labels."""
    centred = rows - rows.mean(axis=0)
    variances, directions = np.linalg.eigh(centred.T @ centred)  # the largest last
    first_two = directions[:, :-3:-1]
    first_two = first_two * np.where(first_two.sum(axis=0) < 0, -1, 1)  # either sign is right; this one is always taken
    shares = variances[:-3:-1] / max(variances.sum(), 1e-300)
    first, second = (f"component {number}: {share:.0%}" for number, share in enumerate(shares, start=1))
    return centred @ first_two, (first, second)
