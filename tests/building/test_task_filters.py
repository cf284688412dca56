"""Which instructions go out at sight."""

import random
import re
import string

import pytest

from gptlab.building.task_filters import ALPACA_WORDS, BLOCKED_WORDS, InstructionFilter, count_words


def published(text):
    """The original's rules once more, written from their description, for text as its own step leaves it."""
    words = text.split()
    if len(words) <= 3 or len(words) > 150:
        return "out"
    banned = {
        "image",
        "images",
        "graph",
        "graphs",
        "picture",
        "pictures",
        "file",
        "files",
        "map",
        "maps",
        "draw",
        "plot",
    }
    if set(re.findall(r"\w+", text.lower())) & banned or re.search(r"\bgo to\b", text.lower()):
        return "out"
    if text.capitalize().startswith("Write a program") or text[0] in string.punctuation or ord(text[0]) > 127:
        return "out"
    return None


def test_english_is_judged_as_published():
    chance, rules, counts = random.Random(0), InstructionFilter(BLOCKED_WORDS, ("write a program",), False), [0, 0]
    common = ["Write", "a", "program", "the", "sum", "of", "two", "lists", "filed", "to"]
    rare = ["image", "mapping", "go", "draw", "plot,", "(map)", "école", "-"]
    for _ in range(3000):
        words = common + chance.sample(rare, chance.choice([0, 0, 1, 4]))
        text = " ".join(chance.choices(words, k=chance.choice([3, 4, 5, 6, 7, 150, 151])))
        if chance.random() < 0.3:
            text = f"Write a program {text}"
        wrong = published(text) is not None
        assert (rules.why_not(text) is not None) == wrong, text
        counts[wrong] += 1
    assert min(counts) > 300


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Name the three primary colours.", None),
        ("Explain what __init__ does in Python.", None),
        ("Fill the withdrawal form of the mapmaker.", None),
        ("", ("empty", "")),
        (" \n", ("empty", "")),
        ("Sing it again.", ("too short", "3 words")),
        ("word " * 151, ("too long", "151 words")),
        ("Describe the Image in detail.", ("blocked word", "image")),
        ("Then go to the shop and pay.", ("blocked word", "go to")),
        ("WRITE A PROGRAM that counts.", ("write a program", "write a program")),
        ("- name the months of summer", ("punctuation first", "-")),
        ("→ name the months of summer", ("punctuation first", "→")),
        ("Économise un peu plus d'eau.", ("foreign first", "É")),
        ("写一首诗", ("too short", "2.67 words")),
        ("写一首关于春天的诗。", None),
        ("《静夜思》的作者是谁？", None),
        ("“画蛇添足”是什么意思？", None),
        ("２０２４年有多少天是周末？", None),
        ("用Python写一个排序函数。", None),
        ("刻画一个性格开朗的人物。", None),
        ("，然后再说明一下原因是什么", ("punctuation first", "，")),
        ("请描述这张图片里的场景。", ("blocked word", "图片")),
        ("请描述这个image里的场景。", ("blocked word", "image")),
        ("编写程序，计算两个数的和。", ("write a program", "编写程序")),
        ("说" * 226, ("too long", "151 words")),
        ("说" * 225, None),
    ],
)
def test_by_which_rule(text, reason):
    assert InstructionFilter().why_not(text) == reason


def test_what_can_be_switched():
    assert InstructionFilter(chinese=False).why_not("写一首 关于 春天 的诗 吧 。") == ("foreign first", "写")
    rules = InstructionFilter(blocked=BLOCKED_WORDS + ALPACA_WORDS)
    assert rules.why_not("Recommend some quiet music for dinner.") == ("blocked word", "music")
    assert InstructionFilter().why_not("Recommend some quiet music for dinner.") is None
    assert InstructionFilter(openings=()).why_not("Write a program that counts to ten.") is None
    assert len(BLOCKED_WORDS) == 13


def test_words_are_counted():
    assert count_words("one  two\nthree - four") == 5  # as split() has it, and so the original
    assert count_words("你好，世界！") == round(4 / 1.5, 2)
    assert count_words("") == 0
