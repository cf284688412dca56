"""Metrics without a judge, against torchmetrics and sacrebleu."""

import json
import math
import sys
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gptlab.data import ConversationDataset, InstructionDataset, collate, find_format, load_template, save_entries
from gptlab.data.instruction import load_entries
from gptlab.decoding import respond
from gptlab.judging.metrics import (
    bleu,
    chrf,
    count_words,
    exact_match,
    measure,
    normalised,
    response_perplexity,
)
from gptlab.rouge import rouge_l
from gptlab.training import evaluate

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import sacrebleu
    from torchmetrics.functional.text import perplexity as their_perplexity
    from torchmetrics.functional.text import squad

TEMPLATE = load_template("alpaca_short")
WORDS = ["The", "the", "a", "An", "an,", "cat", "CAT", "cat's", "(cat)", "3.14", "-5", "sat;", "x_y"]
english = st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join) | st.text(st.characters(max_codepoint=0x7E))


def by_squad(prediction, reference):
    target = [{"answers": {"answer_start": [0], "text": [reference]}, "id": "1"}]
    return squad([{"prediction_text": prediction, "id": "1"}], target)["exact_match"].item() == 100


@given(prediction=english, reference=english)
def test_exact_match_is_squads(prediction, reference):
    assert exact_match(prediction, reference) == by_squad(prediction, reference)
    varied = f" the {prediction.upper()}! "
    assert exact_match(varied, prediction) == by_squad(varied, prediction)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("首都是芬恩。", "首都是芬恩"),
        ("《红楼梦》，曹雪芹！", "红楼梦曹雪芹"),
        ("“你好”……", "你好"),
        ("ＧＰＴ－２", "gpt2"),
        ("在 2020 年", "在2020年"),
        ("don’t", "dont"),
    ],
)
def test_exact_match_reads_chinese_as_squad_does_not(one, other):
    assert exact_match(one, other)
    assert not by_squad(one, other)


def test_what_exact_match_keeps_apart_and_what_not():
    assert not exact_match("红楼梦", "西游记")
    assert not exact_match("red cat", "redcat")
    assert not exact_match("一二", "二一")
    assert exact_match("-5", "5")
    assert exact_match("1.5", "15")
    assert normalised(" 在 The GPT-2 里， an apple ") == "在gpt2里apple"


TRANSLATIONS = (
    ["the cat sat on the mat .", "a dog ran home very fast", "", "It rains."],
    ["the cat sat on a mat .", "the dog ran home very fast", "we sleep", "It rains."],
)
CHINESE = (["黑猫坐在垫子上。", "今天下雨了，我们在家。", ""], ["黑猫坐在垫子上。", "今天下雨，我们都在家。", "你好"])


def test_bleu_and_chrf_are_those_of_sacrebleu_for_the_whole_set():
    for predictions, references in (TRANSLATIONS, CHINESE):
        tokenize = "zh" if references is CHINESE[1] else "13a"
        theirs = sacrebleu.corpus_bleu(predictions, [references], tokenize=tokenize).score
        assert bleu(predictions, references) == theirs > 0
        assert chrf(predictions, references) == sacrebleu.corpus_chrf(predictions, [references]).score > 0
    sentences = [sacrebleu.sentence_bleu(one, [other]).score for one, other in zip(*TRANSLATIONS)]
    assert bleu(*TRANSLATIONS) != pytest.approx(sum(sentences) / len(sentences), abs=0.1)


def test_chinese_needs_its_own_tokenisation_and_english_is_not_changed_by_it():
    assert bleu(*CHINESE, tokenize="13a") < 5 < 50 < bleu(*CHINESE)
    assert bleu(*TRANSLATIONS, tokenize="zh") == bleu(*TRANSLATIONS)
    mixed = ["猫坐 the cat sat on"], ["the cat sat on"]  # what counts is the language of the references
    assert bleu(*mixed) == bleu(*mixed, tokenize="13a") != bleu(*mixed, tokenize="zh")


def test_empty_responses_stay_in_the_set():
    predictions, references = TRANSLATIONS
    silent = [number for number, text in enumerate(predictions) if not text]
    without = [[t for n, t in enumerate(texts) if n not in silent] for texts in TRANSLATIONS]
    assert bleu(predictions, references) < bleu(*without)
    assert chrf(predictions, references) < chrf(*without)
    assert bleu(["", ""], references[:2]) == 0


