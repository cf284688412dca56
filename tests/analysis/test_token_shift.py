"""Token shift against scipy, against whole logits, and on numbers that can be checked by eye."""

import copy
import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy, rankdata

from gptlab.analysis.shift_report import ShiftedAnswer, TokenShift
from gptlab.analysis.token_shift import END, compare_logits, token_shift
from gptlab.data import load_template
from gptlab.decoding import generate
from gptlab.decoding.respond import prompt_ids
from gptlab.judging.few_shot import few_shot_prompt
from gptlab.model import GPTModel
from gptlab.tokenizer import train_tokenizer
from gptlab.weights import Checkpoint

PROMPTS = [[5, 6, 7], [8, 9], [10, 11, 12, 13, 14, 15], [16], [17, 18, 19]]


@pytest.fixture
def other(tiny):
    """What tuning might have made of `tiny`."""
    model, generator = copy.deepcopy(tiny), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.trf_blocks.parameters():
            parameter += 0.3 * parameter.std(correction=0) * torch.randn(parameter.shape, generator=generator)
    return model


@pytest.fixture
def base(tiny, tokenizer):
    return Checkpoint(tiny, tokenizer, load_template("alpaca_short"))


@pytest.fixture
def tuned(other, tokenizer):
    return Checkpoint(other, tokenizer, load_template("alpaca_short"))


@pytest.mark.parametrize("ties", [False, True])
def test_ranks_probabilities_and_kl_are_those_of_scipy(ties):
    generator = torch.Generator().manual_seed(0)
    base, tuned = torch.randn(2, 40, 30, generator=generator) * 3
    base = base.round() if ties else base
    wanted = torch.randint(30, (40,), generator=generator)
    tokens, ranks, choices, p_base, p_tuned, kl = compare_logits(base, tuned, wanted)
    assert tokens.equal(wanted) and choices.equal(base.argmax(dim=-1))
    for row, token in enumerate(wanted.tolist()):
        assert ranks[row] == rankdata(-base[row].numpy(), method="min")[token]
        if not ties:
            assert ranks[row] == 1 + base[row].argsort(descending=True).tolist().index(token)
        p, q = softmax(base[row].double().numpy()), softmax(tuned[row].double().numpy())
        assert p_base[row].item() == pytest.approx(p[token], rel=1e-4)
        assert p_tuned[row].item() == pytest.approx(q[token], rel=1e-4)
        assert kl[row].item() == pytest.approx(entropy(q, p), rel=1e-4, abs=1e-6)  # KL(tuned || base)


def test_an_end_is_the_likeliest_of_the_tuned_models_end_tokens():
    tuned = torch.tensor([[9.0, 1.0, 0.0, 2.0], [9.0, 3.0, 0.0, 2.0], [9.0, 3.0, 0.0, 2.0]])
    tokens, *_ = compare_logits(tuned, tuned, torch.tensor([END, END, 2]), torch.tensor([1, 3]))
    assert tokens.tolist() == [3, 1, 2]


def test_the_same_model_twice_shifts_nothing(base, entries):
    for prompts in (entries[:6], [entry["instruction"] for entry in entries[:6]], PROMPTS):
        shift = token_shift(base, base, prompts, max_new_tokens=6)
        assert len(shift.answers) == len(prompts)
        assert shift.tokens.unshifted == 1 and shift.tokens.kl == 0 and shift.tokens.tokens > 0
        assert shift.tokens.base_probability == shift.tokens.tuned_probability


@pytest.mark.parametrize(("batch_size", "chunk"), [(1, 1), (2, 3), (16, 128)])
def test_batches_and_chunks_change_nothing(tiny, other, batch_size, chunk):
    """Each answer alone, with its whole logits, says the same."""
    answers = [[20, 21, 22], [23], [24, 25, 26, 27], [28, 29], [30] * 5]
    shift = token_shift(tiny, other, PROMPTS, responses=answers, batch_size=batch_size, chunk=chunk)
    for prompt, answer, found in zip(PROMPTS, answers, shift.answers):
        ids = torch.tensor([prompt + answer[:-1]])
        with torch.no_grad():
            logits = [model(ids)[0, len(prompt) - 1 :] for model in (tiny, other)]
        expected = compare_logits(*logits, torch.tensor(answer))
        assert found.ids == answer and not found.ended and found.note == ""
        assert found.ranks == expected[1].tolist() and found.choices == expected[2].tolist()
        for values, wanted in zip((found.base_probabilities, found.tuned_probabilities, found.kl), expected[3:]):
            torch.testing.assert_close(torch.tensor(values), wanted, rtol=1e-4, atol=1e-6)


def test_never_more_than_a_chunk_of_logits(tiny, other):
    largest = []
    for model in (tiny, other):
        model.out_head.register_forward_hook(lambda module, given, logits: largest.append(logits.numel()))
    token_shift(tiny, other, PROMPTS * 3, max_new_tokens=12, batch_size=4, chunk=5)
    assert max(largest) == 5 * tiny.cfg.vocab_size  # 15 answers have 180 tokens


