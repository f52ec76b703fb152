"""What providers that are asked for news have in common: where a sweep through their list has come to.

In: a cursor, as text that is kept. Out: a Sweep, the next cursor. Pure. A sweep reads all events since a time, page by
page; the next one begins a little before this one began, for events stand in such lists with a delay, and the same
event counts once.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from relay.transports.providers.answers import json_of
from relay.transports.providers.base import CallbackError, HttpRequest, HttpResponse
from relay.transports.providers.callbacks import seconds

FIRST: Final = 86_400.0
"""Seconds before the first question from which events are wanted."""
OVERLAP: Final = 1_800.0
"""Seconds of the last sweep that are read again."""
LONGEST_AGO: Final = 864_000.0
"""Seconds back from which events are wanted at most: of older ones some vendors answer 400, and always will."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9_=.~%+/-]{1,8000}")


@dataclass(frozen=True, slots=True)
class Sweep:
    """Events since `since` (epoch seconds), begun at `began`; `page` is the vendor's word for what comes next."""

    since: float
    began: float
    page: str = ""

    def at(self, page: str) -> str:
        """The cursor of a further page."""
        return json.dumps(dataclasses.asdict(dataclasses.replace(self, page=page)))

    def ended(self, since: float | None = None) -> str:
        """The cursor of the next sweep."""
        begin = self.began - OVERLAP if since is None else since
        return json.dumps(dataclasses.asdict(Sweep(begin, 0.0)))


def sweep_of(cursor: str, now: float) -> Sweep:
    """Begins one where none is under way. What cannot be read is as good as none, and so is a time that is not yet.

    A clock that was ahead would otherwise leave nothing to ask for until then.
    """
    try:
        found = json.loads(cursor or "{}")
        since, began, page = float(found["since"]), float(found["began"]), str(found["page"])
    except (ValueError, KeyError, TypeError, OverflowError):
        return Sweep(now - FIRST, now)
    if max(since, began) > now + OVERLAP or not since >= 0:
        return Sweep(now - FIRST, now)
    if since < now - LONGEST_AGO:
        return Sweep(now - LONGEST_AGO, now)
    return Sweep(since, began, page) if page else Sweep(since, now)


def under_way(cursor: str, now: float) -> bool:
    """Whether a page is next that a vendor may have forgotten."""
    return bool(sweep_of(cursor, now).page)


def begun_again(cursor: str, now: float) -> str:
    """The same sweep from its first page."""
    sweep = sweep_of(cursor, now)
    return json.dumps(dataclasses.asdict(Sweep(sweep.since, 0.0)))


def question(url: str, fields: Mapping[str, object]) -> HttpRequest:
    """A GET that tells nobody anything."""
    query = f"?{urlencode(fields)}" if fields else ""
    return HttpRequest("GET", f"{url}{query}", {"Accept": "application/json"}, b"", ())


def list_in(response: HttpResponse, name: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The objects of a list, and the whole answer. Raises CallbackError."""
    answer = json_of(response)
    found = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(answer, dict) or not isinstance(found, list):
        raise CallbackError(f"the answer holds no list {name!r}")
    return [each for each in found if isinstance(each, dict)], answer


def oldest_of(entries: Iterable[Mapping[str, Any]], field: str) -> float:
    """The earliest time that can be read; 0.0 where none can. One that cannot must not end the sweep."""
    return min(filter(None, (seconds(each.get(field)) for each in entries)), default=0.0)


def token_of(text: object) -> str:
    """A vendor's word for a page, which has to be able to stand in a URL. Raises CallbackError.

    To take an odd one for the end would leave out all that is behind it, without a word.
    """
    if not isinstance(text, str) or ".." in text or not _TOKEN.fullmatch(text):
        raise CallbackError("the answer names a next page nobody can ask for")
    return text


def offset_of(page: str) -> int:
    return int(page) if page.isascii() and page.isdigit() and len(page) < 10 else 0


def day_of(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")


def minute_of(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M")
