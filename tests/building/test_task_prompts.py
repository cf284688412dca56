"""What Self-Instruct asks."""

import re

import pytest

from gptlab.building.seed_tasks import load_seed_tasks
from gptlab.building.task_parsing import clean_instances, parse_instances
from gptlab.building.task_prompts import (
    DECODING,
    classification_examples,
    classification_prompt,
    instances_prompt,
    instructions_prompt,
)
from gptlab.selection.novelty import NoveltyFilter
from gptlab.servers import OpenAIServer, with_options


def test_the_list_is_numbered_and_goes_on():
    eight = ["Translate the\n  sentence:", "解释下面的词：", "Use {braces} and [brackets].", *["Count."] * 5]
    lines = instructions_prompt(eight).split("\n")
    assert lines[:4] == [
        "Come up with a series of tasks:",
        "1. Translate the sentence",
        "2. 解释下面的词",
        "3. Use {braces} and [brackets].",
    ]
    assert lines[8:] == ["8. Count.", "9."]


def test_the_examples_of_classification_are_twelve_and_nineteen():
    assert [task["is_classification"] for task in classification_examples()].count(True) == 12
    prompt = classification_prompt("Is {it} red?\nOr not?")
    assert prompt.count("\nIs it classification? No\n") == 19 and prompt.count("\nIs it classification? Yes\n") == 12
    assert prompt.startswith("Can the following task be regarded as a classification task")
    assert prompt.endswith("\n\nTask: Is {it} red? Or not?\nIs it classification?")


@pytest.mark.parametrize("labelled", [True, False])
def test_the_worked_examples_are_in_the_form_that_is_parsed(labelled):
    """Each worked example, taken for a reply, gives clean instances: classification with its label first."""
    prompt = instances_prompt("Say {x}.", labelled)
    assert prompt.endswith("\n\nTask: Say {x}.\n")
    heading, *worked, _ = prompt.split("\n\nTask: ")
    assert heading.startswith("Given the classification task" if labelled else "Come up with examples")
    assert len(worked) > 6 and any(not task.isascii() for task in worked)
    without_input = 0
    for task in worked:
        reply = task.partition("\n")[2]
        found = parse_instances(reply, labelled)
        assert clean_instances(found) == (found, {}) and found
        marks = reply.count("Class label:" if labelled else "Output:")
        assert len(found) == marks
        without_input += not found[0].input
    assert 1 <= without_input < len(worked)


def test_what_is_shown_is_not_among_the_seeds():
    """Else a model is shown the answer to a seed, and takes it for a new task."""
    pool = NoveltyFilter(pool=[task["instruction"] for task in load_seed_tasks()])
    shown = [task["instruction"] for task in classification_examples()]
    shown += re.findall("^Task: (.+)$", instances_prompt("", True) + instances_prompt("", False), re.MULTILINE)
    assert len(shown) > 31 + 12
    assert [text for text in shown if not pool.is_novel(text)] == []


def test_the_decoding_is_published_and_a_server_takes_it():
    server = OpenAIServer("model", "http://127.0.0.1:1")
    changed = {step: with_options(server, **options) for step, options in DECODING.items()}
    assert all(len(options["stop"]) <= 4 for options in DECODING.values())
    assert DECODING["instructions"] | {"stop": 0} == {
        **{"max_tokens": 1024, "temperature": 0.7, "top_p": 0.5, "presence_penalty": 2.0, "stop": 0}
    }
    assert DECODING["classification"]["max_tokens"] == 3
    assert (DECODING["instances"]["max_tokens"], DECODING["labelled instances"]["max_tokens"]) == (350, 300)
    assert len({str(one.identity) for one in changed.values()}) == 4
    server.close()
