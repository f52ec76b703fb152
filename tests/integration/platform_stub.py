"""Three marketing platforms on loopback that remember who they know, as far as their documentation says how they work.

SendX under `/sendx`, Sendlio under `/sendlio`, Sendios under `/sendios`. `calls` are those they answered; the server
may be down, or answer anything else than what it is asked.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

Answer = tuple[int, Any]
KEYS = {"sendx": "team-key-0123456789", "sendlio": "SNLO0123456789:SNLOS0123456789", "sendios": "sendios-key-01234"}


@dataclass
class Platform:
    """People by address, and what was asked: (method, path, body)."""

    people: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[tuple[str, str, Any]] = field(default_factory=list)
    refused: int = 0
    unwell: Answer | None = None
    silent: threading.Event | None = None
    port: int = 0
    _server: ThreadingHTTPServer | None = None

    def url(self, kind: str) -> str:
        return f"http://127.0.0.1:{self.port}/{kind}"

    def up(self) -> None:
        handler = type("Handler", (_Handler,), {"platform": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Connections are refused from now on."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def answer(self, method: str, target: str, body: Any) -> Answer:
        kind, _, path = target.lstrip("/").partition("/")
        found: Answer = {"sendx": self._sendx, "sendlio": self._sendlio, "sendios": self._sendios}[kind](
            method, path, body
        )
        return found

    # --- SendX -----------------------------------------------------------------------------------------------

    def _sendx(self, method: str, path: str, body: Any) -> Answer:
        if (method, path) == ("POST", "contact/identify"):
            person = self.people.setdefault(body["email"], {"id": f"contact_{len(self.people):022}", "tags": []})
            person.setdefault("fields", {}).update(body["customFields"])
            person["tags"] = sorted({*person["tags"], *body.get("tags", ())})
            return 200, {"status": "success", "message": "identified"}
        if method == "POST" and path.startswith("contact/unsubscribe/"):
            found = [one for one in self.people.values() if one["id"] == path.rpartition("/")[2]]
            for one in found:
                one["unsubscribed"] = True
            return (200, {"message": "done"}) if found else _error(404)
        name = unquote(path.removeprefix("contact/"))
        address = next((each for each, one in self.people.items() if name in (each, one["id"])), None)
        if address is None:
            return _error(404)
        if method == "DELETE":
            del self.people[address]
            return 200, {"status": "success"}
        return 200, {"email": address, **self.people[address]}

    # --- Sendlio ---------------------------------------------------------------------------------------------

    def _sendlio(self, method: str, path: str, body: Any) -> Answer:
        parts = urlsplit(path)
        if method == "GET":
            wanted = parse_qs(parts.query)["email"][0]
            found = [{"email": each, **one} for each, one in self.people.items() if each == wanted]
            return 200, {"current_page": 1, "data": found, "total": len(found)}
        if path == "member/delete":
            for address, one in list(self.people.items()):
                if one["unique_id"] == body["unique_id"]:
                    del self.people[address]
            return 200, {"status": "success"}
        if body["email"] in self.people and body.get("unique_id") != self.people[body["email"]]["unique_id"]:
            self.people[f"{body['email']} (twice)"] = {}
        person = self.people.setdefault(body["email"], {"unique_id": f"u{len(self.people)}"})
        person.setdefault("fields", {}).update(body["properties"])
        return 200, {"email": body["email"], **person}

    # --- Sendios ---------------------------------------------------------------------------------------------

    def _sendios(self, method: str, path: str, body: Any) -> Answer:
        if path == "clientuser/create":
            self.people.setdefault(body["email"], {"id": body["client_user_id"], "fields": {}})
            return _data({})
        if path == "user/erase":
            known = self.people.pop(body["email"], None)
            return _data({}) if known is not None else _data({"error": "User not found"}, 404)
        address = base64.b64decode(unquote(path.rpartition("/")[2])).decode()
        if address not in self.people:
            return _data({"error": "User not found"}, 404)
        if re.fullmatch(r"unsub/admin/42/email/.*", path):
            self.people[address]["unsubscribed"] = True
        else:
            assert method == "PUT"
            self.people[address]["fields"].update(body)
        return _data({})


def _error(status: int) -> Answer:
    return status, {"status": "error", "message": "Contact not found"}


def _data(data: dict[str, Any], status: int = 200) -> Answer:
    return status, {"_meta": {"status": "OK" if status == 200 else "ERROR"}, "data": data}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    platform: Platform
    lock = threading.Lock()

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        octets = self.rfile.read(length)
        body = json.loads(octets) if octets else None
        platform = self.platform
        with self.lock:
            if not self._proved():
                status, answer = 401, {"message": "Invalid Authorization"}
            elif platform.unwell is not None:
                platform.refused += 1
                status, answer = platform.unwell
            else:
                status, answer = platform.answer(self.command, self.path, body)
                platform.calls.append((self.command, self.path, body))
        if platform.silent is not None:
            platform.silent.wait(30)
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_DELETE = do_POST  # noqa: N815 - the names the library looks for

    def _proved(self) -> bool:
        kind = self.path.split("/")[1]
        if kind == "sendx":
            return self.headers["X-Team-ApiKey"] == KEYS[kind]
        if kind == "sendlio":
            return f"{self.headers['api_key']}:{self.headers['api_secret']}" == KEYS[kind]
        wanted = base64.b64encode(f"7:{KEYS[kind]}".encode()).decode()
        return self.headers["Authorization"] == f"Basic {wanted}"

    def log_message(self, *arguments: object) -> None: ...

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            pass


@contextmanager
def platform() -> Iterator[Platform]:
    found = Platform()
    found.up()
    try:
        yield found
    finally:
        if found.silent is not None:
            found.silent.set()
        found.down()
