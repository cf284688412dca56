"""Every usual mistake is made once, in a student with a switch for each, and has to be recognised."""

import pytest
import torch
from switchable_gpt import IDS, reference_model, student_like

from gptlab.analysis import compare


@pytest.fixture(autouse=True)
def one_thread(two_threads):
    """Thousands of tiny products: a second thread only waits."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def reference():
    return reference_model()


FAULTS = {
    "no mask": ("trf_blocks.0.att", "the causal mask is missing"),
    "mask late": ("trf_blocks.0.att", "also sees the one after it"),
    "mask early": ("trf_blocks.0.att", "does not see itself"),
    "mask early, -inf": ("trf_blocks.0.att", "does not see itself"),
    "mask with 0": ("trf_blocks.0.att", "set to 0"),
    "softmax": ("trf_blocks.0.att", "softmax runs over the queries"),
    "no scale": ("trf_blocks.0.att", "scale is missing"),
    "head_dim": ("trf_blocks.0.att", "without the root"),
    "sqrt emb_dim": ("trf_blocks.0.att", "sqrt(emb_dim)"),
    "roles": ("trf_blocks.0.att", "W_value serves as query, W_key as key, W_query as value"),
    "one head": ("trf_blocks.0.att", "not split"),
    "four heads": ("trf_blocks.0.att", "there are 4 heads, where the reference has 3"),
    "split": ("trf_blocks.0.att", "split wrongly"),
    "join": ("trf_blocks.0.att", "joined wrongly"),
    "key transposed": ("trf_blocks.0.att.W_key", "weight of att.W_key is transposed"),
    "qkv bias": ("trf_blocks.0.att.W_query", "bias of att.W_query is left out"),
    "no mask, no scale": (
        "trf_blocks.0.att",
        "mask is missing: every token sees all tokens and the attention scale is",
    ),
    "dropout": ("trf_blocks.0.att", "dropout is active"),
    "ff bias": ("trf_blocks.0.ff.layers.2", "bias of ff.layers.2 is left out"),
    "erf": ("trf_blocks.0.ff.layers.1", "erf"),
    "relu": ("trf_blocks.0.ff.layers.1", "ReLU"),
    "eps": ("trf_blocks.0.norm1", "eps is 0.001"),
    "unbiased": ("trf_blocks.0.norm1", "unbiased"),
    "norm affine": ("trf_blocks.0.norm1", "the scale is left out and the shift is left out"),
    "post-norm": ("trf_blocks.0", "post-norm"),
    "residual 1": ("trf_blocks.0", "residual around attention is missing"),
    "residual 2": ("trf_blocks.0", "residual around feed-forward is missing"),
    "from the start": ("trf_blocks.0", "starts at the block's input"),
    "residual 1, relu": ("trf_blocks.0", "ReLU in place of GELU and the residual around attention is missing"),
    "positions": ("pos_emb", "positions are left out"),
    "positions from 1": ("pos_emb", "begin at 1"),
    "final norm": ("final_norm", "final norm is left out"),
    "tied": ("out_head", "the head is the token embeddings"),
    "softmax at the end": ("forward", "returns probabilities"),
}


@pytest.mark.parametrize("wrong", FAULTS)
def test_each_fault_is_named(reference, wrong):
    module, cause = FAULTS[wrong]
    result = compare(student_like(reference, wrong), reference, IDS)
    assert not result.same
    assert result.module == module
    assert cause in result.cause and ", or " not in result.cause
    assert result.difference > 0 and result.with_reference_weights is None
    assert module.replace("forward", "own forward") in str(result) and cause in str(result)


@pytest.mark.parametrize("wrong", ["odd attention", "norm odd", "norm mean"])
def test_a_fault_outside_the_list_is_unknown(reference, wrong):
    """The numbers are given instead, and they are right."""
    result = compare(student_like(reference, wrong), reference, IDS)
    assert result.module == ("trf_blocks.0.att" if "attention" in wrong else "trf_blocks.0.norm1")
    assert result.cause is None and "unknown" in str(result)
    assert result.difference == pytest.approx(dict(result.table)[result.module])
    assert "Largest at batch" in str(result)
