"""Inbox watch: one question to the inbox, asked again and again until a message answers it.

In: what `InboxReader.list` takes. Out: what it gives. Only the first look reads the whole inbox; later ones read what
came since, for an inbox may hold thousands and many may wait for theirs. Raises StoreError.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.ports import InboxMessage, InboxReader


class InboxWatch:
    """Used by one thread at a time."""

    def __init__(
        self, inbox: InboxReader, *, to: str = "", limit: int = 50, after_id: int = 0, since: float = 0.0
    ) -> None:
        self._inbox = inbox
        self._to = to
        self._limit = limit
        self._after_id = after_id
        self._since = since
        self._known: int | None = None

    def look(self) -> Sequence[InboxMessage]:
        """The messages that match now; nothing when there are none."""
        # The newest first: what comes between this question and the next is then looked at twice, never missed.
        newest = max((message.id for message in self._inbox.list(limit=1)), default=0)
        known, self._known = self._known, max(newest, self._known or 0)
        if known is not None and (newest <= known or not self._came(known)):
            return ()
        return self._inbox.list(to=self._to, limit=self._limit, after_id=self._after_id, since=self._since)

    def _came(self, known: int) -> bool:
        """Whether a message that matches came after the last look. Ids are never used twice."""
        after = max(self._after_id, known)
        return bool(self._inbox.list(to=self._to, limit=1, after_id=after, since=self._since))
