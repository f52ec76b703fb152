"""SendPost: `POST /subaccount/email/`, JSON, one result for each `to` entry.

In: a message and its envelope. Out: calls in which every envelope recipient stands exactly once; an outcome for each.
Pure. The vendor builds the MIME tree, so what its JSON cannot say is refused unless `accept` lists it. The mapping
of To, Cc and Bcc and the reading of its error codes are argued in docs/providers/sendpost.md.
Sources: the vendor's API reference and its Python SDK 3.0.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from pydantic import Field

from relay.mail.directives import Directives
from relay.mail.mime import Mailbox
from relay.mail.outcome import Outcome
from relay.mail.parts import Loss, Parts, take_apart
from relay.mail.reply import reply
from relay.ports import DeliveryRequest
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
    refusal_for,
)
from relay.transports.providers.sendpost_answer import TITLE, read_answer
from relay.transports.providers.sendpost_events import read_events
from relay.transports.providers.structured import (
    Says,
    as_json,
    batches,
    content_losses,
    custom_headers,
    encoded,
    named,
    person,
    refused,
)
from relay.transports.providers.visibility import Visibility, visibility

SUBJECT_CHARACTERS: Final = 998
NAME_CHARACTERS: Final = 256
FILENAME_CHARACTERS: Final = 255
ATTACHMENT_OCTETS: Final = 26_214_400
RECIPIENTS: Final = 500
"""The model says 1,000 `to` entries, the method's text 500 recipients; the smaller is right under both."""
COPIES: Final = 50
"""Entries of one `cc` list, and of one `bcc` list."""

# Read by the vendor as commands (a mock send is accepted and never sent), so never taken from a message.
_CONTROL_FIELDS: Final = ("x-sendpost-", "x-sp-")
_ACCEPTED: Final = (
    Loss.ATTACHED_MESSAGE,
    Loss.ATTACHMENT_CHARSET,
    Loss.ATTACHMENT_TYPE,
    Loss.FORMAT_FLOWED,
    Loss.RECIPIENT_ROLE,
    Loss.VISIBLE_RECIPIENTS,
)

_SAYS: Final = Says(COPIES, commands=_CONTROL_FIELDS, marks=("{{",), amp=True, typed=False)


class SendPostOptions(ProviderOptions):
    """`[provider.NAME.options]` of kind sendpost."""

    accept: tuple[Loss, ...] = Field(_ACCEPTED, description="What a message may lose here without being refused")
    track_opens: bool = Field(False, description="Let SendPost add its tracking pixel to the HTML")
    track_clicks: bool = Field(False, description="Let SendPost rewrite the links of the HTML")
    ippool: str = Field("", description="IP pool to send from; empty: the sub-account's default")


@dataclass(frozen=True, slots=True)
class _Copy:
    """One `to` entry: one message at the vendor."""

    to: Mailbox
    cc: tuple[Mailbox, ...] = ()
    bcc: tuple[str, ...] = ()

    @property
    def recipients(self) -> tuple[str, ...]:
        return (self.to.address, *(mailbox.address for mailbox in self.cc), *self.bcc)


