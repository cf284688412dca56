"""Every fault of a server, through both official clients."""

import gc
import json
import logging
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from judge_server import (
    JudgeServer,
    Said,
    closed_url,
    cut_off,
    cut_off_after_the_end,
    drip,
    error_in_stream,
    half_a_line,
    hang,
    hang_in_the_middle,
    no_end,
    status,
    web_page,
)

from gptlab.servers import OpenAIServer, ServerError, remote

QUESTION = [{"role": "user", "content": "How good is it?"}]


def test_a_reply_is_the_text_as_the_model_wrote_it(ask):
    with JudgeServer(" 85\n") as judge:
        reply = ask(judge.url)
    assert reply == " 85\n"
    assert reply.reason == "stop"


@pytest.mark.parametrize("text", ["这个回答很好，我给 85 分。", "<think>\nHm, 20?\n</think>\n\n85", "👍 85"])
def test_other_languages_and_thoughts_arrive_whole(ask, text):
    with JudgeServer(lambda question: f"{question} {text}") as judge:
        assert ask(judge.url, "这个回答怎么样？") == f"这个回答怎么样？ {text}"


def test_thoughts_in_a_field_of_their_own_are_no_part_of_the_reply(ask):
    with JudgeServer(Said("85", thinking="perhaps 20")) as judge:
        assert ask(judge.url) == "85"


def test_a_reply_that_was_cut_short_says_so(ask):
    with JudgeServer(Said("I would say that", reason="length")) as judge:
        assert ask(judge.url).reason == "length"


def test_seed_and_temperature_make_it_repeatable(ask):
    with JudgeServer() as judge:
        ask(judge.url, seed=5, temperature=0)
        [request] = judge.requests
    sent = request.body.get("options", request.body)
    assert (sent["seed"], sent["temperature"]) == (5, 0.0)


# ---- failures that pass


@pytest.mark.parametrize(
    "fault",
    [*map(status, (429, 503, 500, 408)), half_a_line(), no_end(), cut_off(), error_in_stream(), web_page()],
    ids=lambda fault: f"{fault.kind} {fault.code}",
)
def test_what_passes_is_asked_again(ask, naps, fault):
    with JudgeServer("85", faults=[fault, fault]) as judge:
        assert ask(judge.url) == "85"
        assert len(judge.asked) == 3
    assert len(naps) == 2
    assert naps[0] < naps[1]


def test_a_server_that_says_how_long_to_wait_is_left_alone_for_so_long(ask, naps):
    with JudgeServer(faults=[status(429, retry_after="7"), status(503)]) as judge:
        ask(judge.url)
    assert 7 <= naps[0] < 9
    assert naps[1] < 2  # the second reply said nothing about it


def test_a_server_that_wants_an_hour_is_not_waited_for(ask, naps):
    with (
        JudgeServer(always=status(429, retry_after="3600")) as judge,
        pytest.raises(ServerError, match=r"429.*left alone for 3600 s") as caught,
    ):
        ask(judge.url)
    assert naps == []
    assert not caught.value.fatal


def test_a_server_that_comes_back_is_found_again(ask, naps):
    url = closed_url()
    port = int(url.rpartition(":")[2])
    servers = []

    def wait(seconds):
        servers.append(JudgeServer("85", port=port).start())

    assert ask(url, sleep=wait) == "85"
    servers[0].stop()


# ---- failures that stay


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (status(500, "llama runner process has terminated"), r"answered 500: llama runner process has terminated"),
        (status(503), r"answered 503: server busy, please try again"),
        (half_a_line(), r"is no reply of (Ollama|OpenAI's API) \(JSONDecodeError"),
        (no_end(), r"broke off after 1 characters"),
        (cut_off(), r"broke off: (peer closed connection|Server disconnected|incomplete)"),
        (error_in_stream("CUDA error: out of memory"), r"broke off: CUDA error: out of memory"),
        (web_page(), r"is no reply of (Ollama|OpenAI's API)"),
    ],
    ids=lambda value: value.kind if hasattr(value, "kind") else "",
)
def test_a_reply_that_stays_broken_is_a_failure_of_this_question(ask, fault, words):
    with (
        JudgeServer("85", always=fault) as judge,
        pytest.raises(ServerError, match=rf"{judge.url}.*{words}.*asked 4 times") as caught,
    ):
        ask(judge.url)
    assert not caught.value.fatal
    assert len(judge.asked) == 4


