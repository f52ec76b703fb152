"""Postmark: `POST /email` for one copy, `POST /email/batch` for several; a result for each copy.

In: a message and its envelope. Out: calls; an outcome for each recipient. Pure. The vendor builds the MIME tree.
Sources: the vendor's API reference: https://postmarkapp.com/developer/api/email-api (10 MB with attachments, 5 MB each
body, 50 recipients, one tag, 500 messages and 50 MB a batch) and /developer/api/overview#error-codes; 10 fields of
metadata: /support/article/1125-custom-metadata-faq; what it says of
inactive recipients, and `cid:` before a Content-ID, are those of its Node SDK 5.1.0; that a ContentType may have
parameters: https://postmarkapp.com/support/article/1101-how-do-i-send-calendar-invites-with-postmark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from pydantic import Field

from relay.mail.address import comparable
from relay.mail.outcome import Deferred, Failed, Fault, InDoubt, Outcome, Sent
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
    Page,
    Provider,
    ProviderEvent,
    ProviderOptions,
    Refusal,
    Rendering,
)
from relay.transports.providers.postmark_events import question_for, read_events, read_page
from relay.transports.providers.postmark_question import question_for as lost_question
from relay.transports.providers.postmark_question import read_found
from relay.transports.providers.questions import bears_mark, marked
from relay.transports.providers.structured import (
    Copy,
    Says,
    as_json,
    batches,
    encoded,
    named,
    needs_charset,
    take,
    written,
)

RECIPIENTS: Final = 50
METADATA: Final = 10
BATCH: Final = 500
BATCH_OCTETS: Final = 52_428_800
BODY_OCTETS: Final = 5_242_880
TITLE: Final = "Postmark"
_COMMANDS: Final = ("x-pm-",)
_ACCEPTED: Final = (Loss.ATTACHED_MESSAGE, Loss.FORMAT_FLOWED, Loss.RECIPIENT_ROLE, Loss.VISIBLE_RECIPIENTS)

# ErrorCode -> what it means where it is not about the message.
_ROUTE: Final = frozenset((10, 405, 412, 413))
_RETRY: Final = frozenset((100, 406, 429))
_INACTIVE: Final = 406
_SENDER: Final = frozenset((400, 401))

_SAYS: Final = Says(RECIPIENTS, commands=_COMMANDS, several_reply_to=True, charsets=True)


class PostmarkOptions(ProviderOptions):
    """`[provider.NAME.options]` of kind postmark."""

    accept: tuple[Loss, ...] = Field(_ACCEPTED, description="What a message may lose here without being refused")
    track_opens: bool = Field(False, description="Let Postmark add its tracking pixel to the HTML")
    track_clicks: bool = Field(False, description="Let Postmark rewrite the links of the HTML")
    stream: str = Field("", description="Message stream; empty: the server's transactional one")


class Postmark(Provider):
    """Email API."""

    kind: ClassVar[str] = "postmark"
    title: ClassVar[str] = TITLE
    default_base_url: ClassVar[str] = "https://api.postmarkapp.com"
    Options: ClassVar[type[ProviderOptions]] = PostmarkOptions
    capabilities: ClassVar[Capabilities] = Capabilities(
        raw_mime=False,
        separate_envelope=False,
        envelope_sender=False,
        attachment_octets=0,
        message_octets=10_485_760,
        recipients_per_call=BATCH * RECIPIENTS,
        per_recipient_result=True,
        custom_headers=True,
        tags=True,
        inline_images=True,
        idempotency=False,
        tracking="option",
        smtputf8=False,
        sender="verified domain",
        dkim="replaced",
        polling="bounces",
        asked="yes",
    )

    def __init__(self, options: ProviderOptions, base_url: str) -> None:
        super().__init__(options, base_url)
        assert isinstance(options, PostmarkOptions)
        self._options = options

    def render(self, request: DeliveryRequest, content: bytes) -> Rendering | Refusal:
        taken = take(TITLE, self.capabilities, _SAYS, self._options, request, content)
        if isinstance(taken, Refusal):
            return taken
        refusal = _bodies_refused(taken.parts)
        if refusal:
            return refusal
        message = self._message(taken.parts, taken.headers, request)
        most = max(1, BATCH_OCTETS // (len(as_json(message)) + 8192))
        calls = batches(taken.copies, BATCH * RECIPIENTS, min(BATCH, most))
        return Rendering(tuple(self._call(message, batch) for batch in calls), taken.losses)

    def _message(self, parts: Parts, headers: Sequence[tuple[str, str]], request: DeliveryRequest) -> dict[str, Any]:
        options, asked = self._options, request.directives
        clicks = options.track_clicks if asked.track_clicks is None else asked.track_clicks
        message: dict[str, Any] = {
            "From": written(parts.from_[0]),
            "Subject": parts.subject or "",
            "TrackOpens": options.track_opens if asked.track_opens is None else asked.track_opens,
            "TrackLinks": "HtmlAndText" if clicks else "None",
        }
        if parts.reply_to:
            message["ReplyTo"] = ", ".join(written(mailbox) for mailbox in parts.reply_to)
        bodies = {"TextBody": parts.text, "HtmlBody": parts.html}
        message |= {key: body for key, body in bodies.items() if body}
        if not (parts.text or parts.html):
            message["TextBody"] = "\r\n"  # one of them is demanded
        # Without the first the vendor replaces the Message-ID, and replies find nothing to refer to.
        fields = [("X-PM-KeepID", "true"), *headers]
        message["Headers"] = [{"Name": name, "Value": value} for name, value in fields]
        if asked.tags:
            message["Tag"] = asked.tags[0]
        message["Metadata"] = marked(dict(asked.metadata), request.message_id, METADATA)
        if asked.stream or options.stream:
            message["MessageStream"] = asked.stream or options.stream
        if parts.attachments:
            message["Attachments"] = [_attachment(item, name) for item, name in named(parts.attachments)]
        return message

    def _call(self, message: dict[str, Any], copies: Sequence[Copy]) -> HttpRequest:
        bodies = [{**message, **_addressed(copy)} for copy in copies]
        return HttpRequest(
            method="POST",
            url=f"{self.base_url}/email" + ("/batch" if len(copies) > 1 else ""),
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            body=as_json(bodies if len(copies) > 1 else bodies[0]),
            copies=tuple(copy.recipients for copy in copies),
        )

    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        return {"X-Postmark-Server-Token": api_key}

    def read(self, response: HttpResponse, request: HttpRequest) -> Mapping[str, Outcome]:
        answer = json_of(response)
        results = answer if isinstance(answer, list) else [answer]
        if response.status in (200, 422) and len(results) == len(request.copies):
            outcomes: dict[str, Outcome] = {}
            for copy, result in zip(request.copies, results, strict=True):
                outcomes |= _copy_outcomes(copy, result if isinstance(result, dict) else {}, response)
            return outcomes
        if response.status == 200:
            lost = InDoubt(reply(451, "4.4.2", "Postmark answered 200 with a body that is no list of results"))
            return dict.fromkeys(request.recipients, lost)
        words = words_of(answer.get("Message")) if isinstance(answer, dict) else ""
        return dict.fromkeys(request.recipients, outcome_for_status(TITLE, response, words))

    def events(self, callback: Callback) -> list[ProviderEvent]:
        return read_events(callback)

    def poll(self, cursor: str, now: float) -> HttpRequest:
        return question_for(f"{self.base_url}/bounces", self._options.stream, cursor, now)

    def page(self, response: HttpResponse, cursor: str, now: float) -> Page:
        return read_page(response, cursor, now)

    def question(self, lost: Lost, page: str) -> HttpRequest | None:
        """It knows a message by its metadata, where there was room for ours."""
        asked = lost.request.directives
        if not bears_mark(dict(asked.metadata), METADATA):
            return None
        return lost_question(f"{self.base_url}/messages/outbound", asked.stream or self._options.stream, lost, page)

    def found(self, response: HttpResponse, lost: Lost, page: str) -> Found:
        return read_found(response, lost, page)


def _copy_outcomes(copy: tuple[str, ...], result: dict[str, Any], response: HttpResponse) -> dict[str, Outcome]:
    """Inactive recipients are named in the text, also of a copy that went to the others."""
    code, said = result.get("ErrorCode"), words_of(result.get("Message"))
    everybody = _outcome(code, said, words_of(result.get("MessageID")), response)
    outcomes = dict.fromkeys(copy, everybody)
    text = str(result.get("Message", "")).casefold()
    named_in = text.partition("inactive addresses:")[2] or (text.partition("inactive recipients:")[2])
    words = {word.strip("<>,;:.'\"") for word in named_in.split()}
    for address in copy if named_in else ():
        if comparable(address) in words:
            outcomes[address] = Failed(reply(550, "5.7.1", printable(f"Postmark: inactive recipient: {said}")))
    if code == _INACTIVE and len(copy) == 1:
        outcomes[copy[0]] = Failed(reply(550, "5.7.1", printable(f"Postmark error {code}: {said}")))
    return outcomes


def _outcome(code: object, said: str, remote_id: str, response: HttpResponse) -> Outcome:
    if code == 0 and response.status == 200:
        return Sent(reply(250, "2.0.0", printable(f"Postmark: {said or 'accepted'}")), remote_id)
    if not isinstance(code, int) or isinstance(code, bool):
        if response.status == 200:
            return InDoubt(reply(451, "4.4.2", "Postmark's result has no error code"))
        return outcome_for_status(TITLE, response, said)
    text = printable(f"Postmark error {code}: {said or 'no reason given'}")
    if code in _ROUTE:
        return Deferred(reply(451, "4.7.0", text), Fault.ROUTE)
    if code in _RETRY:
        # Maintenance, too much at once, or somebody else of the copy is inactive: the next attempt leaves that one out.
        return Deferred(reply(451, "4.3.0", text))
    return Failed(reply(550, "5.7.1" if code in _SENDER else "5.6.0", text), elsewhere=True)


def _bodies_refused(parts: Parts) -> Refusal | None:
    if any(len((body or "").encode("utf-8")) > BODY_OCTETS for body in (parts.text, parts.html)):
        return Refusal(reply(552, "5.3.4", f"Postmark takes {BODY_OCTETS} octets of text and of HTML at most"))
    return None


def _addressed(copy: Copy) -> dict[str, str]:
    found = {"To": ", ".join(written(mailbox) for mailbox in copy.to)}
    if copy.cc:
        found["Cc"] = ", ".join(written(mailbox) for mailbox in copy.cc)
    if copy.bcc:
        found["Bcc"] = ", ".join(copy.bcc)
    return found


def _attachment(item: Attachment, name: str) -> dict[str, str]:
    kind = f"{item.content_type}; charset={item.charset}" if needs_charset(item) else item.content_type
    found = {"Name": name, "Content": encoded(item), "ContentType": printable(kind)}
    if item.inline and item.content_id:
        found["ContentID"] = f"cid:{item.content_id}"
    return found


PROVIDER = Postmark
