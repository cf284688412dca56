import copy
import math

import pytest
import torch
from torch.utils.data import DataLoader

from gptlab.book.appendix_d import find_highest_gradient, train_model
from gptlab.book.ch05 import train_model_simple

WINDOWS = [(torch.arange(n, n + 8), torch.arange(n + 1, n + 9)) for n in range(6)]
LOADER = DataLoader(WINDOWS, batch_size=2)  # 3 batches


@pytest.fixture(autouse=True)
def one_thread(two_threads):
    torch.set_num_threads(1)  # these tensors are so small that a second thread costs more than it does


def run(model, tokenizer, optimizer, *, warmup_steps, n_epochs=2, **settings):
    settings = {"eval_freq": 4, "eval_iter": 1, "initial_lr": 0.01, "min_lr": 0.001} | settings
    return train_model(
        model,
        LOADER,
        LOADER,
        optimizer,
        "cpu",
        n_epochs,
        start_context="The home",
        tokenizer=tokenizer,
        warmup_steps=warmup_steps,
        **settings,
    )


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr)


@pytest.mark.parametrize("warmup_steps", [0, 1, 2, 5])
def test_rates_are_those_of_torchs_schedulers(tiny, tokenizer, warmup_steps):
    """LinearLR and CosineAnnealingLR are the independent implementation. The book divides by zero without a warm-up."""
    optimizer = sgd(torch.nn.Linear(1, 1))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6 - warmup_steps, eta_min=0.001)
    expected = [0.01 + (0.1 - 0.01) * step / warmup_steps for step in range(warmup_steps)]
    for _ in range(6 - warmup_steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    *_, rates = run(tiny, tokenizer, sgd(tiny), warmup_steps=warmup_steps)
    assert rates == pytest.approx(expected, abs=1e-12)


def test_a_warmup_longer_than_the_training_only_rises(tiny, tokenizer):
    *_, rates = run(tiny, tokenizer, sgd(tiny), warmup_steps=9)
    assert rates == pytest.approx([0.01 + 0.01 * step for step in range(6)])


@pytest.mark.parametrize(("orig_book_version", "first_clipped"), [(False, 2), (True, 3)])
def test_gradients_are_clipped_after_the_warmup(tiny, tokenizer, orig_book_version, first_clipped):
    """The printed book leaves the first step after the warm-up unclipped."""
    with torch.no_grad():
        tiny.final_norm.scale.mul_(100)  # large gradients
    lengths = []

    def measure(optimizer, *_):
        gradients = [parameter.grad for group in optimizer.param_groups for parameter in group["params"]]
        lengths.append(math.sqrt(sum(gradient.square().sum().item() for gradient in gradients)))

    optimizer = sgd(tiny, lr=1e-6)
    optimizer.register_step_pre_hook(measure)
    run(
        tiny,
        tokenizer,
        optimizer,
        warmup_steps=2,
        initial_lr=1e-7,
        min_lr=1e-7,
        orig_book_version=orig_book_version,
    )
    assert all(length > 2 for length in lengths[:first_clipped])
    assert lengths[first_clipped:] == pytest.approx([1.0] * (6 - first_clipped), abs=1e-4)


def test_a_flat_rate_without_clipping_is_the_simple_training(tiny, tokenizer, capsys):
    other = copy.deepcopy(tiny)
    torch.manual_seed(5)
    *losses, rates = run(tiny, tokenizer, sgd(tiny), warmup_steps=100, initial_lr=0.1)
    printed = capsys.readouterr().out
    torch.manual_seed(5)
    expected = train_model_simple(other, LOADER, LOADER, sgd(other), "cpu", 2, 4, 1, "The home", tokenizer)
    assert rates == [0.1] * 6
    assert tuple(losses) == expected
    assert printed == capsys.readouterr().out.replace("(Step ", "(Iter ")
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(tiny.parameters(), other.parameters()))


def test_doors(tiny, tokenizer):
    with pytest.raises(ValueError, match="warmup_steps must be >= 0, got -1"):
        run(tiny, tokenizer, sgd(tiny), warmup_steps=-1)
    with pytest.raises(ValueError, match="eval_freq must be >= 1, got 0"):
        run(tiny, tokenizer, sgd(tiny), warmup_steps=1, eval_freq=0)


def test_highest_gradient():
    model = torch.nn.Linear(2, 2)
    assert find_highest_gradient(model) is None
    model.weight.grad = torch.tensor([[-5.0, 1.0], [0.5, 2.0]])
    assert find_highest_gradient(model).item() == 2
    model.bias.grad = torch.tensor([3.0, -9.0])
    assert find_highest_gradient(model).item() == 3
