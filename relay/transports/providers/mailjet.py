"""Mailjet: `POST /v3.1/send`, JSON, a result for each copy, some of which may fail alone.

In: a message and its envelope. Out: calls; an outcome for each recipient. Pure. The vendor builds the MIME tree.
Sources: the vendor's Send API v3.1 guide, https://dev.mailjet.com/email/guides/send-api-v31/ (50 messages a call,
errors, reserved headers); field names: its Python SDK 1.9.1 and Node SDK 6.0.11. 50 recipients and 15 MB are not
confirmed.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from pydantic import Field

from relay.mail.outcome import Deferred, Failed, InDoubt, Outcome, Sent
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
from relay.transports.providers.mailjet_events import read_events
from relay.transports.providers.mailjet_question import question_for, read_found
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

RECIPIENTS: Final = 50
MESSAGES: Final = 50
TITLE: Final = "Mailjet"
# The API refuses a message that sets them.
RESERVED: Final = frozenset((
    "date", "delivered-to", "domainkey-status", "list-id", "message-id", "return-path", "sender", "user-agent",
    "x-csa-complaints", "x-feedback-id", "x-mailer",
))  # fmt: skip
_COMMANDS: Final = ("x-mailjet-", "x-mj-")
_ACCEPTED: Final = (
    Loss.ATTACHED_MESSAGE,
    Loss.ATTACHMENT_CHARSET,
    Loss.FORMAT_FLOWED,
    Loss.RECIPIENT_ROLE,
    Loss.RESERVED_HEADER,
    Loss.VISIBLE_RECIPIENTS,
)
_ADDRESS_AT: Final = re.compile(r"(To|Cc|Bcc)\[(\d{1,3})\]")

_SAYS: Final = Says(RECIPIENTS, commands=_COMMANDS, reserved=RESERVED)


class MailjetOptions(ProviderOptions):
    """`[provider.NAME.options]` of kind mailjet."""

    accept: tuple[Loss, ...] = Field(_ACCEPTED, description="What a message may lose here without being refused")
    track_opens: bool = Field(False, description="Let Mailjet add its tracking pixel to the HTML")
    track_clicks: bool = Field(False, description="Let Mailjet rewrite the links of the HTML")


class Mailjet(Provider):
    """Send API v3.1. The API key file holds `KEY:SECRET`."""

    kind: ClassVar[str] = "mailjet"
    title: ClassVar[str] = TITLE
    default_base_url: ClassVar[str] = "https://api.mailjet.com/v3.1"
    Options: ClassVar[type[ProviderOptions]] = MailjetOptions
    capabilities: ClassVar[Capabilities] = Capabilities(
        raw_mime=False,
        separate_envelope=False,
        envelope_sender=False,
        attachment_octets=0,
        message_octets=15_728_640,
        recipients_per_call=MESSAGES * RECIPIENTS,
        per_recipient_result=True,
        custom_headers=True,
        tags=True,
        inline_images=True,
        idempotency=False,
        tracking="option",
        smtputf8=False,
        sender="verified domain",
        dkim="replaced",
        asked="yes",
    )

    def __init__(self, options: ProviderOptions, base_url: str) -> None:
        super().__init__(options, base_url)
        assert isinstance(options, MailjetOptions)
        self._options = options

    def render(self, request: DeliveryRequest, content: bytes) -> Rendering | Refusal:
        taken = take(TITLE, self.capabilities, _SAYS, self._options, request, content)
        if isinstance(taken, Refusal):
            return taken
        message = self._message(taken.parts, taken.headers, request)
        calls = batches(taken.copies, MESSAGES * RECIPIENTS, MESSAGES)
        return Rendering(tuple(self._call(message, batch) for batch in calls), taken.losses)

    def _message(self, parts: Parts, headers: Sequence[tuple[str, str]], request: DeliveryRequest) -> dict[str, Any]:
        options, asked = self._options, request.directives
        opens = options.track_opens if asked.track_opens is None else asked.track_opens
        clicks = options.track_clicks if asked.track_clicks is None else asked.track_clicks
        message: dict[str, Any] = {
            "From": person(parts.from_[0], "Email", "Name"),
            "Subject": parts.subject or "",
            "CustomID": request.message_id,
            "TrackOpens": "enabled" if opens else "disabled",
            "TrackClicks": "enabled" if clicks else "disabled",
        }
        if parts.reply_to:
            message["ReplyTo"] = person(parts.reply_to[0], "Email", "Name")
        bodies = {"TextPart": parts.text, "HTMLPart": parts.html}
        message |= {key: body for key, body in bodies.items() if body}
        if not (parts.text or parts.html):
            message["TextPart"] = "\r\n"  # one of them is demanded
        if headers:
            message["Headers"] = dict(headers)
        campaign = asked.stream or next(iter(asked.tags), "")
        if campaign:
            message["CustomCampaign"] = campaign
        if asked.metadata:
            message["EventPayload"] = json.dumps(dict(asked.metadata), ensure_ascii=False)
        shown = [each for each in named(parts.attachments) if _is_shown(each[0])]
        beside = [each for each in named(parts.attachments) if not _is_shown(each[0])]
        if beside:
            message["Attachments"] = [_attachment(item, name) for item, name in beside]
        if shown:
            message["InlinedAttachments"] = [
                {**_attachment(item, name), "ContentID": item.content_id} for item, name in shown
            ]
        return message

    def _call(self, message: dict[str, Any], copies: Sequence[Copy]) -> HttpRequest:
        return HttpRequest(
            method="POST",
            url=f"{self.base_url}/send",
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            body=as_json({"Messages": [{**message, **_addressed(copy)} for copy in copies]}),
            copies=tuple(copy.recipients for copy in copies),
        )

    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        return {"Authorization": "Basic " + base64.b64encode(api_key.encode("ascii")).decode("ascii")}

    def read(self, response: HttpResponse, request: HttpRequest) -> Mapping[str, Outcome]:
        answer = json_of(response)
        found = answer if isinstance(answer, dict) else {}
        results = found.get("Messages")
        if isinstance(results, list) and len(results) == len(request.copies):
            outcomes: dict[str, Outcome] = {}
            sent = json_of(HttpResponse(200, {}, request.body))["Messages"]
            for copy, message, result in zip(request.copies, sent, results, strict=True):
                outcomes |= _copy_outcomes(copy, message, result if isinstance(result, dict) else {}, response)
            return outcomes
        if 200 <= response.status < 300:
            lost = InDoubt(reply(451, "4.4.2", "Mailjet answered 2xx with a body that is no list of results"))
            return dict.fromkeys(request.recipients, lost)
        words = words_of(found.get("ErrorMessage"))
        return dict.fromkeys(request.recipients, outcome_for_status(TITLE, response, words))

    def events(self, callback: Callback) -> list[ProviderEvent]:
        return read_events(callback)

    def question(self, lost: Lost, page: str) -> HttpRequest:
        """It knows a message by its CustomID."""
        return question_for(self.base_url, lost, page)

    def found(self, response: HttpResponse, lost: Lost, page: str) -> Found:
        return read_found(response, lost, page)


def _copy_outcomes(
    copy: tuple[str, ...], message: dict[str, Any], result: dict[str, Any], response: HttpResponse
) -> dict[str, Outcome]:
    if result.get("Status") == "success":
        return _accepted(copy, result)
    errors = result.get("Errors")
    errors = [each for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
    if not errors:
        lost = InDoubt(reply(451, "4.4.2", "Mailjet's result says neither success nor an error"))
        return dict.fromkeys(copy, lost)
    return _refused(copy, message, errors, response)


def _accepted(copy: tuple[str, ...], result: dict[str, Any]) -> dict[str, Outcome]:
    ids: list[str] = []
    for role in ("To", "Cc", "Bcc"):
        entries = result.get(role)
        ids += [_id(entry) for entry in entries] if isinstance(entries, list) else []
    said = reply(250, "2.0.0", "Mailjet: accepted")
    ids = ids if len(ids) == len(copy) else [*ids[:1], *[""] * len(copy)]
    return {address: Sent(said, remote_id) for address, remote_id in zip(copy, ids, strict=False)}


def _id(entry: object) -> str:
    found = entry.get("MessageID") if isinstance(entry, dict) else None
    return str(found)[:64] if isinstance(found, int) and not isinstance(found, bool) else words_of(found)


def _refused(
    copy: tuple[str, ...], message: dict[str, Any], errors: list[dict[str, Any]], response: HttpResponse
) -> dict[str, Outcome]:
    """An error that names an address is about that one alone: the next attempt leaves it out."""
    error = errors[0]
    code, words = words_of(error.get("ErrorCode")), words_of(error.get("ErrorMessage"))
    text = printable(f"Mailjet error {code}: {words or 'no reason given'}")
    blamed = {address for each in errors for address in _blamed(each, copy, message)}
    if blamed:
        rest = Deferred(reply(451, "4.3.0", "Mailjet refused the copy because of another recipient"))
        return {one: Failed(reply(550, "5.1.3", text)) if one in blamed else rest for one in copy}
    status = error.get("StatusCode")
    if code == "send-0008":
        # The sender address, and not the account.
        return dict.fromkeys(copy, Failed(reply(550, "5.7.1", text), elsewhere=True))
    known = status if isinstance(status, int) and not isinstance(status, bool) else response.status
    return dict.fromkeys(copy, outcome_for_status(TITLE, response, f"{code}: {words}", known))


def _blamed(error: dict[str, Any], copy: tuple[str, ...], message: dict[str, Any]) -> list[str]:
    related = error.get("ErrorRelatedTo")
    found = []
    for place in related if isinstance(related, list) else ():
        match = _ADDRESS_AT.match(str(place))
        if match is None:
            continue
        before = sum(len(message.get(role, ())) for role in ("To", "Cc", "Bcc")[: ("To", "Cc", "Bcc").index(match[1])])
        number = before + int(match[2])
        found += [copy[number]] if number < len(copy) else []
    return found


def _is_shown(item: Attachment) -> bool:
    return item.inline and bool(item.content_id)


def _addressed(copy: Copy) -> dict[str, list[dict[str, str]]]:
    found = {"To": [person(mailbox, "Email", "Name") for mailbox in copy.to]}
    if copy.cc:
        found["Cc"] = [person(mailbox, "Email", "Name") for mailbox in copy.cc]
    if copy.bcc:
        found["Bcc"] = [{"Email": address} for address in copy.bcc]
    return found


def _attachment(item: Attachment, name: str) -> dict[str, str]:
    return {"ContentType": item.content_type, "Filename": name, "Base64Content": encoded(item)}


PROVIDER = Mailjet
