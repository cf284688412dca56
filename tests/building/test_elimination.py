"""One test for each rule of the eliminator, with the bugs that published code has in them."""

import pytest

from gptlab.building.elimination import (
    CHARACTERS_PER_WORD,
    SORRY_WORDS,
    copied_markers,
    judge_instruction,
    judge_response,
    says_equal,
    says_nothing,
    says_sorry,
)


@pytest.mark.parametrize(
    "reply",
    [
        "Not Equal",
        "not equal.",
        "**Not Equal**",
        "NOT  EQUAL\n\nThe second asks for more.",
        "Your Judgement: Not Equal",
        "They are not equal.",
        "Not Equal, because the second is longer.",
        "Not Equal (the first is not equal in depth, either)",
        "Not-Equal",
        "Unequal",
        "不相等",
        "两者不相同，因为第二个更难。",
    ],
)
def test_not_equal_is_not_equal(reply):
    assert says_equal(reply) is False  # `"equal" in reply.lower()` would throw all of them away


@pytest.mark.parametrize(
    "reply", ["Equal", "equal.", '"Equal"', "Judgement: Equal", "The prompts are equal.", "相等。"]
)
def test_equal_is_equal(reply):
    assert says_equal(reply) is True


@pytest.mark.parametrize(
    "reply", ["", "Both are fine.", "I cannot say whether they are equal.", "Equal or Not Equal?", "Equal\nNot Equal"]
)
def test_a_judge_who_does_not_say_it_has_not_said_it(reply):
    assert says_equal(reply) is None


def test_sorry_counts_in_a_short_response():
    assert says_sorry("I'm SORRY, but I cannot help with that.")
    assert says_sorry(" ".join(["sorry"] * (SORRY_WORDS - 1)))
    assert not says_sorry(" ".join(["sorry"] * SORRY_WORDS))
    assert not says_sorry("I cannot help with that.")


@pytest.mark.parametrize("apology", ["抱歉", "对不起", "很對不起"])
def test_sorry_in_chinese_counts_characters(apology):
    limit = int(SORRY_WORDS * CHARACTERS_PER_WORD)
    assert limit == 120
    assert says_sorry(apology + "我" * (limit - 1 - len(apology)))
    assert not says_sorry(apology + "我" * (limit - len(apology)))


@pytest.mark.parametrize(
    "response", ["", " \n", "...", "?!", "……", "The.", "... and of the", "他们的这些。", "🙂", "__"]
)
def test_only_punctuation_and_stop_words_is_nothing(response):
    assert says_nothing(response)


@pytest.mark.parametrize("response", ["42", "No.", "not", "A", "yes", "是的。", "不对", "The cat.", "猫的", "π", "x"])
def test_a_short_answer_is_something(response):
    assert not says_nothing(response)


@pytest.mark.parametrize(
    "instruction",
    [
        "Answer the given prompt.",
        "GIVEN PROMPT: name two.",
        "#The Given Prompt#: name two.",
        "Improve #my prompt# here.",
        "A rewritten  prompt",
        "Created-prompt",
        "改写后的提示：说出一种水果。",
        "#给定的提示#",
    ],
)
def test_words_of_the_frame_are_found_in_any_case(instruction):
    assert len(copied_markers(instruction, "Name two.")) == 1


@pytest.mark.parametrize(
    "instruction", ["Compare C# and F#.", "Given the prompt reply ...", "use #a# and #b#", "提示我"]
)
def test_other_words_are_no_markers(instruction):
    assert copied_markers(instruction, "") == []


def test_what_the_parent_says_itself_is_not_copied():
    parent = "Who wrote the given prompt?"
    assert copied_markers("Who wrote the Given Prompt, and when?", parent) == []
    assert copied_markers("Who wrote the given prompt of #Given Prompt#?", parent) == ["#Given Prompt#"]
    assert copied_markers("Who wrote the given prompt, and the rewritten prompt?", parent) == ["rewritten prompt"]


def test_verdicts_on_instructions():
    assert judge_instruction("Name two.", "Name one.") is None
    assert judge_instruction("", "Name one.") == ("empty", "")
    assert judge_instruction("name  ONE.\n", "Name one.") == ("unchanged", "")
    assert judge_instruction("The given prompt", "Name one.") == ("markers", "given prompt")
    assert judge_instruction("Name two.", "Name one.", cut_short=True) == ("cut", "")


def test_verdicts_on_responses():
    assert judge_response("A fig.") is None
    assert judge_response("Sorry.") == ("sorry", "")
    assert judge_response("") == ("no words", "")
    assert judge_response("A fig.", cut_short=True) == ("answer cut", "")