def test_answers_are_the_tuned_models_greedy_ones(base, tuned, entries):
    shift = token_shift(base, tuned, entries[:4], max_new_tokens=8)
    prompts = [prompt_ids(tuned.template, entry, tuned.tokenizer) for entry in entries[:4]]
    assert [answer.ids for answer in shift.answers] == generate(tuned.model, prompts, max_new_tokens=8)
    assert not tuned.model.training


def test_ends_are_counted_apart(base, tuned, tokenizer, entries):
    """An answer as text ended by itself; as ids it says so."""
    eot, texts = tokenizer.eot_token, ["It is 你好.", "It is 1.", ""]
    ids = [[*tokenizer.encode_ordinary(text), eot] for text in texts]
    by_text, by_ids = (token_shift(base, tuned, entries[:3], responses=given) for given in (texts, ids))
    assert by_text.answers == by_ids.answers
    assert [answer.ids for answer in by_text.answers] == ids and all(answer.ended for answer in by_text.answers)
    assert by_text.tokens.tokens == sum(len(each) - 1 for each in ids) and by_text.ends.tokens == 3
    open_end = token_shift(base, tuned, entries[:2], responses=[each[:-1] for each in ids[:2]])
    assert open_end.ends is None and open_end.answers[0].ranks == by_text.answers[0].ranks[:-1]


def test_a_model_that_stops_has_ended(base, tokenizer, entries):
    """The tuned model stops at once, since its head likes nothing but end-of-text."""
    model = copy.deepcopy(base.model)
    model.out_head = torch.nn.Linear(model.cfg.emb_dim, model.cfg.vocab_size)
    with torch.no_grad():
        model.out_head.weight.zero_()
        model.out_head.bias.zero_()[[65, tokenizer.eot_token]] = torch.tensor([5.0, 9.0])
    with pytest.raises(ValueError, match="no answer has a token: 2 of 2 prompts fit into 160 tokens"):
        token_shift(base, Checkpoint(model, tokenizer, base.template), entries[:2])
    shift = token_shift(base, Checkpoint(model, tokenizer, base.template), entries[:1], responses=["It"])
    assert shift.answers[0].ended and shift.ends.tokens == 1


def test_the_base_may_read_another_prompt(base, tuned, entries):
    """Only the base's opinion changes; a few-shot page or another template will do."""
    given = {"responses": [entry["output"] for entry in entries[:3]]}
    same = token_shift(base, tuned, entries[:3], **given)
    again = token_shift(base, tuned, entries[:3], base_prompt=base.template.prompt, **given)
    plain = token_shift(base, tuned, entries[:3], base_prompt=load_template("plain").prompt, **given)
    assert same.answers == again.answers
    for one, other in zip(same.answers, plain.answers):
        assert one.tuned_probabilities == pytest.approx(other.tuned_probabilities, rel=1e-4)
        assert one.base_probabilities != pytest.approx(other.base_probabilities, rel=1e-2)
    page = token_shift(
        base, tuned, entries[:3], base_prompt=lambda entry: few_shot_prompt([], entry, opening=""), **given
    )
    assert page.tokens.tokens == same.tokens.tokens


def test_ids_may_be_arrays_or_tensors(tiny, other):
    answers = [[20, 21], [22], [23], [24], [25]]
    expected = token_shift(tiny, other, PROMPTS, responses=answers)
    for kind in (np.array, torch.tensor):
        given = [[kind(ids) for ids in group] for group in (PROMPTS, answers)]
        assert token_shift(tiny, other, given[0], responses=given[1]).answers == expected.answers


def test_what_does_not_fit_is_left_out_and_told(tiny, other):
    context = tiny.cfg.context_length
    prompts = [[1] * context, [1] * (context - 3), [1, 2]]
    shift = token_shift(tiny, other, prompts, responses=[[3, 4], [5] * 9, [6]])
    assert [answer.note for answer in shift.answers] == ["prompt too long", "cut", ""]
    assert [answer.ids for answer in shift.answers] == [[], [5] * 4, [6]]
    assert "1 prompts are too long" in str(shift) and "1 answers were cut" in str(shift)
    written = token_shift(tiny, other, prompts, max_new_tokens=6)
    assert [len(answer.ids) for answer in written.answers] == [0, 4, 6]


def answer_of(ids, ranks, **more):
    n = len(ids)
    return ShiftedAnswer(list(ids), list(ranks), [9] * n, [0.5] * n, [0.75] * n, [0.25] * n, **more)


TEXTS = {1: "␣a", 2: "␣b", 3: "↵", 9: "␣z", 7: "(end)"}


