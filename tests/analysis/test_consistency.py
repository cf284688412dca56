"""Consistency against scipy and whole logits, and what chance gives, where that can be told without drawing."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy, pearsonr, rankdata, spearmanr

from gptlab.analysis.agreement import agreement, dense_ranks
from gptlab.analysis.consistency import (
    MEASURES,
    few_shot_text,
    knowledge_consistency,
    question_text,
    softmax,
    town_choices,
)
from gptlab.analysis.continuations import continuation_scores
from gptlab.data import build_town, load_template
from gptlab.data.town import ASKED
from gptlab.data.town_wordings import ATTRIBUTES
from gptlab.weights import Checkpoint

QUESTIONS = [
    {"question": "Where is the mill?", "options": ["Fenn", "the river", "here"], "answer": 0, "stem": "It is in "},
    {"question": "Who has a goat?", "options": ["Lumika", "a market"], "answer": "B"},
    {"question": "你好吗？", "options": ["好", "不好", "很好", "the"]},
]
EXAMPLES = [{"question": "What is it?", "options": ["a goat", "a mill"], "answer": 1}]


@pytest.fixture
def base(tiny, tokenizer):
    return Checkpoint(tiny, tokenizer, load_template("alpaca_short"))


@pytest.fixture
def tuned(tiny, tokenizer):
    model = copy.deepcopy(tiny)
    with torch.no_grad():
        for parameter in model.trf_blocks.parameters():
            parameter.mul_(1.5)
    return Checkpoint(model, tokenizer, load_template("alpaca_short"))


def drawn(n=30, options=4, seed=0, ties=False):
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 4, options) / 10 if ties else rng.random(options) for _ in range(n)]


@pytest.mark.parametrize("ties", [False, True])
def test_correlations_are_those_of_scipy(ties):
    base, tuned = drawn(seed=1, ties=ties), drawn(seed=2, ties=ties)
    found = agreement(base, tuned, permutations=1)
    undefined = 0
    for p, q, value in zip(base, tuned, found.by_question):
        if len(set(p)) == 1 or len(set(q)) == 1:
            assert value == 0
            undefined += 1
            continue
        assert value == pytest.approx(pearsonr(rankdata(-p, "dense"), rankdata(-q, "dense"))[0], abs=1e-12)
        if not ties:
            assert value == pytest.approx(spearmanr(p, q)[0], abs=1e-12)
            squares = ((rankdata(p) - rankdata(q)) ** 2).sum()
            assert value == pytest.approx(1 - squares / 10, abs=1e-12)  # 6 Σ d² / (n³ - n), n = 4: one of 11 values
    assert found.undefined == undefined and bool(undefined) == ties
    assert found.rank_correlation == pytest.approx(np.mean(found.by_question))
    assert found.kl == pytest.approx(np.mean([entropy(p, q) for p, q in zip(base, tuned)]))
    if not ties:
        assert found.correlation == pytest.approx(np.mean([pearsonr(p, q)[0] for p, q in zip(base, tuned)]))
        cosines = [p @ q / np.linalg.norm(p) / np.linalg.norm(q) for p, q in zip(base, tuned)]
        assert found.cosine == pytest.approx(np.mean(cosines))


def test_questions_of_different_sizes_keep_their_order():
    base = [[0.9, 0.1], [0.1, 0.2, 0.7], [0.2, 0.8], [0.5, 0.3, 0.2]]
    tuned = [[0.6, 0.4], [0.2, 0.1, 0.7], [0.6, 0.4], [0.4, 0.3, 0.3]]
    found = agreement(base, tuned, [0, 2, None, 1], permutations=3)
    tied = pearsonr([1, 2, 3], [1, 2, 2])[0]
    assert found.by_question == pytest.approx([1, 0.5, -1, tied])
    assert found.same_choice == 0.75 and found.base_accuracy == found.tuned_accuracy == pytest.approx(2 / 3)
    assert dense_ranks(np.array([[0.5, 0.2, 0.5]])).tolist() == [[1, 2, 1]]


def test_chance_of_the_two_kinds():
    same = drawn(40)
    found = agreement(same, same, permutations=99)
    assert found.rank_correlation == pytest.approx(1) and found.kl == pytest.approx(0)
    for chance in (found.options_shuffled, found.questions_shuffled):
        assert chance.low < 0 < chance.high < 0.5 and abs(chance.mean) < 0.1
        assert chance.p == 1 / 100  # no shuffle comes near
    again, elsewhere = (agreement(same, same, permutations=99, seed=seed) for seed in (0, 1))
    assert again == found and elsewhere.options_shuffled != found.options_shuffled
    # Both like A best, then B, whatever is asked: no knowledge, which only the second kind sees.
    liking = [[0.4, 0.3, 0.2, 0.1]] * 40
    found = agreement(liking, liking, permutations=99)
    assert found.options_shuffled.p == 1 / 100 and found.questions_shuffled.p == 1
    assert found.questions_shuffled[:3] == pytest.approx((1, 1, 1))
    unrelated = agreement(drawn(200, seed=3), drawn(200, seed=4), permutations=99)
    assert unrelated.options_shuffled.p > 0.02 and unrelated.questions_shuffled.p > 0.02


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_continuations_are_scored_as_whole_texts_would_be(tiny, batch_size):
    prompts = [[5, 6, 7], [8], [5, 6, 7, 9]]
    continuations = [[[1], [2], [9, 4], [9, 5, 6]], [[3, 3, 3]], [[4]]]
    scores = continuation_scores(tiny, prompts, continuations, batch_size=batch_size)
    for prompt, choices, values in zip(prompts, continuations, scores):
        for choice, value in zip(choices, values):
            with torch.no_grad():
                logprobs = tiny(torch.tensor([prompt + choice]))[0].log_softmax(dim=-1)
            expected = sum(logprobs[len(prompt) - 1 + place, token].item() for place, token in enumerate(choice))
            assert value == pytest.approx(expected, abs=1e-4)


def test_continuations_that_share_a_beginning_are_read_once(tiny):
    rows = []
    tiny.tok_emb.register_forward_hook(lambda module, given, result: rows.append(len(given[0])))
    continuation_scores(tiny, [[5, 6]], [[[1], [2], [3], [9, 4], [9, 5]]])
    assert sum(rows) == 2


def letter_logits(side, text, form):
    tokenizer = side.tokenizer
    with torch.no_grad():
        logits = side.model(torch.tensor([tokenizer.encode_ordinary(text)]))[0, -1]
    return [logits[tokenizer.encode_ordinary(form + letter)[0]].item() for letter in "ABC"]


def test_letters_are_a_softmax_over_their_logits_alone(base, tuned):
    report = knowledge_consistency(base, tuned, QUESTIONS[:1], examples=EXAMPLES, letters="bare", permutations=1)
    asked = question_text(QUESTIONS[0])
    page = few_shot_text(asked, [("What is it?\nA. a goat\nB. a mill", "B")])
    assert page.endswith("Answer: B\n\nQuestion: Where is the mill?\nA. Fenn\nB. the river\nC. here\nAnswer:")
    prompt = base.template.prompt({"instruction": asked})
    [p], [q] = report.probabilities["letters"]
    assert p == pytest.approx(softmax(letter_logits(base, page, "")), rel=1e-4)
    assert q == pytest.approx(softmax(letter_logits(tuned, prompt, "")), rel=1e-4)
    assert report.shots == 1


def test_either_form_of_a_letter_adds_both_probabilities(base):
    """In this vocabulary " A" is two tokens."""
    tokenizer = base.tokenizer
    report = knowledge_consistency(base, base, QUESTIONS[1:2], permutations=1)
    prompt = tokenizer.encode_ordinary(few_shot_text(question_text(QUESTIONS[1]), []))
    forms = [[tokenizer.encode_ordinary(form + letter) for form in ("", " ")] for letter in "AB"]
    assert [len(ids) for ids in forms[0]] == [1, 2]
    scores = [continuation_scores(base.model, [prompt], [both])[0] for both in forms]
    masses = [sum(map(math.exp, both)) for both in scores]
    [p], _ = report.probabilities["letters"]
    assert p == pytest.approx([mass / sum(masses) for mass in masses], rel=1e-4)


def test_options_are_weighed_by_their_own_words(base, tuned):
    report = knowledge_consistency(base, tuned, QUESTIONS, permutations=1)
    encode = base.tokenizer.encode_ordinary
    prompts = [
        encode("Question: Where is the mill?\nAnswer:") + encode(" It is in"),
        encode(tuned.template.prompt({"instruction": "Where is the mill?"})) + encode("It is in"),
    ]
    options = [[encode(f" {option}") for option in QUESTIONS[0]["options"]]]
    for side, prompt, both, per_byte in zip(
        (base, tuned), prompts, report.probabilities["options"], report.probabilities["options per byte"]
    ):
        [scores] = continuation_scores(side.model, [prompt], options)
        assert both[0] == pytest.approx(softmax(scores), rel=1e-4)
        sizes = [len(option.encode()) for option in QUESTIONS[0]["options"]]
        assert per_byte[0] == pytest.approx(softmax([s / n for s, n in zip(scores, sizes)]), rel=1e-4)
    assert [len(row) for row in report.probabilities["options"][0]] == [3, 2, 4]


def test_a_report_says_it_all(base, tuned):
    report = knowledge_consistency(base.model, tuned, QUESTIONS, tokenizer=base.tokenizer, permutations=5)
    assert list(report.agreements) == list(MEASURES) and report.letters.n == 3
    assert report.letters.base_accuracy in (0, 0.5, 1)  # of the two that have an answer
    told = json.loads(json.dumps(report.to_dict()))
    assert told["letters"]["options_shuffled"]["p"] == report.letters.options_shuffled.p
    assert "correlation of ranks" in str(report) and "questions shuffled" in str(report)
    of_numpy = [question | {"answer": np.int64(0)} for question in QUESTIONS]
    as_ints = [question | {"answer": 0} for question in QUESTIONS]
    assert (
        knowledge_consistency(base, tuned, of_numpy, permutations=1).letters
        == knowledge_consistency(base, tuned, as_ints, permutations=1).letters
    )
    unknown = knowledge_consistency(base, tuned, QUESTIONS[2:], permutations=1)
    assert unknown.letters.base_accuracy is None and "right, base                                        ?" in str(
        unknown
    )
    assert not tuned.model.training


def test_the_towns_questions():
    town = build_town(inhabitants=6, biographies=1, skill_examples=1, skill_train=1, skill_test=1)
    found = town_choices(town)
    assert found == town_choices(town) != town_choices(town, seed=1)
    assert len(found) == len(town.held_out) * len(ATTRIBUTES)
    facts = {person.name: person.facts for person in town.held_out}
    values = {attribute.name: set(attribute.values) for attribute in ATTRIBUTES}
    for each in found:
        [name] = [name for name in facts if name in each["question"]]
        assert each["options"][each["answer"]] == facts[name][each["kind"]]
        assert len(set(each["options"])) == 4 and set(each["options"]) <= values[each["kind"]]
        assert name in each["stem"] and each["stem"].endswith(" ")
    assert {each["answer"] for each in found} == {0, 1, 2, 3}
    asked = town_choices(town, people=ASKED, options=2)
    assert not {each["question"] for each in asked} & {each["question"] for each in found}
    with pytest.raises(ValueError, match=r"options must be in \[2, 12\], got 13"):
        town_choices(town, options=13)
    with pytest.raises(ValueError, match="people must be 'asked inhabitant' or 'held-out inhabitant', got 'all'"):
        town_choices(town, people="all")


def test_bad_questions_are_refused(base, tuned):
    def ask(*questions, **settings):
        knowledge_consistency(base, tuned, questions, permutations=1, **settings)

    with pytest.raises(ValueError, match="there are no questions"):
        ask()
    for broken in (
        {"question": "?"},
        "?",
        {"question": "", "options": ["a", "b"]},
        {"question": "?", "options": "ab"},
    ):
        with pytest.raises(ValueError, match="question 2 needs a question and a list of options"):
            ask(QUESTIONS[0], broken)
    with pytest.raises(ValueError, match="question 1 needs 2 to 26 different options, got \\['a', 'a'\\]"):
        ask({"question": "?", "options": ["a", "a"]})
    with pytest.raises(ValueError, match="question 1: answer must be 0 to 1, or A to B, got 'C'"):
        ask({"question": "?", "options": ["a", "b"], "answer": "C"})
    with pytest.raises(ValueError, match="example 1: answer must be 0 to 3, or A to D, got None"):
        ask(QUESTIONS[0], examples=QUESTIONS[2:])
    with pytest.raises(ValueError, match="question 2 is also example 1"):
        ask(*QUESTIONS, examples=[QUESTIONS[1]])
    with pytest.raises(ValueError, match="letters must be one of either, bare, spaced, got 'both'"):
        ask(QUESTIONS[0], letters="both")
    with pytest.raises(ValueError, match="prompt 1 has .* tokens with continuation 1; the context holds 160"):
        ask({"question": "long " * 99, "options": ["a", "b"]})
    with pytest.raises(ValueError, match="the tuned model needs a template"):
        knowledge_consistency(base, tuned.model, QUESTIONS, tokenizer=base.tokenizer)
    with pytest.raises(ValueError, match="a model without its tokenizer"):
        knowledge_consistency(base.model, tuned, QUESTIONS)


def test_bad_probabilities_are_refused(tiny):
    with pytest.raises(ValueError, match="for the same questions, got 1 and 2"):
        agreement([[0.5, 0.5]], [[0.5, 0.5]] * 2)
    with pytest.raises(ValueError, match="question 1 needs two options or more, as many for both"):
        agreement([[0.5, 0.5]], [[0.2, 0.3, 0.5]])
    with pytest.raises(ValueError, match=r"question 1: the options need probabilities, got \[nan, 0.5\]"):
        agreement([[math.nan, 0.5]], [[0.5, 0.5]])
    with pytest.raises(ValueError, match="permutations must be >= 1, got 0"):
        agreement([[0.5, 0.5]], [[0.5, 0.5]], permutations=0)
    with pytest.raises(ValueError, match="need continuations for each prompt, got 0 for 1"):
        continuation_scores(tiny, [[1]], [])
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        continuation_scores(tiny, [[1]], [[[1]]], batch_size=0)
    with pytest.raises(ValueError, match="prompt 1 and its continuations must not be empty"):
        continuation_scores(tiny, [[1]], [[[]]])
