import copy

import pytest
import torch

from gptlab.data import IGNORE_INDEX
from gptlab.training import Hook, gradients, make_optimizer, train


def batch(tiny, rows=7, tokens=20, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randint(0, tiny.cfg.vocab_size, (rows, tokens), generator=generator)
    targets = torch.randint(0, tiny.cfg.vocab_size, (rows, tokens), generator=generator)
    targets[torch.rand(rows, tokens, generator=generator) < 0.7] = IGNORE_INDEX
    for row in range(rows):
        targets[row, 3 + 2 * row :] = IGNORE_INDEX  # rows of different lengths, with different numbers of targets
    return inputs, targets


def gradients_of(model, data, parts=1, hooks=(), precision="float32"):
    model.zero_grad()
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    loss, count = gradients.Gradients(model, parts, torch.device("cpu"), precision, scaler, hooks).add(data)
    return loss, count, {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("parts", [2, 3, 7, 10])
def test_parts_add_up_to_the_whole_batch(tiny, parts):
    data = batch(tiny)
    loss, count, whole = gradients_of(tiny, data)
    in_parts = gradients_of(tiny, data, parts)
    assert (in_parts[0], in_parts[1]) == (pytest.approx(loss, rel=1e-6), count)
    for name, gradient in whole.items():
        torch.testing.assert_close(in_parts[2][name], gradient, atol=1e-6, rtol=1e-5)


def test_the_mean_of_parts_would_be_something_else(tiny):
    """Averaging the parts' means weighs a target by how few others its part has."""
    data = batch(tiny)
    torch.nn.init.normal_(
        tiny.tok_emb.weight, std=0.3, generator=torch.Generator().manual_seed(0)
    )  # losses that differ
    whole, _, _ = gradients_of(tiny, data)
    means = [gradients_of(tiny, gradients.rows_of(data, part, 3))[0] for part in range(3)]
    assert abs(sum(means) / 3 - whole) > 1e-3


def test_parts_lose_no_row_and_no_target(tiny):
    data = batch(tiny)
    parts = [gradients.rows_of(data, part, 3) for part in range(3)]
    assert sum(len(inputs) for inputs, _ in parts) == 7
    assert sum(int((targets != IGNORE_INDEX).sum()) for _, targets in parts) == int((data[1] != IGNORE_INDEX).sum())
    assert all((targets[:, -1] != IGNORE_INDEX).any() for _, targets in parts)  # no column behind the last target
    [inputs, targets] = gradients.rows_of(data, 8, 9)
    assert inputs.shape == (1, 1)
    assert targets.tolist() == [[IGNORE_INDEX]]


def test_a_batch_without_targets_takes_no_step_and_is_counted(tiny):
    inputs, targets = batch(tiny)
    nothing = (inputs, torch.full_like(targets, IGNORE_INDEX))
    before = copy.deepcopy(tiny.state_dict())
    optimizer = make_optimizer(tiny, 1e-2)
    history = train(tiny, [nothing, nothing], optimizer=optimizer, progress=False)
    assert (history.steps, history.skipped) == (0, 2)
    assert all(before[name].equal(weight) for name, weight in tiny.state_dict().items())  # weight decay too
    history = train(tiny, [nothing, (inputs, targets)], optimizer=optimizer, progress=False)
    assert (history.steps, history.skipped) == (1, 1)


class Penalty(Hook):
    def __init__(self):
        self.seen = []

    def loss_terms(self, model):
        return 0.5 * model.final_norm.scale.square().sum()

    def after_step(self, model, step):
        self.seen.append((step, model.tok_emb.weight.grad is not None))


@pytest.mark.parametrize("parts", [1, 3])
def test_a_hooks_term_counts_once_a_step_and_it_sees_the_gradients(tiny, parts):
    data = batch(tiny)
    plain = gradients_of(tiny, data, parts)
    penalised = gradients_of(tiny, data, parts, [Penalty()])
    assert penalised[0] == plain[0]  # the loss that is reported is that of the data
    added = penalised[2]["final_norm.scale"] - plain[2]["final_norm.scale"]
    torch.testing.assert_close(added, tiny.final_norm.scale.detach(), atol=1e-5, rtol=1e-5)
    hook = Penalty()
    train(tiny, [data, data], optimizer=make_optimizer(tiny, 1e-3), hooks=[hook], progress=False)
    assert hook.seen == [(1, True), (2, True)]


@pytest.mark.parametrize(("precision", "worst"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_lower_precision_computes_about_the_same_and_keeps_the_weights(tiny, precision, worst):
    data = batch(tiny)
    exact, _, gradients_exact = gradients_of(tiny, data)
    loss, _, rounded = gradients_of(tiny, data, precision=precision)
    assert loss != exact
    assert loss == pytest.approx(exact, rel=worst)
    for name, gradient in rounded.items():
        assert gradient.dtype == torch.float32
        difference = (gradient - gradients_exact[name]).norm() / gradients_exact["tok_emb.weight"].norm()
        assert difference < worst
    history = train(
        tiny, [data] * 10, optimizer=make_optimizer(tiny, 5e-3), precision=precision, epochs=2, progress=False
    )
    assert history.losses[-1] < 0.8 * history.losses[0]
    with pytest.raises(ValueError, match=r"one of \['float32', 'bfloat16', 'float16'\], got 'int8'"):
        train(tiny, [data], optimizer=make_optimizer(tiny, 1e-3), precision="int8", progress=False)
