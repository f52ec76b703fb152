"""DSN: the notice that tells a sender what became of a message.

Source: RFC 3464 (message/delivery-status), RFC 6522 (multipart/report), RFC 3461 §4.3 and §6 (what is returned), RFC
6533 (addresses in UTF-8), RFC 2852 §5 (Deliver-By-Date), RFC 4865 §5.1.2 (Future-Release-Request).
Built from plain strings: everything that comes from a peer has been made printable before it gets here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from relay.mail.dates import date_time
from relay.mail.envelope import Envelope
from relay.mail.message import header_block
from relay.mail.reply import Reply, printable
from relay.mail.xtext import decoded

_LARGEST_HEADER = 51_200


Action = Literal["failed", "delayed", "delivered", "relayed"]


@dataclass(frozen=True, slots=True)
class RecipientStatus:
    """What became of one recipient: `action` in RFC 3464's words; `reply` is the peer's or our own last word.

    `until`: when attempts end, as an RFC 5322 date-time; for `delayed` alone.
    """

    address: str
    orcpt: str | None
    action: Action
    reply: Reply
    remote: str
    reason: str
    until: str = ""


@dataclass(frozen=True, slots=True)
class NoticeFacts:
    """What a notice is about. Dates are RFC 5322 date-times. `last`: the address gets no more for a while."""

    hostname: str
    notice_id: str
    message_id: str
    date: str
    arrival_date: str
    envelope: Envelope
    last: bool = False


def build(facts: NoticeFacts, statuses: Sequence[RecipientStatus], original: bytes, largest: int = 0) -> bytes:
    """The whole notice, CRLF line ends, ready to spool with the null sender.

    It returns the original's header; with a failure and RET=FULL the whole of it, up to `largest` octets, unless that
    was to go by TLS only (RFC 8689 §5), or holds what no line can.
    """
    assert facts.envelope.reverse_path is not None, "a null sender gets no notice"
    failed = any(status.action == "failed" for status in statuses)
    whole = failed and facts.envelope.ret == "FULL" and len(original) <= largest
    whole = whole and not (facts.envelope.requiretls or facts.envelope.binary)
    returned = original if whole else _returned_header(original)
    boundary = f"=_{facts.notice_id}"
    while boundary.encode() in returned:
        boundary += "="
    international = not all(status.address.isascii() for status in statuses)
    parts = (
        (b"text/plain; charset=utf-8", _explanation(facts, statuses).encode()),
        # RFC 6533 §3: the plain type has no room for UTF-8 addresses.
        (f"message/{'global-' if international else ''}delivery-status".encode(), _fields(facts, statuses).encode()),
        (_returned_type(original, whole=whole), returned),
    )
    separator = f"--{boundary}".encode()
    body = b"".join(_part(separator, kind, content) for kind, content in parts)
    return _header(facts, statuses, boundary).encode() + body + separator + b"--\r\n"


def _returned_type(original: bytes, *, whole: bool) -> bytes:
    """RFC 6533 §4.3: a type of their own for headers beyond ASCII."""
    if _is_utf8_only(_returned_header(original)):
        return b"message/global" if whole else b"message/global-headers"
    return b"message/rfc822" if whole else b"text/rfc822-headers"


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


def _header(facts: NoticeFacts, statuses: Sequence[RecipientStatus], boundary: str) -> str:
    subject = _SUBJECTS[_gravest(statuses)]
    return (
        f"From: Mail Delivery System <MAILER-DAEMON@{facts.hostname}>\r\n"
        f"To: <{facts.envelope.reverse_path}>\r\n"
        f"Subject: {subject}\r\n"
        f"Date: {facts.date}\r\n"
        f"Message-ID: <{facts.notice_id}@{facts.hostname}>\r\n"
        f"Auto-Submitted: auto-replied\r\n"
        f"MIME-Version: 1.0\r\n"
        f'Content-Type: multipart/report; report-type=delivery-status; boundary="{boundary}"\r\n\r\n'
    )


_SUBJECTS: Final[dict[Action, str]] = {
    "failed": "Undelivered mail returned to sender",
    "delayed": "Mail is delayed and still being tried",
    "delivered": "Mail was delivered",
    "relayed": "Mail was handed on",
}
_WORDS: Final[dict[Action, str]] = {
    "failed": "could not be delivered to these, and is not tried again:",
    "delayed": "has not been delivered to these yet, and is tried again:",
    "delivered": "was delivered to:",
    "relayed": "was handed on to a mail system that sends no notice of its own, for:",
}
_LAST: Final = (
    "So many of these notices went to your address that further ones are withheld",
    "for a while. What became of other mail stands in the log of the mail system;",
    "if you did not send it, somebody else uses your address.",
)


def _gravest(statuses: Sequence[RecipientStatus]) -> Action:
    return min((status.action for status in statuses), key=list(_WORDS).index)


def _explanation(facts: NoticeFacts, statuses: Sequence[RecipientStatus]) -> str:
    lines = [f"This is the mail system at {facts.hostname}.", ""]
    for action, words in _WORDS.items():
        concerned = [status for status in statuses if status.action == action]
        if concerned:
            lines += [f"Your message (id {facts.message_id}, received {facts.arrival_date}) {words}", ""]
        for status in concerned:
            where = f" ({printable(status.remote)})" if status.remote else ""
            until = f" until {status.until}" if status.until else ""
            lines += [f"<{status.address}>: {status.reason}{until}", f"    {status.reply}{where}", ""]
    if facts.last:
        lines += [*_LAST, ""]
    lines.append("Your message, or its header, is attached.")
    return "\r\n".join(lines) + "\r\n"


def _fields(facts: NoticeFacts, statuses: Sequence[RecipientStatus]) -> str:
    lines = [f"Reporting-MTA: dns; {facts.hostname}"]
    if facts.envelope.envid:
        lines.append(f"Original-Envelope-Id: {printable(decoded(facts.envelope.envid))}")
    lines.append(f"Arrival-Date: {facts.arrival_date}")
    if facts.envelope.hold_request:
        lines.append(f"Future-Release-Request: {facts.envelope.hold_request}")
    if facts.envelope.deliver_by is not None:
        lines.append(f"Deliver-By-Date: {date_time(facts.envelope.deliver_by)}")
    for status in statuses:
        lines.append("")
        if status.orcpt:
            lines.append(f"Original-Recipient: {_typed(status.orcpt)}")
        kind = "rfc822" if status.address.isascii() else "utf-8"
        lines += [
            f"Final-Recipient: {kind}; {status.address}",
            f"Action: {status.action}",
            f"Status: {status.reply.status}",
        ]
        if status.remote:
            lines.append(f"Remote-MTA: dns; {printable(status.remote)}")
        lines.append(f"Diagnostic-Code: smtp; {status.reply}")
        if status.until:
            lines.append(f"Will-Retry-Until: {status.until}")
    return "\r\n".join(lines) + "\r\n"


def _typed(orcpt: str) -> str:
    """`rfc822;Bob+40x` as `rfc822;Bob@x`."""
    kind, _, text = orcpt.partition(";")
    return f"{printable(kind)};{printable(decoded(text))}"
