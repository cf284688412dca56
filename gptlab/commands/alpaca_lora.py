"""The options of alpaca-lora's finetune.py, so that a script written for it runs with the program's name changed.

    python finetune.py --base_model ... --lora_target_modules '[q_proj,v_proj]'
    gptlab finetune    --base_model ... --lora_target_modules '[q_proj,v_proj]'

What its script takes for granted is taken for granted here: LoRA of rank 8 on query and value, batches of 128, three
epochs, entries cut at 256 tokens, the loss on the instruction too.

Source: alpaca-lora, finetune.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from gptlab.commands.arguments import names

_PLAIN = {  # its option -> ours, with the same kind of value
    "base_model": "--model",
    "data_path": "--data",
    "output_dir": "--out",
    "batch_size": "--batch-size",
    "micro_batch_size": "--micro-batch-size",
    "num_epochs": "--epochs",
    "learning_rate": "--learning-rate",
    "cutoff_len": "--cutoff-len",
    "val_set_size": "--val-share",
    "lora_r": "--lora-r",
    "lora_alpha": "--lora-alpha",
    "lora_dropout": "--lora-dropout",
    "prompt_template_name": "--template",
}
_USUAL = {
    "batch_size": "128",
    "num_epochs": "3",
    "learning_rate": "3e-4",
    "cutoff_len": "256",
    "val_set_size": "2000",
    "lora_r": "8",
    "lora_alpha": "16",
    "lora_dropout": "0.05",
    "lora_target_modules": "q_proj,v_proj",
    "train_on_inputs": "True",
    "group_by_length": "False",
    "prompt_template_name": "alpaca",
    "output_dir": "./lora-alpaca",
}
_IGNORED = ("add_eos_token", "wandb_project", "wandb_run_name", "wandb_watch", "wandb_log_model")
_SWITCHES = ("train_on_inputs", "group_by_length", "add_eos_token")
_LAYERS = {  # LLaMA's names and GPT-2's -> ours
    "q_proj": "W_query",
    "k_proj": "W_key",
    "v_proj": "W_value",
    "o_proj": "out_proj",
    "up_proj": "ff.layers.0",
    "down_proj": "ff.layers.2",
    "c_attn": "W_query,W_key,W_value",
    "c_fc": "ff.layers.0",
}


def from_alpaca_lora(arguments: Sequence[str]) -> list[str]:
    """Return arguments of `gptlab finetune` for those of alpaca-lora's script; others are returned as they are.

    Raises:
        ValueError: an option or a value is not one of that script's.
    """
    if not any(argument.split("=")[0] == "--base_model" for argument in arguments):
        return list(arguments)
    given, others = _read(arguments)
    settings = _USUAL | given
    if "micro_batch_size" not in given:
        settings["micro_batch_size"] = _micro_batch_size(settings["batch_size"])
    if "data_path" not in settings:
        raise ValueError(
            "--data_path is missing: nothing is downloaded for alpaca-lora's default, yahma/alpaca-cleaned"
        )
    translated = ["--method", "lora", "--too-long", "cut"]
    for name, option in _PLAIN.items():
        if settings.get(name):
            translated += [option, settings[name]]
    translated += ["--train-on", "all" if _is_true("train_on_inputs", settings) else "response"]
    translated.append("--group-by-length" if _is_true("group_by_length", settings) else "--no-group-by-length")
    translated += ["--lora-targets", ",".join(map(_layer, _target_modules(settings["lora_target_modules"])))]
    if _resumes(settings.get("resume_from_checkpoint", ""), settings["output_dir"]):
        translated.append("--resume")
    return [*translated, *others]


def _read(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return its options and their values, and what is written as our own options are."""
    known = {*_PLAIN, *_USUAL, *_IGNORED, *_SWITCHES, "resume_from_checkpoint"}
    given: dict[str, str] = {}
    others: list[str] = []
    waiting = list(arguments)
    while waiting:
        name, equals, value = waiting.pop(0).partition("=")
        key = name.removeprefix("--").replace("-", "_")
        if not name.startswith("--") or key not in known:
            others.append(name + equals + value)
            continue
        if not equals:
            alone = not waiting or waiting[0].startswith("--")
            if alone and key not in _SWITCHES:
                raise ValueError(f"{name} needs a value")
            value = "True" if alone else waiting.pop(0)
        given[key] = value
    return given, others


def _is_true(name: str, settings: dict[str, str]) -> bool:
    if settings[name] not in ("True", "False", "true", "false", "1", "0"):
        raise ValueError(f"--{name} must be True or False, got {settings[name]!r}")
    return settings[name] in ("True", "true", "1")


def _micro_batch_size(batch_size: str) -> str:
    """Return the script's default, 4, or the most below into which the batch can be cut."""
    sizes = range(1, 5) if batch_size.isdigit() else ()  # what is no number is refused later
    return str(max((size for size in sizes if int(batch_size) % size == 0), default=1))


def _resumes(value: str, out: str) -> bool:
    """Whether to go on; a checkpoint that is named must be one of this run's, of which the last is taken."""
    if value in ("", "None", "False", "false", "0"):
        return False
    own = Path(out) / "checkpoints"
    if value not in ("True", "true", "1") and Path(value).resolve() != own.resolve():
        raise ValueError(
            f"--resume_from_checkpoint must be True, or the folder of this run's own checkpoints, {own}; got {value!r}"
        )
    return True


def _target_modules(value: str) -> tuple[str, ...]:
    try:
        return names(value)
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"--lora_target_modules {error}, such as '[q_proj,v_proj]'") from None


def _layer(name: str) -> str:
    if name == "gate_proj":
        raise ValueError("--lora_target_modules: a GPT-2 has no 'gate_proj'; its feed-forward is up_proj and down_proj")
    return _LAYERS.get(name, name)
