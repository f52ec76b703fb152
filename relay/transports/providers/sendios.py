"""Sendios: `POST /push/system` or `/push/trigger`, one recipient a call, into a template that passes everything on.

In: a message and its envelope. Out: calls; an outcome for each recipient. Pure. The vendor sends from its project's own
sender with its own headers, so this is only for who says so (`pass_through`), and only for mail of `senders`.
Sources: seeds/sendios.txt; the vendor's PHP SDK.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator

from relay.mail.address import ascii_form
from relay.mail.outcome import Deferred, Failed, InDoubt, Outcome, Sent
from relay.mail.parts import Loss, Parts
from relay.mail.reply import printable, reply
from relay.ports import DeliveryRequest
from relay.transports.providers.answers import json_of, outcome_for_status, words_of
from relay.transports.providers.base import (
    Capabilities,
    HttpRequest,
    HttpResponse,
    Provider,
    ProviderOptions,
    Refusal,
    Rendering,
)
from relay.transports.providers.structured import Copy, Says, as_json, refused_author, take

TITLE: Final = "Sendios"
_SAYS: Final = Says(1, attachments=False, headers=False)
_ACCEPTED: Final = (Loss.CUSTOM_HEADER, Loss.FORMAT_FLOWED, Loss.RECIPIENT_ROLE, Loss.VISIBLE_RECIPIENTS)


class SendiosOptions(ProviderOptions):
    """`[provider.NAME.options]` of kind sendios."""

    accept: tuple[Loss, ...] = Field(_ACCEPTED, description="What a message may lose here without being refused")
    pass_through: bool = Field(False, description="true: the template named here shows what it is given")
    senders: tuple[str, ...] = Field((), description="From addresses this project sends for")
    client_id: int = Field(0, ge=0, description="Client id; the key file holds the key")
    key_is_sdk: bool = Field(False, description="true: the key file holds the SDK key, which travels as its SHA-1")
    project_id: int = Field(0, ge=0, description="Project")
    type_id: int = Field(0, ge=0, description="Type of the transactional mail")
    category: Literal["system", "trigger"] = Field("system", description="system: nobody can unsubscribe from it")
    template_id: int = Field(0, ge=0, description="Template; 0: the type's own")
    subject_id: int = Field(0, ge=0, description="Subject; 0: the type's own")

    @model_validator(mode="after")
    def _all_of_it(self) -> Self:
        if not self.pass_through:
            raise ValueError(
                "Sendios shows a template: make it as docs/providers/sendios.md says, and set pass_through"
            )
        missing = [name for name in ("senders", "client_id", "project_id", "type_id") if not getattr(self, name)]
        if missing:
            raise ValueError(f"set {', '.join(missing)} too")
        return self


class Sendios(Provider):
    """API v1."""

    kind: ClassVar[str] = "sendios"
    title: ClassVar[str] = TITLE
    default_base_url: ClassVar[str] = "https://api.sendios.io/v1"
    Options: ClassVar[type[ProviderOptions]] = SendiosOptions
    example: ClassVar[Mapping[str, Any]] = {
        "pass_through": True,
        "senders": ["app@example.org"],
        "client_id": 7,
        "project_id": 42,
        "type_id": 3,
    }
    capabilities: ClassVar[Capabilities] = Capabilities(
        raw_mime=False,
        separate_envelope=False,
        envelope_sender=False,
        attachment_octets=0,
        message_octets=10_485_760,
        recipients_per_call=1,
        per_recipient_result=True,
        custom_headers=False,
        tags=False,
        inline_images=False,
        idempotency=False,
        tracking="always",
        smtputf8=False,
        sender="verified address",
        dkim="replaced",
    )

    def __init__(self, options: ProviderOptions, base_url: str) -> None:
        super().__init__(options, base_url)
        assert isinstance(options, SendiosOptions)
        self._options = options

    def render(self, request: DeliveryRequest, content: bytes) -> Rendering | Refusal:
        taken = take(TITLE, self.capabilities, _SAYS, self._options, request, content)
        if isinstance(taken, Refusal):
            return taken
        refusal = refused_author(TITLE, taken.parts.from_[0].address, self._options.senders)
        if refusal is not None:
            return refusal
        calls = tuple(self._call(taken.parts, copy, request) for copy in taken.copies)
        return Rendering(calls, taken.losses)

    def _call(self, parts: Parts, copy: Copy, request: DeliveryRequest) -> HttpRequest:
        options = self._options
        body: dict[str, Any] = {
            "type_id": options.type_id,
            "project_id": options.project_id,
            "email": ascii_form(copy.recipients[0]),
            "data": {
                "relay_subject": parts.subject or "",
                "relay_html": parts.html or "",
                "relay_text": parts.text or "",
                "user": {"name": copy.to[0].name},
                "meta": {"relay_id": request.message_id},
            },
        }
        settings = {"template_id": options.template_id, "subject_id": options.subject_id}
        if any(settings.values()):
            body["transactional_mail_settings"] = {name: value for name, value in settings.items() if value}
        return HttpRequest(
            method="POST",
            url=f"{self.base_url}/push/{options.category}",
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            body=as_json(body),
            copies=(copy.recipients,),
        )

    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        if self._options.key_is_sdk:
            api_key = hashlib.sha1(api_key.encode("ascii"), usedforsecurity=False).hexdigest()
        pair = f"{self._options.client_id}:{api_key}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode("ascii")).decode("ascii")}

    def read(self, response: HttpResponse, request: HttpRequest) -> Mapping[str, Outcome]:
        return dict.fromkeys(request.recipients, _outcome(response))


def _outcome(response: HttpResponse) -> Outcome:
    """A 200 may hold an error."""
    answer = json_of(response)
    data = answer.get("data") if isinstance(answer, dict) else None
    found = data if isinstance(data, dict) else {}
    said = words_of(found.get("error"))
    if response.status != 200:
        return outcome_for_status(TITLE, response, said)
    if said:
        return Failed(reply(550, "5.6.0", printable(f"Sendios: {said}")), elsewhere=True)
    if found.get("queued") is True:
        return Sent(reply(250, "2.0.0", "Sendios: queued"))
    if found.get("queued") is False:
        return Deferred(reply(451, "4.3.0", "Sendios did not queue the message and does not say why"))
    return InDoubt(reply(451, "4.4.2", "Sendios answered 200 with a body that says nothing"))


PROVIDER = Sendios
