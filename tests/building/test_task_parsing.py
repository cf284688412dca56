"""What replies to Self-Instruct's questions say."""

import pytest

from gptlab.building.task_parsing import (
    Instance,
    clean_instances,
    parse_instances,
    parse_instructions,
    parse_yes,
    strip_field,
)

THREE = ["Name a river in Asia.", "写一首关于雨的诗。", "Use the API of Python's C core."]


@pytest.mark.parametrize("first", [9, 1])
@pytest.mark.parametrize(
    "form", ["{}. ", "{}) ", "{}、", "{}．", "**{}.** ", "**{}**. ", "- {}. ", "### {}. ", "Task {}: ", "**Task {}:** "]
)
@pytest.mark.parametrize(
    ("before", "between", "after"),
    [
        ("", "\n", ""),
        ("\n", "\n\n", "\n"),
        ("Sure! Here are some more tasks:\n\n", "\n", "\n\nLet me know if you need more!"),
        ("当然，下面是更多的任务：\n", "\n\n", "\n\n还需要更多吗？"),
        ("<think>\n9. Not this one\n</think>\n", "\n", ""),
    ],
)
def test_numbered_lists(first, form, before, between, after):
    """The same three tasks, however they are numbered and whatever stands around them."""
    items = [form.format(number) + task for number, task in enumerate(THREE, start=first)]
    assert parse_instructions(before + between.join(items) + after) == THREE


@pytest.mark.parametrize(
    ("reply", "tasks"),
    [
        (" Name a river in Asia.\n10. 写一首关于雨的诗。\n11. Use the API of Python's C core.", THREE),
        (" Name a river in Asia.\n\n10. 写一首关于雨的诗。\n\n11. Use the API of Python's C core.", THREE),
        (" Name a river in Asia.\n2. 写一首关于雨的诗。\n3. Use the API of Python's C core.", THREE),
        ("- Name a river in Asia.\n- 写一首关于雨的诗。\n- Use the API of Python's C core.", THREE),
        ("Here are three:\n* Name a river in Asia.\n* 写一首关于雨的诗。\n* Use the API of Python's C core.", THREE),
        ("9. Name a river\nin Asia.\n10.\n写一首关于雨的诗。\n\n11. **Use** the API of Python's C core.", THREE),
        ('9. "Name a river in Asia."\n10. “写一首关于雨的诗。”\n12. Use the API of Python\'s C core.', THREE),
        ("9. Name a river in Asia.\n9. 写一首关于雨的诗。\n9. Use the API of Python's C core.", THREE),
        (" Name a river in Asia.", THREE[:1]),
        ("9. Sort these:\n1. pears\n2. plums\n10. Add 3.5 and 2.", ["Sort these: 1. pears 2. plums", "Add 3.5 and 2."]),
        (" Sort these:\n1. pears\n2. plums\n10. Add them.", ["Sort these: 1. pears 2. plums", "Add them."]),
        ("9. Meet at\n10:30 or 11.5 hours later\n10. Add.", ["Meet at 10:30 or 11.5 hours later", "Add."]),
        ("9. In the year\n2016. a war began\n10. Add.", ["In the year 2016. a war began", "Add."]),
        ("9. One\n10.\n11. Three", ["One", "", "Three"]),
        ("9. Say 2**3**2 and __init__ twice.", ["Say 2**3**2 and __init__ twice."]),
        ("9. Fix the code:\n\n```\nx\n```\n10. Add.", ["Fix the code:", "Add."]),
        ("\n".join(f"{n}. Task {n}" for n in range(1, 21)), [f"Task {n}" for n in range(1, 21)]),
        ("Sure! Here they are:", []),
        ("I'm sorry, but I can't help with that.", []),
        ("抱歉，我不能回答。", []),
        ("<think> 9. Name", []),
        ("", []),
    ],
)
def test_other_lists(reply, tasks):
    assert parse_instructions(reply) == tasks


def test_only_the_exact_word_is_a_yes():
    for reply in ("Yes", "yes", "YES", " Yes.", "**Yes**", "是", "是的。", "Yes, it", '"Yes"'):
        assert parse_yes(reply), reply
    for reply in ("No", "", "Yesterday", "not yes", "是否", "不是", "否", "Is it classification? Yes"):
        assert not parse_yes(reply), reply


