"""SendGrid: `POST /v3/mail/send`, JSON, 202 for the whole call.

In: a message and its envelope. Out: calls with one personalization for each copy; an outcome for each recipient. Pure.
The vendor builds the MIME tree. Sources: the vendor's API reference, https://www.twilio.com/docs/sendgrid/api-reference
(mail-send, its limitations and errors: 1,000 recipients of all personalizations, 10 categories, an attachment's type
without parameters; 30 MB with attachments, not confirmed) and its Python SDK 6.12.5 (names with commas go as they are).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from relay.mail.directives import MOST_METADATA
from relay.mail.outcome import Failed, InDoubt, Outcome, Sent
from relay.mail.parts import Attachment, Loss, Parts
from relay.mail.reply import printable, reply
from relay.ports import DeliveryRequest
from relay.transports.providers.answers import json_of, outcome_for_status, words_of
from relay.transports.providers.base import (
    Callback,
    Capabilities,
    Found,
    HttpRequest,
    HttpResponse,
    Lost,
    Provider,
    ProviderEvent,
    ProviderOptions,
    Refusal,
    Rendering,
)
from relay.transports.providers.questions import bears_mark, marked
from relay.transports.providers.sendgrid_events import read_events
from relay.transports.providers.sendgrid_question import question_for, read_found
from relay.transports.providers.structured import (
    Copy,
    Says,
    as_json,
    batches,
    encoded,
    named,
    person,
    take,
)

RECIPIENTS: Final = 1000
CATEGORIES: Final = 10
_REGIONS: Final = {"global": "https://api.sendgrid.com/v3", "eu": "https://api.eu.sendgrid.com/v3"}
# Refused by the API: the fields it writes itself.
_RESERVED: Final = frozenset(("x-sg-id", "x-sg-eid"))
# Commands to the vendor; what an application asked for arrives as directives.
_COMMANDS: Final = ("x-smtpapi",)
_ACCEPTED: Final = (
    Loss.ATTACHED_MESSAGE,
    Loss.ATTACHMENT_CHARSET,
    Loss.FORMAT_FLOWED,
    Loss.RECIPIENT_ROLE,
    Loss.VISIBLE_RECIPIENTS,
)

_SAYS: Final = Says(RECIPIENTS, commands=_COMMANDS, reserved=_RESERVED, amp=True, several_reply_to=True)


class SendGridOptions(ProviderOptions):
    """`[provider.NAME.options]` of kind sendgrid."""

    accept: tuple[Loss, ...] = Field(_ACCEPTED, description="What a message may lose here without being refused")
    track_opens: bool = Field(False, description="Let SendGrid add its tracking pixel to the HTML")
    track_clicks: bool = Field(False, description="Let SendGrid rewrite the links of the HTML")
    ip_pool: str = Field("", description="IP pool to send from; empty: the account's default")
    region: Literal["global", "eu"] = Field("global", description="Where the sub-user lives")
    activity: bool = Field(
        False, description="The account has the Email Activity API, so it can be asked whether it has a message"
    )


class SendGrid(Provider):
    """Mail send v3."""

    kind: ClassVar[str] = "sendgrid"
    title: ClassVar[str] = "SendGrid"
    default_base_url: ClassVar[str] = _REGIONS["global"]
    Options: ClassVar[type[ProviderOptions]] = SendGridOptions
    reset_header: ClassVar[str] = "x-ratelimit-reset"
    signs_callbacks: ClassVar[bool] = True
    capabilities: ClassVar[Capabilities] = Capabilities(
        raw_mime=False,
        separate_envelope=False,
        envelope_sender=False,
        attachment_octets=0,
        message_octets=31_457_280,
        recipients_per_call=RECIPIENTS,
        per_recipient_result=False,
        custom_headers=True,
        tags=True,
        inline_images=True,
        idempotency=False,
        tracking="option",
        smtputf8=False,
        sender="verified domain",
        dkim="replaced",
        asked="option",
    )

    @classmethod
    def url_for(cls, options: ProviderOptions) -> str:
        assert isinstance(options, SendGridOptions)
        return _REGIONS[options.region]

    def __init__(self, options: ProviderOptions, base_url: str) -> None:
        super().__init__(options, base_url)
        assert isinstance(options, SendGridOptions)
        self._options = options

    def render(self, request: DeliveryRequest, content: bytes) -> Rendering | Refusal:
        taken = take(self.title, self.capabilities, _SAYS, self._options, request, content)
        if isinstance(taken, Refusal):
            return taken
        message = self._message(taken.parts, taken.headers, request)
        calls = tuple(self._call(message, batch) for batch in batches(taken.copies, RECIPIENTS, RECIPIENTS))
        return Rendering(calls, taken.losses)

    def _message(self, parts: Parts, headers: Sequence[tuple[str, str]], request: DeliveryRequest) -> dict[str, Any]:
        asked = request.directives
        message: dict[str, Any] = {
            "from": person(parts.from_[0]),
            # Neither may be empty.
            "subject": parts.subject or " ",
            "content": _content(parts),
            "tracking_settings": self._tracking(asked.track_opens, asked.track_clicks),
        }
        if len(parts.reply_to) == 1:
            message["reply_to"] = person(parts.reply_to[0])
        elif parts.reply_to:
            message["reply_to_list"] = [person(mailbox) for mailbox in parts.reply_to]
        if parts.attachments:
            message["attachments"] = [_attachment(item, name) for item, name in named(parts.attachments)]
        if headers:
            message["headers"] = dict(headers)
        if asked.tags:
            message["categories"] = list(asked.tags[:CATEGORIES])
        metadata = dict(asked.metadata)
        if self._options.activity:
            metadata = marked(metadata, request.message_id, MOST_METADATA)
        if metadata:
            message["custom_args"] = metadata
        if asked.pool or self._options.ip_pool:
            message["ip_pool_name"] = asked.pool or self._options.ip_pool
        return message

    def _tracking(self, opens: bool | None, clicks: bool | None) -> dict[str, Any]:
        clicked = self._options.track_clicks if clicks is None else clicks
        return {
            "open_tracking": {"enable": self._options.track_opens if opens is None else opens},
            "click_tracking": {"enable": clicked, "enable_text": False},
        }

    def _call(self, message: dict[str, Any], copies: Sequence[Copy]) -> HttpRequest:
        body = {"personalizations": [_personalization(copy) for copy in copies], **message}
        return HttpRequest(
            method="POST",
            url=f"{self.base_url}/mail/send",
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            body=as_json(body),
            copies=tuple(copy.recipients for copy in copies),
        )

    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {api_key}"}

    def read(self, response: HttpResponse, request: HttpRequest) -> Mapping[str, Outcome]:
        return dict.fromkeys(request.recipients, _outcome(response))

    def events(self, callback: Callback) -> list[ProviderEvent]:
        return read_events(callback)

    @property
    def can_be_asked(self) -> bool:
        return self._options.activity

    def question(self, lost: Lost, page: str) -> HttpRequest | None:
        """It knows a message by its unique arguments, where ours went along."""
        if not bears_mark(dict(lost.request.directives.metadata), MOST_METADATA):
            return None
        return question_for(f"{self.base_url}/messages", lost)

    def found(self, response: HttpResponse, lost: Lost, page: str) -> Found:
        return read_found(response)


def _outcome(response: HttpResponse) -> Outcome:
    """One for all: the call is taken whole or not at all."""
    remote_id = words_of(response.headers.get("x-message-id"))
    if response.status == 202 or (response.status == 200 and remote_id):
        return Sent(reply(250, "2.0.0", "SendGrid: accepted"), remote_id)
    if response.status < 300:
        return InDoubt(reply(451, "4.4.2", f"SendGrid answered {response.status}, which is no acceptance"))
    answer = json_of(response)
    errors = answer.get("errors") if isinstance(answer, dict) else None
    errors = [each for each in errors[:5] if isinstance(each, dict)] if isinstance(errors, list) else []
    words = "; ".join(word for each in errors if (word := words_of(each.get("message"))))
    if response.status == 403 and any(str(each.get("field", "")).startswith("from") for each in errors):
        # The identity of this From, and not the account: other mail goes on.
        return Failed(reply(550, "5.7.1", printable(f"SendGrid answered HTTP 403: {words}")), elsewhere=True)
    return outcome_for_status("SendGrid", response, words)


def _personalization(copy: Copy) -> dict[str, Any]:
    found: dict[str, Any] = {"to": [person(mailbox) for mailbox in copy.to]}
    if copy.cc:
        found["cc"] = [person(mailbox) for mailbox in copy.cc]
    if copy.bcc:
        found["bcc"] = [{"email": address} for address in copy.bcc]
    return found


def _content(parts: Parts) -> list[dict[str, str]]:
    """In the order the API demands; at least one, and none empty."""
    bodies = (("text/plain", parts.text), ("text/x-amp-html", parts.amp), ("text/html", parts.html))
    return [{"type": kind, "value": text} for kind, text in bodies if text] or [{"type": "text/plain", "value": "\r\n"}]


def _attachment(item: Attachment, name: str) -> dict[str, str]:
    found = {"content": encoded(item), "type": item.content_type, "filename": name}
    if item.inline and item.content_id:
        return {**found, "disposition": "inline", "content_id": item.content_id}
    return {**found, "disposition": "attachment"}


PROVIDER = SendGrid
