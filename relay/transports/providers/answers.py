"""What an HTTP status means for the mail, where a vendor's own table does not say otherwise.

In: an HttpResponse. Out: an Outcome. Pure. Unknown means temporary; a refusal of the request's content is permanent
here but not elsewhere; what an operator has to fix (key, account, base_url) rests the route and keeps the mail.
"""

from __future__ import annotations

import json
from typing import Any, Final

from relay.mail.outcome import Deferred, Failed, Fault, InDoubt, Outcome
from relay.mail.reply import printable, reply
from relay.transports.providers.base import HttpResponse

LONGEST_WORDS: Final = 300

# RFC 9110 §15 status -> our code, RFC 3463 status, whose fault.
_DEFERRALS: Final = {
    401: (451, "4.7.0", Fault.ROUTE),
    402: (451, "4.7.0", Fault.ROUTE),
    403: (451, "4.7.0", Fault.ROUTE),
    404: (451, "4.3.5", Fault.ROUTE),
    405: (451, "4.3.5", Fault.ROUTE),
    406: (451, "4.3.5", Fault.ROUTE),
    410: (451, "4.3.5", Fault.ROUTE),
    415: (451, "4.3.5", Fault.ROUTE),
    429: (451, "4.4.5", Fault.HOST),
    502: (451, "4.4.1", Fault.HOST),
    503: (451, "4.3.2", Fault.HOST),
}
_FAILURES: Final = {400: (550, "5.6.0"), 413: (552, "5.3.4"), 422: (550, "5.6.0")}


def outcome_for_status(title: str, response: HttpResponse, words: str = "", status: int = 0) -> Outcome:
    """`words` are the vendor's; `status` replaces the answer's own where the vendor's table knows better.

    504 is in doubt: the gateway passed the request on and lost the answer behind it.
    """
    status = status or response.status
    text = printable(f"{title} answered HTTP {response.status}: {words or 'no reason given'}")
    if status in _FAILURES:
        return Failed(reply(*_FAILURES[status], text), elsewhere=True)
    if status == 504:
        return InDoubt(reply(451, "4.4.2", text))
    if 300 <= status < 400:
        text = printable(f"{title} answered HTTP {response.status}, a redirect, which is not followed; check base_url")
        return Deferred(reply(451, "4.3.5", text), Fault.ROUTE)
    code, enhanced, fault = _DEFERRALS.get(status, (451, "4.3.0", Fault.MESSAGE))
    return Deferred(reply(code, enhanced, text), fault, response.retry_after)


def json_of(response: HttpResponse) -> Any:
    """The body as JSON, or None where it is none (deep nesting and bad UTF-8 included)."""
    try:
        return json.loads(response.body)
    except (ValueError, RecursionError):
        return None


def words_of(value: object) -> str:
    """A vendor's text made fit for a reply: one printable line, capped; `""` for anything but a string."""
    return printable(" ".join(value.split()), LONGEST_WORDS) if isinstance(value, str) else ""
