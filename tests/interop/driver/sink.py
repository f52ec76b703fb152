"""Sink: an SMTP server on loopback that remembers what it is not told to refuse; the end behind Postfix."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from driver.sandbox import Arrived


class _Keep:
    """aiosmtpd's handler: keeps what arrives."""

    def __init__(self, refused: str) -> None:
        self._refused = refused
        self._lock = threading.Lock()
        self._arrived: list[Arrived] = []

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self._refused and address.startswith(self._refused):
            return "550 5.1.1 No such user here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Ok"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        message = Arrived(
            id=str(len(self._arrived)),
            mail_from=envelope.mail_from or "",
            rcpt_to=tuple(envelope.rcpt_tos),
            tls="",
            signed=(),
            raw=bytes(envelope.original_content or b""),
        )
        with self._lock:
            self._arrived.append(message)
        return "250 2.0.0 kept"

    def arrived(self) -> list[Arrived]:
        with self._lock:
            return list(self._arrived)


class _Sink(Controller):
    """aiosmtpd without its limit of 1,001 octets a line."""

    def factory(self) -> Any:
        server = SMTP(self.handler, data_size_limit=64 * 1024 * 1024, enable_SMTPUTF8=True, decode_data=False)
        server.line_length_limit = 2**20
        return server


@contextmanager
def running_sink(port: int, refused: str = "") -> Iterator[_Keep]:
    """Listening on 127.0.0.1:`port` for as long as the block lasts; recipients that begin with `refused` are."""
    keep = _Keep(refused)
    controller = _Sink(keep, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield keep
    finally:
        controller.stop()
