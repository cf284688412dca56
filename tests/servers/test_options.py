"""The same server with other options."""

import gc

import pytest
from judge_server import JudgeServer

from gptlab.servers import LocalModel, OllamaServer, OpenAIServer, Recorded, Scripted, with_options
from gptlab.servers.cache import Cached

QUESTION = [{"role": "user", "content": "Which tasks come next?"}]
SAMPLED = {"temperature": 0.7, "top_p": 0.5, "presence_penalty": 2, "max_tokens": 64, "stop": ["\n16"], "seed": 5}


def test_ollama_is_told_in_its_own_words():
    with JudgeServer() as judge, OllamaServer("phi3", judge.url) as server:
        with_options(server, **SAMPLED)(QUESTION)
        server(QUESTION)
        sampled, plain = (request.body["options"] for request in judge.requests)
    assert sampled.pop("num_predict") == 64
    assert sampled == {**{k: v for k, v in SAMPLED.items() if k != "max_tokens"}, "num_ctx": 2048}
    assert plain == {"temperature": 0.0, "seed": 123, "num_ctx": 2048}


def test_openais_protocol_is_told_in_its_own_words():
    with JudgeServer() as judge, OpenAIServer("phi3", judge.url) as server:
        with_options(server, **SAMPLED)(QUESTION)
        body = judge.requests[0].body
    assert SAMPLED.items() <= body.items()


@pytest.mark.parametrize("kind", [OllamaServer, OpenAIServer])
def test_the_connection_outlives_the_server_that_it_was_made_with(kind):
    with JudgeServer("85") as judge:
        server = with_options(kind("phi3", judge.url), temperature=1.0)
        gc.collect()
        assert server(QUESTION) == "85"
        server.close()


def test_a_local_model_takes_another_length(checkpoint_dir):
    server = LocalModel(checkpoint_dir, max_new_tokens=9)
    short = with_options(server, max_tokens=3, temperature=0.7)
    assert (server.max_new_tokens, short.max_new_tokens) == (9, 3)
    assert short.identity["options"] == {"max_new_tokens": 3} != server.identity["options"]
    assert short.checkpoint is server.checkpoint


def test_where_options_decide_nothing_the_server_stays(tmp_path):
    script = Scripted(lambda asked: "85")
    cached = Cached(script, tmp_path / "replies.jsonl")
    cached(QUESTION)
    for server in (script, cached, Recorded(tmp_path / "replies.jsonl"), print):
        assert with_options(server, temperature=0.7) is server


def test_two_settings_of_one_model_are_recorded_in_one_file(tmp_path):
    with JudgeServer("85") as judge, OllamaServer("phi3", judge.url) as server:
        cached = Cached(server, tmp_path / "replies.jsonl")
        with_options(cached, temperature=0.7)(QUESTION)
        cached([{"role": "user", "content": "Is it classification?"}])
    recorded = with_options(Recorded(tmp_path / "replies.jsonl"), temperature=0.7)
    assert recorded(QUESTION) == "85"


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"heat": 1}, "no option is called 'heat'; there are temperature, top_p"),
        ({"top_p": 0.0}, r"top_p must be a number in \(0, 1\], or None, got 0.0"),
        ({"presence_penalty": 3}, "presence_penalty must be .* got 3"),
        ({"stop": "Task"}, "stop must be a list of 1 to 4 texts, or None, got 'Task'"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop must be"),
        ({"max_tokens": 1.5}, "max_tokens must be a whole number, or None, got 1.5"),
    ],
)
def test_options_that_are_none(wrong, says):
    server = OllamaServer("phi3")
    with pytest.raises(ValueError, match=says):
        with_options(server, **wrong)
    server.close()