@pytest.mark.parametrize("metric", [bleu, chrf])
def test_wrong_sets_of_translations(metric, monkeypatch):
    for predictions, references in (([], []), (["a"], []), (["a", "b"], ["a"])):
        message = f"got {len(predictions)} predictions for {len(references)}"
        with pytest.raises(ValueError, match=message):
            metric(predictions, references)
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ImportError, match=r"need sacrebleu: pip install \"gptlab\[judge\]\""):
        metric(["a"], ["a"])


@pytest.fixture
def asked(entries):
    """Entries of unequal lengths, one in Chinese and one without an answer."""
    varied = [{**entry, "output": entry["output"] * (n + 1)} for n, entry in enumerate(entries[:5])]
    return [
        *varied,
        {"instruction": "你好？", "output": "你好！猫在家。"},
        {"instruction": "Say nothing.", "output": ""},
    ]


def test_the_perplexity_of_the_references_is_that_of_torchmetrics(tiny, tokenizer, asked):
    inputs, targets = collate(InstructionDataset(asked, tokenizer, TEMPLATE).examples, pad_id=0)
    with torch.no_grad():
        theirs = their_perplexity(tiny(inputs), targets, ignore_index=-100).item()
    found = response_perplexity(tiny, tokenizer, asked, "alpaca_short")
    assert found.perplexity == pytest.approx(theirs, rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(evaluate(tiny, [(inputs, targets)])), rel=1e-6)
    ends = len(asked)
    assert found.tokens == sum(len(tokenizer.encode_ordinary(entry["output"])) for entry in asked) + ends
    size = sum(len(entry["output"].encode()) for entry in asked)
    assert found.bits_per_byte == pytest.approx(found.nll / math.log(2) / size)
    assert (found.measured, found.too_long) == (len(asked), [])


def test_the_batch_size_changes_nothing_nor_does_the_model_change(tiny, tokenizer, asked):
    tiny.train()
    each = [response_perplexity(tiny, tokenizer, [entry], TEMPLATE) for entry in asked]
    for batch_size in (1, 3, 100):
        found = response_perplexity(tiny, tokenizer, asked, TEMPLATE, batch_size=batch_size)
        assert found.nll == pytest.approx(sum(one.nll for one in each), rel=1e-5)
        assert found.tokens == sum(one.tokens for one in each)
    assert tiny.training
    assert each[-1].bits_per_byte is None


def test_the_answers_of_a_conversation_format_are_measured_in_it(tiny, tokenizer, asked):
    answered = asked[:-1]  # a conversation has no empty answers
    for name in ("chatml", "chatglm"):
        form = find_format(name)
        examples = ConversationDataset(answered, tokenizer, format=form, loss_on="assistant").examples
        expected = evaluate(tiny, [collate(examples, pad_id=0)])
        found = response_perplexity(tiny, tokenizer, answered, form)
        assert found.nll / found.tokens == pytest.approx(expected, rel=1e-6)


def test_entries_that_do_not_fit_are_told(tiny, tokenizer, entries):
    context = tiny.cfg.context_length
    prompt = TEMPLATE.prompt(entries[0])
    room = context + 1 - len(tokenizer.encode_ordinary(prompt)) - 1
    just = {**entries[0], "output": "q" * room}
    over = {**entries[0], "output": "q" * (room + 1)}
    found = response_perplexity(tiny, tokenizer, [entries[1], over, just], TEMPLATE)
    assert found.too_long == [(2, context + 2)]
    assert found.measured == 2
    assert found[:4] == response_perplexity(tiny, tokenizer, [entries[1], just], TEMPLATE)[:4]
    with pytest.raises(ValueError, match=f"of 1 entries none fits into {context} tokens"):
        response_perplexity(tiny, tokenizer, [over], TEMPLATE)


def test_wrong_requests_for_perplexity(tiny, tokenizer, entries):
    with pytest.raises(ValueError, match="batch_size must be >= 1, got 0"):
        response_perplexity(tiny, tokenizer, entries, TEMPLATE, batch_size=0)
    with pytest.raises(ValueError, match="entry 2 has no 'output'"):
        response_perplexity(tiny, tokenizer, [entries[0], {"instruction": "a"}], TEMPLATE)


