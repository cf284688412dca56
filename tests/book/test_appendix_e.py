import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from gptlab import peft
from gptlab.book.appendix_e import LinearWithLoRA, LoRALayer, replace_linear_with_lora
from gptlab.book.ch03 import MultiHeadAttention
from gptlab.book.ch06 import train_classifier_simple
from gptlab.config import GPT2_SIZES
from gptlab.weights.gpt2 import empty_model

IDS = torch.tensor([[5, 9, 2, 7], [3, 0, 8, 4]])


def learning(model):
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


@pytest.mark.parametrize(("rank", "expected"), [(16, 2_666_528), (8, 1_333_264)])
def test_as_many_parameters_learn_as_the_book_says(rank, expected):
    """GPT-2's smallest model with two classes: rank 16 in the book, rank 8 in an early version of its repository."""
    model = empty_model(GPT2_SIZES["gpt2"])
    model.out_head = nn.Linear(768, 2, device="meta")
    assert learning(model) == 124_441_346
    model.requires_grad_(False)
    assert replace_linear_with_lora(model, rank=rank, alpha=rank) is None
    assert learning(model) == expected


def test_a_layer_is_alpha_times_a_product():
    layer = LoRALayer(6, 5, rank=2, alpha=3)
    x = torch.randn(4, 7, 6)
    assert layer(x).equal(torch.zeros(4, 7, 5))
    nn.init.normal_(layer.B)
    torch.testing.assert_close(layer(x), 3 * x @ (layer.A @ layer.B))  # not divided by the rank


@pytest.mark.parametrize(("rank", "in_dim"), [(4, 48), (9, 300)])
def test_a_is_drawn_within_one_over_the_root_of_the_rank(rank, in_dim):
    torch.manual_seed(0)
    layer = LoRALayer(in_dim, 20, rank, alpha=1)
    largest = layer.A.abs().max().item()
    assert 0.95 / math.sqrt(rank) < largest <= 1 / math.sqrt(rank)
    torch.manual_seed(0)
    assert layer.A.equal(nn.init.kaiming_uniform_(torch.empty(in_dim, rank), a=math.sqrt(5)))


def test_the_linear_layer_is_the_same_and_the_model_begins_as_before(tiny):
    before, linear = tiny(IDS), tiny.trf_blocks[0].att.W_query
    tiny.requires_grad_(False)
    replace_linear_with_lora(tiny, rank=4, alpha=8)
    assert tiny.trf_blocks[0].att.W_query.linear is linear
    assert tiny.out_head.linear.weight is tiny.tok_emb.weight
    assert tiny(IDS).equal(before)
    assert not any(type(module) is nn.Linear for name, module in tiny.named_modules() if not name.endswith(".linear"))
    assert learning(tiny) == sum(weight.numel() for name, weight in tiny.named_parameters() if ".lora." in name)


def test_twice_is_two_layers_each(tiny):
    tiny.requires_grad_(False)
    replace_linear_with_lora(tiny, rank=4, alpha=8)
    once = learning(tiny)
    replace_linear_with_lora(tiny, rank=4, alpha=8)
    assert learning(tiny) == 2 * once
    assert isinstance(tiny.out_head.linear, LinearWithLoRA)


def test_it_is_the_librarys_lora_with_alpha_times_the_rank(tiny):
    """The same numbers, A and B the other way round."""
    linear = tiny.trf_blocks[0].ff.layers[0]
    book = LinearWithLoRA(linear, rank=4, alpha=2)
    nn.init.normal_(book.lora.B)
    peft.apply(tiny, peft.LoRA(rank=4, alpha=2 * 4, targets=("trf_blocks.0.ff.layers.0",)))
    adapted = tiny.trf_blocks[0].ff.layers[0]
    with torch.no_grad():
        adapted.branch.A.copy_(book.lora.A.T)
        adapted.branch.B.copy_(book.lora.B.T)
    x = torch.randn(3, linear.in_features)
    torch.testing.assert_close(adapted(x), book(x))


def test_dtype_is_that_of_the_layer():
    layer = LinearWithLoRA(nn.Linear(6, 5, dtype=torch.bfloat16), rank=2, alpha=1)
    assert layer(torch.ones(3, 6, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_any_model_of_the_book_takes_them():
    attention = MultiHeadAttention(8, 8, context_length=4, dropout=0.0, num_heads=2)
    x = torch.randn(2, 4, 8)
    before = attention(x)
    replace_linear_with_lora(attention, rank=2, alpha=2)
    assert isinstance(attention.W_key, LinearWithLoRA)
    assert attention(x).equal(before)


def test_a_classifier_is_trained_as_in_the_book(tiny, capsys):
    """Freeze, replace, train: only A and B change, and the loss falls."""
    torch.manual_seed(123)
    tiny.out_head = nn.Linear(in_features=32, out_features=2)
    for parameter in tiny.parameters():
        parameter.requires_grad = False
    replace_linear_with_lora(tiny, rank=4, alpha=4)
    before = {name: weight.clone() for name, weight in tiny.named_parameters()}
    loader = DataLoader(list(zip(IDS, torch.tensor([0, 1]))), batch_size=2)
    optimizer = torch.optim.AdamW(tiny.parameters(), lr=1e-2)
    losses, *_ = train_classifier_simple(tiny, loader, loader, optimizer, "cpu", 5, eval_freq=1, eval_iter=1)
    assert losses[-1] < losses[0]
    assert losses[-1] == pytest.approx(F.cross_entropy(tiny(IDS)[:, -1], torch.tensor([0, 1])).item(), abs=1e-6)
    changed = {name for name, weight in tiny.named_parameters() if not weight.equal(before[name])}
    assert changed == {name for name in before if ".lora." in name}
    assert "Ep 5" in capsys.readouterr().out