@pytest.mark.parametrize(
    "reply",
    [
        "Example 1\nWords: b, a\nOutput: a, b\nExample 2\nWords: d, c\nOutput: c, d",
        "**Example 1**\n\nWords: b, a\n\n**Output:** a, b\n\n**Example 2:**\nWords: d, c\n**Output**: c, d\n",
        "Sure:\n\n### Example 1:\nWords: b, a\nOutput:\na, b\n\n### Example 2:\nWords: d, c\nOutput 2: c, d",
        "Example 1: Words: b, a\nOutput: a, b\nExample 2: Words: d, c\nOutput: c, d\n\nTask: Another one\nOutput: x",
        "Task: Sort words.\nExample 1\nInput: Words: b, a\nOutput: a, b\nExample 2\nInput: Words: d, c\nOutput: c, d",
        "示例 1\nWords: b, a\n输出：a, b\n示例 2\nWords: d, c\n输出：c, d",
        "Example 1\nWords: b, a\nOutput: a, b\nInput: Words: z\nExample 2\nWords: d, c\nOutput: c, d\nOutput: e",
    ],
)
def test_input_first(reply):
    assert parse_instances(reply, False) == [Instance("Words: b, a", "a, b"), Instance("Words: d, c", "c, d")]


@pytest.mark.parametrize(
    ("reply", "instances"),
    [
        ("Output: -3 and\n- four", [("", "-3 and\n- four")]),
        ("Input: None\nOutput: 42", [("", "42")]),
        ("1. Input: 6 x 7\nOutput: 42\n2. Input: 6 x 8\nOutput: 48", [("6 x 7", "42")]),
        ("Example 1\n<noinput>\nOutput: 42", [("", "42")]),
        ("Example 1\nOnly this", [("", "Only this")]),
        ("Give an example.\nOutput: For example 2 is even.", [("Give an example.", "For example 2 is even.")]),
        ("There is no mark in this.", []),
    ],
)
def test_input_first_without_an_input(reply, instances):
    assert parse_instances(reply, False) == instances


@pytest.mark.parametrize(
    "reply",
    [
        "Class label: good\nReview: I liked it.\nIt was quick.\nClass label: bad\nReview: No.",
        "Sure:\n**Class label:** good\nReview: I liked it.\nIt was quick.\n\n**Class label:** bad\nReview: No.",
        "Task: A\nClass label: good\nInput: Review: I liked it.\nIt was quick.\nClass label: bad\nReview: No.\nTask: B",
        "1. Class label: good\nReview: I liked it.\nIt was quick.\n2. **Class label:** bad\nReview: No.",
        "类别：good\nReview: I liked it.\nIt was quick.\n类别：bad\nReview: No.",
    ],
)
def test_output_first(reply):
    """The label comes before the input, and becomes the output."""
    assert parse_instances(reply, True) == [("Review: I liked it.\nIt was quick.", "good"), ("Review: No.", "bad")]
    assert parse_instances(reply, True, cut=True) == [("Review: I liked it.\nIt was quick.", "good")]


def test_output_first_at_its_edges():
    assert parse_instances("Class label: Paris", True) == [("", "Paris")]
    assert parse_instances("Class label:\nCity: Paris", True) == [("City: Paris", "")]
    assert parse_instances("positive", True) == []
    assert parse_instances("", True, cut=True) == []


def test_what_is_no_example_goes_out():
    good = Instance("List: 1", "one")
    bad = [Instance("same", "same"), Instance("x", ""), Instance("Text:", "y"), Instance("z", "结果："), good]
    kept, rejected = clean_instances([good, *bad])
    assert kept == [good]
    assert rejected == {"output is the input": 1, "empty output": 1, "ends with a colon": 2, "duplicate": 1}


def test_a_contradiction_costs_the_task_all_its_instances():
    contradiction = [Instance("a", "1"), Instance("b", "2"), Instance("a", "3")]
    assert clean_instances(contradiction) == ([], {"one input, two outputs": 3})
    assert clean_instances([Instance("", "red"), Instance("", "blue")])[0] == [("", "red"), ("", "blue")]


def test_five_stay():
    six = [Instance(str(number), f"n{number}") for number in range(6)]
    assert clean_instances(six) == (six[:5], {"more than 5": 1})
    assert clean_instances([]) == ([], {})


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("Words: b, a", "b, a"),
        ("词语：公园、春天", "公园、春天"),
        ("Paragraph:\nIt rained.\n\nIt stopped.", "It rained.\nIt stopped."),
        ("It's at 10:30", "It's at 10:30"),
        ("10:30 is the time", "10:30 is the time"),
        ("Question: Why?\nAnswer: Because.", "Question: Why?\nAnswer: Because."),
        ("See https://example.org", "See https://example.org"),
        ("Say it: now", "now"),  # nobody can tell this from a field
        ("", ""),
    ],
)
def test_the_name_of_a_field(text, stripped):
    assert strip_field(text) == stripped


@pytest.mark.parametrize("junk", ["-" * 10**6, "** " * 300_000, "9. " * 300_000, "<think>" * 100_000, "\n" * 10**6])
def test_a_long_reply_of_junk_comes_to_an_end(junk):
    assert not any(len(task) > 20_000 for task in parse_instructions(junk))
    assert parse_instances(junk, True) == parse_instances(junk, False) == []
    assert not parse_yes(junk)
