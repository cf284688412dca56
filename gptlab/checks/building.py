"""Checks about building data: counting, filling templates, leaks, reading replies, novelty, and what a judge says."""

from __future__ import annotations

import random
import re
from typing import Any

from gptlab.checks.core import check_of, expect, expect_returned, expect_tuple
from gptlab.rouge import lcs_length


@check_of("building.counts", "how many entries come out")
def counts(answer) -> None:
    for given, right, hint in (
        ((7, 1, False, 1), (7, 14), "7 pairs with a template each are 7 entries, and a round can add as many again"),
        ((7, 1, True, 1), (14, 28), "with both directions each pair gives twice as many entries"),
        ((7, 3, False, 1), (21, 42), "3 templates for each of 7 pairs are 21 entries"),
        ((7, 3, True, 1), (42, 84), "each direction has templates of its own: 7 * 3 * 2"),
        (
            (10, 1, False, 4),
            (10, 50),
            "10 entries in 4 rounds: a round adds at most 10, since what is kept takes its parent's place in the pool",
        ),
        ((5, 2, True, 2), (20, 60), "20 entries and two rounds: the given ones and two generations"),
    ):
        got = expect_tuple(answer(*given), "the result")
        expect(len(got) == 2, f"two numbers were asked for, got {len(got)}")
        for number in got:
            whole = isinstance(number, int) and not isinstance(number, bool)
            expect(whole, f"both are whole numbers, got {number!r:.40}")
        expect(got != right[::-1], "the two are the wrong way round: those from the corpus come first")
        entries, most = right
        expect(got[0] == entries, f"{hint}; as the first number got {got[0]} for {given}")
        expect(most - entries != got[1], f"the given entries stay in the data, too; for {given} got {got[1]}")
        expect(got[1] == most, f"{hint}; as the second number got {got[1]} for {given}")


@check_of("building.fill", "fill a template in one pass")
def fill(answer) -> None:
    values = {"input": "Hello.", "src_lang": "English", "tgt_lang": "Chinese"}
    for template, right, hint in (
        ("Hello.", "Hello.", "a template without holes is itself"),
        ("Say [input]", "Say Hello.", "the hole [input] gets its value"),
        ("From [src_lang] to [tgt_lang]: [input]", "From English to Chinese: Hello.", "each hole gets its value"),
        ("[tgt_lang], please, [tgt_lang]!", "Chinese, please, Chinese!", "a hole may come more than once"),
        ("用[tgt_lang]说：[input]", "用Chinese说：Hello.", "a hole needs no spaces around it"),
        ("Answer [1] and [2] in [tgt_lang].", "Answer [1] and [2] in Chinese.", "[1] is no hole, and stays"),
        ("{input} is [input]", "{input} is Hello.", "braces are no holes; square brackets are"),
    ):
        got = _text(answer, template, values)
        expect(got == right, f"{hint}: {template!r} became {got!r}")
    for data, hint in (
        ("Write [tgt_lang] here.", "what stands in the data is data: its [tgt_lang] was taken for a hole"),
        ("Write [src_lang] here.", "what stands in the data is data: its [src_lang] was taken for a hole"),
        (r"C:\new \1 \g<0>", "the data's backslashes were taken for something of `re`: give `re.sub` a function"),
        ("a {b} %s $c", "the data's braces, percent or dollar signs were touched"),
        ("  two  spaces ", "the data's spaces were touched"),
    ):
        template = "[src_lang] - [input] - [tgt_lang]"
        for name in ("input", "tgt_lang", "src_lang"):
            got = _text(answer, template, values | {name: data})
            right = " - ".join((values | {name: data})[key] for key in ("src_lang", "input", "tgt_lang"))
            expect(got == right, f"{hint} ({name} = {data!r} gave {got!r})")
    both = values | {"input": "the word [tgt_lang]", "tgt_lang": "the language of [input]"}
    got = _text(answer, "[tgt_lang]: [input]", both)
    expect(got == f"{both['tgt_lang']}: {both['input']}", f"each value held the other's hole, and became {got!r}")
    try:
        got = answer("Say it in [language].", dict(values))
    except KeyError:
        return
    expect(False, f"a hole without a value is a KeyError; [language] has none, and the result is {got!r:.60}")


def _text(answer: Any, template: str, values: dict[str, str]) -> str:
    given = dict(values)
    try:
        got = answer(template, given)
    except re.error as error:
        expect(False, f"`re` took the data's backslashes for its own ({error}): give `re.sub` a function")
    expect_returned(got)
    expect(given == values, "the values that came in were changed")
    expect(isinstance(got, str), f"a text was asked for, got {got!r:.60}")
    return got


