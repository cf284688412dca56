import re
import sys
from functools import partial

import pytest
import torch

from gptlab.config import GPT2_SIZES, GPTConfig
from gptlab.data import IGNORE_INDEX
from gptlab.model import GPTModel, count_parameters
from gptlab.peft import AdaLoRA, AdapterTuning, LoRA, PrefixTuning, QLoRA
from gptlab.training import estimate, make_optimizer, next_token_loss
from gptlab.training.blocks import blocks_run_as
from gptlab.training.estimate import foresee, readable

CFG = GPTConfig(vocab_size=300, context_length=128, emb_dim=64, n_heads=4, n_layers=3, qkv_bias=True, tie_weights=True)


def bytes_of(tensors) -> int:
    return sum(
        storage.nbytes() for storage in {t.untyped_storage().data_ptr(): t.untyped_storage() for t in tensors}.values()
    )


@pytest.mark.parametrize("drop_rate", [0.0, 0.1])
def test_it_agrees_with_what_pytorch_holds(drop_rate):
    cfg = GPTConfig(**{**CFG.to_dict(), "drop_rate": drop_rate})
    model = GPTModel(cfg).train()
    ids = torch.randint(0, 300, (4, 96))
    remembered = []

    def remember(tensor):
        remembered.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor), blocks_run_as(model):
        total, _ = next_token_loss(model, ids, ids)
    total.backward()
    optimizer = make_optimizer(model, 1e-3)
    optimizer.step()
    found = estimate(cfg, 4, 96)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    activations = bytes_of(t for t in remembered if t.untyped_storage().data_ptr() not in weights)
    assert found.parameters == count_parameters(model)
    assert found.weights == bytes_of(model.parameters())
    assert found.gradients == bytes_of(parameter.grad for parameter in model.parameters())
    moments = [state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    assert found.optimizer == bytes_of(moments)
    logits = 3 * 4 * 4 * 96 * 300  # of which autograd keeps one third between forward and backward
    assert found.activations - 2 / 3 * logits == pytest.approx(activations, rel=0.02)


def test_recomputed_blocks_remember_little():
    kept, again = (estimate(GPT2_SIZES["gpt2-xl"], 4, 1024, recompute=way).activations for way in (False, True))
    assert again < 0.15 * kept


def test_what_does_not_learn_takes_no_gradient():
    whole, part = estimate(CFG, 2, 16), estimate(CFG, 2, 16, trainable=1000)
    assert (part.gradients, part.optimizer) == (4000, 8000)
    assert part.weights == whole.weights
    assert "1,000 of them learning" in str(part)
    assert "learning" not in str(whole)


def test_an_adapter_adds_what_learns_even_more_than_the_model_has():
    whole = estimate(CFG, 2, 16)
    added = 2 * whole.parameters
    found = estimate(CFG, 2, 16, trainable=added, added=added)
    assert (found.parameters, found.trainable) == (3 * whole.parameters, added)
    assert found.memory - whole.activations == 4 * whole.parameters + 16 * added


def held_and_remembered(model, ids):
    """Return the bytes of a model's tensors, and of what autograd keeps beside them between forward and backward."""
    remembered = []

    def remember(tensor):
        remembered.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor), blocks_run_as(model):
        next_token_loss(model, ids, ids)
    own = [*model.parameters(), *model.buffers()]
    places = {tensor.untyped_storage().data_ptr() for tensor in own}
    return bytes_of(own), bytes_of(t for t in remembered if t.untyped_storage().data_ptr() not in places)


@pytest.mark.parametrize(
    "method",
    [LoRA(rank=4, targets="all-linear", dropout=0.1), QLoRA(rank=4), PrefixTuning(8), AdaLoRA(init_rank=4)],
    ids=lambda method: method.method,
)
def test_with_an_adapter_a_block_is_measured(method, monkeypatch):
    """A dropped-out copy of each layer's input is remembered; a quantised weight takes an eighth; hooks run."""
    monkeypatch.setattr(sys.modules[foresee.__module__], "readable", lambda count: f"{count} bytes")
    tuning, ids, blocks = AdapterTuning(method), torch.randint(0, 300, (4, 96)), []
    for n_layers in (3, 5):
        model = GPTModel(CFG.to_dict() | {"n_layers": n_layers})
        learning, added = tuning.count(model, None)
        begin = partial(tuning.begin, tokenizer=None, seed=0, total_steps=30)
        state = torch.get_rng_state()
        line = foresee(model, [(ids, ids)], 30, learning, added=added, begin=begin)
        assert torch.get_rng_state().equal(state)
        assert re.search(r"; 30 steps, about \d+ (s|min) on cpu$", line)
        begin(model.train())
        held, remembered = held_and_remembered(model, ids)
        found = {name: int(count) for name, count in re.findall(r"(\w+) (\d+) bytes", line)}
        assert found["weights"] == held
        assert (found["gradients"], found["optimizer"]) == (4 * learning, 8 * learning)
        blocks.append((found["activations"], remembered))
    (few, few_kept), (more, more_kept) = blocks
    assert more - few == pytest.approx(more_kept - few_kept, rel=0.001)
    logits = 3 * 4 * 4 * 96 * 300
    assert few_kept < few < few_kept + 2 * logits  # which come on top


