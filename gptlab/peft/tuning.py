"""How `finetune` tunes an adapter in place of all weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gptlab.model import GPTModel, count_parameters
from gptlab.peft.io import adapter_tensors, check_adapter_folder, load_adapter, save_adapter
from gptlab.peft.manage import adapters_of, apply, remove, state_for_new
from gptlab.peft.method import Method
from gptlab.peft.prompts import PTuning
from gptlab.tokenizer import Tokenizer
from gptlab.training import Hook
from gptlab.training.tuning import Tuning
from gptlab.weights import Checkpoint


class AdapterTuning(Tuning):
    """Only an adapter learns, and the result is the adapter; `load_tuned` puts it on its base again.

    Args:
        method: settings, such as `LoRA(rank=8)`.
        base: the checkpoint that tuning starts from, a folder or a name, which the adapter will remember.

    Raises:
        ValueError: the method needs texts that `finetune` does not make.
    """

    weight_decay = 0.0
    grows = False  # the rows of new tokens would never learn

    def __init__(self, method: Method, base: str | Path | None = None) -> None:
        if isinstance(method, PTuning) and method.inside:
            raise ValueError(
                f"finetune puts no virtual tokens inside a text, got inside={method.inside}: with inside=0 all of them "
                "stand in front; examples with insert_virtual are for train"
            )
        self.method, self.base = method, base
        self.learning_rate = method.learning_rate
        self.virtual_tokens = method.virtual_tokens

    def count(self, model: GPTModel, tokenizer: Tokenizer) -> tuple[int, int]:
        if (state := adapters_of(model)) is not None:
            names = ", ".join(map(repr, state.methods))
            raise ValueError(f"the model has an adapter already, {names}; remove(model) takes it off")
        state_for_new(model, "default", self.method)
        generator = torch.Generator().manual_seed(0)  # what is drawn here is thrown away
        made = self.method.build(model, tokenizer=tokenizer, generator=generator)
        learning = sum(map(count_parameters, made.values()))
        return learning, learning

    def begin(self, model: GPTModel, tokenizer: Tokenizer, seed: int, total_steps: int) -> list[Hook]:
        apply(model, self.method, tokenizer=tokenizer, generator=torch.Generator().manual_seed(seed))
        try:
            return self.method.hooks(model, total_steps)
        except ValueError:
            remove(model)
            raise

    def learned(self, model: GPTModel) -> dict[str, Tensor]:
        return adapter_tensors(model)

    def check_folder(self, out: Path) -> None:
        check_adapter_folder(out)

    def save(self, out: Path, tuned: Checkpoint) -> None:
        notes: dict[str, Any] = {"template": tuned.template.to_dict()}
        if self.base is not None:
            notes["base_model"] = _as_seen_from(out, self.base)
        save_adapter(tuned.model, out, notes=notes)

    def load(self, model: GPTModel, out: Path) -> None:
        load_adapter(model, out, trainable=True)

    def to_dict(self) -> dict[str, Any]:
        return self.method.to_dict()


def _as_seen_from(out: Path, base: str | Path) -> str:
    """Return the way from a folder to another, so that both can be moved together; a name stays as it is."""
    if not Path(base).exists():
        return str(base)
    try:
        return Path(os.path.relpath(Path(base).resolve(), Path(out).resolve())).as_posix()
    except ValueError:  # on another drive
        return str(Path(base).resolve())
