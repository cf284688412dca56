"""Exercises of chapter 5, pretraining. Write the functions, then run this file: it checks what is there so far.

    python chapters/ch05_pretraining/exercises.py                              # all of them
    python chapters/ch05_pretraining/exercises.py pretraining.cross_entropy    # one

Solutions are in solutions.py. They help most when they are opened last.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Optimizer

from gptlab import GPTModel


def first_loss(vocab_size: int) -> tuple[float, float]:
    """Predict: what are the loss, in nats, and the perplexity of a model that finds all tokens equally likely?"""
    raise NotImplementedError


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy in nats, a tensor without dimensions, from logits (N, V) and targets (N,).

    Targets of -100 are left out, also from the number of places that the mean is over. At least one target is a token.
    Write it with log_softmax or logsumexp, not with the cross-entropy that PyTorch has.
    """
    raise NotImplementedError


def perplexity(sums: Sequence[float], counts: Sequence[int]) -> float:
    """Return the perplexity over all tokens of several batches.

    sums[i] is the summed loss of batch i, in nats, and counts[i] is how many targets it sums over.
    """
    raise NotImplementedError


def rate_at(step: int, peak: float, total_steps: int, warmup_steps: int, final: float = 0.1) -> float:
    """Return the learning rate of a step: a linear warm-up, then half a cosine down.

    Steps are counted 0, 1, ..., total_steps - 1. The rate is

        peak * (step + 1) / warmup_steps                          while step < warmup_steps
        peak * (final + (1 - final) * (1 + cos(pi * s)) / 2)      then

    s is 0 at step warmup_steps and 1 at the last step, and grows by the same amount each step. warmup_steps may be 0.
    If only one step comes after the warm-up, s is 0 there.
    """
    raise NotImplementedError


def train_step(model: GPTModel, optimizer: Optimizer, inputs: Tensor, targets: Tensor) -> float:
    """Take one step of training: gradients shortened to a length of at most 1. Return the batch's loss before the step.

    inputs and targets are (B, T); the loss is the mean over all B * T targets. The model may come in evaluation mode,
    and it must learn in training mode.
    """
    raise NotImplementedError


def next_token_probabilities(logits: Tensor, temperature: float) -> Tensor:
    """Return the probabilities (V,) with which the next token is drawn, from logits (V,) and a temperature >= 0.

    At temperature 0 the most likely token gets the probability 1 and the others get 0.
    """
    raise NotImplementedError


def split_c_attn(weight: Tensor, bias: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return [(weight, bias) of W_query, of W_key, of W_value] as nn.Linear stores them: (D, D) and (D,) each.

    GPT-2 stores them side by side, in this order, as one weight (D, 3 D) and one bias (3 D,), and computes
    x @ weight + bias.
    """
    raise NotImplementedError


EXERCISES = {
    "pretraining.first_loss": first_loss,
    "pretraining.cross_entropy": cross_entropy,
    "pretraining.perplexity": perplexity,
    "pretraining.schedule": rate_at,
    "pretraining.train_step": train_step,
    "pretraining.temperature": next_token_probabilities,
    "pretraining.transpose": split_c_attn,
}

if __name__ == "__main__":
    from gptlab.checks import run

    raise SystemExit(run(EXERCISES))
