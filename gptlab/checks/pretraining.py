"""Checks about pretraining: the loss, perplexity, the schedule, a step of the loop, temperature, GPT-2's weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gptlab.checks.core import check_of, close, expect, expect_returned, expect_tensor, expect_tuple
from gptlab.config import GPTConfig
from gptlab.data import IGNORE_INDEX
from gptlab.model import GPTModel
from gptlab.training import warmup_cosine


@check_of("pretraining.first_loss", "loss and perplexity of a model that knows nothing")
def first_loss(answer) -> None:
    for V in (500, 50257):
        got = expect_tuple(answer(V), "(loss, perplexity)")
        expect(len(got) == 2, f"two numbers are asked for, (loss, perplexity); got {got!r}")
        loss, perplexity = (float(number) for number in got)
        expect(not close(loss, V), "V is the perplexity; the loss is a logarithm")
        expect(not close(loss, -math.log(V)), "the loss is the probability's logarithm with a minus, so it is above 0")
        expect(not close(loss, math.log2(V)), "that is in bits; the loss is in nats, with the natural logarithm")
        expect(not close(loss, math.log10(V)), "the logarithm is the natural one, not the one to the base 10")
        expect(not close(loss, 1 / V), "1 / V is the probability of each token; the loss is the cost of it")
        expect(close(loss, math.log(V)), f"for {V} tokens a model that guesses pays -ln(1 / {V}) each, got {loss:g}")
        expect(not close(perplexity, 1 / V), "that is the probability; the perplexity is among how many it chooses")
        expect(close(perplexity, V), f"the perplexity is e to the loss, and no other number; got {perplexity:g}")


@check_of("pretraining.cross_entropy", "the loss from logits and targets")
def cross_entropy(answer) -> None:
    N, V = 12, 150  # a vocabulary above 100, in which -100 is an index that Python allows
    logits, targets = torch.randn(N, V) * 2, torch.randint(0, V, (N,))
    got = answer(logits.clone(), targets.clone())
    expect_returned(got)
    expect(
        tuple(torch.as_tensor(got).shape) != (N,), "one cost for each place came back; the loss is one number, the mean"
    )
    expect_tensor(got, (), "the loss")
    right = F.cross_entropy(logits, targets)
    expect(not close(got, -right), "the loss is negative: the minus is missing")
    expect(not close(got, right * N), "that is the sum of the costs; the loss is their mean")
    all_pairs = -logits.log_softmax(dim=-1)[:, targets].mean()
    expect(not close(got, all_pairs), "each place has its own target: row n goes with targets[n], not with all of them")
    over_places = -logits.log_softmax(dim=0)[torch.arange(N), targets].mean()
    expect(not close(got, over_places), "the softmax goes over the vocabulary, the last axis, not over the places")
    expect(not close(got, -logits[torch.arange(N), targets].mean()), "these are logits, no logarithms of probabilities")
    probabilities = logits.softmax(dim=-1)[torch.arange(N), targets]
    expect(not close(got, -probabilities.mean()), "that is the mean probability; take the logarithm of each first")
    expect(not close(got, -probabilities.mean().log()), "take the logarithm of each probability, and then the mean")
    expect(not close(got, right / math.log(2)), "that is in bits; use the natural logarithm")
    expect(close(got, right, 1e-4), f"without any -100 the loss should be {right:.4f}, got {got:.4f}")
    learning, given = logits.clone().requires_grad_(), targets.clone()
    expect(
        answer(learning, given).requires_grad,
        "the loss has lost its way back to the logits, so nothing can be learned from it: keep to tensors",
    )
    expect(torch.equal(given, targets), "the targets that came in were changed")
    _check_ignored(answer, logits, targets)
    large = torch.tensor([[200.0, 0.0]])
    got = torch.as_tensor(answer(large, torch.tensor([1])))
    expect(
        bool(got.isfinite()), f"with the logits 200 and 0 it is {got}: a softmax was rounded to 0 before its logarithm"
    )


def _check_ignored(answer: Any, logits: Tensor, targets: Tensor) -> None:
    ignored = targets.clone()
    ignored[::3] = IGNORE_INDEX
    right = F.cross_entropy(logits, ignored)
    kept = int((ignored != IGNORE_INDEX).sum())
    try:
        got = torch.as_tensor(answer(logits.clone(), ignored.clone()))
    except (IndexError, RuntimeError):
        expect(False, "it fails when a target is -100: such places must be left out before their target is looked up")
    counted = -logits.log_softmax(dim=-1)[torch.arange(len(ignored)), ignored].mean()
    expect(
        not close(got, counted, 1e-4), "places with the target -100 still count: -100 was used as an index from the end"
    )
    expect(
        not close(got, right * kept / len(ignored), 1e-4),
        "the costs are right, but the mean is over all places; divide by the number of targets that count",
    )
    expect(close(got, right, 1e-4), f"with -100 among the targets the loss should be {right:.4f}, got {got:.4f}")


@check_of("pretraining.perplexity", "one perplexity for several batches")
def perplexity(answer) -> None:
    sums, counts = [6.0, 300.0, 40.0], [10, 100, 20]
    got = answer(list(sums), list(counts))
    expect_returned(got)
    got, mean = float(got), sum(sums) / sum(counts)
    means = [total / count for total, count in zip(sums, counts)]
    expect(not close(got, mean), "that is the mean loss; the perplexity is e to it")
    expect(
        not close(got, sum(map(math.exp, means)) / 3),
        "that is the mean of the batches' perplexities: first mean, then e",
    )
    expect(
        not close(got, math.exp(sum(means) / 3)),
        "every batch has the same weight; every token should: a batch of 100 counts ten times as much as one of 10",
    )
    expect(not close(got, 2**mean), "the loss is in nats, so the base is e, not 2")
    expect(not close(got, math.exp(-mean)), "a perplexity is at least 1; the exponent has the wrong sign")
    expect(close(got, math.exp(mean)), f"it should be e to the mean loss of all {sum(counts)} tokens; got {got:g}")
    uniform = answer([7 * math.log(500)], [7])
    expect(close(uniform, 500), f"a model that guesses among 500 tokens has the perplexity 500, got {uniform:g}")


@check_of("pretraining.schedule", "warm-up and cosine")
def schedule(answer) -> None:
    peak, total, warmup = 2.0, 40, 8  # in realistic rates, rounding and a mistake look alike
    got = [answer(step, peak, total, warmup) for step in range(total)]
    expect(None not in got, "it returns None for some steps: a `return` seems to be missing")
    expect(got[0] != 0, "the first step has the rate 0, a step for nothing: steps are counted from 0, so add 1")
    expect(close(got[0], peak / warmup), f"step 0 should have 1/{warmup} of the peak, got {got[0] / peak:.3f} of it")
    expect(close(got[warmup - 1], peak), f"the warm-up's last step should reach the peak, got {got[warmup - 1]:g}")
    expect(
        close(got[warmup], peak),
        f"right after the warm-up the cosine starts at the peak, got {got[warmup] / peak:.3f} of it: "
        "s must be 0 there, so it is counted from the end of the warm-up",
    )
    expect(not close(got[-1], 0), "the last rate is 0; it should be `final` times the peak")
    expect(got[-1] < 0.5 * peak, "the rate does not come down: is the cosine's angle in radians, from 0 to pi?")
    expect(
        close(got[-1], 0.1 * peak),
        f"the last step, number {total - 1}, should have exactly 0.1 of the peak, got {got[-1] / peak:.4f} of it: s "
        "must be 1 there, so mind what it is divided by",
    )
    _compare(answer, peak, total, warmup, "in between, the rates are not those of the cosine")
    half = answer(total - 1, peak, total, warmup, 0.5)
    expect(
        close(half, 0.5 * peak), f"with final=0.5 the last step should have half the peak, got {half / peak:.3f} of it"
    )
    for warmup in (0, total - 1):
        try:
            _compare(answer, peak, total, warmup, f"with warmup_steps={warmup} of {total}, it is not the equation's")
        except ZeroDivisionError:
            after = "of a warm-up without steps" if warmup == 0 else "when one step comes after the warm-up"
            expect(False, f"warmup_steps={warmup} and total_steps={total} give a division by zero, {after}")


def _compare(answer: Any, peak: float, total: int, warmup: int, hint: str) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    [share] = warmup_cosine(optimizer, total, warmup).lr_lambdas
    for step in range(total):
        got, right = answer(step, peak, total, warmup), peak * share(step)
        expect(close(got, right), f"{hint}: step {step} should have {right:.6f}, got {got:.6f}")


@check_of("pretraining.train_step", "one step of the loop")
def train_step(answer) -> None:
    model, expected = _small_model(), _small_model()
    seen: list[bool] = []
    model.trf_blocks[0].register_forward_pre_hook(lambda block, args: seen.append(block.training))
    optimizer, reference = (torch.optim.SGD(each.parameters(), lr=0.5) for each in (model, expected))
    model.eval()
    for number in (1, 2):
        inputs, targets = torch.randint(0, 20, (2, 3, 6)).unbind(0)
        weights = [parameter.detach().clone() for parameter in model.parameters()]
        gradients = None if number == 1 else [parameter.grad for parameter in expected.parameters()]
        right = F.cross_entropy(expected(inputs).flatten(0, 1), targets.flatten())
        got = answer(model, optimizer, inputs.clone(), targets.clone())
        expect_returned(got)
        expect(isinstance(got, float), f"the loss should be a plain number (.item()), got a {type(got).__name__}")
        expect(all(seen), "the model computed the loss in evaluation mode: dropout would be off while it learns")
        expect(not close(got, right.item() * targets.numel(), 1e-4), "that is the sum of the costs; the mean is asked")
        expect(
            close(got, right.item(), 1e-4), f"the loss before step {number} should be {right.item():.4f}, got {got:.4f}"
        )
        moves = [new.detach() - old for new, old in zip(model.parameters(), weights)]
        expect(
            any(bool(move.any()) for move in moves),
            "the weights are as before: there is no step, or the gradients are gone when it comes (mind the order)",
        )
        reference.zero_grad()
        right.backward()
        plain = [parameter.grad.clone() for parameter in expected.parameters()]
        nn.utils.clip_grad_norm_(expected.parameters(), 1.0)
        reference.step()
        _check_moves(moves, plain, gradients, [parameter.grad for parameter in expected.parameters()])
    _check_short_gradient(answer)


def _check_short_gradient(answer: Any) -> None:
    """A gradient shorter than 1 has to stay as it is."""
    model = _small_model()
    with torch.no_grad():
        model.out_head.weight.mul_(0.01)
    inputs, targets = torch.randint(0, 20, (2, 3, 6)).unbind(0)
    weights = [parameter.detach().clone() for parameter in model.parameters()]
    answer(model, torch.optim.SGD(model.parameters(), lr=0.5), inputs, targets)
    moved = torch.cat([(new.detach() - old).flatten() for new, old in zip(model.parameters(), weights)]).norm().item()
    expect(
        not close(moved, 0.5, 1e-3), "a gradient shorter than 1 was made longer: only longer ones are shortened to 1"
    )


def _check_moves(moves: list[Tensor], plain: list[Tensor], earlier: list[Tensor] | None, right: list[Tensor]) -> None:
    """Compare what SGD with a rate of 0.5 did with what gradients of several kinds would have done."""
    moved, right, plain = (torch.cat([part.flatten() for part in parts]) for parts in (moves, right, plain))
    expect(
        not close(moved, -0.5 * plain, 1e-4),
        f"the gradients have a length of {plain.norm():.1f} and were not shortened to 1 before the step",
    )
    if earlier is not None:
        both = plain + torch.cat([part.flatten() for part in earlier])
        added = [0.5 * both / max(1.0, both.norm().item()), 0.5 * both]
        expect(
            not any(close(moved, -move, 1e-4) for move in added),
            "the second step goes in the direction of both steps' gradients: backward adds to what is there already",
        )
    expect(not close(moved, 0.5 * right, 1e-4), "the weights went along the gradient, so the loss grows")
    expect(close(moved, -0.5 * right, 1e-4), "the weights did not move by rate times the shortened gradient")


def _small_model() -> GPTModel:
    """Return a model without dropout whose gradients are longer than 1, the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = GPTModel(GPTConfig(vocab_size=20, context_length=8, emb_dim=16, n_heads=2, n_layers=1))
    with torch.no_grad():
        model.out_head.weight.mul_(4)
    return model


