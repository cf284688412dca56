"""Tune a checkpoint on instruction entries: split, train, and save after every epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from gptlab.data import InstructionDataset, collate, split_entries
from gptlab.data.instruction import TooLong
from gptlab.data.templates import Template, TrainOn, load_template
from gptlab.training.history import History
from gptlab.training.loop import make_optimizer, train
from gptlab.training.schedule import warmup_cosine
from gptlab.weights import Checkpoint, save_checkpoint


def finetune(
    start: Checkpoint,
    entries: Sequence[Mapping[str, Any]],
    out: str | Path,
    *,
    val_share: float = 0.1,
    epochs: int = 2,
    batch_size: int = 8,
    learning_rate: float = 2e-4,
    train_on: TrainOn = "response",
    template: str | Path | Template | None = None,
    too_long: TooLong = "drop",
    seed: int = 0,
    tell: Callable[[str], None] | None = None,
    progress: bool = False,
) -> History:
    """Tune `start.model` in place and save it to `out` after every epoch.

    Args:
        start: what to begin with; it stays on its device.
        entries: Alpaca entries.
        out: the directory of the new checkpoint.
        val_share: the share of the entries that is only measured, in (0, 1).
        epochs: how often to go through the other entries.
        batch_size: entries in a step.
        learning_rate: the peak; the rate warms up over a twentieth of the steps and falls to a tenth.
        train_on: "response" or "all".
        template: None keeps that of `start`, or takes Alpaca's for a model that was never tuned and so has "plain".
        too_long: what becomes of entries beyond the context; see `InstructionDataset`.
        seed: of the split and of the batches' order.
        tell: takes a line about the data and one for each epoch.
        progress: whether to show a bar.

    Returns:
        The history, with validation losses before the first epoch and after each.

    Raises:
        ValueError: a setting is out of range, an entry is not one, or a split is empty.
        FloatingPointError: training diverged; `out` holds the last epoch that went well, if there was one.
    """
    if batch_size < 1 or epochs < 1:
        raise ValueError(f"batch_size and epochs must be >= 1, got {batch_size} and {epochs}")
    model, tokenizer = start.model, start.tokenizer
    context = model.cfg.context_length
    if template is None:
        template = load_template("alpaca") if start.template.name == "plain" else start.template
    elif not isinstance(template, Template):
        template = load_template(template)
    tell = tell or (lambda line: None)

    dataset = InstructionDataset(entries, tokenizer, template, train_on, context_length=context, too_long=too_long)
    training, validation = split_entries(dataset.examples, val_share, seed=seed)
    tell(f"{len(training)} entries to train on, {len(validation)} to validate; {dataset.length_report()}")
    generator = torch.Generator().manual_seed(seed)
    loader = partial(DataLoader, batch_size=batch_size, collate_fn=partial(collate, pad_id=0))
    batches = loader(training, shuffle=True, generator=generator)
    optimizer = make_optimizer(model, learning_rate)
    steps = epochs * len(batches)

    def after_epoch(epoch: int, history: History) -> None:
        save_checkpoint(out, model, tokenizer, template)
        before, now = history.validation[0][1], history.validation[-1][1]
        tell(
            f"epoch {epoch} of {epochs}: validation loss {now:.3f} nats per token ({before:.3f} before); saved to {out}"
        )

    return train(
        model,
        batches,
        optimizer=optimizer,
        schedule=warmup_cosine(optimizer, steps, round(0.05 * steps)),
        epochs=epochs,
        device=next(model.parameters()).device,
        validation=loader(validation),
        after_epoch=after_epoch,
        progress=progress,
        title="tuning",
    )
