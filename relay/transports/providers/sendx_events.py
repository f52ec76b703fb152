"""What SendX's callbacks say.

In: a Callback. Out: ProviderEvents. Pure; raises CallbackError. Source: the vendor's webhook pages and SDK 2.0.0
(WebhookObject). Not signed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from relay.mail.event import EventKind
from relay.transports.providers.base import Callback, ProviderEvent
from relay.transports.providers.callbacks import IGNORED, Words, event, json_objects, listed

_WORDS: Final[Words] = {
    "5": EventKind.BOUNCED,
    "58": EventKind.BOUNCED,
    "60": EventKind.BOUNCED,
    "6": EventKind.COMPLAINED,
    "7": EventKind.OPENED,
    "8": EventKind.CLICKED,
    "73": EventKind.UNSUBSCRIBED,
    "74": IGNORED,
}


def read_events(callback: Callback) -> list[ProviderEvent]:
    def read() -> Iterator[ProviderEvent | None]:
        for each in json_objects(callback.body):
            yield event(
                _WORDS,
                each.get("type"),
                remote_id=each.get("provider_message_id"),
                recipient=each.get("contact_email"),
                key="",
                at=each.get("time"),
                said=each.get("data"),
            )

    return listed(read())
