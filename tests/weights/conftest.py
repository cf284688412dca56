"""A server that speaks the Hugging Face Hub's protocol, with faults to order."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Serves folders as repositories: the listing, HEAD with checksums, GET with ranges, large files elsewhere.

    Attributes:
        cut_once: file -> bytes after which the connection breaks, the first time that it is asked for.
        refused_range: files of which no part is given, the first time that one is asked for.
        dead: files of which nothing more comes after the first bytes, however often they are asked for.
        without_checksums: whether the listing leaves them out.
        damaged: files that are served with a wrong byte.
        asked: (method, file, Range header) of every request for a file.
    """

    def __init__(self):
        self.repositories, self.cut_once, self.dead, self.damaged, self.asked = {}, {}, set(), set(), []
        self.without_checksums, self.refused_range = False, set()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, repository, folder):
        self.repositories[repository] = {path.name: path.read_bytes() for path in folder.iterdir()}

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def listing(self, repository):
        siblings = []
        for name, content in self.repositories[repository].items():
            file = {"rfilename": name, "size": len(content), "blobId": git_sha1(content)}
            if is_large(name):
                file["lfs"] = {"sha256": sha256(content), "size": len(content), "pointerSize": 134}
            siblings.append({"rfilename": name} if self.without_checksums else file)
        return {"id": repository, "modelId": repository, "sha": COMMIT, "siblings": siblings}

    def _handler(hub):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                self._file("HEAD")

            def do_GET(self):
                listing = re.match(r"/api/models/([^?]+?)(/revision/\w+)?(\?|$)", self.path)
                if listing is None:
                    self._file("GET")
                elif listing[1] in hub.repositories:
                    hub.asked.append(("GET", "listing", None))
                    self._send(200, json.dumps(hub.listing(listing[1])).encode(), {"Content-Type": "application/json"})
                else:
                    self._refuse(401, "RepoNotFound")

            def _file(self, method):
                repository, file = re.match(r"(?:/cdn)?/(.+?)/resolve/\w+/([^?]+)", self.path).groups()
                content = hub.repositories.get(repository, {}).get(file)
                if content is None:
                    self._refuse(404, "EntryNotFound")
                    return
                headers = {"ETag": f'"{git_sha1(content)}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
                if is_large(file) and not self.path.startswith("/cdn/"):
                    headers |= {"X-Linked-Etag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content))}
                    self._send(
                        302, b"", headers | {"Location": f"{hub.url.replace('127.0.0.1', 'localhost')}/cdn{self.path}"}
                    )
                    return
                hub.asked.append((method, file, self.headers.get("Range")))
                if file in hub.damaged:
                    content = content[:-1] + bytes([content[-1] ^ 1])
                start = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
                if method == "GET" and start and file in hub.refused_range:
                    hub.refused_range.remove(file)
                    self._refuse(416, "RangeNotSatisfiable")
                elif method == "GET" and start:
                    first = int(start[1])
                    headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
                    self._send(206, content[first:], headers, cut=0 if file in hub.dead else None)
                else:
                    cut = hub.cut_once.pop(file, None) if method == "GET" else None
                    self._send(200, content, headers, cut=cut, body=method == "GET")

            def _send(self, status, content, headers, cut=None, body=True):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if body:
                    self.wfile.write(content[:cut])
                if cut is not None:
                    self.close_connection = True

            def _refuse(self, status, code):
                self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code}, body=False)

        return Handler


def is_large(name):
    return name.endswith((".safetensors", ".bin"))


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def git_sha1(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub without any model; HF_ENDPOINT points to it, and transformers' own cache is empty."""
    server = Hub()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "transformers-cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield server
    server.close()
