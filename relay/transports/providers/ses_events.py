"""What Amazon SES's callbacks say, and how they are signed.

In: a Callback. Out: ProviderEvents. Pure; raises CallbackError. Source: the vendor's webhook reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from relay.mail.event import EventKind
from relay.transports.providers.base import Callback, CallbackError, ProviderEvent
from relay.transports.providers.callbacks import (
    IGNORED,
    Words,
    address_of,
    event,
    inner,
    json_objects,
    listed,
)

_WORDS: Final[Words] = {
    "Send": IGNORED,
    "Delivery": EventKind.DELIVERED,
    "Bounce": EventKind.BOUNCED,
    "Bounce Transient": EventKind.DELAYED,
    "Reject": EventKind.BOUNCED,
    "Rendering Failure": EventKind.BOUNCED,
    "DeliveryDelay": EventKind.DELAYED,
    "Complaint": EventKind.COMPLAINED,
    "Open": EventKind.OPENED,
    "Click": EventKind.CLICKED,
    "Subscription": EventKind.UNSUBSCRIBED,
}
_HARD: Final = {"Permanent": True, "Transient": False}
# Where each kind names its recipients, and its own part.
_PARTS: Final = {
    "Bounce": ("bounce", "bouncedRecipients"), "Complaint": ("complaint", "complainedRecipients"),
    "DeliveryDelay": ("deliveryDelay", "delayedRecipients"), "Delivery": ("delivery", "recipients"),
}  # fmt: skip


def message_of(callback: Callback) -> dict[str, Any]:
    """What SNS wraps a notification in. Raises CallbackError."""
    found = json_objects(callback.body)
    if len(found) != 1:
        raise CallbackError("SNS posts one message at a time", forged=True)
    return found[0]


def read_events(callback: Callback, *, confirms: bool = False) -> list[ProviderEvent]:
    """By Amazon SNS, wrapped or raw. `confirms`: a subscription is confirmed by whoever checked the signature."""

    def read() -> Iterator[ProviderEvent | None]:
        for each in json_objects(callback.body):
            if each.get("Type") in ("SubscriptionConfirmation", "UnsubscribeConfirmation") and confirms:
                continue
            if each.get("Type") == "SubscriptionConfirmation":
                raise CallbackError(f"open this once to confirm the subscription: {each.get('SubscribeURL')}")
            message = each.get("Message")
            for found in json_objects(message.encode("utf-8", "surrogatepass")) if isinstance(message, str) else [each]:
                yield from _ses_events(found, each.get("MessageId"))

    return listed(read())


def _ses_events(found: dict[str, Any], name: object) -> Iterator[ProviderEvent | None]:
    word = str(found.get("eventType") or found.get("notificationType") or "")
    place, list_name = _PARTS.get(word, ("", ""))
    part = found.get(place)
    if word == "Bounce" and inner(part, "bounceType") == "Transient":
        word = "Bounce Transient"
    named = inner(part, list_name)
    recipients = named if isinstance(named, list) else inner(found, "mail", "destination")
    for each in recipients if isinstance(recipients, list) else ():
        recipient = inner(each, "emailAddress") or each
        yield event(
            _WORDS,
            word,
            remote_id=inner(found, "mail", "messageId"),
            recipient=address_of(recipient if isinstance(recipient, str) else ""),
            key=f"{name or ''} {word} {inner(found, 'mail', 'messageId')} {recipient} {inner(part, 'timestamp')}",
            at=inner(part, "timestamp") or inner(found, "mail", "timestamp"),
            said=inner(each, "diagnosticCode") or inner(part, "smtpResponse"),
            hard=_HARD.get(str(inner(part, "bounceType"))),
        )
