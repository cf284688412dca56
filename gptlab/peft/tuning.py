"""How `finetune` tunes an adapter in place of all weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gptlab.model import GPTModel, count_parameters
from gptlab.peft.io import adapter_tensors, check_adapter_folder, load_adapter, save_adapter
from gptlab.peft.manage import apply
from gptlab.peft.method import Method
from gptlab.tokenizer import Tokenizer
from gptlab.training import Hook
from gptlab.training.tuning import FullTuning
from gptlab.weights import Checkpoint


class AdapterTuning(FullTuning):
    """Only an adapter learns, and the result is the adapter; `load_tuned` puts it on its base again.

    Args:
        method: settings, such as `LoRA(rank=8)`.
        base: the checkpoint that tuning starts from, a folder or a name, which the adapter will remember.
    """

    weight_decay = 0.0
    grows = False  # the rows of new tokens would never learn

    def __init__(self, method: Method, base: str | Path | None = None) -> None:
        self.method, self.base = method, base
        self.learning_rate = method.learning_rate
        self.virtual_tokens = method.virtual_tokens

    def count(self, model: GPTModel, tokenizer: Tokenizer) -> int:
        generator = torch.Generator().manual_seed(0)  # what is drawn here is thrown away
        return sum(map(count_parameters, self.method.build(model, tokenizer=tokenizer, generator=generator).values()))

    def begin(self, model: GPTModel, tokenizer: Tokenizer, seed: int) -> None:
        apply(model, self.method, tokenizer=tokenizer, generator=torch.Generator().manual_seed(seed))

    def hooks(self, model: GPTModel, total_steps: int) -> list[Hook]:
        return self.method.hooks(model, total_steps)

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
        return Path(os.path.relpath(base, out)).as_posix()
    except ValueError:  # on another drive
        return str(Path(base).absolute())
