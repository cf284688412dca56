"""Compiled blocks compute what others compute, whichever method's adapter is in them."""

from functools import partial

import pytest
import torch

from gptlab.model import GPTModel
from gptlab.peft import AdaLoRA, Adapter, LoRA, PrefixTuning, PromptTuning, PTuning, QLoRA, apply, trainable_parameters
from gptlab.training import next_token_loss
from gptlab.training.blocks import blocks_run_as

CFG = {"vocab_size": 40, "context_length": 32, "emb_dim": 32, "n_heads": 2, "n_layers": 1, "drop_rate": 0.0}
METHODS = [
    *[LoRA(rank=2), AdaLoRA(init_rank=2), QLoRA(rank=2, targets="W_query"), Adapter(bottleneck=4)],
    *[PrefixTuning(3), PromptTuning(3), PTuning(3)],
]


@pytest.fixture(autouse=True)
def traced(monkeypatch):
    """Leave out what comes after tracing, which writes C++ and takes ten times as long."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    yield
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore")  # of torch, about what it does itself while it traces
@pytest.mark.parametrize("method", METHODS, ids=[method.method for method in METHODS])
def test_loss_and_gradients_are_those_of_a_model_that_is_not_compiled(method):
    torch.manual_seed(0)
    model = apply(GPTModel(CFG | {"qkv_bias": True}).eval(), method)
    parameters, ids = trainable_parameters(model), torch.randint(0, 40, (2, 9))
    with torch.no_grad():
        for parameter in parameters:
            parameter += 0.1 * torch.randn_like(parameter)
    found = []
    for compile in (False, True):
        with blocks_run_as(model, compile=compile):
            loss, _ = next_token_loss(model, ids[:, :-1], ids[:, 1:])
        found.append([loss, *torch.autograd.grad(loss, parameters)])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 1
    for plain, compiled in zip(*found):
        torch.testing.assert_close(compiled, plain, atol=1e-5, rtol=1e-5)
