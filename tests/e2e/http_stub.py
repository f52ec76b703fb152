"""An HTTP API on loopback that records what it is sent and answers as a test tells it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from sandbox_server import Server


@dataclass
class Stub:
    """Records requests (path, header fields, JSON or octets); `answers` are (status, headers, body) in turn, the last
    one for ever; `by_path` answers a path in its own way."""

    answers: list[tuple[int, dict[str, str], Any]] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    by_path: dict[str, Callable[[Any], tuple[int, dict[str, str], Any]]] = field(default_factory=dict)
    port: int = 0

    def next_answer(self) -> tuple[int, dict[str, str], Any]:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def serving() -> Iterator[Stub]:
    stub = Stub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            octets = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = json.loads(octets) if self.headers["Content-Type"] == "application/json" else octets
            path = self.path.partition("?")[0]
            stub.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            own = stub.by_path.get(path)
            status, headers, answer = own(body) if own else stub.next_answer()
            data = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(data)),
                **headers,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_DELETE = do_POST  # noqa: N815 - the names the library looks for

        def log_message(self, *arguments: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def states(server: Server) -> dict[str, str]:
    """The last event of each recipient, from the log."""
    lines = [json.loads(line) for line in server.log.splitlines() if line.startswith("{")]
    kinds = ("sent", "delivered", "deferred", "bounced", "in_doubt")
    return {line["to"]: line["event"] for line in lines if line["event"] in kinds}


def until(true: Callable[[], bool], server: Server, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, server.log[-3000:]
        time.sleep(0.05)
