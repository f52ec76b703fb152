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

    @property
    def wants_failure_notice(self) -> bool:
        return not self.notify or "FAILURE" in self.notify


@dataclass(frozen=True, slots=True)
class Envelope:
    """`reverse_path` is None for the null sender `<>`; recipients are unique and in RCPT order."""

    reverse_path: str | None
    recipients: tuple[Recipient, ...]
    ret: Literal["FULL", "HDRS"] | None = None
    envid: str | None = None
    body_8bit: bool = False
    smtputf8: bool = False

    @property
    def sender_domain(self) -> str:
        return self.reverse_path.rpartition("@")[2] if self.reverse_path else ""
