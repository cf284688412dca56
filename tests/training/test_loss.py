import math

import pytest
import torch
from torch.nn import functional as F

from gptlab.data import IGNORE_INDEX
from gptlab.model import GPTModel
from gptlab.training import evaluate, loss, next_token_loss


def batch(tiny, rows=3, tokens=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randint(0, tiny.cfg.vocab_size, (rows, tokens), generator=generator)
    targets = torch.randint(0, tiny.cfg.vocab_size, (rows, tokens), generator=generator)
    targets[torch.rand(rows, tokens, generator=generator) < 0.6] = IGNORE_INDEX
    return inputs, targets


def test_equals_pytorchs_cross_entropy_in_value_and_gradient(tiny):
    inputs, targets = batch(tiny)
    total, count = next_token_loss(tiny, inputs, targets)
    (total / count).backward()
    ours = {name: parameter.grad.clone() for name, parameter in tiny.named_parameters()}
    tiny.zero_grad()
    expected = F.cross_entropy(tiny(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX)
    expected.backward()
    torch.testing.assert_close(total / count, expected)
    assert count == (targets != IGNORE_INDEX).sum()
    for name, parameter in tiny.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, atol=1e-6, rtol=1e-5)


def test_nothing_to_learn_is_0_and_no_nan(tiny):
    inputs, targets = batch(tiny)
    total, count = next_token_loss(tiny, inputs, torch.full_like(targets, IGNORE_INDEX))
    total.backward()
    assert (total.item(), count) == (0.0, 0)
    assert all(parameter.grad is None or parameter.grad.eq(0).all() for parameter in tiny.parameters())


def test_evaluation_weighs_targets_not_batches(tiny):
    small, large = batch(tiny, rows=1, tokens=3, seed=1), batch(tiny, rows=6, tokens=20, seed=2)
    totals = [next_token_loss(tiny, *b) for b in (small, large)]
    expected = sum(total.item() for total, _ in totals) / sum(count for _, count in totals)
    assert evaluate(tiny, [small, large]) == pytest.approx(expected, rel=1e-6)
    assert totals[0][1] != totals[1][1]


def test_evaluation_disturbs_neither_mode_nor_random_state():
    cfg = {"vocab_size": 20, "context_length": 8, "emb_dim": 8, "n_heads": 2, "n_layers": 1}
    model = GPTModel(cfg | {"drop_rate": 0.5, "qkv_bias": False}).train()
    data = torch.utils.data.TensorDataset(torch.zeros(4, 8, dtype=torch.int64), torch.ones(4, 8, dtype=torch.int64))
    loader = torch.utils.data.DataLoader(data, batch_size=2, shuffle=True)  # draws a seed when it is iterated
    state = torch.get_rng_state()
    first = evaluate(model, loader)
    assert torch.get_rng_state().equal(state)
    assert model.training
    assert first == pytest.approx(evaluate(model, loader))  # dropout is off


def test_nothing_to_evaluate(tiny):
    inputs, targets = batch(tiny)
    with pytest.raises(ValueError, match="hold no target"):
        evaluate(tiny, [(inputs, torch.full_like(targets, IGNORE_INDEX))])


def test_a_model_that_knows_nothing_loses_the_logarithm_of_the_vocabulary(tiny):
    torch.nn.init.zeros_(tiny.tok_emb.weight)  # tied, so all logits are 0
    total, count = next_token_loss(tiny, *batch(tiny))
    assert total.item() / count == pytest.approx(math.log(tiny.cfg.vocab_size), rel=1e-5)


class Counting(torch.nn.Module):
    """A head that is not a plain linear layer, and remembers how many rows it saw at once."""

    def __init__(self, head):
        super().__init__()
        self.head, self.extra, self.rows = head, torch.nn.Linear(head.in_features, head.out_features), []

    def forward(self, x):
        self.rows.append(x[..., 0].numel())
        return self.head(x) + 0.1 * self.extra(x)


@pytest.mark.parametrize("head", ["tied", "untied", "another"])
@pytest.mark.parametrize("frozen", ["nothing", "body", "head"])
def test_in_chunks_it_is_the_same_in_value_and_gradient(tiny, monkeypatch, head, frozen):
    torch.manual_seed(0)
    if head != "tied":
        tiny.out_head.weight = torch.nn.Parameter(tiny.out_head.weight.detach().clone())
    if head == "another":
        tiny.out_head = Counting(tiny.out_head)
    if frozen != "nothing":
        tiny.requires_grad_(frozen == "head")
        tiny.out_head.requires_grad_(frozen == "body")
    inputs, targets = batch(tiny, rows=5, tokens=30)
    count = int((targets != IGNORE_INDEX).sum())
    expected = F.cross_entropy(tiny(inputs).flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX)
    expected.backward()
    gradients = {name: parameter.grad for name, parameter in tiny.named_parameters() if parameter.requires_grad}
    tiny.zero_grad()

    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", 7 * tiny.cfg.vocab_size)
    total, learned = next_token_loss(tiny, inputs, targets)
    (total / learned).backward()
    assert learned == count
    torch.testing.assert_close(total / learned, expected)
    for name, parameter in tiny.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-6, rtol=1e-5)
        else:
            assert parameter.grad is None
    with torch.no_grad():
        assert next_token_loss(tiny, inputs, targets)[0].item() == pytest.approx(total.item(), rel=1e-6)
    if head == "another":
        assert tiny.out_head.rows[0] == 150  # all of them, by hand
        assert tiny.out_head.rows[1:] == 2 * ([7] * (count // 7) + [count % 7])


def test_the_gradient_of_chunks_follows_what_is_done_with_the_loss(tiny, monkeypatch):
    """With autocast, and scaled as a gradient scaler scales it."""
    inputs, targets = batch(tiny)
    results = []
    for at_once in (2**25, 3 * tiny.cfg.vocab_size):
        monkeypatch.setattr(loss, "LOGITS_AT_ONCE", at_once)
        tiny.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            total, _ = next_token_loss(tiny, inputs, targets)
        (64 * total + tiny.final_norm.scale.sum()).backward()
        results.append((total, tiny.tok_emb.weight.grad.clone(), tiny.final_norm.scale.grad.clone()))
    for whole, in_chunks in zip(*results):
        torch.testing.assert_close(whole, in_chunks, rtol=2e-2, atol=2e-2 * whole.abs().max().item())
