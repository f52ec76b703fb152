"""DSN: the notice that tells a sender what became of a message.

Source: RFC 3464 (message/delivery-status), RFC 6522 (multipart/report), RFC 3461 §6 (what is returned).
Built from plain strings: everything that comes from a peer has been made printable before it gets here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from relay.mail.envelope import Envelope
from relay.mail.message import header_block
from relay.mail.reply import Reply, printable

_LARGEST_HEADER = 51_200


@dataclass(frozen=True, slots=True)
class RecipientStatus:
    """One recipient's end: `action` in RFC 3464's words; `reply` is the peer's or our own last word."""

    address: str
    orcpt: str | None
    action: Literal["failed", "delayed"]
    reply: Reply
    remote: str
    reason: str


@dataclass(frozen=True, slots=True)
class NoticeFacts:
    """What a notice is about. Dates are RFC 5322 date-times."""

    hostname: str
    notice_id: str
    message_id: str
    date: str
    arrival_date: str
    envelope: Envelope


def build(facts: NoticeFacts, statuses: Sequence[RecipientStatus], original: bytes) -> bytes:
    """The whole notice, CRLF line ends, ready to spool with the null sender. Returns the original's header only."""
    assert facts.envelope.reverse_path is not None, "a null sender gets no notice"
    returned = _returned_header(original)
    boundary = f"=_{facts.notice_id}"
    while boundary.encode() in returned:
        boundary += "="
    international = not all(status.address.isascii() for status in statuses)
    parts = (
        (b"text/plain; charset=utf-8", _explanation(facts, statuses).encode()),
        # RFC 6533 §3: the plain type has no room for UTF-8 addresses.
        (f"message/{'global-' if international else ''}delivery-status".encode(), _fields(facts, statuses).encode()),
        (b"message/global-headers" if _is_utf8_only(returned) else b"text/rfc822-headers", returned),
    )
    separator = f"--{boundary}".encode()
    body = b"".join(_part(separator, kind, content) for kind, content in parts)
    return _header(facts, boundary).encode() + body + separator + b"--\r\n"


def _part(separator: bytes, kind: bytes, content: bytes) -> bytes:
    encoding = b"" if content.isascii() else b"Content-Transfer-Encoding: 8bit\r\n"
    return separator + b"\r\nContent-Type: " + kind + b"\r\n" + encoding + b"\r\n" + content + b"\r\n"


def _returned_header(original: bytes) -> bytes:
    """The header block, cut after a whole line where it is too long."""
    header = header_block(original)
    if len(header) <= _LARGEST_HEADER:
        return header
    return header[: header.rfind(b"\r\n", 0, _LARGEST_HEADER) + 2]


def _is_utf8_only(header: bytes) -> bool:
    """Whether it is no ASCII but clean UTF-8; other octets have no type of their own."""
    if header.isascii():
        return False
    try:
        header.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _header(facts: NoticeFacts, boundary: str) -> str:
    return (
        f"From: Mail Delivery System <MAILER-DAEMON@{facts.hostname}>\r\n"
        f"To: <{facts.envelope.reverse_path}>\r\n"
        f"Subject: Undelivered mail returned to sender\r\n"
        f"Date: {facts.date}\r\n"
        f"Message-ID: <{facts.notice_id}@{facts.hostname}>\r\n"
        f"Auto-Submitted: auto-replied\r\n"
        f"MIME-Version: 1.0\r\n"
        f'Content-Type: multipart/report; report-type=delivery-status; boundary="{boundary}"\r\n\r\n'
    )


def _explanation(facts: NoticeFacts, statuses: Sequence[RecipientStatus]) -> str:
    lines = [
        f"This is the mail system at {facts.hostname}.",
        "",
        f"Your message (id {facts.message_id}, received {facts.arrival_date}) could not be delivered to:",
        "",
    ]
    for status in statuses:
        where = f" ({printable(status.remote)})" if status.remote else ""
        lines += [f"<{status.address}>: {status.reason}", f"    {status.reply}{where}", ""]
    lines.append("The header of your message is attached. No further attempts will be made.")
    return "\r\n".join(lines) + "\r\n"


def _fields(facts: NoticeFacts, statuses: Sequence[RecipientStatus]) -> str:
    lines = [f"Reporting-MTA: dns; {facts.hostname}"]
    if facts.envelope.envid:
        lines.append(f"Original-Envelope-Id: {printable(facts.envelope.envid)}")
    lines.append(f"Arrival-Date: {facts.arrival_date}")
    for status in statuses:
        lines.append("")
        if status.orcpt:
            lines.append(f"Original-Recipient: {printable(status.orcpt)}")
        kind = "rfc822" if status.address.isascii() else "utf-8"
        lines += [
            f"Final-Recipient: {kind}; {status.address}",
            f"Action: {status.action}",
            f"Status: {status.reply.status}",
        ]
        if status.remote:
            lines.append(f"Remote-MTA: dns; {printable(status.remote)}")
        lines.append(f"Diagnostic-Code: smtp; {status.reply}")
    return "\r\n".join(lines) + "\r\n"
