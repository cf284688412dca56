import pytest

from gptlab.building.corpus_templates import apply_templates
from gptlab.building.template_writing import TRANSLATION, parse_templates, template_prompt, write_templates
from gptlab.building.tiny_corpus import tiny_corpus
from gptlab.servers import Bounded, Reply, Scripted, ServerError

PUBLISHED = [  # by source 002
    "Translate this sentence from the [src_lang] to [tgt_lang]: [input]",
    "How to speak [input] in [tgt_lang]? The answer is:",
    "The [tgt_lang] translation of this sentence is: [input]",
]


def test_the_published_prompt():
    assert template_prompt(PUBLISHED) == (
        "You are asked to come up with a set of 20 instruction templates for the machine translation task. "
        "Specifically, [src_lang] and [tgt_lang] indicate the source language and the target language. "
        "[input] indicates the source sentence.\n\n"
        "List of 20 templates:\n\n"
        "1. Translate this sentence from the [src_lang] to [tgt_lang]: [input]\n"
        "2. How to speak [input] in [tgt_lang]? The answer is:\n"
        "3. The [tgt_lang] translation of this sentence is: [input]\n"
    )
    for examples, n in ([], 20), (PUBLISHED, 3):
        with pytest.raises(
            ValueError, match=f"a list of {n} templates needs 1 to {n - 1} examples, got {len(examples)}"
        ):
            template_prompt(examples, n)


@pytest.mark.parametrize(
    "line",
    [
        "4. Say [input] in [tgt_lang].",
        "4) Say [input] in [tgt_lang].",
        "(4) Say [input] in [tgt_lang].",
        "（4）Say [input] in [tgt_lang].",
        "**4.** Say [input] in [tgt_lang].",
        "**4.** Say **[input]** in **[tgt_lang]**.",
        "**4. Say [input] in [tgt_lang].**",
        "### 4. Say [input] in [tgt_lang].",
        "4、Say [input] in [tgt_lang].",
        "4．Say [input] in [tgt_lang].",
        "  12 . Say [input] in [tgt_lang].  ",
        '4. "Say [input] in [tgt_lang]."',
        "4. “Say [input] in [tgt_lang].”",
        "4. **`Say [input] in [tgt_lang].`**",
        r"4. Say [input] in [tgt\_lang].",
        r"4\. Say \[input\] in \[tgt_lang\].",
        "- Say [input] in [tgt_lang].",
        "* **Say [input] in [tgt_lang].**",
        "• Say [input] in [tgt_lang].",
        "Say [input] in [tgt_lang].",
    ],
)
def test_every_form_of_a_line(line):
    around = f"<think>\n1. [input]?\n</think>\nSure, here are some more:\n\n{line}\r\n\nLet me know if you need more!"
    assert parse_templates(around) == ["Say [input] in [tgt_lang]."]


def test_what_is_in_quotes_in_part_stays_so():
    items = ['"[input]" is what in "[tgt_lang]"', "“[input]”用[tgt_lang]怎么说？", "*Say* [input] *please*"]
    assert parse_templates("\n".join(f"{n}. {item}" for n, item in enumerate(items, start=4))) == items


def test_a_reply_that_was_cut_short_loses_its_last_line():
    assert parse_templates(Reply("4. Say [input].\n5. Put [inp", "length")) == ["Say [input]."]
    assert parse_templates(Reply("4. Say [input].\n5. Put [input].")) == ["Say [input].", "Put [input]."]
    assert parse_templates("1. Use [this]?\n</think>\n4. Say [input].\n<think>5. Put [input].") == ["Say [input]."]
    assert parse_templates("I cannot help with that.") == []


def test_each_refusal_has_its_reason():
    lines = [
        "Render [input] in [tgt_lang].",
        "Render [input] elegantly.",
        "Render [input] for [reader] in [tgt_lang].",
        "Render [input], that is [input], in [tgt_lang].",
        "[tgt_lang] " + "very " * 50 + "[input]",
        PUBLISHED[1],
        "How to speak [input] in [tgt_lang]? The answer is this:",
        "请把“[input]”翻译成[tgt_lang]。",
        "请把“[input]”翻译成[tgt_lang]吧。",
    ]
    reply = "\n".join(f"{n}. {line}" for n, line in enumerate(lines, start=4))
    report = write_templates(Scripted([reply]), PUBLISHED, 9, calls=1)
    assert report.templates == (lines[0], lines[7])
    kinds = [(rejected.kind, rejected.reason) for rejected in report.rejected]
    assert [kind for kind, _ in kinds] == ["invalid"] * 3 + ["too long", "repeated", "alike", "alike"]
    assert kinds[0][1] == "it lacks [tgt_lang]"
    assert kinds[1][1].startswith("[reader] is not known")
    assert kinds[2][1] == "[input] is in it 2 times"
    assert kinds[3][1] == "it has 268 characters, more than 200"
    assert kinds[4][1] == "it is number 2"
    assert kinds[5][1] == f"its ROUGE-L is 0.95 to {PUBLISHED[1]!r}"
    assert str(report) == (
        "2 templates in 1 calls; 7 rejected (3 invalid, 2 alike, 1 too long, 1 repeated)\nended by: calls"
    )