def test_what_a_server_says_is_shortened_to_a_line(ask):
    said = "Traceback (most recent call last):\n  File ...\n" * 100
    with JudgeServer(always=status(400, said)) as judge, pytest.raises(ServerError, match="Traceback") as caught:
        ask(judge.url)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_an_error_without_a_word(ask):
    with JudgeServer(always=status(400, "")) as judge, pytest.raises(ServerError, match="answered 400: "):
        ask(judge.url)


def test_without_retries_it_is_asked_once(ask):
    with JudgeServer(always=status(500)) as judge, pytest.raises(ServerError, match="answered 500"):
        ask(judge.url, retries=0)
    assert len(judge.asked) == 1


@pytest.mark.parametrize(
    "fault", [hang(), hang_in_the_middle(), drip(5), drip(5, whole_lines=False)], ids=lambda f: f.kind
)
def test_a_reply_has_to_be_whole_in_time(ask, fault):
    began = time.monotonic()
    with (
        JudgeServer("85", always=fault) as judge,
        pytest.raises(ServerError, match=r"no whole reply in 0.2 s; a larger timeout.*asked 2 times") as caught,
    ):
        ask(judge.url, timeout=0.2)
    assert time.monotonic() - began < 3
    assert not caught.value.fatal
    assert caught.value.passing
    assert len(judge.asked) == 2  # and not four times the time-out


def test_a_slow_reply_within_the_time_is_fine(ask):
    with JudgeServer("85", faults=[drip(0.3)]) as judge:
        assert ask(judge.url).endswith("5")


def test_a_connection_that_breaks_after_the_end_does_no_harm(ask, naps):
    with JudgeServer("85", always=cut_off_after_the_end()) as judge:
        assert ask(judge.url) == "85"
        assert ask.opened[0](QUESTION) == "85"
    assert naps == []


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_reply_is_a_failure(ask, text):
    with JudgeServer(text) as judge, pytest.raises(ServerError, match="phi3.*sent an empty reply$") as caught:
        ask(judge.url)
    assert not caught.value.fatal
    assert len(judge.asked) == 1


def test_an_empty_reply_that_was_cut_short_asks_for_more_tokens(ask):
    with JudgeServer(Said("", "length")) as judge, pytest.raises(ServerError, match="allow more tokens"):
        ask(judge.url)


@pytest.mark.parametrize("pieces", [1, 100])
def test_ten_megabytes_are_given_up(ask, pieces):
    text = "八" * 3_400_000
    with (
        JudgeServer(text, pieces=pieces) as judge,
        pytest.raises(ServerError, match="more than 1,000,000 characters") as caught,
    ):
        ask(judge.url)
    assert not caught.value.fatal
    assert len(judge.asked) == 1


def test_bytes_that_are_no_text_of_the_reply_have_an_end_too(ask, monkeypatch):
    monkeypatch.setattr(remote, "MOST_BYTES", 10_000)
    thoughts = Said("85", thinking="hm " * 10_000)
    with JudgeServer(thoughts) as judge, pytest.raises(ServerError, match="was given up"):
        ask(judge.url)


def test_a_question_that_the_server_cannot_take_is_not_asked_again(ask):
    with (
        JudgeServer(always=status(400, "the prompt is longer than the context")) as judge,
        pytest.raises(ServerError, match="answered 400: the prompt is longer than the context") as caught,
    ):
        ask(judge.url)
    assert not caught.value.fatal
    assert not caught.value.passing
    assert len(judge.asked) == 1


