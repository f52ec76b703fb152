"""Whether Mailgun has a message: its events by Message-ID, which it keeps, since the attempt.

In: a lost call; an answer of `GET /DOMAIN/events`. Out: an HttpRequest; Found. Pure; raises CallbackError. Source: the
vendor's reference of events (`message-id`), and its manual, "Event polling": events are complete after half an hour.
"""

from __future__ import annotations

from relay.transports.providers.base import Found, HttpRequest, HttpResponse, Lost
from relay.transports.providers.callbacks import inner
from relay.transports.providers.mailgun_events import PAGE
from relay.transports.providers.polls import list_in, question, token_of
from relay.transports.providers.questions import CLOCKS, demanded


def question_for(url: str, message_id: str, lost: Lost, page: str) -> HttpRequest:
    """`url` is that of the domain's events."""
    if page:
        return question(f"{url}/{page}", {})
    fields = {"message-id": message_id, "begin": int(lost.since - CLOCKS), "ascending": "yes", "limit": PAGE}
    return question(url, fields)


def read_found(response: HttpResponse, message_id: str, page: str) -> Found:
    """Any event of the message says that it was taken; an empty page is the last."""
    items, answer = list_in(response, "items")
    mine = [each for each in items if demanded(inner(each, "message", "headers"), "message-id") == message_id]
    entries = tuple((str(each.get("recipient")), message_id) for each in mine)
    following = str(inner(answer, "paging", "next") or "").rpartition("/events/")[2]
    if not items or not following or following == page:
        return Found(entries)
    return Found(entries, token_of(following))
