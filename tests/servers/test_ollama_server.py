"""What Ollama is sent, and its own traps."""

import os
import subprocess
import sys

import pytest
from judge_server import JudgeServer, Said, closed_url, status

from gptlab.servers import OllamaServer, ServerError

QUESTION = [{"role": "user", "content": "这个回答怎么样？"}]
SCHEMA = {"type": "object", "properties": {"score": {"type": "integer"}}, "required": ["score"]}


def sent(**options):
    """Return the JSON of one chat."""
    with JudgeServer() as judge, OllamaServer("phi3", judge.url, **options) as server:
        server([{"role": "system", "content": "Be strict."}, *QUESTION])
        [request] = judge.requests
    assert request.path == "/api/chat"
    return request.body


def test_options_go_where_ollama_looks_for_them():
    body = sent(num_predict=64, temperature=0.5)
    assert body["options"] == {"temperature": 0.5, "seed": 123, "num_ctx": 2048, "num_predict": 64}
    assert body["think"] is False
    assert body["stream"] is True
    assert body["messages"] == [{"role": "system", "content": "Be strict."}, *QUESTION]
    assert not {"seed", "temperature", "num_ctx", "num_predict"} & set(body)


def test_what_is_none_is_left_to_ollama():
    body = sent(temperature=None, seed=None, num_ctx=None, think=None)
    assert body["options"] == {}
    assert "think" not in body
    assert "format" not in body


@pytest.mark.parametrize("format", ["json", SCHEMA])
def test_a_form_for_the_reply(format):
    assert sent(format=format)["format"] == format


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/", "/api/chat"])
def test_the_address_as_people_copy_it(ending):
    with JudgeServer("85") as judge, OllamaServer("phi3", judge.url + ending) as server:
        assert server(QUESTION) == "85"
        assert server.identity["url"] == judge.url


def test_without_an_address_ollamas_own_variable_says_it(monkeypatch):
    with JudgeServer("85") as judge:
        monkeypatch.setenv("OLLAMA_HOST", judge.url.removeprefix("http://").replace("127.0.0.1", "0.0.0.0"))
        with OllamaServer("phi3", None) as server:
            assert server(QUESTION) == "85"
    monkeypatch.delenv("OLLAMA_HOST")
    with OllamaServer("phi3", None) as server:
        assert server.url == "http://localhost:11434"


@pytest.mark.parametrize("read", [2048, 2040])
def test_a_question_that_fills_the_context_is_a_failure(read):
    with (
        JudgeServer(Said("85", prompt_tokens=read)) as judge,
        OllamaServer("phi3", judge.url) as server,
        pytest.raises(ServerError, match=f"read {read} tokens of num_ctx=2048.*a larger num_ctx") as caught,
    ):
        server(QUESTION)
    assert not caught.value.fatal
    assert not caught.value.passing
    assert len(judge.asked) == 1


@pytest.mark.parametrize(("read", "num_ctx"), [(2000, 2048), (1026, 2048), (2048, None)])
def test_a_question_that_fits_is_none(read, num_ctx):
    with (
        JudgeServer(Said("85", prompt_tokens=read)) as judge,
        OllamaServer("phi3", judge.url, num_ctx=num_ctx) as server,
    ):
        assert server([{"role": "user", "content": "word " * 1000}]) == "85"


def test_nobody_there_tells_how_to_start_it(naps):
    url = closed_url()
    with (
        OllamaServer("phi3", url, sleep=naps.append) as server,
        pytest.raises(
            ServerError, match=rf"^is Ollama running\? nothing answers at {url}; start it with: ollama serve"
        ),
    ):
        server(QUESTION)


def test_on_another_machine_it_has_to_listen_to_others(naps, elsewhere):
    with (
        OllamaServer("phi3", elsewhere, sleep=naps.append) as server,
        pytest.raises(ServerError, match="OLLAMA_HOST=0.0.0.0 ollama serve"),
    ):
        server(QUESTION)


def test_no_such_model_tells_how_to_fetch_it():
    with (
        JudgeServer(models=[]) as judge,
        OllamaServer("phi3", judge.url) as server,
        pytest.raises(ServerError, match=f"{judge.url} has no model 'phi3'; it has none; ollama pull phi3 fetches it"),
    ):
        server(QUESTION)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ((200, "application/json", '{"models": [{"name": "llama3:latest"}]}'), "it has llama3:latest"),
        ((404, "text/plain", "404 page not found"), "it does not say which it has"),
    ],
)
def test_no_such_model_behind_a_gateway_that_lists_them_in_its_own_way(saying, tags, words):
    missing = (404, "application/json", """{"error": "model 'phi3' not found"}""")
    url = saying(lambda path: tags if path == "/api/tags" else missing)
    with (
        OllamaServer("phi3", url) as server,
        pytest.raises(ServerError, match=f"has no model 'phi3'; {words}; ollama pull phi3 fetches it"),
    ):
        server(QUESTION)


def test_a_key_that_the_client_sends_is_not_repeated(monkeypatch):
    monkeypatch.setenv("OLLAMA_API_KEY", "secret-1")
    with (
        JudgeServer(always=status(401, "not with secret-1")) as judge,
        OllamaServer("phi3", judge.url) as server,
        pytest.raises(ServerError, match=r"401: not with \*\*\*; the variable OLLAMA_API_KEY") as caught,
    ):
        server(QUESTION)
    assert "secret-1" not in f"{caught.value} {server!r} {server.identity}"


def test_a_proxy_that_the_client_cannot_use_does_not_keep_it_from_being_imported():
    """At its import the client makes one of its own, for the system's proxy, whether that is used or not."""
    code = (
        "import os, sys; sys.modules['socksio'] = None\n"
        "from gptlab.servers import OllamaServer\n"
        "OllamaServer('phi3').close(); OllamaServer('phi3').close()\n"
        "assert os.environ['NO_PROXY'] == 'example.com' and 'no_proxy' not in os.environ"
    )
    variables = {"ALL_PROXY": "socks5://127.0.0.1:9", "http_proxy": "socks5h://127.0.0.1:9", "NO_PROXY": "example.com"}
    subprocess.run([sys.executable, "-c", code], env=os.environ | variables, check=True)


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "ollama", None)
    with pytest.raises(ImportError, match=r'pip install "gptlab\[judge\]"'):
        OllamaServer("phi3")


def test_a_context_without_room():
    with pytest.raises(ValueError, match="num_ctx must be > 16, got 16"):
        OllamaServer("phi3", num_ctx=16)


@pytest.mark.parametrize("options", [{"num_ctx": "2048"}, {"num_ctx": 2048.0}, {"num_predict": True}])
def test_settings_that_are_no_whole_numbers(options):
    [(name, value)] = options.items()
    with pytest.raises(ValueError, match=f"{name} must be a whole number, or None, got {value!r}"):
        OllamaServer("phi3", **options)


def test_no_address():
    with pytest.raises(ValueError, match="'ftp://localhost' is no address"):
        OllamaServer("phi3", "ftp://localhost")
