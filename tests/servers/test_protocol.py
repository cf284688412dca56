import copy
import json
import pickle
import subprocess
import sys

import pytest

from gptlab.servers import Reply, Scripted, Server, ServerError, protocol
from gptlab.servers.protocol import check_messages, question, reply_checked


def test_importing_the_servers_brings_neither_clients_nor_torch():
    code = "import gptlab.servers, json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert not {"openai", "ollama", "torch", "httpx", "numpy"} & set(json.loads(done.stdout))


def test_a_reply_is_text_that_knows_how_it_ended():
    reply = Reply("八十五", "length")
    assert reply == "八十五"
    assert (reply.reason, Reply("85").reason) == ("length", "stop")
    for again in (pickle.loads(pickle.dumps(reply)), copy.deepcopy(reply)):
        assert (again, again.reason) == ("八十五", "length")


def test_an_error_is_of_the_kind_that_commands_tell_in_a_line():
    assert isinstance(ServerError("no"), OSError)
    assert (ServerError("no").fatal, ServerError("no", fatal=True).fatal) == (False, True)
    assert (ServerError("no").passing, ServerError("no", passing=True).passing) == (False, True)
    assert str(ServerError("no")) == "no"


def test_what_is_a_server():
    assert isinstance(Scripted([]), Server)
    assert not isinstance(len, Server)


def test_messages_are_sent_without_what_else_they_hold():
    messages = [{"role": "system", "content": ""}, {"role": "user", "content": "你好", "time": 3}]
    assert check_messages(messages) == [{"role": "system", "content": ""}, {"role": "user", "content": "你好"}]


USER = {"role": "user", "content": "?"}


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], r"at least one message, got \[\]"),
        ("How good is it?", "must be a list.*got 'How good"),
        (USER, "must be a list"),
        ([USER, "and?"], "message 2 must have a role.*got 'and"),
        ([{"role": "judge", "content": "?"}], "message 1 must have a role, one of system, user, assistant"),
        ([{"role": "user"}], "content of message 1 must be text, got None"),
        ([{"role": "user", "content": "\ud83d"}], r"message 1: UTF-8 cannot write '\\ud83d'"),
        ([{"role": "user", "content": " \n"}], "last message must be the user's, and not empty"),
        ([USER, {"role": "assistant", "content": "85"}], "last message must be the user's"),
    ],
)
def test_what_is_no_question(messages, words):
    with pytest.raises(ValueError, match=words):
        check_messages(messages)


def test_a_question_is_named_by_how_it_begins():
    assert question([{"role": "user", "content": "给定输入\n\n`你好`"}]) == "给定输入 `你好`"
    assert question([{"role": "user", "content": "x" * 100}]) == "x" * 80 + "..."


def test_a_reply_keeps_its_reason():
    assert reply_checked(Reply("85", "length"), who="judge").reason == "length"
    assert reply_checked("85", "length", who="judge").reason == "length"


def test_replies_that_are_none():
    with pytest.raises(TypeError, match="judge must reply with text, got 85"):
        reply_checked(85, who="judge")
    with pytest.raises(ServerError, match="judge sent an empty reply$"):
        reply_checked("\n", who="judge")
    with pytest.raises(ServerError, match="cut short before it said anything"):
        reply_checked("", "length", who="judge")
    with pytest.raises(ServerError, match=f"more than {protocol.LONGEST_REPLY:,} characters"):
        reply_checked("8" * (protocol.LONGEST_REPLY + 1), who="judge")


def test_half_a_character_is_no_reply():
    with pytest.raises(ServerError, match=r"phi3 sent a reply that is no text: UTF-8 cannot write '\\ud83d'"):
        reply_checked("Yes \ud83d", who="phi3")
