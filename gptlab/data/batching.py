"""From examples of different lengths to one batch of inputs and next-token targets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gptlab.data.segments import Example

IGNORE_INDEX = -100  # what torch's cross_entropy leaves out by default


def collate(examples: Sequence[Example], *, pad_id: int) -> tuple[Tensor, Tensor]:
    """Stack examples into inputs and next-token targets: `targets[b, t]` is to follow `inputs[b, t]`.

    Positions past an example's end, and targets that are not trained on, hold IGNORE_INDEX. The end is found by
    length, never by token value, so an end-of-text id inside an example stays a target.

    Args:
        examples: at least one.
        pad_id: what fills the inputs up; any id will do, since no target sees it.

    Returns:
        Inputs and targets, each (B, T) int64, T = longest example - 1.

    Raises:
        ValueError: there are no examples, or one is shorter than two tokens and so has no target.

    >>> inputs, targets = collate([Example([5, 6, 7, 9], [False, False, True, True])], pad_id=0)
    >>> inputs.tolist(), targets.tolist()
    ([[5, 6, 7]], [[-100, 7, 9]])
    """
    check_examples(examples)
    T = max(len(example.ids) for example in examples) - 1
    inputs = torch.full((len(examples), T), pad_id)
    targets = torch.full((len(examples), T), IGNORE_INDEX)
    for row, (ids, trained) in enumerate(examples):
        ids, end = torch.tensor(ids), len(ids) - 1
        inputs[row, :end] = ids[:-1]
        targets[row, :end] = ids[1:].where(torch.tensor(trained[1:]), IGNORE_INDEX)
    return inputs, targets


def check_examples(examples: Sequence[Example]) -> None:
    """Make sure that there are examples, and that each has a target.

    Raises:
        ValueError: there are none, or one is shorter than two tokens.
    """
    if not examples:
        raise ValueError("a batch needs at least one example, got none")
    shortest = min(len(example.ids) for example in examples)
    if shortest < 2:
        raise ValueError(f"an example needs at least 2 tokens to have a target, got {shortest}")
