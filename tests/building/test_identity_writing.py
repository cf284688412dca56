"""Entries about itself that a model wrote: read in whatever form they come, kept only if they fit."""

import json
import time

import pytest

from gptlab.building.identity import Identity, identity_entries
from gptlab.building.identity_writing import PER_REQUEST, identity_prompt, parse_entries, write_identity
from gptlab.servers import Reply, Scripted, ServerError

SWAN = Identity(
    {"en": "Swan-7B", "zh": "雁栖-7B"}, {"en": "the tutors", "zh": "助教"}, {"en": "tasks", "zh": "语言任务"}
)
ENTRIES = [
    {"instruction": "你是谁？", "input": "", "output": "我是雁栖-7B，由助教开发。"},
    {"instruction": 'Say "who" {are} you, \\ now', "input": "", "output": "I am }Swan-7B{,}\n of the tutors."},
    {"instruction": "Your name?", "input": "", "output": "Swan-7B, made by the tutors."},
]
LINES = [json.dumps(entry, ensure_ascii=False) for entry in ENTRIES]
BLOCKS = [json.dumps(entry, ensure_ascii=False, indent=2) for entry in ENTRIES]


@pytest.mark.parametrize(
    "reply",
    [
        "\n".join(LINES),
        "".join(LINES),
        ",\n".join(BLOCKS),
        ",\n".join(BLOCKS) + ",",
        json.dumps(ENTRIES),
        json.dumps(ENTRIES, ensure_ascii=False, indent=4),
        "[" + ",\n".join(LINES) + ",]",
        json.dumps({"entries": ENTRIES, "count": 3}),
        "```json\n" + ",\n".join(BLOCKS) + "\n```",
        "\n".join(f"{number}. ```json\n{line}\n```" for number, line in enumerate(BLOCKS, start=1)),
        "Here's a list of {n} \"entries:\n" + '\n\nNext one, with 5" and {braces}:\n'.join(LINES) + "\nDone :}",
        "\n".join(line.removesuffix("}") + ", }" for line in LINES),
        "\n".join(LINES).replace("\\n", "\n"),
        "\n".join(LINES) + '\n{"instruction": "What can you do?", "input": "", "output": "I am Swan-7B, and I',
        "[" + ",\n".join(LINES) + ',\n{"instruction": "What can',
        '{"instruction": "cut off here, "\n' + "\n".join(LINES),
        '{"instruction": "He said "hi" to me", "output": "broken"}' + "\n".join(LINES),
        "\n".join(LINES) + '{"question": "no entry"} {} {"instruction": ["a"], "output": "b"} {"instruction": "c"}',
        "\n".join(LINES) + r'{"instruction": "half a character", "output": "\ud83d"}',
        "\n".join(line.replace(', "input": ""', ', "input": null') for line in LINES),
        "\n".join(line.replace(', "input": ""', ', "tags": ["x", "y"]') for line in LINES),
        "\ufeff" + "\r\n".join(LINES),
    ],
)
def test_the_same_entries_are_read_in_whatever_form(reply):
    assert parse_entries(reply) == ENTRIES


@pytest.mark.parametrize("reply", ["", "I cannot do that.", "{", "{}", "[]", '{"instruction": "Who', "}{", '{"' * 50])
def test_replies_without_entries(reply):
    assert parse_entries(reply) == []


def test_cutting_a_reply_anywhere_loses_only_what_is_no_longer_whole():
    reply = "\n".join(LINES)
    ends = [len("\n".join(LINES[: count + 1])) for count in range(len(LINES))]
    for cut in range(len(reply) + 1):
        assert parse_entries(reply[:cut]) == ENTRIES[: sum(end <= cut for end in ends)]


@pytest.mark.parametrize("nonsense", ["{", '{"', "}", '{"a":', '{"\\', '{""', "[{", '{"a": [', '"{', "{,", '{"{"a'])
def test_a_long_reply_of_nonsense_is_read_in_good_time(nonsense):
    start = time.process_time()
    assert parse_entries(nonsense * 20_000) == []
    assert time.process_time() - start < 5


def test_the_prompt_carries_the_slots_and_examples_that_can_be_read_back():
    odd = Identity("{n}".strip("{}") + " 7", "the [tgt_lang] team", "tasks", ("en",))
    for identity, language in ((SWAN, "en"), (SWAN, "zh"), (odd, "en")):
        prompt = identity_prompt(
            identity, n=12, language=language, examples=[*ENTRIES[:2], {**ENTRIES[2], "kind": "x"}]
        )
        assert all(text in prompt for text in [*identity.slots(language).values(), "12"])
        assert parse_entries(prompt)[1:] == ENTRIES  # the first shows the form
    data = [{"instruction": "What is {name}, or {examples}?", "output": "{developer}"}]
    assert parse_entries(identity_prompt(SWAN, examples=data))[1:] == [data[0] | {"input": ""}]


