"""The lens against shorter models: what layer l says is what a model of l blocks says."""

import copy

import pytest
import torch

from gptlab.analysis.logit_lens import CHUNK, logit_lens

IDS = [3, 1, 4, 1, 5, 9, 2, 6]


def test_each_layer_says_what_a_model_that_ends_there_says(tiny):
    targets = [*IDS[1:], 50]
    lens = logit_lens(tiny, IDS, targets=targets, top=4)
    assert lens.layers == ["embedding", "block 1", "block 2"]
    assert lens.tokens.shape == lens.probabilities.shape == (3, 8, 4)
    for layer in range(3):
        short = copy.deepcopy(tiny)
        short.trf_blocks = short.trf_blocks[:layer]
        with torch.no_grad():
            shares = short(torch.tensor([IDS]))[0].softmax(dim=-1)
        best = shares.topk(4)
        assert lens.tokens[layer].equal(best.indices)
        torch.testing.assert_close(lens.probabilities[layer], best.values)
        of_targets = shares[range(8), targets]
        torch.testing.assert_close(lens.target_probabilities[layer], of_targets)
        assert lens.target_ranks[layer].tolist() == (1 + (shares > of_targets.unsqueeze(1)).sum(dim=1)).tolist()


def test_the_last_layer_is_the_model_itself(tiny):
    lens = logit_lens(tiny.train(), IDS)
    assert tiny.training and not any(module._forward_hooks for module in tiny.modules())
    with torch.no_grad():
        logits = tiny.eval()(torch.tensor([IDS]))[0]
    assert lens.targets.equal(logits.argmax(dim=-1)) and lens.ids.tolist() == IDS
    assert lens.tokens[-1, :, 0].equal(lens.targets) and (lens.target_ranks[-1] == 1).all()
    torch.testing.assert_close(lens.target_probabilities[-1], logits.softmax(dim=-1).amax(dim=-1))


def test_never_more_than_a_chunk_of_logits(tiny):
    sizes = []
    tiny.out_head.register_forward_hook(lambda module, given, logits: sizes.append(len(logits)))
    lens = logit_lens(tiny, [1] * (CHUNK + 20))
    assert set(sizes) == {CHUNK, 20} and lens.tokens.shape[:2] == (3, CHUNK + 20)


def test_bad_arguments_are_refused(tiny):
    with pytest.raises(ValueError, match=r"top must be in \[1, 300\], the vocabulary, got 0"):
        logit_lens(tiny, IDS, top=0)
    for targets in ([1, 2], [*IDS[1:], 300], [1.0] * 8):
        with pytest.raises(ValueError, match=r"targets must be 8 ids in \[0, 300\), one for each place"):
            logit_lens(tiny, IDS, targets=targets)
    with pytest.raises(ValueError, match="ids must be the token ids of one text"):
        logit_lens(tiny, [])
    with pytest.raises(ValueError, match="the context holds 160 tokens, got 161"):
        logit_lens(tiny, [1] * 161)
    assert not any(module._forward_hooks for module in tiny.modules())
