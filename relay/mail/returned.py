"""Returned mail: what a message that came to a return path says of our recipients.

In: the whole message. Out: what it reports, nothing where it is no delivery report. Never raises: it is a stranger's.
Read are RFC 3464 (message/delivery-status; RFC 6533 for UTF-8 addresses), Exim's X-Failed-Recipients, and qmail's
QSBMF, which says in prose what the others say in fields.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from relay.mail.errors import MessageSyntaxError
from relay.mail.message import first_value, header_block, header_fields
from relay.mail.mime import raw_text
from relay.mail.parts import take_apart
from relay.mail.reply import printable
from relay.mail.xtext import decoded

_STATUS_TYPES: Final = ("message/delivery-status", "message/global-delivery-status")
_ACTIONS: Final = ("failed", "delayed", "delivered", "relayed", "expanded")
_MOST_RECIPIENTS: Final = 1000
_LARGEST_REPORT: Final = 1_048_576
_LONGEST_WORDS: Final = 300
_STATUS = re.compile(r"\s*([245]\.\d{1,3}\.\d{1,3})(?:\s|\(|\Z)")
_QMAIL_START: Final = "Hi. This is the"
_QMAIL_RECIPIENT = re.compile(r"<([^<>\s]{3,320})>:")
_QMAIL_WORDS: Final = 2000
_QMAIL_STATUS = re.compile(r"\(#([245]\.\d{1,3}\.\d{1,3})\)")


@dataclass(frozen=True, slots=True)
class ReportedRecipient:
    """`action` in RFC 3464's words. `addresses`: what it calls the recipient, the original one first.

    `status` is `""` where none is given; `words` are printable.
    """

    action: str
    addresses: tuple[str, ...]
    status: str
    words: str


def read_report(content: bytes) -> tuple[ReportedRecipient, ...]:
    """What the message reports, in its order."""
    failed = first_value(header_block(content), "x-failed-recipients")
    try:
        parts = take_apart(content)
    except MessageSyntaxError:
        return _exim(failed)
    reports = [one.content for one in parts.attachments if one.content_type in _STATUS_TYPES]
    if reports:
        return _delivery_status(reports[0][:_LARGEST_REPORT])
    return _exim(failed) or _qmail(parts.text or "")


def _delivery_status(report: bytes) -> tuple[ReportedRecipient, ...]:
    """The blocks after the first are one recipient each (RFC 3464 §2.1)."""
    blocks = report.replace(b"\r\n", b"\n").strip(b"\n").split(b"\n\n")
    found = (_recipient(block) for block in blocks[1 : _MOST_RECIPIENTS + 1])
    return tuple(one for one in found if one is not None)


def _recipient(block: bytes) -> ReportedRecipient | None:
    fields: dict[str, str] = {}
    for item in header_fields(block.lstrip(b"\n").replace(b"\n", b"\r\n") + b"\r\n"):
        fields.setdefault(item.name, raw_text(item.value)[0])
    action = fields.get("action", "").strip().lower()
    if action not in _ACTIONS:
        return None
    named = [_address(fields.get(name, "")) for name in ("original-recipient", "final-recipient")]
    status = _STATUS.match(fields.get("status", ""))
    words = fields.get("diagnostic-code", "").partition(";")[2].strip() or fields.get("status", "")
    return ReportedRecipient(
        action,
        # Some give back the xtext of ORCPT as it was.
        tuple(dict.fromkeys(spelt for address in named for spelt in (address, decoded(address)) if address)),
        status[1] if status else "",
        printable(" ".join(words.split()), _LONGEST_WORDS),
    )


def _address(value: str) -> str:
    """`rfc822; bob@example.com` without its type."""
    return value.partition(";")[2].strip().strip("<>")


def _exim(failed: str | None) -> tuple[ReportedRecipient, ...]:
    addresses = [address.strip() for address in (failed or "").split(",")[:_MOST_RECIPIENTS]]
    return tuple(ReportedRecipient("failed", (one,), "", "X-Failed-Recipients") for one in addresses if "@" in one)


def _qmail(text: str) -> tuple[ReportedRecipient, ...]:
    """A paragraph for each recipient. Source: D. J. Bernstein, "The qmail-send Bounce Message Format"."""
    text = text[:_LARGEST_REPORT].replace("\r\n", "\n").lstrip("\n")
    if not text.startswith(_QMAIL_START):
        return ()
    found = []
    for paragraph in text.partition("\n--- ")[0].split("\n\n"):
        first, _, said = paragraph.lstrip("\n")[: _QMAIL_WORDS + 320].partition("\n")
        match = _QMAIL_RECIPIENT.fullmatch(first)
        if match is None:
            continue
        status = _QMAIL_STATUS.search(said)
        words = printable(" ".join(said.split()), _LONGEST_WORDS)
        found.append(ReportedRecipient("failed", (match[1],), status[1] if status else "", words))
        if len(found) == _MOST_RECIPIENTS:
            break
    return tuple(found)
