"""A judge that is asked through either official client, whatever the environment says."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from gptlab.servers import OllamaServer, OpenAIServer

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "OLLAMA_HOST", "OLLAMA_API_KEY", "OPENAI_API_KEY")


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def elsewhere(monkeypatch):
    """An address of no machine; it is not looked for outside this one."""

    def nowhere(host, *_, **__):
        raise socket.gaierror(socket.EAI_NONAME, f"Name or service not known: {host}")

    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    return "http://judge.invalid:11434"


@pytest.fixture
def saying():
    """Start a server that answers every request with what `answer` returns for its path: status, type and body."""
    started = []

    def saying(answer):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                code, kind, body = answer(self.path)
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.end_headers()
                self.wfile.write(body.encode())

            do_POST = do_GET

            def log_message(self, *_):
                """Print nothing."""

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        started.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield saying
    for server in started:
        server.shutdown()
        server.server_close()


@pytest.fixture
def naps():
    """How long was waited before each try; nobody really waits."""
    return []


@pytest.fixture(params=[OllamaServer, OpenAIServer])
def ask(request, naps):
    """Ask the judge at `url` something; the connections are closed when the test ends."""
    opened = []

    def ask(url, question="How good is it?", model="phi3", **options):
        opened.append(request.param(model, url, **{"sleep": naps.append, "timeout": 10.0} | options))
        return opened[-1]([{"role": "user", "content": question}])

    ask.kind, ask.opened = request.param, opened
    yield ask
    for server in opened:
        server.close()
