"""A vendor of our own: SendGrid's mail/send and Event Webhook, that fails as told.

Every request it took whole is in `taken`, what it would have delivered in `delivered` (subject, recipient).
"""

from __future__ import annotations

import itertools
import json
import queue
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

WELL: Final = "well"
SILENT: Final = "silent"  # 202, and the message is thrown away
BUSY: Final = "busy"  # 429
DYING: Final = "dying"  # takes the message, and the connection ends within the answer
_REPORT_AFTER: Final = 0.3
_RETRY_AFTER: Final = "2"

Letter = tuple[str, str]
"""Subject and recipient."""


class Vendor:
    """One provider; `mood` may be changed at any time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.mood = WELL
        self.hook = ""
        self.taken: list[tuple[float, Letter]] = []
        self.delivered: list[tuple[float, Letter]] = []
        self._ids = itertools.count(1)
        self._reports: queue.Queue[tuple[float, dict[str, Any]] | None] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True),
            threading.Thread(target=self._report, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def port(self) -> int:
        return self._server.server_port

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._reports.put(None)
        for thread in self._threads:
            thread.join(5)

    def take(self, body: dict[str, Any]) -> tuple[int, dict[str, str], bool]:
        """Status, header fields, and whether the answer comes whole."""
        mood, now = self.mood, time.monotonic()
        if mood == BUSY:
            return 429, {"Retry-After": _RETRY_AFTER}, True
        number = f"{self.name}{next(self._ids)}"
        people = [one["email"] for each in body["personalizations"] for one in each["to"]]
        letters = [(str(body["subject"]), address) for address in people]
        self.taken += [(now, letter) for letter in letters]
        if mood != SILENT:
            self.delivered += [(now, letter) for letter in letters]
            for _, address in letters:
                event = {"event": "delivered", "email": address, "sg_message_id": f"{number}.1", "sg_event_id": number}
                self._reports.put((now + _REPORT_AFTER, {**event, "timestamp": int(time.time())}))
        return 202, {"X-Message-Id": number}, mood != DYING

    def _report(self) -> None:
        while (one := self._reports.get()) is not None:
            due, event = one
            time.sleep(max(0.0, due - time.monotonic()))
            request = urllib.request.Request(
                self.hook, json.dumps([event]).encode(), {"Content-Type": "application/json"}
            )
            while True:
                try:
                    urllib.request.urlopen(request, timeout=5).close()
                    break
                except urllib.error.HTTPError as error:
                    if error.code != 503:
                        break
                except OSError:
                    pass
                time.sleep(0.1)


def _handler(vendor: Vendor) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, whole = vendor.take(body)
            self.send_response(status)
            for name, value in {"Content-Length": "2", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if whole:
                self.wfile.write(b"{}")
            else:
                self.wfile.write(b"{")
                self.close_connection = True

        def log_message(self, *arguments: object) -> None: ...

    return Handler
