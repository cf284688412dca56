"""Conversations, the forms they come in, and what is wrong with some of them."""

import json

import pytest
from conversations import TALK, WITH_TOOLS

from gptlab.data import (
    Conversation,
    Turn,
    as_conversation,
    load_conversations,
    load_entries,
    load_entries_or_conversations,
    save_conversations,
    to_moss,
)

MESSAGES = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "Bye"},
    {"role": "assistant", "content": "Ciao"},
]
SAID = Conversation([Turn("Hi", "Hello!"), Turn("Bye", "Ciao")], "Be kind.")
SHAREGPT = [
    {"from": {"user": "human", "assistant": "gpt"}.get(m["role"], "system"), "value": m["content"]} for m in MESSAGES
]


@pytest.mark.parametrize(
    "value",
    [
        SAID,
        MESSAGES,
        {"messages": MESSAGES},
        {"messages": MESSAGES[1:], "system": "Be kind."},
        {"id": "a", "conversations": SHAREGPT},
        {"conversations": SHAREGPT[1:], "system": "Be kind."},
        {"instruction": "Bye", "input": "", "output": "Ciao", "history": [["Hi", "Hello!"]], "system": "Be kind."},
    ],
)
def test_every_form_is_the_same_conversation(value):
    assert as_conversation(value) == SAID
    assert SAID.messages() == MESSAGES


def test_entries_and_records_of_one_turn():
    entry = {"instruction": "Add.", "input": "1 2", "output": "3"}
    assert as_conversation(entry).turns == (Turn("Add.\n1 2", "3"),)
    dolly = {"instruction": "Add.", "context": "1 2", "response": "3", "category": "closed_qa"}
    assert as_conversation(dolly) == as_conversation(entry)
    chatglm = {"prompt": "Bye", "response": "Ciao", "history": [["Hi", "Hello!"]]}
    assert as_conversation(chatglm).turns == SAID.turns
    assert not as_conversation({"instruction": "Add."}).answered


@pytest.mark.parametrize("talk", [TALK, WITH_TOOLS])
def test_moss_there_and_back(talk, tmp_path):
    record = to_moss(talk)
    assert as_conversation(record) == talk
    assert record["chat"]["turn_1"]["Human"] == f"<|Human|>: {talk.turns[0].user}<eoh>\n"
    assert list(record["chat"]["turn_1"]) == ["Human", "Inner Thoughts", "Commands", "Tool Responses", "MOSS"]
    save_conversations(tmp_path / "talks.json", [talk, SAID])
    assert load_conversations(tmp_path / "talks.json") == [talk, SAID]


def test_files_of_several_forms(tmp_path):
    path = tmp_path / "talks.jsonl"
    records = [to_moss(TALK), {"messages": MESSAGES}, {"conversations": SHAREGPT}]
    path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records), encoding="utf-8")
    assert load_conversations(path) == [TALK, SAID, SAID]
    dolly = [{"instruction": "Add.", "context": "", "response": "3", "category": "qa"}]
    (tmp_path / "dolly.jsonl").write_text(json.dumps(dolly[0]), encoding="utf-8")
    assert load_entries(tmp_path / "dolly.jsonl") == [
        {"instruction": "Add.", "input": "", "output": "3", "category": "qa"}
    ]


def broken(change):
    record = to_moss(TALK)
    change(record)
    return record


def message(role, content):
    return {"role": role, "content": content}


