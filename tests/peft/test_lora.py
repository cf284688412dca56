"""LoRA: equal to peft around our own model, in training too, and the same merged as unmerged."""

import copy
import math
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import GPT2LMHeadModel

from gptlab.config import GPT2_SIZES, GPTConfig
from gptlab.model import GPTModel, initialize_like_gpt2
from gptlab.peft import LoRA, apply, merge, trainable_parameters, unmerge
from gptlab.peft.contract import assert_peft_contract
from gptlab.peft.lora import LowRank
from gptlab.peft.manage import adapter_modules
from gptlab.weights import export_huggingface
from gptlab.weights.gpt2 import empty_model

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of third parties, about each other
    from peft import LoraConfig, get_peft_model

IDS = torch.randint(0, 256, (3, 21), generator=torch.Generator().manual_seed(5))


def randomize(model, std=0.3):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in trainable_parameters(model):
            parameter.normal_(std=std, generator=generator)


def steps(model, parameters, count=30):
    """Train, and yield the losses."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-2)
    for step in range(count):
        torch.manual_seed(step)  # of the dropout
        loss = F.cross_entropy(model(IDS[:, :-1]).flatten(0, 1), IDS[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"rank_stabilised": True, "alpha": 3}, {"use_rslora": True, "lora_alpha": 3}),
        (
            {"rank_pattern": {"W_value": 2, "0.ff.layers.0": 5}, "alpha_pattern": {"ff.layers.[02]": 1}},
            {"rank_pattern": {"W_value": 2, "0.ff.layers.0": 5}, "alpha_pattern": {"ff.layers.[02]": 1}},
        ),
        ({"dropout": 0.4}, {"lora_dropout": 0.4}),
    ],
    ids=["default", "rank-stabilised", "patterns", "dropout"],
)
def test_training_equals_that_of_peft(tiny, ours, theirs):
    """Losses, A and B in 30 steps, from the same A. Dropout meets the branch's input alone, or its numbers differed."""
    targets = ["W_query", "W_key", "W_value", "out_proj", "ff.layers.0", "ff.layers.2"]
    reference = get_peft_model(
        copy.deepcopy(tiny), LoraConfig(**{"r": 8, "lora_alpha": 16, "target_modules": targets} | theirs)
    ).train()
    apply(tiny, LoRA(**{"rank": 8, "alpha": 16, "targets": targets} | ours)).train()
    branches, pairs = adapter_modules(tiny, "default"), []
    for place, branch in branches.items():
        layer = reference.base_model.model.get_submodule(place)
        pairs += [(branch.A, layer.lora_A["default"].weight), (branch.B, layer.lora_B["default"].weight)]
    assert len(pairs) * 2 == len(targets) * tiny.cfg.n_layers * 4
    with torch.no_grad():
        for mine, its in pairs:
            mine.copy_(its)
    their_parameters = [parameter for parameter in reference.parameters() if parameter.requires_grad]
    losses = list(steps(tiny, trainable_parameters(tiny)))
    assert losses == pytest.approx(list(steps(reference, their_parameters)), abs=1e-6)
    assert losses[-1] < losses[0] - 0.1
    for mine, its in pairs:
        torch.testing.assert_close(mine, its, atol=1e-6, rtol=0)


def test_in_the_first_step_only_b_learns(tiny):
    """The gradient of A is B^T times something, and B is zero."""
    apply(tiny, LoRA())
    tiny(IDS).square().mean().backward()
    for branch in adapter_modules(tiny, "default").values():
        assert not branch.A.grad.any()
        assert branch.B.grad.any()


def test_how_it_begins(tiny):
    """A is uniform within 1 / sqrt(in), whatever the rank; B is zero."""
    apply(tiny, LoRA(rank=16, targets="ff.layers.[02]"), generator=torch.Generator().manual_seed(0))
    for place, branch in adapter_modules(tiny, "default").items():
        D = tiny.cfg.emb_dim
        bound = 1 / math.sqrt(4 * D if place.endswith("2") else D)
        assert 0.99 * bound < branch.A.abs().max() <= bound
        assert branch.A.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
        assert not branch.B.any()


def test_by_hand(tiny):
    """W x + b + (alpha / r) B A x."""
    apply(tiny, LoRA(rank=4, alpha=6, targets="trf_blocks.1.ff.layers.0"))
    randomize(tiny)
    adapted, x = tiny.trf_blocks[1].ff.layers[0], torch.randn(2, 5, tiny.cfg.emb_dim)
    expected = x @ adapted.base.weight.T + adapted.base.bias + 6 / 4 * x @ adapted.branch.A.T @ adapted.branch.B.T
    torch.testing.assert_close(adapted(x), expected, atol=1e-5, rtol=1e-5)


