"""A prepared copy writes what the model writes."""

import pytest
import torch

from gptlab.decoding import generate, prepare_for_decoding

IDS = torch.arange(12).view(1, 12)


@pytest.mark.filterwarnings("ignore:this PyTorch or processor lacks")
def test_packed_gives_the_same_logits_and_tokens(tiny):
    before = {name: weight.clone() for name, weight in tiny.state_dict().items()}
    prepared = prepare_for_decoding(tiny)
    torch.testing.assert_close(prepared(IDS), tiny(IDS), rtol=1e-5, atol=1e-5)
    prompts = [[1], [5, 6, 7], [9] * 20]
    assert generate(prepared, prompts, max_new_tokens=20) == generate(tiny, prompts, max_new_tokens=20)
    assert all(weight.equal(before[name]) for name, weight in tiny.state_dict().items())


@pytest.mark.filterwarnings("ignore:this PyTorch or processor lacks")
def test_int8_is_close(tiny):
    expected = tiny(IDS)
    error = (prepare_for_decoding(tiny, "int8")(IDS) - expected).norm() / expected.norm()
    assert error < 0.03


def test_another_layout(tiny):
    with pytest.raises(ValueError, match="weights must be 'packed' or 'int8', got 'int4'"):
        prepare_for_decoding(tiny, "int4")
