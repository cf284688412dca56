"""The book's attention classes: against the book's numbers, PyTorch, the library, and each other."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gptlab.book.ch03 import (
    CausalAttention,
    MultiHeadAttention,
    MultiHeadAttentionWrapper,
    PyTorchMultiHeadAttention,
    SelfAttention_v1,
    SelfAttention_v2,
)
from gptlab.config import GPTConfig
from gptlab.model import MultiHeadAttention as LibraryAttention

# "Your journey starts with one step", the book's example of six tokens in three dimensions
INPUTS = torch.tensor(
    [
        [0.43, 0.15, 0.89],
        [0.55, 0.87, 0.66],
        [0.57, 0.85, 0.64],
        [0.22, 0.58, 0.33],
        [0.77, 0.25, 0.10],
        [0.05, 0.80, 0.55],
    ]
)
BATCH = torch.stack([INPUTS, INPUTS])
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture
def x():
    return torch.randn(2, 7, 12, generator=torch.Generator().manual_seed(0))


def multi_head(qkv_bias=True, context_length=9):
    torch.manual_seed(0)
    return MultiHeadAttention(12, 8, context_length, 0.0, num_heads=4, qkv_bias=qkv_bias)


@pytest.mark.parametrize(
    ("seed", "make", "inputs", "first", "last"),
    [
        (123, lambda: SelfAttention_v1(3, 2), INPUTS, [0.2996, 0.8053], [0.2990, 0.8040]),
        (789, lambda: SelfAttention_v2(3, 2), INPUTS, [-0.0739, 0.0713], [-0.0754, 0.0693]),
        (123, lambda: CausalAttention(3, 2, 6, 0.0), BATCH, [-0.4519, 0.2216], [-0.5299, -0.1081]),
        (
            123,
            lambda: MultiHeadAttentionWrapper(3, 2, 6, 0.0, num_heads=2),
            BATCH,
            [-0.4519, 0.2216, 0.4772, 0.1063],
            [-0.5299, -0.1081, 0.5077, 0.3493],
        ),
        (123, lambda: MultiHeadAttention(3, 2, 6, 0.0, num_heads=2), BATCH, [0.3190, 0.4858], [0.2575, 0.4028]),
    ],
)
def test_a_seed_gives_the_books_numbers(seed, make, inputs, first, last):
    torch.manual_seed(seed)
    printed = make()(inputs).detach()
    torch.testing.assert_close(printed[..., 0, :].reshape(-1, len(first))[-1], torch.tensor(first), atol=1e-4, rtol=0)
    torch.testing.assert_close(printed[..., -1, :].reshape(-1, len(last))[-1], torch.tensor(last), atol=1e-4, rtol=0)


def test_version_1_equals_version_2_with_its_weights(x):
    second = SelfAttention_v2(12, 8)
    first = SelfAttention_v1(12, 8)
    for name in ("W_query", "W_key", "W_value"):
        getattr(first, name).data = getattr(second, name).weight.data.T
    torch.testing.assert_close(first(x), second(x), **CLOSE)
    torch.testing.assert_close(first(x[0]), first(x)[0], **CLOSE)  # one sequence, and a batch of them


@pytest.mark.parametrize("causal", [False, True])
def test_one_head_equals_the_fused_kernel(x, causal):
    head = CausalAttention(12, 8, 9, 0.0, qkv_bias=True) if causal else SelfAttention_v2(12, 8, qkv_bias=True)
    expected = F.scaled_dot_product_attention(head.W_query(x), head.W_key(x), head.W_value(x), is_causal=causal)
    torch.testing.assert_close(head(x), expected, **CLOSE)


def test_the_wrapper_holds_single_heads(x):
    wrapper = MultiHeadAttentionWrapper(12, 5, 9, 0.0, num_heads=3)
    together = wrapper(x)
    assert together.shape == (2, 7, 15)
    for number, head in enumerate(wrapper.heads):
        assert together[..., 5 * number : 5 * number + 5].equal(head(x))


def test_all_heads_at_once_equal_one_after_the_other(x):
    at_once, wrapper = multi_head(), MultiHeadAttentionWrapper(12, 2, 9, 0.0, num_heads=4, qkv_bias=True)
    for number, head in enumerate(wrapper.heads):
        rows = slice(2 * number, 2 * number + 2)
        for name in ("W_query", "W_key", "W_value"):
            of_all = getattr(at_once, name)
            getattr(head, name).load_state_dict({"weight": of_all.weight[rows], "bias": of_all.bias[rows]})
    torch.testing.assert_close(at_once(x), at_once.out_proj(wrapper(x)), **CLOSE)


def test_equals_pytorchs_own_module(x):
    ours = MultiHeadAttention(12, 12, 9, 0.0, num_heads=4, qkv_bias=True)
    theirs = nn.MultiheadAttention(12, 4, batch_first=True)
    projections = (ours.W_query, ours.W_key, ours.W_value)
    theirs.in_proj_weight.data = torch.cat([linear.weight.data for linear in projections])
    theirs.in_proj_bias.data = torch.cat([linear.bias.data for linear in projections])
    theirs.out_proj.load_state_dict(ours.out_proj.state_dict())
    expected, _ = theirs(x, x, x, attn_mask=ours.mask[:7, :7].bool(), need_weights=False)
    torch.testing.assert_close(ours(x), expected, **CLOSE)


@pytest.mark.parametrize("qkv_bias", [False, True])
def test_equals_the_fused_variant_and_the_library(x, qkv_bias):
    ours = MultiHeadAttention(12, 12, 9, 0.0, num_heads=4, qkv_bias=qkv_bias)
    fused = PyTorchMultiHeadAttention(12, 12, num_heads=4, qkv_bias=qkv_bias)
    library = LibraryAttention(GPTConfig(5, 9, 12, 4, 1, qkv_bias=qkv_bias))
    library.load_state_dict(ours.state_dict())  # the same names
    projections = (ours.W_query, ours.W_key, ours.W_value)
    fused.qkv.weight.data = torch.cat([linear.weight.data for linear in projections])
    if qkv_bias:
        fused.qkv.bias.data = torch.cat([linear.bias.data for linear in projections])
    fused.proj.load_state_dict(ours.out_proj.state_dict())
    torch.testing.assert_close(fused(x), ours(x), **CLOSE)
    torch.testing.assert_close(library(x), ours(x), **CLOSE)


def test_nothing_depends_on_the_future(x):
    changed = torch.cat([x[:, :4], -x[:, 4:]], dim=1)
    for attention in (
        CausalAttention(12, 8, 9, 0.0),
        MultiHeadAttentionWrapper(12, 8, 9, 0.0, 2),
        multi_head(),
        PyTorchMultiHeadAttention(12, 8, 4),
    ):
        torch.testing.assert_close(attention(changed)[:, :4], attention(x)[:, :4], **CLOSE)
        assert not torch.allclose(attention(changed)[:, 4:], attention(x)[:, 4:])
        torch.testing.assert_close(attention(x[1]), attention(x)[1], **CLOSE)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CausalAttention(12, 8, 9, 0.5),
        lambda: MultiHeadAttention(12, 8, 9, 0.5, 4),
        lambda: PyTorchMultiHeadAttention(12, 8, 4, dropout=0.5),
    ],
)
def test_dropout_only_in_training(x, make):
    attention = make()
    assert not attention(x).equal(attention(x))
    attention.eval()
    assert attention(x).equal(attention(x))


def test_what_code_reads():
    attention = multi_head()
    assert (attention.d_out, attention.num_heads, attention.head_dim) == (8, 4, 2)
    assert attention.mask.equal(torch.ones(9, 9).triu(diagonal=1))
    assert attention.dropout.p == 0.0
    fused = PyTorchMultiHeadAttention(12, 8, 4, 0.25)
    assert (fused.d_out, fused.num_heads, fused.head_dim, fused.dropout) == (8, 4, 2, 0.25)
    assert set(fused.state_dict()) == {"qkv.weight", "proj.weight", "proj.bias"}


def test_checkpoints_with_and_without_masks_load(x):
    attention = multi_head()
    state = attention.state_dict()
    assert "mask" not in state
    for saved in (state, {**state, "mask": torch.ones(9, 9).triu(diagonal=1)}, {**state, "mask": torch.ones(4, 4)}):
        twin = MultiHeadAttention(12, 8, 9, 0.0, 4, qkv_bias=True)
        twin.load_state_dict(saved)
        torch.testing.assert_close(twin(x), attention(x))
    wrapper = MultiHeadAttentionWrapper(12, 8, 9, 0.0, 2)
    masks = {f"heads.{number}.mask": torch.ones(9, 9).triu(diagonal=1) for number in range(2)}
    MultiHeadAttentionWrapper(12, 8, 9, 0.0, 2).load_state_dict({**wrapper.state_dict(), **masks})
    with pytest.raises(RuntimeError, match="Unexpected key"):
        twin.load_state_dict({**state, "other": torch.ones(1)})


def test_more_tokens_than_the_context():
    for attention in (CausalAttention(12, 8, 5, 0.0), multi_head(context_length=5)):
        attention(torch.zeros(1, 5, 12))
        with pytest.raises(ValueError, match="the context holds 5 tokens, got 6"):
            attention(torch.zeros(1, 6, 12))


@pytest.mark.parametrize("num_heads", [3, 0])
def test_heads_must_divide_the_width(num_heads):
    with pytest.raises(ValueError, match=f"multiple of num_heads, got 8 and {num_heads}"):
        MultiHeadAttention(12, 8, 9, 0.0, num_heads)
    with pytest.raises(ValueError, match=f"multiple of num_heads, got 8 and {num_heads}"):
        PyTorchMultiHeadAttention(12, 8, num_heads)
