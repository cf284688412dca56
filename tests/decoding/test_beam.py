"""Beam search finds what transformers finds, with the same score."""

import itertools
import math
import warnings

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from gptlab.decoding import beam_search, generate
from gptlab.model import GPTModel
from gptlab.weights import load_weights

V, EOS = 11, 3
CFG = {"vocab_size": V, "context_length": 24, "emb_dim": 16, "n_heads": 2, "n_layers": 1, "drop_rate": 0.0}


def pair(seed):
    """The same random weights twice, large enough that distributions are far from flat."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=V, n_positions=24, n_embd=16, n_layer=1, n_head=2, bos_token_id=EOS, eos_token_id=EOS
    )
    theirs = GPT2LMHeadModel(config).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours = GPTModel(CFG | {"qkv_bias": True, "tie_weights": True}).eval()
    load_weights(ours, theirs)
    return ours, theirs


def their_best(theirs, prompt, eos_id, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = theirs.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            do_sample=False,
            eos_token_id=eos_id,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
            **settings,
        )
    ids = found.sequences[0, len(prompt) :].tolist()
    ends = [place for place, token in enumerate(ids) if token in (eos_id if isinstance(eos_id, list) else [eos_id])]
    return ids[: ends[0]] if ends else ids, found.sequences_scores[0].item()


def test_hundreds_of_random_models_equal_transformers():
    ended = 0
    for seed in range(20):
        ours, theirs = pair(seed)
        prompt = torch.randint(V, (1 + seed % 4,), generator=torch.Generator().manual_seed(seed)).tolist()
        for beams, penalty, early in itertools.product((1, 2, 4), (0.0, 1.0, 2.0, -1.0), (False, True, "never")):
            if beams == 1:
                continue  # transformers runs greedy decoding then; see the next test
            settings = {"num_beams": beams, "max_new_tokens": 9, "length_penalty": penalty, "early_stopping": early}
            expected, score = their_best(theirs, prompt, EOS, **settings)
            best = beam_search(ours, prompt, eos_id=EOS, **settings)[0]
            assert best.ids == expected, (seed, settings)
            assert math.isclose(best.score, score, rel_tol=1e-5, abs_tol=1e-5), (seed, settings)
            ended += best.ended
    assert 100 < ended < 470  # both kinds of end are among them


def test_filters_and_several_end_ids_equal_transformers():
    for seed in range(10):
        ours, theirs = pair(seed)
        settings = {"num_beams": 3, "max_new_tokens": 8, "repetition_penalty": 1.4}
        expected, score = their_best(theirs, [1, 2], [EOS, 5], no_repeat_ngram_size=2, **settings)
        best = beam_search(ours, [1, 2], eos_id=[EOS, 5], no_repeat_ngram=2, **settings)[0]
        assert best.ids == expected
        assert math.isclose(best.score, score, rel_tol=1e-5, abs_tol=1e-5)


def test_one_beam_without_an_end_is_greedy():
    for seed in range(5):
        ours, _ = pair(seed)
        [best] = beam_search(ours, [1, 2, 4], num_beams=1, max_new_tokens=8)
        assert best.ids == generate(ours, [[1, 2, 4]], max_new_tokens=8)[0]


def test_as_many_beams_as_sequences_find_the_most_likely_one():
    """Every sequence of two tokens is tried."""
    ours, _ = pair(0)
    sums = {}
    for first, second in itertools.product(range(V), repeat=2):
        logprobs = ours(torch.tensor([[1, first, second]])).log_softmax(-1)[0]
        sums[first, second] = (logprobs[0, first] + logprobs[1, second]).item()
    hypotheses = beam_search(ours, [1], num_beams=V, max_new_tokens=2, length_penalty=0.0)
    assert tuple(hypotheses[0].ids) == max(sums, key=sums.get)
    assert math.isclose(hypotheses[0].score, max(sums.values()), rel_tol=1e-5)
    assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
    assert not hypotheses[0].ended


def test_the_context_ends_the_search():
    ours, _ = pair(0)
    [best, *_] = beam_search(ours, [1] * 20, num_beams=2, max_new_tokens=50)
    assert len(best.ids) == 4


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_beams": 0}, r"num_beams must be in \[1, 11\], the vocabulary, got 0"),
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number >= 1, got 0"),
        ({"early_stopping": "soon"}, "early_stopping must be True, False or 'never', got 'soon'"),
        ({"eos_id": 11}, r"eos_id must be in \[0, 11\), the vocabulary, got 11"),
        ({"prompt": []}, "prompt 1 is empty"),
        ({"prompt": [12]}, r"holds the id 12; ids must be in \[0, 11\)"),
    ],
)
def test_wrong_requests(changed, message):
    ours, _ = pair(0)
    arguments = {"prompt": [1], "num_beams": 2, "max_new_tokens": 3} | changed
    with pytest.raises(ValueError, match=message):
        beam_search(ours, **arguments)
