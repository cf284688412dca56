"""The book's GPT: its numbers, its names, and the variants against the library's model."""

import pytest
import torch
from torch import nn

import gptlab
from gptlab.book import ch04
from gptlab.book.ch04 import (
    BASE_CONFIG,
    GPT_CONFIG_124M,
    DummyGPTModel,
    DummyLayerNorm,
    DummyTransformerBlock,
    FeedForward,
    FeedForwardFast,
    GPTModel,
    GPTModelFast,
    TransformerBlock,
    TransformerBlockFast,
    generate_text_simple,
    model_configs,
)
from gptlab.decoding import generate

CFG = {"vocab_size": 50, "context_length": 12, "emb_dim": 16, "n_heads": 2, "n_layers": 2, "drop_rate": 0.1}
CFG |= {"qkv_bias": True}


@pytest.fixture
def model():
    torch.manual_seed(0)
    return GPTModel(CFG).eval()


def fast_twin(model: GPTModel) -> GPTModelFast:
    """GPTModelFast with the weights of `model`, copied by hand."""
    weights = {name: weight for name, weight in model.state_dict().items() if not name.startswith("trf_blocks")}
    weights["final_norm.weight"], weights["final_norm.bias"] = (
        weights.pop("final_norm.scale"),
        weights.pop("final_norm.shift"),
    )
    for i, block in enumerate(model.trf_blocks):
        projections = (block.att.W_query, block.att.W_key, block.att.W_value)
        for kind in ("weight", "bias"):
            weights[f"trf_blocks.{i}.att.qkv.{kind}"] = torch.cat([getattr(linear, kind) for linear in projections])
            weights[f"trf_blocks.{i}.att.proj.{kind}"] = getattr(block.att.out_proj, kind)
            for layer in (0, 2):
                weights[f"trf_blocks.{i}.ff.layers.{layer}.{kind}"] = getattr(block.ff.layers[layer], kind)
        for norm in ("norm1", "norm2"):
            weights[f"trf_blocks.{i}.{norm}.weight"] = getattr(block, norm).scale
            weights[f"trf_blocks.{i}.{norm}.bias"] = getattr(block, norm).shift
    fast = GPTModelFast(model.cfg.to_dict())
    fast.load_state_dict(weights)
    return fast.eval()


def test_the_seed_of_the_book_gives_its_text():
    """Seed 123 and "Hello, I am" continue as printed in chapter 4: the same weights, drawn in the same order."""
    torch.manual_seed(123)
    model = GPTModel(GPT_CONFIG_124M).eval()
    ids = generate_text_simple(model, torch.tensor([[15496, 11, 314, 716]]), 6, GPT_CONFIG_124M["context_length"])
    assert ids.tolist() == [[15496, 11, 314, 716, 27018, 24086, 47843, 30961, 42348, 7267]]


def test_the_model_is_the_librarys():
    assert GPTModel is gptlab.GPTModel
    for name in ("LayerNorm", "GELU", "FeedForward", "TransformerBlock"):
        assert getattr(ch04, name) is getattr(gptlab.model, name)


def test_what_code_reads(model):
    assert isinstance(model.trf_blocks, nn.Sequential)
    x = torch.randn(2, 5, 16)
    one_after_the_other = model.trf_blocks[1](model.trf_blocks[0](x))
    assert model.trf_blocks(x).equal(one_after_the_other)
    block = TransformerBlock(CFG)
    assert block.drop_shortcut is block.drop_resid
    assert not any("drop_shortcut" in name for name, _ in block.named_modules())
    assert block(x).shape == x.shape
    ff = FeedForward(CFG)
    assert ff(x).equal(ff.layers(x))
    norm = ch04.LayerNorm(16)
    assert (norm.eps, norm.scale.shape, norm.shift.shape) == (1e-5, (16,), (16,))


def test_a_head_for_classes_can_take_the_place(model):
    model.out_head = nn.Linear(16, 2)
    assert model(torch.zeros(3, 4, dtype=torch.int64)).shape == (3, 4, 2)
    assert len(list(model.trf_blocks[-1].parameters())) > 0


@pytest.mark.parametrize("tied", [False, True])
def test_the_fast_model_equals_the_model(tied):
    torch.manual_seed(0)
    model = GPTModel(CFG | {"tie_weights": tied}).eval()
    for parameter in model.parameters():  # norms and biases too
        nn.init.normal_(parameter, std=0.2)
    fast = fast_twin(model)
    ids = torch.randint(0, 50, (3, 12))
    with torch.no_grad():
        torch.testing.assert_close(fast(ids), model(ids), atol=1e-5, rtol=1e-5)
    assert (fast.out_head.weight is fast.tok_emb.weight) == tied
    assert generate_text_simple(fast, ids[:, :4], 6, 12).equal(generate_text_simple(model, ids[:, :4], 6, 12))


