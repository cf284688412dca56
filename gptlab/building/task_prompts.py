"""What Self-Instruct asks: for new tasks, whether a task is classification, and for its instances.

Each prompt is a text to go on with, as a base model wants it: a line that says what this is, worked examples, and the
beginning of the next one. Here it is sent as one message to a model that chats, which goes on as well.

    Come up with a series of tasks:         Can the following task ...?             Come up with examples ...
    1. ...                                  Task: ...                               Task: ...
    ...                                     Is it classification? Yes               Example 1
    8. ...                                  ... (12 times yes, 19 times no)         ...
    9.                                      Task: (the new one)                     Task: (the new one)
                                            Is it classification?

Instances of a task can be asked for in two orders. Input-first, a model thinks of an input and then solves it. Of a
classification task that brings inputs of one class nearly always ("positive"). So there the label comes first, and the
model thinks of an input that has it: output-first. Lecture notes on the method exist that have the two the wrong way
round; the paper and its code use output-first for classification and input-first for the rest.

The first lines are the published ones, and so are the numbers of `DECODING` but for three things that a chat needs. It
may begin with a sentence and an empty line, or put one between its items: the published stop "\\n\\n" would leave
nothing. It may repeat "Task:", where the published stop would end the reply before it begins. And "16." alone would cut
an item such as "Find the root of 16." So stops begin with a line break; and "Example 6" is none where examples begin
with a label and have no numbers. Left out: frequency_penalty 0, which is every server's default; top_p 0 at temperature
0, which changes nothing, and which some servers refuse.

The worked examples are this project's own, in assets/building. They are shorter than the published ones, which do not
fit into a small model's context, and some are Chinese.

Source: Wang et al. 2022, "Self-Instruct", section 2.2 and tables 5 to 8; its code, bootstrap_instructions.py:19-29 and
173-187, identify_clf_or_not.py:98-113, generate_instances.py:133-155.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, Literal

Step = Literal["instructions", "classification", "instances", "labelled instances"]

SHOWN = 8  # tasks in a prompt: bootstrap_instructions.py, --num_prompt_instructions
MACHINE_SHOWN = 2  # of them made by the model, at most; 6 by people, more as long as the model has made fewer
MOST_NEW = 7  # items 9 to 15: the published stops end the reply before item 16
MOST_INSTANCES = 5  # generate_instances.py, --max_instances_to_generate

DECODING: dict[Step, dict[str, Any]] = {
    # bootstrap_instructions.py:173-187; published stops: "\n\n", "\n16", "16.", "16 ."
    "instructions": {
        "max_tokens": 1024,
        "temperature": 0.7,
        "top_p": 0.5,
        "presence_penalty": 2.0,
        "stop": ["\n16", "\n**16", "\nTask 16"],
    },
    # identify_clf_or_not.py:98-113; published stops: "\n", "Task"
    "classification": {"max_tokens": 3, "temperature": 0.0, "stop": ["\n"]},
    # generate_instances.py:133-155; published stops: "Example 6", "Task:"
    "instances": {
        "max_tokens": 350,
        "temperature": 0.0,
        "presence_penalty": 1.5,
        "stop": [f"\nExample {MOST_INSTANCES + 1}", "\nTask:"],
    },
    "labelled instances": {"max_tokens": 300, "temperature": 0.0, "presence_penalty": 1.5, "stop": ["\nTask:"]},
}

_TASKS = "Come up with a series of tasks:"
_CLASSIFICATION = "Can the following task be regarded as a classification task with finite output labels?"
_INPUT_FIRST = (
    "Come up with examples for the following tasks. Try to generate multiple examples when possible. "
    "If the task doesn't require additional input, you can generate the output directly."
)
_OUTPUT_FIRST = (
    "Given the classification task definition and the class labels, generate an input that corresponds to each of the "
    "class labels. If the task doesn't require input, just generate the correct class label."
)


def instructions_prompt(instructions: Sequence[str]) -> str:
    """Return the question for more tasks like these.

    Source: bootstrap_instructions.py:19-29; white space is collapsed there, and a colon at the end dropped, too.

    >>> print(instructions_prompt(["Name three colours.", "Translate the sentence:"]))
    Come up with a series of tasks:
    1. Name three colours.
    2. Translate the sentence
    3.
    """
    lines = [f"{number}. {one_line(text).rstrip(':：')}" for number, text in enumerate(instructions, start=1)]
    return "\n".join([_TASKS, *lines, f"{len(lines) + 1}."])


def classification_prompt(instruction: str) -> str:
    """Return the question whether a task is classification, after 31 tasks with the answer.

    Source: identify_clf_or_not.py, templates/clf_task_template.py: 12 times yes, 19 times no.
    """
    shown = [
        f"Task: {task['instruction']}\nIs it classification? {'Yes' if task['is_classification'] else 'No'}"
        for task in classification_examples()
    ]
    return "\n\n".join([_CLASSIFICATION, *shown, f"Task: {one_line(instruction)}\nIs it classification?"])


def instances_prompt(instruction: str, is_classification: bool) -> str:
    """Return the question for instances of a task: output-first for classification, else input-first.

    Source: generate_instances.py:133-155, templates/instance_gen_template.py.
    """
    heading = _OUTPUT_FIRST if is_classification else _INPUT_FIRST
    shown = _asset("output_first_examples.txt" if is_classification else "input_first_examples.txt").strip()
    return f"{heading}\n\n{shown}\n\nTask: {one_line(instruction)}\n"


@cache
def classification_examples() -> tuple[dict[str, Any], ...]:
    """Return the 31 tasks that are shown with their answers."""
    return tuple(json.loads(line) for line in _asset("classification_examples.jsonl").splitlines())


def one_line(text: str) -> str:
    """Return the text with each run of white space as one space."""
    return " ".join(text.split())


@cache
def _asset(name: str) -> str:
    return (resources.files("gptlab") / "assets" / "building" / name).read_text(encoding="utf-8")
