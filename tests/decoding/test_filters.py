"""Filters are those of transformers, to the last bit."""

import math

import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    NoRepeatNGramLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from gptlab.decoding.filters import (
    compose,
    forbid_repeated_ngrams,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    penalize_repetition,
)

V = 37


def pick(generator, *choices):
    return choices[int(torch.randint(len(choices), (), generator=generator))]


def test_a_thousand_random_cases_equal_transformers():
    """Ties, p = 0 and p = 1, and forbidden tokens among them."""
    g = torch.Generator().manual_seed(0)
    differed = 0
    for _ in range(1000):
        B, T = int(torch.randint(1, 4, (), generator=g)), int(torch.randint(1, 12, (), generator=g))
        rows = torch.randint(V, (B, T), generator=g)
        logits = torch.randn(B, V, generator=g) * pick(g, 0.1, 1, 5)
        if pick(g, True, False):
            logits = logits.round()  # many ties
        settings = {
            "temperature": pick(g, 0.3, 1.0, 2.5),
            "top_k": pick(g, None, 1, 5, V),
            "top_p": pick(g, None, 0.0, 0.4, 0.95, 1.0),
            "min_p": pick(g, None, 0.0, 0.1, 1.0),
            "repetition_penalty": pick(g, 1.0, 1.3, 0.7),
            "no_repeat_ngram": pick(g, 0, 1, 2, 3),
        }
        theirs = LogitsProcessorList()
        if settings["repetition_penalty"] != 1:
            theirs.append(RepetitionPenaltyLogitsProcessor(settings["repetition_penalty"]))
        if settings["no_repeat_ngram"]:
            theirs.append(NoRepeatNGramLogitsProcessor(settings["no_repeat_ngram"]))
        theirs.append(TemperatureLogitsWarper(settings["temperature"]))
        if settings["top_k"] is not None:
            theirs.append(TopKLogitsWarper(settings["top_k"]))
        if settings["top_p"] is not None:
            theirs.append(TopPLogitsWarper(settings["top_p"]))
        if settings["min_p"] is not None:
            theirs.append(MinPLogitsWarper(settings["min_p"]))
        expected = theirs(rows, logits.clone())
        found = logits
        for change in compose(**settings):
            found = change(rows.tolist(), found)
        assert found.equal(expected), settings
        differed += not found.equal(logits)
    assert differed > 900


def test_rows_may_be_of_different_lengths():
    logits = torch.zeros(2, V)
    apply = forbid_repeated_ngrams(2)
    found = apply([[1, 2, 1], [5]], logits)
    assert found[0].isinf().nonzero().flatten().tolist() == [2]
    assert found[1].isfinite().all()
    assert logits.isfinite().all()  # the caller's logits stay what they were


def test_virtual_tokens_in_a_prompt_are_no_words():
    """Prompt methods read ids beyond the vocabulary; there are no logits for them."""
    logits, rows = torch.tensor([[1.0, 2.0, 3.0]]), [[0, 7, 1, 0, 7]]
    penalised = penalize_repetition(2.0)(rows, logits)
    assert penalised.tolist() == [[0.5, 1.0, 3.0]]
    assert forbid_repeated_ngrams(2)([[0, 7, 1, 0]], logits).tolist() == logits.tolist()
    assert penalize_repetition(2.0)([[7, 8]], logits).tolist() == logits.tolist()  # of which there may be nothing else


def test_greedy_leaves_the_sampling_filters_out():
    assert compose(temperature=0, top_k=3, top_p=0.5, min_p=0.1) == []
    assert len(compose(temperature=0, repetition_penalty=1.2, no_repeat_ngram=2)) == 2


def test_the_callers_filters_come_before_the_temperature():
    seen = []

    def watch(rows, logits):
        seen.append(logits.clone())
        return logits

    chain = compose(temperature=2.0, repetition_penalty=2.0, filters=[watch])
    logits = torch.ones(1, V)
    for change in chain:
        logits = change([[3]], logits)
    assert seen[0][0, 3] == 0.5
    assert logits[0, 3] == 0.25


def test_worked_examples():
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
    assert keep_top_k(3)([[0]], logits).isfinite().sum() == 4  # a tie at the border stays
    assert keep_top_p(0.6)([[0]], logits).isfinite().tolist() == [[True, True, False, False]]
    assert keep_top_p(0.0)([[0]], logits).isfinite().tolist() == [[True, False, False, False]]
    assert keep_min_p(0.5)([[0]], logits).isfinite().tolist() == [[True, True, False, False]]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": -0.5}, "temperature must be >= 0 and finite, got -0.5"),
        ({"temperature": math.nan}, "got nan"),
        ({"temperature": 1, "top_k": 0}, "top_k must be a whole number >= 1, got 0"),
        ({"temperature": 1, "top_p": 1.5}, r"top_p must be in \[0, 1\], got 1.5"),
        ({"temperature": 1, "min_p": -0.1}, r"min_p must be in \[0, 1\], got -0.1"),
        ({"repetition_penalty": 0}, "repetition_penalty must be > 0 and finite, got 0"),
        ({"no_repeat_ngram": -2}, "no_repeat_ngram must be a whole number >= 0, got -2"),
        ({"top_p": 1.5}, "got 1.5"),  # also where it would not be used
    ],
)
def test_settings_out_of_range(setting, message):
    with pytest.raises(ValueError, match=message):
        compose(**setting)


def test_top_k_above_the_vocabulary():
    with pytest.raises(ValueError, match=rf"top_k must be in \[1, {V}\], the vocabulary, got 38"):
        keep_top_k(V + 1)([[0]], torch.zeros(1, V))
