"""Amazon SES v2: `POST /v2/email/outbound-emails` with the message's bytes, signed with SigV4.

In: a message and its envelope. Out: calls of 50 recipients; an outcome for each recipient. Pure. SES replaces
Message-ID and Date and signs itself, so signatures are taken out. Sources: the SES v2 API reference (SendEmail, its
exceptions, MessageTag, local parts) as AWS's Python SDK 1.44.5 carries it; 50 recipients and 40 MB in base64:
https://docs.aws.amazon.com/ses/latest/dg/quotas.html; AWS General Reference, Signature Version 4, and that
SDK's signer.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from pydantic import Field

from relay.mail.address import ascii_form
from relay.mail.outcome import Deferred, Failed, Fault, InDoubt, Outcome, Sent
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
from relay.transports.providers.raw import groups, refused_raw, without_fields
from relay.transports.providers.ses_events import message_of, read_events
from relay.transports.providers.sns import certificate_url, confirmation_url, demand_signature
from relay.transports.providers.structured import as_json

RECIPIENTS: Final = 50
TITLE: Final = "Amazon SES"
_SERVICE: Final = "ses"
_NO_TAG: Final = re.compile(r"[^A-Za-z0-9_-]+")

# Exception -> who has to do something. Sources: SES v2 SendEmail, common errors.
_ROUTE: Final = frozenset((
    "AccountSuspendedException", "SendingPausedException", "UnrecognizedClientException", "InvalidSignatureException",
    "SignatureDoesNotMatch", "IncompleteSignature", "InvalidClientTokenId", "MissingAuthenticationToken",
    "ExpiredTokenException", "OptInRequired", "AccessDeniedException",
    # What does not exist is the configuration set of the options.
    "NotFoundException",
))  # fmt: skip
_SLOW: Final = frozenset(("TooManyRequestsException", "ThrottlingException", "Throttling", "LimitExceededException"))
_REFUSED: Final = frozenset(("MessageRejected", "MailFromDomainNotVerifiedException"))


class SesOptions(ProviderOptions):
    """`[provider.NAME.options]` of kind ses."""

    region: str = Field("us-east-1", description="AWS region", pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$")
    configuration_set: str = Field("", description="Configuration set; empty: the identity's default")
    topics: tuple[str, ...] = Field(
        (), description="ARNs of the SNS topics that may call back, signatures checked; empty: the address alone counts"
    )


class Ses(Provider):
    """SES v2 SendEmail. The API key file holds `ACCESS_KEY_ID:SECRET_ACCESS_KEY`."""

    kind: ClassVar[str] = "ses"
    title: ClassVar[str] = TITLE
    default_base_url: ClassVar[str] = "https://email.us-east-1.amazonaws.com"
    Options: ClassVar[type[ProviderOptions]] = SesOptions
    capabilities: ClassVar[Capabilities] = Capabilities(
        raw_mime=True,
        separate_envelope=True,
        envelope_sender=False,
        attachment_octets=0,
        message_octets=31_457_280,
        recipients_per_call=RECIPIENTS,
        per_recipient_result=False,
        custom_headers=True,
        tags=True,
        inline_images=True,
        idempotency=False,
        tracking="none",
        smtputf8=False,
        sender="verified domain",
        dkim="replaced",
    )

    @classmethod
    def url_for(cls, options: ProviderOptions) -> str:
        assert isinstance(options, SesOptions)
        return f"https://email.{options.region}.amazonaws.com"

    def __init__(self, options: ProviderOptions, base_url: str) -> None:
        super().__init__(options, base_url)
        assert isinstance(options, SesOptions)
        self._options = options

    def render(self, request: DeliveryRequest, content: bytes) -> Rendering | Refusal:
        withheld = {name.lower() for name in self._options.withhold_headers}
        content = without_fields(content, {"dkim-signature", "return-path", *withheld}, ("x-ses-",))
        refusal = refused_raw(TITLE, request, self.capabilities, len(content))
        if refusal:
            return refusal
        message: dict[str, Any] = {"Content": {"Raw": {"Data": base64.b64encode(content).decode("ascii")}}}
        if self._options.configuration_set:
            message["ConfigurationSetName"] = self._options.configuration_set
        asked = request.directives
        tags = [("tag" if n == 1 else f"tag{n}", tag) for n, tag in enumerate(asked.tags, 1)]
        found = {_word(name): _word(value) for name, value in (*tags, *asked.metadata)}
        if found:
            message["EmailTags"] = [{"Name": name, "Value": value} for name, value in found.items()]
        return Rendering(tuple(self._call(message, group) for group in groups(request, RECIPIENTS)))

    def _call(self, message: dict[str, Any], recipients: Sequence[str]) -> HttpRequest:
        # With raw content the destination is the envelope, and what is read stands in the message.
        destination = {"ToAddresses": [ascii_form(address) for address in recipients]}
        return HttpRequest(
            method="POST",
            url=f"{self.base_url}/v2/email/outbound-emails",
            headers={"Content-Type": "application/json"},
            body=as_json({"Destination": destination, **message}),
            copies=(tuple(recipients),),
        )

    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        key_id, _, secret = api_key.partition(":")
        return signature(request, key_id, secret, self._options.region, now)

    def read(self, response: HttpResponse, request: HttpRequest) -> Mapping[str, Outcome]:
        return dict.fromkeys(request.recipients, _outcome(response))

    def document_for(self, callback: Callback) -> str:
        return certificate_url(message_of(callback), self._options.topics) if self._options.topics else ""

    def confirmation(self, callback: Callback) -> str:
        return confirmation_url(message_of(callback)) if self._options.topics else ""

    def events(self, callback: Callback) -> list[ProviderEvent]:
        if self._options.topics:
            demand_signature(message_of(callback), callback.document, callback.now)
        return read_events(callback, confirms=bool(self._options.topics))


def signature(request: HttpRequest, key_id: str, secret: str, region: str, now: float) -> dict[str, str]:
    """The headers of Signature Version 4; path and query as they stand in the URL."""
    url = urlsplit(request.url)
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    payload = hashlib.sha256(request.body).hexdigest()
    signed = {"content-type": request.headers["Content-Type"], "host": url.netloc, "x-amz-date": stamp}
    names = ";".join(signed)
    lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
    canonical = "\n".join((request.method, url.path or "/", url.query, lines, names, payload))
    scope = f"{stamp[:8]}/{region}/{_SERVICE}/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    key = f"AWS4{secret}".encode()
    for word in scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    proof = hmac.digest(key, text.encode(), "sha256").hex()
    credential = f"AWS4-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders={names}, Signature={proof}"
    return {"X-Amz-Date": stamp, "Authorization": credential}


def _outcome(response: HttpResponse) -> Outcome:
    """One for all: the call is taken whole or not at all."""
    answer = json_of(response)
    found = answer if isinstance(answer, dict) else {}
    if response.status == 200:
        remote_id = words_of(found.get("MessageId"))
        if remote_id:
            return Sent(reply(250, "2.0.0", "Amazon SES: accepted"), remote_id)
        return InDoubt(reply(451, "4.4.2", "Amazon SES answered 200 without a message id"))
    kind = words_of(response.headers.get("x-amzn-errortype")) or words_of(found.get("__type"))
    kind = kind.partition(":")[0].rpartition("#")[2]
    words = words_of(found.get("message")) or words_of(found.get("Message"))
    text = printable(f"Amazon SES: {kind or response.status}: {words or 'no reason given'}")
    if kind in _ROUTE:
        return Deferred(reply(451, "4.7.0", text), Fault.ROUTE)
    if kind in _SLOW:
        return Deferred(reply(451, "4.4.5", text), Fault.HOST, response.retry_after)
    if kind in _REFUSED:
        return Failed(reply(550, "5.7.1", text), elsewhere=True)
    return outcome_for_status(TITLE, response, f"{kind}: {words}" if kind else words)


def _word(text: str) -> str:
    """A tag's name or value as the API takes it."""
    return _NO_TAG.sub("_", text)[:256] or "_"


PROVIDER = Ses
