"""Example: an HTTP API that takes the message as it is, `POST /messages` with JSON.

In: a message and its envelope. Out: calls of 100 recipients; an outcome for each recipient; events of callbacks. Pure:
no connection, no clock, no file. Source: name the vendor's reference here.

A vendor that wants subject, text and attachments apart takes `relay.mail.parts.take_apart` and
`relay.transports.providers.structured`; resend.py there is the shortest of that sort.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from pydantic import Field

from relay.mail.address import ascii_form
from relay.mail.event import EventKind
from relay.mail.outcome import InDoubt, Outcome, Sent
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
)
from relay.transports.providers.callbacks import IGNORED, Words, event, json_objects, listed
from relay.transports.providers.raw import groups, refused_raw, without_fields
from relay.transports.providers.structured import as_json

TITLE: Final = "Example"
RECIPIENTS: Final = 100

# Every word its callbacks know. One that stands not here is logged, and changes nothing.
_WORDS: Final[Words] = {
    "accepted": IGNORED,
    "delivered": EventKind.DELIVERED,
    "deferred": EventKind.DELAYED,
    "bounced": EventKind.BOUNCED,
    "complained": EventKind.COMPLAINED,
}


class ExampleOptions(ProviderOptions):
    """`[provider.NAME.options]` of kind example. Unknown keys are refused with those that are known."""

    stream: str = Field("", description="Stream; empty: the account's default", pattern=r"^[a-z0-9-]{0,40}$")


class Example(Provider):
    """One account. The instance holds settings alone and serves all deliveries."""

    kind: ClassVar[str] = "example"
    title: ClassVar[str] = TITLE
    default_base_url: ClassVar[str] = "https://api.example.com/v1"
    Options: ClassVar[type[ProviderOptions]] = ExampleOptions
    capabilities: ClassVar[Capabilities] = Capabilities(
        raw_mime=True,
        separate_envelope=True,
        envelope_sender=True,
        attachment_octets=0,
        message_octets=20_971_520,
        recipients_per_call=RECIPIENTS,
        per_recipient_result=False,
        custom_headers=True,
        tags=True,
        inline_images=True,
        idempotency=True,
        tracking="none",
        smtputf8=False,
        sender="verified domain",
        dkim="kept",
    )

    def __init__(self, options: ProviderOptions, base_url: str) -> None:
        super().__init__(options, base_url)
        assert isinstance(options, ExampleOptions)
        self._options = options

    def render(self, request: DeliveryRequest, content: bytes) -> Rendering | Refusal:
        """Everybody of the envelope once and nobody else; what it cannot carry is a Refusal, never left out."""
        content = without_fields(content, {name.lower() for name in self._options.withhold_headers})
        refusal = refused_raw(TITLE, request, self.capabilities, len(content))
        if refusal is not None:
            return refusal
        return Rendering(tuple(self._call(request, group, content) for group in groups(request, RECIPIENTS)))

    def _call(self, request: DeliveryRequest, recipients: Sequence[str], content: bytes) -> HttpRequest:
        body = {
            "from": request.reverse_path or "",
            "to": [ascii_form(address) for address in recipients],
            "raw": base64.b64encode(content).decode("ascii"),
            "tags": list(request.directives.tags),
            **({"stream": self._options.stream} if self._options.stream else {}),
        }
        return HttpRequest(
            method="POST",
            url=f"{self.base_url}/messages",
            headers={
                "Content-Type": "application/json",
                "Accept": "application/json",
                # Stable over all attempts; another group of recipients is another call.
                "Idempotency-Key": f"{request.idempotency_key}-{recipients[0].encode().hex()[:40]}",
            },
            body=as_json(body),
            copies=(tuple(recipients),),
            idempotent=True,
        )

    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        """The only place that sees the key."""
        return {"Authorization": f"Bearer {api_key}"}

    def read(self, response: HttpResponse, request: HttpRequest) -> Mapping[str, Outcome]:
        """Nothing is called sent that the answer does not say."""
        return dict.fromkeys(request.recipients, _outcome(response))

    def events(self, callback: Callback) -> list[ProviderEvent]:
        """`key` tells a repetition; `hard` says whether a bounce blames the address, None where the vendor does not."""
        return listed(
            event(
                _WORDS,
                each.get("event"),
                remote_id=each.get("message_id"),
                recipient=each.get("recipient"),
                key=each.get("event_id"),
                at=each.get("time"),
                said=each.get("reason"),
                hard={"hard": True, "soft": False}.get(str(each.get("bounce"))),
            )
            for each in json_objects(callback.body)
        )


def _outcome(response: HttpResponse) -> Outcome:
    answer = json_of(response)
    found = answer if isinstance(answer, dict) else {}
    if 200 <= response.status < 300:
        remote_id = words_of(found.get("id"))
        if remote_id:
            return Sent(reply(250, "2.0.0", f"{TITLE}: accepted"), remote_id)
        return InDoubt(reply(451, "4.4.2", f"{TITLE} answered {response.status} without an id"))
    return outcome_for_status(TITLE, response, words_of(found.get("error")))
