"""What Sendlio's answers say, and what its list of campaigns says later.

In: an HttpResponse. Out: ids, an outcome, a Page of events. Pure. An error has a number of its own, which may differ
from the status; the vendor's table has 401, 402 (a parameter is missing), 404 and 500. Source: seeds/sendlio.txt.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from relay.mail.event import EventKind
from relay.mail.outcome import InDoubt, Outcome, Sent
from relay.mail.reply import reply
from relay.transports.providers.answers import json_of, outcome_for_status, words_of
from relay.transports.providers.base import HttpRequest, HttpResponse, Page, ProviderEvent
from relay.transports.providers.callbacks import event, listed
from relay.transports.providers.polls import list_in, offset_of, question, sweep_of

TITLE: Final = "Sendlio"
OURS: Final = "relay "
"""Begins the names of campaigns and queries of ours."""
# Counters of a campaign, which has one recipient here. Who opened it has it.
_WORDS: Final[dict[str, EventKind]] = {
    "bounces": EventKind.BOUNCED,
    "spam": EventKind.COMPLAINED,
    "opens": EventKind.DELIVERED,
    "clicks": EventKind.DELIVERED,
}


def object_of(response: HttpResponse | None) -> dict[str, Any]:
    answer = json_of(response) if response is not None else None
    return answer if isinstance(answer, dict) else {}


def id_of(answer: dict[str, Any]) -> int:
    number = answer.get("id")
    return number if type(number) is int and number > 0 else 0


def campaign_named(response: HttpResponse, name: str) -> str | None:
    """The id of the campaign of this name, `""` where there is none, None where the answer does not say."""
    campaigns = object_of(response).get("data")
    if not isinstance(campaigns, list):
        return None
    ids = [id_of(each) for each in campaigns if isinstance(each, dict) and each.get("name") == name]
    return (str(ids[0]) if ids[0] else None) if ids else ""


def campaign_outcome(response: HttpResponse) -> Outcome:
    """Of the call that makes a campaign."""
    answer = object_of(response)
    status, said = answer.get("error_code"), words_of(answer.get("error"))
    known = status if type(status) is int and 400 <= status < 600 else response.status
    if 200 <= known < 300:
        number = id_of(answer)
        if number and answer.get("status", "enabled") == "enabled":
            return Sent(reply(250, "2.0.0", f"Sendlio: campaign {number} is scheduled"), str(number))
        return InDoubt(reply(451, "4.4.2", "Sendlio answered 2xx without saying that the campaign is on"))
    # 402 is a parameter that is missing here, and no bill.
    return outcome_for_status(TITLE, response, said, 422 if known == 402 else known)


def pages_of(response: HttpResponse) -> tuple[int, int]:
    """Which page of a list this is, and which is the last; 0 where it does not say."""
    answer = object_of(response)
    return _number(answer.get("current_page")), _number(answer.get("last_page"))


def question_for(url: str, cursor: str, now: float) -> HttpRequest:
    """`url` is that of the campaigns."""
    page = sweep_of(cursor, now).page
    return question(url, {"medium": "email", "type": "onetime", **({"page": page} if page else {})})


def read_page(response: HttpResponse, cursor: str, now: float) -> Page:
    """Each sweep goes through all campaigns, for nothing says in what order they stand. Raises CallbackError."""
    campaigns, _ = list_in(response, "data")
    events = tuple(listed(one for each in campaigns for one in _counted(each)))
    sweep = sweep_of(cursor, now)
    page, last = pages_of(response)
    if not page or page >= last or page < offset_of(sweep.page or "1"):
        return Page(events, sweep.ended(), more=False)
    return Page(events, sweep.at(str(page + 1)), more=True)


def _counted(campaign: dict[str, Any]) -> Iterator[ProviderEvent | None]:
    number, name = id_of(campaign), campaign.get("name")
    if not number or not isinstance(name, str) or not name.startswith(OURS):
        return
    counted = {kind: word for word, kind in _WORDS.items() if _number(campaign.get(word)) > 0}
    if EventKind.BOUNCED in counted:
        counted.pop(EventKind.DELIVERED, None)
    for kind, word in counted.items():
        yield event(
            _WORDS, word, remote_id=number, recipient="", key=f"{number} {kind}", at=None, said=f"counted in {word}"
        )


def _number(value: object) -> int:
    return value if type(value) is int else 0