def test_the_parts_of_the_fast_model():
    torch.manual_seed(5)
    ff = FeedForward(CFG)
    torch.manual_seed(5)
    fast = FeedForwardFast(CFG)
    x = torch.randn(2, 3, 16)
    torch.testing.assert_close(fast(x), ff(x))
    block = TransformerBlockFast(CFG)
    names = ["att.qkv", "att.proj", "ff.layers.0", "ff.layers.2", "norm1", "norm2"]
    assert [name for name, _ in block.named_parameters()] == [
        f"{n}.{kind}" for n in names for kind in ("weight", "bias")
    ]
    assert block.drop_shortcut.p == CFG["drop_rate"]


def test_the_dummy_model_is_the_shell():
    torch.manual_seed(1)
    dummy = DummyGPTModel(CFG).eval()
    torch.manual_seed(1)
    tok_emb, pos_emb, out_head = nn.Embedding(50, 16), nn.Embedding(12, 16), nn.Linear(16, 50, bias=False)
    ids = torch.randint(0, 50, (2, 7))
    assert dummy(ids).equal(out_head(tok_emb(ids) + pos_emb(torch.arange(7))))
    assert len(dummy.trf_blocks) == CFG["n_layers"]
    x = torch.randn(2, 3)
    assert DummyTransformerBlock(CFG)(x) is x
    assert DummyLayerNorm(16)(x) is x


def test_a_batch_is_continued_as_each_row_alone(model):
    prompts = torch.randint(0, 50, (5, 4))
    together = generate_text_simple(model, prompts, 8, context_size=12)
    assert together.shape == (5, 12)
    for row, prompt in zip(together, prompts):
        assert row[:4].equal(prompt)
        assert row.equal(generate_text_simple(model, prompt.unsqueeze(0), 8, context_size=12)[0])
    assert [row[4:].tolist() for row in together] == generate(model, prompts.tolist(), max_new_tokens=8)


def test_the_window_slides(model):
    """Past the context the model reads the last tokens only, as if the text began there."""
    ids = torch.randint(0, 50, (1, 20))
    longer = generate_text_simple(model, ids, 3, context_size=12)
    assert longer[:, -3:].equal(generate_text_simple(model, ids[:, -12:], 3, context_size=12)[:, -3:])
    assert generate_text_simple(model, ids, 0, context_size=12).equal(ids)


def test_more_tokens_than_the_context(model):
    long = torch.zeros(1, 13, dtype=torch.int64)
    for other in (model, fast_twin(model), DummyGPTModel(CFG)):
        with pytest.raises(ValueError, match="the context holds 12 tokens, got 13"):
            other(long)
    with pytest.raises(ValueError, match="the context holds 12 tokens, got 13"):
        generate_text_simple(model, long, 1, context_size=100)


def test_wrong_prompts(model):
    with pytest.raises(ValueError, match=r"\(batch, tokens\) .* got shape \(4,\)"):
        generate_text_simple(model, torch.zeros(4, dtype=torch.int64), 1, 12)
    with pytest.raises(ValueError, match=r"at least one token, got shape \(1, 0\)"):
        generate_text_simple(model, torch.zeros(1, 0, dtype=torch.int64), 1, 12)
    with pytest.raises(ValueError, match="context_size must be >= 1, got 0"):
        generate_text_simple(model, torch.zeros(1, 4, dtype=torch.int64), 1, 0)


@pytest.mark.parametrize("make", [GPTModel, TransformerBlock, FeedForward, GPTModelFast, DummyGPTModel])
def test_configs_that_lack_a_key(make):
    with pytest.raises(ValueError, match=r"missing \['n_heads'\]"):
        make({key: value for key, value in CFG.items() if key != "n_heads"})


def test_the_configs():
    assert GPT_CONFIG_124M == {
        "vocab_size": 50257,
        "context_length": 1024,
        "emb_dim": 768,
        "n_heads": 12,
        "n_layers": 12,
        "drop_rate": 0.1,
        "qkv_bias": False,
    }
    assert list(model_configs) == ["gpt2-small (124M)", "gpt2-medium (355M)", "gpt2-large (774M)", "gpt2-xl (1558M)"]
    for name, shape in model_configs.items():
        with torch.device("meta"):
            tied = GPTModel(BASE_CONFIG | shape | {"tie_weights": True})
        millions = int(name[name.index("(") + 1 : -2])
        assert round(gptlab.count_parameters(tied) / 1e6) == millions
