"""The gradient of a batch's mean loss, computed in parts: one after the other to save memory, or in several processes.

The mean is over all targets of the batch, whichever part they are in: a part's loss is a sum, divided by the number of
targets in the whole batch. So any split gives the gradient of the batch in one piece, up to rounding.

Source: Li et al. 2020, arXiv 2006.15704 (PyTorch's distributed data parallel: gradients are averaged as they come).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gptlab.data import IGNORE_INDEX
from gptlab.devices import autocast
from gptlab.model import GPTModel
from gptlab.training.hooks import Hook
from gptlab.training.loss import Batch, next_token_loss
from gptlab.training.processes import process_count, process_number, sum_over_processes


class Gradients:
    """Computes the gradients of batches.

    Args:
        model: on `device`.
        parts: how many parts each process computes its rows in.
        device: where to compute.
        precision: of the matrix products.
        scaler: multiplies the loss, for float16.
        hooks: add their terms to the mean loss.
    """

    def __init__(
        self,
        model: GPTModel,
        parts: int,
        device: torch.device,
        precision: str,
        scaler: torch.amp.GradScaler,
        hooks: Sequence[Hook],
    ) -> None:
        self.model, self.parts, self.device, self.precision = model, parts, device, precision
        self.scaler, self.hooks = scaler, hooks
        self.summed_loss: nn.Module = _SummedLoss(model)
        if process_count() > 1:
            self.summed_loss = DistributedDataParallel(self.summed_loss)

    def add(self, batch: Batch) -> tuple[float, int]:
        """Add to every parameter's gradient that of the batch's mean loss; return that loss, and its targets.

        Several processes each compute some of the rows, and all have the same gradients afterwards. Without any target
        nothing is added and the loss is 0.
        """
        count = int((batch[1] != IGNORE_INDEX).sum())
        if not count:
            return 0.0, 0
        shares = self.parts * process_count()
        loss = 0.0
        for part in range(self.parts):
            last = part == self.parts - 1
            rows = rows_of(batch, part * process_count() + process_number(), shares)
            with nullcontext() if last or process_count() == 1 else self.summed_loss.no_sync():
                with autocast(self.device, self.precision), sparse_embedding(self.model):
                    total = self.summed_loss(*(tensor.to(self.device) for tensor in rows))
                mean = total * (process_count() / count)  # the processes' gradients are averaged
                if last:
                    mean = mean + sum(hook.loss_terms(self.model) for hook in self.hooks)
                self.scaler.scale(mean).backward()
            loss += total.item() / count
        return sum_over_processes([loss], self.device)[0], count


class _SummedLoss(nn.Module):
    """The summed loss as a module, whose call a distributed model can watch."""

    def __init__(self, model: GPTModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, *batch: Tensor) -> Tensor:
        return next_token_loss(self.model, *batch)[0]


@contextmanager
def sparse_embedding(model: GPTModel) -> Iterator[None]:
    """Let a tied embedding pass on gradients of the rows that were looked up, and not a matrix that is zero elsewhere.

    They are added to those of the head, so that the weight's gradient is dense as ever. With 50,000 tokens that saves a
    seventh of a step. An embedding of its own stays dense: its gradient would come out sparse.
    """
    embedding = model.tok_emb
    tied = getattr(model.out_head, "weight", None) is embedding.weight
    tied = tied and embedding.weight.device.type in ("cpu", "cuda")  # MPS lacks sparse sums in some releases
    before, embedding.sparse = embedding.sparse, embedding.sparse or tied
    try:
        yield
    finally:
        embedding.sparse = before


def rows_of(batch: Batch, share: int, shares: int) -> list[Tensor]:
    """Return every `shares`th row of a batch, without the columns behind its last target.

    If there are too few rows for this share, it is a row without targets, so that every process has something to do.
    """
    rows = [tensor[share::shares] for tensor in batch]
    if not len(rows[0]):
        rows = [tensor[:1] for tensor in batch]
        rows[1] = torch.full_like(rows[1], IGNORE_INDEX)
    columns = (rows[1] != IGNORE_INDEX).any(dim=0).nonzero()
    end = int(columns.max()) + 1 if len(columns) else 1
    return [tensor[:, :end] for tensor in rows]
