"""The learning rate over time: a linear warm-up, then constant or half a cosine down."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def warmup_cosine(optimizer: Optimizer, total_steps: int, warmup_steps: int = 0, final: float = 0.1) -> LambdaLR:
    """Return a scheduler to `step()` after every optimizer step.

        rate(t) = peak * (t + 1) / warmup                           while t < warmup
        rate(t) = peak * (final + (1 - final) (1 + cos(pi s)) / 2)  then, s from 0 to 1 at the last step

    Args:
        optimizer: its learning rates are the peak.
        total_steps: how many optimizer steps there will be.
        warmup_steps: may be 0.
        final: the last rate as a share of the peak.

    Raises:
        ValueError: total_steps is below 1, or warmup_steps is not in [0, total_steps].

    Source: Loshchilov and Hutter 2016, arXiv 1608.03983, equation 5; Goyal et al. 2017, arXiv 1706.02677 (warm-up).
    """
    _check_steps(total_steps, warmup_steps)

    def share_of_peak(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - 1 - warmup_steps))
        return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, share_of_peak)


def warmup_constant(optimizer: Optimizer, total_steps: int, warmup_steps: int = 0) -> LambdaLR:
    """Return a scheduler that rises like `warmup_cosine` and then stays at the peak.

    Raises:
        ValueError: total_steps is below 1, or warmup_steps is not in [0, total_steps].
    """
    _check_steps(total_steps, warmup_steps)
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, warmup_steps)))


def choose_schedule(name: str) -> Callable[[Optimizer, int, int], LambdaLR]:
    """Return `warmup_cosine` for "cosine" and `warmup_constant` for "constant".

    Raises:
        ValueError: it is another name.
    """
    schedules = {"cosine": warmup_cosine, "constant": warmup_constant}
    if name not in schedules:
        raise ValueError(f"schedule must be one of {list(schedules)}, got {name!r}")
    return schedules[name]


def _check_steps(total_steps: int, warmup_steps: int) -> None:
    if total_steps < 1:
        raise ValueError(f"total_steps must be >= 1, got {total_steps}")
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(f"warmup_steps must be in [0, {total_steps}], got {warmup_steps}")
