"""What each layer would say at each place of a text: an annotated heat map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

from torch import Tensor

from gptlab.show.figure import new_figure
from gptlab.show.tokens import escape_formulas, families, token_labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Lens(Protocol):
    """What each layer says, row 0 the embeddings, as `gptlab.analysis.logit_lens` reports it."""

    ids: Tensor
    tokens: Tensor
    probabilities: Tensor
    targets: Tensor
    target_ranks: Tensor
    target_probabilities: Tensor
    layers: list[str]


def plot_logit_lens(lens: Lens, tokenizer: Any, *, color: Literal["best", "target"] = "best", last: int = 12) -> Figure:
    """Return a heat map: a column for each place of the text, a row for each layer, the last layer on top.

    In each cell stands the token that the layer likes best; below it the rank of the target, unless that is 1. Bold
    cells have the target first. The line above tells the targets.

    Args:
        lens: what `logit_lens` found.
        tokenizer: the model's.
        color: what dark stands for: "best", the probability of the token in the cell; "target", that of the target.
        last: how many places are drawn, the last ones.

    Raises:
        ValueError: color is neither, or last is below 1.
    """
    if color not in ("best", "target"):
        raise ValueError(f"color must be 'best' or 'target', got {color!r}")
    if last < 1:
        raise ValueError(f"last must be >= 1, got {last}")
    best, ranks = lens.tokens[:, -last:, 0], lens.target_ranks[:, -last:]
    shares = lens.probabilities[:, -last:, 0] if color == "best" else lens.target_probabilities[:, -last:]
    rows, columns = best.shape
    figure = new_figure(width=0.78 * columns + 1.9, height=0.42 * rows + 1.7)
    axis, names = figure.subplots(), families()
    image = axis.imshow(shares.numpy(), vmin=0, vmax=1, cmap="Blues", aspect="auto", origin="lower")
    for row in range(rows):
        labels = _labels(best[row], tokenizer)
        for column in range(columns):
            rank, dark = int(ranks[row, column]), float(shares[row, column]) > 0.55
            look = {"ha": "center", "color": "white" if dark else "black", "fontfamily": names}
            low = 0.13 if rank > 1 else 0
            weight = "normal" if rank > 1 else "bold"
            axis.text(column, row + low, labels[column], va="center", fontsize=8, fontweight=weight, **look)
            if rank > 1:
                axis.text(column, row - 0.28, f"rank {rank:,}", va="center", fontsize=5.5, **look)
    axis.set_xticks(range(columns), _labels(lens.ids[-last:], tokenizer), fontsize=8, fontfamily=names)
    axis.set_yticks(range(rows), lens.layers, fontsize=8)
    axis.tick_params(length=0)
    axis.set_xlabel("the text, and what each layer would say next")
    above = axis.secondary_xaxis("top")
    above.set_xticks(range(columns), _labels(lens.targets[-last:], tokenizer), fontsize=8, fontfamily=names)
    above.tick_params(length=0)
    above.set_xlabel("target", fontsize=8)
    of = "the token in the cell" if color == "best" else "the target"
    figure.colorbar(image, ax=axis, label=f"probability of {of}", fraction=0.05, pad=0.02)
    return figure


def _labels(ids: Sequence[int] | Tensor, tokenizer: Any) -> list[str]:
    return escape_formulas(token_labels([int(token) for token in ids], tokenizer))
