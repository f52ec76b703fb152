"""Inquiry: whether a vendor has a message whose call's answer was lost, page by page.

In: a provider that can be asked, a way to ask, what was lost. Out: Knowledge, or None where this message cannot be
found there. Never raises for a result: whatever is no answer leaves the question open.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

from relay.mail.address import comparable
from relay.mail.outcome import Deferred, Outcome
from relay.mail.reply import printable
from relay.ports import Knowledge
from relay.transports.providers.base import CallbackError, HttpRequest, HttpResponse, Lost, Provider

MOST_PAGES: Final = 20

Ask = Callable[[HttpRequest], Awaitable[HttpResponse | Outcome]]
_log = logging.getLogger(__name__)


class _NoAnswerError(Exception):
    """Words for events, and how long the vendor wants to be left alone."""

    def __init__(self, text: str, wish: float | None = None) -> None:
        super().__init__(text)
        self.wish = wish


async def known_to(provider: Provider, ask: Ask, lost: Lost) -> Knowledge | None:
    """Whom of the lost call's recipients it has. Stops where it has all of them."""
    wanted: dict[str, list[str]] = {}
    for one in lost.request.recipients:
        wanted.setdefault(comparable(one.address), []).append(one.address)
    has: dict[str, str] = {}
    page = ""
    try:
        for _ in range(MOST_PAGES):
            call = provider.question(lost, page)
            if call is None:
                return None
            found = provider.found(_readable(await ask(call)), lost, page)
            for address, remote_id in found.entries:
                has.update((known, remote_id) for known in wanted.get(comparable(address), ()) if known not in has)
            page = found.page
            if not page or len(has) == len(lost.request.recipients):
                return Knowledge(has, complete=True, words="")
        raise _NoAnswerError(f"has more than {MOST_PAGES} pages of it")
    except _NoAnswerError as error:
        words, wish = str(error), error.wish
    except CallbackError as error:
        words, wish = f"gave an answer that cannot be used: {error}", None
    except Exception:
        _log.exception("%s: cannot be asked about message %s", provider.title, lost.request.message_id)
        words, wish = "could not be asked: internal error, see the log", None
    return Knowledge(has, complete=False, words=printable(words, 300), retry_after=wish)


def _readable(answer: HttpResponse | Outcome) -> HttpResponse:
    """Raises _NoAnswerError."""
    if not isinstance(answer, HttpResponse):
        raise _NoAnswerError(
            f"gave no answer: {answer.reply.text}", answer.retry_after if isinstance(answer, Deferred) else None
        )
    if answer.status != 200:
        hint = "; check that the key may read this" if answer.status in (401, 403) else ""
        raise _NoAnswerError(f"answered HTTP {answer.status}{hint}", answer.retry_after)
    return answer