@check_of("pretraining.temperature", "probabilities of the next token at a temperature")
def temperature(answer) -> None:
    logits = torch.randn(30) * 2
    given = logits.clone()
    plain, right = logits.softmax(dim=0), (logits / 0.5).softmax(dim=0)
    got = expect_tensor(answer(given, 0.5), (30,), "the probabilities")
    expect(not close(got, logits / 0.5), "these are still logits: the softmax is missing")
    expect(not close(got, plain / 0.5), "the probabilities were divided; divide the logits, before the softmax")
    expect(not close(got, plain), "the temperature changes nothing: divide the logits, before the softmax")
    expect(
        not close(got, (logits * 0.5).softmax(dim=0)),
        "at temperature 0.5 the likely tokens should gain, but they lose: divide, do not multiply",
    )
    expect(close(got.sum(), 1), f"the probabilities should add up to 1, not to {got.sum():.3f}")
    expect(close(got, right), "the probabilities are not softmax(logits / temperature)")
    expect(close(given, logits), "the logits that came in were changed; make new ones")
    hot = answer(logits.clone(), 1000.0)
    expect(
        close(hot, torch.full((30,), 1 / 30), 1e-2),
        "at a very high temperature all tokens should be about equally likely",
    )
    try:
        cold = answer(logits.clone(), 0.0)
    except ZeroDivisionError:
        expect(False, "temperature 0 divides by zero; it needs a case of its own")
    if isinstance(cold, Tensor):
        expect(not cold.isnan().any(), "temperature 0 gives NaN, from a division by zero; it needs a case of its own")
    expect_tensor(cold, (30,), "the probabilities at temperature 0")
    best = F.one_hot(logits.argmax(), 30)
    expect(close(cold, best), "at temperature 0 the most likely token should have the probability 1 and the others 0")


