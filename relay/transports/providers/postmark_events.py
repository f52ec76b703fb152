"""What Postmark's callbacks say, and what it says of bounces when asked.

In: a Callback; an answer of `GET /bounces`. Out: ProviderEvents, a Page. Pure; raises CallbackError. Sources: the
vendor's webhook reference, and its reference of the bounce API.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Final

from relay.mail.event import EventKind
from relay.transports.providers.base import Callback, HttpRequest, HttpResponse, Page, ProviderEvent
from relay.transports.providers.callbacks import (
    IGNORED,
    Words,
    event,
    json_objects,
    listed,
)
from relay.transports.providers.polls import day_of, list_in, offset_of, oldest_of, question, sweep_of

PAGE: Final = 500
_DEEPEST: Final = 10_000
_DAY: Final = 86_400.0
_UNTIL: Final = re.compile(r"\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d)?", re.ASCII)
_NEW_YORK_IN_SUMMER: Final = timezone(timedelta(hours=-4))

_WORDS: Final[Words] = {
    "Delivery": EventKind.DELIVERED,
    "Bounce": EventKind.BOUNCED,
    "Bounce soft": EventKind.DELAYED,
    "SpamComplaint": EventKind.COMPLAINED,
    "Open": EventKind.OPENED,
    "Click": EventKind.CLICKED,
    "SubscriptionChange": EventKind.UNSUBSCRIBED,
    "SubscriptionChange off": IGNORED,
}
# Bounce types after which Postmark tries again, or that are no bounce at all.
_SOFT: Final = ("Transient", "SoftBounce", "DnsError", "AutoResponder", "ChallengeVerification", "Subscribe")

_HARD: Final = ("HardBounce", "BadEmailAddress")


def read_events(callback: Callback) -> list[ProviderEvent]:
    """Not signed."""

    def read() -> Iterator[ProviderEvent | None]:
        for each in json_objects(callback.body):
            word = str(each.get("RecordType", ""))
            if word == "Bounce" and each.get("Type") in _SOFT:
                word = "Bounce soft"
            if word == "Bounce" and each.get("Type") == "Unsubscribe":
                word = "SubscriptionChange"
            if word == "SubscriptionChange" and each.get("SuppressSending") is False:
                word = "SubscriptionChange off"
            moments = ("DeliveredAt", "BouncedAt", "ReceivedAt", "ChangedAt")
            at = next((each[name] for name in moments if each.get(name)), None)
            yield event(
                _WORDS,
                word,
                remote_id=each.get("MessageID"),
                recipient=each.get("Recipient") or each.get("Email"),
                key=f"bounce {each['ID']}"
                if each.get("ID")
                else f"{word} {each.get('MessageID')} {each.get('Recipient') or ''} {at}",
                at=at,
                said=each.get("Details") or each.get("Description"),
                hard=each.get("Type") in _HARD if each.get("Type") else None,
            )

    return listed(read())


def question_for(url: str, stream: str, cursor: str, now: float) -> HttpRequest:
    """`url` is that of the bounces, newest first. Its days are those of New York."""
    sweep = sweep_of(cursor, now)
    offset, until = _place(sweep.page)
    fields: dict[str, object] = {"count": PAGE, "offset": offset, "fromdate": day_of(sweep.since - _DAY)}
    if until:
        fields["todate"] = until
    return question(url, {**fields, **({"messagestream": stream} if stream else {})})


def read_page(response: HttpResponse, cursor: str, now: float) -> Page:
    """Bounces, and complaints among them: what a callback says of each, with its `Type` where that has a RecordType.

    A search brings 10,000 at most. Older ones are those of a search that ends where this one came to.
    """
    sweep = sweep_of(cursor, now)
    bounces, _ = list_in(response, "Bounces")
    kinds = [{**each, "RecordType": "SpamComplaint" if each.get("Type") == "SpamComplaint" else "Bounce"}
             for each in bounces]  # fmt: skip
    events = tuple(read_events(Callback({}, json.dumps(kinds).encode())))
    offset, until = _place(sweep.page)
    offset += PAGE
    oldest = oldest_of(bounces, "BouncedAt")
    if len(bounces) < PAGE or oldest < sweep.since:
        return Page(events, sweep.ended(), more=False)
    if offset + PAGE > _DEEPEST:
        offset, until = 0, _narrower(until, oldest)
        if not until:
            return Page(events, sweep.ended(), more=False)
    return Page(events, sweep.at(f"{offset} {until}" if until else str(offset)), more=True)


def _place(page: str) -> tuple[int, str]:
    """Offset, and the end of the search; `""`: now."""
    offset, _, until = page.partition(" ")
    return offset_of(offset), until if _UNTIL.fullmatch(until) else ""


def _narrower(until: str, oldest: float) -> str:
    """The end of a search for what is not newer than `oldest`: a day, or a second where one day holds too many.

    Never before `oldest`, whatever the season in New York. `""`: nothing is narrower than `until`.
    """
    day = day_of(oldest)
    if not until or day < until[:10]:
        return day
    second = datetime.fromtimestamp(oldest + 1, _NEW_YORK_IN_SUMMER).strftime("%Y-%m-%dT%H:%M:%S")
    return second if len(until) == len(day) or second < until else ""
