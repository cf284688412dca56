"""Is the device right? A loss on Apple's GPU is compared with the CPU's before training relies on it."""

from __future__ import annotations

import copy
import warnings

import torch

from gptlab.model import GPTModel, evaluation_mode
from gptlab.training.gradients import rows_of
from gptlab.training.loss import Batch, next_token_loss


@torch.no_grad()
def compare_with_cpu(model: GPTModel, batch: Batch, tolerance: float = 1e-2) -> tuple[float, float]:
    """Return the mean loss of a batch's first row on the model's device and on the CPU; warn if they differ.

    Wrong results on MPS have come with several releases of PyTorch, and a wrong loss trains a wrong model in silence.
    """
    rows = rows_of([tensor[:1] for tensor in batch], 0, 1)
    losses = []
    for where in (model, copy.deepcopy(model).cpu()):
        device = next(where.parameters()).device
        with evaluation_mode(where):
            total, count = next_token_loss(where, *(tensor.to(device) for tensor in rows))
        losses.append(total.item() / max(count, 1))
    here, on_cpu = losses
    if not abs(here - on_cpu) <= tolerance * max(1.0, abs(on_cpu)):
        warnings.warn(
            f"the first batch's loss is {here:.4f} on {next(model.parameters()).device} and {on_cpu:.4f} on the CPU: "
            "this device computes wrongly with this release of PyTorch; train on the CPU or with another release",
            stacklevel=2,
        )
    return here, on_cpu
