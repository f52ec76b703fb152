"""What SendPost's answer to a send means: an outcome for each recipient of the call.

In: the HTTP answer and the call it belongs to. Out: an Outcome for every recipient, whatever the answer looks like.
Pure. A 200 is no acceptance: each result has an `errorCode` of its own. Nothing is called accepted that the vendor
did not name, and nothing refused where it may have been accepted.
Source: the vendor's Python SDK 3.0.0 (EmailResponse, error object of contract v1).
"""

from __future__ import annotations

from typing import Any, Final

from relay.mail.address import comparable
from relay.mail.outcome import Deferred, Failed, Fault, InDoubt, Outcome, Sent
from relay.mail.reply import printable, reply
from relay.transports.providers.answers import json_of, outcome_for_status, words_of
from relay.transports.providers.base import HttpRequest, HttpResponse

TITLE: Final = "SendPost"

# error.code of contract v1 -> the HTTP status that says the same.
_ERROR_STATUS: Final = {
    "authentication_failed": 401,
    "resource_not_found": 404,
    "rate_limit_exceeded": 429,
    "internal_error": 500,
}
# errorCode of one result: what it means for the recipient it names.
_INVALID_RECIPIENT: Final = 1
_SUPPRESSED: Final = 2
_RATE_LIMIT: Final = 4
_RESULTS: Final[dict[int, tuple[int, str, str]]] = {
    _INVALID_RECIPIENT: (550, "5.1.1", "invalid recipient"),
    _SUPPRESSED: (550, "5.7.1", "recipient is on SendPost's suppression list"),
    3: (550, "5.7.1", "sender domain is not verified at SendPost"),
    _RATE_LIMIT: (451, "4.4.5", "rate limit"),
    5: (550, "5.1.8", "invalid sender"),
}
# Said about the recipient; the other results are about the sender or the account, and another provider may differ.
_ABOUT_RECIPIENT: Final = (_INVALID_RECIPIENT, _SUPPRESSED)


def read_answer(response: HttpResponse, request: HttpRequest) -> dict[str, Outcome]:
    """An outcome for every recipient of `request`."""
    answer = json_of(response)
    if 200 <= response.status < 300:
        return _read_results(answer, request, response.retry_after)
    words, status = _read_error(answer, response)
    return dict.fromkeys(request.recipients, outcome_for_status(TITLE, response, words, status))


def _read_error(answer: Any, response: HttpResponse) -> tuple[str, int]:
    """The vendor's words, and the status its error code stands for (0: the answer's own)."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        text = answer.get("message") if isinstance(answer, dict) else answer
        return words_of(text) or words_of(response.body[:1000].decode("utf-8", "replace")), 0
    words = [words_of(error.get("message"))]
    details = error.get("details")
    words += [
        f"{words_of(detail.get('field'))}: {words_of(detail.get('message'))}"
        for detail in (details[:5] if isinstance(details, list) else ())
        if isinstance(detail, dict)
    ]
    code = error.get("code")
    # A 401 or 5xx says enough by itself; only a vague refusal is made clear by its code.
    status = _ERROR_STATUS.get(code, 0) if isinstance(code, str) and response.status in (400, 406, 409, 422) else 0
    return "; ".join(word for word in words if word), status


def _read_results(answer: Any, request: HttpRequest, wait: float | None) -> dict[str, Outcome]:
    results = _results_by_address(answer, request)
    if results is None:
        lost = InDoubt(reply(451, "4.4.2", "SendPost answered 2xx with a body that is no list of results"))
        return dict.fromkeys(request.recipients, lost)
    outcomes: dict[str, Outcome] = {}
    for copy in request.copies:
        outcomes |= _read_copy(copy, results, wait)
    return outcomes


def _results_by_address(answer: Any, request: HttpRequest) -> dict[str, list[dict[str, Any]]] | None:
    """Results by the address they name; one without a name belongs to the entry at its place."""
    if isinstance(answer, dict) and ("errorCode" in answer or "messageId" in answer):
        answer = [answer]
    if not isinstance(answer, list) or not all(isinstance(item, dict) for item in answer):
        return None
    results: dict[str, list[dict[str, Any]]] = {}
    in_order = len(answer) == len(request.copies)
    for number, item in enumerate(answer):
        named = item.get("to")
        if not (isinstance(named, str) and named) and in_order:
            named = request.copies[number][0]
        if isinstance(named, str):
            results.setdefault(comparable(named), []).append(item)
    return results


def _read_copy(
    copy: tuple[str, ...], results: dict[str, list[dict[str, Any]]], wait: float | None
) -> dict[str, Outcome]:
    leader = _take_result(copy[0], results)
    if leader is None:
        unnamed: Outcome = InDoubt(reply(451, "4.4.2", "SendPost's answer does not name this recipient"))
    else:
        unnamed = _read_result(leader, wait)
    outcomes = {copy[0]: unnamed}
    if leader is not None and _error_code(leader) in _ABOUT_RECIPIENT:
        # The entry was refused for its addressee's sake; nobody else is to blame, and the next attempt leaves it out.
        unnamed = Deferred(reply(451, "4.3.0", "SendPost refused the copy because of its first recipient"))
    for address in copy[1:]:
        own = _take_result(address, results)
        outcomes[address] = unnamed if own is None else _read_result(own, wait)
    return outcomes


def _take_result(address: str, results: dict[str, list[dict[str, Any]]]) -> dict[str, Any] | None:
    waiting = results.get(comparable(address))
    return waiting.pop(0) if waiting else None


def _read_result(item: dict[str, Any], wait: float | None) -> Outcome:
    """`wait`: the answer's Retry-After, which can only be meant for who was refused for the rate."""
    code = _error_code(item)
    remote_id = words_of(item.get("messageId"))
    said = words_of(item.get("message"))
    if code == 0 or (item.get("errorCode") is None and remote_id):
        return Sent(reply(250, "2.0.0", printable(f"SendPost: {said or 'accepted'}")), remote_id)
    if code is None:
        return InDoubt(reply(451, "4.4.2", "SendPost's result has neither an id nor an error code"))
    known = _RESULTS.get(code)
    if known is None:
        return Deferred(reply(451, "4.3.0", printable(f"SendPost error {code!s:.20}: {said or 'unknown'}")))
    number, status, meaning = known
    verdict = reply(number, status, printable(f"SendPost error {code}: {said or meaning}"))
    if code == _RATE_LIMIT:
        return Deferred(verdict, Fault.HOST, wait)
    return Failed(verdict, elsewhere=code not in _ABOUT_RECIPIENT)


def _error_code(item: dict[str, Any]) -> int | None:
    """The number, also where it comes as text; None for what is neither, `false` included."""
    code = item.get("errorCode")
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) < 10:
        return int(code)
    return code if isinstance(code, int) and not isinstance(code, bool) else None
