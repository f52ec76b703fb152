"""Received-SPF: the header field that records an SPF result.

In: the result and the facts of the transaction. Out: the field, folded, CRLF at its end. Never raises: what a client
or a zone says is quoted and made printable.
Source: RFC 7208 §9.1, RFC 6532 §3.2 (UTF-8 in quoted strings, for SMTPUTF8 mail only).
"""

from __future__ import annotations

import re
from typing import Final

from relay.mail.envelope import Envelope
from relay.mail.reply import printable
from relay.mail.session import Session
from relay.ports import SpfResult

_DOT_ATOM: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LONGEST_VALUE: Final = 320  # octets of the longest mailbox; escaped, it still fits into a line
_LONGEST_COMMENT: Final = 400


def received_spf(hostname: str, result: SpfResult, session: Session, envelope: Envelope) -> bytes:
    """The field of one message; `hostname` is ours."""
    utf8 = envelope.smtputf8
    pairs = [
        f"client-ip={_value(session.peer)}",
        f"envelope-from={_value(envelope.reverse_path or '', utf8=utf8)}",
        f"helo={_value(session.helo)}",
        f"receiver={_value(hostname)}",
        f"identity={'mailfrom' if envelope.reverse_path else 'helo'}",
    ]
    first = f"Received-SPF: {result.result} ({_comment(hostname, result.explanation)})"
    return (first + "\r\n\t" + ";\r\n\t".join(pairs) + "\r\n").encode("utf-8")


def _value(text: str, *, utf8: bool = False) -> str:
    """A dot-atom, else a quoted string."""
    if utf8:
        safe = _CONTROL.sub("?", text).encode("utf-8")[:_LONGEST_VALUE].decode("utf-8", "ignore")
    else:
        safe = printable(text, _LONGEST_VALUE)
    if _DOT_ATOM.match(safe):
        return safe
    return '"' + safe.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _comment(hostname: str, explanation: str) -> str:
    text = f"{hostname}: {explanation}" if explanation else hostname
    return re.sub(r"([()\\])", r"\\\1", printable(text, _LONGEST_COMMENT))