class SendPost(Provider):
    """Sub-account API, contract v1."""

    kind: ClassVar[str] = "sendpost"
    title: ClassVar[str] = TITLE
    default_base_url: ClassVar[str] = "https://api.sendpost.io/api/v1"
    Options: ClassVar[type[ProviderOptions]] = SendPostOptions
    capabilities: ClassVar[Capabilities] = Capabilities(
        raw_mime=False,
        separate_envelope=False,
        envelope_sender=False,
        attachment_octets=ATTACHMENT_OCTETS,
        message_octets=0,
        recipients_per_call=RECIPIENTS,
        per_recipient_result=True,
        custom_headers=True,
        tags=True,
        inline_images=False,
        idempotency=False,
        tracking="option",
        smtputf8=False,
        sender="verified domain",
        dkim="replaced",
    )

    def __init__(self, options: ProviderOptions, base_url: str) -> None:
        super().__init__(options, base_url)
        assert isinstance(options, SendPostOptions)
        self._options = options

    def render(self, request: DeliveryRequest, content: bytes) -> Rendering | Refusal:
        parts = take_apart(content)
        recipients = [recipient.address for recipient in request.recipients]
        refusal = _limits(recipients, parts)
        if refusal:
            return refusal
        seen = visibility(recipients, parts)
        copies = list(_copies(seen))
        headers, header_losses = custom_headers(parts, self._options.withhold_headers, _CONTROL_FIELDS)
        losses = frozenset(
            {*content_losses(parts, self.capabilities, _SAYS), *_visible_losses(seen, copies), *header_losses}
        )
        refusal = refusal_for(self.title, losses, self._options.accept)
        if refusal:
            return refusal
        message = self._message(parts, dict(headers), request.directives)
        return Rendering(tuple(self._call(message, batch) for batch in batches(copies, RECIPIENTS, RECIPIENTS)), losses)

    def _message(self, parts: Parts, headers: dict[str, str], asked: Directives) -> dict[str, Any]:
        options = self._options
        message: dict[str, Any] = {
            "from": person(parts.from_[0]),
            "subject": parts.subject or "",
            "trackOpens": options.track_opens if asked.track_opens is None else asked.track_opens,
            "trackClicks": options.track_clicks if asked.track_clicks is None else asked.track_clicks,
        }
        if parts.reply_to:
            message["replyTo"] = person(parts.reply_to[0])
        bodies = {"htmlBody": parts.html, "textBody": parts.text, "ampBody": parts.amp}
        message |= {key: body for key, body in bodies.items() if body is not None}
        if not (parts.html or parts.text):
            message["textBody"] = parts.text or "\r\n"  # a body is demanded; scanners send none
        if headers:
            message["headers"] = headers
        if asked.tags:
            message["groups"] = list(asked.tags)
        if parts.attachments:
            message["attachments"] = [
                {"content": encoded(item), "filename": name} for item, name in named(parts.attachments)
            ]
        if asked.pool or options.ippool:
            message["ippool"] = asked.pool or options.ippool
        return message

    def _call(self, message: dict[str, Any], copies: Sequence[_Copy]) -> HttpRequest:
        body = {**message, "to": [_entry(copy) for copy in copies]}
        return HttpRequest(
            method="POST",
            url=f"{self.base_url}/subaccount/email/",
            headers={
                "Content-Type": "application/json",
                "Accept": "application/json",
                "X-SendPost-Public-Contract": "v1",
            },
            body=as_json(body),
            copies=tuple(copy.recipients for copy in copies),
        )

    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        return {"X-SubAccount-ApiKey": api_key}

    def read(self, response: HttpResponse, request: HttpRequest) -> Mapping[str, Outcome]:
        return read_answer(response, request)

    def events(self, callback: Callback) -> list[ProviderEvent]:
        return read_events(callback)


def _limits(recipients: Sequence[str], parts: Parts) -> Refusal | None:
    """What no setting can accept: addresses and sizes the API refuses."""
    refusal = refused(TITLE, recipients, parts, SendPost.capabilities, 0)
    if refusal is not None:
        return refusal
    names = [mailbox.name for mailbox in (*parts.from_, *parts.reply_to, *parts.to, *parts.cc)]
    too_long = {
        f"a subject of {SUBJECT_CHARACTERS}": len(parts.subject or "") > SUBJECT_CHARACTERS,
        f"display names of {NAME_CHARACTERS}": any(len(name) > NAME_CHARACTERS for name in names),
        f"file names of {FILENAME_CHARACTERS}": any(
            len(item.filename) > FILENAME_CHARACTERS for item in parts.attachments
        ),
    }
    for what, broken in too_long.items():
        if broken:
            return Refusal(reply(550, "5.6.0", f"SendPost takes {what} characters at most"))
    return None


def _copies(seen: Visibility) -> Iterator[_Copy]:
    """Every recipient once. Who is seen together stays together, up to the vendor's list limits."""
    visible = (*seen.to, *seen.cc)
    hidden = list(seen.hidden)
    for start in range(0, len(visible), COPIES + 1):
        group = visible[start : start + COPIES + 1]
        yield _Copy(group[0], group[1:], tuple(hidden[:COPIES]))
        del hidden[:COPIES]
    for address in hidden:
        yield _Copy(Mailbox(address))


def _visible_losses(seen: Visibility, copies: Sequence[_Copy]) -> Iterator[Loss]:
    visible = (*seen.to, *seen.cc)
    if seen.unreached or (visible and len(copies) > 1):
        yield Loss.VISIBLE_RECIPIENTS
    alone = len(copies) - bool(visible)  # hidden recipients with a copy of their own, addressed to them
    if alone > 0 or len(seen.to) > 1 or (seen.cc and not seen.to):
        yield Loss.RECIPIENT_ROLE


def _entry(copy: _Copy) -> dict[str, Any]:
    entry: dict[str, Any] = person(copy.to)
    if copy.cc:
        entry["cc"] = [person(mailbox) for mailbox in copy.cc]
    if copy.bcc:
        entry["bcc"] = [person(Mailbox(address)) for address in copy.bcc]
    return entry


PROVIDER = SendPost
