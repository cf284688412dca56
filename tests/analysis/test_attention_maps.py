"""Attention maps against transformers, and of models with adapters on them."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gptlab.analysis.attention_maps import attention_maps
from gptlab.model import GPTModel
from gptlab.peft import LoRA, PrefixTuning, apply
from gptlab.weights import load_weights

IDS = [3, 1, 4, 1, 5, 9, 2, 6]


def test_maps_are_those_of_transformers():
    torch.manual_seed(0)
    shape = {"vocab_size": 61, "n_positions": 24, "n_embd": 32, "n_layer": 3, "n_head": 4}
    theirs = GPT2LMHeadModel(GPT2Config(**shape, attn_implementation="eager")).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours = GPTModel(
        {"vocab_size": 61, "context_length": 24, "emb_dim": 32, "n_layers": 3, "n_heads": 4, "drop_rate": 0.1}
        | {"qkv_bias": True, "tie_weights": True}
    )
    load_weights(ours, theirs)
    with torch.no_grad():
        expected = torch.stack(theirs(torch.tensor([IDS]), output_attentions=True).attentions)[:, 0]
    found = attention_maps(ours.train(), IDS)
    assert found.shape == (3, 4, 8, 8) and ours.training
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert not any(module._forward_pre_hooks for module in ours.modules())


def test_rows_add_up_and_nothing_sees_what_comes_later(tiny):
    for ids in (IDS, torch.tensor(IDS), torch.tensor([IDS])):
        maps = attention_maps(tiny, ids)
        torch.testing.assert_close(maps.sum(dim=-1), torch.ones(2, 4, 8))
        assert not maps.triu(diagonal=1).any()


def test_adapters_and_virtual_tokens_are_seen(tiny):
    plain = attention_maps(tiny, IDS)
    apply(tiny, LoRA(rank=2, targets=("W_query",)))
    with torch.no_grad():
        for name, parameter in tiny.named_parameters():
            if "adapters" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(attention_maps(tiny, IDS), plain)
    apply(tiny, PrefixTuning(tokens=3), name="prefix")
    maps = attention_maps(tiny, IDS)
    assert maps.shape == (2, 4, 8, 11)
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(2, 4, 8))


def test_what_is_not_one_text_is_refused(tiny):
    for ids in ([], [[1], [2]], [0.5], "a text", [[1, 2], [3]]):
        with pytest.raises(ValueError, match="ids must be the token ids of one text"):
            attention_maps(tiny, ids)
    with pytest.raises(ValueError, match="the context holds 160 tokens, got 161"):
        attention_maps(tiny, [1] * 161)
    assert not any(module._forward_pre_hooks for module in tiny.modules())
