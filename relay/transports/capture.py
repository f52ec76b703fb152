"""Capture: every message becomes a file instead of leaving, for sandboxes and tests of applications.

In: a request. Out: Sent for every recipient, once `<folder>/<message id>-<n>.eml` holds the bytes and
`<message id>-<n>.json` the envelope (both mode 0600, both whole or absent; `n` counts deliveries of the message).
Not fsynced: captured mail is looked at, not relied on. Raises SettingsError for an unusable folder.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Final

from relay.mail.errors import SettingsError
from relay.mail.outcome import Deferred, Fault, Outcome, Sent
from relay.mail.reply import reply
from relay.ports import DeliveryReport, DeliveryRequest

# The id becomes a file name.
_SAFE_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@-]{0,199}")


class CaptureTransport:
    """The transport called `capture`."""

    def __init__(self, folder: Path) -> None:
        """Creates `folder` (mode 0700) where it is missing."""
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"{folder}: cannot create it ({error.strerror}); check the owner of its parent"
            ) from error

    async def deliver(self, request: DeliveryRequest, content: bytes) -> DeliveryReport:
        """See ports.Transport. Raises ValueError for a message id that is no file name."""
        if not _SAFE_ID.fullmatch(request.message_id):
            raise ValueError("message id cannot be a file name")
        outcome: Outcome
        try:
            name = self._store(request, content)
            outcome = Sent(reply(250, "2.0.0", f"Captured as {name}"), remote_id=name)
        except OSError as error:
            outcome = Deferred(
                reply(452, "4.3.1", f"Cannot write to the capture folder: {error.strerror}"), Fault.ROUTE
            )
        return DeliveryReport({recipient.address: outcome for recipient in request.recipients}, host="capture")

    async def close(self) -> None:
        """Nothing is kept open."""

    def _store(self, request: DeliveryRequest, content: bytes) -> str:
        """Write envelope, then message, so that whoever sees the message finds its envelope."""
        number = 1
        while not self._write(f"{request.message_id}-{number}.json", _envelope_json(request)):
            number += 1
        name = f"{request.message_id}-{number}.eml"
        self._write(name, content)
        return name

    def _write(self, name: str, octets: bytes) -> bool:
        """Put a whole file in place under `name`; False when the name is taken. mkstemp gives it mode 0600."""
        handle, temporary = tempfile.mkstemp(prefix=".", dir=self._folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(octets)
            os.link(temporary, self._folder / name)
        except FileExistsError:
            return False
        finally:
            os.unlink(temporary)
        return True


def _envelope_json(request: DeliveryRequest) -> bytes:
    envelope = request.envelope
    facts = {
        "message_id": request.message_id,
        "account": request.account,
        "attempt": request.attempt,
        "reverse_path": request.reverse_path,
        "recipients": [{"address": r.address, "notify": list(r.notify), "orcpt": r.orcpt} for r in request.recipients],
        "ret": envelope.ret,
        "envid": envelope.envid,
        "body_8bit": envelope.body_8bit,
        "smtputf8": envelope.smtputf8,
    }
    return json.dumps(facts, indent=2, ensure_ascii=False).encode() + b"\n"
