"""Envelope and Recipient: where a message goes. The envelope is the truth, headers are not.

Source: RFC 5321 §2.3.1, RFC 3461 (NOTIFY, ORCPT, RET, ENVID), RFC 6531 (SMTPUTF8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Notify = Literal["NEVER", "SUCCESS", "FAILURE", "DELAY"]


@dataclass(frozen=True, slots=True)
class Recipient:
    """A forward-path. Empty `notify` means the client asked for nothing (RFC 3461 §4.1: FAILURE, maybe DELAY)."""

    address: str
    notify: tuple[Notify, ...] = ()
    orcpt: str | None = None

    @property
    def domain(self) -> str:
        return self.address.rpartition("@")[2]

    def wants_notice_of(self, event: Notify) -> bool:
        """Whether the client asked for it by name."""
        return event in self.notify

    @property
    def wants_failure_notice(self) -> bool:
        return not self.notify or "FAILURE" in self.notify


@dataclass(frozen=True, slots=True)
class Envelope:
    """`reverse_path` is None for the null sender `<>`; recipients are unique and in RCPT order.

    `envid` and `Recipient.orcpt` are xtext as it was given. `retry` and `expires_at` (seconds since the epoch) are what
    the message itself asks for.
    """

    reverse_path: str | None
    recipients: tuple[Recipient, ...]
    ret: Literal["FULL", "HDRS"] | None = None
    envid: str | None = None
    body_8bit: bool = False
    smtputf8: bool = False
    retry: str = ""
    expires_at: float | None = None

    @property
    def sender_domain(self) -> str:
        return self.reverse_path.rpartition("@")[2] if self.reverse_path else ""