def test_a_batch_without_targets_is_no_step_to_measure():
    """A hook that judges gradients would find none; such a batch is measured with one target."""
    ids, tuning = torch.randint(0, 300, (4, 96)), AdapterTuning(AdaLoRA(init_rank=4))
    learning, added = tuning.count(GPTModel(CFG), None)
    begin = partial(tuning.begin, tokenizer=None, seed=0, total_steps=30)
    nothing = [(ids, torch.full_like(ids, IGNORE_INDEX))]
    assert "30 steps, about" in foresee(GPTModel(CFG), nothing, 30, learning, added=added, begin=begin)


def test_an_adapter_on_blocks_by_their_numbers_is_told_as_if_all_learned():
    model, ids = GPTModel(CFG), torch.randint(0, 300, (4, 96))
    tuning = AdapterTuning(LoRA(rank=4, targets="2.att.W_query"))
    learning, added = tuning.count(model, None)
    begin = partial(tuning.begin, tokenizer=None, seed=0, total_steps=30)
    line = foresee(model, [(ids, ids)], 30, learning, added=added, begin=begin)
    assert f"{learning:,} of them learning" in line
    assert line.endswith("on cpu if all weights learned")


def test_what_an_adapter_adds_must_fit_too(monkeypatch):
    model, ids, tuning = GPTModel(CFG), torch.randint(0, 300, (1, 2)), AdapterTuning(PrefixTuning(8, hidden=2000))
    learning, added = tuning.count(model, None)
    begin = partial(tuning.begin, tokenizer=None, seed=0, total_steps=30)
    tight = lambda per_parameter: monkeypatch.setattr(  # noqa: E731
        sys.modules[foresee.__module__], "available_memory", lambda device: per_parameter * added
    )
    tight(17)
    assert foresee(model, [(ids, ids)], 30, learning, added=added, begin=begin)
    tight(15)
    with pytest.raises(ValueError, match="this training does not fit"):
        foresee(model, [(ids, ids)], 30, learning, added=added, begin=begin)


def test_gpt2_takes_sixteen_bytes_a_parameter():
    found = estimate(GPT2_SIZES["gpt2"], 1, 64)
    assert found.parameters == 124_439_808
    assert found.weights + found.gradients + found.optimizer == 16 * 124_439_808


def test_fewer_targets_take_fewer_logits_and_never_more_than_a_chunk():
    some, few = estimate(GPT2_SIZES["gpt2"], 8, 512, targets=100), estimate(GPT2_SIZES["gpt2"], 8, 512, targets=10)
    assert some.activations - few.activations == 3 * 4 * 90 * 50257
    most, more = estimate(GPT2_SIZES["gpt2"], 8, 512), estimate(GPT2_SIZES["gpt2"], 8, 512, targets=2000)
    assert most.activations == more.activations


def test_a_probe_measures_and_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    found = estimate(CFG, 2, 32, probe=True)
    assert found.seconds_per_step > 0
    assert torch.get_rng_state().equal(state)
    assert estimate(CFG, 2, 32).seconds_per_step is None


def test_what_cannot_fit_is_refused_with_what_would(monkeypatch):
    model, module = GPTModel(CFG), sys.modules[foresee.__module__]
    ids = torch.randint(0, 300, (8, 64))
    batches = [(ids[:2], ids[:2]), (ids, ids), (ids, torch.full_like(ids, IGNORE_INDEX))]
    whole, parts = estimate(CFG, 8, 64), estimate(CFG, 4, 64)
    assert "30 steps, about" in foresee(model, batches, 30)
    monkeypatch.setattr(module, "available_memory", lambda device: parts.memory - parts.weights)
    with pytest.raises(
        ValueError, match=r"does not fit, .* are free: .* would fit: recompute=False and micro_batches=2 "
    ):
        foresee(model, batches, 30)
    assert foresee(model, batches, 30, micro_batches=2)
    monkeypatch.setattr(module, "available_memory", lambda device: 0)
    with pytest.raises(ValueError, match="a smaller model, or fewer layers that learn"):
        foresee(model, batches, 30)
    monkeypatch.setattr(module, "available_memory", lambda device: None)
    assert readable(whole.memory) in foresee(model, batches, 30)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0, "length": 4}, "batch_size must be >= 1, got 0"),
        ({"batch_size": 1, "length": 129}, r"length must be in \[1, 128\], got 129"),
        ({"batch_size": 1, "length": 4, "trainable": 10**9}, r"trainable must be in \[0, \d+\], got 1000000000"),
        ({"batch_size": 1, "length": 4, "added": -1}, "added must be >= 0, got -1"),
        ({"batch_size": 1, "length": 4, "targets": 5}, r"targets must be in \[0, 4\], got 5"),
    ],
)
def test_wrong_numbers(arguments, message):
    with pytest.raises(ValueError, match=message):
        estimate(CFG, **arguments)
