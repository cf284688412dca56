import warnings

import pytest
import torch

from gptlab.model import GPTModel
from gptlab.training import next_token_loss
from gptlab.training.blocks import blocks_run_as

CFG = {"vocab_size": 30, "context_length": 16, "emb_dim": 32, "n_heads": 4, "n_layers": 3, "qkv_bias": True}


def gradients_of(model, **ways):
    torch.manual_seed(1)
    ids = torch.randint(0, 30, (4, 16))
    model.zero_grad()
    with blocks_run_as(model, **ways):
        total, _ = next_token_loss(model, ids, ids)
        total.backward()
    return total.detach(), [parameter.grad for parameter in model.parameters()]


@pytest.mark.parametrize("drop_rate", [0.0, 0.3])
def test_recomputed_blocks_give_the_same_gradients_dropout_included(drop_rate):
    model = GPTModel(CFG | {"drop_rate": drop_rate})
    total, plain = gradients_of(model)
    again, recomputed = gradients_of(model, recompute=True)
    assert again.equal(total)
    for ours, theirs in zip(recomputed, plain):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    assert all("forward" not in vars(block) for block in model.trf_blocks)  # nothing stays behind


def test_gelu_is_computed_again_only_where_its_output_has_to_be_remembered():
    """For the gradient of the weight behind it; a frozen one, or one with an adapter, does not ask for that."""
    model = GPTModel(CFG | {"drop_rate": 0.0})
    model.trf_blocks[0].ff.layers[2].requires_grad_(False)
    model.trf_blocks[1].ff.layers[2] = torch.nn.Sequential(model.trf_blocks[1].ff.layers[2])
    with blocks_run_as(model):
        assert ["forward" in vars(block.ff) for block in model.trf_blocks] == [False, False, True]
    assert not any("forward" in vars(block.ff) for block in model.trf_blocks)


def test_compiled_blocks_give_the_same_gradients_or_a_warning():
    model = GPTModel(CFG | {"drop_rate": 0.0})
    total, plain = gradients_of(model)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        again, compiled = gradients_of(model, compile=True)
    torch.testing.assert_close(again, total)
    for ours, theirs in zip(compiled, plain):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert all("torch.compile" in str(warning.message) for warning in said if warning.category is UserWarning)
    assert all(block._compiled_call_impl is None for block in model.trf_blocks)


def test_without_a_compiler_it_goes_on_and_says_so(monkeypatch):
    def missing(*_, **__):
        raise RuntimeError("No working C++ compiler found\nand more lines")

    monkeypatch.setattr(torch, "compile", missing)
    model = GPTModel(CFG | {"drop_rate": 0.0})
    total, _ = gradients_of(model)
    with pytest.warns(UserWarning, match="goes on without: No working C") as said:
        again, _ = gradients_of(model, compile=True)
    assert len(said) == 1
    assert again.equal(total)