def test_it_asks_again_with_other_examples_until_it_has_enough():
    replies = [
        "4. Put [input] into [tgt_lang].",
        ServerError("busy", passing=True),
        "1. [tgt_lang]: what would be [input] there?\n2. Now in [tgt_lang], please, my dear: [input]\n3. Not read",
    ]
    server = Scripted(replies)
    report = write_templates(server, PUBLISHED, 3, seed=1)
    assert report.ended == "enough" and report.calls == 3 and report.errors == ("busy",)
    assert report.templates == (
        "Put [input] into [tgt_lang].",
        "[tgt_lang]: what would be [input] there?",
        "Now in [tgt_lang], please, my dear: [input]",
    )
    assert not report.rejected  # what comes after the last that was wanted is not looked at
    prompts = [messages[0]["content"] for messages in server.asked]
    assert prompts[0] == template_prompt(PUBLISHED)
    assert len(set(prompts)) == 3
    entries = apply_templates(tiny_corpus(5), report.templates, per_pair=3)
    assert len(entries) == 30


def test_nonsense_for_ever_ends_at_the_bound():
    server = Scripted(lambda asked: "As a language model, I like lists [very much].")
    report = write_templates(server, PUBLISHED, 5, calls=4)
    assert (report.templates, report.calls, server.calls, report.ended) == ((), 4, 4, "calls")
    assert {rejected.kind for rejected in report.rejected} == {"invalid"}


def test_a_spent_budget_ends_it_with_what_there_is():
    bounded = Bounded(Scripted(lambda asked: "4. Put [input] into [tgt_lang]."), calls=2)
    report = write_templates(bounded, PUBLISHED, 5)
    assert report.templates == ("Put [input] into [tgt_lang].",)
    assert (report.calls, len(report.errors)) == (3, 1)
    assert report.ended == report.errors[0]


def test_a_server_that_never_replies_is_an_error():
    with pytest.raises(ServerError, match="nobody there"):
        write_templates(Scripted([ServerError("nobody there", fatal=True)]), PUBLISHED, 5)
    with pytest.raises(ServerError, match="busy 1"):
        write_templates(Scripted([ServerError(f"busy {n}", passing=True) for n in (1, 2)]), PUBLISHED, 5, calls=2)


def test_other_tasks_have_other_placeholders():
    meaning = "[question] is what is asked."
    report = write_templates(
        Scripted(["2. Reply briefly to this: [question]"]),
        ["Answer me: [question]"],
        1,
        task="question answering",
        meaning=meaning,
        required=["question"],
        optional=[],
    )
    assert report.templates == ("Reply briefly to this: [question]",)
    assert TRANSLATION not in template_prompt(["Answer me: [question]"], meaning=meaning)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"examples": ["Translate [input]."]}, r"example 1, 'Translate \[input\]\.': it lacks \[tgt_lang\]"),
        ({"examples": []}, "needs 1 to 19 examples, got 0"),
        ({"per_call": 3}, "a list of 3 templates needs 1 to 2 examples, got 3"),
        ({"n": 0}, "n must be a whole number >= 1, got 0"),
        ({"calls": True}, "calls must be a whole number >= 1, got True"),
        ({"longest": 1.5}, "longest must be a whole number >= 1, got 1.5"),
        ({"threshold": 1.1}, r"threshold must be in \[0, 1\], got 1.1"),
    ],
)
def test_settings_out_of_range(changes, message):
    server = Scripted(["4. Put [input] into [tgt_lang]."])
    with pytest.raises(ValueError, match=message):
        write_templates(server, **{"examples": PUBLISHED, "n": 1} | changes)
    assert server.calls == 0