WRONG = [
    ([], "needs at least one turn"),
    (MESSAGES[2:], "message 1 is from the assistant; a conversation begins with the user"),
    ([MESSAGES[1], MESSAGES[3]], "messages 1 and 2 are both from the user"),
    ([*MESSAGES[:3], MESSAGES[2]], "messages 3 and 4 are both from the assistant"),
    ([*MESSAGES[:3], MESSAGES[0]], "message 4 is from the system, which may only speak first"),
    ([message("tool", "x")], "message 1 has the role 'tool'; allowed are system, user"),
    ([message(["user"], "x")], r"message 1 has the role \['user'\]"),
    ([message("user", " \n")], "message 1 is empty"),
    ([message("user", 3)], "message 1 must be text, got 3"),
    ([message("user", "a\ud83d")], "message 1: character 1 is"),
    ([{"role": "user"}], "message 1 must be an object with 'role' and 'content'"),
    ({"conversations": "Hi"}, "messages must be a list, got a str"),
    ({"text": "Hi"}, r"has no known form; its keys are \['text'\]"),
    ("Hi", "must be a conversation, messages or an object, got 'Hi'"),
    ({"instruction": "a", "output": "b", "history": [["a"]]}, "'history' must be a list of pairs"),
    ({"instruction": "a", "output": "b", "history": [["a", None]]}, "turn 1 of 2 has no answer"),
    (broken(lambda r: r.update(num_turns=2)), "num_turns is 2, but the chat has 3 turns"),
    (broken(lambda r: r.update(chat=[])), "'chat' must be an object"),
    (broken(lambda r: r["chat"].update(turn_9=r["chat"].pop("turn_2"))), "the chat has no 'turn_2'"),
    (broken(lambda r: r["chat"]["turn_2"].pop("MOSS")), r"turn_2: 'MOSS' must be '<\|MOSS\|>: ...<eom>.*got None"),
    (broken(lambda r: r["chat"]["turn_1"].update(Human="Hi")), "turn_1: 'Human' must be .*got 'Hi'"),
    (broken(lambda r: r["chat"]["turn_1"].update(MOSS="<|MOSS|>: <eom>\n")), "turn 1, the assistant's answer is empty"),
]


@pytest.mark.parametrize(("value", "error"), WRONG, ids=[error for _, error in WRONG])
def test_what_is_wrong_is_said(value, error):
    with pytest.raises(ValueError, match=f"^record 4: .*{error}"):
        as_conversation(value, "record 4")


def test_doors_of_a_conversation():
    with pytest.raises(ValueError, match="turn 1 of 2 has no answer; only the last may be without"):
        Conversation([Turn("a"), Turn("b", "c")])
    with pytest.raises(ValueError, match="turn 2 used tools, which messages have no place for"):
        WITH_TOOLS.messages()
    with pytest.raises(ValueError, match="the last turn has no answer, which MOSS's form needs"):
        to_moss(Conversation([Turn("a")]))


def test_files_that_are_wrong(tmp_path):
    path = tmp_path / "talks.json"
    path.write_text(json.dumps([{"messages": MESSAGES}, {"messages": MESSAGES[2:]}]), encoding="utf-8")
    with pytest.raises(ValueError, match=r"talks.json: record 2: message 1 is from the assistant"):
        load_conversations(path)
    left_out = []
    assert load_conversations(path, left_out=left_out) == [SAID]
    assert [number for number, _ in left_out] == [2]
    path.write_bytes(b"\xff\xfe[]")
    with pytest.raises(ValueError, match="is not UTF-8"):
        load_conversations(path)
    path.write_text(json.dumps([{"messages": MESSAGES[2:]}]), encoding="utf-8")
    with pytest.raises(ValueError, match="holds no conversations"):
        load_conversations(path, left_out=[])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_conversations(tmp_path / "nowhere.json")


def test_wizardlms_files_old_and_new(tmp_path):
    (tmp_path / "70k.json").write_text(json.dumps([{"instruction": "Hi", "output": "Hello!"}]), encoding="utf-8")
    assert load_entries(tmp_path / "70k.json") == [{"instruction": "Hi", "output": "Hello!"}]
    newer = [{"idx": "a1", "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]}]
    (tmp_path / "196k.json").write_text(json.dumps(newer), encoding="utf-8")
    assert load_conversations(tmp_path / "196k.json")[0].turns == (Turn("Hi", "Hello!"),)


def test_a_file_is_of_entries_only_if_all_are(tmp_path):
    path, entry = tmp_path / "mixed.json", {"instruction": "a", "output": "b"}
    for records, conversations in [
        ([entry, entry], False),
        ([entry, MESSAGES], True),
        ([MESSAGES, entry], True),
        ([entry, entry | {"system": "Be kind."}], True),
        ([entry | {"history": [["a", "b"]]}, entry], True),
    ]:
        path.write_text(json.dumps(records), encoding="utf-8")
        found = load_entries_or_conversations(path)
        assert all(isinstance(each, Conversation) == conversations for each in found)
    assert as_conversation(entry | {"system": "Be kind."}).system == "Be kind."
