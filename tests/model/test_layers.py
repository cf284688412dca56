import pytest
import torch
from torch.nn import functional as F

from gptlab.model import GELU, LayerNorm


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_layer_norm_by_hand_is_the_fused_one(scale):
    norm = LayerNorm(48)
    torch.nn.init.normal_(norm.scale)
    torch.nn.init.normal_(norm.shift)
    x = (torch.randn(2, 5, 48) + 3) * scale
    torch.testing.assert_close(norm.by_hand(x), norm(x), atol=1e-5, rtol=1e-5)


def test_layer_norm_gives_mean_0_and_biased_variance_1():
    y = LayerNorm(64)(torch.randn(3, 4, 64) * 7 + 2)
    torch.testing.assert_close(y.mean(-1), torch.zeros(3, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(-1, unbiased=False), torch.ones(3, 4), atol=1e-4, rtol=0)


def test_gelu_by_hand_is_the_fused_one():
    x = torch.linspace(-10, 10, 2001)
    torch.testing.assert_close(GELU().by_hand(x), GELU()(x), atol=2e-6, rtol=1e-5)
    assert (GELU()(x) - F.gelu(x)).abs().max() > 1e-4  # the tanh form, not the exact one
