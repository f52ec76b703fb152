"""Whether Microsoft Graph has sent a message: the mailbox's Sent Items by Message-ID, which Exchange keeps.

In: a lost call; an answer of `GET .../mailFolders/sentitems/messages`. Out: an HttpRequest; Found. Pure; raises
CallbackError. Source: Graph v1.0, "List messages" and the message resource (`internetMessageId`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

from relay.transports.providers.answers import words_of
from relay.transports.providers.base import CallbackError, Found, HttpRequest, HttpResponse
from relay.transports.providers.callbacks import inner
from relay.transports.providers.polls import list_in, question
from relay.transports.providers.questions import demanded

MOST: Final = 100
_SELECTED: Final = "id,internetMessageId,toRecipients,ccRecipients,bccRecipients"


def question_for(url: str, message_id: str) -> HttpRequest:
    """`url` is that of the mailbox."""
    wanted = quote(f"internetMessageId eq '<{message_id.replace(chr(39), chr(39) * 2)}>'", safe="")
    return question(f"{url}/mailFolders/sentitems/messages?$filter={wanted}&$select={_SELECTED}&$top={MOST}", {})


def read_found(response: HttpResponse, message_id: str) -> Found:
    """A message for each copy, with its recipients; those of Bcc stand there too."""
    messages, answer = list_in(response, "value")
    if answer.get("@odata.nextLink"):
        raise CallbackError(f"more than {MOST} messages have this Message-ID")
    mine = [one for one in messages if demanded(one, "internetMessageId") == f"<{message_id}>"]
    return Found(tuple((address, words_of(one.get("id"))) for one in mine for address in _recipients(one)))


def _recipients(message: dict[str, Any]) -> Iterator[str]:
    for name in ("toRecipients", "ccRecipients", "bccRecipients"):
        found = demanded(message, name)
        for one in found if isinstance(found, list) else ():
            yield str(inner(one, "emailAddress", "address"))
