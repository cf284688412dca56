"""A server that speaks Ollama's API and OpenAI's, says what it is told to, and fails when it is told to.

In a test:

    with JudgeServer("85", faults=[status(503)]) as server:
        OllamaServer("phi3", server.url)(messages)  # or OpenAIServer("phi3", server.url)
        assert server.requests[0].body["options"]["seed"] == 123

As a program, for benchmarks: `python judge_server.py --delay 0.05` prints its address and runs until it is stopped.
"""

import argparse
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Said:
    """A reply with what goes beside it.

    Attributes:
        text: what the model says.
        reason: how it ended: done_reason, or finish_reason.
        thinking: what it thought before, in the field of its own.
        prompt_tokens: how many tokens the question had.
    """

    text: str
    reason: str = "stop"
    thinking: str = ""
    prompt_tokens: int = 26


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one question; the functions below make them."""

    kind: str
    code: int = 200
    text: str = ""
    seconds: float = 0.0
    headers: tuple[tuple[str, str], ...] = ()


def status(code: int, text: str = "server busy, please try again", *, retry_after: str | None = None) -> Fault:
    """An error instead of a reply."""
    headers = () if retry_after is None else (("Retry-After", retry_after),)
    return Fault("status", code, text, headers=headers)


def hang(seconds: float = 5.0) -> Fault:
    """Nothing at all for so long, or until the server is stopped."""
    return Fault("hang", seconds=seconds)


def hang_in_the_middle(seconds: float = 5.0) -> Fault:
    """The first half of the reply, then nothing for so long."""
    return Fault("hang in the middle", seconds=seconds)


def half_a_line() -> Fault:
    """A stream that ends properly, in the middle of a line of JSON."""
    return Fault("half a line")


def no_end() -> Fault:
    """A stream that ends properly, but before the model has."""
    return Fault("no end")


def cut_off() -> Fault:
    """The connection is closed in the middle of the reply."""
    return Fault("cut off")


def cut_off_after_the_end() -> Fault:
    """The whole reply, then the connection is closed without the end that HTTP asks for."""
    return Fault("cut off after the end")


def error_in_stream(text: str = "an error was encountered while running the model") -> Fault:
    """Half a reply under the status 200, then an error."""
    return Fault("error in stream", text=text)


def drip(seconds: float, *, every: float = 0.02, whole_lines: bool = True) -> Fault:
    """A piece now and then for so long; without whole_lines, a byte of one line that does not end."""
    return Fault("drip" if whole_lines else "drip bytes", seconds=seconds, text=str(every))


def web_page() -> Fault:
    """A page in HTML under the status 200, as a hotel's network shows."""
    return Fault("web page", text="<html><body>Please log in</body></html>\n")


@dataclass
class Request:
    """What was asked: the path, the headers with small names, and the JSON, {} where there is none."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict = field(default_factory=dict)

    @property
    def question(self) -> str:
        """The last message."""
        return self.body["messages"][-1]["content"]


class JudgeServer:
    """A server on this machine, on a port of its own.

    Args:
        answer: a text, a `Said`, or a function from the last message to one of them.
        models: the names of the models that are there.
        faults: what goes wrong with the first questions, one after the other, None is nothing; or a function from the
            last message to a fault or None, for faults that stay with their question.
        always: what goes wrong with every question after these.
        delay: seconds before every reply.
        key: what a client must send as its API key; None asks for none.
        pieces: into how many a streamed reply is cut.
        host: "127.0.0.1" or "::1".
        port: 0 is any that is free.

    Attributes:
        url: the address, without /v1.
        requests: everything that was asked for, in order; `asked` is the questions alone.
        most_at_once: how many questions were being answered at the same time, at most.
        connections: how many were opened.
    """

    def __init__(
        self,
        answer: str | Said | Callable[[str], str | Said] = "85",
        *,
        models: Sequence[str] = ("llama3:latest", "phi3:latest"),
        faults: Sequence[Fault | None] | Callable[[str], Fault | None] = (),
        always: Fault | None = None,
        delay: float = 0.0,
        key: str | None = None,
        pieces: int = 4,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.answer, self.models, self.faults, self.always = answer, list(models), faults, always
        self.delay, self.key, self.pieces = delay, key, pieces
        self.requests: list[Request] = []
        self.most_at_once = self.connections = self._now = self._questions = 0
        self._lock, self.stopped, self._sockets = threading.Lock(), threading.Event(), set()
        self._http = _HTTP((host, port), self)
        place = f"[{host}]" if ":" in host else host
        self.url = f"http://{place}:{self._http.server_address[1]}"
        self._thread: threading.Thread | None = None

    @property
    def asked(self) -> list[str]:
        """The last messages of all chats, in order."""
        with self._lock:
            return [request.question for request in self.requests if "messages" in request.body]

    def start(self) -> "JudgeServer":
        """Listen, until `stop`."""
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening, and cut off every connection."""
        self.stopped.set()
        if self._thread is not None:
            self._http.shutdown()
            self._thread.join()
        self._http.server_close()
        with self._lock:
            sockets = list(self._sockets)
        for one in sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        give_up = time.monotonic() + 2
        while self._sockets and time.monotonic() < give_up:
            time.sleep(0.001)

    def __enter__(self) -> "JudgeServer":
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()

    def took(self, request: Request) -> Fault | None:
        """Write a question down, and return what shall go wrong with it."""
        with self._lock:
            number, self._questions = self._questions, self._questions + 1
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        if callable(self.faults):
            return self.faults(request.question) or self.always
        return self.faults[number] if number < len(self.faults) else self.always

    def gave(self) -> None:
        """Count a question as answered."""
        with self._lock:
            self._now -= 1

    def says(self, question: str) -> Said:
        """Return the reply to a question."""
        said = self.answer(question) if callable(self.answer) else self.answer
        return said if isinstance(said, Said) else Said(said)


