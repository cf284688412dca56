"""The optimizer: AdamW, with weight decay where it belongs."""

from __future__ import annotations

import math

from torch.optim import AdamW

from gptlab.model import GPTModel


def make_optimizer(model: GPTModel, learning_rate: float, weight_decay: float = 0.1) -> AdamW:
    """Return AdamW with weight decay on matrices and none on biases and norms, over what learns.

    Where PyTorch has a fused kernel for the device, which updates a parameter in one pass, it is used.

    Raises:
        ValueError: the learning rate is not positive or not finite, or nothing learns.

    Source: Loshchilov and Hutter 2017, arXiv 1711.05101; betas as in Brown et al. 2020, arXiv 2005.14165, appendix B.
    """
    if not 0 < learning_rate < math.inf:
        raise ValueError(f"learning_rate must be positive and finite, got {learning_rate}")
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not learned:
        raise ValueError("nothing to train: no parameter of the model has requires_grad")
    groups = [
        {"params": [parameter for parameter in learned if parameter.dim() >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in learned if parameter.dim() < 2], "weight_decay": 0.0},
    ]
    try:
        return AdamW(groups, lr=learning_rate, betas=(0.9, 0.95), fused=True)
    except RuntimeError:  # no fused kernel for this device
        return AdamW(groups, lr=learning_rate, betas=(0.9, 0.95))
