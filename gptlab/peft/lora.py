"""LoRA: learn the difference to a weight as a product of two thin matrices.

    h = W x + s B A dropout(x),   A (r, in), B (out, r),   s = alpha / r, or alpha / sqrt(r) when rank-stabilised

A is drawn at random and B is zero, so the model computes at first what it did before.

Source: Hu et al. 2021, arXiv 2106.09685, section 4.1, with A drawn as in its code (uniform, from `in`), not as in the
text (normal); Kalajdzievski 2023, arXiv 2312.03732 (alpha / sqrt(r)).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptlab.peft.adapted import Branch, device_of
from gptlab.peft.method import OnModules, check_count, check_linear, compiled, is_tied_head


@dataclass(frozen=True)
class LoRA(OnModules):
    """Settings of LoRA.

    Attributes:
        rank: r, columns of B and rows of A.
        alpha: the strength; the difference is scaled by alpha / rank.
        dropout: the share of the input that the branch, and only the branch, does not see in training.
        targets: the linear layers that get a branch; see `OnModules`. A new head, as a classifier's, learns only as
            one of them, with a rank of at most the number of classes: rank_pattern={"out_head": 2}.
        rank_stabilised: whether to scale by alpha / sqrt(rank), so that large ranks do not learn more slowly.
        rank_pattern: other ranks for some layers: what their name ends with -> rank.
        alpha_pattern: the same for alpha.
    """

    rank: int = 8
    alpha: float = 16
    dropout: float = 0.0
    targets: Sequence[str] = ("W_query", "W_value")
    rank_stabilised: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict, hash=False)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict, hash=False)

    method: ClassVar[str] = "lora"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "rank_pattern", dict(self.rank_pattern))  # what is done to the caller's is not seen
        object.__setattr__(self, "alpha_pattern", dict(self.alpha_pattern))
        check_low_rank(self.rank, self.alpha, self.dropout)
        for rank in self.rank_pattern.values():
            check_low_rank(rank, self.alpha, self.dropout)
        for alpha in self.alpha_pattern.values():
            check_low_rank(self.rank, alpha, self.dropout)

    def branch(self, name: str, module: nn.Module, generator: torch.Generator | None) -> LowRank:
        rank, alpha = _of_pattern(self.rank_pattern, name, self.rank), _of_pattern(self.alpha_pattern, name, self.alpha)
        check_low_rank_place(name, module, rank)
        scale = alpha / (math.sqrt(rank) if self.rank_stabilised else rank)
        return LowRank(module, rank, scale, self.dropout, generator)

    def build(self, model: nn.Module, **options) -> dict[str, nn.Module]:
        made = super().build(model, **options)
        check_head(model, made)
        for pattern in (*self.rank_pattern, *self.alpha_pattern):
            if not any(_ends_with(place, pattern) for place in made):
                raise ValueError(f"the pattern {pattern!r} fits none of the targets, such as {next(iter(made))!r}")
        return made


class LowRank(Branch):
    """s B A: the difference that LoRA learns at one linear layer."""

    def __init__(
        self, linear: nn.Module, rank: int, scale: float, dropout: float, generator: torch.Generator | None = None
    ) -> None:
        super().__init__()
        self.scale, self.dropout = scale, nn.Dropout(dropout)
        A = torch.empty(rank, linear.in_features)
        nn.init.kaiming_uniform_(A, a=math.sqrt(5), generator=generator)  # uniform within 1 / sqrt(in)
        device = device_of(linear)
        self.A = nn.Parameter(A.to(device))
        self.B = nn.Parameter(torch.zeros(linear.out_features, rank, device=device))

    def forward(self, x: Tensor, base: nn.Module) -> Tensor:
        y = base(x)  # (..., out)
        small = F.linear(self.dropout(x).to(self.A.dtype), self.A)  # (..., r)
        return y + (F.linear(small, self.B) * self.scale).to(y.dtype)

    def merged(self, base: nn.Module) -> nn.Linear:
        return merged_linear(base, self.scale * self.B @ self.A)

    def extra_repr(self) -> str:
        return f"rank={len(self.A)}, scale={self.scale:g}"


@torch.no_grad()
def merged_linear(base: nn.Module, difference: Tensor) -> nn.Linear:
    """Return a linear layer with the difference, (out, in), added to the weight of `base`; a quantised one is full."""
    weight = base.weight
    merged = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], bias=base.bias is not None)
    merged.weight = nn.Parameter((weight.to(difference.dtype) + difference).to(weight.dtype))
    merged.bias = base.bias
    return merged.train(base.training)


def check_low_rank(rank: int, alpha: float, dropout: float) -> None:
    """Raise ValueError for a setting that is out of range."""
    check_count("rank", rank)
    if not _is_number(alpha) or not 0 < alpha < math.inf:
        raise ValueError(f"alpha must be a positive number, got {alpha!r}")
    if not _is_number(dropout) or not 0 <= dropout < 1:
        raise ValueError(f"dropout must be a number in [0, 1), got {dropout!r}")


def check_low_rank_place(name: str, module: nn.Module, rank: int) -> None:
    """Raise ValueError if a module is no linear layer, or too small for the rank."""
    check_linear(name, module)
    most = min(module.in_features, module.out_features)
    if rank > most:
        raise ValueError(f"rank must be at most {most}, the smaller side of {name!r}, got {rank}")


def check_head(model: nn.Module, places: Mapping[str, nn.Module]) -> None:
    """Raise ValueError if one of the places is the output head and shares its weight with the embeddings."""
    for place in places:
        if is_tied_head(model, place):
            raise ValueError(
                f"{place!r} shares its weight with the embeddings, which a merged difference would change too: choose "
                "other targets, or load the model with tie_weights=False"
            )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _of_pattern(patterns: Mapping[str, float], name: str, default: float) -> float:
    return next((value for pattern, value in patterns.items() if _ends_with(name, pattern)), default)


def _ends_with(name: str, pattern: str) -> bool:
    return compiled(pattern).fullmatch(name) is not None
