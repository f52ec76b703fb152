"""SendX: `POST /send/email`, JSON, answered in three generations.

In: a message and its envelope. Out: calls; an outcome for each recipient. Pure. HTML is demanded, so a text is wrapped;
there are no attachments. Sources: seeds/sendx.txt; the vendor's Python SDK 2.0.0 and API pages.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from pydantic import Field

from relay.mail.address import ascii_form, comparable
from relay.mail.outcome import Deferred, Failed, Fault, InDoubt, Outcome, Sent
from relay.mail.parts import Loss, Parts
from relay.mail.reply import printable, reply
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
from relay.transports.providers.sendx_events import read_events
from relay.transports.providers.structured import Copy, Says, as_json, batches, person, take

TITLE: Final = "SendX"
RECIPIENTS: Final = 50
ENTRIES: Final = 50
_COMMANDS: Final = ("x-sendpost-", "x-sp-")
_SAYS: Final = Says(RECIPIENTS, commands=_COMMANDS, marks=("{{",), attachments=False, one_to=True, nameless="beside")
_ACCEPTED: Final = (Loss.FORMAT_FLOWED, Loss.RECIPIENT_NAME, Loss.RECIPIENT_ROLE, Loss.VISIBLE_RECIPIENTS)
# errorCode of one result, as its engine has them: (code, status, about the recipient alone).
_RESULTS: Final = {
    1: (550, "5.1.1", True),
    2: (550, "5.7.1", True),
    3: (550, "5.7.1", False),
    5: (550, "5.1.8", False),
}
_RATE_LIMIT: Final = 4


class SendXOptions(ProviderOptions):
    """`[provider.NAME.options]` of kind sendx."""

    accept: tuple[Loss, ...] = Field(_ACCEPTED, description="What a message may lose here without being refused")


class SendX(Provider):
    """Transactional email of the REST API v1."""

    kind: ClassVar[str] = "sendx"
    title: ClassVar[str] = TITLE
    default_base_url: ClassVar[str] = "https://api.sendx.io/api/v1/rest"
    Options: ClassVar[type[ProviderOptions]] = SendXOptions
    capabilities: ClassVar[Capabilities] = Capabilities(
        raw_mime=False,
        separate_envelope=False,
        envelope_sender=False,
        attachment_octets=0,
        message_octets=26_214_400,
        recipients_per_call=ENTRIES * RECIPIENTS,
        per_recipient_result=True,
        custom_headers=True,
        tags=False,
        inline_images=False,
        idempotency=False,
        tracking="always",
        smtputf8=False,
        sender="verified domain",
        dkim="replaced",
    )

    def __init__(self, options: ProviderOptions, base_url: str) -> None:
        super().__init__(options, base_url)
        self._options = options

    def render(self, request: DeliveryRequest, content: bytes) -> Rendering | Refusal:
        taken = take(TITLE, self.capabilities, _SAYS, self._options, request, content)
        if isinstance(taken, Refusal):
            return taken
        message = _message(taken.parts, taken.headers)
        calls = batches(taken.copies, ENTRIES * RECIPIENTS, ENTRIES)
        return Rendering(tuple(self._call(message, batch) for batch in calls), taken.losses)

    def _call(self, message: dict[str, Any], copies: Sequence[Copy]) -> HttpRequest:
        return HttpRequest(
            method="POST",
            url=f"{self.base_url}/send/email",
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            body=as_json({**message, "to": [_entry(copy) for copy in copies]}),
            copies=tuple(copy.recipients for copy in copies),
        )

    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        return {"X-Team-ApiKey": api_key}

    def read(self, response: HttpResponse, request: HttpRequest) -> Mapping[str, Outcome]:
        answer = json_of(response)
        if 200 <= response.status < 300:
            if isinstance(answer, list):
                return _by_result(answer, request, response.retry_after)
            return _by_object(answer if isinstance(answer, dict) else {}, request)
        words = words_of(answer.get("message")) if isinstance(answer, dict) else ""
        # 409 is a duplicate of something else than mail: no reason to ask again.
        status = 422 if response.status == 409 else 0
        return dict.fromkeys(request.recipients, outcome_for_status(TITLE, response, words, status))

    def events(self, callback: Callback) -> list[ProviderEvent]:
        return read_events(callback)


def _message(parts: Parts, headers: Sequence[tuple[str, str]]) -> dict[str, Any]:
    text = parts.text or ""
    message: dict[str, Any] = {
        "from": person(parts.from_[0]),
        "subject": parts.subject or " ",
        "htmlBody": parts.html or f"<pre>{html.escape(text)}</pre>",
    }
    if parts.reply_to:
        message["replyTo"] = person(parts.reply_to[0])
    if text:
        message["textBody"] = text
    if headers:
        message["headers"] = dict(headers)
    return message


def _entry(copy: Copy) -> dict[str, Any]:
    entry: dict[str, Any] = person(copy.to[0])
    beside = [ascii_form(one.address) for one in (*copy.to[1:], *copy.cc)]
    if beside:
        entry["cc"] = beside
    if copy.bcc:
        entry["bcc"] = [ascii_form(address) for address in copy.bcc]
    return entry


def _by_result(answer: list[Any], request: HttpRequest, wait: float | None) -> dict[str, Outcome]:
    """The SDK's generation: a result for each `to` entry."""
    if len(answer) != len(request.copies):
        lost = InDoubt(reply(451, "4.4.2", "SendX's answer does not name every recipient"))
        return dict.fromkeys(request.recipients, lost)
    outcomes: dict[str, Outcome] = {}
    for copy, result in zip(request.copies, answer, strict=True):
        first, rest = _read_result(result if isinstance(result, dict) else {}, wait)
        outcomes |= {**dict.fromkeys(copy, rest), copy[0]: first}
    return outcomes


