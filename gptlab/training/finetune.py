"""Tune a checkpoint on entries or conversations: split, see whether it fits, train, save, and go on after a stop."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from gptlab.data import (
    ChatFormat,
    ConversationDataset,
    Example,
    InstructionDataset,
    Mixture,
    Template,
    another_template,
    find_format,
    find_template,
    is_entry,
    load_template,
    make_loader,
    split_entries,
    text_examples,
)
from gptlab.data.conversation_dataset import Arrangement
from gptlab.data.instruction import TooLong, dolly_entry
from gptlab.data.templates import TrainOn
from gptlab.files import read_json, to_json, write_text
from gptlab.model import GPTModel
from gptlab.tokenizer import Tokenizer, as_tokenizer, tokenizer_files, with_special_tokens
from gptlab.training.checkpoint import TrainingCheckpoints
from gptlab.training.estimate import foresee
from gptlab.training.history import History, history_from_dict
from gptlab.training.loop import train
from gptlab.training.optimizer import make_optimizer
from gptlab.training.processes import process_count, process_number, wait_for_all
from gptlab.training.random_states import own_random_numbers
from gptlab.training.schedule import choose_schedule
from gptlab.training.tuning import FullTuning, Tuning
from gptlab.weights import Checkpoint, add_special_tokens, weights_digest

FINISHED = "history.json"  # what a run leaves when it is over: its settings and its history


def finetune(
    start: Checkpoint,
    entries: Sequence[Any],
    out: str | Path,
    *,
    tuning: Tuning | None = None,
    val_share: float = 0.1,
    epochs: int = 2,
    batch_size: int = 8,
    max_tokens: int | None = None,
    micro_batches: int = 1,
    group_by_length: bool = True,
    packing: bool = False,
    learning_rate: float | None = None,
    schedule: Literal["cosine", "constant"] = "cosine",
    warmup_steps: int | None = None,
    train_on: TrainOn = "response",
    template: str | Path | Template | ChatFormat | None = None,
    arrangement: Arrangement = "per_session",
    loss_on: str | None = None,
    special_tokens: bool = True,
    text: Sequence[str] = (),
    text_share: float = 0.3,
    cutoff_len: int | None = None,
    too_long: TooLong = "drop",
    precision: str = "float32",
    recompute: bool = False,
    compile: bool = False,
    save_every: int = 100,
    keep: int = 2,
    resume: bool = False,
    seed: int = 0,
    tell: Callable[[str], None] | None = None,
    progress: bool = False,
) -> History:
    """Tune `start.model` in place and save it to `out` after every epoch.

    With new special tokens the model grows; `load_checkpoint(out)` gives it with the tokenizer and form that it then
    needs.

    `out` also gets metrics.jsonl, a line for every step, and history.json when training is over. Until then the folder
    `checkpoints` in it holds the last states, from which `resume` goes on, with the same result to the bit on the same
    machine and number of threads.

    Started by torchrun, the processes share the rows of every batch; losses and result are those of one process.

    Args:
        start: what to begin with; it stays on its device.
        entries: Alpaca entries, or conversations of any form that `as_conversation` knows.
        out: the directory of the new checkpoint.
        tuning: what learns: None is all weights; `gptlab.peft.AdapterTuning(LoRA(rank=8))` puts an adapter on and saves
            only that.
        val_share: the share of the entries that is only measured, in [0, 1); a whole number from 1 is how many.
        epochs: how often to go through the other entries.
        batch_size: entries in a step.
        max_tokens: the most tokens in a step, padding counted; a long entry then comes with few others.
        micro_batches: in how many parts a step is computed, one after the other, to save memory.
        group_by_length: whether a batch holds entries of about the same length, so that little is padded. Packed
            batches are mixed, unless max_tokens is given.
        packing: whether entries of a batch share rows as long as the context, without seeing each other.
        learning_rate: the peak; None is what usually suits the way of tuning.
        schedule: what the rate does after the warm-up: "cosine" falls to a tenth, "constant" stays.
        warmup_steps: in which the rate rises; None is a twentieth of all steps.
        train_on: "response" or "all".
        template: for entries a template, for conversations a format, see `find_format`. None keeps that of `start`, or
            takes Alpaca's for a model that was never tuned and so has "plain".
        arrangement: of conversations: "per_session", one sample, or "per_turn", one for each turn.
        loss_on: of conversations: a loss rule, see `render`; None is the format's own.
        special_tokens: whether the format's marks become tokens, for which the model grows.
        text: documents of pretraining text that are mixed in, with the loss on all their tokens, so that the model
            does not forget what it read.
        text_share: the share of a step's rows that is such text, in (0, 1).
        cutoff_len: the most tokens of an entry or conversation; None is what the context holds.
        too_long: what becomes of entries beyond that; see `InstructionDataset`. Of conversations whole turns
            are left out, see `ConversationDataset`; "cut" is not for them.
        precision: of the matrix products: "float32", "bfloat16" or "float16".
        recompute: whether blocks are computed twice to save memory; see `train`.
        compile: whether to compile the blocks; see `train`.
        save_every: optimizer steps from one saved state to the next.
        keep: how many of the last states stay.
        resume: whether to go on from the last saved state; without one, training starts afresh and says so. A run
            that is over is not trained again; its weights are put into the model.
        seed: of the split, the batches' order and dropout.
        tell: takes a line about the data, about what training will take, and one for each epoch.
        progress: whether to show a bar.

    Returns:
        The history, with validation losses before the first epoch and after each.

    Raises:
        ValueError: a setting is out of range, an entry is not one, a split is empty, the model has an adapter already,
            `out` holds something else, the run cannot fit into memory, or `resume` finds a run with other settings or
            other data.
        FloatingPointError: training diverged; `out` holds the last epoch that went well, if there was one.
        OSError: the disk is full; what was saved before is complete.
    """
    tuning = tuning or FullTuning()
    learning_rate = tuning.learning_rate if learning_rate is None else learning_rate
    chosen = {name: value for name, value in locals().items() if name in _DECISIVE} | {"tuning": tuning.to_dict()}
    _check_numbers(epochs, batch_size, micro_batches, val_share)
    tell = tell if tell is not None and process_number() == 0 else (lambda line: None)
    out, model = Path(out), start.model
    learning, added = tuning.count(model, start.tokenizer)
    context = _context(model.cfg.context_length - tuning.virtual_tokens, cutoff_len)
    conversations = {"arrangement": arrangement, "loss_on": loss_on, "special_tokens": special_tokens and tuning.grows}
    before = _with_template(start, template, tell)
    dataset, tuned = _prepare(before, entries, train_on, context, too_long, **conversations)
    training, validation = _split(dataset, val_share, seed, tell)
    if text:
        training = _with_text(training, text, text_share, tuned.tokenizer, seed)
        tell(str(training.report(epochs)))
    loader = partial(make_loader, batch_size=batch_size, max_tokens=max_tokens, seed=seed)
    batches = loader(training, group_by_length=group_by_length, packing=context if packing else None)
    settings = chosen | _digests(start, tuned, dataset.examples, text)
    run = _Run(out, tuning, model, settings, save_every, keep, resume, tell)
    if run.finished is not None:
        _grow(start, tuned)
        tuning.load(model, out)
        return run.finished
    steps, parts = epochs * len(batches), {"micro_batches": micro_batches, "recompute": recompute}
    begin = partial(tuning.begin, tokenizer=tuned.tokenizer, seed=seed, total_steps=steps)
    tell(foresee(model, batches, steps, learning, added=added, begin=begin, **parts))
    _grow(start, tuned)  # when hardly anything can be refused any more
    hooks = begin(model)
    optimizer = make_optimizer(model, learning_rate, tuning.weight_decay)
    rates = choose_schedule(schedule)(optimizer, steps, round(0.05 * steps) if warmup_steps is None else warmup_steps)
    run.begin()
    with own_random_numbers(next(model.parameters()).device, seed + process_number()):  # of dropout
        history = train(
            model,
            batches,
            optimizer=optimizer,
            schedule=rates,
            epochs=epochs,
            precision=precision,
            compile=compile,
            validation=loader(validation) if validation else None,
            hooks=hooks,
            after_epoch=partial(run.after_epoch, epochs, tuned),
            checkpoints=run.checkpoints,
            metrics=out / "metrics.jsonl",
            progress=progress,
            title="tuning",
            **parts,
        )
    return run.finish(history)


_DECISIVE = (  # what the result depends on; a run that goes on must have these in common with the one before
    *("val_share", "epochs", "batch_size", "max_tokens", "group_by_length", "packing", "learning_rate", "schedule"),
    *("warmup_steps", "train_on", "arrangement", "loss_on", "special_tokens", "text_share", "too_long", "precision"),
    *("cutoff_len", "seed"),
)


class _Run:
    """The folder of a run: its states while it lasts, its model after every epoch, and its history when it is over."""

    def __init__(
        self,
        out: Path,
        tuning: Tuning,
        model: GPTModel,
        settings: dict[str, Any],
        save_every: int,
        keep: int,
        resume: bool,
        tell: Callable[[str], None],
    ) -> None:
        self.out, self.tuning, self.settings, self.finished = out, tuning, settings, None
        states = {"every": save_every, "keep": keep, "resume": resume, "settings": settings, "tell": tell}
        self.checkpoints = TrainingCheckpoints(out / "checkpoints", weights=tuning.learned, **states)
        if resume and not self.checkpoints.found() and (out / FINISHED).exists():
            saved = read_json(out / FINISHED)
            self.checkpoints.check_settings(saved["settings"], out)
            tell(f"{out} holds this run already, finished")
            self.finished = history_from_dict(saved["history"])
        else:
            tuning.check_folder(out)

    def begin(self) -> None:
        """Remove what says that an earlier run in this folder is over; this one is not."""
        wait_for_all()
        if process_number() == 0:
            (self.out / FINISHED).unlink(missing_ok=True)

    def after_epoch(self, epochs: int, tuned: Checkpoint, epoch: int, history: History) -> None:
        if process_number() == 0:
            self.tuning.save(self.out, tuned)
        wait_for_all()
        self.checkpoints.tell(f"epoch {epoch} of {epochs}: {_losses(history)}; saved to {self.out}")

    def finish(self, history: History) -> History:
        if process_number() == 0:
            write_text(self.out / FINISHED, to_json({"settings": self.settings, "history": asdict(history)}))
        self.checkpoints.clear()
        return history


def _check_numbers(epochs: int, batch_size: int, micro_batches: int, val_share: float) -> None:
    if batch_size < 1 or epochs < 1:
        raise ValueError(f"batch_size and epochs must be >= 1, got {batch_size} and {epochs}")
    parts = micro_batches * process_count()
    if micro_batches < 1 or batch_size % parts:
        processes = f" in each of {process_count()} processes" if process_count() > 1 else ""
        raise ValueError(f"batch_size must divide into micro_batches{processes}, got {batch_size} and {micro_batches}")
    if not 0 <= val_share < 1 and not (1 <= val_share < math.inf and val_share == int(val_share)):
        raise ValueError(f"val_share must be a share in [0, 1), or from 1 a whole number of entries, got {val_share}")


def _context(context: int, cutoff_len: int | None) -> int:
    if cutoff_len is not None and cutoff_len < 2:
        raise ValueError(f"cutoff_len must be >= 2, got {cutoff_len}")
    return context if cutoff_len is None else min(context, cutoff_len - 1)  # the last token is only a target


def _with_template(
    start: Checkpoint, template: str | Path | Template | ChatFormat | None, tell: Callable[[str], None]
) -> Checkpoint:
    if template is None:
        template = load_template("alpaca") if start.template.name == "plain" else start.template
    template = find_template(template)
    if note := another_template(start.template, template):
        tell(note)
    return start._replace(template=template)


def _losses(history: History) -> str:
    if not history.validation:
        return f"training loss {history.losses[-1]:.3f} nats per token"
    before, now = history.validation[0][1], history.validation[-1][1]
    return f"validation loss {now:.3f} nats per token ({before:.3f} before)"


def _prepare(
    start: Checkpoint,
    entries: Sequence[Any],
    train_on: TrainOn,
    context: int,
    too_long: TooLong,
    arrangement: Arrangement,
    loss_on: str | None,
    special_tokens: bool,
) -> tuple[InstructionDataset | ConversationDataset, Checkpoint]:
    """Return the examples, and the checkpoint to come: for conversations with their format, and its marks as tokens."""
    model, tokenizer, template = start
    if isinstance(template, Template) and all(map(is_entry, entries)):
        if loss_on is not None:
            raise ValueError(f"loss_on is for conversations, got {loss_on!r}; for entries there is train_on")
        options = {"context_length": context, "too_long": too_long}
        entries = [dolly_entry(entry) for entry in entries]
        return InstructionDataset(entries, tokenizer, template, train_on, **options), start
    if too_long == "cut":
        raise ValueError("too_long='cut' is not for conversations: whole turns are left out ('drop'), or 'raise'")
    form = find_format(template)
    tokenizer = with_special_tokens(as_tokenizer(tokenizer), form.markers if special_tokens else [])
    dataset = ConversationDataset(
        entries,
        tokenizer,
        format=form,
        arrangement=arrangement,
        max_length=context + 1,
        loss_on="all" if loss_on is None and train_on == "all" else loss_on,
    )
    if too_long == "raise" and (dataset.dropped or dataset.dropped_turns):
        raise ValueError(f"too_long is 'raise': {dataset.length_report()}")
    lengths = sorted(map(_before_last_answer, dataset.examples))
    form = replace(form, tuned_length=lengths[int(0.9 * (len(lengths) - 1))])
    return dataset, Checkpoint(model, tokenizer, form)


def _grow(start: Checkpoint, tuned: Checkpoint) -> None:
    """Give the model rows for the tokens that its tokenizer gets."""
    new = set(tuned.tokenizer.special_tokens_set) - set(as_tokenizer(start.tokenizer).special_tokens_set)
    add_special_tokens(start.model, start.tokenizer, sorted(new, key=tuned.tokenizer.encode_single_token))


def _before_last_answer(example: Example) -> int:
    """Return how many tokens come before those that are learned last."""
    begins = [place for place in range(1, len(example.ids)) if example.trained[place] > example.trained[place - 1]]
    return begins[-1] if begins else len(example.ids)


def _with_text(training: list[Example], text: Sequence[str], share: float, tokenizer: Tokenizer, seed: int) -> Mixture:
    """Return the examples mixed with windows of text; an epoch has each example about once."""
    if not 0 < share < 1:
        raise ValueError(f"text_share must be between 0 and 1, got {share}")
    longest = max(len(example.ids) for example in training) - 1
    sets = {"tuning": training, "text": text_examples(text, tokenizer, longest)}
    count = round(len(training) / (1 - share))
    return Mixture(sets, weights={"tuning": 1 - share, "text": share}, examples=count, seed=seed)


def _split(
    dataset: InstructionDataset | ConversationDataset, share: float, seed: int, tell: Callable[[str], None]
) -> tuple[list[Example], list[Example]]:
    """Split off validation; the samples of one conversation stay together."""
    alone = isinstance(dataset, InstructionDataset)
    groups = [[example] for example in dataset.examples] if alone else dataset.by_conversation()
    if share == 0:
        parts = (groups, [])
    elif share >= 1:
        if share >= len(groups):
            raise ValueError(f"val_share must leave some of {len(groups)} to train on, got {share}")
        parts = split_entries(groups, share / len(groups), seed=seed)
    else:
        parts = split_entries(groups, share, seed=seed)
    training, validation = ([example for samples in part for example in samples] for part in parts)
    tell(f"{len(training)} {_kind(dataset)} to train on, {len(validation)} to validate; {dataset.length_report()}")
    return training, validation


def _kind(dataset: InstructionDataset | ConversationDataset) -> str:
    if isinstance(dataset, InstructionDataset):
        return "entries"
    kind = "conversations" if dataset.arrangement == "per_session" else "turns of conversations"
    return f"{kind} (marks as text: {' '.join(dataset.plain_marks)})" if dataset.plain_marks else kind


def _digests(start: Checkpoint, tuned: Checkpoint, examples: Sequence[Example], text: Sequence[str]) -> dict[str, Any]:
    """Return short marks of what training begins with, by which a run that goes on with something else is noticed."""
    return {
        "model": start.model.cfg.to_dict(),
        "weights": weights_digest(start.model),
        "tokenizer": _digest(tokenizer_files(tuned.tokenizer)),
        "dataset": _digest([list(example) for example in examples]),
        "text": _digest(list(text)),
        "template": _digest(tuned.template.to_dict()),
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
