"""The names of the book's appendix E: low-rank adapters in place of every linear layer.

    LoRALayer(x) = alpha x A B        A (in, rank), B (rank, out), B zero at first

The library's own LoRA, `gptlab.peft.LoRA`, follows the paper, and differs from the book's in three ways:

- its scale is alpha / rank, so that `alpha=16` at rank 16 in the book is `alpha=256` there. What is here is the printed
  book's; its repository divides by the rank, too, since its issue 821;
- A begins within 1 / sqrt(in). The book stores A the other way round, so the same call draws it within 1 / sqrt(rank),
  which is larger by sqrt(in / rank);
- the book's adapters stay in the model; the library's are switched, saved by themselves, and merged into the weights.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["LinearWithLoRA", "LoRALayer", "replace_linear_with_lora"]


class LoRALayer(nn.Module):
    """What LoRA adds to a linear layer, alpha x A B: (..., in_dim) -> (..., out_dim); zero until it is trained.

    Args:
        in_dim: rows of A.
        out_dim: columns of B.
        rank: columns of A and rows of B.
        alpha: the strength; unlike in the paper, it is not divided by the rank.
    """

    def __init__(self, in_dim: int, out_dim: int, rank: int, alpha: float) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.empty(in_dim, rank))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))  # within 1 / sqrt(rank)
        self.B = nn.Parameter(torch.zeros(rank, out_dim))
        self.alpha = alpha

    def forward(self, x: Tensor) -> Tensor:
        return self.alpha * (x @ self.A @ self.B)


class LinearWithLoRA(nn.Module):
    """A linear layer and its LoRALayer, added up; both learn, unless the caller freezes the first.

    Args:
        linear: stays the same object, in `linear`.
        rank: see `LoRALayer`.
        alpha: see `LoRALayer`.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.linear = linear
        self.lora = LoRALayer(linear.in_features, linear.out_features, rank, alpha)
        self.lora.to(linear.weight)  # its device and dtype; in the book the caller moves the model once more

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + self.lora(x)


def replace_linear_with_lora(model: nn.Module, rank: int, alpha: float) -> None:
    """Put a LinearWithLoRA in place of every linear layer of the model, the output head too, in place.

    Freeze the model before, as the book does; what comes in learns. A second call puts a second LoRALayer on each, as
    in the book.
    """
    for name, module in model.named_children():
        if isinstance(module, nn.Linear):
            setattr(model, name, LinearWithLoRA(module, rank, alpha))
        else:
            replace_linear_with_lora(module, rank, alpha)
