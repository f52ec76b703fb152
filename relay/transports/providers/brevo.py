"""Brevo: `POST /v3/smtp/email`, JSON, one call a copy, repeatable under an idempotency key for 15 minutes.

In: a message and its envelope. Out: calls; an outcome for each recipient. Pure. The vendor builds the MIME tree, takes
files by their extension, and shows no inline images. Sources: 99 recipients, 70 characters of a name, the extensions:
the vendor's Python SDK 5.1.0; the idempotency key and its 15 minutes, x-sib-ratelimit-reset: its API reference,
https://developers.brevo.com/reference/sendtransacemail. The 20 MB of attachments are not confirmed.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from pydantic import Field

from relay.mail.outcome import Failed, InDoubt, Outcome, Sent
from relay.mail.parts import Loss, Parts
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
from relay.transports.providers.brevo_events import question_for, read_events, read_page
from relay.transports.providers.structured import (
    Copy,
    Says,
    Taken,
    as_json,
    encoded,
    named,
    person,
    take,
)

RECIPIENTS: Final = 99
NAME_CHARACTERS: Final = 70
TITLE: Final = "Brevo"
_NAMESPACE: Final = uuid.UUID("6f7a2c1e-5b0d-4d7c-9a55-2f3f1a8a7b10")
_COMMANDS: Final = ("x-mailin-", "idempotencykey", "sender.ip")
_ACCEPTED: Final = (
    Loss.ATTACHED_MESSAGE,
    Loss.ATTACHMENT_CHARSET,
    Loss.ATTACHMENT_TYPE,
    Loss.FORMAT_FLOWED,
    Loss.RECIPIENT_ROLE,
    Loss.VISIBLE_RECIPIENTS,
)
# The extensions the API takes.
EXTENSIONS: Final = frozenset((
    "xlsx", "xls", "ods", "docx", "docm", "doc", "csv", "pdf", "txt", "gif", "jpg", "jpeg", "png", "tif", "tiff",
    "rtf", "bmp", "cgm", "css", "shtml", "html", "htm", "zip", "xml", "ppt", "pptx", "tar", "ez", "ics", "mobi",
    "msg", "pub", "eps", "odt", "mp3", "m4a", "m4v", "wma", "ogg", "flac", "wav", "aif", "aifc", "aiff", "mp4",
    "mov", "avi", "mkv", "mpeg", "mpg", "wmv", "pkpass", "xlsm",
))  # fmt: skip

_SAYS: Final = Says(RECIPIENTS, commands=_COMMANDS, marks=("{{", "{%"), typed=False)


class BrevoOptions(ProviderOptions):
    """`[provider.NAME.options]` of kind brevo."""

    accept: tuple[Loss, ...] = Field(_ACCEPTED, description="What a message may lose here without being refused")


class Brevo(Provider):
    """Transactional email v3."""

    kind: ClassVar[str] = "brevo"
    title: ClassVar[str] = TITLE
    default_base_url: ClassVar[str] = "https://api.brevo.com/v3"
    Options: ClassVar[type[ProviderOptions]] = BrevoOptions
    reset_header: ClassVar[str] = "x-sib-ratelimit-reset"
    key_seconds: ClassVar[float] = 900.0
    capabilities: ClassVar[Capabilities] = Capabilities(
        raw_mime=False,
        separate_envelope=False,
        envelope_sender=False,
        attachment_octets=20_971_520,
        message_octets=0,
        recipients_per_call=RECIPIENTS,
        per_recipient_result=False,
        custom_headers=True,
        tags=True,
        inline_images=False,
        idempotency=True,
        tracking="always",
        smtputf8=False,
        sender="verified domain",
        dkim="replaced",
        polling="events",
    )

    def __init__(self, options: ProviderOptions, base_url: str) -> None:
        super().__init__(options, base_url)
        self._options = options

    def render(self, request: DeliveryRequest, content: bytes) -> Rendering | Refusal:
        taken = take(TITLE, self.capabilities, _SAYS, self._options, request, content)
        if isinstance(taken, Refusal):
            return taken
        refusal = _files_refused(taken.parts) or _names_refused(taken)
        if refusal:
            return refusal
        message = _message(taken.parts, taken.headers, request)
        return Rendering(tuple(self._call(message, copy, request) for copy in taken.copies), taken.losses)

    def _call(self, message: dict[str, Any], copy: Copy, request: DeliveryRequest) -> HttpRequest:
        # The same for the same recipients only, and a UUID, as the API wants it.
        key = str(uuid.uuid5(_NAMESPACE, "\n".join((key_of(request), *copy.recipients))))
        body = {**message, **_addressed(copy), "headers": {**message["headers"], "idempotencyKey": key}}
        return HttpRequest(
            method="POST",
            url=f"{self.base_url}/smtp/email",
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            body=as_json(body),
            copies=(copy.recipients,),
            idempotent=True,
        )

    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        return {"api-key": api_key}

    def read(self, response: HttpResponse, request: HttpRequest) -> Mapping[str, Outcome]:
        return dict.fromkeys(request.recipients, _outcome(response))

    def events(self, callback: Callback) -> list[ProviderEvent]:
        return read_events(callback)

    def poll(self, cursor: str, now: float) -> HttpRequest:
        return question_for(f"{self.base_url}/smtp/statistics/events", cursor, now)

    def page(self, response: HttpResponse, cursor: str, now: float) -> Page:
        return read_page(response, cursor, now)


def _outcome(response: HttpResponse) -> Outcome:
    """One for all: the call is taken whole or not at all."""
    answer = json_of(response)
    found = answer if isinstance(answer, dict) else {}
    if 200 <= response.status < 300:
        remote_id = words_of(found.get("messageId")).strip("<>")
        if remote_id:
            return Sent(reply(250, "2.0.0", "Brevo: accepted"), remote_id)
        return InDoubt(reply(451, "4.4.2", "Brevo answered 2xx without a message id"))
    code, words = words_of(found.get("code")), words_of(found.get("message"))
    if response.status == 400 and "sender" in words.casefold():
        text = printable(f"Brevo answered HTTP 400: {code}: {words}")
        return Failed(reply(550, "5.7.1", text), elsewhere=True)
    return outcome_for_status(TITLE, response, f"{code}: {words}" if code else words)


def _files_refused(parts: Parts) -> Refusal | None:
    for _, name in named(parts.attachments):
        if name.rpartition(".")[2].lower() not in EXTENSIONS:
            return Refusal(reply(550, "5.6.1", printable(f"Brevo takes no file such as {name!r}; see its page")))
    return None


def _names_refused(taken: Taken) -> Refusal | None:
    people = (*taken.parts.from_[:1], *taken.parts.reply_to[:1], *(one for copy in taken.copies for one in copy.to))
    shown = (*people, *(one for copy in taken.copies for one in copy.cc))
    if any(len(one.name) > NAME_CHARACTERS for one in shown):
        return Refusal(reply(550, "5.6.0", f"Brevo takes display names of {NAME_CHARACTERS} characters at most"))
    return None


def _message(parts: Parts, headers: Sequence[tuple[str, str]], request: DeliveryRequest) -> dict[str, Any]:
    asked = request.directives
    # The API wants neither empty.
    message: dict[str, Any] = {"sender": person(parts.from_[0]), "subject": parts.subject or " "}
    if parts.reply_to:
        message["replyTo"] = person(parts.reply_to[0])
    bodies = {"textContent": parts.text, "htmlContent": parts.html}
    message |= {key: body for key, body in bodies.items() if body}
    if not (parts.text or parts.html):
        message["textContent"] = "\r\n"
    message["headers"] = dict(headers)
    if parts.attachments:
        message["attachment"] = [{"name": name, "content": encoded(item)} for item, name in named(parts.attachments)]
    if asked.tags:
        message["tags"] = list(asked.tags)
    return message


def _addressed(copy: Copy) -> dict[str, list[dict[str, str]]]:
    found = {"to": [person(mailbox) for mailbox in copy.to]}
    if copy.cc:
        found["cc"] = [person(mailbox) for mailbox in copy.cc]
    if copy.bcc:
        found["bcc"] = [{"email": address} for address in copy.bcc]
    return found


PROVIDER = Brevo