@check_of("pretraining.transpose", "query, key and value from GPT-2's c_attn")
def transpose(answer) -> None:
    D = 8
    weight, bias, x = torch.randn(D, 3 * D), torch.randn(3 * D), torch.randn(5, D)
    got = answer(weight.clone(), bias.clone())
    expect_returned(got)
    got = [tuple(pair) for pair in got]
    expect(len(got) == 3 and all(len(pair) == 2 for pair in got), "three pairs are asked for: query, key and value")
    parts, shifts = weight.split(D, dim=1), bias.split(D)
    for name, (w, b), part, shift in zip(("query", "key", "value"), got, parts, shifts):
        hint = f"the weight of the {name}"
        expect(
            not (isinstance(w, Tensor) and D not in w.shape),
            f"{hint} has the shape {tuple(w.shape)}: the three lie side by side, so split the last axis, not the first",
        )
        expect_tensor(w, (D, D), hint)
        expect(
            not close(w, part), f"{hint} has the right numbers but is not transposed: x @ w is right, x @ w.T is asked"
        )
        expect(
            not any(close(w, other.T) or close(w, other) for other in parts if other is not part),
            f"{hint} is that of another one: the order is query, key, value",
        )
        expect(
            not close(w, weight.view(3, D, D)[("query", "key", "value").index(name)])
            and not close(w, weight.reshape(3, D, D)[("query", "key", "value").index(name)].T),
            f"{hint} has the right shape, but view or reshape has mixed the columns of all three",
        )
        expect(close(w, part.T), f"{hint} should be the columns that make the {name}, transposed")
        expect_tensor(b, (D,), f"the bias of the {name}")
        expect(close(b, shift), f"the bias of the {name} is not its third of the bias, in the order query, key, value")
        expect(
            close(F.linear(x, w.float(), b.float()), x @ part + shift, 1e-4),
            f"x @ w.T + b is not what GPT-2 computes as {name}",
        )
