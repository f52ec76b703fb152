"""The sandbox's inbox."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class InboxMessage:
    """A message the sandbox MX took, without its bytes. `tls` is the version, None for plain text."""

    id: int
    received_at: float
    mail_from: str | None
    rcpt_to: tuple[str, ...]
    tls: str | None
    cipher: str | None
    helo: str
    size: int
    header: bytes = b""


class InboxWriter(Protocol):
    """Where the sandbox MX puts what it takes."""

    def add(self, message: InboxMessage, content: bytes) -> int:
        """Store; `message.id` is ignored and the new one returned. Raises StoreError."""
        ...


class InboxReader(Protocol):
    """The sandbox's mail, for people and tests. May be called from any thread; raises StoreError."""

    def list(
        self, *, to: str = "", limit: int = 50, after_id: int = 0, since: float = 0.0
    ) -> Sequence[InboxMessage]: ...

    def get(self, number: int) -> InboxMessage | None: ...

    def raw(self, number: int) -> bytes | None: ...

    def clear(self) -> int: ...
