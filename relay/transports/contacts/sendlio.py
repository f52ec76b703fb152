"""Sendlio: contacts are members, found by their address and made or changed by `POST /member`.

In: a Contact. Out: calls. Pure. Times become properties. The API unsubscribes nobody, so an unsubscription can only be
a property that audiences leave out, and only where the operator says so. Source: seeds/sendlio.txt.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from relay.mail.address import comparable
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

_MOST_MEMBERS: Final = 50


class SendlioContactOptions(ContactOptions):
    """`[contacts.NAME.options]` of kind sendlio."""

    unsubscribe: Literal["", "property"] = Field(
        "", description="property: who unsubscribes or complains gets a property, which your audiences leave out"
    )


class SendlioContacts(Directory):
    """API v1."""

    title: ClassVar[str] = "Sendlio"
    default_base_url: ClassVar[str] = "https://app.sendlio.com/api/v1"
    Options: ClassVar[type[ContactOptions]] = SendlioContactOptions

    @classmethod
    def check(cls, options: ContactOptions, events: tuple[str, ...]) -> None:
        assert isinstance(options, SendlioContactOptions)
        said = [kind for kind in UNSUBSCRIBING if kind in events]
        if said and not options.unsubscribe:
            raise ValueError(
                f"Sendlio's API unsubscribes nobody: leave {' and '.join(said)} out of events, or set "
                f'options.unsubscribe = "property" and let every audience leave out who has '
                f"{options.prefix}unsubscribed_at or {options.prefix}complained_at"
            )

    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        key, _, secret = api_key.partition(":")
        return {"api_key": key, "api_secret": secret}

    def first(self, contact: Contact) -> HttpRequest:
        return self._find(contact, 0)

    def _find(self, contact: Contact, erased: int) -> HttpRequest:
        return self.call(
            "GET",
            f"member?email={in_path(email(contact))}",
            contact,
            follow=partial(self._after_find, contact, erased),
            reader=partial(self._no_list, contact),
        )

    def _after_find(
        self, contact: Contact, erased: int, response: HttpResponse | None, now: float
    ) -> HttpRequest | None:
        members = _members(response, contact)
        if members is None:
            return None
        if not contact.erase:
            return self._save(contact, members)
        if not members:
            rest = rest_of(contact)
            return self._save(rest, members) if rest is not None else None
        if erased >= _MOST_MEMBERS:
            return None
        follow = partial(self._after_erase, contact, erased + 1)
        return self.call("POST", "member/delete", contact, {"unique_id": members[0]}, follow=follow, reader=self._done)

    def _after_erase(
        self, contact: Contact, erased: int, response: HttpResponse | None, now: float
    ) -> HttpRequest | None:
        """Looks again until nobody is left: an address may have several members."""
        if response is None or not (_said_success(response) or _missing(response)):
            return None
        return self._find(contact, erased)

    def _save(self, contact: Contact, members: list[str]) -> HttpRequest:
        body: dict[str, Any] = {"unique_id": members[0]} if members else {}
        body |= {"email": email(contact), "properties": self.fields(contact)}
        return self.call("POST", "member", contact, body, reader=self._saved)

    # --- answers -------------------------------------------------------------------------------------------------

    def words(self, response: HttpResponse) -> str:
        return words_of(object_of(response).get("error"))

    def _no_list(self, contact: Contact, response: HttpResponse) -> Outcome:
        members = _members(response, contact)
        if members is None:
            return self._error(response)
        if members:
            text = f"Sendlio still has members of this address after {_MOST_MEMBERS} went"
            return Deferred(reply(451, "4.3.0", text))
        return self.gone()

    def _saved(self, response: HttpResponse) -> Outcome:
        return self.taken(response) if object_of(response).get("unique_id") else self._error(response)

    def _done(self, response: HttpResponse) -> Outcome:
        return self.taken(response) if _said_success(response) else self._error(response)

    def _error(self, response: HttpResponse) -> Outcome:
        """An error has a number of its own; 402 is a parameter that is missing, and no bill."""
        number = object_of(response).get("error_code")
        status = number if type(number) is int and 400 <= number < 600 else response.status
        return self.refused(response, self.words(response), 422 if status == 402 else status)


def _members(response: HttpResponse | None, contact: Contact) -> list[str] | None:
    """The ids of who has exactly this address; None where the answer does not say."""
    if _missing(response):
        return []
    found = object_of(response).get("data") if well(response) else None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        return None
    wanted = comparable(contact.address)
    ids = [each.get("unique_id") for each in found if comparable(str(each.get("email"))) == wanted]
    known = [one for one in ids if isinstance(one, str)]
    return known if len(known) == len(ids) else None


def _missing(response: HttpResponse | None) -> bool:
    """404 in the API's own words, not those of a wrong base_url."""
    return response is not None and response.status == 404 and type(object_of(response).get("error_code")) is int


def _said_success(response: HttpResponse) -> bool:
    return well(response) and object_of(response).get("status") == "success"
