"""What SendPost's callbacks say, and how they are signed.

In: a Callback. Out: ProviderEvents. Pure; raises CallbackError. Source: the vendor's webhook reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from relay.mail.event import EventKind
from relay.transports.providers.base import Callback, ProviderEvent
from relay.transports.providers.callbacks import (
    IGNORED,
    Words,
    event,
    inner,
    json_objects,
    listed,
)

_WORDS: Final[Words] = {
    "0": IGNORED,
    "1": EventKind.BOUNCED,
    "2": EventKind.DELIVERED,
    "3": EventKind.DELAYED,
    "4": EventKind.BOUNCED,
    "5": EventKind.OPENED,
    "6": EventKind.CLICKED,
    "7": EventKind.UNSUBSCRIBED,
    "8": EventKind.COMPLAINED,
    "9": IGNORED,
    "10": EventKind.BOUNCED,
}

_HARD: Final = {"4": True}


def read_events(callback: Callback) -> list[ProviderEvent]:
    """Both contracts: v1 in camel case, the older one with ids in capitals. Not signed."""

    def read() -> Iterator[ProviderEvent | None]:
        for each in json_objects(callback.body):
            found = each.get("event")
            data = inner(found, "eventMetadata") or {}
            code = inner(data, "smtpCode") or inner(found, "smtpCode") or ""
            said = inner(data, "smtpDescription") or inner(found, "smtpDescription") or ""
            yield event(
                _WORDS,
                inner(found, "type"),
                remote_id=inner(found, "messageId") or inner(found, "messageID"),
                recipient=inner(found, "to"),
                key=inner(found, "eventId") or inner(found, "eventID"),
                at=inner(found, "timestamp") or inner(found, "submittedAt"),
                said=f"{code} {said}".strip(),
                hard=_HARD.get(str(inner(found, "type"))),
            )

    return listed(read())