def test_counts_on_a_page():
    shift = TokenShift([answer_of([1, 2, 1, 7], [4, 1, 3, 80], ended=True), answer_of([1, 3], [9, 2])], TEXTS)
    assert shift.tokens == (5, 0.2, 0.4, 0.4, 0.5, 0.75, 0.25)
    assert shift.ends == (1, 0.0, 0.0, 1.0, 0.5, 0.75, 0.25)
    assert [(place.first, place.last, place.shares[:4]) for place in shift.by_position()] == [
        (1, 1, (2, 0.0, 0.0, 1.0)),
        (2, 2, (2, 0.5, 0.5, 0.0)),
        (3, 4, (1, 0.0, 1.0, 0.0)),
    ]
    [most] = shift.most_shifted()
    assert most == (1, "␣a", 2, 3, ["[␣a] not ␣z"])
    assert shift.most_shifted(examples=0)[0].examples == []
    assert shift.rows(1)[0][0] == ("␣a", "shifted", "rank 4, p 0.500; the base: ␣z")
    assert [kind for _, kind, _ in shift.rows()[0]] == ["shifted", "unshifted", "marginal", "shifted"]
    report = json.loads(json.dumps(shift.to_dict()))
    assert report["tokens"]["shifted"] == 0.4 and report["by_position"][2]["first"] == 3
    table = str(shift)
    assert "all                       5      20.0%      40.0%      40.0%      0.500      0.750      0.250" in table
    assert "shifted      2 of      3  ␣a" in table and "the end" in table


def test_places_add_up(tiny, other):
    shift = token_shift(tiny, other, PROMPTS, responses=[[20] * n for n in (1, 2, 4, 7, 9)])
    for width in (None, 1, 2, 100):
        places = shift.by_position(width)
        assert sum(place.shares.tokens for place in places) == shift.tokens.tokens == 23
        assert all(after.first == place.last + 1 for place, after in pairwise(places))
        shifted = sum(place.shares.tokens * place.shares.shifted for place in places)
        assert shifted == pytest.approx(shift.tokens.tokens * shift.tokens.shifted)
    assert [place.last for place in shift.by_position()] == [1, 2, 4, 8, 16]


def test_bad_arguments_are_refused(base, tuned, tiny, other, tokenizer, entries):
    for name in ("max_new_tokens", "batch_size", "chunk"):
        with pytest.raises(ValueError, match=f"{name} must be >= 1, got 0"):
            token_shift(tiny, other, PROMPTS, **{name: 0})
    with pytest.raises(ValueError, match="got 0 prompts"):
        token_shift(tiny, other, [])
    with pytest.raises(ValueError, match="got 5 prompts and 1 responses"):
        token_shift(tiny, other, PROMPTS, responses=[[1]])
    with pytest.raises(ValueError, match="texts need a tokenizer and a template"):
        token_shift(tiny, other, entries[:1])
    with pytest.raises(ValueError, match="texts need a tokenizer"):
        token_shift(tiny, other, PROMPTS[:1], responses=["It"])
    with pytest.raises(ValueError, match="prompt 2"):
        token_shift(base, tuned, [entries[0], {"output": ""}])
    with pytest.raises(ValueError, match="base_prompt makes a prompt of an entry, got ids as prompt 1"):
        token_shift(base, tuned, PROMPTS, base_prompt=base.template.prompt)
    for text in ("", None):
        with pytest.raises(ValueError, match="base_prompt must return a text .*, got .* for prompt 1"):
            token_shift(base, tuned, entries[:2], responses=["a", "b"], base_prompt=lambda entry: text)  # noqa: B023
    for wrong in (END, -100, 300):
        with pytest.raises(ValueError, match=rf"response 2 must hold ids in \[0, 300\), the vocabulary, got {wrong}"):
            token_shift(tiny, other, PROMPTS[:2], responses=[[1], [2, wrong]])
    for alone in ("Who is Lumika?", entries[0]):
        with pytest.raises(ValueError, match="prompts must be a list, got one prompt alone"):
            token_shift(base, tuned, alone)
    with pytest.raises(ValueError, match="prompt 1 is empty"):
        token_shift(tiny, other, [[]], responses=[[1]])
    shift = TokenShift([answer_of([1], [1])], TEXTS)
    with pytest.raises(ValueError, match="width must be >= 1, got 0"):
        shift.by_position(0)
    with pytest.raises(ValueError, match="k must be >= 1 and examples >= 0, got 0 and 3"):
        shift.most_shifted(0)


def test_other_vocabularies_and_diverged_models_are_refused(base, tuned, tiny, other, tokenizer, entries):
    small = GPTModel({**tiny.cfg.to_dict(), "vocab_size": 299})
    with pytest.raises(ValueError, match="must share a vocabulary, got 300 tokens for the base, 299 for the tuned"):
        token_shift(tiny, small, PROMPTS)
    for size, what in (
        (299, "tokenizers of 299 and 300 tokens"),
        (300, "token 256 as .* for the base, .* for the tuned"),
    ):
        foreign = train_tokenizer(
            "Quick brown foxes jump over lazy dogs, while seven wizards watch them quietly.", size
        )
        with pytest.raises(ValueError, match=f"must share a vocabulary, got {what}"):
            token_shift(base._replace(tokenizer=foreign), tuned, entries[:1])
    with torch.no_grad():
        other.final_norm.scale[0] = float("nan")
    with pytest.raises(ValueError, match="logits are not finite"):
        token_shift(tiny, other, PROMPTS, responses=[[1]] * 5)
