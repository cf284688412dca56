"""One solution of each exercise of chapter 5; there are others. Run it like exercises.py."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from gptlab import GPTModel


def first_loss(vocab_size: int) -> tuple[float, float]:
    return math.log(vocab_size), float(vocab_size)  # -ln(1 / V), and e to that


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    learned = targets != -100
    logits, targets = logits[learned], targets[learned]
    return -logits.log_softmax(dim=-1)[torch.arange(len(targets)), targets].mean()


def perplexity(sums: Sequence[float], counts: Sequence[int]) -> float:
    return math.exp(sum(sums) / sum(counts))


def rate_at(step: int, peak: float, total_steps: int, warmup_steps: int, final: float = 0.1) -> float:
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    s = (step - warmup_steps) / max(1, total_steps - 1 - warmup_steps)
    return peak * (final + (1 - final) * (1 + math.cos(math.pi * s)) / 2)


def train_step(model: GPTModel, optimizer: Optimizer, inputs: Tensor, targets: Tensor) -> float:
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


def next_token_probabilities(logits: Tensor, temperature: float) -> Tensor:
    if temperature == 0:
        return F.one_hot(logits.argmax(), len(logits)).float()
    return torch.softmax(logits / temperature, dim=-1)


def split_c_attn(weight: Tensor, bias: Tensor) -> list[tuple[Tensor, Tensor]]:
    return [(w.T, b) for w, b in zip(weight.chunk(3, dim=-1), bias.chunk(3))]


if __name__ == "__main__":
    from exercises import EXERCISES

    from gptlab.checks import run

    raise SystemExit(run({name: globals()[stub.__name__] for name, stub in EXERCISES.items()}))
