"""What Mailgun's callbacks say and how they are signed, and what it says of the same events when asked.

In: a Callback; an answer of `GET /DOMAIN/events`. Out: ProviderEvents, a Page. Pure; raises CallbackError. Sources: the
vendor's webhook reference, and its reference of events.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from relay.mail.event import EventKind
from relay.transports.providers.base import Callback, HttpRequest, HttpResponse, Page, ProviderEvent
from relay.transports.providers.callbacks import (
    IGNORED,
    Words,
    demand_fresh,
    demand_hmac,
    event,
    inner,
    json_objects,
    listed,
)
from relay.transports.providers.polls import list_in, question, sweep_of, token_of

PAGE: Final = 300

_WORDS: Final[Words] = {
    "accepted": IGNORED,
    "stored": IGNORED,
    "delivered": EventKind.DELIVERED,
    "failed permanent": EventKind.BOUNCED,
    "failed temporary": EventKind.DELAYED,
    "rejected": EventKind.BOUNCED,
    "opened": EventKind.OPENED,
    "clicked": EventKind.CLICKED,
    "unsubscribed": EventKind.UNSUBSCRIBED,
    "complained": EventKind.COMPLAINED,
}

_HARD: Final = {"hard": True, "soft": False}


def read_events(callback: Callback) -> list[ProviderEvent]:
    """Signed with HMAC over time and token; the secret is the webhook signing key."""

    def read() -> Iterator[ProviderEvent | None]:
        for each in json_objects(callback.body):
            if callback.secret:
                proof = each.get("signature")
                stamp, token = str(inner(proof, "timestamp") or ""), str(inner(proof, "token") or "")
                demand_hmac(
                    callback.secret.encode(),
                    (stamp + token).encode("utf-8", "surrogatepass"),
                    str(inner(proof, "signature") or ""),
                )
                demand_fresh(stamp, callback.now)
            yield _event(each.get("event-data"))

    return listed(read())


def _event(data: object) -> ProviderEvent | None:
    word = str(inner(data, "event") or "")
    status = inner(data, "delivery-status")
    return event(
        _WORDS,
        f"{word} {inner(data, 'severity') or 'permanent'}" if word == "failed" else word,
        remote_id=inner(data, "message", "headers", "message-id"),
        recipient=inner(data, "recipient"),
        key=inner(data, "id"),
        at=inner(data, "timestamp"),
        said=f"{inner(status, 'code') or ''} {inner(status, 'message') or inner(status, 'description') or ''}",
        hard=_HARD.get(str(inner(status, "bounce-type"))),
    )


def question_for(url: str, cursor: str, now: float) -> HttpRequest:
    """`url` is that of the domain's events, oldest first."""
    sweep = sweep_of(cursor, now)
    if sweep.page:
        return question(f"{url}/{sweep.page}", {})
    return question(url, {"begin": int(sweep.since), "ascending": "yes", "limit": PAGE})


def read_page(response: HttpResponse, cursor: str, now: float) -> Page:
    """An empty page is the last. Of the link to the next one the last word counts, and not whose host it names."""
    sweep = sweep_of(cursor, now)
    items, answer = list_in(response, "items")
    following = str(inner(answer, "paging", "next") or "").rpartition("/events/")[2]
    events = tuple(listed(map(_event, items)))
    if not items or not following or following == sweep.page:
        return Page(events, sweep.ended(), more=False)
    return Page(events, sweep.at(token_of(following)), more=True)
