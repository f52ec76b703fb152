"""SparkPost: `POST /api/v1/transmissions` with the message as text in JSON, recipients as its envelope.

In: a message and its envelope. Out: calls of 1,000 recipients; an outcome for each recipient. Pure. Our DKIM signature
survives. Sources: the vendor's API reference, https://developers.sparkpost.com/api/transmissions (420, options), and
its Python SDK 1.3.10 (perform_substitutions). 1,000 recipients are the relay's choice: the vendor advises 2,000 to
10,000. The 20 MB are not confirmed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from relay.mail.address import ascii_form
from relay.mail.directives import MOST_METADATA
from relay.mail.outcome import Deferred, Failed, Fault, InDoubt, Outcome, Sent
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
from relay.transports.providers.questions import MARK, marked
from relay.transports.providers.raw import groups, refused_raw, without_fields
from relay.transports.providers.sparkpost_events import question_for, read_events, read_page
from relay.transports.providers.sparkpost_question import question_for as lost_question
from relay.transports.providers.sparkpost_question import read_found
from relay.transports.providers.structured import as_json

RECIPIENTS: Final = 1000
METADATA_OCTETS: Final = 1000
TITLE: Final = "SparkPost"
_REGIONS: Final = {"us": "https://api.sparkpost.com/api/v1", "eu": "https://api.eu.sparkpost.com/api/v1"}
# The vendor's own status for "your sending limit is used up".
_SENDING_LIMIT: Final = 420
# Fields of its SMTP door, and what it writes itself.
_COMMANDS: Final = ("x-msys-",)


class SparkPostOptions(ProviderOptions):
    """`[provider.NAME.options]` of kind sparkpost."""

    region: Literal["us", "eu"] = Field("us", description="Where the account lives")
    return_path: str = Field("", description="Address bounces go to, of a bounce domain verified there; empty: default")
    track_opens: bool = Field(False, description="Let SparkPost add its tracking pixel to the HTML")
    track_clicks: bool = Field(False, description="Let SparkPost rewrite the links of the HTML")
    transactional: bool = Field(True, description="false: unsubscribed recipients are left out")


class SparkPost(Provider):
    """Transmissions API."""

    kind: ClassVar[str] = "sparkpost"
    title: ClassVar[str] = TITLE
    default_base_url: ClassVar[str] = _REGIONS["us"]
    Options: ClassVar[type[ProviderOptions]] = SparkPostOptions
    capabilities: ClassVar[Capabilities] = Capabilities(
        raw_mime=True,
        separate_envelope=True,
        envelope_sender=False,
        attachment_octets=0,
        message_octets=20_971_520,
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
        assert isinstance(options, SparkPostOptions)
        return _REGIONS[options.region]

    def __init__(self, options: ProviderOptions, base_url: str) -> None:
        super().__init__(options, base_url)
        assert isinstance(options, SparkPostOptions)
        self._options = options

    def render(self, request: DeliveryRequest, content: bytes) -> Rendering | Refusal:
        content = without_fields(content, {name.lower() for name in self._options.withhold_headers}, _COMMANDS)
        refusal = refused_raw(TITLE, request, self.capabilities, len(content))
        if refusal:
            return refusal
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            return Refusal(reply(550, "5.6.3", "SparkPost takes the message as text, and this one holds other octets"))
        message = self._message(text, request)
        return Rendering(tuple(self._call(message, group) for group in groups(request, RECIPIENTS)))

    def _message(self, text: str, request: DeliveryRequest) -> dict[str, Any]:
        options, asked = self._options, request.directives
        message: dict[str, Any] = {
            "content": {"email_rfc822": text},
            "options": {
                "open_tracking": options.track_opens if asked.track_opens is None else asked.track_opens,
                "click_tracking": options.track_clicks if asked.track_clicks is None else asked.track_clicks,
                "transactional": options.transactional,
                # What stands between {{ and }} is the author's, and stays.
                "perform_substitutions": False,
            },
        }
        if options.return_path:
            message["return_path"] = options.return_path
        campaign = asked.stream or next(iter(asked.tags), "")
        if campaign:
            message["campaign_id"] = campaign[:64]
        message["metadata"] = _metadata(request)
        if asked.pool:
            message["options"]["ip_pool"] = asked.pool
        return message

    def _call(self, message: dict[str, Any], recipients: Sequence[str]) -> HttpRequest:
        body = {"recipients": [{"address": {"email": ascii_form(address)}} for address in recipients], **message}
        return HttpRequest(
            method="POST",
            url=f"{self.base_url}/transmissions",
            headers={"Content-Type": "application/json", "Accept": "application/json"},
            body=as_json(body),
            copies=(tuple(recipients),),
        )

    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        return {"Authorization": api_key}

    def read(self, response: HttpResponse, request: HttpRequest) -> Mapping[str, Outcome]:
        return dict.fromkeys(request.recipients, _outcome(response, len(request.recipients)))

    def events(self, callback: Callback) -> list[ProviderEvent]:
        return read_events(callback)

    def poll(self, cursor: str, now: float) -> HttpRequest:
        return question_for(f"{self.base_url}/events/message", cursor, now)

    def page(self, response: HttpResponse, cursor: str, now: float) -> Page:
        return read_page(response, cursor, now)

    def question(self, lost: Lost, page: str) -> HttpRequest | None:
        """It lists events by recipient, and each with the metadata, where there was room for ours."""
        if _metadata(lost.request).get(MARK) != lost.request.message_id:
            return None
        return lost_question(f"{self.base_url}/events/message", lost, page)

    def found(self, response: HttpResponse, lost: Lost, page: str) -> Found:
        return read_found(response, lost, page)


def _metadata(request: DeliveryRequest) -> dict[str, str]:
    """The author's, and our id of the message where both are short enough together."""
    given = dict(request.directives.metadata)
    found = marked(given, request.message_id, MOST_METADATA)
    return found if len(as_json(found)) <= METADATA_OCTETS else given


def _outcome(response: HttpResponse, recipients: int) -> Outcome:
    answer = json_of(response)
    found = answer if isinstance(answer, dict) else {}
    if response.status == 200:
        return _accepted(found.get("results"), recipients)
    errors = found.get("errors")
    errors = [each for each in errors[:5] if isinstance(each, dict)] if isinstance(errors, list) else []
    words = "; ".join(
        word for each in errors for key in ("message", "description") if (word := words_of(each.get(key)))
    )
    text = printable(f"SparkPost answered HTTP {response.status}: {words or 'no reason given'}")
    if response.status == _SENDING_LIMIT:
        return Deferred(reply(451, "4.4.5", text), Fault.HOST, response.retry_after)
    if response.status == 400 and any(str(each.get("code")) == "7001" for each in errors):
        # No sending domain of this From.
        return Failed(reply(550, "5.7.1", text), elsewhere=True)
    return outcome_for_status(TITLE, response, words)


def _accepted(results: object, recipients: int) -> Outcome:
    """Who of several was rejected is not said."""
    found = results if isinstance(results, dict) else {}
    remote_id, rejected = words_of(found.get("id")), found.get("total_rejected_recipients")
    if not remote_id or not isinstance(rejected, int):
        return InDoubt(reply(451, "4.4.2", "SparkPost answered 200 without an id"))
    if rejected == 0:
        return Sent(reply(250, "2.0.0", "SparkPost: accepted"), remote_id)
    if rejected >= recipients:
        return Failed(reply(550, "5.1.1", "SparkPost rejected the recipient"), elsewhere=True)
    return InDoubt(reply(451, "4.4.2", f"SparkPost rejected {rejected} of {recipients} recipients, and not whom"))


PROVIDER = SparkPost
