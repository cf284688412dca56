"""How many numbers learn, and what they and all others take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer

from gptlab.peft.nf4 import NF4Linear
from gptlab.training.estimate import readable


@dataclass(frozen=True)
class ParameterReport:
    """What a model holds and learns; sizes in bytes.

    Attributes:
        total: how many numbers the model holds; a shared weight counts once, and a quantised one as what it stands for.
        trainable: how many of them learn.
        weights: memory of all of them, as they are stored.
        gradients: memory of the gradients.
        optimizer: memory of the optimizer's state.
    """

    total: int
    trainable: int
    weights: int
    gradients: int
    optimizer: int

    @property
    def share(self) -> float:
        """The share of the parameters that learns."""
        return self.trainable / self.total

    @property
    def memory(self) -> int:
        """Weights, gradients and optimizer together."""
        return self.weights + self.gradients + self.optimizer

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {readable(getattr(self, name))}" for name in ("weights", "gradients", "optimizer"))
        return f"{self.trainable:,} of {self.total:,} parameters learn ({self.share:.2%}); {parts}"


def parameter_report(model: nn.Module, optimizer: Optimizer | None = None) -> ParameterReport:
    """Return how many parameters learn and what they take.

    Args:
        model: with or without adapters.
        optimizer: after its first step, so that its state is there to be measured; None counts AdamW's two moments.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = sum(parameter.nbytes for parameter in trainable)
    state = 2 * gradients
    if optimizer is not None:
        state = storage_bytes(value for kept in optimizer.state.values() for value in kept.values())
    quantised = sum(module.parameters_held for module in model.modules() if isinstance(module, NF4Linear))
    return ParameterReport(
        total=sum(parameter.numel() for parameter in model.parameters()) + quantised,
        trainable=sum(parameter.numel() for parameter in trainable),
        weights=storage_bytes([*model.parameters(), *model.buffers()]),
        gradients=gradients,
        optimizer=state,
    )


def storage_bytes(values: Iterable[object]) -> int:
    """Return the memory behind the tensors among the values; what several of them share counts once."""
    storages = {}
    for value in values:
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            storages[storage.data_ptr() or id(storage)] = storage  # on the meta device all stand at 0
    return sum(storage.nbytes() for storage in storages.values())
