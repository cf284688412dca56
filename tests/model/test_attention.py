import pytest
import torch

from gptlab.config import GPTConfig
from gptlab.model import KVCache, MultiHeadAttention, causal_mask

CFG = GPTConfig(vocab_size=11, context_length=32, emb_dim=24, n_heads=3, n_layers=1, qkv_bias=True)


@pytest.fixture
def attention():
    torch.manual_seed(0)
    return MultiHeadAttention(CFG).eval()


def padding(B, S):
    visible = torch.ones(B, S, dtype=torch.bool)
    visible[1, :3] = False
    return visible.unsqueeze(1)


@pytest.mark.parametrize("mask", [None, "padding"])
@pytest.mark.parametrize("past", [0, 4])
def test_by_hand_equals_the_fused_attention(attention, mask, past):
    x = torch.randn(2, past + 5, CFG.emb_dim)
    caches = [KVCache(1).layers[0], KVCache(1).layers[0]]
    with torch.no_grad():
        for cache in caches:
            if past:
                attention(x[:, :past], cache=cache)
        if mask:
            mask = causal_mask(5, past + 5, padding(2, past + 5))
        fused = attention(x[:, past:], cache=caches[0], mask=mask)
        by_hand, weights = attention(x[:, past:], cache=caches[1], mask=mask, return_weights=True)
    torch.testing.assert_close(fused, by_hand, atol=1e-6, rtol=1e-5)
    assert weights.shape == (2, 3, 5, past + 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5))
    hidden = ~causal_mask(5, past + 5)
    assert (weights[:, :, hidden] == 0).all()


def test_equal_scores_share_the_weight_equally(attention):
    torch.nn.init.zeros_(attention.W_query.weight)
    torch.nn.init.zeros_(attention.W_query.bias)
    _, weights = attention(torch.randn(1, 3, CFG.emb_dim), return_weights=True)
    expected = torch.tensor([[1, 0, 0], [1 / 2, 1 / 2, 0], [1 / 3, 1 / 3, 1 / 3]])
    torch.testing.assert_close(weights[0, 1], expected)


def test_a_query_without_any_visible_key_sees_itself():
    nothing = torch.zeros(1, 1, 4, dtype=torch.bool)
    assert causal_mask(4, 4, nothing)[0, 0].equal(torch.eye(4, dtype=torch.bool))


def test_wrong_masks():
    with pytest.raises(ValueError, match=r"bool .* got torch.float32 \(1, 4, 4\)"):
        causal_mask(4, 4, torch.ones(1, 4, 4))
    with pytest.raises(ValueError, match=r"\(4, 4\)"):
        causal_mask(4, 4, torch.ones(4, 4, dtype=torch.bool))