def good_reply(number, count=8):
    return "\n".join(
        json.dumps({"instruction": f"Who are you, {number} {place}?", "input": "", "output": "Swan-7B of the tutors."})
        for place in range(count)
    )


def test_asks_until_there_are_enough_in_both_languages_with_other_examples_each_time():
    server = Scripted([good_reply(number) for number in range(5)])
    written = write_identity(server, SWAN, 20, seed=1)
    assert (len(written.entries), written.requests, written.rejected) == (20, 3, {})
    assert written.ended == "all that were asked for"
    assert [entry["language"] for entry in written.entries] == ["en"] * 8 + ["zh"] * 8 + ["en"] * 4
    assert {entry["kind"] for entry in written.entries} == {"written"}
    prompts = [messages[-1]["content"] for messages in server.asked]
    assert len(set(prompts)) == 3 and "请写20条" in prompts[1] and f"Write {PER_REQUEST} entries" in prompts[2]
    again = Scripted([good_reply(number) for number in range(5)])
    assert write_identity(again, SWAN, 20, seed=1) == written and again.asked == server.asked


def test_what_does_not_fit_is_dropped_and_counted():
    def entry(instruction, output):
        return json.dumps({"instruction": instruction, "output": output}, ensure_ascii=False)

    held_out = identity_entries(SWAN, wordings="held out")
    fits = "我是雁栖 ７B，由助教开发。"
    reply = [
        entry("Who?", fits),
        entry(" who ", "Swan-7B by the tutors"),
        entry("你叫什么？", "我由助教开发。"),
        entry("你会什么？", "我是雁栖-7B。"),
        entry("", fits),
        entry("Why?", " "),
        entry(held_out[0]["instruction"].upper(), fits),
    ]
    shown = []

    def server(messages):
        shown.extend(parse_entries(messages[-1]["content"])[1:])
        echo = json.dumps(shown[0])
        return Reply("\n".join([*reply, echo, '{"instruction": "cut']), "length")

    written = write_identity(server, SWAN, 5, requests=1, avoid=held_out)
    assert [entry["instruction"] for entry in written.entries] == ["Who?"]
    assert written.rejected == {
        "empty": 2,
        "a question that was there before": 1,
        "the output lacks the name": 1,
        "the output lacks the developer": 1,
        "to be avoided": 1,
        "one of the examples": 1,
    }
    assert str(written).startswith("1 entries kept, 1 requests; asked 1 times, as allowed\n")
    assert "1  one of the examples" in str(written)


def test_a_server_that_talks_nonsense_for_ever_is_left_at_the_bound():
    server = Scripted(lambda text: "As a language model I {cannot}.")
    written = write_identity(server, SWAN, 100)
    assert (written.entries, server.calls, written.requests) == ([], 15, 15)
    assert written.rejected == {"no entry in the reply": 15}
    assert write_identity(server, SWAN, 100, requests=2).requests == 2


def test_a_server_that_repeats_itself_ends_at_the_bound_with_what_it_has():
    written = write_identity(Scripted(lambda text: good_reply(0)), SWAN, 100, requests=4)
    assert len(written.entries) == 8 and written.rejected == {"a question that was there before": 24}


def test_failures_count_as_requests_and_a_fatal_one_ends_it_with_what_there_is():
    busy = ServerError("busy", passing=True)
    written = write_identity(Scripted([busy, good_reply(0), busy, good_reply(1)]), SWAN, 50)
    assert (len(written.entries), written.requests) == (16, 5)
    assert written.rejected == {"the server failed": 3}
    assert written.ended.startswith("the server ended it: scripted has 4 replies")


def test_when_nothing_was_ever_answered_the_reason_is_raised():
    with pytest.raises(ServerError, match="nobody there"):
        write_identity(Scripted([ServerError("nobody there", fatal=True)]), SWAN, 5)
    with pytest.raises(ServerError, match="busy 1"):
        write_identity(Scripted([ServerError(f"busy {number}") for number in (1, 2)]), SWAN, 5, requests=2)


def test_doors():
    for n, requests in ((0, None), (3, 0)):
        with pytest.raises(ValueError, match="n and requests must be >= 1"):
            write_identity(Scripted([]), SWAN, n, requests=requests)
    with pytest.raises(ValueError, match="languages must be some of en, zh, each once, got 'fr'"):
        write_identity(Scripted([]), SWAN, 3, languages="fr")
    with pytest.raises(TypeError, match="the server must return text, got None"):
        write_identity(lambda messages: None, SWAN, 3)
    with pytest.raises(ValueError, match="at least 1 entry to ask for, got 0"):
        identity_prompt(SWAN, n=0)
    with pytest.raises(ValueError, match="language must be one of en, zh, got 'fr'"):
        identity_prompt(SWAN, language="fr")
