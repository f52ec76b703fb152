"""Whether SparkPost has a message: its events of these recipients since the attempt, each with the metadata it had.

In: a lost call; an answer of `GET /events/message`. Out: an HttpRequest; Found. Pure; raises CallbackError. Source: the
vendor's reference of the events API (`recipients`, `from`, `cursor`, `rcpt_meta`; a URL has 4,096 characters at most).
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote_plus

from relay.mail.address import ascii_form
from relay.transports.providers.answers import words_of
from relay.transports.providers.base import Found, HttpRequest, HttpResponse, Lost
from relay.transports.providers.callbacks import inner
from relay.transports.providers.polls import list_in, minute_of, question, token_of
from relay.transports.providers.questions import CLOCKS, MARK, demanded
from relay.transports.providers.sparkpost_events import PAGE, following_in

_ASKED_AT_A_TIME: Final = 3000
"""Characters of addresses in a URL."""


def question_for(url: str, lost: Lost, page: str) -> HttpRequest | None:
    """`url` is that of the message events. None: an address cannot stand in a list of them."""
    addresses = [ascii_form(one.address) for one in lost.request.recipients]
    if any("," in one for one in addresses):
        return None
    first, cursor = _place(page)
    recipients = ",".join(addresses[first : _end(addresses, first)])
    fields = {"from": minute_of(lost.since - CLOCKS), "recipients": recipients, "per_page": PAGE}
    return question(url, {**fields, "cursor": cursor or "initial"})


def read_found(response: HttpResponse, lost: Lost, page: str) -> Found:
    """Any event of the message says that it was taken."""
    results, answer = list_in(response, "results")
    mine = [one for one in results if inner(demanded(one, "rcpt_meta"), MARK) == lost.request.message_id]
    entries = tuple(
        (str(one.get("raw_rcpt_to") or one.get("rcpt_to")), words_of(one.get("transmission_id"))) for one in mine
    )
    first, cursor = _place(page)
    following = following_in(answer)
    if results and following and following != cursor:
        return Found(entries, f"{first} {token_of(following)}")
    addresses = [ascii_form(one.address) for one in lost.request.recipients]
    end = _end(addresses, first)
    return Found(entries, f"{end} " if end < len(addresses) else "")


def _place(page: str) -> tuple[int, str]:
    """The first recipient of a question, and the cursor within its answer."""
    first, _, cursor = page.partition(" ")
    return int(first or 0), cursor


def _end(addresses: list[str], first: int) -> int:
    """Behind the last recipient of a question."""
    end, size = first, 0
    while end < len(addresses) and (end == first or size + len(quote_plus(addresses[end])) < _ASKED_AT_A_TIME):
        size += len(quote_plus(addresses[end])) + 3
        end += 1
    return end
