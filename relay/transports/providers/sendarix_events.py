"""What Sendarix's callbacks say.

In: a Callback. Out: ProviderEvents. Pure; raises CallbackError. Source: seeds/sendarix.txt, which names the events (a
webhook for each state change) and not their shape: names of the message's API are tried. Not signed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from relay.mail.event import EventKind
from relay.transports.providers.base import Callback, ProviderEvent
from relay.transports.providers.callbacks import IGNORED, Words, event, inner, json_objects, listed

_WORDS: Final[Words] = {
    "queued": IGNORED,
    "accepted": IGNORED,
    "delivered": EventKind.DELIVERED,
    "deferred": EventKind.DELAYED,
    "bounced": EventKind.BOUNCED,
    "bounce": EventKind.BOUNCED,
    "failed": EventKind.BOUNCED,
    "suppressed": EventKind.BOUNCED,
    "opened": EventKind.OPENED,
    "clicked": EventKind.CLICKED,
    "complaint": EventKind.COMPLAINED,
    "complained": EventKind.COMPLAINED,
    "unsubscribe": EventKind.UNSUBSCRIBED,
    "unsubscribed": EventKind.UNSUBSCRIBED,
}


def read_events(callback: Callback) -> list[ProviderEvent]:
    def read() -> Iterator[ProviderEvent | None]:
        for each in json_objects(callback.body):
            data = each.get("data") if isinstance(each.get("data"), dict) else each
            yield event(
                _WORDS,
                each.get("event") or each.get("type") or inner(data, "status"),
                remote_id=inner(data, "message_id"),
                recipient=inner(data, "recipient"),
                key=each.get("event_id") or each.get("id"),
                at=each.get("timestamp") or inner(data, "timestamp"),
                said=inner(data, "reason") or inner(data, "smtp", "response"),
            )

    return listed(read())
