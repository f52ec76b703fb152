"""Whether Postmark has a message: its search of outbound messages by metadata.

In: a lost call; an answer of `GET /messages/outbound`. Out: an HttpRequest; Found. Pure; raises CallbackError. Source:
the vendor's reference of the messages API (`metadata_NAME`, `messagestream`; days and times are those of New York).
"""

from __future__ import annotations

from typing import Final

from relay.transports.providers.answers import words_of
from relay.transports.providers.base import Found, HttpRequest, HttpResponse, Lost
from relay.transports.providers.callbacks import inner
from relay.transports.providers.polls import day_of, list_in, offset_of, question
from relay.transports.providers.questions import MARK, demanded

PAGE: Final = 500
_DAY: Final = 86_400.0


def question_for(url: str, stream: str, lost: Lost, page: str) -> HttpRequest:
    """`url` is that of the outbound messages."""
    fields = {
        "count": PAGE,
        "offset": offset_of(page),
        f"metadata_{MARK}": lost.request.message_id,
        "fromdate": day_of(lost.since - _DAY),
    }
    return question(url, {**fields, **({"messagestream": stream} if stream else {})})


def read_found(response: HttpResponse, lost: Lost, page: str) -> Found:
    """A message for each copy, with its recipients."""
    messages, _ = list_in(response, "Messages")
    entries = []
    for message in messages:
        if inner(demanded(message, "Metadata"), MARK) == lost.request.message_id:
            recipients = demanded(message, "Recipients")
            remote_id = words_of(message.get("MessageID"))
            entries += [(str(one), remote_id) for one in recipients] if isinstance(recipients, list) else []
    return Found(tuple(entries), str(offset_of(page) + PAGE) if len(messages) >= PAGE else "")
