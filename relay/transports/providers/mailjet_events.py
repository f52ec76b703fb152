"""What Mailjet's callbacks say, and how they are signed.

In: a Callback. Out: ProviderEvents. Pure; raises CallbackError. Source: the vendor's webhook reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from relay.mail.event import EventKind
from relay.transports.providers.base import Callback, ProviderEvent
from relay.transports.providers.callbacks import (
    Words,
    event,
    json_objects,
    listed,
)

_WORDS: Final[Words] = {
    "sent": EventKind.DELIVERED,
    "open": EventKind.OPENED,
    "click": EventKind.CLICKED,
    "bounce hard": EventKind.BOUNCED,
    "bounce soft": EventKind.DELAYED,
    "blocked": EventKind.BOUNCED,
    "spam": EventKind.COMPLAINED,
    "unsub": EventKind.UNSUBSCRIBED,
}


def read_events(callback: Callback) -> list[ProviderEvent]:
    """Not signed. Its `sent` is said when the recipient's host took the message."""

    def read() -> Iterator[ProviderEvent | None]:
        for each in json_objects(callback.body):
            word = str(each.get("event", ""))
            if word == "bounce":
                word = "bounce hard" if each.get("hard_bounce") else "bounce soft"
            remote_id = each.get("MessageID")
            yield event(
                _WORDS,
                word,
                remote_id=remote_id,
                recipient=each.get("email"),
                key=f"{word} {remote_id} {each.get('email')} {each.get('time')}",
                at=each.get("time"),
                said=each.get("smtp_reply") or each.get("comment") or each.get("error"),
                hard=_hard(each),
            )

    return listed(read())


def _hard(each: Mapping[str, Any]) -> bool | None:
    """Of a bounce; what it blocked says by its error whose fault it is."""
    found = each.get("hard_bounce")
    return found if isinstance(found, bool) else None
