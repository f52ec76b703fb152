"""A stand-in for SendPost: records every request and answers as the documentation says, one result a `to` entry."""

from __future__ import annotations

import http.server
import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request. Header names in lower case; `body` is its JSON."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class Stub:
    """`base_url` is what SDK and relay are pointed at; `next` gives the requests in order."""

    def __init__(self, port: int) -> None:
        self.base_url = f"http://127.0.0.1:{port}/api/v1"
        self.requests: queue.Queue[Recorded] = queue.Queue()

    def next(self, seconds: float) -> Recorded | None:
        try:
            return self.requests.get(timeout=seconds)
        except queue.Empty:
            return None


@contextmanager
def running_stub() -> Iterator[Stub]:
    """On loopback, on a free port, for as long as the block lasts."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_POST(self) -> None:
            octets = self.rfile.read(int(self.headers["Content-Length"]))
            body = json.loads(octets)
            headers = {name.lower(): value for name, value in self.headers.items()}
            stub.requests.put(Recorded(self.command, self.path, headers, body))
            self._answer(json.dumps([_result(entry["email"]) for entry in body["to"]]).encode())

        def _answer(self, octets: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(octets)))
            self.end_headers()
            self.wfile.write(octets)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub = Stub(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _result(address: str) -> dict[str, Any]:
    return {
        "to": address,
        "submittedAt": 1_764_000_000_000_000_000,
        "messageId": "4f2c0d5e-0000-4000-8000-000000000001",
        "errorCode": 0,
        "message": "Email submitted successfully",
    }
