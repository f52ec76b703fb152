"""What a port answers to EHLO: its name, then a line for each extension.

In: what is offered to the session, as values. Out: the reply as octets. Kept for the offers made last, for the sessions
of a port differ in few of them. Source: RFC 5321 §4.1.1.1, RFC 4865 §4, RFC 9422 §4.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from relay.mail.dates import timestamp
from relay.smtpd.xclient import ATTRIBUTES


class Offered(NamedTuple):
    """`hold`: for how many seconds a message may be held, and until which second since the epoch."""

    hostname: str
    size: int
    recipients: int
    transactions: int
    starttls: bool
    secured: bool
    mechanisms: tuple[str, ...]
    hold: tuple[int, int] | None
    xclient: bool
    xclient_login: bool


@lru_cache(maxsize=256)
def ehlo(offered: Offered) -> bytes:
    lines = (offered.hostname, *_extensions(offered))
    text = "".join(f"250-{line}\r\n" for line in lines[:-1]) + f"250 {lines[-1]}\r\n"
    return text.encode("ascii", "replace")


def _extensions(offered: Offered) -> list[str]:
    lines = [f"SIZE {offered.size}", "PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "BINARYMIME"]
    if offered.starttls:
        lines.append("STARTTLS")
    if offered.mechanisms:
        lines.append(" ".join(("AUTH", *offered.mechanisms)))
    if offered.hold is not None:
        until = timestamp(offered.hold[1])
        lines.append(f"FUTURERELEASE {offered.hold[0]} {until}")
    if offered.xclient:
        lines.append(" ".join(("XCLIENT", *ATTRIBUTES, *("LOGIN",) * offered.xclient_login)))
    if offered.secured:
        lines.append("REQUIRETLS")
    mails = f" MAILMAX={offered.transactions}" if offered.transactions else ""
    limits = f"LIMITS{mails} RCPTMAX={offered.recipients}"
    return [*lines, "DSN", "MT-PRIORITY", "DELIVERBY", limits, "ENHANCEDSTATUSCODES"]
