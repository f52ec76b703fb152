"""What SparkPost's callbacks say, and what it says of the same events when asked.

In: a Callback; an answer of `GET /events/message`. Out: ProviderEvents, a Page. Pure; raises CallbackError. Sources:
the vendor's webhook reference, and its reference of the events API.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from relay.mail.event import EventKind
from relay.transports.providers.base import Callback, CallbackError, HttpRequest, HttpResponse, Page, ProviderEvent
from relay.transports.providers.callbacks import (
    IGNORED,
    Words,
    event,
    inner,
    json_objects,
    listed,
)
from relay.transports.providers.polls import list_in, minute_of, question, sweep_of, token_of

PAGE: Final = 1000

_WORDS: Final[Words] = {
    "injection": IGNORED,
    "delivery": EventKind.DELIVERED,
    "bounce": EventKind.BOUNCED,
    "out_of_band": EventKind.BOUNCED,
    "delay": EventKind.DELAYED,
    "policy_rejection": EventKind.BOUNCED,
    "generation_failure": EventKind.BOUNCED,
    "generation_rejection": EventKind.BOUNCED,
    "spam_complaint": EventKind.COMPLAINED,
    "open": EventKind.OPENED,
    "initial_open": IGNORED,
    "amp_open": EventKind.OPENED,
    "click": EventKind.CLICKED,
    "amp_click": EventKind.CLICKED,
    "list_unsubscribe": EventKind.UNSUBSCRIBED,
    "link_unsubscribe": EventKind.UNSUBSCRIBED,
}

# Invalid Recipient, Generic Bounce: No RCPT. Undetermined (1) is left to the reply's status.
_HARD: Final = ("10", "30")
_UNDETERMINED: Final = ("", "1", "None")


def read_events(callback: Callback) -> list[ProviderEvent]:
    """Not signed. An empty batch is its test of the address."""

    def read() -> Iterator[ProviderEvent | None]:
        for each in json_objects(callback.body):
            groups = each.get("msys")
            for found in groups.values() if isinstance(groups, dict) else ():
                yield _event(found)

    return listed(read())


def _event(found: object) -> ProviderEvent | None:
    return event(
        _WORDS,
        inner(found, "type"),
        remote_id=inner(found, "transmission_id"),
        recipient=inner(found, "raw_rcpt_to") or inner(found, "rcpt_to"),
        key=inner(found, "event_id"),
        at=inner(found, "timestamp"),
        said=inner(found, "raw_reason") or inner(found, "reason"),
        hard=_hard(inner(found, "bounce_class")),
    )


def question_for(url: str, cursor: str, now: float) -> HttpRequest:
    """`url` is that of the message events."""
    sweep = sweep_of(cursor, now)
    wanted = ",".join(word for word, meaning in _WORDS.items() if meaning is not IGNORED)
    fields = {"from": minute_of(sweep.since), "events": wanted, "per_page": PAGE}
    return question(url, {**fields, "cursor": sweep.page or "initial"})


def read_page(response: HttpResponse, cursor: str, now: float) -> Page:
    """Without a link to the next page it is the last. Of the link only its cursor counts."""
    sweep = sweep_of(cursor, now)
    results, answer = list_in(response, "results")
    following = following_in(answer)
    events = tuple(listed(map(_event, results)))
    if not results or not following or following == sweep.page:
        return Page(events, sweep.ended(), more=False)
    return Page(events, sweep.at(token_of(following)), more=True)


def following_in(answer: Mapping[str, Any]) -> str:
    """The cursor of the next page, `""` where there is none. Raises CallbackError.

    A plus sign is one, and no space: base64 is full of them.
    """
    link = inner(answer, "links", "next")
    if not link:
        return ""
    query = parse_qs(str(link).partition("?")[2].partition("#")[0].replace("+", "%2B"))
    found = query.get("cursor", [""])[0]
    if not found:
        raise CallbackError("the link to the next page holds no cursor")
    return found


def _hard(bounce_class: object) -> bool | None:
    """A number, or a number in a string."""
    found = str(bounce_class)
    return None if found in _UNDETERMINED else found in _HARD
