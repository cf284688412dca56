"""The names of the book's chapter 6: spam or not, told by the last token of a padded row.

`gptlab.train` and `gptlab.accuracy` do this with targets that say where the answer stands. The book has one label a row
and reads the last position, which for most texts is padding; a model that was trained so has to be asked so, with the
same `max_length`.

A reader's own head works as it is: `model.out_head = torch.nn.Linear(emb_dim, 2)`, on a model with tied weights too.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from gptlab.book.ch05 import evaluate_both, mean_over_batches
from gptlab.book.plots import plot_over_epochs
from gptlab.book.spam_data import SpamDataset, create_balanced_dataset, download_and_unzip_spam_data, random_split
from gptlab.tokenizer import as_tokenizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "SpamDataset",
    "calc_accuracy_loader",
    "calc_loss_batch",
    "calc_loss_loader",
    "classify_review",
    "create_balanced_dataset",
    "download_and_unzip_spam_data",
    "evaluate_model",
    "plot_values",
    "random_split",
    "train_classifier_simple",
]


def calc_loss_batch(input_batch: Tensor, target_batch: Tensor, model: nn.Module, device: torch.device | str) -> Tensor:
    """Return the mean cross-entropy of the classes, in nats, from the logits at the last position.

    Args:
        input_batch: (B, T) int64.
        target_batch: the classes, (B,) int64.
        model: gives logits (B, T, classes).
        device: where the model is.

    Raises:
        ValueError: there is not one class a row.
    """
    if target_batch.shape != input_batch.shape[:1]:
        raise ValueError(
            f"targets must be one class a row, {tuple(input_batch.shape[:1])}, got {tuple(target_batch.shape)}; "
            "the loss over next tokens is gptlab.book.ch05.calc_loss_batch"
        )
    return F.cross_entropy(_last_logits(model, input_batch, device), target_batch.to(device))


def calc_loss_loader(
    data_loader: DataLoader, model: nn.Module, device: torch.device | str, num_batches: int | None = None
) -> float:
    """Return the mean over batches of `calc_loss_batch`; nan when there is none to measure. See `ch05`."""
    return mean_over_batches(calc_loss_batch, data_loader, model, device, num_batches)


def evaluate_model(
    model: nn.Module,
    train_loader: DataLoader,
    val_loader: DataLoader,
    device: torch.device | str,
    eval_iter: int | None,
) -> tuple[float, float]:
    """Return the losses on the first `eval_iter` batches of both loaders; the model is left in the mode it was in."""
    return evaluate_both(calc_loss_loader, model, train_loader, val_loader, device, eval_iter)


@torch.no_grad()
def calc_accuracy_loader(
    data_loader: DataLoader, model: nn.Module, device: torch.device | str, num_batches: int | None = None
) -> float:
    """Return the share of rows whose class has the highest logit at the last position; nan when there is no row.

    Args:
        data_loader: gives (inputs, classes), and has a length.
        model: is left in evaluation mode, as in the book.
        device: where the model is.
        num_batches: how many batches, from the first; None, or more than there are, takes all.

    Raises:
        ValueError: num_batches is negative.
    """
    if num_batches is not None and num_batches < 0:
        raise ValueError(f"num_batches must be >= 0, got {num_batches}")
    right, rows = 0, 0
    model.eval()
    for inputs, targets in islice(data_loader, num_batches) if num_batches != 0 else ():
        right += int((_last_logits(model, inputs, device).argmax(dim=-1) == targets.to(device)).sum())
        rows += len(targets)
    return right / rows if rows else float("nan")


def _last_logits(model: nn.Module, inputs: Tensor, device: torch.device | str) -> Tensor:
    return model(inputs.to(device))[:, -1, :]  # (B, classes)


def train_classifier_simple(
    model: nn.Module,
    train_loader: DataLoader,
    val_loader: DataLoader,
    optimizer: Optimizer,
    device: torch.device | str,
    num_epochs: int,
    eval_freq: int,
    eval_iter: int | None,
) -> tuple[list[float], list[float], list[float], list[float], int]:
    """Train `model` in place, printing losses and, after every epoch, accuracies.

    Args:
        model: is left in evaluation mode, as in the book.
        train_loader: gives (inputs, classes), (B, T) and (B,) int64.
        val_loader: the same, only measured.
        optimizer: over the model's parameters; gradients are not clipped.
        device: where the model is.
        num_epochs: how often to go through `train_loader`.
        eval_freq: steps between two evaluations of the losses; the first step is followed by one.
        eval_iter: batches of each loader that an evaluation takes.

    Returns:
        Training losses and validation losses, one value per evaluation; training accuracies and validation accuracies,
        one value per epoch; and how many rows were trained on.

    Raises:
        ValueError: eval_freq is below 1, or train_loader has no batches.
    """
    if eval_freq < 1:
        raise ValueError(f"eval_freq must be >= 1, got {eval_freq}")
    if not len(train_loader):
        raise ValueError("nothing to train on: train_loader has 0 batches")
    train_losses, val_losses, train_accs, val_accs = [], [], [], []
    examples_seen, step = 0, 0
    for epoch in range(1, num_epochs + 1):
        model.train()
        for input_batch, target_batch in train_loader:
            optimizer.zero_grad()
            calc_loss_batch(input_batch, target_batch, model, device).backward()
            optimizer.step()
            examples_seen += len(input_batch)
            if step % eval_freq == 0:
                train_loss, val_loss = evaluate_model(model, train_loader, val_loader, device, eval_iter)
                train_losses.append(train_loss)
                val_losses.append(val_loss)
                print(f"Ep {epoch} (Step {step:06d}): Train loss {train_loss:.3f}, Val loss {val_loss:.3f}")
            step += 1
        train_accs.append(calc_accuracy_loader(train_loader, model, device, eval_iter))
        val_accs.append(calc_accuracy_loader(val_loader, model, device, eval_iter))
        print(f"Training accuracy: {train_accs[-1] * 100:.2f}% | Validation accuracy: {val_accs[-1] * 100:.2f}%")
    model.eval()
    return train_losses, val_losses, train_accs, val_accs, examples_seen


def plot_values(
    epochs_seen: Any, examples_seen: Any, train_values: Any, val_values: Any, label: str = "loss"
) -> Figure:
    """Return a figure of both values over epochs, with the examples seen along the top; a notebook shows it.

    It is pyplot's current figure too. Unlike the book's, it writes no file and opens no window.
    """
    return plot_over_epochs(epochs_seen, examples_seen, train_values, val_values, label, "Examples seen")


@torch.no_grad()
def classify_review(
    text: str,
    model: nn.Module,
    tokenizer: Any,
    device: torch.device | str,
    max_length: int | None = None,
    pad_token_id: int = 50256,
) -> str:
    """Return "spam" if the text's class is 1, and "not spam" for any other.

    Args:
        text: is cut to `max_length` and to the model's context.
        model: is left in evaluation mode, as in the book.
        tokenizer: special tokens that somebody typed stay text.
        device: where the model is.
        max_length: how long the rows were in training; the text is padded to it, or to the context if that is shorter.
            None pads nothing.
        pad_token_id: what the padding is.

    Raises:
        ValueError: the text has no tokens and nothing pads it, or max_length is below 1.
    """
    if max_length is not None and max_length < 1:
        raise ValueError(f"max_length must be >= 1 or None, got {max_length}")
    length = model.pos_emb.weight.shape[0]
    if max_length is not None:
        length = min(length, max_length)
    ids = as_tokenizer(tokenizer).encode_ordinary(text)[:length]
    if max_length is not None:
        ids += [pad_token_id] * (length - len(ids))
    if not ids:
        raise ValueError(f"the text has no tokens, got {text!r}")
    model.eval()
    predicted = _last_logits(model, torch.tensor([ids]), device).argmax(dim=-1).item()
    return "spam" if predicted == 1 else "not spam"
