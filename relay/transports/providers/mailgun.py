"""Mailgun: `POST /v3/DOMAIN/messages.mime`, a form with the message's bytes, recipients as its envelope.

In: a message and its envelope. Out: calls of 1,000 recipients; an outcome for each recipient. Pure. Our DKIM signature
survives. Sources: the vendor's manual, https://documentation.mailgun.com/docs/mailgun/user-manual/sending-messages
(25 MB a message; 16 KB of o:, h:, v: and t: together); 1,000 recipients and 10 tags: its Ruby SDK (Mailgun::Chains);
the form: its Python SDK 1.10.0.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Final, Literal

from pydantic import Field

from relay.mail.address import ascii_form, to_ascii_domain
from relay.mail.errors import AddressSyntaxError
from relay.mail.message import addresses_in, first_value, header_block
from relay.mail.outcome import Deferred, Fault, InDoubt, Outcome, Sent
from relay.mail.reply import reply
from relay.ports import DeliveryRequest
from relay.transports.providers.answers import json_of, outcome_for_status, words_of
from relay.transports.providers.base import (
    Callback,
    Capabilities,
    Found,
    HttpRequest,
    HttpResponse,
    Lost,
    Page,
    Provider,
    ProviderEvent,
    ProviderOptions,
    Refusal,
    Rendering,
)
from relay.transports.providers.mailgun_events import question_for, read_events, read_page
from relay.transports.providers.mailgun_question import question_for as lost_question
from relay.transports.providers.mailgun_question import read_found
from relay.transports.providers.questions import message_id_of
from relay.transports.providers.raw import groups, refused_raw, without_fields

RECIPIENTS: Final = 1000
TAGS: Final = 10
TITLE: Final = "Mailgun"
# o:, h:, v: and t: fields together.
OPTION_OCTETS: Final = 16_384
_REGIONS: Final = {"us": "https://api.mailgun.net/v3", "eu": "https://api.eu.mailgun.net/v3"}


class MailgunOptions(ProviderOptions):
    """`[provider.NAME.options]` of kind mailgun."""

    domain: str = Field("", description="Sending domain at Mailgun; empty: the domain of From")
    region: Literal["us", "eu"] = Field("us", description="Where the domain lives")
    track_opens: bool = Field(False, description="Let Mailgun add its tracking pixel to the HTML")
    track_clicks: bool = Field(False, description="Let Mailgun rewrite the links of the HTML")


class Mailgun(Provider):
    """Messages API, MIME form."""

    kind: ClassVar[str] = "mailgun"
    title: ClassVar[str] = TITLE
    default_base_url: ClassVar[str] = _REGIONS["us"]
    Options: ClassVar[type[ProviderOptions]] = MailgunOptions
    signs_callbacks: ClassVar[bool] = True
    capabilities: ClassVar[Capabilities] = Capabilities(
        raw_mime=True,
        separate_envelope=True,
        envelope_sender=False,
        attachment_octets=0,
        message_octets=26_214_400,
        recipients_per_call=RECIPIENTS,
        per_recipient_result=False,
        custom_headers=True,
        tags=True,
        inline_images=True,
        idempotency=False,
        tracking="option",
        smtputf8=False,
        sender="verified domain",
        dkim="kept",
        polling="events",
        asked="yes",
    )

    @classmethod
    def url_for(cls, options: ProviderOptions) -> str:
        assert isinstance(options, MailgunOptions)
        return _REGIONS[options.region]

    def __init__(self, options: ProviderOptions, base_url: str) -> None:
        super().__init__(options, base_url)
        assert isinstance(options, MailgunOptions)
        self._options = options

    def render(self, request: DeliveryRequest, content: bytes) -> Rendering | Refusal:
        content = without_fields(content, {name.lower() for name in self._options.withhold_headers}, ("x-mailgun-",))
        refusal = refused_raw(TITLE, request, self.capabilities, len(content))
        if refusal:
            return refusal
        domain = self._options.domain or _domain_of(request, content)
        if not domain:
            return Refusal(reply(550, "5.6.0", "Mailgun needs a From address, and the message has none"))
        fields = list(self._asked(request))
        if sum(len(name) + len(value.encode("utf-8")) for name, value in fields) > OPTION_OCTETS:
            return Refusal(reply(550, "5.6.0", f"Mailgun takes {OPTION_OCTETS} octets of tags and metadata at most"))
        url = f"{self.base_url}/{domain}/messages.mime"
        return Rendering(tuple(_call(url, fields, group, content) for group in groups(request, RECIPIENTS)))

    def _asked(self, request: DeliveryRequest) -> Iterator[tuple[str, str]]:
        options, asked = self._options, request.directives
        opens = options.track_opens if asked.track_opens is None else asked.track_opens
        clicks = options.track_clicks if asked.track_clicks is None else asked.track_clicks
        yield "o:tracking-opens", "yes" if opens else "no"
        yield "o:tracking-clicks", "yes" if clicks else "no"
        for tag in asked.tags[:TAGS]:
            yield "o:tag", tag
        for name, value in asked.metadata:
            yield f"v:{name}", value

    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        return {"Authorization": "Basic " + base64.b64encode(f"api:{api_key}".encode("ascii")).decode("ascii")}

    def read(self, response: HttpResponse, request: HttpRequest) -> Mapping[str, Outcome]:
        return dict.fromkeys(request.recipients, _outcome(response))

    def events(self, callback: Callback) -> list[ProviderEvent]:
        return read_events(callback)

    def poll_problem(self) -> str:
        return "" if self._options.domain else "events are asked for by domain; set options.domain too"

    def poll(self, cursor: str, now: float) -> HttpRequest:
        return question_for(f"{self.base_url}/{self._options.domain}/events", cursor, now)

    def page(self, response: HttpResponse, cursor: str, now: float) -> Page:
        return read_page(response, cursor, now)

    def question(self, lost: Lost, page: str) -> HttpRequest | None:
        """It knows a message by the Message-ID it came with."""
        message_id = message_id_of(lost.content, self._options.withhold_headers)
        domain = self._options.domain or _domain_of(lost.request, lost.content)
        if not message_id or not domain:
            return None
        return lost_question(f"{self.base_url}/{domain}/events", message_id, lost, page)

    def found(self, response: HttpResponse, lost: Lost, page: str) -> Found:
        return read_found(response, message_id_of(lost.content, self._options.withhold_headers), page)


def _outcome(response: HttpResponse) -> Outcome:
    """One for all: the call is taken whole or not at all."""
    answer = json_of(response)
    if response.status == 200 and isinstance(answer, dict):
        remote_id = words_of(answer.get("id")).strip("<>")
        if remote_id:
            return Sent(reply(250, "2.0.0", "Mailgun: accepted"), remote_id)
        return InDoubt(reply(451, "4.4.2", "Mailgun answered 200 without an id"))
    if response.status == 200:
        # Its web server greets whoever asks for a path it does not know.
        text = "Mailgun answered 200 but no JSON: this is no address of its API; check base_url"
        return Deferred(reply(451, "4.3.5", text), Fault.ROUTE)
    words = words_of(answer.get("message")) if isinstance(answer, dict) else ""
    return outcome_for_status(TITLE, response, words or words_of(response.body[:300].decode("utf-8", "replace")))


def _domain_of(request: DeliveryRequest, content: bytes) -> str:
    """Of the author, whose domain the vendor has to know; else of the envelope's sender."""
    authors = addresses_in(first_value(header_block(content), "from") or "")
    for address in (*authors, request.reverse_path or ""):
        try:
            return to_ascii_domain(address.rpartition("@")[2])
        except AddressSyntaxError:
            continue
    return ""


def _call(url: str, fields: Sequence[tuple[str, str]], recipients: Sequence[str], content: bytes) -> HttpRequest:
    boundary = "relay-" + hashlib.sha256(content).hexdigest()[:32]
    given = [*(("to", ascii_form(address)) for address in recipients), *fields]
    pieces = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n{value}\r\n'.encode()
        for name, value in given
    ]
    head = 'Content-Disposition: form-data; name="message"; filename="message.eml"\r\nContent-Type: message/rfc822'
    pieces += [f"--{boundary}\r\n{head}\r\n\r\n".encode(), content, f"\r\n--{boundary}--\r\n".encode()]
    return HttpRequest(
        method="POST",
        url=url,
        headers={"Content-Type": f"multipart/form-data; boundary={boundary}", "Accept": "application/json"},
        body=b"".join(pieces),
        copies=(tuple(recipients),),
    )


def _quoted(name: str) -> str:
    """A form field's name (WHATWG HTML, multipart/form-data)."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


PROVIDER = Mailgun
