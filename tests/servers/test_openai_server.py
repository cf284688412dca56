"""What a server of OpenAI's API is sent, and where its key does not go."""

import json
import logging
import sys

import pytest
from judge_server import JudgeServer, Said, status

from gptlab.servers import Cached, OpenAIServer, ServerError

QUESTION = [{"role": "user", "content": "这个回答怎么样？"}]
SCHEMA = {"type": "object", "properties": {"score": {"type": "integer"}}, "required": ["score"]}
KEY = "sk-proj-0123456789"


def sent(**options):
    """Return the one request of a chat."""
    with JudgeServer() as judge, OpenAIServer("phi3", judge.url, **options) as server:
        server(QUESTION)
        [request] = judge.requests
    assert request.path == "/v1/chat/completions"
    return request


def test_the_chat_as_the_api_wants_it():
    body = sent(max_tokens=64).body
    assert body == {
        "model": "phi3",
        "messages": QUESTION,
        "stream": True,
        "temperature": 0.0,
        "seed": 123,
        "max_tokens": 64,
    }


def test_what_is_none_is_left_to_the_server():
    assert set(sent(temperature=None, seed=None).body) == {"model", "messages", "stream"}


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        ("json", {"type": "json_object"}),
        (SCHEMA, {"type": "json_schema", "json_schema": {"name": "reply", "schema": SCHEMA, "strict": False}}),
    ],
)
def test_a_form_for_the_reply(format, expected):
    assert sent(format=format).body["response_format"] == expected


def test_a_schema_without_other_keys_is_strict():
    schema = SCHEMA | {"additionalProperties": False}
    assert sent(format=schema).body["response_format"]["json_schema"]["strict"] is True


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
def test_the_address_as_people_copy_it(ending):
    with JudgeServer("85") as judge, OpenAIServer("phi3", judge.url + ending) as server:
        assert server(QUESTION) == "85"
        assert server.identity["url"] == f"{judge.url}/v1"


