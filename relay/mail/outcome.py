"""Outcome: what became of one recipient in one attempt. Every one holds a Reply.

Errors are temporary unless somebody said otherwise: an unknown fault is `Deferred`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from relay.mail.frozen import frozen
from relay.mail.reply import Reply


class Fault(StrEnum):
    """Whose fault a deferral is, and so what has to wait."""

    MESSAGE = "message"  # this message or recipient only
    HOST = "host"  # connection or handshake: every message to this host
    ROUTE = "route"  # credentials, suspension, quota: every message on this route


@frozen
class Delivered:
    """The recipient's own MX took it, or a provider reported delivery."""

    reply: Reply


@frozen
class Sent:
    """A relay or provider took responsibility; `remote_id` is its name for the message."""

    reply: Reply
    remote_id: str = ""


@frozen
class Deferred:
    """Try again. `retry_after` is the peer's own wish in seconds, where it gave one.

    `repeats`: it may have been taken, and is carried out once where the same call is made again: there, nowhere else.
    """

    reply: Reply
    fault: Fault = Fault.MESSAGE
    retry_after: float | None = None
    repeats: bool = False


@frozen
class Failed:
    """Never here. `elsewhere` says that another candidate of the route may still carry the message."""

    reply: Reply
    elsewhere: bool = False


@frozen
class InDoubt:
    """The answer was lost after the last byte: the peer may or may not have taken it."""

    reply: Reply


Outcome = Delivered | Sent | Deferred | Failed | InDoubt
AfterDoubt = Literal["retry", "hold", "query"]
"""What is done about who is in doubt: sent again, held for the operator, or the next hop is asked first."""


def outcome_of(reply: Reply, *, final_hop: bool) -> Outcome:
    """A peer's verdict as an outcome; `final_hop` tells the recipient's own MX from a relay."""
    if reply.permanent:
        return Failed(reply)
    if reply.temporary:
        return Deferred(reply)
    return Delivered(reply) if final_hop else Sent(reply)
