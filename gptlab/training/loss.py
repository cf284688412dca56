"""Cross-entropy where something is to be learned, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptlab.data import IGNORE_INDEX, separate
from gptlab.devices import autocast
from gptlab.model import GPTModel, evaluation_mode
from gptlab.training.processes import process_count, process_number, sum_over_processes
from gptlab.training.random_states import own_random_numbers

Batch = Sequence[Tensor]  # inputs and targets, each (B, T) int64, and documents if they are packed

LOGITS_AT_ONCE = 2**25  # 128 MiB in float32; cross-entropy and its gradient need two or three times that


def next_token_loss(
    model: GPTModel, inputs: Tensor, targets: Tensor, documents: Tensor | None = None
) -> tuple[Tensor, int]:
    """Return the summed cross-entropy, in nats, and how many targets it sums over.

    The output head only sees positions that have a target, so prompts and padding cost no logits; and it sees them in
    chunks, so that there are never more than `LOGITS_AT_ONCE` logits. The mean is left to the caller, who knows what
    to average over; without any target the sum is 0 and has a gradient of 0.

    Args:
        model: gives the features and the head.
        inputs: (B, T) int64.
        targets: (B, T) int64, already shifted; IGNORE_INDEX where nothing is learned.
        documents: (B, T) int64, which document of its row a token belongs to, for rows that `collate_packed` packed.
    """
    positions, mask = (None, None) if documents is None else separate(documents)
    features = model.forward_embeddings(model.embed(inputs), positions=positions, mask=mask)  # (B, T, D)
    learned = targets != IGNORE_INDEX
    features, targets = features[learned], targets[learned]  # (N, D), (N,)
    chunk = max(1, LOGITS_AT_ONCE // model.cfg.vocab_size)
    learning = [parameter for parameter in model.out_head.parameters() if parameter.requires_grad]
    at_once = len(targets) <= chunk
    if at_once and (learning or not torch.is_grad_enabled()):
        return F.cross_entropy(model.out_head(features), targets, reduction="sum"), len(targets)
    if not torch.is_grad_enabled():
        pieces = zip(features.split(chunk), targets.split(chunk))
        total = sum(F.cross_entropy(model.out_head(piece), wanted, reduction="sum") for piece, wanted in pieces)
        return total, len(targets)
    return ChunkedCrossEntropy.apply(model.out_head, chunk, targets, features, *learning), len(targets)


class ChunkedCrossEntropy(torch.autograd.Function):
    """The summed cross-entropy of `head(features)`, which computes its own gradient while it has the logits.

        dL / dlogits = softmax(logits) - onehot(target)

    The gradient of a sum is the sum of the chunks' gradients, and is only scaled by what comes after the loss. So each
    chunk's logits can be forgotten before the next chunk; nothing is computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any, head: nn.Module, chunk: int, targets: Tensor, features: Tensor, *parameters: Tensor
    ) -> Tensor:
        wanted = ctx.needs_input_grad[3]
        of_features = torch.empty_like(features) if wanted else None
        of_parameters = [torch.zeros_like(parameter) for parameter in parameters]
        total = torch.zeros((), device=features.device)
        for start in range(0, len(targets), chunk):
            piece = features[start : start + chunk].detach().requires_grad_(wanted)
            with torch.enable_grad():
                logits = head(piece)  # (N, V)
            log_probabilities = logits.detach().float().log_softmax(dim=-1)
            right = targets[start : start + chunk].unsqueeze(1)  # (N, 1)
            total -= log_probabilities.gather(1, right).sum()
            if logits.requires_grad:
                gradient = (
                    log_probabilities.exp_()
                )  # the gradient of a logit is its probability, less 1 where it is right
                gradient.scatter_add_(1, right, gradient.new_full(right.shape, -1.0))
                learning = [*([piece] if wanted else []), *parameters]
                grads = torch.autograd.grad(logits, learning, gradient.to(logits.dtype))
                if wanted:
                    of_features[start : start + chunk] = grads[0]
                for whole, part in zip(of_parameters, grads[len(grads) - len(parameters) :]):
                    whole += part
        ctx.of_features, ctx.of_parameters = of_features, of_parameters
        return total

    @staticmethod
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        of_features = None if ctx.of_features is None else ctx.of_features.mul_(scale)
        return None, None, None, of_features, *(gradient.mul_(scale) for gradient in ctx.of_parameters)


@torch.no_grad()
def evaluate(
    model: GPTModel,
    batches: Iterable[Batch],
    device: torch.device | str | None = None,
    *,
    precision: str = "float32",
) -> float:
    """Return the mean loss per target over all batches, in nats.

    Every target weighs the same, whatever batch it is in. Training goes on afterwards as if nobody had looked: the
    model's mode and the random state are put back. Several processes share the batches among them.

    Raises:
        ValueError: there is no target at all.
    """
    device = next(model.parameters()).device if device is None else torch.device(device)
    total, count = 0.0, 0
    with evaluation_mode(model), own_random_numbers(device):
        for number, batch in enumerate(batches):
            if number % process_count() == process_number():
                with autocast(device, precision):
                    batch_total, batch_count = next_token_loss(model, *(part.to(device) for part in batch))
                total, count = total + batch_total.item(), count + batch_count
    total, count = sum_over_processes([total, count], device)
    if not count:
        raise ValueError("nothing to evaluate: the batches hold no target")
    return total / count
