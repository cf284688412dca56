"""What may come next: the most likely tokens at one place by temperature, or at each step of a written text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gptlab.decoding import Generated
from gptlab.show.figure import COLORS, new_axes
from gptlab.show.tokens import escape_formulas, families, token_labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_next_tokens(
    logits: Tensor, tokenizer: Any, *, temperatures: Sequence[float] = (0.5, 1.0, 2.0), top: int = 10
) -> Figure:
    """Return bars of the most likely next tokens, one group for each token and one bar for each temperature.

    Args:
        logits: of one place, (V,).
        tokenizer: the model's.
        temperatures: what the logits are divided by, each above 0.
        top: how many tokens.

    Raises:
        ValueError: logits of another shape, a temperature that is not above 0, none at all, or top out of [1, V].
    """
    if logits.dim() != 1:
        raise ValueError(f"logits must be those of one place, (V,), got shape {tuple(logits.shape)}")
    if not temperatures or min(temperatures) <= 0:
        raise ValueError(f"temperatures must be > 0, got {list(temperatures)}")
    if not 1 <= top <= len(logits):
        raise ValueError(f"top must be in [1, {len(logits)}], got {top}")
    logits = logits.detach().float().cpu()
    best = logits.topk(top).indices
    figure, [axis] = new_axes(width=max(4.0, 0.75 * top + 1.2), height=3.2)
    width = 0.8 / len(temperatures)
    for number, temperature in enumerate(temperatures):
        shares = torch.softmax(logits / temperature, dim=0)[best].tolist()
        left = [place - 0.4 + width * (number + 0.5) for place in range(top)]
        axis.bar(left, shares, width=width, label=f"temperature {temperature:g}")
    labels = escape_formulas(token_labels(best, tokenizer))
    axis.set_xticks(range(top), labels, fontsize=8, fontfamily=families(), rotation=35, ha="right")
    axis.set(ylabel="probability of the next token")
    axis.legend(frameon=False)
    return figure


def plot_choices(written: Generated, tokenizer: Any, *, places: int = 8) -> Figure:
    """Return a figure with a panel for each new token: what the model thought likely there, the chosen one in colour.

    Probabilities are the model's own, before temperature and filters. A token that was drawn from further down stands
    below the others.

    Args:
        written: from `generate(..., return_details=True)`, or what a stream returned, with alternatives.
        tokenizer: the model's.
        places: how many tokens to show, the first ones.

    Raises:
        ValueError: there are no alternatives to show, or places is below 1.
    """
    if places < 1:
        raise ValueError(f"places must be >= 1, got {places}")
    if not written.alternatives:
        raise ValueError("nothing to show: generate needs return_details=True, alternatives of at least 1, and a token")
    columns = list(zip(written.ids, written.logprobs, written.alternatives))[:places]
    height = 0.28 * len(written.alternatives[0]) + 1.1
    figure, axes = new_axes(width=1.75 * len(columns) + 0.4, height=height, columns=len(columns))
    names = families()
    for number, (axis, (chosen, logprob, best)) in enumerate(zip(axes, columns), start=1):
        bars = list(best) if chosen in dict(best) else [*best, (chosen, logprob)]
        shares = [math.exp(value) for _, value in bars]
        axis.barh(range(len(bars)), shares, color=[COLORS[token == chosen] for token, _ in bars])
        for place, share in enumerate(shares):
            axis.text(share + 0.03, place, f"{share:.0%}" if share >= 0.01 else "<1%", va="center", fontsize=7)
        labels = escape_formulas(token_labels([token for token, _ in bars], tokenizer))
        axis.set_yticks(range(len(bars)), labels, fontsize=8, fontfamily=names)
        for label, (token, _) in zip(axis.get_yticklabels(), bars):
            label.set_color(COLORS[1] if token == chosen else "black")  # seen even where its bar is too short
        axis.set(xlim=(0, 1.35), xticks=[], ylim=(len(bars) - 0.5, -0.5))
        axis.set_title(f"token {number}", fontsize=8)
        axis.spines["bottom"].set_visible(False)
    return figure
