"""Suppressing: the accounts' suppression lists in one worker, between doors, reports and the store.

In: recipients that clients name, or that mail waits for; what providers and returned mail report. Out: a refusal;
entries on disk. An account that keeps no list (`suppress = "off"`) costs nothing. A list that cannot be read lets mail
pass and says so: what is accepted too much bounces once more, what is refused too much is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from relay.mail.errors import StoreError
from relay.mail.event import EventKind
from relay.mail.reply import Reply
from relay.policy.suppression import not_sent, reason_for, refusal_of
from relay.ports import Clock, Suppression
from relay.settings import Settings
from relay.store.suppressions import Suppressions


class Suppressing:
    """One worker's."""

    def __init__(
        self,
        store: Suppressions,
        settings: Callable[[], Settings],
        clock: Clock,
        refused: Callable[[str, str, str], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """`refused` hears of account, recipient and reason; `failed` of a list that cannot be used."""
        self._store = store
        self._settings = settings
        self._clock = clock
        self._refused = refused
        self._failed = failed

    def refusal(self, account: str, address: str) -> Reply | None:
        """What a client is told that names the address."""
        found = self._found(account, (address,)).get(address)
        return refusal_of(found) if found is not None else None

    def not_sent(self, account: str, addresses: Sequence[str]) -> Mapping[str, Reply]:
        """Whom of the recipients of a message that waits nothing is sent to."""
        return {address: not_sent(one) for address, one in self._found(account, addresses).items()}

    def _found(self, account: str, addresses: Sequence[str]) -> Mapping[str, Suppression]:
        kept = self._settings().account.get(account)
        if kept is None or kept.suppress == "off":
            return {}
        try:
            found = self._store.find_all(account, addresses)
        except StoreError as error:
            self._failed(error)
            return {}
        for address, one in found.items():
            self._refused(account, address, one.reason)
        return found

    async def reported(self, account: str, address: str, kind: EventKind, words: str, hard: bool | None = None) -> None:
        """Put on the list what has to be; on disk when it returns. Raises StoreError."""
        kept = self._settings().account.get(account)
        reason = reason_for(kind, words, kept.suppress, hard) if kept is not None else None
        if kept is None or reason is None:
            return
        now = self._clock.now()
        until = now + kept.suppress_for if kept.suppress_for else None
        entry = Suppression(account, address, reason, words, now, until)
        await asyncio.to_thread(self._store.add, (entry,))

    async def close(self) -> None:
        self._store.close()
