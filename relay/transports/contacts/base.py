"""The shape of a marketing platform: contacts as pure functions, from what has to be told to calls, and from answers.

In: a Contact. Out: the first call, whose answer leads to the others; an Outcome. Never does I/O or reads a clock.
A call may be made twice: each sets a state, so nothing is in doubt after a lost answer. Raises nothing for an answer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field

from relay.mail.address import ascii_form
from relay.mail.outcome import Deferred, Failed, Fault, InDoubt, Outcome, Sent
from relay.mail.reply import printable, reply
from relay.ports import Contact
from relay.transports.providers.answers import json_of, outcome_for_status, words_of
from relay.transports.providers.base import HttpRequest, HttpResponse
from relay.transports.providers.structured import as_json

Reader = Callable[[HttpResponse], Outcome]
Follow = Callable[[HttpResponse | None, float], HttpRequest | None]

UNSUBSCRIBING: Final = ("unsubscribed", "complained")


class ContactOptions(BaseModel):
    """The `options` table every platform has; its own model adds what is its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prefix: str = Field(
        "relay_", pattern=r"^[a-z0-9_]{0,32}$", description="Begins the names of fields, such as relay_bounced_at"
    )


@dataclass(frozen=True, slots=True)
class ContactCall(HttpRequest):
    """`reader`: what its answer means where it is the last one."""

    reader: Reader | None = None


class Directory(ABC):
    """One platform. An instance holds settings only."""

    title: ClassVar[str]
    default_base_url: ClassVar[str]
    reset_header: ClassVar[str] = ""
    Options: ClassVar[type[ContactOptions]] = ContactOptions

    def __init__(self, options: ContactOptions, base_url: str) -> None:
        """`base_url` without a slash at the end."""
        self.base_url = base_url
        self.prefix = options.prefix

    @classmethod
    def check(cls, options: ContactOptions, events: tuple[str, ...]) -> None:
        """Raises ValueError for events it cannot be told of."""
        return

    @abstractmethod
    def first(self, contact: Contact) -> HttpRequest:
        """The call that begins to tell."""

    @abstractmethod
    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        """The headers that prove who we are."""

    def read(self, response: HttpResponse, request: HttpRequest) -> Mapping[str, Outcome]:
        assert isinstance(request, ContactCall)
        outcome = request.reader(response) if request.reader is not None else self.taken(response)
        if isinstance(outcome, InDoubt):
            outcome = Deferred(outcome.reply, Fault.HOST, response.retry_after)
        return dict.fromkeys(request.recipients, outcome)

    def call(
        self,
        method: str,
        path: str,
        contact: Contact,
        body: Any = None,
        *,
        follow: Follow | None = None,
        reader: Reader | None = None,
    ) -> HttpRequest:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        return ContactCall(
            method=method,
            url=f"{self.base_url}/{path}",
            headers=headers,
            body=b"" if body is None else as_json(body),
            copies=((contact.address,),),
            idempotent=True,
            follow=follow,
            reader=reader,
        )

    def fields(self, contact: Contact) -> dict[str, str]:
        """When what happened, as fields of the contact."""
        return {f"{self.prefix}{kind}_at": stamp(at) for kind, at in sorted(contact.facts.items())}

    # --- answers -------------------------------------------------------------------------------------------------

    def taken(self, response: HttpResponse) -> Outcome:
        """A 2xx that is the platform's own word, and no page of somebody between."""
        if response.status == 204 or (well(response) and isinstance(json_of(response), dict)):
            return Sent(reply(250, "2.0.0", f"{self.title} knows it now"))
        return self.refused(response, self.words(response))

    def words(self, response: HttpResponse) -> str:
        """What it says of an error."""
        return words_of(object_of(response).get("message"))

    def refused(self, response: HttpResponse, words: str, status: int = 0) -> Outcome:
        if 200 <= (status or response.status) < 300:
            return self.nothing_said()
        return outcome_for_status(self.title, response, words, status)

    def nothing_said(self) -> Outcome:
        return Deferred(reply(451, "4.3.0", f"{self.title} answered 2xx without saying what it did"))

    def gone(self) -> Outcome:
        return Sent(reply(250, "2.0.0", f"{self.title} has no such contact"))

    def not_taken(self, words: str) -> Outcome:
        return Failed(reply(550, "5.6.0", printable(f"{self.title}: {words}")))


def rest_of(contact: Contact) -> Contact | None:
    """What is to be told after everything was erased."""
    return replace(contact, erase=False) if contact.facts else None


def email(contact: Contact) -> str:
    return ascii_form(contact.address)


def in_path(text: str) -> str:
    return quote(text, safe="")


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def object_of(response: HttpResponse | None) -> dict[str, Any]:
    answer = json_of(response) if response is not None else None
    return answer if isinstance(answer, dict) else {}


def well(response: HttpResponse | None) -> bool:
    return response is not None and 200 <= response.status < 300
