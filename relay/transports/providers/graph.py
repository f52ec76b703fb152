"""Microsoft Graph: `POST /users/MAILBOX/sendMail` with the message in base64, sent by a mailbox of Exchange Online.
A message above 3 MB is a draft with uploads (`graph_large.py`), where `upload` is set.

In: a message and its envelope. Out: calls of 500 recipients; an outcome for each recipient. Pure. Graph reads the
recipients from the header, so To, Cc and Bcc are written from the envelope (`mailbox.py`).
Sources: Graph v1.0, user: sendMail and "Send messages with MIME content"; Graph error responses and throttling limits;
Exchange Online limits.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Final
from urllib.parse import quote

from pydantic import Field

from relay.mail.address import ascii_form
from relay.mail.detach import detached
from relay.mail.outcome import Deferred, Failed, Fault, InDoubt, Outcome, Sent
from relay.mail.reply import printable, reply
from relay.transports.providers.answers import json_of, outcome_for_status, words_of
from relay.transports.providers.base import (
    Capabilities,
    Found,
    HttpRequest,
    HttpResponse,
    Lost,
    ProviderOptions,
    Refusal,
)
from relay.transports.providers.graph_large import Draft
from relay.transports.providers.graph_question import question_for, read_found
from relay.transports.providers.mailbox import MailboxApi, MailboxOptions, author_of, mailbox_capabilities
from relay.transports.providers.questions import message_id_of

TITLE: Final = "Microsoft Graph"
RECIPIENTS: Final = 500
LARGE_OCTETS: Final = 36_700_160
"""What Exchange Online lets a mailbox send, where nobody has set it higher."""
REQUEST_OCTETS: Final = 4_194_304
"""A request, and the message travels in base64."""

# error.code -> what it is about. About the mailbox: the route's fault where the mailbox is one and the same.
_NO_MAILBOX: Final = frozenset((
    "ErrorInvalidUser", "ErrorNonExistentMailbox", "MailboxNotEnabledForRESTAPI", "MailboxNotSupportedForRESTAPI",
    "Request_ResourceNotFound", "ResourceNotFound",
))  # fmt: skip
_MAILBOX: Final = frozenset((
    "ErrorAccessDenied", "ErrorAccountSuspend", "ErrorAccountSuspendShowTierUpgrade", "ErrorMessageSubmissionBlocked",
    "ErrorQuotaExceeded",
))  # fmt: skip
_BUSY: Final = frozenset((
    "ActivityLimitReached", "ApplicationThrottled", "CommandConcurrencyLimitReached", "ErrorExceededMessageLimit",
    "ErrorMailboxConcurrency", "ErrorServerBusy", "MailboxConcurrency", "TooManyRequests",
    "quotaLimitReached", "serviceNotAvailable",
))  # fmt: skip
_REFUSED: Final = {
    "ErrorSendAsDenied": (550, "5.7.1"),
    "ErrorInvalidRecipients": (550, "5.1.3"),
    "ErrorMessageSizeExceeded": (552, "5.3.4"),
}


class GraphOptions(MailboxOptions):
    """`[provider.NAME.options]` of kind graph."""

    tenant: str = Field(description="Tenant: its id or a domain of it", pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$")
    mailbox: str = Field(
        "", description="Mailbox that sends: address or id; me: the user's who consented; empty: the one of From"
    )
    senders: tuple[str, ...] = Field((), description="From addresses that go this way; empty: any")
    upload: bool = Field(
        False, description="Larger messages go as a draft to which attachments are uploaded; needs Mail.ReadWrite"
    )
    sent_items: bool = Field(
        False, description="It is asked whether it has a message: looks into Sent Items; needs Mail.ReadBasic"
    )


class Graph(MailboxApi):
    """sendMail of Graph v1.0."""

    kind: ClassVar[str] = "graph"
    title: ClassVar[str] = TITLE
    default_base_url: ClassVar[str] = "https://graph.microsoft.com/v1.0"
    Options: ClassVar[type[ProviderOptions]] = GraphOptions
    grants: ClassVar[tuple[str, ...]] = ("client_credentials", "refresh_token")
    example: ClassVar[Mapping[str, Any]] = {"tenant": "example.onmicrosoft.com"}
    capabilities: ClassVar[Capabilities] = mailbox_capabilities(REQUEST_OCTETS // 4 * 3, RECIPIENTS, "option")

    def __init__(self, options: ProviderOptions, base_url: str) -> None:
        assert isinstance(options, GraphOptions)
        super().__init__(options, base_url, options.senders)
        self._options = options

    @property
    def token_url(self) -> str:
        return f"https://login.microsoftonline.com/{self._options.tenant}/oauth2/v2.0/token"

    def token_scope(self, grant: str) -> str:
        if grant == "client_credentials":
            return "https://graph.microsoft.com/.default"
        uploads = "https://graph.microsoft.com/Mail.ReadWrite " if self._options.upload else ""
        reads = "https://graph.microsoft.com/Mail.ReadBasic " if self._options.sent_items else ""
        return f"https://graph.microsoft.com/Mail.Send {uploads}{reads}offline_access"

    @property
    def takes(self) -> Capabilities:
        can = self.capabilities
        return dataclasses.replace(can, message_octets=LARGE_OCTETS) if self._options.upload else can

    def call(self, author: str, recipients: tuple[str, ...], octets: bytes) -> HttpRequest | Refusal:
        url = self._mailbox(author)
        small = self.capabilities.message_octets
        if len(octets) > small:
            return self._draft(url, recipients, octets, small)
        return HttpRequest(
            method="POST",
            url=f"{url}/sendMail",
            headers={"Content-Type": "text/plain", "Accept": "application/json"},
            body=base64.b64encode(octets),
            copies=(recipients,),
        )

    def _mailbox(self, author: str) -> str:
        """The URL of who sends for this author."""
        mailbox = self._options.mailbox or ascii_form(author)
        return f"{self.base_url}/me" if mailbox == "me" else f"{self.base_url}/users/{quote(mailbox, safe='@')}"

    def _draft(self, url: str, recipients: tuple[str, ...], octets: bytes, most: int) -> HttpRequest | Refusal:
        message = detached(octets, most)
        if message is None:
            words = f"{TITLE} takes {most} octets of a message besides attachments at its end, and this one has more"
            return Refusal(reply(552, "5.3.4", words))
        return Draft(url, recipients, message.attachments, self.outcome).begin(message)

    @property
    def can_be_asked(self) -> bool:
        return self._options.sent_items

    def question(self, lost: Lost, page: str) -> HttpRequest | None:
        """It knows a message by its Message-ID."""
        message_id = message_id_of(lost.content, self._options.withhold_headers)
        return question_for(self._mailbox(author_of(lost.content)), message_id) if message_id else None

    def found(self, response: HttpResponse, lost: Lost, page: str) -> Found:
        return read_found(response, message_id_of(lost.content, self._options.withhold_headers))

    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        """An upload's address is its own proof, and may be another host's."""
        return {} if "Content-Range" in request.headers else super().authorise(request, api_key, now)

    def read(self, response: HttpResponse, request: HttpRequest) -> Mapping[str, Outcome]:
        """A draft that was made without a name is none."""
        if request.prepares and response.status < 400:
            return dict.fromkeys(
                request.recipients, InDoubt(reply(451, "4.4.2", f"{TITLE} gave no draft; nothing sent"))
            )
        return super().read(response, request)

    def outcome(self, response: HttpResponse) -> Outcome:
        return _outcome(response, one_mailbox=bool(self._options.mailbox))


def _outcome(response: HttpResponse, *, one_mailbox: bool) -> Outcome:
    """One for all: the call is taken whole or not at all."""
    if response.status == 202:
        return Sent(reply(250, "2.0.0", "Microsoft Graph: accepted"), words_of(response.headers.get("request-id")))
    if 200 <= response.status < 300:
        return InDoubt(reply(451, "4.4.2", f"Microsoft Graph answered {response.status}, which is no acceptance"))
    answer = json_of(response)
    error = answer.get("error") if isinstance(answer, dict) else None
    code = words_of(error.get("code")) if isinstance(error, dict) else ""
    words = words_of(error.get("message")) if isinstance(error, dict) else ""
    said = f"{code}: {words or 'no reason given'}" if code else words
    text = printable(f"Microsoft Graph answered HTTP {response.status}: {said}")
    if code in _REFUSED:
        return Failed(reply(*_REFUSED[code], text), elsewhere=True)
    if code in _BUSY:
        return Deferred(reply(451, "4.4.5", text), Fault.HOST, response.retry_after)
    if code in _NO_MAILBOX and not one_mailbox:
        return Failed(reply(550, "5.7.1", text), elsewhere=True)
    if code in _MAILBOX or code in _NO_MAILBOX:
        # Of one mailbox among many: other mail goes on.
        return Deferred(reply(451, "4.7.0", text), Fault.ROUTE if one_mailbox else Fault.MESSAGE)
    return outcome_for_status(TITLE, response, said)


PROVIDER = Graph
