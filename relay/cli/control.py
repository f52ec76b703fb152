"""Control: one question to a running worker over its Unix socket, `<var>/run/control-<spool>.sock`.

In: method, path, JSON body. Out: status and JSON. Raises OperatorError, one line with the fix, when nobody answers.
"""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from typing import Any, Final

from relay.mail.errors import OperatorError
from relay.settings import Settings

_SECONDS: Final = 30.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(str(self._path))


def request(settings: Settings, method: str, path: str, body: Any = None, *, worker: int) -> tuple[int, Any]:
    """Ask the worker that has spool number `worker`."""
    address = settings.server.var / "run" / f"control-{worker}.sock"
    connection = _UnixConnection(address)
    try:
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise OperatorError(
            f"{address}: the server does not answer ({error}); is it running, and as which user?"
        ) from error
    finally:
        connection.close()
