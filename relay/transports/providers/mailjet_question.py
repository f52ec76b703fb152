"""Whether Mailjet has a message: its message list by CustomID, which is the relay's id of the message.

In: a lost call; an answer of `GET /v3/REST/message`. Out: an HttpRequest; Found. Pure; raises CallbackError. Source:
the vendor's reference of /message (CustomID, ShowCustomID, ShowContactAlt, FromTS, Limit, Offset).
"""

from __future__ import annotations

from typing import Final

from relay.transports.providers.base import Found, HttpRequest, HttpResponse, Lost
from relay.transports.providers.polls import list_in, offset_of, question
from relay.transports.providers.questions import demanded

PAGE: Final = 1000
_DAY: Final = 86_400
_SENDS: Final = "/v3.1"


def question_for(base_url: str, lost: Lost, page: str) -> HttpRequest:
    """`base_url` is that of the Send API; the list belongs to the generation before."""
    fields = {
        "CustomID": lost.request.message_id,
        "ShowCustomID": "true",
        "ShowContactAlt": "true",
        "FromTS": int(lost.since) - _DAY,
        "Limit": PAGE,
        "Offset": offset_of(page),
    }
    return question(f"{base_url.removesuffix(_SENDS)}/v3/REST/message", fields)


def read_found(response: HttpResponse, lost: Lost, page: str) -> Found:
    """An entry for each recipient."""
    messages, _ = list_in(response, "Data")
    mine = [one for one in messages if demanded(one, "CustomID") == lost.request.message_id]
    entries = tuple((str(demanded(one, "ContactAlt")), str(one.get("ID") or "")) for one in mine)
    return Found(entries, str(offset_of(page) + PAGE) if len(messages) >= PAGE else "")