def closed_url() -> str:
    """Return an address at which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


class _HTTP(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], judge: JudgeServer) -> None:
        self.judge = judge
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def process_request(self, request, client_address) -> None:
        with self.judge._lock:
            self.judge._sockets.add(request)
            self.judge.connections += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        super().shutdown_request(request)
        with self.judge._lock:
            self.judge._sockets.discard(request)

    def handle_error(self, request, client_address) -> None:
        """Say nothing: a client that gave up is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the parts of a reply wait 40 ms for one another
    wbufsize = -1
    server: _HTTP

    def log_message(self, *_) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        self._note({})
        judge = self.server.judge
        if self.path == "/":
            self._send(200, "Ollama is running", "text/plain")
        elif self.path == "/api/version":
            self._send_json(200, {"version": "0.0.0"})
        elif self.path == "/api/tags":
            self._send_json(200, {"models": [{"name": name, "model": name, "size": 1} for name in judge.models]})
        elif self.path != "/v1/models":
            self._send(404, "404 page not found", "text/plain")
        elif self._has_key():
            data = [{"id": name, "object": "model", "created": 0, "owned_by": "library"} for name in judge.models]
            self._send_json(200, {"object": "list", "data": data})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path not in ("/api/chat", "/v1/chat/completions"):
            self._note({})
            self._send(404, "404 page not found", "text/plain")
            return
        request, judge = self._note(json.loads(body)), self.server.judge
        fault = judge.took(request)
        try:
            judge.stopped.wait(judge.delay)
            self._answer(request.body, fault)
        finally:
            judge.gave()

    def _note(self, body: dict) -> Request:
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body)
        with self.server.judge._lock:
            self.server.judge.requests.append(request)
        return request

    def _answer(self, body: dict, fault: Fault | None) -> None:
        judge, model = self.server.judge, body["model"]
        if not self._has_key():
            return
        if fault is not None and fault.kind == "hang":
            judge.stopped.wait(fault.seconds)
            self.close_connection = True
        elif fault is not None and fault.kind == "status":
            self._refuse(fault.code, fault.text, fault.headers)
        elif fault is not None and fault.kind == "web page":
            self._send(200, fault.text, "text/html")
        elif not {model, f"{model}:latest"} & set(judge.models):
            self._refuse(404, f"model '{model}' not found")
        else:
            said = judge.says(body["messages"][-1]["content"])
            speak = _ollama if self.path == "/api/chat" else _openai
            stream = body.get("stream", self.path == "/api/chat")
            if stream:
                self._stream(list(speak(said, model, judge.pieces)), fault)
            else:
                self._send_json(200, speak(said, model, None))

    def _stream(self, events: list[str], fault: Fault | None) -> None:
        ollama = self.path == "/api/chat"
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson" if ollama else "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        begun = len(events) if fault is None else 1 if ollama else 2  # OpenAI's first piece is empty
        for event in events[:begun]:
            self._chunk(event)
        if fault is not None:
            self._fail(fault, events[begun:], ollama)
        if not self.close_connection:
            self._chunk("")

    def _fail(self, fault: Fault, events: list[str], ollama: bool) -> None:
        """Go on after the first piece of the reply, as the fault says; `events` are those to come."""
        stopped = self.server.judge.stopped
        if fault.kind == "hang in the middle":
            self.wfile.flush()
            stopped.wait(fault.seconds)
            self.close_connection = True
        elif fault.kind == "half a line":
            self._chunk(events[0][: len(events[0]) // 2] + ("" if ollama else "\n\n"))
        elif fault.kind.startswith("cut off"):
            self.close_connection = True
            for event in events * (fault.kind == "cut off after the end"):
                self._chunk(event)
        elif fault.kind == "error in stream":
            error = fault.text if ollama else {"message": fault.text, "type": "api_error"}
            line = json.dumps({"error": error})
            self._chunk(line + "\n" if ollama else f"data: {line}\n\n")
        elif fault.kind in ("drip", "drip bytes"):
            end = time.monotonic() + fault.seconds
            while time.monotonic() < end and not stopped.wait(float(fault.text)):
                self._chunk(events[0] if fault.kind == "drip" else " ")
                self.wfile.flush()
            for event in events:
                self._chunk(event)

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _has_key(self) -> bool:
        """Whether the client may ask; else it is told what it sent, as some servers do."""
        key, sent = self.server.judge.key, self.headers.get("Authorization", "")
        if key is not None and sent != f"Bearer {key}":
            self._refuse(401, f"Incorrect API key provided: {sent.removeprefix('Bearer ')}")
            return False
        return True

    def _refuse(self, code: int, text: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        kind = {404: "not_found_error", 400: "invalid_request_error"}.get(code, "api_error")
        quota = "insufficient_quota" if "quota" in text else None
        error = {"message": text, "type": kind, "param": None, "code": quota}
        self._send_json(code, {"error": text if self.path.startswith("/api") else error}, headers)

    def _send_json(self, code: int, value: dict, headers: Sequence[tuple[str, str]] = ()) -> None:
        self._send(code, json.dumps(value, ensure_ascii=False), "application/json", headers)

    def _send(self, code: int, text: str, kind: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        data = text.encode()
        self.send_response(code)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(data))), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()


def _cut(text: str, pieces: int) -> list[str]:
    size = max(1, -(-len(text) // pieces))
    return [text[start : start + size] for start in range(0, len(text), size)] or [""]


def _ollama(said: Said, model: str, pieces: int | None) -> "Iterator[str] | dict":
    """Return the lines of a stream, or without pieces the one object."""
    head = {"model": model, "created_at": "2024-01-01T00:00:00Z"}
    end = {"done": True, "done_reason": said.reason, "total_duration": 1, "load_duration": 1}
    end |= {"prompt_eval_count": said.prompt_tokens, "prompt_eval_duration": 1, "eval_count": 1, "eval_duration": 1}
    thinking = {"thinking": said.thinking} if said.thinking else {}
    if pieces is None:
        return head | {"message": {"role": "assistant", "content": said.text} | thinking} | end
    parts = [{"content": part} for part in _cut(said.text, pieces)]
    messages = [{"content": ""} | thinking, *parts] if thinking else parts
    lines = [head | {"message": {"role": "assistant"} | message, "done": False} for message in messages]
    lines.append(head | {"message": {"role": "assistant", "content": ""}} | end)
    return (json.dumps(line, ensure_ascii=False) + "\n" for line in lines)


def _openai(said: Said, model: str, pieces: int | None) -> "Iterator[str] | dict":
    """Return the events of a stream, or without pieces the one object."""
    kind = "chat.completion" if pieces is None else "chat.completion.chunk"
    head = {"id": "chatcmpl-1", "object": kind, "created": 0, "model": model, "system_fingerprint": "fp_ollama"}
    if pieces is None:
        message = {"role": "assistant", "content": said.text}
        usage = {"prompt_tokens": said.prompt_tokens, "completion_tokens": 1, "total_tokens": said.prompt_tokens + 1}
        return head | {"choices": [{"index": 0, "message": message, "finish_reason": said.reason}], "usage": usage}
    deltas = [{"role": "assistant", "content": ""}]
    deltas += [{"content": None, "reasoning_content": said.thinking}] if said.thinking else []
    deltas += [{"content": part} for part in _cut(said.text, pieces)]
    chunks = [head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": said.reason}]})
    events = [f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n" for chunk in chunks]
    return iter([*events, "data: [DONE]\n\n"])


def main() -> None:
    """Run until it is stopped."""
    parser = argparse.ArgumentParser(description="A judge for benchmarks: it always says the same.")
    parser.add_argument("--answer", default="85")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before every reply")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    with JudgeServer(options.answer, delay=options.delay, port=options.port) as server:
        print(server.url, flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
