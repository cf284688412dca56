"""Kinds of values that options take, and options that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gptlab.weights import Checkpoint

MODEL = "a checkpoint or adapter directory, or a name of GPT-2 such as 124M or gpt2-medium"
TEMPLATE = "alpaca, chatml, moss ..., or a .json file; None takes the checkpoint's"


def at_least(least: int) -> Callable[[str], int]:
    """Return what reads a whole number that is not smaller."""

    def whole_number(text: str) -> int:
        if not text.lstrip("-").isdigit() or not least <= int(text) < 2**63:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to 2^63 - 1, got {text!r}")
        return int(text)

    return whole_number


def text(value: str) -> str:
    """Read text that is not empty."""
    if not value:
        raise argparse.ArgumentTypeError("must not be empty")
    return value


def share(value: str) -> float:
    """Read a share, more than nothing and less than all."""
    try:
        number = float(value)
    except ValueError:
        number = -1.0
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"must be a number between 0 and 1, got {value!r}")
    return number


def path(value: str) -> Path:
    """Read a path that is not empty."""
    return Path(text(value))


def names(value: str) -> tuple[str, ...]:
    """Read names with commas between them, in brackets or not.

    >>> names("[W_query, W_value]"), names("W_key,ff.layers.[02]")
    (('W_query', 'W_value'), ('W_key', 'ff.layers.[02]'))
    """
    inner = value.strip()
    if inner[:1] + inner[-1:] == "[]":
        inner = inner[1:-1]
    found = tuple(name.strip().strip("'\"") for name in inner.split(","))
    if not all(found):
        raise argparse.ArgumentTypeError(f"must be names with commas between them, got {value!r}")
    return found


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the options that `open_model` takes."""
    parser.add_argument("--model", type=text, required=True, help=MODEL)
    parser.add_argument("--base", type=text, help="the checkpoint under an adapter; None is the one that it remembers")


def open_model(options: argparse.Namespace) -> Checkpoint:
    """Return the checkpoint that the options name, or the adapter on its base.

    Raises:
        FileNotFoundError: there is no such checkpoint, or the adapter's base is gone.
        ValueError: a file is damaged, or a base is given where there is no adapter.
    """
    from gptlab.devices import pick_device
    from gptlab.peft import is_adapter, load_tuned
    from gptlab.peft.io import find_base
    from gptlab.weights import load_checkpoint

    device, show = pick_device(options.device), {"progress": not options.quiet}
    if is_adapter(options.model):
        base = options.base or find_base(options.model, option="--base")
        return load_tuned(options.model, device, base=base, **show)
    if options.base:
        raise ValueError(f"{options.model} is no adapter, and --base is for adapters")
    return load_checkpoint(options.model, device, **show)
