"""Resend: `POST /emails`, JSON, one call a copy, repeatable under an Idempotency-Key for 24 hours.

In: a message and its envelope. Out: calls; an outcome for each recipient. Pure. The vendor builds the MIME tree.
Sources: https://resend.com/docs/api-reference/errors, with its statuses; idempotency keys (256 characters, 24 hours)
and rate limits there; tags (ASCII letters, digits, _ and -, 256 characters) and content_id: the vendor's Python SDK
2.52.0; 50 recipients and 40 MB in base64: https://resend.com/docs/api-reference/emails/send-email.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from pydantic import Field

from relay.mail.outcome import Deferred, Failed, Fault, InDoubt, Outcome, Sent
from relay.mail.parts import Attachment, Loss, Parts
from relay.mail.reply import printable, reply
from relay.ports import DeliveryRequest
from relay.transports.providers.answers import json_of, outcome_for_status, words_of
from relay.transports.providers.base import (
    Callback,
    Capabilities,
    HttpRequest,
    HttpResponse,
    Page,
    Provider,
    ProviderEvent,
    ProviderOptions,
    Refusal,
    Rendering,
    key_of,
)
from relay.transports.providers.resend_events import question_for, read_events, read_page
from relay.transports.providers.structured import (
    Copy,
    Says,
    as_json,
    encoded,
    named,
    take,
    written,
)

RECIPIENTS: Final = 50
TITLE: Final = "Resend"
LONGEST_KEY: Final = 256
_COMMANDS: Final = ("resend-",)
_ACCEPTED: Final = (
    Loss.ATTACHED_MESSAGE,
    Loss.ATTACHMENT_CHARSET,
    Loss.FORMAT_FLOWED,
    Loss.RECIPIENT_ROLE,
    Loss.VISIBLE_RECIPIENTS,
)
_NO_KEY: Final = re.compile(r"[^!-~]")
_NO_TAG: Final = re.compile(r"[^A-Za-z0-9_-]+")

# `name` of an error, with its status where one name has several -> what it means beyond the HTTP status.
_SENDER: Final = (("validation_error", 403), ("invalid_from_address", 422))
_WAIT: Final = ("concurrent_idempotent_requests",)
_NEVER: Final = ("invalid_idempotent_request", "invalid_idempotency_key", "security_error")

_SAYS: Final = Says(RECIPIENTS, commands=_COMMANDS, several_reply_to=True)


class ResendOptions(ProviderOptions):
    """`[provider.NAME.options]` of kind resend."""

    accept: tuple[Loss, ...] = Field(_ACCEPTED, description="What a message may lose here without being refused")


class Resend(Provider):
    """Send email."""

    kind: ClassVar[str] = "resend"
    title: ClassVar[str] = TITLE
    default_base_url: ClassVar[str] = "https://api.resend.com"
    Options: ClassVar[type[ProviderOptions]] = ResendOptions
    reset_header: ClassVar[str] = "ratelimit-reset"
    signs_callbacks: ClassVar[bool] = True
    capabilities: ClassVar[Capabilities] = Capabilities(
        raw_mime=False,
        separate_envelope=False,
        envelope_sender=False,
        attachment_octets=0,
        message_octets=41_943_040,
        recipients_per_call=RECIPIENTS,
        per_recipient_result=False,
        custom_headers=True,
        tags=True,
        inline_images=True,
        idempotency=True,
        tracking="none",
        smtputf8=False,
        sender="verified domain",
        dkim="replaced",
        polling="last state",
    )

    def __init__(self, options: ProviderOptions, base_url: str) -> None:
        super().__init__(options, base_url)
        self._options = options

    def render(self, request: DeliveryRequest, content: bytes) -> Rendering | Refusal:
        taken = take(TITLE, self.capabilities, _SAYS, self._options, request, content)
        if isinstance(taken, Refusal):
            return taken
        message = _message(taken.parts, taken.headers, request)
        return Rendering(
            tuple(self._call(message, copy, _key(key_of(request), copy)) for copy in taken.copies), taken.losses
        )

    def _call(self, message: dict[str, Any], copy: Copy, key: str) -> HttpRequest:
        return HttpRequest(
            method="POST",
            url=f"{self.base_url}/emails",
            headers={"Content-Type": "application/json", "Accept": "application/json", "Idempotency-Key": key},
            body=as_json({**message, **_addressed(copy)}),
            copies=(copy.recipients,),
            idempotent=True,
        )

    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {api_key}"}

    def read(self, response: HttpResponse, request: HttpRequest) -> Mapping[str, Outcome]:
        return dict.fromkeys(request.recipients, _outcome(response))

    def events(self, callback: Callback) -> list[ProviderEvent]:
        return read_events(callback)

    def poll(self, cursor: str, now: float) -> HttpRequest:
        return question_for(f"{self.base_url}/emails", cursor, now)

    def page(self, response: HttpResponse, cursor: str, now: float) -> Page:
        return read_page(response, cursor, now)


def _outcome(response: HttpResponse) -> Outcome:
    """One for all: the call is taken whole or not at all."""
    answer = json_of(response)
    found = answer if isinstance(answer, dict) else {}
    if 200 <= response.status < 300:
        remote_id = words_of(found.get("id"))
        if remote_id:
            return Sent(reply(250, "2.0.0", "Resend: accepted"), remote_id)
        return InDoubt(reply(451, "4.4.2", "Resend answered 2xx without an id"))
    name, words = words_of(found.get("name")), words_of(found.get("message"))
    text = printable(f"Resend answered HTTP {response.status}: {name}: {words or 'no reason given'}")
    if name in _WAIT:
        return Deferred(reply(451, "4.3.0", text), Fault.MESSAGE, response.retry_after)
    if name in _NEVER:
        return Failed(reply(550, "5.6.0", text), elsewhere=True)
    if (name, response.status) in _SENDER:
        # The domain of this From is not verified: other mail goes on.
        return Failed(reply(550, "5.7.1", text), elsewhere=True)
    return outcome_for_status(TITLE, response, f"{name}: {words}" if name else words)


def _key(key: str, copy: Copy) -> str:
    """The same for the same recipients only: under one key the vendor takes one body."""
    digest = hashlib.blake2b("\n".join(copy.recipients).encode("utf-8"), digest_size=8).hexdigest()
    return f"{_NO_KEY.sub('_', key)[: LONGEST_KEY - 17]}-{digest}"


def _message(parts: Parts, headers: Sequence[tuple[str, str]], request: DeliveryRequest) -> dict[str, Any]:
    asked = request.directives
    message: dict[str, Any] = {"from": written(parts.from_[0]), "subject": parts.subject or ""}
    if parts.reply_to:
        message["reply_to"] = [written(mailbox) for mailbox in parts.reply_to]
    bodies = {"text": parts.text, "html": parts.html}
    message |= {key: body for key, body in bodies.items() if body}
    if not (parts.text or parts.html):
        message["text"] = "\r\n"  # one of them is demanded
    if headers:
        message["headers"] = dict(headers)
    if parts.attachments:
        message["attachments"] = [_attachment(item, name) for item, name in named(parts.attachments)]
    tags = [("tag" if n == 1 else f"tag{n}", tag) for n, tag in enumerate(asked.tags, 1)]
    found = {_word(name): _word(value) for name, value in (*tags, *asked.metadata)}
    if found:
        message["tags"] = [{"name": name, "value": value} for name, value in found.items()]
    return message


def _word(text: str) -> str:
    """A tag's name or value as the API takes it."""
    return _NO_TAG.sub("_", text)[:256] or "_"


def _addressed(copy: Copy) -> dict[str, list[str]]:
    found = {"to": [written(mailbox) for mailbox in copy.to]}
    if copy.cc:
        found["cc"] = [written(mailbox) for mailbox in copy.cc]
    if copy.bcc:
        found["bcc"] = list(copy.bcc)
    return found


def _attachment(item: Attachment, name: str) -> dict[str, str]:
    found = {"filename": name, "content": encoded(item), "content_type": item.content_type}
    if item.inline and item.content_id:
        found["content_id"] = item.content_id
    return found


PROVIDER = Resend
