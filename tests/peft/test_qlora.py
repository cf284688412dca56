"""QLoRA on our model: equal to bitsandbytes under peft, small in memory, merged into what it was trained on."""

import copy
import warnings

import pytest
import torch
from torch.nn import functional as F

from gptlab.config import GPTConfig
from gptlab.model import GPTModel
from gptlab.peft import (
    LoRA,
    QLoRA,
    apply,
    load_adapter,
    merge,
    parameter_report,
    remove,
    save_adapter,
    trainable_parameters,
    unmerge,
)
from gptlab.peft.nf4 import NF4Linear

CFG = GPTConfig(vocab_size=101, context_length=32, emb_dim=64, n_heads=4, n_layers=2, qkv_bias=True)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GPTModel(CFG)


def batch():
    ids = torch.randint(0, 101, (4, 17), generator=torch.Generator().manual_seed(1))
    return ids[:, :-1], ids[:, 1:]


def train(model, parameters, steps=20):
    optimizer, losses = torch.optim.AdamW(parameters, lr=1e-2), []
    inputs, targets = batch()
    for _ in range(steps):
        loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def bitsandbytes_model(model):
    """The same model with bitsandbytes' layers in the blocks, and peft's LoRA around them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of third parties, about each other and the missing GPU
        import bitsandbytes as bnb
        from peft import LoraConfig, get_peft_model

        theirs = copy.deepcopy(model)
        for name, linear in list(theirs.trf_blocks.named_modules()):
            if type(linear) is torch.nn.Linear:
                sizes = linear.in_features, linear.out_features
                made = bnb.nn.Linear4bit(
                    *sizes, compute_dtype=torch.float32, quant_type="nf4", compress_statistics=False
                )
                made.weight = bnb.nn.Params4bit(
                    linear.weight.data, requires_grad=False, quant_type="nf4", compress_statistics=False
                )
                made.bias = linear.bias
                parent, _, child = name.rpartition(".")
                setattr(theirs.trf_blocks.get_submodule(parent), child, made.to("cpu"))
        targets = ["W_query", "W_key", "W_value", "out_proj", "layers.0", "layers.2"]
        return get_peft_model(theirs, LoraConfig(r=4, lora_alpha=8, target_modules=targets))


@pytest.mark.filterwarnings("ignore:.*MatMul4Bit.*", "ignore:.*bitsandbytes.*", "ignore::DeprecationWarning")
def test_twenty_steps_equal_bitsandbytes_and_peft(model):
    theirs = bitsandbytes_model(model)
    apply(model, QLoRA(rank=4, alpha=8, double=False))
    their_parameters = {name: parameter for name, parameter in theirs.named_parameters() if "lora_" in name}
    for name, parameter in their_parameters.items():
        place, kind = name.removeprefix("base_model.model.").split(".lora_")
        own = model.get_submodule(place).adapters["default"]
        getattr(own, kind[0]).data.copy_(parameter.data)
    losses = train(model, trainable_parameters(model)), train(theirs, their_parameters.values())
    torch.testing.assert_close(*losses, atol=1e-6, rtol=1e-6)
    for name, parameter in their_parameters.items():
        place, kind = name.removeprefix("base_model.model.").split(".lora_")
        own = getattr(model.get_submodule(place).adapters["default"], kind[0])
        torch.testing.assert_close(own, parameter, atol=1e-6, rtol=1e-6)


def test_the_base_takes_four_bits_and_keeps_its_count(model):
    full = parameter_report(model)
    apply(model, QLoRA(rank=2))
    report = parameter_report(model)
    in_blocks = 2 * 12 * 64 * 64  # two blocks of 12 D^2 weights
    assert sum(isinstance(module, NF4Linear) for module in model.modules()) == 12
    assert report.total == full.total + report.trainable
    quantised = sum(m.codes.nbytes for m in model.modules() if isinstance(m, NF4Linear))
    assert quantised == in_blocks / 2
    assert report.weights < full.weights - 3.4 * in_blocks + 4 * report.trainable


def test_merged_into_the_quantised_base(model):
    inputs, _ = batch()
    apply(model, QLoRA(rank=4))
    train(model, trainable_parameters(model), 3)
    tuned = model.eval()(inputs)
    merge(model)
    assert all(type(m) is not NF4Linear for m in model.modules())
    torch.testing.assert_close(model(inputs), tuned, atol=1e-5, rtol=1e-5)
    unmerge(model)
    assert torch.equal(model(inputs), tuned)
    remove(model)
    assert type(model.trf_blocks[0].att.W_query) is NF4Linear


def test_a_second_adapter_finds_the_base_quantised(model):
    apply(model, QLoRA(rank=2), name="one")
    codes = [m for m in model.modules() if isinstance(m, NF4Linear)]
    apply(model, QLoRA(rank=4, targets="W_query"), name="another")
    assert [m for m in model.modules() if isinstance(m, NF4Linear)] == codes
    assert len(codes) == 12


def test_what_would_change_or_stand_on_another_base_is_refused(model):
    apply(model, LoRA(rank=2), name="full")
    with pytest.raises(ValueError, match="'qlora' changes the base, on which the adapter 'full' stands"):
        apply(model, QLoRA(rank=2), name="four_bits")
    assert not any(isinstance(m, NF4Linear) for m in model.modules())
    remove(model)
    apply(model, QLoRA(rank=2))
    for method in (QLoRA(block_size=32), QLoRA(double=False), LoRA(rank=2)):
        with pytest.raises(ValueError, match=rf"the base was changed by QLoRA.*; '{method.method}' needs another"):
            apply(model, method, name="other")
    remove(model)  # the base stays quantised
    with pytest.raises(ValueError, match="the base was changed by QLoRA"):
        apply(model, LoRA(rank=2))


def test_the_full_base_is_remembered(model, tmp_path):
    """An adapter that comes to a quantised base after another one was taken off is still one of the full base."""
    inputs, _ = batch()
    full = copy.deepcopy(model)
    remove(apply(model, QLoRA(rank=2)))
    apply(model, QLoRA(rank=2))
    train(model, trainable_parameters(model), 3)
    save_adapter(model, tmp_path)
    assert torch.equal(load_adapter(full, tmp_path)(inputs), model(inputs))


def test_all_that_learned_learns_again_after_a_merge(model):
    before = {name for name, weight in model.named_parameters() if weight.requires_grad}
    remove(apply(model, QLoRA(rank=2)))
    remove(merge(apply(model, QLoRA(rank=2))))
    assert {name for name, weight in model.named_parameters() if weight.requires_grad} == before
    apply(model, LoRA(rank=2))  # the base is full again, and no other one's


def test_any_base_lets_a_full_adapter_onto_a_quantised_base(model, tmp_path):
    quantised = remove(apply(copy.deepcopy(model), QLoRA(rank=2)))
    apply(model, LoRA(rank=2))
    train(model, trainable_parameters(model), 3)
    save_adapter(model, tmp_path)
    with pytest.raises(ValueError, match="the base was changed by QLoRA"):
        load_adapter(quantised, tmp_path)
    load_adapter(quantised, tmp_path, any_base=True)
    assert any(isinstance(m, NF4Linear) for m in quantised.modules())


def test_block_size_is_checked_before_anything_is_quantised(model):
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="13"):
        apply(model, QLoRA(block_size=13))
    assert model.state_dict().keys() == before.keys()
