"""Sendlio: a message as a campaign of its own for each recipient, found by an audience query. Only for who asks for it.

In: a message and its envelope. Out: calls; an outcome for each recipient. Pure. The vendor has no call that sends a
message: a query finds people in a data source, and a campaign writes to them at a minute. So a query is made first, has
to find exactly the one recipient, and then a campaign of the next minutes; an earlier attempt is found by the
campaign's name. What mail is like for the most part (text beside HTML, header fields, who else is shown) is lost.
Source: seeds/sendlio.txt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Final, Self
from urllib.parse import quote, unquote
from zoneinfo import ZoneInfo

from pydantic import Field, field_validator, model_validator

from relay.mail.address import ascii_form, comparable
from relay.mail.outcome import Deferred, Failed, InDoubt, Outcome, Sent
from relay.mail.parts import Loss, Parts
from relay.mail.reply import reply
from relay.ports import DeliveryRequest
from relay.transports.providers.base import (
    Capabilities,
    HttpRequest,
    HttpResponse,
    Page,
    Provider,
    ProviderOptions,
    Refusal,
    Rendering,
    refusal_for,
)
from relay.transports.providers.sendlio_answer import (
    OURS,
    TITLE,
    campaign_named,
    campaign_outcome,
    id_of,
    object_of,
    pages_of,
    question_for,
    read_page,
)
from relay.transports.providers.sendlio_text import code_of, code_of_text, expands
from relay.transports.providers.sendlio_time import next_minute, zone
from relay.transports.providers.structured import Says, as_json, refused_author, take

_SAYS: Final = Says(1, attachments=False, headers=False, nameless="all")
_ACCEPTED: Final = (
    Loss.CUSTOM_HEADER,
    Loss.FORMAT_FLOWED,
    Loss.ONE_BODY,
    Loss.RECIPIENT_NAME,
    Loss.RECIPIENT_ROLE,
    Loss.VISIBLE_RECIPIENTS,
)
_DAYS: Final = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_JSON: Final = {"Content-Type": "application/json", "Accept": "application/json"}


class SendlioOptions(ProviderOptions):
    """`[provider.NAME.options]` of kind sendlio."""

    accept: tuple[Loss, ...] = Field(_ACCEPTED, description="What a message may lose here without being refused")
    campaign: bool = Field(False, description="true: each recipient of each message is a campaign of its own")
    senders: tuple[str, ...] = Field((), description="From addresses this company sends as")
    connection_id: int = Field(0, ge=0, description="Data source that knows the recipients")
    db_table: str = Field("", max_length=128, description="Table of the data source they stand in")
    email_column: str = Field("email", min_length=1, max_length=128, description="Its column with the address")
    content_query_id: int = Field(0, ge=0, description="Content query of the block; 0: none")
    timezone: str = Field("", description="Time zone of the company, such as America/New_York")
    delay: int = Field(180, ge=120, le=86_400, description="Seconds from now to the campaign's minute, at least")

    @field_validator("timezone")
    @classmethod
    def _a_zone(cls, name: str) -> str:
        if name:
            zone(name)
        return name

    @model_validator(mode="after")
    def _all_of_it(self) -> Self:
        if not self.campaign:
            raise ValueError(
                "Sendlio sends campaigns and no single messages: set campaign = true if docs/providers/sendlio.md "
                "suits the mail, and use [contacts.NAME] to keep its members up to date"
            )
        missing = [name for name in ("senders", "connection_id", "db_table", "timezone") if not getattr(self, name)]
        if missing:
            raise ValueError(f"set {', '.join(missing)} too")
        return self


class Sendlio(Provider):
    """API v1."""

    kind: ClassVar[str] = "sendlio"
    title: ClassVar[str] = TITLE
    default_base_url: ClassVar[str] = "https://app.sendlio.com/api/v1"
    Options: ClassVar[type[ProviderOptions]] = SendlioOptions
    example: ClassVar[Mapping[str, Any]] = {
        "campaign": True,
        "senders": ["app@example.org"],
        "connection_id": 19,
        "db_table": "users",
        "timezone": "UTC",
    }
    capabilities: ClassVar[Capabilities] = Capabilities(
        raw_mime=False,
        separate_envelope=False,
        envelope_sender=False,
        attachment_octets=0,
        message_octets=1_048_576,
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
        polling="last state",
    )

    def __init__(self, options: ProviderOptions, base_url: str) -> None:
        super().__init__(options, base_url)
        assert isinstance(options, SendlioOptions)
        self._options = options
        self._zone: ZoneInfo = zone(options.timezone)

    def render(self, request: DeliveryRequest, content: bytes) -> Rendering | Refusal:
        taken = take(TITLE, self.capabilities, _SAYS, self._options, request, content)
        if isinstance(taken, Refusal):
            return taken
        code, expanded = _code(taken.parts)
        losses = taken.losses | _more_losses(taken.parts, expanded)
        refusal = refused_author(TITLE, taken.parts.from_[0].address, self._options.senders) or refusal_for(
            TITLE, losses, self._options.accept
        )
        if refusal is not None:
            return refusal
        message = {"subject": taken.parts.subject or " ", "code": code}
        calls = (self._first(request, message, copy.recipients[0]) for copy in taken.copies)
        return Rendering(tuple(calls), losses)

    # --- the calls of one recipient ----------------------------------------------------------------------------

    def _first(self, request: DeliveryRequest, message: dict[str, str], address: str) -> HttpRequest:
        """An attempt after the first looks for what the one before may have made."""
        name = _name(request.message_id, address)
        if request.attempt == 1:
            return self._query(message, name, address)
        return self._search(message, name, address, 1)

    def _search(self, message: dict[str, str], name: str, address: str, page: int) -> HttpRequest:
        further = f"page={page}&" if page > 1 else ""
        return HttpRequest(
            method="GET",
            url=f"{self.base_url}/campaign?medium=email&{further}name={quote(name, safe='')}",
            headers={"Accept": "application/json"},
            body=b"",
            copies=((address,),),
            prepares=True,
            follow=partial(self._after_search, message, name, address, page),
        )

    def _after_search(
        self, message: dict[str, str], name: str, address: str, asked: int, response: HttpResponse | None, now: float
    ) -> HttpRequest | None:
        """Only who has seen every page knows that there is none."""
        if response is None or response.status != 200 or campaign_named(response, name) != "":
            return None
        page, last = pages_of(response)
        if page < last:
            return self._search(message, name, address, page + 1) if page == asked else None
        return self._query(message, name, address)

    def _query(self, message: dict[str, str], name: str, address: str) -> HttpRequest:
        options = self._options
        clause = {"type": "and", "column": options.email_column, "operator": "=", "value": ascii_form(address)}
        body = {
            "connection_id": options.connection_id,
            "name": name,
            "type": "audience",
            "db_table": options.db_table,
            "use_raw": 0,
            "clauses": [{**clause, "is_time": 0}],
        }
        follow = partial(self._after_query, message, name, address)
        return self._post("query", body, address, prepares=True, follow=follow)

    def _after_query(
        self, message: dict[str, str], name: str, address: str, response: HttpResponse | None, now: float
    ) -> HttpRequest | None:
        answer = object_of(response)
        number, found = id_of(answer), answer.get("results_count")
        if response is None or response.status // 100 != 2 or not number or type(found) is not int:
            return None
        if found != 1:
            text = f"Sendlio's data source finds {found} people of this address, and has to find one"
            return self._tidy(number, address, Failed(reply(550, "5.6.3", text), elsewhere=True))
        block: dict[str, Any] = {"code": message["code"], "ordering": 0}
        if self._options.content_query_id:
            block["query_id"] = self._options.content_query_id
        body = {
            "medium": "email",
            "name": name,
            "subject": message["subject"],
            "audience_id": number,
            "type": "onetime",
            **next_minute(now + self._options.delay, self._zone),
            "status": "enabled",
            **dict.fromkeys(_DAYS, 1),
            "blocks": [block],
        }
        return self._post("campaign", body, address, follow=partial(self._after_campaign, number, address))

    def _after_campaign(
        self, query: int, address: str, response: HttpResponse | None, now: float
    ) -> HttpRequest | None:
        """A query nobody will use is taken away."""
        outcome = campaign_outcome(response) if response is not None else None
        if isinstance(outcome, Failed | Deferred):
            return self._tidy(query, address, outcome)
        return None

    def _tidy(self, query: int, address: str, outcome: Outcome) -> HttpRequest:
        return self._post("query/delete", {"id": query}, address, verdict=outcome)

    def _post(self, path: str, body: dict[str, Any], address: str, **more: Any) -> HttpRequest:
        return HttpRequest("POST", f"{self.base_url}/{path}", _JSON, as_json(body), ((address,),), **more)

    # --- answers -----------------------------------------------------------------------------------------------

    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        key, _, secret = api_key.partition(":")
        return {"api_key": key, "api_secret": secret}

    def read(self, response: HttpResponse, request: HttpRequest) -> Mapping[str, Outcome]:
        return dict.fromkeys(request.recipients, _outcome(response, request))

    def poll(self, cursor: str, now: float) -> HttpRequest:
        return question_for(f"{self.base_url}/campaign", cursor, now)

    def page(self, response: HttpResponse, cursor: str, now: float) -> Page:
        return read_page(response, cursor, now)


def _outcome(response: HttpResponse, request: HttpRequest) -> Outcome:
    outcome = campaign_outcome(response)
    if request.method == "GET" and response.status == 200:
        found = campaign_named(response, unquote(request.url.rpartition("name=")[2]))
        if found:
            return Sent(reply(250, "2.0.0", "Sendlio: an earlier attempt made the campaign"), found)
    if request.prepares and not isinstance(outcome, Failed | Deferred):
        return InDoubt(reply(451, "4.4.2", "Sendlio's answer does not say whom it found"))
    return outcome


def _code(parts: Parts) -> tuple[str, bool]:
    page = parts.html or ""
    return code_of(page) if page.strip() else (code_of_text(parts.text or ""), False)


def _more_losses(parts: Parts, expanded: bool) -> set[Loss]:
    losses = {Loss.ONE_BODY} if (parts.html or "").strip() and (parts.text or "").strip() else set()
    return losses | ({Loss.TEMPLATE_SYNTAX} if expanded or expands(parts.subject or "") else set())


def _name(message_id: str, address: str) -> str:
    """The same for every attempt, whoever else it is for."""
    return f"{OURS}{message_id} {hashlib.blake2b(comparable(address).encode(), digest_size=8).hexdigest()}"


PROVIDER = Sendlio