def test_the_number_of_parameters_in_the_book():
    """2,666,528 in its appendix E: rank 16 on every linear layer of the 124M GPT-2 with a head of two classes."""
    blocks = LoRA(rank=16, targets="all-linear").build(empty_model(GPT2_SIZES["gpt2"]))
    head = LowRank(nn.Linear(768, 2), rank=16, scale=1.0, dropout=0.0)
    assert sum(p.numel() for branch in [*blocks.values(), head] for p in branch.parameters()) == 2_666_528


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("rank_stabilised", [True, False])
def test_merged_is_unmerged_and_opens_in_transformers(tokenizer, tmp_path, tied, rank_stabilised):
    model = GPTModel(
        GPTConfig(tokenizer.n_vocab, 32, 32, n_heads=4, n_layers=2, qkv_bias=True, tie_weights=tied)
    ).eval()
    initialize_like_gpt2(model, torch.Generator().manual_seed(0))
    base = copy.deepcopy(model)
    targets = ("all-linear",) if tied else ("all-linear", "out_head")
    apply(model, LoRA(rank=3, targets=targets, rank_stabilised=rank_stabilised, alpha_pattern={"W_key": 2}))
    randomize(model, std=0.07)
    with torch.no_grad():
        expected = model(IDS)
        assert (expected - base(IDS)).abs().max() > 0.1
        merge(model)
        torch.testing.assert_close(model(IDS), expected, atol=1e-5, rtol=0)
        assert {type(module) for module in model.modules()} == {type(module) for module in base.modules()}
        export_huggingface(model, tokenizer, tmp_path)
        theirs = GPT2LMHeadModel.from_pretrained(tmp_path).eval()
        torch.testing.assert_close(theirs(IDS).logits, expected, atol=1e-5, rtol=0)
        with pytest.raises(ValueError, match="'default' is merged already"):
            merge(model)
        assert unmerge(model)(IDS).equal(expected)
    for place in adapter_modules(model, "default"):
        assert model.get_submodule(place).weight.equal(base.get_submodule(place).weight)


def test_a_base_in_half_precision_learns_in_full(tiny):
    expected = tiny(IDS)
    apply(tiny.bfloat16(), LoRA())
    logits = tiny(IDS)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), expected, atol=0.05, rtol=0)
    logits.float().square().mean().backward()
    assert {parameter.grad.dtype for parameter in trainable_parameters(tiny)} == {torch.float32}


def test_the_contract():
    patterns = {"rank_pattern": {"W_value": 3}, "alpha_pattern": {"0.att.W_query": 1}}
    assert_peft_contract(LoRA(rank=2, dropout=0.1, rank_stabilised=True, **patterns))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank must be a whole number >= 1, got 0"),
        ({"rank": 2.5}, "rank must be a whole number >= 1, got 2.5"),
        ({"rank": 33}, "rank must be at most 32, the smaller side of 'trf_blocks.0.att.W_query', got 33"),
        ({"rank_pattern": {"W_value": 0}}, "rank must be a whole number >= 1, got 0"),
        ({"rank_pattern": {"W_value": 40}}, "rank must be at most 32, the smaller side of 'trf_blocks.0.att.W_value'"),
        ({"alpha": 0}, "alpha must be a positive number, got 0"),
        ({"alpha": math.inf}, "alpha must be a positive number, got inf"),
        ({"dropout": 1.0}, r"dropout must be a number in \[0, 1\), got 1.0"),
        ({"rank": "8"}, "rank must be a whole number >= 1, got '8'"),
        ({"rank": True}, "rank must be a whole number >= 1, got True"),
        ({"alpha": "16"}, "alpha must be a positive number, got '16'"),
        ({"dropout": None}, r"dropout must be a number in \[0, 1\), got None"),
        ({"targets": ()}, "targets must name at least one module, got none"),
        ({"targets": "W_qeury"}, "no module matches 'W_qeury'; did you mean W_query"),
        ({"targets": "q_proj"}, "no module matches 'q_proj'; did you mean W_query, W_key, W_value"),
        ({"targets": "ff.layers.[02"}, r"'ff.layers.\[02' is no regular expression"),
        ({"targets": ("W_query", "norm1")}, "targets must be linear layers, 'trf_blocks.0.norm1' is a LayerNorm"),
        ({"targets": "out_head"}, "'out_head' shares its weight with the embeddings"),
        (
            {"rank_pattern": {"W_key": 4}},
            "the pattern 'W_key' fits none of the targets, such as 'trf_blocks.0",
        ),
        ({"alpha_pattern": {"2.att.W_query": 4}}, "the pattern '2.att.W_query' fits none of the targets"),
    ],
)
def test_wrong_settings(tiny, settings, message):
    before = {name: type(module) for name, module in tiny.named_modules()}
    with pytest.raises(ValueError, match=message):
        apply(tiny, LoRA(**settings))
    assert {name: type(module) for name, module in tiny.named_modules()} == before
    assert all(parameter.requires_grad for parameter in tiny.parameters())


def test_settings_are_fixed():
    """They are the key under which others may keep things, and do not follow the caller's dictionary."""
    ranks = {"W_query": 4}
    method = LoRA(rank_pattern=ranks)
    ranks["W_query"] = 99
    assert method == LoRA(rank_pattern={"W_query": 4}) != LoRA()
    assert hash(method) == hash(LoRA(rank_pattern={"W_query": 4}))
