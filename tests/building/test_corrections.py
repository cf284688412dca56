import json

import pytest

from gptlab.building.corrections import entries_from_corrections
from gptlab.data import (
    Conversation,
    ConversationDataset,
    InstructionDataset,
    Turn,
    as_conversation,
    is_entry,
    save_conversations,
)

SAID = Conversation([Turn("你是谁？", "我是鹦鹉。"), Turn("2 + 2?", "4"), Turn("And 3 + 3?", "7")], system="Be brief.")
RIGHT = Conversation([Turn("你是谁？", "我是雁栖。"), Turn("2 + 2?", "4"), Turn("And 3 + 3?", "6")], system="Be brief.")


def test_every_answer_becomes_an_entry():
    first, second, third = entries_from_corrections(RIGHT)
    assert first == {
        "instruction": "你是谁？",
        "input": "",
        "output": "我是雁栖。",
        "system": "Be brief.",
        "conversation": 1,
        "turn": 1,
    }
    assert (second["output"], second["history"]) == ("4", [["你是谁？", "我是雁栖。"]])
    assert as_conversation(third) == RIGHT


def test_with_the_original_only_what_was_corrected():
    entries = entries_from_corrections(RIGHT, SAID)
    assert [(entry["turn"], entry["model_response"], entry["output"]) for entry in entries] == [
        (1, "我是鹦鹉。", "我是雁栖。"),
        (3, "7", "6"),
    ]
    assert entries[1]["history"] == [["你是谁？", "我是雁栖。"], ["2 + 2?", "4"]]
    assert entries_from_corrections(SAID, SAID) == []


def test_files_of_one_conversation_and_of_many(tmp_path):
    one, listed, lines = tmp_path / "one.json", tmp_path / "listed.json", tmp_path / "lines.jsonl"
    one.write_text(json.dumps({"messages": RIGHT.messages()}, ensure_ascii=False), encoding="utf-8")
    save_conversations(listed, [SAID, RIGHT])
    lines.write_text(json.dumps({"messages": SAID.messages()}) + "\n", encoding="utf-8")
    assert (
        entries_from_corrections(one) == entries_from_corrections(RIGHT.messages()) == entries_from_corrections(RIGHT)
    )
    assert entries_from_corrections(one, lines) == entries_from_corrections(RIGHT, SAID)
    many = entries_from_corrections(listed)
    assert [(entry["conversation"], entry["turn"]) for entry in many] == [(n, t) for n in (1, 2) for t in (1, 2, 3)]


def test_the_entries_can_be_tuned_on(tokenizer):
    plain = entries_from_corrections(Conversation([Turn("Who?", "I.")]))
    assert is_entry(plain[0])
    assert len(InstructionDataset(plain, tokenizer)) == 1
    dataset = ConversationDataset(entries_from_corrections(RIGHT), tokenizer, format="moss", loss_on="last")
    assert len(dataset) == 3


def test_a_question_without_answer_is_none():
    open_end = RIGHT.with_turns([*RIGHT.turns, Turn("And then?")])
    assert entries_from_corrections(open_end) == entries_from_corrections(RIGHT)
    given = open_end.with_turns([*RIGHT.turns, Turn("And then?", "Stop.")])
    [entry] = entries_from_corrections(given, open_end)  # the model had said nothing; the person did
    assert entry["output"] == "Stop." and "model_response" not in entry


@pytest.mark.parametrize(
    ("corrected", "original", "message"),
    [
        (RIGHT.with_turns(RIGHT.turns[:2]), SAID, "conversation 1 has 2 turns, in the original 3"),
        (Conversation(RIGHT.turns), SAID, "the system message is not that of the original, 'Be brief.'"),
        (
            RIGHT.with_turns([*RIGHT.turns[:2], Turn("3 * 3?", "9")]),
            SAID,
            "conversation 1, turn 3: the user says '3 \\* 3\\?', in the original 'And 3",
        ),
        ([RIGHT, RIGHT], [SAID], "there are 2 corrected conversations, and 1 in the original"),
        (Conversation([Turn("a", "b", commands="Search")]), None, "conversation 1, turn 1 used tools"),
        ([], None, r"must be a conversation or a list of them, got \[\]"),
        ([{"talk": 1}], None, r"the conversations, number 1: has no known form; its keys are \['talk'\]"),
    ],
)
def test_what_cannot_be_used(corrected, original, message):
    with pytest.raises(ValueError, match=message):
        entries_from_corrections(corrected, original)


def test_there_must_be_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"talk\.json"):
        entries_from_corrections(tmp_path / "talk.json")
