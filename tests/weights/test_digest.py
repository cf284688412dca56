import copy
import hashlib

import pytest
import torch
from torch import nn

from gptlab.config import GPTConfig
from gptlab.model import GPTModel
from gptlab.peft import QLoRA, apply, remove
from gptlab.training import make_optimizer, next_token_loss
from gptlab.weights import weights_digest
from gptlab.weights.gpt2 import empty_model

IDS = torch.tensor([[5, 9, 2, 7, 7, 1]])


def test_a_plain_model_has_the_digest_of_its_parameters(tiny):
    """Files that were saved before buffers counted are still of the same models."""
    content = b"".join(weight.detach().flatten()[:1024].numpy().tobytes() for weight in tiny.parameters())
    assert weights_digest(tiny) == hashlib.sha256(content).hexdigest()[:16]
    assert weights_digest(copy.deepcopy(tiny)) == weights_digest(tiny)


CFG = GPTConfig(vocab_size=300, context_length=16, emb_dim=32, n_heads=4, n_layers=1, qkv_bias=True)
NAMES = [name for name, _ in empty_model(CFG).named_parameters()]


@pytest.mark.parametrize("name", NAMES)
def test_training_of_a_single_weight_shows(name):
    """One step without weight decay, so that rows of tokens that do not occur stay as they are."""
    model = GPTModel(CFG).train()
    before, learning = weights_digest(model), model.get_parameter(name)
    model.requires_grad_(False)
    learning.requires_grad_(True)
    kept = learning.detach().clone()
    optimizer = make_optimizer(model, 1e-3, weight_decay=0.0)
    next_token_loss(model, IDS[:, :-1], IDS[:, 1:])[0].backward()
    optimizer.step()
    assert not learning.equal(kept)
    assert weights_digest(model) != before


def test_quantised_layers_are_told_apart(tiny):
    """Their weights are no parameters, but codes in buffers."""
    other = copy.deepcopy(tiny)
    other.trf_blocks[0].ff.layers[0].weight.data.neg_()
    found = [weights_digest(remove(apply(model, QLoRA(rank=2)))) for model in (copy.deepcopy(tiny), tiny, other)]
    assert found[0] == found[1] != found[2]


def test_buffers_that_are_not_saved_do_not_count(tiny):
    before = weights_digest(tiny)
    tiny.register_buffer("mask", torch.ones(4), persistent=False)
    assert weights_digest(tiny) == before
    tiny.register_buffer("statistics", torch.ones(4))
    assert weights_digest(tiny) != before
    counting = nn.BatchNorm1d(2)
    before = weights_digest(counting)
    counting(torch.randn(3, 2))
    assert weights_digest(counting) != before
