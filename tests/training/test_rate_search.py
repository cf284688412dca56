import copy
import random

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from gptlab.data import IGNORE_INDEX
from gptlab.show import plot_learning_rates, to_png
from gptlab.training import Hook, evaluate, find_learning_rate, make_optimizer, train


@pytest.fixture
def batches():
    """Sequences that count upwards: quickly learned."""
    starts = torch.randint(0, 200, (64, 1), generator=torch.Generator().manual_seed(0))
    rows = starts + torch.arange(17)
    return DataLoader(TensorDataset(rows[:, :-1], rows[:, 1:]), 8, shuffle=True)


def test_the_suggestion_learns_better_than_rates_far_from_it(tiny, batches):
    torch.manual_seed(0)
    found = find_learning_rate(tiny, batches, progress=False)
    losses = {}
    for factor in (0.01, 1, 300):
        model = copy.deepcopy(tiny)
        torch.manual_seed(0)
        try:
            train(model, batches, optimizer=make_optimizer(model, factor * found.suggestion), epochs=5, progress=False)
            losses[factor] = evaluate(model, batches)
        except FloatingPointError:
            losses[factor] = float("inf")
    assert losses[1] < 0.8 * losses[0.01]
    assert losses[1] < 0.8 * losses[300]
    assert len(found.rates) == len(found.losses) == len(found.smoothed)
    assert found.rates[0] == 1e-6
    assert all(later > earlier for earlier, later in zip(found.rates, found.rates[1:]))
    assert to_png(plot_learning_rates(found))[:4] == b"\x89PNG"


def test_everything_is_as_before(tiny, batches):
    before = copy.deepcopy(tiny.state_dict())
    torch.manual_seed(5)
    state, python = torch.get_rng_state(), random.getstate()
    first = find_learning_rate(tiny, batches, steps=20, progress=False)
    assert all(before[name].equal(weight) for name, weight in tiny.state_dict().items())
    assert torch.get_rng_state().equal(state)
    assert random.getstate() == python
    assert not tiny.training
    assert all(parameter.grad is None for parameter in tiny.parameters())
    assert find_learning_rate(tiny, batches, steps=20, progress=False) == first


def test_copies_of_the_hooks_run(tiny, batches):
    told, before = [], copy.deepcopy(tiny.state_dict())

    class Push(Hook):
        steps = 0

        def loss_terms(self, model):
            return model.tok_emb.weight.square().sum()

        def after_step(self, model, step):
            self.steps += 1
            told.append((step, self.steps, bool(model.tok_emb.weight.grad.any())))

    hook = Push()
    pushed = find_learning_rate(tiny, batches, steps=20, hooks=[hook], progress=False)
    assert told == [(step, step, True) for step in range(1, 21)]
    assert hook.steps == 0
    assert all(before[name].equal(weight) for name, weight in tiny.state_dict().items())
    alone = find_learning_rate(tiny, batches, steps=20, progress=False)
    assert pushed.losses[0] == alone.losses[0]
    assert pushed.losses[-1] != alone.losses[-1]


def test_it_stops_when_the_loss_explodes(tiny, batches):
    found = find_learning_rate(tiny, batches, highest=1e6, max_grad_norm=1e9, steps=60, progress=False)
    assert len(found.rates) < 60
    assert found.suggestion < 1


def test_wrong_settings(tiny, batches):
    with pytest.raises(ValueError, match=r"must rise from above 0, got 0.1 to 0.01"):
        find_learning_rate(tiny, batches, lowest=0.1, highest=0.01)
    with pytest.raises(ValueError, match="must rise from above 0, got 0 to 1"):
        find_learning_rate(tiny, batches, lowest=0, highest=1)
    with pytest.raises(ValueError, match="steps must be >= 10, got 5"):
        find_learning_rate(tiny, batches, steps=5)
    inputs = torch.zeros(2, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="no batch has a target"):
        find_learning_rate(tiny, [(inputs, torch.full_like(inputs, IGNORE_INDEX))], progress=False)
