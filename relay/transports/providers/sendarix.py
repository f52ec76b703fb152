"""Sendarix: one recipient a call, repeatable under an Idempotency-Key for 24 hours, in two profiles.

`messages` is the API the vendor's text describes (`POST /v1/messages`), `email_send` the one its pages do (`POST
/v1/email/send`). In: a message and its envelope. Out: calls; an outcome for each recipient. Pure.
Sources: seeds/sendarix.txt; the vendor's API pages.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from relay.mail.address import ascii_form
from relay.mail.outcome import InDoubt, Outcome, Sent
from relay.mail.parts import Loss, Parts
from relay.mail.reply import reply
from relay.ports import DeliveryRequest
from relay.transports.providers.answers import json_of, outcome_for_status, words_of
from relay.transports.providers.base import (
    Callback,
    Capabilities,
    HttpRequest,
    HttpResponse,
    Provider,
    ProviderEvent,
    ProviderOptions,
    Refusal,
    Rendering,
    key_of,
)
from relay.transports.providers.sendarix_events import read_events
from relay.transports.providers.structured import Copy, Says, as_json, take, written

TITLE: Final = "Sendarix"
Profile = Literal["messages", "email_send"]
_NAMESPACE: Final = uuid.UUID("0d3e1f8a-6a64-4b53-9a3e-8f0f3d3c2b71")
_PATHS: Final[dict[Profile, str]] = {"messages": "/messages", "email_send": "/email/send"}
_COMMANDS: Final = ("x-idempotency-key", "idempotency-key")
_SAYS: Final[dict[Profile, Says]] = {
    "messages": Says(1, commands=_COMMANDS, attachments=False, nameless="all"),
    "email_send": Says(1, attachments=False, headers=False, nameless="all"),
}
_ACCEPTED: Final = (
    Loss.CUSTOM_HEADER,
    Loss.FORMAT_FLOWED,
    Loss.RECIPIENT_NAME,
    Loss.RECIPIENT_ROLE,
    Loss.VISIBLE_RECIPIENTS,
)


class SendarixOptions(ProviderOptions):
    """`[provider.NAME.options]` of kind sendarix."""

    accept: tuple[Loss, ...] = Field(_ACCEPTED, description="What a message may lose here without being refused")
    profile: Profile = Field("messages", description="messages: POST /messages. email_send: POST /email/send")
    auth: Literal["bearer", "x-api-key"] = Field("bearer", description="How the key travels")


class Sendarix(Provider):
    """Email API v1."""

    kind: ClassVar[str] = "sendarix"
    title: ClassVar[str] = TITLE
    default_base_url: ClassVar[str] = "https://app.sendarix.com/v1"
    Options: ClassVar[type[ProviderOptions]] = SendarixOptions
    reset_header: ClassVar[str] = "x-ratelimit-reset"
    capabilities: ClassVar[Capabilities] = Capabilities(
        raw_mime=False,
        separate_envelope=False,
        envelope_sender=False,
        attachment_octets=0,
        message_octets=52_428_800,
        recipients_per_call=1,
        per_recipient_result=True,
        custom_headers=True,
        tags=False,
        inline_images=False,
        idempotency=True,
        tracking="none",
        smtputf8=False,
        sender="verified address",
        dkim="replaced",
    )

    def __init__(self, options: ProviderOptions, base_url: str) -> None:
        super().__init__(options, base_url)
        assert isinstance(options, SendarixOptions)
        self._options = options

    def render(self, request: DeliveryRequest, content: bytes) -> Rendering | Refusal:
        profile = self._options.profile
        taken = take(TITLE, self.capabilities, _SAYS[profile], self._options, request, content)
        if isinstance(taken, Refusal):
            return taken
        message = _messages(taken.parts, taken.headers) if profile == "messages" else _email_send(taken.parts)
        return Rendering(tuple(self._call(message, copy, request) for copy in taken.copies), taken.losses)

    def _call(self, message: dict[str, Any], copy: Copy, request: DeliveryRequest) -> HttpRequest:
        [recipient] = copy.recipients
        name = "recipient" if self._options.profile == "messages" else "to"
        return HttpRequest(
            method="POST",
            url=f"{self.base_url}{_PATHS[self._options.profile]}",
            headers={
                "Content-Type": "application/json",
                "Accept": "application/json",
                "Idempotency-Key": str(uuid.uuid5(_NAMESPACE, f"{key_of(request)}\n{recipient}")),
            },
            body=as_json({name: ascii_form(recipient), **message}),
            copies=(copy.recipients,),
            idempotent=True,
        )

    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        return {"X-API-Key": api_key} if self._options.auth == "x-api-key" else {"Authorization": f"Bearer {api_key}"}

    def read(self, response: HttpResponse, request: HttpRequest) -> Mapping[str, Outcome]:
        return dict.fromkeys(request.recipients, _outcome(response))

    def events(self, callback: Callback) -> list[ProviderEvent]:
        return read_events(callback)


def _messages(parts: Parts, headers: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The text names no fields for a finished body; `html` and `text` are the ones its pages use."""
    fields = dict(headers)
    if parts.reply_to:
        fields["Reply-To"] = ", ".join(written(mailbox) for mailbox in parts.reply_to)
    return {**_email_send(parts), "headers": fields} if fields else _email_send(parts)


def _email_send(parts: Parts) -> dict[str, Any]:
    # The API wants neither empty.
    message: dict[str, Any] = {"from": written(parts.from_[0]), "subject": parts.subject or " "}
    bodies = {"html": parts.html, "text": parts.text}
    message |= {key: body for key, body in bodies.items() if body}
    if not (parts.html or parts.text):
        message["text"] = "\r\n"
    return message


def _outcome(response: HttpResponse) -> Outcome:
    answer = json_of(response)
    found = answer if isinstance(answer, dict) else {}
    if 200 <= response.status < 300:
        remote_id = next((word for key in ("message_id", "messageId", "id") if (word := words_of(found.get(key)))), "")
        if remote_id:
            return Sent(reply(250, "2.0.0", f"Sendarix: {words_of(found.get('status')) or 'accepted'}"), remote_id)
        return InDoubt(reply(451, "4.4.2", "Sendarix answered 2xx without a message id"))
    return outcome_for_status(TITLE, response, _words(found))


def _words(found: dict[str, Any]) -> str:
    """The general words, then the field-level ones."""
    error = found.get("error")
    words = [words_of(error.get("message")) if isinstance(error, dict) else words_of(error or found.get("message"))]
    fields = found.get("errors")
    words += [
        f"{words_of(each.get('field'))}: {words_of(each.get('message'))}"
        for each in (fields[:5] if isinstance(fields, list) else ())
        if isinstance(each, dict)
    ]
    return "; ".join(word for word in words if word)


PROVIDER = Sendarix
