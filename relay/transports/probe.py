"""The operator's test send: one message over a fresh connection, by aiosmtplib.

In: where, how and what. Out: the server's reply for each recipient; a refused greeting, EHLO, login
or MAIL is the reply for all. Raises OSError or aiosmtplib.SMTPException where there is none (no connection, bad TLS).
A second, independent client on purpose: it tells a fault of the server from a fault of ours.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import aiosmtplib

from relay.mail.reply import Reply
from relay.transports.tls import unverified_context, verifying_context

_SECONDS: Final = 30.0


async def submit(
    host: str,
    port: int,
    *,
    tls: Literal["none", "starttls", "implicit"],
    ca_file: Path | None,
    username: str,
    password: str,
    sender: str,
    recipients: Sequence[str],
    content: bytes,
    verify: bool = True,
    timeout: float = _SECONDS,
) -> dict[str, Reply]:
    """Send `content` (CRLF) and return what the server said about each recipient.

    An empty `username` sends no AUTH; `timeout` is seconds a step. Raises SettingsError for an unusable `ca_file`.
    """
    context: ssl.SSLContext | None = None
    if tls != "none":
        context = verifying_context(ca_file) if verify else unverified_context()
    client = aiosmtplib.SMTP(
        hostname=host,
        port=port,
        timeout=timeout,
        use_tls=tls == "implicit",
        start_tls=tls == "starttls",
        tls_context=context,
        username=username or None,
        password=password if username else None,
    )
    try:
        async with client:
            return await _send(client, sender, recipients, content)
    except aiosmtplib.SMTPResponseException as error:
        answer = Reply.from_peer(error.code, error.message)
    return dict.fromkeys(recipients, answer)


async def _send(client: aiosmtplib.SMTP, sender: str, recipients: Sequence[str], content: bytes) -> dict[str, Reply]:
    try:
        refused, text = await client.sendmail(sender, list(recipients), content)
    except aiosmtplib.SMTPRecipientsRefused as error:
        return {each.recipient: Reply.from_peer(each.code, each.message) for each in error.recipients}
    accepted = Reply.from_peer(250, text)
    return {address: Reply.from_peer(*refused[address]) if address in refused else accepted for address in recipients}
