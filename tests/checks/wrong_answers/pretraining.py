"""Usual mistakes about pretraining: the check, the wrong answer, and words of the hint that it must get."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def picked(values: Tensor, targets: Tensor) -> Tensor:
    return values[torch.arange(len(targets)), targets]


def mean_over_all_places(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets, reduction="sum") / len(targets)


def ignored_by_index(logits: Tensor, targets: Tensor) -> Tensor:
    return -logits.log_softmax(-1).gather(1, targets.unsqueeze(1)).mean()


def log_of_softmax(logits: Tensor, targets: Tensor) -> Tensor:
    learned = targets != -100
    return -picked(logits[learned].softmax(-1), targets[learned]).log().mean()


def mean_of_means(sums, counts) -> float:
    return math.exp(sum(total / count for total, count in zip(sums, counts)) / len(sums))


def mean_of_exponentials(sums, counts) -> float:
    return sum(math.exp(total / count) for total, count in zip(sums, counts)) / len(sums)


def schedule(step, peak, total, warmup, final=0.1, *, first=1, begin=None, last=1, floor=True, safe=True):
    """The right schedule, but for what is asked to be wrong."""
    if step < warmup:
        return peak * (step + first) / warmup
    begin = warmup if begin is None else begin
    length = total - last - begin
    s = (step - begin) / (max(1, length) if safe else length)
    final = final if floor else 0.0
    return peak * (final + (1 - final) * (1 + math.cos(math.pi * s)) / 2)


def always_divided_by_warmup(step, peak, total, warmup, final=0.1):
    return min(1.0, (step + 1) / warmup) * schedule(max(step, warmup), peak, total, warmup, final)


def step_with(*lines: str, mode: str = "train", reduction: str = "mean"):
    """Return a train_step that does these things in this order."""

    def train_step(model: nn.Module, optimizer, inputs: Tensor, targets: Tensor) -> float:
        model.train() if mode == "train" else model.eval()
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction=reduction)
        do = {
            "zero": optimizer.zero_grad,
            "backward": loss.backward,
            "clip": lambda: nn.utils.clip_grad_norm_(model.parameters(), 1.0),
            "step": optimizer.step,
        }
        for line in lines:
            do[line]()
        return loss.item()

    return train_step


def loss_as_tensor(model, optimizer, inputs, targets):
    return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


def in_place(logits: Tensor, temperature: float) -> Tensor:
    return logits.div_(temperature).softmax(-1)


def flattest_at_zero(logits: Tensor, temperature: float) -> Tensor:
    return torch.softmax(logits / (temperature or 1.0), dim=-1)


def pairs(weights, biases) -> list[tuple[Tensor, Tensor]]:
    return list(zip(weights, biases))


def every_target_for_every_place(logits: Tensor, targets: Tensor) -> Tensor:
    return -logits.log_softmax(dim=-1)[:, targets].mean()


def detached(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.detach(), targets)


def always_of_length_one(model: nn.Module, optimizer, inputs: Tensor, targets: Tensor) -> float:
    model.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    loss.backward()
    length = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm()
    for parameter in model.parameters():
        parameter.grad /= length
    optimizer.step()
    return loss.item()


WRONG = [
    ("pretraining.cross_entropy", every_target_for_every_place, "each place has its own target"),
    ("pretraining.cross_entropy", detached, "way back to the logits"),
    ("pretraining.cross_entropy", lambda x, y: F.cross_entropy(x, y).item(), "should be a tensor"),
    ("pretraining.train_step", always_of_length_one, "was made longer"),
    ("pretraining.first_loss", lambda V: (V, V), "the loss is a logarithm"),
    ("pretraining.first_loss", lambda V: (math.log2(V), V), "in nats"),
    ("pretraining.first_loss", lambda V: (math.log10(V), V), "base 10"),
    ("pretraining.first_loss", lambda V: (math.log(1 / V), V), "with a minus"),
    ("pretraining.first_loss", lambda V: (1 / V, V), "the cost of it"),
    ("pretraining.first_loss", lambda V: (math.log(V), 1 / V), "among how many"),
    ("pretraining.first_loss", lambda V: math.log(V), "should be a tuple"),
    ("pretraining.cross_entropy", lambda x, t: -picked(x.log_softmax(0), t).mean(), "not over the places"),
    ("pretraining.cross_entropy", lambda x, t: picked(x.log_softmax(-1), t).mean(), "the minus is missing"),
    ("pretraining.cross_entropy", lambda x, t: -picked(x.log_softmax(-1), t), "one number, the mean"),
    ("pretraining.cross_entropy", lambda x, t: F.cross_entropy(x, t, reduction="sum"), "the loss is their mean"),
    ("pretraining.cross_entropy", lambda x, t: -picked(x, t).mean(), "no logarithms of probabilities"),
    ("pretraining.cross_entropy", lambda x, t: -picked(x.softmax(-1), t).mean(), "the mean probability"),
    ("pretraining.cross_entropy", lambda x, t: -picked(x.softmax(-1), t).mean().log(), "and then the mean"),
    ("pretraining.cross_entropy", lambda x, t: -picked(x.log_softmax(-1), t).mean(), "as an index from the end"),
    ("pretraining.cross_entropy", ignored_by_index, "left out before"),
    ("pretraining.cross_entropy", mean_over_all_places, "the mean is over all places"),
    ("pretraining.cross_entropy", log_of_softmax, "rounded to 0"),
    ("pretraining.perplexity", lambda sums, counts: sum(sums) / sum(counts), "e to it"),
    ("pretraining.perplexity", mean_of_means, "every token should"),
    ("pretraining.perplexity", mean_of_exponentials, "first mean, then e"),
    ("pretraining.perplexity", lambda sums, counts: 2 ** (sum(sums) / sum(counts)), "not 2"),
    ("pretraining.perplexity", lambda sums, counts: math.exp(-sum(sums) / sum(counts)), "the wrong sign"),
    ("pretraining.schedule", lambda *a: schedule(*a, first=0), "a step for nothing"),
    ("pretraining.schedule", lambda *a: schedule(*a, begin=0), "from the end of the warm-up"),
    ("pretraining.schedule", lambda *a: schedule(*a, last=0), "must be 1 there"),
    ("pretraining.schedule", lambda *a: schedule(*a, floor=False), "`final` times the peak"),
    ("pretraining.schedule", lambda *a: schedule(*a[:4]), "final=0.5"),
    ("pretraining.schedule", lambda step, *a: schedule(step, 1.0, *a[1:]), "step 0 should have 1/8 of the peak"),
    ("pretraining.schedule", lambda *a: schedule(*a, safe=False), "division by zero, when one step"),
    ("pretraining.schedule", always_divided_by_warmup, "division by zero, of a warm-up"),
    (
        "pretraining.schedule",
        lambda step, peak, total, warmup: peak * min(1, (step + 1) / warmup),
        "does not come down",
    ),
    ("pretraining.train_step", step_with("backward", "clip", "step"), "adds to what is there"),
    ("pretraining.train_step", step_with("backward", "zero", "clip", "step"), "mind the order"),
    ("pretraining.train_step", step_with("zero", "backward", "clip"), "there is no step"),
    ("pretraining.train_step", step_with("zero", "backward", "step"), "not shortened to 1"),
    ("pretraining.train_step", step_with("zero", "backward", "step", "clip"), "not shortened to 1"),
    ("pretraining.train_step", step_with("zero", "backward", "clip", "step", mode="eval"), "in evaluation mode"),
    ("pretraining.train_step", step_with("zero", "backward", "clip", "step", reduction="sum"), "the mean is asked"),
    ("pretraining.train_step", loss_as_tensor, "a plain number"),
    ("pretraining.temperature", lambda x, T: x.softmax(-1) / T, "before the softmax"),
    ("pretraining.temperature", lambda x, T: (x.softmax(-1) / T) / (x.softmax(-1) / T).sum(), "changes nothing"),
    ("pretraining.temperature", lambda x, T: (x * T).softmax(-1), "do not multiply"),
    ("pretraining.temperature", lambda x, T: x / T, "the softmax is missing"),
    ("pretraining.temperature", lambda x, T: (x / T).softmax(-1), "it needs a case of its own"),
    ("pretraining.temperature", flattest_at_zero, "and the others 0"),
    ("pretraining.temperature", in_place, "make new ones"),
    ("pretraining.transpose", lambda w, b: pairs(w.chunk(3, dim=1), b.chunk(3)), "not transposed"),
    ("pretraining.transpose", lambda w, b: pairs(w.T.chunk(3, dim=1), b.chunk(3)), "split the last axis"),
    ("pretraining.transpose", lambda w, b: pairs(w.view(3, 8, 8), b.chunk(3)), "mixed the columns"),
    ("pretraining.transpose", lambda w, b: pairs(w.T.chunk(3)[::-1], b.chunk(3)), "the order is query, key, value"),
    ("pretraining.transpose", lambda w, b: pairs(w.T.chunk(3), b.chunk(3)[::-1]), "not its third of the bias"),
    ("pretraining.transpose", lambda w, b: (w.T, b), "three pairs"),
]
