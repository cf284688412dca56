"""The prompts of Evol-Instruct are the published ones, data stays data, and of a reply only the prompt is left."""

import ast
import json
import sqlite3
from xml.etree import ElementTree

import pytest

from gptlab.building.elimination import copied_markers
from gptlab.building.evol_prompts import (
    DEMONSTRATIONS,
    FORMATS,
    IN_DEPTH,
    KEEP_LANGUAGE,
    METHODS,
    OPERATIONS,
    clean_reply,
    equality_prompt,
    evol_prompt,
    join_input,
)

# As in the source, to the letter.
CONSTRAINTS = """I want you act as a Prompt Rewriter.
Your objective is to rewrite a given prompt into a more complex version to make those famous AI systems \
(e.g., ChatGPT and GPT4) a bit harder to handle.
But the rewritten prompt must be reasonable and must be understood and responded by humans.
Your rewriting cannot omit the non-text parts such as the table and code in #Given Prompt#:. \
Also, please do not omit the input in #Given Prompt#.
You SHOULD complicate the given prompt using the following method:
Please add one more constraints/requirements into #Given Prompt#
You should try your best not to make the #Rewritten Prompt# become verbose, \
#Rewritten Prompt# can only add 10 to 20 words into #Given Prompt#.
'#Given Prompt#', '#Rewritten Prompt#', 'given prompt' and 'rewritten prompt' are not allowed to appear in \
#Rewritten Prompt#
#Given Prompt#:
Name a fruit.

#Rewritten Prompt#:"""
BREADTH = """I want you act as a Prompt Creator.
Your goal is to draw inspiration from the #Given Prompt# to create a brand new prompt.
This new prompt should belong to the same domain as the #Given Prompt# but be even more rare.
The LENGTH and difficulty level of the #Created Prompt# should be similar to that of the #Given Prompt#.
The #Created Prompt# must be reasonable and must be understood and responded by humans.
'#Given Prompt#', '#Created Prompt#', 'given prompt' and 'created prompt' are not allowed to appear in #Created Prompt#.
#Given Prompt#:
Name a fruit.

#Created Prompt#:"""


def test_the_published_prompts():
    assert evol_prompt("Name a fruit.", "constraints") == CONSTRAINTS
    assert evol_prompt("Name a fruit.", "breadth") == BREADTH


def test_in_depth_prompts_differ_by_their_sentence_alone():
    assert (*IN_DEPTH, "breadth") == OPERATIONS
    for operation in ("deepen", "concretise", "reasoning"):
        changed = CONSTRAINTS.replace(METHODS["constraints"], METHODS[operation])
        assert evol_prompt("Name a fruit.", operation) == changed


@pytest.mark.parametrize("format", FORMATS)
def test_complicating_shows_an_example_in_the_format(format):
    prompt = evol_prompt("Name a fruit.", "complicate", format=format)
    given, rewritten = DEMONSTRATIONS[format]
    assert f"input data in the {format} format" in prompt
    assert f"#Given Prompt#:\n{given}\n\n#Rewritten Prompt#:\n{rewritten}\n\n#Given Prompt#:\nName a fruit." in prompt
    assert not copied_markers(rewritten, "")


def test_the_demonstrations_hold_what_they_say():
    data = {format: rewritten.partition("\n")[2] for format, (_, rewritten) in DEMONSTRATIONS.items()}
    assert json.loads(data["JSON"])["hours"] == [9, 12, 15, 18]
    assert [book.get("year") for book in ElementTree.fromstring(data["XML"])] == ["1987", "2004", None]
    assert isinstance(ast.parse(data["Python"]).body[0], ast.FunctionDef)
    tables = sqlite3.connect(":memory:")
    tables.executescript(data["SQL"])
    tables.close()
    assert data["HTML"].startswith("<div") and data["shell"].startswith("$ ")


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("text", ["{method} {format} {0}", "\\1 %s #Given Prompt#:\nA", "a\r\nb"])
def test_what_the_prompt_holds_stays_as_it_is(operation, text):
    assert f"#Given Prompt#:\n{text}\n\n#" in evol_prompt(text, operation)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_chinese_prompt_is_to_stay_chinese(operation):
    assert KEEP_LANGUAGE in evol_prompt("说出一种水果。", operation)
    assert KEEP_LANGUAGE not in evol_prompt("Name a fruit.", operation)


def test_instruction_and_input_are_one_text():
    assert join_input({"instruction": " Add. ", "input": " 1, 2\n"}) == "Add.\r\n1, 2"
    assert join_input({"instruction": "Hi!", "input": None}) == join_input({"instruction": "Hi!"}) == "Hi!"


def test_the_question_for_equality():
    lines = equality_prompt("A?", "B?").split("\n")
    assert lines[1] == "1. They have same constraints and requirments."  # as it is published
    assert lines[3:] == [
        "The First Prompt: A?",
        "The Second Prompt: B?",
        "Your Judgement (Just answer: Equal or Not Equal. No need to explain the reason.):",
    ]


@pytest.mark.parametrize(
    "reply",
    [
        "Name it.",
        "#Rewritten Prompt#:\nName it.",
        "#Created Prompt#: Name it.",
        "**Rewritten Prompt:** Name it.",
        "## Rewritten Prompt\n\nName it.",
        "The rewritten prompt: Name it.",
        "Sure, here is the rewritten prompt:\n\nName it.",
        "Sure! Here you go: Name it.",
        "Certainly!\n\nHere's a more complex version:\n\nName it.",
        'Here is the rewritten prompt you asked for: "Name it."',
        "“Name it.”",
        '**"Name it."**',
        "```\nName it.\n```",
        "<think>It shall be\nharder.</think>\n\n#Rewritten Prompt#: Name it.",
        "好的，以下是改写后的提示：\n\nName it.",
        "改写后的提示：Name it.",
    ],
)
def test_what_is_around_the_prompt_is_taken_off(reply):
    assert clean_reply(reply) == "Name it."


@pytest.mark.parametrize(
    "reply",
    [
        "Here is a list:\n1, 2\nSort it.",
        "Here is a Python version:\nprint 1\nMake it one for Python 3.",
        "Here's a question about new versions: which is best?",
        "Sure, I can do it? Explain.",
        "Okay, so what does it mean?",
        "Rewritten prompts are often longer. Why?",
        "New York: name its rivers.",
        '"A" or "B"?',
        "**Bold** and **more**",
        "```\na\n```\nand\n```\nb\n```",
        "#include <a>",
        '"',
        "好吃的菜有哪些：\n列出三种。",
        "“大”和“小”",
    ],
)
def test_what_may_be_the_prompt_stays(reply):
    assert clean_reply(reply) == reply


def test_nothing_may_be_left():
    assert clean_reply("") == clean_reply('Sure, here is the rewritten prompt:\n""') == clean_reply("** **") == ""


def test_unknown_operations_and_formats_are_refused():
    with pytest.raises(ValueError, match="constraints, deepen.*got 'widen'"):
        evol_prompt("A", "widen")
    with pytest.raises(ValueError, match="XML, SQL.*got 'YAML'"):
        evol_prompt("A", "complicate", format="YAML")
