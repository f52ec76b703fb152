"""Whether an API that its operator describes has a message: a list, asked for by what the call carried.

In: `[provider.NAME.options.question]`, a lost call, an answer. Out: an HttpRequest; Found. Pure; raises CallbackError.
Source: RFC 6901 (JSON pointers), docs/providers/http.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from relay.transports.providers.base import CallbackError, Found, HttpRequest, HttpResponse, Lost
from relay.transports.providers.callbacks import address_of, json_value
from relay.transports.providers.generic_answer import Pointer, scalar, value_at
from relay.transports.providers.polls import question
from relay.transports.providers.questions import message_id_of

ID: Final = "{id}"
MESSAGE_ID: Final = "{message_id}"


def asked_url(text: str) -> str:
    """Raises ValueError."""
    url = urlsplit(text)
    if url.scheme not in ("https", "http") or not url.hostname or url.query or url.fragment or "{" in text:
        raise ValueError("write it as https://host/path, without query, fragment and placeholders")
    return text


class QuestionOptions(BaseModel):
    """How it is asked whether it has a message. Pointers are JSON pointers inside an entry of the list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, AfterValidator(asked_url)] = Field(description="Where its list of messages is read (GET)")
    query: dict[str, str] = Field(
        description="Parameters of the URL; {id} is the relay's id of the message, {message_id} its Message-ID"
    )
    entries: Pointer = Field("", description="JSON pointer to the list in an answer; empty: the answer is the list")
    mark: Pointer = Field(min_length=1, description="Where {id} or {message_id} stands again; others are no answer")
    recipient: Pointer = Field(min_length=1, description="Where an address stands, or a list of them")
    id: Pointer = Field("", description="Where the id stands that an answer to the call would have had")

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        words = "".join(self.query.values())
        if (ID in words) == (MESSAGE_ID in words):
            raise ValueError("query has to hold one of {id} and {message_id}: by what would it be found?")
        return self

    @property
    def by_id(self) -> bool:
        return any(ID in text for text in self.query.values())


def mark_of(options: QuestionOptions, lost: Lost, withheld: tuple[str, ...]) -> str:
    """By what it is found; `""` where the message has no such thing."""
    return lost.request.message_id if options.by_id else message_id_of(lost.content, withheld)


def question_for(options: QuestionOptions, mark: str) -> HttpRequest:
    query = {name: text.replace(ID, mark).replace(MESSAGE_ID, mark) for name, text in options.query.items()}
    return question(options.url, query)


def read_found(response: HttpResponse, options: QuestionOptions, mark: str) -> Found:
    """Raises CallbackError."""
    entries = value_at(json_value(response.body), options.entries)
    if not isinstance(entries, list):
        raise CallbackError(f"the answer holds no list at {options.entries!r}")
    return Found(tuple(found for each in entries for found in _entry(each, options, mark)))


def _entry(entry: Any, options: QuestionOptions, mark: str) -> Iterator[tuple[str, str]]:
    said = scalar(value_at(entry, options.mark)).strip("<>")
    recipients = value_at(entry, options.recipient)
    if not isinstance(entry, Mapping) or not said or recipients is None:
        raise CallbackError(f"an entry of the list has nothing at {options.mark} or {options.recipient}")
    if said == mark:
        remote_id = scalar(value_at(entry, options.id)).strip("<>") if options.id else ""
        for one in recipients if isinstance(recipients, list) else [recipients]:
            yield address_of(one), remote_id
