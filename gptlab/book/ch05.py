"""The names of the book's chapter 5: the loss, training, and, from their own files, sampling and GPT-2's weights.

These functions keep the book's numbers, and with them two habits that `gptlab.train` and `gptlab.evaluate` have not. A
loss over a loader is the mean of its batches' means, so targets of a short batch weigh more. And looking at a shuffled
loader draws from the global random state, so that another `eval_freq` ends in other weights.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tiktoken
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from gptlab.book.ch04 import generate_text_simple
from gptlab.book.gpt_download import download_and_load_gpt2, download_file
from gptlab.book.gpt_weights import assign, load_weights_into_gpt
from gptlab.book.pending import refuse_pending
from gptlab.book.plots import plot_over_epochs
from gptlab.book.sampling import generate, print_sampled_tokens, softmax_with_temperature
from gptlab.data import IGNORE_INDEX
from gptlab.model import evaluation_mode
from gptlab.tokenizer import END_OF_TEXT, as_tokenizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "assign",
    "calc_loss_batch",
    "calc_loss_loader",
    "download_and_load_gpt2",
    "download_file",
    "evaluate_model",
    "generate",
    "generate_and_print_sample",
    "generate_text_simple",
    "load_weights_into_gpt",
    "plot_losses",
    "print_sampled_tokens",
    "softmax_with_temperature",
    "text_to_token_ids",
    "token_ids_to_text",
    "train_model_simple",
]
__getattr__ = refuse_pending(__name__)


def text_to_token_ids(text: str, tokenizer: Any) -> Tensor:
    """Return the ids of `text` as a batch of one, (1, T) int64; an `<|endoftext|>` in it becomes that token.

    A tokenizer of another kind adds nothing to the text, no [CLS] and no [SEP], and finds no special tokens in it.
    """
    if "allowed_special" in signature(tokenizer.encode).parameters or isinstance(tokenizer, tiktoken.Encoding):
        ids = tokenizer.encode(text, allowed_special={END_OF_TEXT})
    else:
        ids = as_tokenizer(tokenizer).encode_ordinary(text)
    return torch.tensor(ids, dtype=torch.int64).unsqueeze(0)


def token_ids_to_text(token_ids: Tensor, tokenizer: Any) -> str:
    """Return the text of one row of ids, (1, T) or (T,).

    Raises:
        ValueError: there are several rows; decode them one by one.
    """
    if token_ids.numel() != token_ids.shape[-1]:
        raise ValueError(f"token_ids must be one row, (1, T) or (T,), got shape {tuple(token_ids.shape)}")
    return tokenizer.decode(token_ids.flatten().tolist())


def calc_loss_batch(input_batch: Tensor, target_batch: Tensor, model: nn.Module, device: torch.device | str) -> Tensor:
    """Return the mean cross-entropy per target, in nats; 0, with a gradient of 0, if every target is masked.

    Args:
        input_batch: (B, T) int64.
        target_batch: (B, T) int64, already shifted; -100 where nothing is learned.
        model: gives logits (B, T, V).
        device: where the model is.

    Raises:
        ValueError: the targets are not of the inputs' shape.
    """
    if target_batch.shape != input_batch.shape:
        raise ValueError(
            f"targets must be {tuple(input_batch.shape)} like the inputs, got {tuple(target_batch.shape)}; "
            "the loss over class labels is gptlab.book.ch06.calc_loss_batch"
        )
    input_batch, target_batch = input_batch.to(device), target_batch.to(device)
    logits = model(input_batch)  # (B, T, V)
    reduction = "mean" if _has_target(target_batch) else "sum"  # the mean over nothing is 0 / 0
    return F.cross_entropy(logits.flatten(0, 1), target_batch.flatten(), reduction=reduction)


def calc_loss_loader(
    data_loader: DataLoader, model: nn.Module, device: torch.device | str, num_batches: int | None = None
) -> float:
    """Return the mean over batches of `calc_loss_batch`, in nats; nan when there is no batch to measure.

    A batch in which every target is masked is left out of the mean.

    Args:
        data_loader: gives (inputs, targets), and has a length.
        model: is left in its mode; put it into evaluation mode first.
        device: where the model is.
        num_batches: how many batches, from the first; None, or more than there are, takes all.

    Raises:
        ValueError: num_batches is negative.
    """
    return mean_over_batches(calc_loss_batch, data_loader, model, device, num_batches)


def mean_over_batches(
    loss_of: Callable[..., Tensor],
    data_loader: DataLoader,
    model: nn.Module,
    device: torch.device | str,
    num_batches: int | None,
) -> float:
    """Return the mean of `loss_of(inputs, targets, model, device)` over the first batches."""
    if num_batches is not None and num_batches < 0:
        raise ValueError(f"num_batches must be >= 0, got {num_batches}")
    total, measured = 0.0, 0
    if len(data_loader) and num_batches != 0:
        for inputs, targets in islice(data_loader, num_batches):
            if _has_target(targets):
                total += loss_of(inputs, targets, model, device).item()
                measured += 1
    return total / measured if measured else float("nan")


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
def evaluate_both(
    loss_of: Callable[..., float],
    model: nn.Module,
    train_loader: DataLoader,
    val_loader: DataLoader,
    device: torch.device | str,
    eval_iter: int | None,
) -> tuple[float, float]:
    """Return `loss_of(loader, model, device, eval_iter)` for both loaders, in evaluation mode."""
    with evaluation_mode(model):
        train_loss = loss_of(train_loader, model, device, num_batches=eval_iter)
        return train_loss, loss_of(val_loader, model, device, num_batches=eval_iter)


def generate_and_print_sample(model: nn.Module, tokenizer: Any, device: torch.device | str, start_context: str) -> None:
    """Print how the model goes on after `start_context`, greedily, in one line; its mode stays what it was."""
    encoded = text_to_token_ids(start_context, tokenizer).to(device)
    with torch.no_grad(), evaluation_mode(model):
        context_size = model.pos_emb.weight.shape[0]
        token_ids = generate_text_simple(model, encoded, max_new_tokens=50, context_size=context_size)
    print(token_ids_to_text(token_ids, tokenizer).replace("\n", " "))


def train_model_simple(
    model: nn.Module,
    train_loader: DataLoader,
    val_loader: DataLoader,
    optimizer: Optimizer,
    device: torch.device | str,
    num_epochs: int,
    eval_freq: int,
    eval_iter: int | None,
    start_context: str,
    tokenizer: Any,
) -> tuple[list[float], list[float], list[int]]:
    """Train `model` in place, printing losses and, after every epoch, a sample.

    Args:
        model: is left in training mode.
        train_loader: gives (inputs, targets), each (B, T) int64.
        val_loader: the same, only measured.
        optimizer: over the model's parameters; gradients are not clipped.
        device: where the model is.
        num_epochs: how often to go through `train_loader`.
        eval_freq: steps between two evaluations; the first step is followed by one.
        eval_iter: batches of each loader that an evaluation takes.
        start_context: what the samples go on from.
        tokenizer: for the samples.

    Returns:
        One value per evaluation: the training losses, the validation losses, and the tokens seen until then.

    Raises:
        ValueError: eval_freq is below 1, or train_loader has no batches.
    """
    return train_and_print(
        model, train_loader, val_loader, optimizer, device, num_epochs, eval_freq, eval_iter, start_context, tokenizer
    )


def train_and_print(
    model: nn.Module,
    train_loader: DataLoader,
    val_loader: DataLoader,
    optimizer: Optimizer,
    device: torch.device | str,
    num_epochs: int,
    eval_freq: int,
    eval_iter: int | None,
    start_context: str,
    tokenizer: Any,
    *,
    counter: str = "Step",
    before_step: Callable[[int], None] | None = None,
) -> tuple[list[float], list[float], list[int]]:
    """Do what `train_model_simple` says; `before_step`, given the steps done, may touch rates and gradients."""
    if eval_freq < 1:
        raise ValueError(f"eval_freq must be >= 1, got {eval_freq}")
    if not len(train_loader):
        raise ValueError("nothing to train on: train_loader has 0 batches")
    train_losses, val_losses, track_tokens_seen = [], [], []
    tokens_seen, step = 0, 0
    for epoch in range(1, num_epochs + 1):
        model.train()
        for input_batch, target_batch in train_loader:
            optimizer.zero_grad()
            calc_loss_batch(input_batch, target_batch, model, device).backward()
            if before_step is not None:
                before_step(step)
            optimizer.step()
            tokens_seen += input_batch.numel()
            if step % eval_freq == 0:
                train_loss, val_loss = evaluate_model(model, train_loader, val_loader, device, eval_iter)
                train_losses.append(train_loss)
                val_losses.append(val_loss)
                track_tokens_seen.append(tokens_seen)
                print(f"Ep {epoch} ({counter} {step:06d}): Train loss {train_loss:.3f}, Val loss {val_loss:.3f}")
            step += 1
        generate_and_print_sample(model, tokenizer, device, start_context)
    return train_losses, val_losses, track_tokens_seen


def plot_losses(
    epochs_seen: Any, tokens_seen: Any, train_losses: Any, val_losses: Any, plot_name: str | Path | None = None
) -> Figure:
    """Return a figure of both losses over epochs, with the tokens seen along the top; a notebook shows it.

    It is pyplot's current figure too. Unlike the book's, it opens no window, and writes a file only if `plot_name`
    asks for one.
    """
    figure = plot_over_epochs(epochs_seen, tokens_seen, train_losses, val_losses, "loss", "Tokens seen")
    if plot_name is not None:
        figure.savefig(plot_name)
    return figure


def _has_target(targets: Tensor) -> bool:
    return bool((targets != IGNORE_INDEX).any())
