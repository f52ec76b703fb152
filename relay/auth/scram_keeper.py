"""ScramKeeper: makes the SCRAM verifier of a password that was just proved in the clear, where it has none.

In: a credential and its password, from CredentialAuthenticator. Out: a verifier in the registry, through `store`, which
may block and runs in a thread. One at a time: who finds it busy gets a verifier at a later login. Nobody waits for it,
and what goes wrong is told to `failed` and stops nothing; then a minute passes before the next attempt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from relay.auth.scram import ScramBook
from relay.mail.errors import StoreError
from relay.ports import Clock, StoredCredential

_PAUSE: Final = 60.0
_REMEMBERED: Final = 10_000

Store = Callable[[str, str, str], None]
"""User name, the password hash the verifier belongs to, the verifier. Raises StoreError."""


class ScramKeeper:
    """`learn` is what CredentialAuthenticator calls; `book` is None where SCRAM is off, and may be changed."""

    def __init__(self, store: Store, clock: Clock, failed: Callable[[Exception], None]) -> None:
        self.book: ScramBook | None = None
        self._store = store
        self._clock = clock
        self._failed = failed
        self._not_before = clock.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._in_order: set[tuple[ScramBook, str, str]] = set()

    def learn(self, credential: StoredCredential, password: str) -> None:
        """Returns at once."""
        book = self.book
        if book is None or self._has_verifier(book, credential) or self._task is not None:
            return
        if self._clock.monotonic() >= self._not_before:
            self._task = asyncio.get_running_loop().create_task(self._keep(book, credential, password))

    def _has_verifier(self, book: ScramBook, credential: StoredCredential) -> bool:
        """Remembered, for nearly every login asks."""
        key = book, credential.password_hash, credential.scram
        if key in self._in_order:
            return True
        if not book.has_verifier(credential):
            return False
        if len(self._in_order) >= _REMEMBERED:
            self._in_order.clear()
        self._in_order.add(key)
        return True

    async def settled(self) -> None:
        """When nothing is under way."""
        if self._task is not None:
            await self._task

    async def _keep(self, book: ScramBook, credential: StoredCredential, password: str) -> None:
        try:
            if not await asyncio.to_thread(self._make, book, credential, password):
                self._pause()
        except StoreError as error:
            self._pause()
            self._failed(error)
        finally:
            self._task = None

    def _make(self, book: ScramBook, credential: StoredCredential, password: str) -> bool:
        """In a thread. False for a password that can have no verifier."""
        verifier = book.verifier(password, credential)
        if verifier is None:
            return False
        self._store(credential.username, credential.password_hash, verifier)
        return True

    def _pause(self) -> None:
        self._not_before = self._clock.monotonic() + _PAUSE
