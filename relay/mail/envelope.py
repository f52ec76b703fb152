"""Envelope and Recipient: where a message goes. The envelope is the truth, headers are not.

Source: RFC 5321 §2.3.1, RFC 3461 (NOTIFY, ORCPT, RET, ENVID), RFC 6531 (SMTPUTF8), RFC 6710
(MT-PRIORITY), RFC 2852 (DELIVERBY), RFC 8689 (REQUIRETLS), RFC 3030
(BINARYMIME).
"""

from __future__ import annotations

from typing import Literal

from relay.mail.frozen import frozen

Notify = Literal["NEVER", "SUCCESS", "FAILURE", "DELAY"]


@frozen
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


@frozen
class Envelope:
    """`reverse_path` is None for the null sender `<>`; recipients are unique and in RCPT order.

    `envid` and `Recipient.orcpt` are xtext as it was given. `retry`, `expires_at` and `hold_until` (seconds since the
    epoch) are what the message itself asks for. `priority` is from -9 to 9; None: nobody said. `deliver_by` is in
    seconds since the epoch: later than that it is returned (`by_mode` R), or its sender told that it is late (N);
    `by_trace`: told of its being handed on. `binary`: its body need not be lines. `submitter` is who
    submitted it, as far as a client that may say so did: an
    address, or `<>` for somebody unknown (RFC 4954 §5); empty: nobody said. `hold_request` is what MAIL asked for of
    `hold_until`, as a notice repeats it: `for;3600` or `until;2027-01-15T08:00:00Z` (RFC 4865 §5.1.2).
    """

    reverse_path: str | None
    recipients: tuple[Recipient, ...]
    ret: Literal["FULL", "HDRS"] | None = None
    envid: str | None = None
    body_8bit: bool = False
    smtputf8: bool = False
    retry: str = ""
    expires_at: float | None = None
    hold_until: float | None = None
    hold_request: str = ""
    priority: int | None = None
    deliver_by: float | None = None
    by_mode: Literal["", "R", "N"] = ""
    by_trace: bool = False
    requiretls: bool = False
    binary: bool = False
    submitter: str = ""

    @property
    def sender_domain(self) -> str:
        return self.reverse_path.rpartition("@")[2] if self.reverse_path else ""
