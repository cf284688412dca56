import copy
from functools import partial

import pytest
import torch
from torch.utils.data import DataLoader

from gptlab.data import InstructionDataset, collate
from gptlab.model import GPTModel
from gptlab.peft import LoRA, apply
from gptlab.training import evaluate, gradients, loop, make_optimizer, next_token_loss, train, warmup_cosine

quietly = partial(train, progress=False)


@pytest.fixture
def batches(tokenizer, entries):
    dataset = InstructionDataset(entries, tokenizer, "alpaca_short")
    generator = torch.Generator().manual_seed(0)
    return DataLoader(dataset, 4, shuffle=True, generator=generator, collate_fn=partial(collate, pad_id=0))


def test_an_optimizer_from_before_the_adapter_is_refused(tiny, batches):
    optimizer = make_optimizer(tiny, 5e-3)
    apply(tiny, LoRA(rank=2))
    with pytest.raises(ValueError, match="nothing would learn: the optimizer has none of the model's 8 parameters"):
        quietly(tiny, batches, optimizer=optimizer)


def test_training_lowers_the_loss_and_is_written_down(tiny, batches):
    optimizer, batches = make_optimizer(tiny, 5e-3), list(batches)
    epochs = []
    history = quietly(
        tiny,
        batches,
        optimizer=optimizer,
        schedule=warmup_cosine(optimizer, 30, 3),
        epochs=6,
        validation=batches,
        after_epoch=lambda epoch, history: epochs.append((epoch, len(history.losses))),
    )
    assert history.validation[-1][1] < 0.5 * history.validation[0][1]
    assert history.validation[-1] == (30, pytest.approx(evaluate(tiny, batches)))
    assert epochs == [(epoch, 5 * epoch) for epoch in range(1, 7)]
    assert len(history.losses) == len(history.learning_rates) == len(history.tokens_seen) == 30
    assert max(history.learning_rates) == pytest.approx(5e-3)
    assert history.tokens_seen[-1] == 6 * sum(inputs.numel() for inputs, _ in batches)


def test_one_step_is_what_pytorch_does_by_hand(tiny, batches):
    batch = next(iter(batches))
    by_hand = copy.deepcopy(tiny).train()
    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0)
    total, count = next_token_loss(by_hand, *batch)
    (total / count).backward()
    torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 0.5)
    optimizer.step()
    history = quietly(tiny, [batch], optimizer=make_optimizer(tiny, 1e-3, weight_decay=0.0), max_grad_norm=0.5)
    assert history.losses == [pytest.approx((total / count).item())]
    for ours, theirs in zip(tiny.parameters(), by_hand.parameters()):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)


def test_evaluating_does_not_change_the_training():
    """With dropout and a shuffled loader, both of which draw from the global random state."""
    cfg = {"vocab_size": 20, "context_length": 8, "emb_dim": 16, "n_heads": 2, "n_layers": 1}
    rows = torch.randint(0, 20, (12, 9), generator=torch.Generator().manual_seed(0))
    data = torch.utils.data.TensorDataset(rows[:, :-1], rows[:, 1:])
    results = []
    for validation in (None, DataLoader(data, 2, shuffle=True)):
        torch.manual_seed(0)
        model = GPTModel(cfg | {"drop_rate": 0.3, "qkv_bias": False})
        batches = DataLoader(data, 4, shuffle=True)
        quietly(model, batches, optimizer=make_optimizer(model, 1e-3), epochs=3, validation=validation)
        results.append(model.tok_emb.weight)
    assert results[0].equal(results[1])


@pytest.mark.parametrize(("device", "every", "calls"), [("cpu", None, 0), ("cpu", 2, 2), ("cpu", 1, 5), ("cpu", 0, 0)])
def test_the_cache_is_emptied_as_often_as_asked(tiny, batches, monkeypatch, device, every, calls):
    emptied = []
    monkeypatch.setattr(loop, "empty_cache", emptied.append)
    quietly(tiny, batches, optimizer=make_optimizer(tiny, 1e-3), device=device, empty_cache_every=every)
    assert emptied == calls * [torch.device(device)]


def test_on_mps_the_cache_is_emptied_after_every_batch_and_the_first_loss_is_compared(tiny, batches, monkeypatch):
    """No Mac is at hand: the tensors stay where they are, the loop believes that it runs on MPS."""
    emptied, compared = [], []
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: emptied.append("mps"))
    monkeypatch.setattr(torch.mps, "get_rng_state", torch.get_rng_state)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 0)
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *_, **__: self)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *_, **__: self)
    monkeypatch.setattr(loop, "compare_with_cpu", lambda model, batch: compared.append(batch))
    quietly(tiny, batches, optimizer=make_optimizer(tiny, 1e-3), device="mps")
    assert emptied == ["mps"] * len(batches)
    assert len(compared) == 1


@pytest.mark.parametrize("broken", ["loss", "gradient"])
def test_a_loss_that_is_not_finite_stops_before_the_step(tiny, batches, monkeypatch, broken):
    real, seen, weights = gradients.next_token_loss, [], []

    def breaking(model, inputs, targets, documents=None):
        weights.append(model.tok_emb.weight.detach().clone())
        total, count = real(model, inputs, targets)
        seen.append(count)
        if len(seen) == 3:
            total = total * float("nan") if broken == "loss" else total + (total - total.detach()) * 1e38 * 1e38
        return total, count

    monkeypatch.setattr(gradients, "next_token_loss", breaking)
    saved = []
    with pytest.raises(FloatingPointError, match=r"stopped at step 3: .*(nan|inf)"):
        quietly(tiny, batches, optimizer=make_optimizer(tiny, 1e-3), after_epoch=lambda *_: saved.append(1))
    assert tiny.tok_emb.weight.equal(weights[2])
    assert tiny.tok_emb.weight.isfinite().all()
    assert not saved


def test_weight_decay_spares_biases_and_norms(tiny):
    decayed, spared = make_optimizer(tiny, 1e-3).param_groups
    assert all(parameter.dim() == 2 for parameter in decayed["params"])
    assert all(parameter.dim() == 1 for parameter in spared["params"])
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert len(decayed["params"]) + len(spared["params"]) == len(list(tiny.parameters()))
    tiny.tok_emb.weight.requires_grad_(False)
    assert len(make_optimizer(tiny, 1e-3).param_groups[0]["params"]) == len(decayed["params"]) - 1


def test_wrong_settings(tiny, batches):
    with pytest.raises(ValueError, match="1 epochs of 0 batches"):
        quietly(tiny, [], optimizer=make_optimizer(tiny, 1e-3))
    with pytest.raises(ValueError, match="iterable anew, got a generator"):
        quietly(tiny, (batch for batch in batches), optimizer=make_optimizer(tiny, 1e-3))
    with pytest.raises(ValueError, match="0 epochs of 5 batches"):
        quietly(tiny, batches, optimizer=make_optimizer(tiny, 1e-3), epochs=0)
    for rate in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"positive and finite, got {rate}"):
            make_optimizer(tiny, rate)
