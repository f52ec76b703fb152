"""An HTTP API that its operator describes in the configuration: kind "http".

In: a message and its envelope; the operator's template. Out: calls in which every recipient stands once, and nobody
else; an outcome for each. Pure. The template decides what can be said; what it cannot say is a loss, refused unless
accepted, as with every other provider. Source: docs/providers/http.md.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from relay.mail.mime import Mailbox
from relay.mail.outcome import Outcome
from relay.mail.parts import Loss, Parts, take_apart
from relay.mail.reply import reply
from relay.ports import DeliveryRequest
from relay.transports.providers import generic_callbacks
from relay.transports.providers.base import (
    Callback,
    CallbackError,
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
    refusal_for,
)
from relay.transports.providers.generic_answer import TITLE, Words, outcome_of
from relay.transports.providers.generic_body import body_of, url_with
from relay.transports.providers.generic_options import HttpOptions, Plan, plan_of
from relay.transports.providers.generic_question import mark_of, question_for, read_found
from relay.transports.providers.raw import groups, refused_raw, without_fields
from relay.transports.providers.structured import (
    Copy,
    Says,
    content_losses,
    copies_of,
    custom_headers,
    recipient_losses,
    refused,
    refused_author,
)
from relay.transports.providers.template import ABSENT, written
from relay.transports.providers.template_values import Mail, values_for, values_of
from relay.transports.providers.visibility import Visibility, visibility

_TEMPLATE: Final = """{
  "from": "{from}", "to": "{to}", "cc": "{cc}", "bcc": "{bcc}", "reply_to": "{reply_to}", "subject": "{subject}",
  "text": "{text}", "html": "{html}", "headers": "{headers}", "attachments": "{attachments}", "tags": "{tags}"
}"""
_ATTACHMENT: Final = '{"name": "{filename}", "content": "{content}", "type": "{type}", "content_id": "{content_id}"}'


class Http(Provider):
    """One API, described by `options`; `capabilities` are those of the example."""

    kind: ClassVar[str] = "http"
    title: ClassVar[str] = TITLE
    default_base_url: ClassVar[str] = "https://api.example.com/v1/send"
    Options: ClassVar[type[ProviderOptions]] = HttpOptions
    example: ClassVar[Mapping[str, Any]] = {
        "url": "https://api.example.com/v1/send",
        "template": _TEMPLATE,
        "attachment": _ATTACHMENT,
        "recipients_per_call": 50,
        "id": "/id",
    }
    capabilities: ClassVar[Capabilities] = Capabilities(
        raw_mime=False,
        separate_envelope=False,
        envelope_sender=False,
        attachment_octets=0,
        message_octets=0,
        recipients_per_call=50,
        per_recipient_result=False,
        custom_headers=True,
        tags=True,
        inline_images=True,
        idempotency=False,
        tracking="none",
        smtputf8=False,
        sender="any",
        dkim="replaced",
        asked="option",
    )

    @classmethod
    def url_for(cls, options: ProviderOptions) -> str:
        assert isinstance(options, HttpOptions)
        return options.url

    def __init__(self, options: ProviderOptions, base_url: str) -> None:
        super().__init__(options, base_url)
        assert isinstance(options, HttpOptions)
        self._options = options
        self._plan = plan_of(options)
        self._can = declared(options, self._plan)
        self._says = Says(
            options.recipients_per_call,
            marks=options.expands,
            amp=self._plan.says("amp"),
            several_reply_to=self._plan.says("reply_to.list"),
            typed=self._plan.typed,
            attachments=self._plan.attaches,
            headers=self._plan.says("headers"),
        )
        self._words = Words(
            options.id, options.id_header, options.error, options.code, options.codes, dict(options.statuses)
        )

    def render(self, request: DeliveryRequest, content: bytes) -> Rendering | Refusal:
        if self._plan.raw:
            return self._render_raw(request, content)
        parts = take_apart(content)
        recipients = [recipient.address for recipient in request.recipients]
        refusal = refused(TITLE, recipients, parts, self._can, len(content)) or self._refused(parts)
        if refusal is not None:
            return refusal
        seen = visibility(recipients, parts)
        copies = self._copies(seen)
        headers, lost = custom_headers(parts, self._options.withhold_headers)
        losses = frozenset(
            {
                *content_losses(parts, self._can, self._says),
                *self._more_losses(parts, bool(headers)),
                *recipient_losses(seen, copies),
                *([Loss.RECIPIENT_ROLE] if seen.cc and not self._plan.says("cc", "cc.emails") else ()),
                *(lost if self._says.headers and self._plan.shapes.header is None else ()),
            }
        )
        refusal = refusal_for(TITLE, losses, self._options.accept)
        if refusal is not None:
            return refusal
        given = tuple(headers) if self._plan.shapes.header is None else self._every_field(parts)
        apart = self._plan.says("inline", "inline.files")
        mail = Mail(request, content, parts, given, self._plan.shapes, apart)
        return self._calls(mail, copies, losses)

    def _render_raw(self, request: DeliveryRequest, content: bytes) -> Rendering | Refusal:
        content = without_fields(content, {name.lower() for name in self._options.withhold_headers})
        refusal = refused_raw(TITLE, request, self._can, len(content))
        if refusal is not None:
            return refusal
        most = self._options.recipients_per_call
        copies = tuple(Copy(tuple(Mailbox(one) for one in group)) for group in groups(request, most))
        return self._calls(Mail(request, content, None, (), self._plan.shapes, False), copies, frozenset())

    # --- what it takes -------------------------------------------------------------------------------------

    def _refused(self, parts: Parts) -> Refusal | None:
        refusal = refused_author(TITLE, parts.from_[0].address, self._options.senders)
        if refusal is not None:
            return refusal
        if parts.attachments and not self._plan.attaches:
            return Refusal(reply(550, "5.6.1", f"{TITLE} takes no attachments"))
        bodies = {"text": parts.text, "html": parts.html}
        told = [name for name, body in bodies.items() if body]
        if told and not self._plan.says(*told):
            return Refusal(reply(550, "5.6.1", f"{TITLE} takes no message that is {told[0]} alone"))
        return None

    def _more_losses(self, parts: Parts, headers: bool) -> set[Loss]:
        says = self._plan.says
        lost = {
            Loss.ONE_BODY: bool(parts.text and parts.html) and not (says("text") and says("html")),
            Loss.CUSTOM_HEADER: (headers and not says("headers"))
            or (bool(parts.reply_to) and not says("reply_to", "reply_to.email", "reply_to.mailbox", "reply_to.list")),
        }
        return {loss for loss, found in lost.items() if found}

    def _every_field(self, parts: Parts) -> tuple[tuple[str, str], ...]:
        """A list can hold a name twice."""
        skipped = {name.lower() for name in self._options.withhold_headers}
        return tuple((name, value) for name, value in parts.headers if name.lower() not in skipped)

    def _copies(self, seen: Visibility) -> tuple[Copy, ...]:
        """Every recipient once; who cannot be hidden in a copy has one alone."""
        says, most = self._plan.says, self._options.recipients_per_call
        if not says("cc", "cc.emails"):
            seen = Visibility((*seen.to, *seen.cc), (), seen.hidden, seen.unreached)
        if says("bcc", "bcc.emails"):
            return copies_of(seen, most)
        shown = copies_of(Visibility(seen.to, seen.cc, (), seen.unreached), most)
        return (*shown, *(Copy((Mailbox(address),)) for address in seen.hidden))

    # --- what it says --------------------------------------------------------------------------------------

    def _calls(self, mail: Mail, copies: tuple[Copy, ...], losses: frozenset[Loss]) -> Rendering | Refusal:
        if self._plan.joined and any("," in address for copy in copies for address in copy.recipients):
            return Refusal(reply(550, "5.6.0", f"{TITLE} is given a list of addresses, and one has a comma in it"))
        common = values_of(mail, self._plan.used)
        calls = []
        for copy in copies:
            values = values_for(mail, copy, self._plan.used, common)
            headers = {name: _one_line(text.fill(values)) for name, text in self._plan.headers.items()}
            if not all(value.isascii() and value.isprintable() for value in headers.values()):
                return Refusal(reply(550, "5.6.0", f"{TITLE} takes header fields in ASCII, and this message has more"))
            content_type, body = body_of(self._options.body, self._plan.body, values, mail.content)
            named = {name.lower() for name in headers}
            calls.append(
                HttpRequest(
                    method=self._options.method,
                    url=url_with(self.base_url, {name: text.fill(values) for name, text in self._plan.query.items()}),
                    headers={**({} if "content-type" in named else {"Content-Type": content_type}), **headers},
                    body=body,
                    copies=(copy.recipients,),
                    idempotent=self._options.idempotent,
                )
            )
        return Rendering(tuple(calls), losses)

    @property
    def repeats(self) -> bool:
        return self._options.idempotent

    @property
    def can_be_asked(self) -> bool:
        return self._options.question is not None

    def question(self, lost: Lost, page: str) -> HttpRequest | None:
        asked = self._options.question
        mark = mark_of(asked, lost, self._options.withhold_headers) if asked is not None else ""
        return question_for(asked, mark) if asked is not None and mark else None

    def found(self, response: HttpResponse, lost: Lost, page: str) -> Found:
        asked = self._options.question
        if asked is None:
            raise CallbackError(f"{TITLE}: options.question is missing")
        return read_found(response, asked, mark_of(asked, lost, self._options.withhold_headers))

    @property
    def calls_back(self) -> bool:
        return self._options.callback is not None

    callbacks_described = calls_back

    def demand_secret(self, secret: str) -> None:
        if self._options.callback is not None:
            generic_callbacks.demand_secret(self._options.callback, secret)

    def events(self, callback: Callback) -> list[ProviderEvent]:
        if self._options.callback is None:
            raise CallbackError(f"{TITLE}: options.callback is missing")
        return generic_callbacks.read_events(callback, self._options.callback)

    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        user, _, password = api_key.partition(":")
        basic = base64.b64encode(api_key.encode("ascii")).decode("ascii")
        values = {"key": api_key, "key.basic": basic, "key.user": user, "key.password": password}
        return {name: written(text.fill(values)) for name, text in self._plan.secret.items()}

    def read(self, response: HttpResponse, request: HttpRequest) -> Mapping[str, Outcome]:
        return dict.fromkeys(request.recipients, outcome_of(response, self._words))


def declared(options: HttpOptions, plan: Plan) -> Capabilities:
    """What the operator's words amount to."""
    return Capabilities(
        raw_mime=plan.raw,
        separate_envelope=plan.raw,
        envelope_sender=plan.says("sender"),
        attachment_octets=options.attachment_octets,
        message_octets=options.message_octets,
        recipients_per_call=options.recipients_per_call,
        per_recipient_result=options.recipients_per_call == 1,
        custom_headers=plan.raw or plan.says("headers"),
        tags=plan.says("tag", "tags"),
        inline_images=plan.raw or plan.inline,
        idempotency=options.idempotent,
        tracking="option" if plan.says("track_opens", "track_clicks") else "none",
        smtputf8=False,
        sender="verified address" if options.senders else "any",
        dkim="kept" if plan.raw else "replaced",
        asked="yes" if options.question is not None else "no",
    )


def _one_line(value: Any) -> str:
    """A header field's value; a list with commas."""
    return "" if value is ABSENT else written(value)


PROVIDER = Http