@check_of("building.leaks", "what the training gives away of the test")
def leaks(answer) -> None:
    training = [("the cat", "猫"), ("the dog", "狗"), ("鱼", "the fish"), ("a horse", "马"), ("马", "a horse")]
    for test, right, hint in (
        ([("the owl", "猫头鹰")], 0, "neither text is in the training"),
        ([("cat", "the")], 0, "a part of a text is another text"),
        ([("the cat", "猫")], 1, "the same pair is in the training"),
        ([("猫", "the cat")], 1, "the pair is in the training the other way round"),
        ([("the cat", "小猫")], 1, "what is asked was asked in the training, too"),
        ([("the kitten", "猫")], 1, "the answer is an answer of the training, too"),
        ([("the fish", "一条鱼")], 1, "what is asked is an answer of the training"),
        ([("ein Hund", "the dog")], 1, "the answer was asked in the training"),
        ([("the cat", "狗")], 1, "both texts are known, from different pairs; that is one pair of the test"),
        ([("a horse", "马")], 1, "it is known from two pairs of the training, and counts once"),
        ([("the cat", "猫"), ("the owl", "猫头鹰"), ("狗", "the dog")], 2, "two of these three are given away"),
        ([("the cat", "猫"), ("the cat", "猫")], 2, "a pair that is twice in the test counts twice"),
        ([], 0, "a test of nothing has no leak"),
    ):
        given = list(test), list(training)
        got = answer(*given)
        expect_returned(got)
        expect(given == (test, training), "the lists that came in were changed")
        expect(isinstance(got, int) and not isinstance(got, bool), f"a number of pairs was asked for, got {got!r:.60}")
        expect(got == right, f"{hint}: {test} has {right}, got {got}")
    got = answer([("the cat", "猫")], [])
    expect(got == 0, f"where there is no training nothing is given away, got {got!r:.60}")


@check_of("building.find_objects", "find the JSON objects in a reply")
def find_objects(answer) -> None:
    one, two, three = '{"a": "x"}', '{"b": "y"}', '{"c": "z"}'
    for text, right, hint in (
        (one, [{"a": "x"}], "an object alone"),
        ("I have none.", [], "there is no object in it"),
        ("", [], "there is no object in an empty reply"),
        (f"Sure! {one} I hope this helps.", [{"a": "x"}], "words around an object are passed over"),
        (f"{one}\n{two}", [{"a": "x"}, {"b": "y"}], "objects without a list around them"),
        (f"{one},\n{two},", [{"a": "x"}, {"b": "y"}], "objects with commas between them"),
        (f"[{one}, {two}]", [{"a": "x"}, {"b": "y"}], "a list of objects holds the same objects"),
        (f"{one} and {two}", [{"a": "x"}, {"b": "y"}], "two objects may stand in one line"),
        ('{\n  "a": "x",\n  "b": "y"\n}', [{"a": "x", "b": "y"}], "an object may go over several lines"),
        ('{"a": "use {x} here"}', [{"a": "use {x} here"}], "a brace inside a text belongs to the text"),
        ('{"a": "} {"}', [{"a": "} {"}], "a brace inside a text belongs to the text"),
        (r'{"a": "say \"hi\""}', [{"a": 'say "hi"'}], "an escaped quotation mark does not end a text"),
        ('{"a": {"b": 1}}', [{"a": {"b": 1}}], "an object inside another is a part of it, and does not come again"),
        ('{"a": "你好"}', [{"a": "你好"}], "Chinese is text like any other"),
        (f"{one} " + '{"b": "cut of', [{"a": "x"}], "an object that was cut off is left out, and not an error"),
        ("{no JSON} " + two, [{"b": "y"}], "one that is broken is left out, and the one behind it is found"),
        ("{ " + two, [{"b": "y"}], "a brace alone is broken, and the object behind it is found"),
        ('{"a": "x",} ' + f"{two} {three}", [{"b": "y"}, {"c": "z"}], "a comma too many breaks one, not the others"),
        (f"{two} {one}", [{"b": "y"}, {"a": "x"}], "they come in the order of the reply"),
        (f"{one} {one}", [{"a": "x"}, {"a": "x"}], "what stands there twice comes twice"),
    ):
        try:
            got = answer(text)
        except ValueError as error:
            expect(False, f"{hint}: {text!r} raises {type(error).__name__}: {error}")
        expect_returned(got)
        expect(isinstance(got, list), f"a list was asked for, got {got!r:.60}")
        expect(all(isinstance(item, dict) for item in got), f"each item should be a dict, and of {text!r} got {got!r}")
        expect(got == right, f"{hint}: of {text!r} got {got}")


