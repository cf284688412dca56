"""QLoRA: LoRA on a base of four bits a weight.

    y = x dequantize(W4)^T + s B A x

The base is quantised once and never again; gradients go through it to the branches, for which its weights are computed
again and forgotten again, layer by layer, forward and backward.

Source: Dettmers et al. 2023, arXiv 2305.14314, equation 5.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from gptlab.model import GPTModel
from gptlab.peft.inject import replace_modules
from gptlab.peft.lora import LoRA
from gptlab.peft.method import ALL_LINEAR, Method
from gptlab.peft.nf4 import NF4Linear


@dataclass(frozen=True)
class QLoRA(LoRA):
    """Settings of QLoRA: those of LoRA, by default on every linear layer in the blocks, and those of NF4.

    All linear layers of the blocks are quantised, whichever get a branch; embeddings, norms and the head are not.
    What is quantised stays so when the adapter is taken off. A merged adapter has full weights: those of the
    quantised base, on which it was trained, with the difference.

    Attributes:
        block_size: how many weights share a scale.
        double: whether the scales are quantised too: 4.13 instead of 4.5 bits a weight.
    """

    targets: Sequence[str] = (ALL_LINEAR,)
    block_size: int = 64
    double: bool = True

    method: ClassVar[str] = "qlora"
    changes_base: ClassVar[bool] = True

    def prepare(self, model: GPTModel) -> None:
        full = [name for name, module in model.named_modules() if _in_blocks(name) and type(module) is nn.Linear]
        if full:
            pattern = "|".join(map(re.escape, full))
            replace_modules(model, pattern, self._quantised)

    def shares_base(self, other: Method) -> bool:
        return super().shares_base(other) and (self.block_size, self.double) == (other.block_size, other.double)

    def _quantised(self, linear: nn.Linear) -> NF4Linear:
        return NF4Linear(linear, block_size=self.block_size, double=self.double)


def _in_blocks(name: str) -> bool:
    return name.startswith("trf_blocks.") and ".adapters." not in name
