"""Alpaca's entries, from a server on this machine with faults to order."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from gptlab.__main__ import main
from gptlab.data import load_entries
from gptlab.data.alpaca import SOURCES, Source, fetch_alpaca

ENTRIES = [{"instruction": f"Say {number}.", "input": "", "output": f"{number} 好" * 20} for number in range(2000)]
CONTENT = json.dumps(ENTRIES, ensure_ascii=False).encode()


class Files:
    """Serves one file; `faults` are taken one by one: a number of bytes after which it breaks, or a status."""

    def __init__(self, content=CONTENT, faults=(), ranges=True):
        self.content, self.faults, self.ranges, self.asked = content, list(faults), ranges, []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}/alpaca_data.json"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def _handler(files):
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                wanted = self.headers.get("Range")
                files.asked.append((self.path, wanted))
                fault = files.faults.pop(0) if files.faults else None
                if fault in (404, 416, 503):
                    self.send_error(fault)
                    return
                begin = int(re.match(r"bytes=(\d+)-", wanted)[1]) if wanted and files.ranges else 0
                rest = files.content[begin:]
                self.send_response(206 if begin else 200)
                self.send_header("Content-Length", str(len(rest)))
                self.end_headers()
                self.wfile.write(rest if fault is None else rest[:fault])

        return Handler


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """As many entries as the server here has."""
    for name, source in SOURCES.items():
        monkeypatch.setitem(SOURCES, name, Source(source.url, len(ENTRIES), source.terms))


def test_it_is_loaded_once_and_the_terms_lie_beside_it(tmp_path):
    with Files() as files:
        path = fetch_alpaca(cache_dir=tmp_path, url=files.url, progress=False)
        assert fetch_alpaca(cache_dir=tmp_path, url=files.url, progress=False) == path
        assert len(files.asked) == 1
    assert load_entries(path) == ENTRIES
    assert "BY-NC 4.0" in (tmp_path / "alpaca" / "TERMS.txt").read_text(encoding="utf-8")
    assert sorted(one.name for one in (tmp_path / "alpaca").iterdir()) == ["TERMS.txt", "alpaca_data.json"]


def test_a_connection_that_breaks_goes_on_where_it_stopped(tmp_path):
    with Files(faults=[30_000, 503, 50_000]) as files:
        path = fetch_alpaca(cache_dir=tmp_path, url=files.url, progress=False)
        assert [asked for _, asked in files.asked] == [None, "bytes=30000-", "bytes=30000-", "bytes=80000-"]
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("fault", [None, 416])
def test_a_server_without_ranges_sends_all_of_it_again(tmp_path, fault):
    (tmp_path / "alpaca").mkdir()
    (tmp_path / "alpaca" / "alpaca_data.json.part").write_bytes(b"something else")
    with Files(ranges=False, faults=[fault]) as files:
        path = fetch_alpaca(cache_dir=tmp_path, url=files.url, progress=False)
    assert path.read_bytes() == CONTENT


def test_the_hubs_mirror_is_asked_for_the_cleaned_entries(tmp_path, monkeypatch):
    with Files() as files:
        monkeypatch.setenv("HF_ENDPOINT", files.url.removesuffix("/alpaca_data.json"))
        path = fetch_alpaca("alpaca-cleaned", tmp_path, progress=False)
        assert files.asked == [("/datasets/yahma/alpaca-cleaned/resolve/main/alpaca_data_cleaned.json", None)]
    assert path.name == "alpaca_data_cleaned.json"


def test_what_is_somewhere_else_is_told(tmp_path):
    with Files(faults=[404]) as files, pytest.raises(FileNotFoundError, match=r"Not Found.*hf-mirror.*alpaca_data"):
        fetch_alpaca(cache_dir=tmp_path, url=files.url, progress=False)
    with pytest.raises(FileNotFoundError, match="cannot be loaded"):
        fetch_alpaca(cache_dir=tmp_path, url=files.url, progress=False)


@pytest.mark.parametrize("content", [b"<html>Please log in</html>", b"[]", json.dumps(ENTRIES[:50]).encode()])
def test_what_are_no_entries_is_not_kept(tmp_path, content):
    with Files(content) as files, pytest.raises(ValueError, match="is not alpaca, and was deleted"):
        fetch_alpaca(cache_dir=tmp_path, url=files.url, progress=False)
    assert list((tmp_path / "alpaca").iterdir()) == []


def test_another_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'llama' is none of .*: alpaca, alpaca-cleaned"):
        fetch_alpaca("llama", tmp_path)


def test_the_command_shows_the_licence(tmp_path, capsys):
    with Files() as files:
        assert main(["download", "alpaca", "--cache-dir", str(tmp_path), "--url", files.url, "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert "Creative Commons BY-NC 4.0" in shown and "alpaca_data.json" in shown
    assert main(["download", "124M", "--url", "http://127.0.0.1"]) == 2
