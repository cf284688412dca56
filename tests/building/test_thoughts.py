"""What stands around an answer, whichever module reads it."""

import time

import pytest

from gptlab.building.elimination import says_equal
from gptlab.building.evol_prompts import clean_reply
from gptlab.building.task_parsing import parse_instances, parse_instructions, parse_yes
from gptlab.building.template_writing import parse_templates
from gptlab.building.thoughts import without_half_fence, without_thoughts

THOUGHTS = [
    "<think>\n1. No [input] [tgt_lang]\nOutput: no\n</think>\n",
    "<Thinking>Equal. Yes.</Thinking>\n\n",
    "1. Perhaps [input] in [tgt_lang].\nOutput: perhaps\n</think>\n\n",  # its beginning is a part of the prompt
    "<think>" + "no " * 20_000 + "</think>\n",  # longer than any answer that is read
    "",
]


@pytest.mark.parametrize("thoughts", THOUGHTS)
def test_no_module_takes_thoughts_for_an_answer(thoughts):
    assert parse_instructions(f"{thoughts}9. Name a river.\n10. 写一首诗。") == ["Name a river.", "写一首诗。"]
    assert parse_instances(f"{thoughts}Output: a fig", False) == [("", "a fig")]
    assert parse_yes(f"{thoughts}Yes") and not parse_yes(f"{thoughts}No")
    assert clean_reply(f"{thoughts}Name two fruits.") == "Name two fruits."
    assert says_equal(without_thoughts(f"{thoughts}Not Equal")) is False
    assert parse_templates(f"{thoughts}4. Say [input] in [tgt_lang].") == ["Say [input] in [tgt_lang]."]


@pytest.mark.parametrize("text", ["Why <think>not</think>?", "The tag </think> ends it.", "a < think > b", "写<思考>"])
def test_what_only_speaks_of_thoughts_stays(text):
    assert without_thoughts(text) == text


def test_thoughts_without_an_end_are_all_of_it():
    assert without_thoughts("<think>Let me see. An apple") == ""


def test_the_end_of_a_fence_around_a_whole_reply_is_no_part_of_its_last_item():
    assert parse_instructions("```\n9. Name a river.\n10. Add 2.\n```\nShall I go on?") == ["Name a river.", "Add 2."]
    examples = "```\nExample 1\nWord: a\nOutput: A\nExample 2\nWord: b\nOutput: B\n```"
    assert [one.output for one in parse_instances(examples, False)] == ["A", "B"]
    labelled = "```text\nClass label: good\nReview: fine\n```"
    assert parse_instances(labelled, True) == [("Review: fine", "good")]
    code = "Output: this:\n```python\nprint(1)\n```"
    assert parse_instances(code, False)[0].output == "this:\n```python\nprint(1)\n```"
    assert without_half_fence("```python\nprint(1)") == "```python\nprint(1)"
    assert clean_reply("```text\nName two fruits.\n```") == "Name two fruits."
    assert clean_reply("```json\n{}\n```") == "```json\n{}\n```"


@pytest.mark.parametrize(
    "line", ["Example" + "*" * 19_000 + "x", "Example" + " " * 19_000 + "x", "Output" + " " * 19_000 + "x"]
)
def test_a_line_of_junk_takes_no_minutes(line):
    began = time.process_time()
    assert parse_instances(line, False) == []
    clean_reply("Sure!\n" * 20_000)
    assert time.process_time() - began < 2  # it was 10 s and more
