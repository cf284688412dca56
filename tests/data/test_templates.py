import json

import pytest

from gptlab.data import another_template, find_format, load_template, template_names
from gptlab.data.templates import template_from_dict

ALPACA = load_template("alpaca")
ENTRY = {"instruction": "Sort.", "input": "b a", "output": "a b"}


def test_alpaca_with_input():
    assert ALPACA.prompt(ENTRY) == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nSort.\n\n### Input:\nb a\n\n### Response:\n"
    )


@pytest.mark.parametrize("missing", [{}, {"input": ""}, {"input": None}])
def test_no_input_and_an_empty_one_are_the_same(missing):
    prompt = ALPACA.prompt({"instruction": "Sort.", "output": ""} | missing)
    assert "### Input" not in prompt
    assert "paired with" not in prompt
    assert prompt.endswith("### Instruction:\nSort.\n\n### Response:\n")


def test_worked_examples_stand_between_instruction_and_input():
    examples = [{"input": "d c", "output": "c d"}, {"output": "nothing"}]
    prompt = load_template("alpaca_short").prompt(ENTRY | {"examples": examples})
    assert prompt == (
        "### Instruction:\nSort.\n\nInput: d c\nOutput: c d\n\nInput: \nOutput: nothing\n\n"
        "### Input:\nb a\n\n### Response:\n"
    )


def test_placeholders_and_braces_in_the_data_stay_data():
    entry = {"instruction": "Print {input} and {0}.", "input": "{instruction} {", "output": ""}
    prompt = load_template("alpaca_short").prompt(entry)
    assert "### Instruction:\nPrint {input} and {0}.\n\n### Input:\n{instruction} {\n\n" in prompt


def test_segments_train_on_the_response_or_on_all():
    for train_on, expected in (("response", [False, True, True]), ("all", [True, True, True])):
        segments = ALPACA.segments(ENTRY, train_on)
        assert [segment.trained for segment in segments] == expected
        assert [segment.control for segment in segments] == [False, False, True]
        assert segments[1].text == "a b"
    with pytest.raises(ValueError, match="'response' or 'all', got 'output'"):
        ALPACA.segments(ENTRY, "output")


def test_shipped_templates_and_files(tmp_path):
    assert {"alpaca", "alpaca_short", "book"} <= set(template_names())
    for name in template_names():
        template = load_template(name)
        assert template_from_dict(template.to_dict()) == template
        assert template.prompt(ENTRY).rstrip().endswith(template.response_split)
    path = tmp_path / "mine.json"
    content = {"prompt_input": "{instruction}|{input}|", "prompt_no_input": "{instruction}|", "response_split": "|"}
    path.write_text(json.dumps(content | {"comment": "left aside"}), encoding="utf-8")
    assert load_template(path).name == "mine"
    assert load_template(str(path)).prompt(ENTRY) == "Sort.|b a|"
    path.write_text(json.dumps(content | {"prompt_input": "{instruction}"}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"'mine': 'prompt_input' must hold {input}"):
        load_template(path)
    del content["response_split"]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match="'response_split' must be text, got None"):
        load_template(path)


def test_another_form_is_told_from_the_same():
    alpaca, bayling, plain = map(load_template, ("alpaca", "bayling", "plain"))
    note = another_template(alpaca, bayling)
    assert note == "note: the model was tuned in the form 'alpaca', which it answers best in, and now gets 'bayling'"
    assert another_template(find_format("chatml"), find_format("moss")) is not None
    same = [(alpaca, alpaca), (plain, bayling), (alpaca, find_format("alpaca")), (find_format("moss"),) * 2]
    assert [another_template(*pair) for pair in same] == [None] * 4


def test_unknown_names():
    with pytest.raises(ValueError, match=r"no template is called 'alpacca'; there are .*'alpaca'"):
        load_template("alpacca")
    with pytest.raises(FileNotFoundError):
        load_template("nowhere.json")
