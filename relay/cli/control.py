"""Control: one question to a running worker over its Unix socket, `<var>/run/control-<spool>.sock`.

In: method, path, JSON body. Out: status and JSON. Raises OperatorError, one line with the fix, when nobody answers.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from pathlib import Path
from typing import Any, Final

from relay.httpd.control_socket import control_path
from relay.mail.errors import OperatorError
from relay.mail.reply import printable
from relay.settings import Settings

_SECONDS: Final = 30.0


class _UnixConnection(http.client.HTTPConnection):
    """http.client over a Unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(os.fspath(self._path))


def request(settings: Settings, method: str, path: str, body: Any = None, *, worker: int) -> tuple[int, Any]:
    """Ask the worker that has spool number `worker`."""
    address = control_path(settings.server.var / "run", worker)
    connection = _UnixConnection(address)
    content = None if body is None else json.dumps(body).encode()
    headers = {} if content is None else {"Content-Type": "application/json"}
    try:
        connection.request(method, path, content, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise OperatorError(f"{address}: {_explain(error)}") from error
    finally:
        connection.close()


def refusal(status: int, answer: Any) -> str:
    """What an answer that is not 200 says, in one line."""
    error = answer["error"]
    fields = "; ".join(f"{one['field']}: {one['message']}" for one in error.get("fields", ()))
    return f"the server answered {status}: {printable(fields or error['message'])}"


def _explain(error: Exception) -> str:
    match error:
        case FileNotFoundError() | ConnectionRefusedError():
            return "the server does not run; start it with `relay serve`, or name its file with --config"
        case PermissionError():
            return "only the server's user may do that; run it as that user or as root"
        case TimeoutError():
            return f"the server did not answer in {_SECONDS:.0f} seconds; its log tells what it is doing"
        case _:
            return f"the server broke off ({printable(str(error)) or type(error).__name__}); see its log and try again"
