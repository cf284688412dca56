"""Pictures. matplotlib is imported inside the functions, so that the library works without it."""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gptlab.decoding import Generated
from gptlab.training import History, RateSearch

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


def plot_next_tokens(written: Generated, tokenizer: Any, *, places: int = 8) -> Figure:
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
    figure = new_figure(width=1.75 * len(columns) + 0.4, height=0.28 * len(written.alternatives[0]) + 1.1)
    families = _families()
    for number, (axis, (chosen, logprob, best)) in enumerate(
        zip(figure.subplots(1, len(columns), squeeze=False)[0], columns), start=1
    ):
        bars = list(best) if chosen in dict(best) else [*best, (chosen, logprob)]
        shares = [math.exp(value) for _, value in bars]
        axis.barh(range(len(bars)), shares, color=["C1" if token == chosen else "C0" for token, _ in bars])
        for place, share in enumerate(shares):
            axis.text(share + 0.03, place, f"{share:.0%}" if share >= 0.01 else "<1%", va="center", fontsize=7)
        labels = [_drawable(_token_text(tokenizer, token), families) for token, _ in bars]
        axis.set_yticks(range(len(bars)), labels, fontsize=8, fontfamily=families)
        for label, (token, _) in zip(axis.get_yticklabels(), bars):
            label.set_color("C1" if token == chosen else "black")  # seen even where its bar is too short
        axis.set(xlim=(0, 1.35), xticks=[], ylim=(len(bars) - 0.5, -0.5))
        axis.set_title(f"token {number}", fontsize=8)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    return figure


def plot_learning_rates(search: RateSearch) -> Figure:
    """Return a figure of the loss over the learning rates that `find_learning_rate` tried, with its suggestion."""
    figure = new_figure(width=5.2, height=3.2)
    axis = figure.subplots()
    axis.plot(search.rates, search.losses, color="C0", alpha=0.3, linewidth=1)
    axis.plot(search.rates, search.smoothed, color="C0")
    axis.axvline(search.suggestion, color="C1", linestyle="--")
    axis.annotate(
        f" {search.suggestion:.1e}", (search.suggestion, 0.95), xycoords=("data", "axes fraction"), color="C1"
    )
    low, high = min(search.smoothed), search.smoothed[0]
    axis.set(xscale="log", ylim=(low - 0.2 * (high - low), high + 0.6 * (high - low)))
    axis.set(xlabel="learning rate", ylabel="loss (nats per token)")
    axis.spines[["top", "right"]].set_visible(False)
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


_CHINESE_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei"),
    *("PingFang SC", "Hiragino Sans GB", "Heiti SC", "Microsoft YaHei", "SimHei", "Arial Unicode MS"),
)


def _families() -> list[str]:
    """Return matplotlib's own font, and the fonts with Chinese characters that are installed."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _CHINESE_FONTS if name in installed)]


def _drawable(text: str, families: Sequence[str]) -> str:
    """Return the text with an escape in place of every character that no font has, since boxes look all alike."""
    from matplotlib import font_manager

    fonts = [font_manager.get_font(font_manager.findfont(name)) for name in families]
    has = [any(font.get_char_index(ord(character)) for font in fonts) for character in text]
    escaped = "".join(
        character if known else character.encode("unicode_escape").decode() for character, known in zip(text, has)
    )
    return escaped.replace("$", r"\$")  # a pair of dollars would be a formula


def _token_text(tokenizer: Any, token: int) -> str:
    """Return a token as a reader can tell it from others: spaces and line ends seen, half characters as bytes."""
    bytes_of = getattr(tokenizer, "decode_single_token_bytes", None)
    if bytes_of is None:
        text = tokenizer.decode([token])
    else:
        try:
            text = bytes_of(token).decode("utf-8")
        except UnicodeDecodeError:
            return "".join(f"\\x{byte:02x}" for byte in bytes_of(token))
    return text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥") or "(nothing)"
