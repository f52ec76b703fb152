"""Marketing platforms: which kinds there are, and how a configured one is made.

In: `[contacts.NAME]` settings. Out: what tells it of contacts. Raises SettingsError with the key and the fix.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError

from relay.mail.errors import SettingsError
from relay.ports import Clock, Resolver
from relay.settings import ContactsSettings
from relay.settings.words import in_words
from relay.transports.contacts.base import Directory
from relay.transports.contacts.client import HttpContacts
from relay.transports.contacts.sendios import SendiosContacts
from relay.transports.contacts.sendlio import SendlioContacts
from relay.transports.contacts.sendx import SendXContacts

DIRECTORIES: Final[Mapping[str, type[Directory]]] = {
    "sendios": SendiosContacts,
    "sendlio": SendlioContacts,
    "sendx": SendXContacts,
}


def build_directory(name: str, settings: ContactsSettings) -> Directory:
    """Raises SettingsError."""
    directory, where = DIRECTORIES[settings.kind], f"contacts.{name}"
    try:
        options = directory.Options.model_validate(settings.options)
    except ValidationError as error:
        raise SettingsError(in_words(error, settings.options, directory.Options, f"{where}.options")) from error
    try:
        directory.check(options, settings.events)
    except ValueError as error:
        raise SettingsError(f"{where}.events: {error}") from error
    return directory(options, (settings.base_url or directory.default_base_url).rstrip("/"))


def build_contacts(
    settings: Mapping[str, ContactsSettings], clock: Clock, resolver: Resolver
) -> dict[str, HttpContacts]:
    """Every `[contacts.NAME]`. Opens no connection. Raises SettingsError."""
    return {
        name: HttpContacts(name, one, build_directory(name, one), clock, resolver) for name, one in settings.items()
    }
