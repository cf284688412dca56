import os

import pytest
from ollama._client import _parse_host

from gptlab.servers.addresses import goes_through_proxy, is_local, no_proxies, tidy_url


@pytest.mark.parametrize(
    "url",
    ["1.2.3.4", "1.2.3.4:56789", "example.com:56789/path/", "https://example.com:56789", ":56789", "[1:2::1]:56789"],
)
def test_addresses_are_what_ollamas_client_makes_of_them(url):
    """But that IPv6 addresses are written shortly, and a port that goes without saying is left out."""
    assert tidy_url(url, port=11434) == _parse_host(url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("localhost", "http://localhost:11434"),
        (" http://LOCALHOST:11434/ ", "http://localhost:11434"),
        ("http：//localhost：11434", "http://localhost:11434"),  # typed with a Chinese keyboard
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8000", "http://127.0.0.1:8000"),
        ("http://[::]:8000", "http://[::1]:8000"),
        ("::1", "http://[::1]:11434"),
        ("http://example.com", "http://example.com"),
        ("https://example.com/ollama/v1/", "https://example.com/ollama"),
    ],
)
def test_addresses_as_people_write_them(url, expected):
    assert tidy_url(url, port=11434, endings=["/v1"]) == expected


def test_tidying_twice_is_tidying_once():
    for url in ("localhost", "::1", "https://example.com/a/"):
        once = tidy_url(url, port=11434)
        assert tidy_url(once, port=11434) == once


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://",
        "http:/localhost",
        "ftp://localhost",
        "http://localhost:99999",
        "http://a b",
        "localhost:port",
        "http://a?b=c",
    ],
)
def test_what_is_no_address(url):
    with pytest.raises(ValueError, match="is no address; one looks like http://localhost:11434"):
        tidy_url(url, port=11434)


def test_what_is_no_text():
    with pytest.raises(ValueError, match="got 11434"):
        tidy_url(11434)


def test_a_password_is_not_taken_and_not_repeated():
    with pytest.raises(ValueError, match="must not hold a name and a password") as caught:
        tidy_url("http://me:secret@example.com")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://localhost:11434", True),
        ("http://127.0.0.1", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:1", True),
        ("http://judge.localhost", True),
        ("http://192.168.1.5:11434", False),
        ("https://localhost.example.com", False),
        ("https://api.openai.com/v1", False),
    ],
)
def test_which_addresses_are_on_this_machine(url, local):
    assert is_local(url) is local


def test_which_addresses_go_through_a_proxy(monkeypatch):
    assert not goes_through_proxy("http://example.com")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:7890")
    assert goes_through_proxy("http://example.com")
    assert not goes_through_proxy("http://localhost:11434")
    assert not goes_through_proxy("https://example.com")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:7890")
    assert goes_through_proxy("https://example.com")
    monkeypatch.setenv("NO_PROXY", "example.com")
    assert not goes_through_proxy("http://example.com")


def test_for_a_moment_there_are_no_proxies(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:7890")
    monkeypatch.setenv("no_proxy", "example.com")
    before = dict(os.environ)
    with no_proxies():
        assert not goes_through_proxy("http://example.org")
    assert dict(os.environ) == before
