"""Bottleneck adapters: a small network behind the attention and behind the feed-forward of every block.

    y = W x + b                                what the layer there computes
    a(y) = y + W_up f(W_down y + b_down) + b_up,   W_down (m, D), W_up (D, m)

What it gives goes back to the residual stream: x + a(att(norm1(x))), then x + a(ff(norm2(x))). Because f bends, the
adapter cannot become part of a weight, and stays as a small cost of every answer.

W_down is drawn at random and W_up is zero, so the model computes at first what it did before. The original draws both
from N(0, 0.001^2), which comes near to that but learns more slowly. Its blocks have their dropout between y and the
adapter, ours behind it; without dropout they agree.

Source: Houlsby et al. 2019, arXiv 1902.00751, section 2.1; He et al. 2022, arXiv 2110.04366 (W_up zero).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptlab.model import GELU, GPTModel, LayerNorm
from gptlab.peft.adapted import Branch, device_of
from gptlab.peft.method import OnModules, check_count, check_linear, own_modules
from gptlab.tokenizer import Tokenizer

ACTIVATIONS = {"gelu": GELU, "relu": nn.ReLU, "swish": nn.SiLU}


@dataclass(frozen=True)
class Adapter(OnModules):
    """Settings of bottleneck adapters.

    Attributes:
        bottleneck: m, how wide the small network is in its middle.
        activation: f, "gelu" as in the original, "relu" or "swish".
        targets: the linear layers that get an adapter behind them; see `OnModules`.
        norms: whether every layer norm learns too, as in the original. The adapter has copies of them, so the model's
            own stay as they are.
    """

    bottleneck: int = 16
    activation: str = "gelu"
    targets: Sequence[str] = ("att.out_proj", "ff.layers.2")
    norms: bool = False

    method: ClassVar[str] = "adapter"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("bottleneck", self.bottleneck)
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")

    def branch(self, name: str, module: nn.Module, generator: torch.Generator | None) -> Bottleneck:
        check_linear(name, module)
        return Bottleneck(module, self.bottleneck, self.activation, generator)

    def build(
        self, model: GPTModel, *, tokenizer: Tokenizer | None = None, generator: torch.Generator | None = None
    ) -> dict[str, Branch]:
        made = super().build(model, tokenizer=tokenizer, generator=generator)
        if self.norms:
            made |= {place: Norm(module) for place, module in own_modules(model) if isinstance(module, LayerNorm)}
        return made


class Bottleneck(Branch):
    """y + W_up f(W_down y + b_down) + b_up, where y is what a linear layer computes."""

    def __init__(
        self, linear: nn.Module, bottleneck: int, activation: str, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        device = device_of(linear)
        width = linear.out_features
        W_down = torch.empty(bottleneck, width)
        nn.init.kaiming_uniform_(W_down, a=math.sqrt(5), generator=generator)  # uniform within 1 / sqrt(D)
        self.W_down = nn.Parameter(W_down.to(device))
        self.b_down = nn.Parameter(torch.zeros(bottleneck, device=device))
        self.activation = ACTIVATIONS[activation]()
        self.W_up = nn.Parameter(torch.zeros(width, bottleneck, device=device))
        self.b_up = nn.Parameter(torch.zeros(width, device=device))

    def forward(self, x: Tensor, base: nn.Module) -> Tensor:
        y = base(x)  # (..., D)
        small = F.linear(y.to(self.W_down.dtype), self.W_down, self.b_down)  # (..., m)
        return y + F.linear(self.activation(small), self.W_up, self.b_up).to(y.dtype)

    def merged(self, base: nn.Module) -> nn.Module:
        raise ValueError("between its two matrices stands an activation, which no weight can take up")

    def extra_repr(self) -> str:
        return f"bottleneck={len(self.W_down)}"


class Norm(Branch):
    """A copy of a layer norm that learns in place of it."""

    def __init__(self, norm: LayerNorm) -> None:
        super().__init__()
        self.norm = copy.deepcopy(norm)

    def forward(self, x: Tensor, base: nn.Module) -> Tensor:
        return self.norm(x)

    def merged(self, base: nn.Module) -> nn.Module:
        return copy.deepcopy(self.norm)
