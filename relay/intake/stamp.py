"""Stamps: the fields put before a message on acceptance. The message itself is not touched.

Source: RFC 5321 §4.4 (Received), RFC 5322 §3.6 (Date, From, Message-ID), RFC 6409 §8 (what a submission
server may add), RFC 3848 (protocol words), RFC 6710 §7 (PRIORITY).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from relay.mail.dates import date_time
from relay.mail.envelope import Envelope
from relay.mail.reply import printable
from relay.mail.session import Session

_COMMENT_SPECIALS: Final = re.compile(r"[()\\]")
_NO_ATOM: Final = re.compile(r"[^A-Za-z0-9.:_\[\]-]")


def protocol_word(session: Session, *, smtputf8: bool = False) -> str:
    """RFC 3848: SMTP, ESMTP, ESMTPS, ESMTPA or ESMTPSA; UTF8SMTP... where SMTPUTF8 was asked for (RFC 6531 §4.3)."""
    if session.protocol != "ESMTP":
        return session.protocol
    word = "UTF8SMTP" if smtputf8 else "ESMTP"
    return word + ("S" if session.tls else "") + ("A" if session.login and not session.login.bound else "")


def received(session: Session, envelope: Envelope, message_id: str, hostname: str, at: float) -> bytes:
    """The trace field, with the TLS and AUTH facts. A recipient is named only when it is the only one."""
    peer = f"IPv6:{session.peer}" if ":" in session.peer else session.peer
    place = f"[{peer}]" if session.uid is None else f"local, uid {session.uid}"
    lines = [f"Received: from {_atom(session.helo)} ({place})"]
    if session.tls is not None:
        lines.append(f"(using {session.tls.version} with cipher {session.tls.cipher} ({session.tls.bits} bits))")
    if session.login is not None:
        how = "known" if session.login.bound else "authenticated"
        lines.append(f"({how} as {_comment(session.login.username)})")
    target = f" for <{envelope.recipients[0].address}>" if len(envelope.recipients) == 1 else ""
    word = protocol_word(session, smtputf8=envelope.smtputf8)
    urgent = f" PRIORITY {envelope.priority}" if envelope.priority else ""
    lines.append(f"by {hostname} (Sendrelay) with {word} id {message_id}{target}{urgent};")
    lines.append(date_time(at))
    return ("\r\n\t".join(lines) + "\r\n").encode("utf-8")


def missing_fields(
    present: Iterable[str], envelope: Envelope, message_id: str, hostname: str, at: float, *, whole_header: bool
) -> bytes:
    """The fields a message must have and has not (`present` holds the names it has, in lower case).

    `whole_header` is set when the client sent no header block at all: then To is made as well, without naming
    several recipients to each other.
    """
    have = set(present)
    lines = []
    sender = envelope.reverse_path or f"MAILER-DAEMON@{hostname}"
    if "from" not in have:
        lines.append(f"From: <{sender}>")
    if whole_header:
        only = len(envelope.recipients) == 1
        lines.append(f"To: <{envelope.recipients[0].address}>" if only else "To: undisclosed-recipients:;")
    if "date" not in have:
        lines.append(f"Date: {date_time(at)}")
    if "message-id" not in have:
        lines.append(f"Message-ID: <{message_id}.{int(at)}@{hostname}>")
    return "".join(f"{line}\r\n" for line in lines).encode("utf-8")


def _atom(helo: str) -> str:
    """A HELO name fit to stand outside a comment."""
    return _NO_ATOM.sub("?", helo)[:255] or "unknown"


def _comment(text: str) -> str:
    return _COMMENT_SPECIALS.sub("?", printable(text, 255))
