"""Promises: what was promised to the client at the door and only some next hops can keep. Pure.

In: a request, what the next hop offers. Out: the Reply that ends the message there, or None.
A message with binary parts goes as it is, or as lines.
Sources: RFC 3030 §3 (BINARYMIME), RFC 2852 §4.1.4.1 (DELIVERBY), RFC 8689 §4.2.1 and §5 (REQUIRETLS).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from relay.mail.outcome import Failed
from relay.mail.reply import Reply, reply
from relay.ports import DeliveryReport, DeliveryRequest
from relay.transports.smtp_commands import Capabilities

_NO_DELIVERBY: Final = reply(
    554, "5.4.7", "Next hop does not offer DELIVERBY, so nobody would return the message when it is late"
)
_LATE: Final = reply(554, "5.4.7", "The time in which the message was to be delivered is over")


NO_REQUIRETLS: Final = reply(
    550, "5.7.30", "Message requires TLS to its end, and the next hop does not offer REQUIRETLS"
)
UNVERIFIED: Final = reply(550, "5.7.30", "Message requires TLS with a verified certificate, which this way out has not")
_NO_BINARYMIME: Final = reply(
    550, "5.6.1", "Message has binary parts that must not be encoded, and the next hop does not offer BINARYMIME"
)
_NO_PROMISE: Final = reply(550, "5.7.30", "Message requires TLS to its end, which an HTTP provider does not promise")


def as_text(request: DeliveryRequest) -> DeliveryRequest:
    """The request for the message as lines (`request.text`)."""
    return replace(request, envelope=replace(request.envelope, binary=False))


async def rather_than_lost(
    send: Callable[[DeliveryRequest], Awaitable[DeliveryReport]], request: DeliveryRequest
) -> DeliveryReport:
    """What `send` says; a notice that nobody promises TLS for is sent without that (RFC 8689 §5)."""
    report = await send(request)
    if not request.envelope.requiretls or request.envelope.reverse_path is not None:
        return report
    if not all(isinstance(one, Failed) and one.reply.status == UNVERIFIED.status for one in report.outcomes.values()):
        return report
    return await send(_without_tls(request))


def _without_tls(request: DeliveryRequest) -> DeliveryRequest:
    return replace(request, envelope=replace(request.envelope, requiretls=False))


def unkept(request: DeliveryRequest, offer: Capabilities, *, verified: bool) -> Reply | None:
    """Why a session that offers this may not be given the message. `verified`: over TLS, to whom it should be."""
    if request.envelope.binary and not offer.binary:
        return _NO_BINARYMIME
    if request.envelope.requiretls:
        if not verified:
            return UNVERIFIED
        if not offer.requiretls:
            return NO_REQUIRETLS
    if request.envelope.by_mode == "R" and request.by_seconds is not None:
        return _too_slow(request.by_seconds, offer.deliver_by)
    return None


def unkept_by_api(request: DeliveryRequest) -> Reply | None:
    """The same for a next hop that speaks no SMTP, and so promises nothing."""
    if request.envelope.requiretls:
        if request.envelope.reverse_path is not None:
            return _NO_PROMISE
        request = _without_tls(request)
    return unkept(as_text(request) if request.text is not None else request, Capabilities(), verified=False)


def _too_slow(left: int, shortest: int | None) -> Reply | None:
    if shortest is None:
        return _NO_DELIVERBY
    if left <= 0:
        return _LATE
    if left < shortest:
        text = f"Next hop wants {shortest} seconds for a delivery by a time, and the message has {left} left"
        return reply(554, "5.4.7", text)
    return None
