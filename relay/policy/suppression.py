"""Suppression: which reports put a recipient on an account's list, and what a client is told of one on it.

In: what was reported, the account's setting, an entry of the list. Out: a reason, a reply. Pure.
Source: RFC 3463 §3.2 and §3.3 (5.1.x and 5.2.1: the address is bad or disabled; another refusal is not for good).
"""

from __future__ import annotations

import re
from typing import Final, Literal

from relay.mail.event import EventKind
from relay.mail.reply import Reply, printable, reply
from relay.ports import Suppression, SuppressionReason

Wanted = Literal["off", "bounces", "complaints", "all"]

_HARD: Final = re.compile(r"(?<![\d.])5\.(?:1\.(?:0|1|2|3|6|10)|2\.1)(?![\d.])")
_STATUS: Final = re.compile(r"(?<![\d.])[245]\.\d{1,3}\.\d{1,3}(?![\d.])")
_BARE: Final = re.compile(r"(?<!\d)55[013](?!\d)")


def reason_for(kind: EventKind, words: str, wanted: Wanted, hard: bool | None = None) -> SuppressionReason | None:
    """A bounce counts where the address is to blame: as the peer says (`hard`), else by the status in its `words`."""
    if kind is EventKind.COMPLAINED and wanted in ("complaints", "all"):
        return "complaint"
    if kind is EventKind.BOUNCED and wanted in ("bounces", "all") and (_is_hard(words) if hard is None else hard):
        return "bounce"
    return None


def _is_hard(words: str) -> bool:
    if _STATUS.search(words):
        return _HARD.search(words) is not None
    return _BARE.search(words) is not None


def not_sent(found: Suppression) -> Reply:
    """Of mail that was taken before the address was on the list, or that named it past the door."""
    why = f"{found.reason}: {found.words}"[:150] if found.words else found.reason
    text = f"Not sent: on the suppression list of account {found.account} ({why}); relay suppression remove"
    if found.reason == "bounce":
        return reply(550, "5.1.1", printable(text, 300))
    return reply(550, "5.7.1", printable(text, 300))


def refusal_of(found: Suppression) -> Reply:
    """5.1.1 where the address does not exist, 5.7.1 where its owner or the operator does not want the mail."""
    if found.reason == "bounce":
        return reply(550, "5.1.1", printable(f"Suppressed: mail to this address bounced: {found.words}", 300))
    if found.reason == "complaint":
        return reply(550, "5.7.1", "Suppressed: its owner called mail spam")
    return reply(550, "5.7.1", "Suppressed: the operator put it on the list")
