import numpy as np
import pytest
import torch

from gptlab.analysis.neighbours import nearest_tokens


def test_neighbours_are_the_largest_cosines(tiny, tokenizer):
    weight = tiny.tok_emb.weight.detach().numpy().astype(float)
    unit = weight / np.linalg.norm(weight, axis=1, keepdims=True)
    for token in (0, 260, 299):
        cosines = unit @ unit[token]
        order = [near for near in np.argsort(-cosines) if near != token][:7]
        found = nearest_tokens(tiny, tokenizer, token, 7)
        assert [each.token for each in found] == order
        assert [each.cosine for each in found] == pytest.approx(cosines[order].tolist(), abs=1e-5)
    assert len(nearest_tokens(tiny, tokenizer, 0, 299)) == 299


def test_a_token_as_text_or_as_a_vector(tiny, tokenizer):
    with torch.no_grad():
        tiny.tok_emb.weight[65] = 2 * tiny.tok_emb.weight[70]
    [nearest] = nearest_tokens(tiny, tokenizer, tokenizer.decode([70]), 1)
    assert (nearest.token, nearest.text) == (65, tokenizer.decode([65])) and nearest.cosine == pytest.approx(1)
    vector = tiny.tok_emb.weight[70] + tiny.tok_emb.weight[65]
    for given in (vector, vector.detach().numpy(), vector.tolist()):
        assert {each.token for each in nearest_tokens(tiny, tokenizer, given, 2)} == {65, 70}
    assert nearest_tokens(tiny, tokenizer, np.int64(70), 1) == [nearest]


def test_bad_arguments_are_refused(tiny, tokenizer):
    with pytest.raises(ValueError, match=r"' A' must be one token, got 2: \['␣', 'A'\]; name one of them"):
        nearest_tokens(tiny, tokenizer, " A")
    with pytest.raises(ValueError, match=r"token must be in \[0, 300\), got 300"):
        nearest_tokens(tiny, tokenizer, 300)
    for k in (0, 300):
        with pytest.raises(ValueError, match=rf"k must be in \[1, 299\], the other tokens, got {k}"):
            nearest_tokens(tiny, tokenizer, 1, k)
    with pytest.raises(ValueError, match=r"a vector must have the model's width, \(32,\), got \(3,\)"):
        nearest_tokens(tiny, tokenizer, torch.ones(3))
    with pytest.raises(ValueError, match="a vector must be finite"):
        nearest_tokens(tiny, tokenizer, torch.full((32,), float("nan")))
