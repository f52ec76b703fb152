"""Gmail API: `users.messages.send` with the message in base64url, or as an upload where it is large.

In: a message and its envelope. Out: calls of 100 recipients; an outcome for each recipient. Pure. Gmail reads the
recipients from the header, so To, Cc and Bcc are written from the envelope (`mailbox.py`); and it replaces a From that
is no address of the account, so only mail of `senders` goes this way.
Sources: Gmail API reference (users.messages.send, media upload), "Resolve errors", Gmail sending limits.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, ClassVar, Final
from urllib.parse import quote

from pydantic import Field

from relay.mail.outcome import Deferred, Fault, InDoubt, Outcome, Sent
from relay.mail.reply import printable, reply
from relay.transports.providers.answers import json_of, outcome_for_status, words_of
from relay.transports.providers.base import (
    Capabilities,
    HttpRequest,
    HttpResponse,
    ProviderOptions,
)
from relay.transports.providers.mailbox import MailboxApi, MailboxOptions, mailbox_capabilities
from relay.transports.providers.structured import as_json

TITLE: Final = "Gmail"
RECIPIENTS: Final = 100
MESSAGE_OCTETS: Final = 36_700_160
SMALL: Final = 3_000_000
"""Octets up to which the message goes inside JSON; beyond, a third of it in base64 is saved."""

_BUSY: Final = frozenset((
    "rateLimitExceeded", "userRateLimitExceeded", "dailyLimitExceeded", "quotaExceeded", "concurrentLimitExceeded",
    "RESOURCE_EXHAUSTED",
))  # fmt: skip
_ROUTE: Final = frozenset((
    "accessNotConfigured", "authError", "delegationDenied", "domainPolicy", "failedPrecondition", "forbidden",
    "insufficientPermissions", "FAILED_PRECONDITION",
))  # fmt: skip


class GmailOptions(MailboxOptions):
    """`[provider.NAME.options]` of kind gmail."""

    senders: tuple[str, ...] = Field(
        min_length=1, description="From addresses: the account's and its aliases; Gmail would replace any other"
    )
    user: str = Field("me", description="Account that sends: me, or its address", pattern=r"^[!-~]{1,254}$")


class Gmail(MailboxApi):
    """Gmail API v1."""

    kind: ClassVar[str] = "gmail"
    title: ClassVar[str] = TITLE
    default_base_url: ClassVar[str] = "https://gmail.googleapis.com"
    Options: ClassVar[type[ProviderOptions]] = GmailOptions
    grants: ClassVar[tuple[str, ...]] = ("refresh_token", "jwt_bearer")
    example: ClassVar[Mapping[str, Any]] = {"senders": ["app@example.org", "shop@example.org"]}
    capabilities: ClassVar[Capabilities] = mailbox_capabilities(MESSAGE_OCTETS, RECIPIENTS)

    def __init__(self, options: ProviderOptions, base_url: str) -> None:
        assert isinstance(options, GmailOptions)
        super().__init__(options, base_url, options.senders)
        self._path = f"/gmail/v1/users/{quote(options.user, safe='@')}/messages/send"

    @property
    def token_url(self) -> str:
        return "https://oauth2.googleapis.com/token"

    def token_scope(self, grant: str) -> str:
        return "https://www.googleapis.com/auth/gmail.send" if grant == "jwt_bearer" else ""

    def call(self, author: str, recipients: tuple[str, ...], octets: bytes) -> HttpRequest:
        small = len(octets) <= SMALL
        path = self._path if small else f"/upload{self._path}?uploadType=media"
        kind = "application/json" if small else "message/rfc822"
        raw = {"raw": base64.urlsafe_b64encode(octets).decode("ascii")} if small else {}
        return HttpRequest(
            method="POST",
            url=f"{self.base_url}{path}",
            headers={"Content-Type": kind, "Accept": "application/json"},
            body=as_json(raw) if small else octets,
            copies=(recipients,),
        )

    def outcome(self, response: HttpResponse) -> Outcome:
        return _outcome(response)


def _outcome(response: HttpResponse) -> Outcome:
    """One for all: the call is taken whole or not at all."""
    answer = json_of(response)
    found = answer if isinstance(answer, dict) else {}
    if response.status == 200:
        remote_id = words_of(found.get("id"))
        if remote_id:
            return Sent(reply(250, "2.0.0", "Gmail: accepted"), remote_id)
        return InDoubt(reply(451, "4.4.2", "Gmail answered 200 without an id"))
    error = found.get("error")
    reasons, words = _reasons(error) if isinstance(error, dict) else ((), words_of(error))
    said = f"{reasons[0]}: {words or 'no reason given'}" if reasons else words
    text = printable(f"Gmail answered HTTP {response.status}: {said}")
    if _BUSY.intersection(reasons):
        return Deferred(reply(451, "4.4.5", text), Fault.HOST, response.retry_after)
    if _ROUTE.intersection(reasons):
        return Deferred(reply(451, "4.7.0", text), Fault.ROUTE)
    return outcome_for_status(TITLE, response, said)


def _reasons(error: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    """Its words for what went wrong, of both error formats, and the message."""
    listed = error.get("errors")
    reasons = [
        words_of(one.get("reason")) for one in (listed if isinstance(listed, list) else ()) if isinstance(one, dict)
    ]
    reasons.append(words_of(error.get("status")))
    return tuple(reason for reason in reasons if reason), words_of(error.get("message"))


PROVIDER = Gmail
