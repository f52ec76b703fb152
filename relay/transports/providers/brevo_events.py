"""What Brevo's callbacks say, and what it says of the same events when asked.

In: a Callback; an answer of `GET /smtp/statistics/events`. Out: ProviderEvents, a Page. Pure; raises CallbackError.
Sources: the vendor's webhook reference, and its reference of transactional email activity.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from relay.mail.event import EventKind
from relay.transports.providers.answers import json_of
from relay.transports.providers.base import Callback, CallbackError, HttpRequest, HttpResponse, Page, ProviderEvent
from relay.transports.providers.callbacks import (
    IGNORED,
    Words,
    event,
    json_objects,
    listed,
    once,
)
from relay.transports.providers.polls import day_of, offset_of, question, sweep_of

PAGE: Final = 2500
AGAIN: Final = 100
"""Events read again, for one may come in before others that were read."""
_DAY: Final = 86_400.0
_ZONES: Final = 54_000.0
# Its words when asked, as its callbacks say them.
_ASKED: Final = {
    "requests": "request", "sent": "request", "hardBounces": "hard_bounce", "hardBounce": "hard_bounce",
    "softBounces": "soft_bounce", "softBounce": "soft_bounce", "clicks": "click", "clicked": "click",
    "invalid": "invalid_email", "loadedByProxy": "proxy_open",
}  # fmt: skip

_WORDS: Final[Words] = {
    "request": IGNORED,
    "delivered": EventKind.DELIVERED,
    "hard_bounce": EventKind.BOUNCED,
    "soft_bounce": EventKind.DELAYED,
    "deferred": EventKind.DELAYED,
    "blocked": EventKind.BOUNCED,
    "invalid_email": EventKind.BOUNCED,
    "error": EventKind.BOUNCED,
    "opened": EventKind.OPENED,
    "unique_opened": EventKind.OPENED,
    "proxy_open": IGNORED,
    "unique_proxy_open": IGNORED,
    "click": EventKind.CLICKED,
    "unsubscribed": EventKind.UNSUBSCRIBED,
    "spam": EventKind.COMPLAINED,
    "complaint": EventKind.COMPLAINED,
}

_HARD: Final = {"hard_bounce": True, "invalid_email": True, "blocked": False}


def read_events(callback: Callback) -> list[ProviderEvent]:
    """Not signed."""

    def read() -> Iterator[ProviderEvent | None]:
        for each in json_objects(callback.body):
            at = each.get("ts_epoch") or each.get("ts_event")
            yield _event(str(each.get("event")), each.get("message-id"), at, each)

    return listed(read())


def _event(word: str, remote_id: object, at: object, each: Mapping[str, Any]) -> ProviderEvent | None:
    return event(
        _WORDS,
        word,
        remote_id=remote_id,
        recipient=each.get("email"),
        key=once(_WORDS.get(word), word, remote_id, each.get("email"), at),
        at=at,
        said=each.get("reason"),
        hard=_HARD.get(word),
    )


def question_for(url: str, cursor: str, now: float) -> HttpRequest:
    """`url` is that of the unaggregated events: two days, oldest first."""
    sweep = sweep_of(cursor, now)
    last = min(sweep.since + _DAY, now)
    fields = {"startDate": day_of(sweep.since), "endDate": day_of(last), "sort": "asc", "limit": PAGE}
    return question(url, {**fields, "offset": offset_of(sweep.page)})


def read_page(response: HttpResponse, cursor: str, now: float) -> Page:
    """How many were read is the place in the two days; a day is left behind when it is over in every time zone."""
    sweep = sweep_of(cursor, now)
    answer = json_of(response)
    found = answer.get("events", []) if isinstance(answer, dict) else None
    if not isinstance(found, list):
        raise CallbackError("the answer holds no list 'events'")
    events = tuple(
        listed(
            _event(_ASKED.get(str(each.get("event")), str(each.get("event"))), each.get("messageId"), each.get("date"),
                   each)
            for each in found if isinstance(each, dict)
        )
    )  # fmt: skip
    offset = offset_of(sweep.page) + len(found)
    if len(found) >= PAGE:
        return Page(events, sweep.at(str(offset)), more=True)
    day_ends = (sweep.since // _DAY + 1) * _DAY
    if now > day_ends + _ZONES:
        return Page(events, sweep.ended(day_ends), more=now > day_ends + _DAY + _ZONES)
    return Page(events, sweep.at(str(max(offset - AGAIN, 0))), more=False)