ANSWERED = [
    {"instruction": "a", "output": "The cat sat.", "model_response": "the cat sat", "ended_by": "stop"},
    {"instruction": "b", "output": "Fenn", "model_response": "a home in the town of Fenn", "ended_by": "length"},
    {"instruction": "c", "output": "黑猫坐着。", "model_response": "黑猫", "ended_by": "stop"},
    {"instruction": "d", "output": "yes", "model_response": " ", "ended_by": "prompt too long"},
]


def test_measure_by_hand():
    report = measure(ANSWERED)
    assert (report.n, report.exact_match, report.empty) == (4, 0.25, 1)
    expected = [rouge_l(entry["model_response"], entry["output"]) for entry in ANSWERED]
    assert report.rouge_l == pytest.approx(sum(expected) / 4)
    assert report.characters == (11 + 26 + 2 + 1) / 4
    assert report.reference_characters == (12 + 4 + 5 + 3) / 4
    assert report.length_ratio == pytest.approx(40 / 24)
    assert (report.words, report.reference_words) == ((3 + 7 + 2 + 0) / 4, (3 + 1 + 4 + 1) / 4)
    assert report.word_ratio == pytest.approx(12 / 9)
    assert report.ended_by == {"stop": 2, "length": 1, "prompt too long": 1}
    assert report.ended_share == 0.5


def test_the_report_is_a_table_and_json():
    report = measure(ANSWERED)
    lines = str(report).splitlines()
    assert len({line.rstrip().find(value) + len(value) for line, value in zip(lines, ["4", "25.0%"])}) == 1
    assert lines[-1].endswith("50.0%  2 stop, 1 length, 1 prompt too long")
    content = report.to_dict()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["ended_share"] == 0.5
    assert (content["length_ratio"], content["word_ratio"]) == (report.length_ratio, report.word_ratio)


def test_what_is_not_known_is_not_told():
    """Another key may hold another model's response, of whose end the file says nothing."""
    silent = [{"output": "", "answer": "x", "ended_by": "stop"}]
    report = measure(silent, key="answer")
    assert (report.ended_share, report.ended_by, report.length_ratio, report.word_ratio) == (None, {}, None, None)
    assert str(report).splitlines()[-1].split() == ["ended", "by", "themselves", "?"]
    json.dumps(report.to_dict(), allow_nan=False)
    half = [ANSWERED[0], {key: value for key, value in ANSWERED[1].items() if key != "ended_by"}]
    assert measure(half).ended_share == 1


def test_the_file_that_generate_writes_is_read(tiny, tokenizer, entries, tmp_path):
    """Its keys are those of the command line."""
    responses = respond(tiny, tokenizer, entries[:3], TEMPLATE, max_new_tokens=4)
    answered = [entry | {"model_response": r.text, "ended_by": r.reason} for entry, r in zip(entries, responses)]
    save_entries(tmp_path / "responses.json", answered)
    report = measure(load_entries(tmp_path / "responses.json"))
    assert sum(report.ended_by.values()) == 3
    assert set(report.ended_by) <= {"stop", "length"}


def test_entries_without_responses():
    with pytest.raises(ValueError, match="there are no entries"):
        measure([])
    with pytest.raises(ValueError, match=r"entry 2 has no 'answer'; its keys are \['instruction', 'output', 'model_re"):
        measure([{**ANSWERED[0], "answer": "x"}, ANSWERED[1]], key="answer")
    with pytest.raises(ValueError, match=r"entry 1 has no 'output'; its keys are \['model_response'\]"):
        measure([{"model_response": "x"}])
    with pytest.raises(ValueError, match="entry 1: 'model_response' must be text, got None"):
        measure([{**ANSWERED[0], "model_response": None}])


def test_words_are_counted_in_both_languages():
    assert count_words("") == count_words("... ，。") == 0
    assert count_words("The naïve cat’s well-known 3.14, two;three") == 7
    assert count_words("我用 GPT-2，很好。") == 5
    assert count_words("Кошка спит") == 2
