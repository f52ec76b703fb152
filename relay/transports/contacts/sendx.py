"""SendX: contacts by `POST /contact/identify`, which makes or changes one.

In: a Contact. Out: calls. Pure. Times become custom fields, what ended badly a tag; an unsubscription or complaint
unsubscribes. A contact is unsubscribed and deleted by its id, which its address finds. Sources: seeds/sendx.txt; the
vendor's Python SDK 2.0.0 (IdentifyRequest, ContactApi).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Final

from pydantic import Field

from relay.mail.outcome import Deferred, Outcome
from relay.mail.reply import reply
from relay.ports import Contact
from relay.transports.contacts.base import (
    UNSUBSCRIBING,
    ContactOptions,
    Directory,
    email,
    in_path,
    object_of,
    rest_of,
    well,
)
from relay.transports.providers.answers import words_of
from relay.transports.providers.base import HttpRequest, HttpResponse

_TAGGED: Final = ("bounced", "complained", "unsubscribed")


class SendXContactOptions(ContactOptions):
    """`[contacts.NAME.options]` of kind sendx."""

    tags: tuple[str, ...] = Field((), max_length=20, description="Tags for every contact")
    event_tags: bool = Field(True, description="Tag relay_bounced, relay_complained, relay_unsubscribed too")


class SendXContacts(Directory):
    """REST API v1."""

    title: ClassVar[str] = "SendX"
    default_base_url: ClassVar[str] = "https://api.sendx.io/api/v1/rest"
    Options: ClassVar[type[ContactOptions]] = SendXContactOptions

    def __init__(self, options: ContactOptions, base_url: str) -> None:
        super().__init__(options, base_url)
        assert isinstance(options, SendXContactOptions)
        self._options = options

    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        return {"X-Team-ApiKey": api_key}

    def first(self, contact: Contact) -> HttpRequest:
        if contact.erase:
            return self._find(contact, "erase")
        body: dict[str, Any] = {"email": email(contact), "customFields": self.fields(contact)}
        tags = [*self._options.tags]
        if self._options.event_tags:
            tags += [f"{self.prefix}{kind}" for kind in _TAGGED if kind in contact.facts]
        if tags:
            body["tags"] = tags
        follow = None
        if any(kind in contact.facts for kind in UNSUBSCRIBING):
            follow = partial(self._after_identify, contact)
        return self.call("POST", "contact/identify", contact, body, follow=follow, reader=self._identified)

    def _after_identify(self, contact: Contact, response: HttpResponse | None, now: float) -> HttpRequest | None:
        if response is None or not well(response) or not object_of(response) or _error(response):
            return None
        return self._find(contact, "unsubscribe")

    def _find(self, contact: Contact, then: str) -> HttpRequest:
        return self.call(
            "GET",
            f"contact/{in_path(email(contact))}",
            contact,
            follow=partial(self._after_find, contact, then),
            reader=partial(self._not_found, then),
        )

    def _after_find(self, contact: Contact, then: str, response: HttpResponse | None, now: float) -> HttpRequest | None:
        number = object_of(response).get("id") if well(response) else None
        if not isinstance(number, str) or not number:
            return self._rest(contact) if then == "erase" and _missing(response) else None
        if then == "unsubscribe":
            return self.call("POST", f"contact/unsubscribe/{in_path(number)}", contact, {})
        follow = partial(self._after_erase, contact) if contact.facts else None
        return self.call("DELETE", f"contact/{in_path(number)}", contact, follow=follow, reader=self._erased)

    def _after_erase(self, contact: Contact, response: HttpResponse | None, now: float) -> HttpRequest | None:
        return self._rest(contact) if well(response) or _missing(response) else None

    def _rest(self, contact: Contact) -> HttpRequest | None:
        rest = rest_of(contact)
        return self.first(rest) if rest is not None else None

    # --- answers -------------------------------------------------------------------------------------------------

    def _identified(self, response: HttpResponse) -> Outcome:
        error = _error(response)
        if well(response) and not object_of(response):
            return self.nothing_said()
        return self.not_taken(error) if error and well(response) else self.taken(response)

    def _not_found(self, then: str, response: HttpResponse) -> Outcome:
        """The contact of an address: what it means where there is none."""
        if not _missing(response):
            return self.nothing_said() if well(response) else self.taken(response)
        if then == "erase":
            return self.gone()
        return Deferred(reply(451, "4.3.0", "SendX does not find a contact that it has just taken"))

    def _erased(self, response: HttpResponse) -> Outcome:
        return self.gone() if _missing(response) else self.taken(response)


def _missing(response: HttpResponse | None) -> bool:
    """404 in the API's own words, not those of a wrong base_url."""
    return response is not None and response.status == 404 and object_of(response).get("status") == "error"


def _error(response: HttpResponse) -> str:
    answer = object_of(response)
    return words_of(answer.get("message")) or "refused" if answer.get("status") == "error" else ""
