"""The three names that the book defines twice: a loss over every token, and a loss over the class of the last one.

Chapter 5 has targets (B, T), chapter 6 has class labels (B,). These functions look at the targets that come and call
the chapter they belong to.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gptlab.book import ch05, ch06

__all__ = ["calc_loss_batch", "calc_loss_loader", "evaluate_model"]


def calc_loss_batch(input_batch: Tensor, target_batch: Tensor, model: nn.Module, device: torch.device | str) -> Tensor:
    """Return the mean loss of a batch, as chapter 5 does for targets (B, T) and chapter 6 for class labels (B,).

    Raises:
        ValueError: the targets have another number of dimensions.
    """
    chapters = {1: ch06, 2: ch05}
    if target_batch.dim() not in chapters:
        raise ValueError(
            "targets must be (B, T), the next token at every position, or (B,), the class of every row; "
            f"got shape {tuple(target_batch.shape)}"
        )
    return chapters[target_batch.dim()].calc_loss_batch(input_batch, target_batch, model, device)


def calc_loss_loader(
    data_loader: DataLoader, model: nn.Module, device: torch.device | str, num_batches: int | None = None
) -> float:
    """Return the mean over batches of `calc_loss_batch`; see `ch05.calc_loss_loader`."""
    return ch05.mean_over_batches(calc_loss_batch, data_loader, model, device, num_batches)


def evaluate_model(
    model: nn.Module,
    train_loader: DataLoader,
    val_loader: DataLoader,
    device: torch.device | str,
    eval_iter: int | None,
) -> tuple[float, float]:
    """Return the losses on some batches of both loaders; see `ch05.evaluate_model`."""
    return ch05.evaluate_both(calc_loss_loader, model, train_loader, val_loader, device, eval_iter)