# ---- failures after which nothing else need be asked


def test_nobody_there(ask, naps):
    url = closed_url()
    with pytest.raises(ServerError, match=f"running\\? nothing answers at {url}.*asked 4 times") as caught:
        ask(url)
    assert caught.value.fatal
    assert len(naps) == 3


def test_no_such_host(ask, elsewhere):
    with pytest.raises(ServerError, match=rf"nothing answers at {elsewhere}.*\(.*not known: .*judge.invalid") as caught:
        ask(elsewhere, **({"api_key_env": "HOME"} if ask.kind is OpenAIServer else {}))
    assert caught.value.fatal


def test_no_such_model(ask):
    with (
        JudgeServer(models=["llama3:latest", "qwen2:7b"]) as judge,
        pytest.raises(ServerError, match="has no model 'phi3'; it has llama3:latest, qwen2:7b") as caught,
    ):
        ask(judge.url)
    assert caught.value.fatal
    assert len(judge.asked) == 1


def test_of_many_models_ten_are_named(ask):
    names = [f"model{number:02d}" for number in range(30)]
    with JudgeServer(models=names) as judge, pytest.raises(ServerError, match=r"model09 and 20 more"):
        ask(judge.url)


def test_something_else_listens_there(ask):
    with (
        JudgeServer() as judge,
        pytest.raises(ServerError, match="answered 404: 404 page not found; is .* address") as caught,
    ):
        ask(f"{judge.url}/somewhere")
    assert caught.value.fatal


def test_a_404_about_a_model_that_is_there(ask):
    with (
        JudgeServer(always=status(404, "no such adapter")) as judge,
        pytest.raises(ServerError, match="no such adapter"),
    ):
        ask(judge.url)


@pytest.mark.parametrize("code", [401, 402, 403])
def test_who_may_not_ask_is_told_once(ask, code):
    with JudgeServer(always=status(code, "no")) as judge, pytest.raises(ServerError, match=f"{code}: no;") as caught:
        ask(judge.url)
    assert caught.value.fatal
    assert len(judge.asked) == 1


# ---- the environment


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_not_asked_through_a_proxy(ask, monkeypatch, name, host):
    monkeypatch.setenv(name, "socks5://127.0.0.1:9" if name == "ALL_PROXY" else closed_url())
    with JudgeServer("85") as judge:
        assert ask(judge.url.replace("127.0.0.1", host)) == "85"


def test_a_proxy_that_does_not_answer_is_named(ask, monkeypatch):
    proxy = closed_url()
    monkeypatch.setenv("HTTP_PROXY", proxy.replace("http://", "http://me:secret@"))
    monkeypatch.setenv("KEY", "sk-1")
    with pytest.raises(ServerError, match=r"http://judge\.example.*through a proxy.*NO_PROXY") as caught:
        ask("http://judge.example", **({"api_key_env": "KEY"} if ask.kind is OpenAIServer else {}))
    assert "secret" not in str(caught.value)


def test_a_proxy_of_an_unknown_kind_is_named(ask, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks://me:secret@127.0.0.1:1080")
    monkeypatch.setenv("KEY", "sk-1")
    with pytest.raises(ServerError, match=r"cannot be asked: .*socks.*through a proxy") as caught:
        ask("http://judge.example", **({"api_key_env": "KEY"} if ask.kind is OpenAIServer else {}))
    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None  # which holds the proxy's password


def test_an_address_of_the_sixth_version(ask):
    try:
        judge = JudgeServer("85", host="::1")
    except OSError:
        pytest.skip("this machine has no ::1")
    with judge:
        assert ask(judge.url) == "85"


# ---- many questions


def test_eight_at_once_get_each_its_own_reply(ask):
    with JudgeServer(str.upper, delay=0.02) as judge:
        ask(judge.url)
        server, questions = ask.opened[0], [f"question {number} 问" for number in range(64)]
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(lambda text: server([{"role": "user", "content": text}]), questions))
        assert replies == [question.upper() for question in questions]
        assert 4 < judge.most_at_once <= 8
        assert judge.connections <= 8


