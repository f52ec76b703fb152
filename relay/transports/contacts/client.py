"""HttpContacts: a marketing platform over HTTP. Implements ports.ContactDirectory.

In: a Contact. Out: an Outcome. Connections, time-outs and the guard are http_calls.py's. Raises SettingsError at
construction, with key and fix.
"""

from __future__ import annotations

import logging

from relay.mail.outcome import Deferred, Outcome
from relay.mail.reply import reply
from relay.ports import Clock, Contact, Resolver
from relay.settings import ContactsSettings
from relay.transports.contacts.base import Directory
from relay.transports.guard import AddressGuard
from relay.transports.http_calls import Calls, Line
from relay.transports.http_settings import checked_host, read_word, tls_context

_log = logging.getLogger(__name__)


class HttpContacts:
    """One `[contacts.NAME]`. Built anywhere; its session is made inside the loop that first calls."""

    def __init__(
        self, name: str, settings: ContactsSettings, directory: Directory, clock: Clock, resolver: Resolver
    ) -> None:
        where = f"contacts.{name}"
        guard = AddressGuard(allow_private=settings.allow_private)
        host = checked_host(f"{where}.base_url", directory.base_url, settings.allow_private, guard)
        key = read_word(f"{where}.api_key_file", settings.api_key_file)
        secure = directory.base_url.startswith("https")
        tls = tls_context(f"{where}.ca_file", settings.ca_file) if secure else True
        self._name = f"contacts {name}"
        line = Line(self._name, host, key, None, guard, tls, settings.timeout)
        self._directory = directory
        self._calls = Calls(directory, line, clock, resolver)

    async def tell(self, contact: Contact) -> Outcome:
        """Never raises for a result."""
        try:
            first = self._directory.first(contact)
        except Exception:
            _log.exception("%s: cannot say what it has to be told", self._name)
            return Deferred(reply(451, "4.3.0", "internal error; see the log"))
        outcomes, _ = await self._calls.carry(first)
        return outcomes[contact.address]

    async def close(self) -> None:
        await self._calls.close()