def test_an_address_of_others_is_taken_as_it_is(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for url in ("https://api.deepseek.com", "https://open.bigmodel.cn/api/paas/v4"):
        with OpenAIServer("glm", url) as server:
            assert server.url == url


# ---- the key


def test_on_this_machine_no_key_is_needed():
    assert sent().headers["authorization"] == "Bearer none"


def test_the_key_is_sent_and_kept_nowhere(monkeypatch, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    with JudgeServer(key=KEY) as judge, OpenAIServer("phi3", judge.url, api_key_env="MY_KEY") as server:
        cached = Cached(server, tmp_path / "replies.jsonl")
        assert cached(QUESTION) == "85"
        assert judge.requests[0].headers["authorization"] == f"Bearer {KEY}"
    told = f"{server!r} {server.identity} {caplog.text} {(tmp_path / 'replies.jsonl').read_text(encoding='utf-8')}"
    assert KEY not in told


def test_a_refused_key_is_named_by_its_variable(monkeypatch, caplog):
    """The server repeats the key, as some do."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with (
        JudgeServer(key="another") as judge,
        OpenAIServer("phi3", judge.url) as server,
        pytest.raises(ServerError, match=r"401: Incorrect API key provided: \*\*\*; .*OPENAI_API_KEY holds") as caught,
    ):
        server(QUESTION)
    assert caught.value.fatal
    assert caught.value.__cause__ is caught.value.__context__ is None  # the client's own error holds the key
    assert KEY not in f"{caught.value} {caplog.text}"


def test_a_server_here_that_wants_a_key():
    with (
        JudgeServer(key=KEY) as judge,
        OpenAIServer("phi3", judge.url) as server,
        pytest.raises(ServerError, match="OPENAI_API_KEY holds the key, and is not set"),
    ):
        server(QUESTION)


def test_elsewhere_a_key_is_needed():
    with pytest.raises(ServerError, match=r"api.openai.com/v1 needs a key: .*variable OPENAI_API_KEY") as caught:
        OpenAIServer("gpt-4o-mini")
    assert caught.value.fatal


@pytest.mark.parametrize("host", ["192.168.1.5", "10.0.0.2", "[fd00::1]"])
def test_in_a_private_network_no_key_is_needed(host):
    with OpenAIServer("qwen", f"http://{host}:8000") as server:
        assert server.url == f"http://{host}:8000/v1"
    with pytest.raises(ServerError, match="or any word if the server asks for none"):
        OpenAIServer("qwen", "http://judge.example:8000")


@pytest.mark.parametrize("key", ["“sk-1”", "sk 1", "sk\x001"])
def test_a_key_that_is_none_is_not_repeated(monkeypatch, key):
    monkeypatch.setattr("os.environ", {"OPENAI_API_KEY": key})
    with pytest.raises(ServerError, match="OPENAI_API_KEY holds characters that are in no key$"):
        OpenAIServer("gpt-4o-mini")


# ---- what only these servers say


def test_an_empty_account_is_not_waited_for():
    with (
        JudgeServer(always=status(429, "You exceeded your current quota")) as judge,
        OpenAIServer("phi3", judge.url) as server,
        pytest.raises(ServerError, match="exceeded your current quota; the account has no credit left") as caught,
    ):
        server(QUESTION)
    assert caught.value.fatal
    assert len(judge.asked) == 1


def test_a_content_filter_is_a_failure():
    with (
        JudgeServer(Said("I", reason="content_filter")) as judge,
        OpenAIServer("phi3", judge.url) as server,
        pytest.raises(ServerError, match="stopped the reply of phi3; as its reason it gives 'content_filter'"),
    ):
        server(QUESTION)
    assert len(judge.asked) == 1


def test_an_overloaded_machine_is_asked_again(naps):
    replies = iter([Said("8", reason="insufficient_system_resource"), Said("85")])
    with (
        JudgeServer(lambda question: next(replies)) as judge,
        OpenAIServer("phi3", judge.url, sleep=naps.append) as server,
    ):
        assert server(QUESTION) == "85"
    assert len(naps) == 1


def chunk(text, finish=None):
    return {"id": "1", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


def stream(*chunks):
    return "".join(f"data: {json.dumps(one)}\n\n" for one in chunks)


@pytest.fixture
def reply_to(saying, naps):
    """Return what a server says whose body is this."""

    def reply_to(body, kind="text/event-stream"):
        with OpenAIServer("qwen", saying(lambda path: (200, kind, body)), retries=1, sleep=naps.append) as server:
            return server(QUESTION)

    return reply_to


@pytest.mark.parametrize("not_yet", [None, "", "null"])
def test_a_reason_that_is_none_is_not_the_end(reply_to, not_yet):
    assert reply_to(stream(chunk("8", not_yet), chunk("5", "stop"))) == "85"
    with pytest.raises(ServerError, match="broke off after 1 characters") as caught:
        reply_to(stream(chunk("8", not_yet)))
    assert caught.value.passing


@pytest.mark.parametrize(
    ("finish", "reason"), [("eos", "stop"), ("end_turn", "stop"), ("max_tokens", "length"), ("model_length", "length")]
)
def test_the_words_of_several_makers(reply_to, finish, reason):
    assert reply_to(stream(chunk("85", finish))).reason == reason


@pytest.mark.parametrize(("finish", "tries"), [("abort", 2), ("error", 2), ("sensitive", 1), ("whatever", 1)])
@pytest.mark.parametrize("before", [None, "stop"])
def test_any_other_reason_is_a_failure_that_names_it(reply_to, naps, before, finish, tries):
    with pytest.raises(ServerError, match=f"stopped the reply of qwen; .* '{finish}'") as caught:
        reply_to(stream(chunk("8", before), chunk("", finish)))
    assert len(naps) == tries - 1
    assert caught.value.passing == (tries > 1)


def test_an_error_after_the_reason_is_a_failure_too(reply_to):
    with pytest.raises(ServerError, match="broke off: out of memory"):
        reply_to(stream(chunk("8", "stop"), {"error": {"message": "out of memory"}}))


def test_a_reply_in_parts(reply_to):
    thoughts = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    parts = [thoughts, {"type": "text", "text": "8"}, {"type": "text", "text": "5"}]
    assert reply_to(stream(chunk(parts, "stop"), {"id": "1", "choices": None})) == "85"
    with pytest.raises(ServerError, match=r"that is no text: \[85\]"):
        reply_to(stream(chunk([85], "stop")))


@pytest.mark.parametrize("finish", ["stop", None])
def test_a_server_that_knows_no_streams(reply_to, finish):
    whole = {"id": "1", "choices": [{"index": 0, "message": {"role": "assistant", "content": "八十五"}}]}
    whole["choices"][0] |= {"finish_reason": finish} if finish else {}
    assert reply_to(json.dumps(whole), "application/json") == "八十五"
    assert reply_to(stream(chunk("85", "stop")), "application/json") == "85"  # it only says that it is JSON
    with pytest.raises(ServerError, match="sent no reply, but .*out of memory"):
        reply_to('{"error": {"message": "out of memory"}}', "application/json")


def test_the_connection_is_used_again_after_the_end_mark():
    """The client stops reading there; a new connection for each question would cost an encrypted one two journeys."""
    with JudgeServer() as judge, OpenAIServer("phi3", judge.url) as server:
        for _ in range(5):
            server(QUESTION)
        assert judge.connections == 1


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(ImportError, match=r'pip install "gptlab\[judge\]"'):
        OpenAIServer("gpt-4o-mini")
