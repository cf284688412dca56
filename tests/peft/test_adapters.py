"""Bottleneck adapters: equal to those of the package `adapters` on transformers' GPT-2."""

import copy
import warnings

import pytest
import torch
from torch.nn import functional as F
from transformers import GPT2LMHeadModel

from gptlab.model import LayerNorm
from gptlab.peft import apply, disable, load_adapter, merge, remove, save_adapter, trainable_parameters
from gptlab.peft.adapters import Adapter
from gptlab.peft.contract import assert_peft_contract
from gptlab.peft.manage import adapter_modules
from gptlab.weights import export_huggingface

ACTIVATIONS = {"gelu": "gelu_new", "relu": "relu", "swish": "swish"}  # ours -> theirs


def with_their_adapters(model, tokenizer, folder, activation, size):
    """Return transformers' GPT-2 with Houlsby adapters of `adapters`, and the modules of them by our places."""
    export_huggingface(model, tokenizer, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of third parties, about each other
        import adapters

        theirs = GPT2LMHeadModel.from_pretrained(folder)
        adapters.init(theirs)
        config = adapters.DoubleSeqBnConfig(non_linearity=activation, reduction_factor=model.cfg.emb_dim // size)
        theirs.add_adapter("tuned", config=config)
        theirs.train_adapter("tuned")
    places = {}
    for i, block in enumerate(theirs.transformer.h):
        places[f"trf_blocks.{i}.att.out_proj"] = block.attention_adapters.adapters["tuned"]
        places[f"trf_blocks.{i}.ff.layers.2"] = block.output_adapters.adapters["tuned"]
    return theirs.train(), places


def randomize(model):
    with torch.no_grad():
        for parameter in trainable_parameters(model):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)), alpha=0.1)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_same_as_the_package_adapters(tiny, tokenizer, tmp_path, activation):
    """Logits, and losses and parameters in 20 steps of training."""
    theirs, places = with_their_adapters(tiny, tokenizer, tmp_path, ACTIVATIONS[activation], 4)
    apply(tiny, Adapter(bottleneck=4, activation=activation))
    branches = adapter_modules(tiny, "default")
    assert branches.keys() == places.keys()
    pairs = [
        (getattr(branches[place], ours), getattr(their, part))
        for place, adapter in places.items()
        for ours, their, part in (
            ("W_down", adapter.adapter_down[0], "weight"),
            ("b_down", adapter.adapter_down[0], "bias"),
            ("W_up", adapter.adapter_up, "weight"),
            ("b_up", adapter.adapter_up, "bias"),
        )
    ]
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, tokenizer.n_vocab, (2, 20), generator=generator)
    with torch.no_grad():
        before = tiny(ids)
        for ours, their in pairs:
            ours.copy_(their.normal_(std=0.3, generator=generator))
        torch.testing.assert_close(tiny(ids), theirs(ids).logits, atol=1e-5, rtol=0)
        assert (tiny(ids) - before).abs().max() > 0.1
    theirs_optimizer = torch.optim.AdamW([parameter for parameter in theirs.parameters() if parameter.requires_grad])
    optimizer = torch.optim.AdamW(trainable_parameters(tiny))
    for _ in range(20):
        loss = F.cross_entropy(tiny(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
        their_loss = theirs(ids, labels=ids).loss
        assert loss.item() == pytest.approx(their_loss.item(), abs=1e-5)
        for value, its_optimizer in ((loss, optimizer), (their_loss, theirs_optimizer)):
            its_optimizer.zero_grad()
            value.backward()
            its_optimizer.step()
    for ours, their in pairs:
        torch.testing.assert_close(ours, their, atol=1e-5, rtol=0)


def test_two_adapters_in_every_block(tiny):
    """2 m D + D + m parameters each."""
    D, m = tiny.cfg.emb_dim, 6
    apply(tiny, Adapter(bottleneck=m))
    assert sum(p.numel() for p in trainable_parameters(tiny)) == 2 * tiny.cfg.n_layers * (2 * m * D + D + m)


def test_by_hand(tiny):
    """a(y) = y + W_up f(W_down y + b_down) + b_up, where y is what the layer computes."""
    apply(tiny, Adapter(bottleneck=3, activation="relu", targets="trf_blocks.0.ff.layers.2"))
    randomize(tiny)
    adapted = tiny.trf_blocks[0].ff.layers[2]
    branch, x = adapted.branch, torch.randn(2, 5, 4 * tiny.cfg.emb_dim)
    y = x @ adapted.base.weight.T + adapted.base.bias
    expected = y + (y @ branch.W_down.T + branch.b_down).clamp(min=0) @ branch.W_up.T + branch.b_up
    torch.testing.assert_close(adapted(x), expected, atol=1e-5, rtol=1e-5)


def test_how_it_begins(tiny):
    apply(tiny, Adapter(), generator=torch.Generator().manual_seed(0))
    for branch in adapter_modules(tiny, "default").values():
        bound = tiny.cfg.emb_dim**-0.5
        assert 0.95 * bound < branch.W_down.abs().max() <= bound
        assert not any(getattr(branch, name).any() for name in ("b_down", "W_up", "b_up"))


def test_the_contract_at_other_places():
    assert_peft_contract(Adapter(bottleneck=2, activation="swish", targets=("W_query", "ff.layers.0", "out_head")))


def test_norms_learn_as_copies(tiny, tmp_path):
    base, ids = copy.deepcopy(tiny), torch.arange(12)[None]
    norms = [name for name, module in tiny.named_modules() if isinstance(module, LayerNorm)]
    apply(tiny, Adapter(norms=True))
    assert tiny(ids).equal(base(ids))
    modules = adapter_modules(tiny, "default")
    assert len(norms) == 2 * tiny.cfg.n_layers + 1
    assert {name for name in modules if "norm" in name} == set(norms)
    modules["final_norm"].norm.scale.data.mul_(2)
    torch.testing.assert_close(tiny(ids), 2 * base(ids))  # the shift is 0
    with disable(tiny):
        assert tiny(ids).equal(base(ids))
    save_adapter(tiny, tmp_path)
    assert load_adapter(copy.deepcopy(base), tmp_path)(ids).equal(tiny(ids))
    assert remove(tiny)(ids).equal(base(ids))


def test_an_adapter_is_in_no_weight(tiny):
    apply(tiny, Adapter(norms=True))
    with pytest.raises(ValueError, match="'adapter' cannot be merged: between its two matrices stands an activation"):
        merge(tiny)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bottleneck": 0}, "bottleneck must be a whole number >= 1, got 0"),
        ({"bottleneck": 2.0}, "got 2.0"),
        ({"activation": "tanh"}, "activation must be one of gelu, relu, swish, got 'tanh'"),
        ({"targets": ("norm1",)}, "targets must be linear layers, 'trf_blocks.0.norm1' is a LayerNorm"),
        ({"targets": ("outproj",)}, "no module matches 'outproj'; did you mean out_proj"),
    ],
)
def test_wrong_settings(tiny, settings, message):
    with pytest.raises(ValueError, match=message):
        apply(tiny, Adapter(**settings))
    assert not hasattr(tiny, "_adapters")