def _read_result(result: dict[str, Any], wait: float | None) -> tuple[Outcome, Outcome]:
    """For the addressee, and for those of cc and bcc."""
    code, said, remote_id = result.get("errorCode"), words_of(result.get("message")), words_of(result.get("messageId"))
    if code == 0 and not isinstance(code, bool):
        sent = Sent(reply(250, "2.0.0", printable(f"SendX: {said or 'accepted'}")), remote_id)
        return sent, sent
    if not isinstance(code, int) or isinstance(code, bool):
        lost = InDoubt(reply(451, "4.4.2", "SendX's result has no error code"))
        return lost, lost
    text = printable(f"SendX error {code}: {said or 'no reason given'}")
    later: Outcome = Deferred(reply(451, "4.3.0", text))
    if code == _RATE_LIMIT:
        later = Deferred(reply(451, "4.4.5", text), Fault.HOST, wait)
    if code not in _RESULTS:
        return later, later
    number, status, alone = _RESULTS[code]
    failed = Failed(reply(number, status, text), elsewhere=not alone)
    # The entry was refused for its addressee's sake: the next attempt leaves that one out.
    return failed, later if alone else failed


def _by_object(answer: dict[str, Any], request: HttpRequest) -> dict[str, Outcome]:
    """The current generation (no ids), and the oldest (`accepted` and `rejected`)."""
    accepted, rejected = answer.get("accepted"), answer.get("rejected")
    if isinstance(accepted, list) or isinstance(rejected, list):
        lists = (found if isinstance(found, list) else () for found in (accepted, rejected))
        taken, refused = ({comparable(str(one)) for one in found} for found in lists)
        remote_id = words_of(answer.get("messageId"))
        return {address: _named(address, taken, refused, remote_id) for address in request.recipients}
    outcome: Outcome = InDoubt(reply(451, "4.4.2", "SendX answered 2xx without saying what it did"))
    if answer.get("status") == "success":
        outcome = Sent(reply(250, "2.0.0", printable(f"SendX: {words_of(answer.get('message')) or 'accepted'}")))
    return dict.fromkeys(request.recipients, outcome)


def _named(address: str, taken: set[str], refused: set[str], remote_id: str) -> Outcome:
    if comparable(address) in refused:
        return Failed(reply(550, "5.1.1", "SendX rejected the recipient"))
    if comparable(address) in taken:
        return Sent(reply(250, "2.0.0", "SendX: accepted"), remote_id)
    return InDoubt(reply(451, "4.4.2", "SendX's answer does not name this recipient"))


PROVIDER = SendX