@check_of("building.is_new", "ROUGE-L against a pool")
def is_new(answer) -> None:
    for words, pool, threshold, right, hint in (
        ("a b c", [], 0.7, True, "in an empty pool everything is new"),
        ("a b c", ["a b c"], 0.7, False, "the same text has ROUGE-L 1"),
        ("a b c", ["x y z"], 0.7, True, "with nothing in common ROUGE-L is 0"),
        ("a b", ["a x"], 0.5, True, "this is exactly 0.5, and only what is above the threshold goes out"),
        ("a b", ["a x"], 0.49, False, "this is 0.5, which is above 0.49"),
        ("a b c d", ["d c b a"], 0.3, True, "the same words in another order have L = 1 of 4, not 4"),
        ("a x b x c", ["a b c"], 0.7, False, "gaps are allowed: a, b and c come in this order, P = 3/5, R = 1"),
        ("a b c", ["a b c d e f g h i"], 0.6, True, "P = 1, but R = 3/9: both count"),
        ("a b c d e f g h i", ["a b c"], 0.6, True, "P = 3/9, though R = 1: both count"),
        ("a a a", ["a x y"], 0.4, True, "one word of the pool cannot be taken three times"),
        ("a b c", ["a b c", "x y z"], 0.7, False, "one text of the pool that is too similar is enough, the first here"),
        ("a b c", ["x y z", "a b c"], 0.7, False, "one text of the pool that is too similar is enough, the last here"),
        ("a b c", ["x y z", "a b c", "u v w"], 0.7, False, "the highest ROUGE-L counts, not the mean"),
        ("a b c d", ["a b c", "d"], 0.9, True, "each text of the pool is compared for itself"),
        ("a b c d", ["a b c x", "a b c d e f g h"], 0.7, False, "0.75 and 0.67: the first is above 0.7"),
    ):
        got = _new(answer, words.split(), [other.split() for other in pool], threshold)
        expect(got == right, f"{hint} ({words!r} in a pool of {pool}, threshold {threshold}, gave {got})")
    chance = random.Random(0)
    for size in (6, 12, 40):
        words, other = ([chance.choice("abcde") for _ in range(length)] for length in (size, size + 3))
        common = lcs_length(words, other)
        score = 2 * common / (len(words) + len(other))
        for threshold in (score - 0.01, score + 0.01):
            got = _new(answer, words, [other], threshold)
            said = f"two random texts of {len(words)} and {len(other)} words have ROUGE-L {score:.3f}"
            expect(got == (score <= threshold), f"{said}; with the threshold {threshold:.3f} got {got}")
    got = answer(["a", "b", "c", "d"], [["a", "b", "c", "x"]])
    expect(not got, "the threshold is 0.7 where none is given, and 0.75 is above it")


def _new(answer: Any, words: list[str], pool: list[list[str]], threshold: float) -> bool:
    given = list(words), [list(other) for other in pool]
    try:
        got = answer(*given, threshold)
    except ZeroDivisionError:
        expect(False, f"with nothing in common P + R is 0, and so ROUGE-L is to be 0 ({words} and {pool})")
    expect_returned(got)
    expect(given == (words, pool), "the words that came in were changed")
    expect(isinstance(got, bool), f"True or False was asked for, got {got!r:.60}")
    return got


@check_of("building.says_equal", "the eliminator's first rule")
def says_equal(answer) -> None:
    for reply, right, hint in (
        ("Equal", True, "this says that they are equal"),
        ("Not Equal", False, "'Not Equal' holds the word 'equal', too, and says the contrary"),
        ("equal", True, "upper and lower case make no difference"),
        ("NOT EQUAL", False, "upper and lower case make no difference"),
        ("Equal.", True, "a full stop at the end makes no difference"),
        (" Not Equal.\n", False, "white space and a full stop at the ends make no difference"),
        ("**Equal**", True, "asterisks make no difference"),
        ("**Not Equal.**", False, "asterisks and a full stop make no difference, in any order"),
        ("*Not* Equal", False, "asterisks make no difference, wherever they stand"),
        ("", None, "an empty reply says neither"),
        ("I cannot say whether they are equal.", None, "a reply has to be the answer, not only to hold it"),
        ("They are not identical.", None, "'not' alone is not 'not equal'"),
        ("Both prompts have their merits.", None, "a reply that says neither is None, not False"),
        ("Equal or Not Equal", None, "a reply that holds both says neither"),
        ("Not Equally good", None, "'equally' is another word"),
        ("Unequal", None, "'unequal' is neither of the two answers that are read here"),
        ("Equal, since both ask for fruit", None, "there is more in it than the answer"),
        ("Not Equal, I think", None, "there is more in it than the answer"),
    ):
        got = answer(reply)
        expect(
            got is None or isinstance(got, bool), f"True, False or None was asked for, and {reply!r} gave {got!r:.40}"
        )
        expect(not (got is None and right is not None), f"{hint}: {reply!r} is {right}, got None")
        expect(got is right, f"{hint}: {reply!r} should be {right}, got {got}")