def test_connections_are_used_again_after_a_failure_too(ask):
    with JudgeServer("85", faults=[None, status(503), error_in_stream()]) as judge:
        ask(judge.url)
        for _ in range(3):
            ask.opened[0](QUESTION)
        assert judge.connections <= 2


def test_a_server_that_is_forgotten_closes_its_connections(ask):
    """Else its sockets stay open until the program ends."""
    with JudgeServer("85") as judge:
        ask(judge.url)
        closing = ask.opened[0]._closing
        assert closing.alive
        ask.opened.clear()
        gc.collect()
        assert not closing.alive


def test_a_closed_server_cannot_be_asked_and_closing_twice_is_nothing(ask):
    with JudgeServer() as judge:
        ask(judge.url)
        with ask.opened[0] as server:
            pass
        server.close()
        with pytest.raises(RuntimeError, match="closed"):
            server(QUESTION)


def test_models_are_listed(ask):
    with JudgeServer(models=["phi3:latest", "llama3:latest"]) as judge:
        ask(judge.url)
        assert ask.opened[0].models() == ["llama3:latest", "phi3:latest"]
    with pytest.raises(ServerError, match="nothing answers") as caught:
        ask.opened[0].models()
    assert caught.value.__context__ is None


def test_the_identity_is_all_that_changes_a_reply_and_nothing_else(ask, monkeypatch):
    with JudgeServer() as judge:
        ask(judge.url)
        ask(judge.url, timeout=3, retries=7, temperature=0)
        for change in ({"seed": 1}, {"temperature": 1}, {"format": "json"}, {"model": "llama3"}):
            ask(judge.url, **change)
    identities = [json.dumps(server.identity, sort_keys=True) for server in ask.opened]
    assert identities[0] == identities[1]
    assert len(set(identities)) == 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": " "}, "name of a model, got ' '"),
        ({"timeout": 0}, "timeout must be .* got 0"),
        ({"timeout": None}, "timeout must be .* got None"),
        ({"timeout": "5"}, "timeout must be .* got '5'"),
        ({"retries": True}, "retries must be .* got True"),
        ({"seed": "x"}, "seed must be .* got 'x'"),
        ({"temperature": "0"}, "temperature must be .* got '0'"),
        ({"retries": -1}, "retries must be .* got -1"),
        ({"format": "xml"}, "format must be .* got 'xml'"),
    ],
)
def test_settings_out_of_range(ask, options, words):
    with pytest.raises(ValueError, match=words):
        ask(closed_url(), **options)


def test_what_is_no_question(ask):
    with JudgeServer() as judge:
        with pytest.raises(ValueError, match="'content': ''"):
            ask(judge.url, "")
        assert judge.requests == []


def test_nothing_but_the_judges_own_errors_comes_out_of_the_logs(ask, caplog):
    caplog.set_level(logging.DEBUG)
    with JudgeServer() as judge:
        ask(judge.url)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# ---- the helper itself


@pytest.mark.parametrize(("path", "expected"), [("/", b"Ollama is running"), ("/api/version", b'{"version": "0.0.0"}')])
def test_the_judge_answers_what_people_look_at_in_a_browser(path, expected):
    with JudgeServer() as judge, urllib.request.urlopen(judge.url + path) as page:
        assert page.read() == expected


def test_the_judge_answers_without_a_stream_too():
    """As the source's own code asks Ollama, and the simplest use of OpenAI's client."""
    with JudgeServer("八十五") as judge:
        replies = []
        for path in ("/api/chat", "/v1/chat/completions"):
            body = json.dumps({"model": "phi3", "messages": QUESTION, "stream": False}).encode()
            with urllib.request.urlopen(urllib.request.Request(judge.url + path, body)) as page:
                replies.append(json.load(page))
    assert replies[0]["message"]["content"] == replies[1]["choices"][0]["message"]["content"] == "八十五"
