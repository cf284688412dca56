"""From examples to a DataLoader: shuffled, grouped by length or packed, and the same again after a restart."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch.utils.data import DataLoader

from gptlab.data.batching import collate
from gptlab.data.grouping import ShuffledBatches
from gptlab.data.mixing import Mixture
from gptlab.data.packing import collate_packed
from gptlab.data.segments import Example


def make_loader(
    examples: Sequence[Example] | Mixture,
    batch_size: int | None = 8,
    *,
    max_tokens: int | None = None,
    group_by_length: bool = True,
    packing: int | None = None,
    pad_id: int = 0,
    seed: int = 0,
) -> DataLoader:
    """Return shuffled batches of examples: inputs and targets, and documents if they are packed.

    Args:
        examples: such as those of an `InstructionDataset`; or a `Mixture`, which has others each epoch.
        batch_size: the most examples in a batch; None sets no limit.
        max_tokens: the most tokens in a batch, padding counted; None sets no limit. Not for a mixture.
        group_by_length: whether a batch holds examples of about the same length.
        packing: how many tokens a row may hold if the examples of a batch are to share rows; None gives each its own.
            Packed batches need no grouping, and are mixed unless max_tokens is given.
        pad_id: what fills inputs up; any id will do.
        seed: of the order; `train` tells the epoch.

    Raises:
        ValueError: see `ShuffledBatches`.
    """
    numbers = None
    if isinstance(examples, Mixture):
        examples, numbers = examples.examples, examples.numbers
    lengths = [len(example.ids) - 1 for example in examples]
    grouped = group_by_length and (packing is None or max_tokens is not None)
    order = ShuffledBatches(
        lengths, batch_size, max_tokens=max_tokens, group_by_length=grouped, seed=seed, numbers=numbers
    )
    join = (
        partial(collate, pad_id=pad_id) if packing is None else partial(collate_packed, pad_id=pad_id, length=packing)
    )
    return DataLoader(examples, batch_sampler=order, collate_fn=join)
