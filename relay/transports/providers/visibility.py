"""Who may be seen: the recipients of one delivery sorted by the header field that names them.

In: envelope recipients and the message's To and Cc. Out: which recipients stand in To, which in Cc, which in neither
(Bcc, list members, forwarded mail), and whether the header names somebody this delivery does not reach. Pure.
The envelope decides who gets the mail; the header only decides who is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from relay.mail.address import comparable
from relay.mail.mime import Mailbox
from relay.mail.parts import Parts


@dataclass(frozen=True, slots=True)
class Visibility:
    """Every recipient stands in exactly one of the three; addresses are the envelope's, names the header's.

    `unreached`: To or Cc names an address that is no recipient of this delivery and so cannot be shown.
    """

    to: tuple[Mailbox, ...]
    cc: tuple[Mailbox, ...]
    hidden: tuple[str, ...]
    unreached: bool


def visibility(recipients: Iterable[str], parts: Parts) -> Visibility:
    """Addresses compare without regard to case and to how a domain is spelled (A- or U-labels)."""
    waiting: dict[str, list[str]] = {}
    for address in recipients:
        waiting.setdefault(comparable(address), []).append(address)
    reached = set(waiting)
    to = _take(waiting, parts.to)
    cc = _take(waiting, parts.cc)
    hidden = tuple(address for rest in waiting.values() for address in rest)
    named = {comparable(mailbox.address) for mailbox in (*parts.to, *parts.cc)}
    return Visibility(to, cc, hidden, not named <= reached)


def _take(waiting: dict[str, list[str]], mailboxes: tuple[Mailbox, ...]) -> tuple[Mailbox, ...]:
    taken = []
    for mailbox in mailboxes:
        rest = waiting.get(comparable(mailbox.address))
        if rest:
            taken.append(Mailbox(rest.pop(0), mailbox.name))
    return tuple(taken)
