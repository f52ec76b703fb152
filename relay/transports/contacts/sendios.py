"""Sendios: contacts are users of a project, whose fields are set by their address.

In: a Contact. Out: calls. Pure. Times become user fields; a user that is not known is made first. An unsubscription or
complaint unsubscribes, but from mail of category system nobody can be. Sources: seeds/sendios.txt; the vendor's PHP
SDK.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Self

from pydantic import Field, model_validator

from relay.mail.address import comparable
from relay.mail.outcome import Outcome
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


class SendiosContactOptions(ContactOptions):
    """`[contacts.NAME.options]` of kind sendios."""

    client_id: int = Field(0, ge=0, description="Client id; the key file holds the key")
    key_is_sdk: bool = Field(False, description="true: the key file holds the SDK key, which travels as its SHA-1")
    project_id: int = Field(0, ge=0, description="Project whose users the contacts are")
    create: bool = Field(True, description="Make a user of who is none; false: only users are told of")
    erase_at_once: bool = Field(False, description="true: erased within ten minutes; false: after two days")

    @model_validator(mode="after")
    def _all_of_it(self) -> Self:
        missing = [name for name in ("client_id", "project_id") if not getattr(self, name)]
        if missing:
            raise ValueError(f"set {', '.join(missing)} too")
        return self


class SendiosContacts(Directory):
    """API v1."""

    title: ClassVar[str] = "Sendios"
    default_base_url: ClassVar[str] = "https://api.sendios.io/v1"
    Options: ClassVar[type[ContactOptions]] = SendiosContactOptions

    def __init__(self, options: ContactOptions, base_url: str) -> None:
        super().__init__(options, base_url)
        assert isinstance(options, SendiosContactOptions)
        self._options = options

    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        if self._options.key_is_sdk:
            api_key = hashlib.sha1(api_key.encode("ascii"), usedforsecurity=False).hexdigest()
        pair = f"{self._options.client_id}:{api_key}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode("ascii")).decode("ascii")}

    def first(self, contact: Contact) -> HttpRequest:
        return self._erase(contact) if contact.erase else self._save(contact, made=False)

    def _erase(self, contact: Contact) -> HttpRequest:
        body = {
            "email": email(contact),
            "project_id": self._options.project_id,
            "force_delete": self._options.erase_at_once,
        }
        follow = partial(self._after_erase, contact) if contact.facts else None
        return self.call("POST", "user/erase", contact, body, follow=follow, reader=self._erased)

    def _after_erase(self, contact: Contact, response: HttpResponse | None, now: float) -> HttpRequest | None:
        rest = rest_of(contact)
        over = _done(response) or _unknown(response)
        return self._save(rest, made=False) if rest is not None and over else None

    def _save(self, contact: Contact, *, made: bool) -> HttpRequest:
        return self.call(
            "PUT",
            f"userfields/project/{self._options.project_id}/emailhash/{_hash(contact)}",
            contact,
            self.fields(contact),
            follow=partial(self._after_save, contact, made),
            reader=self._saved,
        )

    def _after_save(
        self, contact: Contact, made: bool, response: HttpResponse | None, now: float
    ) -> HttpRequest | None:
        if _unknown(response) and not made and self._options.create:
            return self._make(contact)
        if _done(response) and any(kind in contact.facts for kind in UNSUBSCRIBING):
            path = f"unsub/admin/{self._options.project_id}/email/{_hash(contact)}"
            return self.call("POST", path, contact, {}, reader=self._saved)
        return None

    def _make(self, contact: Contact) -> HttpRequest:
        number = hashlib.blake2b(comparable(contact.address).encode(), digest_size=16).hexdigest()
        body = {
            "email": email(contact),
            "project_id": self._options.project_id,
            "client_user_id": f"{self.prefix}{number}",
        }
        follow = partial(self._after_make, contact)
        return self.call("POST", "clientuser/create", contact, body, follow=follow, reader=self._saved)

    def _after_make(self, contact: Contact, response: HttpResponse | None, now: float) -> HttpRequest | None:
        return self._save(contact, made=True) if _done(response) else None

    # --- answers -------------------------------------------------------------------------------------------------

    def _saved(self, response: HttpResponse) -> Outcome:
        if _done(response):
            return self.taken(response)
        if _unknown(response):
            return self.not_taken("the user is not known") if self._options.create else self.gone()
        error = _error(response)
        return self.not_taken(error) if well(response) and error else self.refused(response, error)

    def _erased(self, response: HttpResponse) -> Outcome:
        return self.gone() if _unknown(response) else self._saved(response)


def _hash(contact: Contact) -> str:
    return in_path(base64.b64encode(email(contact).encode("utf-8")).decode("ascii"))


def _done(response: HttpResponse | None) -> bool:
    """A 200 may hold an error."""
    return response is not None and well(response) and "data" in object_of(response) and not _error(response)


def _error(response: HttpResponse) -> str:
    data = object_of(response).get("data")
    return words_of(data.get("error")) if isinstance(data, dict) else ""


def _unknown(response: HttpResponse | None) -> bool:
    """404 in the API's own words, not those of a wrong base_url."""
    return response is not None and response.status == 404 and "data" in object_of(response)
