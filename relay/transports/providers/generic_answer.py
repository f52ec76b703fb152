"""What an answer of an API described by its operator means: one outcome for everybody of the call.

In: the HTTP answer and the operator's words about answers. Out: an Outcome. Pure. What the operator says nothing about
means what HTTP says (`answers.py`). Nothing is called accepted that the answer does not say.
Source: RFC 6901 (JSON pointers).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator

from relay.mail.outcome import Deferred, Failed, Fault, InDoubt, Outcome, Sent
from relay.mail.reply import printable, reply
from relay.transports.providers.answers import json_of, outcome_for_status, words_of
from relay.transports.providers.base import HttpResponse

TITLE: Final = "HTTP API"
Meaning = Literal["accepted", "refused", "bounced", "deferred", "busy", "paused", "in_doubt"]


def _pointer(text: str) -> str:
    if text and not text.startswith("/"):
        raise ValueError(f"a JSON pointer begins with /; did you mean /{text.replace('.', '/')}?")
    if re.search(r"~(?![01])", text):
        raise ValueError("a ~ in a JSON pointer is written ~0, and a / inside a name ~1")
    return text


def _status(text: str) -> str:
    if not re.fullmatch(r"[2-5]([0-9]{2}|xx)", text):
        raise ValueError("write a status as 422, or a class of them as 5xx")
    return text


Pointer = Annotated[str, AfterValidator(_pointer)]
StatusKey = Annotated[str, AfterValidator(_status)]


@dataclass(frozen=True, slots=True)
class Words:
    """What the operator says about answers; see HttpOptions."""

    id: str
    id_header: str
    error: tuple[str, ...]
    code: str
    codes: dict[str, Meaning]
    statuses: dict[str, Meaning]


def outcome_of(response: HttpResponse, words: Words) -> Outcome:
    """Whatever the answer looks like."""
    answer = json_of(response)
    said = _said(answer, response, words)
    code = scalar(value_at(answer, words.code)) if words.code else ""
    meaning = _meaning(response.status, code, words)
    if meaning == "accepted":
        return _accepted(answer, response, words)
    if meaning is None:
        return outcome_for_status(TITLE, response, said)
    text = printable(f"{TITLE} answered HTTP {response.status}: {said or code or 'no reason given'}")
    return _outcome(meaning, text, response.retry_after)


def _meaning(status: int, code: str, words: Words) -> Meaning | None:
    good = 200 <= status < 300
    by_code = words.codes.get(code)
    if by_code is not None and (good or by_code != "accepted"):
        return by_code
    by_status = words.statuses.get(str(status)) or words.statuses.get(f"{status // 100}xx")
    if by_status is not None:
        return by_status
    if good:
        # Where one code says yes, another says something else.
        return "in_doubt" if "accepted" in words.codes.values() else "accepted"
    return None


def _outcome(meaning: Meaning, text: str, wait: float | None) -> Outcome:
    outcomes: dict[str, Outcome] = {
        "refused": Failed(reply(550, "5.6.0", text), elsewhere=True),
        "bounced": Failed(reply(550, "5.1.1", text)),
        "deferred": Deferred(reply(451, "4.3.0", text), Fault.MESSAGE, wait),
        "busy": Deferred(reply(451, "4.4.5", text), Fault.HOST, wait),
        "paused": Deferred(reply(451, "4.7.0", text), Fault.ROUTE, wait),
    }
    return outcomes.get(meaning) or InDoubt(reply(451, "4.4.2", text))


def _accepted(answer: Any, response: HttpResponse, words: Words) -> Outcome:
    wanted = words.id or words.id_header
    found = words_of(response.headers.get(words.id_header.lower())) if words.id_header else ""
    found = found or (scalar(value_at(answer, words.id)) if words.id else "")
    if wanted and not found:
        where = words.id or f"the header {words.id_header}"
        return InDoubt(reply(451, "4.4.2", printable(f"{TITLE} answered {response.status} without an id at {where}")))
    return Sent(reply(250, "2.0.0", f"{TITLE}: accepted"), found.strip("<>"))


def _said(answer: Any, response: HttpResponse, words: Words) -> str:
    for pointer in words.error:
        found = scalar(value_at(answer, pointer))
        if found:
            return found
    return "" if isinstance(answer, dict | list) else words_of(response.body[:300].decode("utf-8", "replace"))


def scalar(value: object) -> str:
    """A word; numbers and switches as JSON writes them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return words_of(str(value)) if isinstance(value, str | int | float) else ""


def value_at(tree: Any, pointer: str) -> Any:
    """RFC 6901, or None. The empty pointer is the whole."""
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(tree, dict):
            tree = tree.get(name)
        elif isinstance(tree, list) and re.fullmatch(r"0|[1-9][0-9]{0,5}", name) and int(name) < len(tree):
            tree = tree[int(name)]
        else:
            return None
    return tree
