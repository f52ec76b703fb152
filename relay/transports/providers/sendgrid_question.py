"""Whether SendGrid has a message: the Email Activity API, an extra that is paid for, by unique arguments.

In: a lost call; an answer of `GET /v3/messages`. Out: an HttpRequest; Found. Pure; raises CallbackError. Source: the
vendor's "Getting started with the Email Activity Feed API" and its query reference. Its answer does not repeat the
arguments, so that it kept to the query is taken on trust.
"""

from __future__ import annotations

from typing import Final

from relay.transports.providers.answers import words_of
from relay.transports.providers.base import Found, HttpRequest, HttpResponse, Lost
from relay.transports.providers.polls import list_in, question
from relay.transports.providers.questions import MARK, demanded

MOST: Final = 1000


def question_for(url: str, lost: Lost) -> HttpRequest:
    """`url` is that of the messages."""
    return question(url, {"query": f"(unique_args['{MARK}']=\"{lost.request.message_id}\")", "limit": MOST})


def read_found(response: HttpResponse) -> Found:
    """A message for each recipient; its id begins with what the call would have been answered."""
    messages, _ = list_in(response, "messages")
    return Found(
        tuple((str(demanded(one, "to_email")), words_of(one.get("msg_id")).partition(".")[0]) for one in messages)
    )
