"""A stand-in for any vendor: records every request and answers all of them with what the vendor's answer looks like.

Over plain HTTP, or over TLS with a certificate of its own for an SDK that speaks nothing else.
"""

from __future__ import annotations

import http.server
import queue
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Answer:
    """What the vendor says to a message it takes."""

    status: int
    body: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request. Header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Stub:
    """`address` is host and port; `requests` holds what came, in order."""

    address: str
    requests: queue.Queue[Recorded]

    def taken(self) -> list[Recorded]:
        """Everything that has come so far, once."""
        found = []
        while not self.requests.empty():
            found.append(self.requests.get())
        return found


@contextmanager
def running_stub(answer: Answer, certificate: Path | None = None) -> Iterator[Stub]:
    """On loopback, on a free port, for as long as the block lasts. `certificate`: PEM with its key."""
    requests: queue.Queue[Recorded] = queue.Queue()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_POST(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            requests.put(Recorded(self.command, self.path, headers, self._content(headers)))
            octets = answer.body.encode()
            self.send_response(answer.status)
            for name, value in (("Content-Type", "application/json"), *answer.headers):
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(octets)))
            self.end_headers()
            self.wfile.write(octets)

        def _content(self, headers: dict[str, str]) -> bytes:
            if headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(headers["content-length"]))
            octets = b""
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                octets += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return octets

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield Stub(f"127.0.0.1:{server.server_address[1]}", requests)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def self_signed(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that is its own CA, and its key, in one file. Raises CalledProcessError."""
    path = folder / "stub.pem"
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=stub"
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path), "-out", str(folder / "stub.crt")]
    subprocess.run([*words.split(), *more], check=True, capture_output=True, timeout=30)
    path.write_bytes(path.read_bytes() + (folder / "stub.crt").read_bytes())
    return path
