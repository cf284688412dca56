"""`gptlab finetune`: tune all weights, or an adapter, on a file of entries or conversations."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gptlab.commands.arguments import MODEL, TEMPLATE, at_least, names, path, text

if TYPE_CHECKING:
    from gptlab.peft import Method
    from gptlab.training.tuning import Tuning

METHODS = ("full", "lora", "adalora", "qlora", "adapter", "prefix", "prompt", "p-tuning")


def add_finetune(command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    finetune = command("finetune", run_finetune, "tune a checkpoint on a file of Alpaca entries or conversations")
    finetune.add_argument("--model", type=text, required=True, help=MODEL)
    finetune.add_argument("--data", type=path, required=True, help="entries or conversations, .json or .jsonl")
    finetune.add_argument("--out", type=path, required=True, help="where the tuned checkpoint or adapter goes")
    mixed = "pretraining text to mix in against forgetting: documents with an empty line between them"
    finetune.add_argument("--text", type=path, help=mixed)
    finetune.add_argument("--text-share", type=float, default=0.3, help="share of the rows that is such text")
    finetune.add_argument(
        "--val-share", type=float, default=0.1, help="share of the entries kept for validation; from 1: how many"
    )
    finetune.add_argument("--epochs", type=at_least(1), default=2, help="how often to go through the entries")
    finetune.add_argument("--batch-size", type=at_least(1), default=8, help="entries in a step")
    finetune.add_argument("--max-tokens", type=at_least(1), help="the most tokens in a step, padding counted")
    parts = finetune.add_mutually_exclusive_group()
    parts.add_argument("--micro-batches", type=at_least(1), default=1, help="parts of a step, to save memory")
    parts.add_argument("--micro-batch-size", type=at_least(1), help="the same, as entries in a part")
    finetune.add_argument("--packing", action="store_true", help="let entries share rows instead of padding them")
    finetune.add_argument(
        "--group-by-length",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="batches of entries of about the same length",
    )
    finetune.add_argument(
        "--learning-rate", type=float, help="the peak, after a warm-up; None is what usually suits the method"
    )
    finetune.add_argument("--schedule", choices=("cosine", "constant"), default="cosine", help="after the warm-up")
    finetune.add_argument("--warmup-steps", type=at_least(0), help="None is a twentieth of all steps")
    finetune.add_argument("--train-on", choices=("response", "all"), default="response", help="what carries loss")
    finetune.add_argument("--template", default=None, help=TEMPLATE)
    finetune.add_argument(
        "--arrangement",
        choices=("per_session", "per_turn"),
        default="per_session",
        help="a conversation is one sample, or one for each turn",
    )
    rules = ("assistant", "last", "moss", "all")
    finetune.add_argument("--loss-on", choices=rules, help="of conversations; None is the form's own rule")
    finetune.add_argument(
        "--special-tokens",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="make tokens of the marks of a form of conversations; with an adapter they stay text",
    )
    finetune.add_argument("--cutoff-len", type=at_least(2), help="the most tokens of an entry; None: the context")
    finetune.add_argument("--too-long", choices=("drop", "cut", "raise"), default="drop", help="entries beyond that")
    finetune.add_argument("--seed", type=at_least(0), default=0, help="of the split, the batches and dropout")
    _add_running(finetune)
    _add_methods(finetune)


def _add_running(finetune: argparse.ArgumentParser) -> None:
    finetune.add_argument(
        "--precision", choices=("float32", "bfloat16", "float16"), default="float32", help="of the matrix products"
    )
    finetune.add_argument("--recompute", action="store_true", help="save memory, take a third more time")
    finetune.add_argument("--compile", action="store_true", help="compile the blocks with torch.compile")
    finetune.add_argument("--save-every", type=at_least(1), default=100, help="steps between two saved states")
    finetune.add_argument("--keep", type=at_least(1), default=2, help="how many of the last states stay")
    finetune.add_argument("--resume", action="store_true", help="go on from the last saved state, if there is one")


def _add_methods(finetune: argparse.ArgumentParser) -> None:
    group = finetune.add_argument_group("what learns")
    group.add_argument("--method", choices=METHODS, default="full", help="all weights, or an adapter of this kind")
    group.add_argument("--lora-r", type=int, help="lora, qlora: the rank (8); adalora: the rank to begin with (12)")
    group.add_argument("--lora-alpha", type=float, help="lora, qlora, adalora: the strength (16)")
    group.add_argument("--lora-dropout", type=float, help="lora, qlora, adalora: of the branch's input (0)")
    group.add_argument(
        "--lora-targets",
        type=names,
        help="lora, qlora, adalora: layers, or all-linear (W_query,W_value; qlora: all-linear)",
    )
    group.add_argument("--adalora-target-r", type=int, help="adalora: the mean rank at the end (8)")
    group.add_argument(
        "--adalora-importance",
        choices=("magnitude", "sensitivity", "smoothed"),
        help="adalora: what is kept (smoothed)",
    )
    group.add_argument("--adapter-size", type=int, help="adapter: the width of the bottleneck (16)")
    group.add_argument("--virtual-tokens", type=int, help="prefix, prompt, p-tuning: how many stand in front (20)")
    group.add_argument("--prefix-hidden", type=int, help="prefix: width of the network that makes it; None: no network")
    group.add_argument("--prompt-text", type=text, help="prompt: begin as the embeddings of this text")
    group.add_argument("--p-tuning-encoder", choices=("mlp", "lstm"), help="p-tuning: what makes the tokens (mlp)")


_SETTINGS = {  # option -> the methods that have it, and what it is called in their settings
    "lora_r": {"lora": "rank", "qlora": "rank", "adalora": "init_rank"},
    "lora_alpha": dict.fromkeys(("lora", "qlora", "adalora"), "alpha"),
    "lora_dropout": dict.fromkeys(("lora", "qlora", "adalora"), "dropout"),
    "lora_targets": dict.fromkeys(("lora", "qlora", "adalora"), "targets"),
    "adalora_target_r": {"adalora": "target_rank"},
    "adalora_importance": {"adalora": "importance"},
    "adapter_size": {"adapter": "bottleneck"},
    "virtual_tokens": dict.fromkeys(("prefix", "prompt", "p-tuning"), "tokens"),
    "prefix_hidden": {"prefix": "hidden"},
    "prompt_text": {"prompt": "text"},
    "p_tuning_encoder": {"p-tuning": "encoder"},
}


def chosen_method(options: argparse.Namespace) -> Method | None:
    """Return the settings that the options ask for; None for all weights.

    Raises:
        ValueError: an option belongs to another method, or a setting is out of range.
    """
    settings = {}
    for option, meaning in _SETTINGS.items():
        value = getattr(options, option)
        if value is None:
            continue
        if options.method not in meaning:
            raise ValueError(f"--{option.replace('_', '-')} is for {', '.join(meaning)}, not for {options.method}")
        settings[meaning[options.method]] = value
    if options.method == "full":
        return None
    from gptlab.peft import METHODS

    if "text" in settings:
        settings["start"] = "text"
    return METHODS[options.method](**settings)


def run_finetune(options: argparse.Namespace) -> None:
    """Run the command."""
    from gptlab.data import load_entries_or_conversations
    from gptlab.files import check_writable, read_text
    from gptlab.training import finetune
    from gptlab.training.processes import joined_processes
    from gptlab.weights import load_checkpoint

    chosen = {name: getattr(options, name) for name in _PASSED_ON}
    tuning = _tuning(options)
    if options.micro_batch_size is not None:
        chosen["micro_batches"] = _parts(options.batch_size, options.micro_batch_size)
    with joined_processes(options.device) as device:
        entries = load_entries_or_conversations(options.data)
        texts = [] if options.text is None else read_text(options.text).strip().split("\n\n")
        if options.out.exists() and Path(options.model).exists() and options.out.samefile(options.model):
            raise ValueError("--out must be another folder than --model, which would be lost")
        if (Path(options.model) / "adapter.json").is_file():
            raise ValueError(
                f"{options.model} is an adapter; make a checkpoint of it to tune further: gptlab export --merge "
                "--format gptlab"
            )
        start = load_checkpoint(options.model, device, progress=not options.quiet)
        check_writable(options.out)
        show = {"tell": partial(print, flush=True), "progress": not options.quiet}
        finetune(start, entries, options.out, tuning=tuning, text=texts, **chosen, **show)


_PASSED_ON = (
    *("val_share", "epochs", "batch_size", "max_tokens", "micro_batches", "group_by_length", "packing"),
    *("learning_rate", "schedule", "warmup_steps", "train_on", "template", "cutoff_len", "too_long", "precision"),
    *("recompute", "compile", "save_every", "keep", "resume", "seed", "arrangement", "loss_on", "special_tokens"),
    "text_share",
)


def _tuning(options: argparse.Namespace) -> Tuning | None:
    method = chosen_method(options)
    if method is None:
        return None
    from gptlab.peft import AdapterTuning

    return AdapterTuning(method, options.model)


def _parts(batch_size: int, micro_batch_size: int) -> int:
    if batch_size % micro_batch_size:
        raise ValueError(f"--micro-batch-size must divide --batch-size, got {micro_batch_size} and {batch_size}")
    return batch_size // micro_batch_size
