"""MailTransaction: the draft between MAIL and the end of DATA; the only mutable word of the project."""

from __future__ import annotations

from aiosmtpd.smtp import Envelope as AiosmtpdEnvelope

from relay.mail.envelope import Envelope, Recipient
from relay.ports import SpfResult
from relay.smtpd.commands import MailCommand


class MailTransaction(AiosmtpdEnvelope):
    """aiosmtpd's Envelope with what RFC 5321 needs kept exact: the null sender, and each recipient once."""

    def __init__(self, command: MailCommand) -> None:
        # aiosmtpd's own __init__ fills the same fields with less exact values.
        self.command = command
        self.mail_from = command.address or "<>"
        self.smtp_utf8 = command.smtputf8
        self.rcpt_tos: list[str] = []
        self.recipients: dict[str, Recipient] = {}
        self.spf: SpfResult | None = None
        self.hold_until: float | None = None
        self.hold_request = ""
        self.priority: int | None = None
        self.deliver_by: float | None = None
        self.submitter = ""

    @property
    def reverse_path(self) -> str | None:
        return self.command.address

    def add(self, recipient: Recipient) -> None:
        """A recipient named twice gets one copy, and the notices asked for first."""
        if recipient.address not in self.recipients:
            self.recipients[recipient.address] = recipient
            self.rcpt_tos.append(recipient.address)

    def envelope(self) -> Envelope:
        """The draft as the value that leaves this room."""
        return Envelope(
            reverse_path=self.reverse_path,
            recipients=tuple(self.recipients.values()),
            body_8bit=self.command.body_8bit,
            smtputf8=self.command.smtputf8,
            ret=self.command.ret,
            envid=self.command.envid,
            hold_until=self.hold_until,
            hold_request=self.hold_request,
            priority=self.priority,
            deliver_by=self.deliver_by,
            by_mode=self.command.by_mode,
            by_trace=self.command.by_trace,
            requiretls=self.command.requiretls,
            binary=self.command.binary,
            submitter=self.submitter,
        )
