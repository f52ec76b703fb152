"""The shape of a provider: an HTTP email API as pure functions, from message to requests and from answer to outcomes.

In: a DeliveryRequest with the message's bytes; an HttpResponse. Out: a Rendering or a Refusal; an Outcome for every
recipient of the call. Never does I/O, never reads a clock, never sees the API key except in `authorise`. Raises
nothing for what a message holds or a vendor answers (MessageSyntaxError from `take_apart` may pass through `render`).
A new provider is one file beside this one that ends in `PROVIDER = ItsClass`; docs/providers/README.md has the rest.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from relay.mail.event import EventKind
from relay.mail.outcome import Outcome
from relay.mail.parts import Loss
from relay.mail.reply import Reply, printable, reply
from relay.ports import DeliveryRequest


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an API can say; the matrix in docs/providers/README.md is drawn from these."""

    raw_mime: bool
    """Takes the message's bytes as they are, so that DKIM survives."""
    separate_envelope: bool
    """Recipients and visible To/Cc are independent of each other."""
    envelope_sender: bool
    """The reverse-path is ours; otherwise bounces go to the vendor first."""
    attachment_octets: int
    """All attachments of a message together, decoded; 0: the message's own size is the limit."""
    message_octets: int
    """The whole message as it would be by SMTP; 0: only the attachments are limited."""
    recipients_per_call: int
    per_recipient_result: bool
    custom_headers: bool
    tags: bool
    inline_images: bool
    idempotency: bool
    """A request can be repeated with the same key and is carried out once."""
    tracking: Literal["none", "option", "always"]
    smtputf8: bool
    """Takes addresses with a local part beyond ASCII."""
    sender: Literal["any", "verified domain", "verified address"]
    """Whose From it carries."""
    dkim: Literal["kept", "replaced"]
    """What becomes of the relay's signature; `replaced`: the vendor signs, and ours would not survive."""
    polling: Literal["none", "events", "bounces", "last state"] = "none"
    """What it tells when asked, without callbacks."""
    asked: Literal["no", "yes", "option"] = "no"
    """Whether it can be asked if it has a message whose call's answer was lost."""


class ProviderOptions(BaseModel):
    """The `options` table every provider has; its own model adds what is its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accept: tuple[Loss, ...] = Field((), description="What a message may lose here without being refused")
    withhold_headers: tuple[str, ...] = Field((), description="Header fields not to hand over, any case")


class OptionError(ValueError):
    """An option that makes no sense with the others; `key` is its name inside the options table."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One call. Header names and values are ASCII without line breaks; the API key is not among them.

    `copies`: the recipients this call covers, one tuple for each message the vendor makes of it. The first address
    is the one the vendor answers about; the others (cc, bcc) share its fate. `idempotent`: the vendor carries out a
    repetition only once, so a lost answer is no doubt. `prepares`: it only makes ready for a later one, so neither is
    its answer's loss.

    `follow`: where several calls carry one message, the next one after this one's answer; None: there is none, and
    `read` says what came of this one. It is asked without an answer where nothing can have been accepted. `verdict`:
    of a call that only tidies up, what came of the mail, whatever is answered.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    copies: tuple[tuple[str, ...], ...]
    idempotent: bool = False
    prepares: bool = False
    follow: Callable[[HttpResponse | None, float], HttpRequest | None] | None = field(
        default=None, repr=False, compare=False
    )
    verdict: Outcome | None = None

    @property
    def recipients(self) -> tuple[str, ...]:
        return tuple(address for copy in self.copies for address in copy)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One answer, whole. Header names are lower case; `retry_after` is in seconds, already clamped."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Rendering:
    """The calls that carry a message, in order, and what it loses on the way (all of it accepted)."""

    requests: tuple[HttpRequest, ...]
    losses: frozenset[Loss] = frozenset()


@dataclass(frozen=True, slots=True)
class Refusal:
    """This provider cannot carry the message; another may. The reply is permanent and says why."""

    reply: Reply
    losses: frozenset[Loss] = frozenset()


@dataclass(frozen=True, slots=True)
class Callback:
    """What a vendor posted to us. Header names are lower case; `secret` is what signs, `""` where none is set.

    `document` is what `Provider.document_for` asked for.
    """

    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    secret: str = field(default="", repr=False)
    now: float = 0.0
    document: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class ProviderEvent:
    """News of one recipient. `kind` is None for a word nobody knows, which is `word`.

    `key` tells a repetition: the vendor's id of the event, or what makes it the same one. `at` is in seconds since the
    epoch, 0 where the vendor gives no time; `said` its own text. `hard`: of a bounce, whether the vendor blames the
    address; None where it does not say.
    """

    kind: EventKind | None
    word: str
    remote_id: str
    recipient: str
    key: str
    at: float = 0.0
    said: str = ""
    hard: bool | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """What a vendor answered when asked for news. `cursor` is what to ask with next, at once where there is `more`."""

    events: tuple[ProviderEvent, ...]
    cursor: str
    more: bool


@dataclass(frozen=True, slots=True)
class Lost:
    """What `render` was given for a call whose answer was lost, and when that attempt began (seconds since the epoch).

    The recipients may be fewer: those that are still in doubt. `content` holds the header; the body may be missing.
    """

    request: DeliveryRequest
    content: bytes = field(repr=False)
    since: float


@dataclass(frozen=True, slots=True)
class Found:
    """Entries of a vendor's answer that are the message: a recipient's address, as written there, and its remote id.

    `page` is what to ask with next, `""` where that was all.
    """

    entries: tuple[tuple[str, str], ...]
    page: str = ""


class CallbackError(Exception):
    """News that is not believed (`forged`) or not understood; the text is one line for the log."""

    def __init__(self, text: str, *, forged: bool = False) -> None:
        super().__init__(text)
        self.forged = forged


class Provider(ABC):
    """One vendor. An instance holds settings only and may be shared by every delivery."""

    kind: ClassVar[str]
    """The word in `provider.NAME.kind`."""
    title: ClassVar[str]
    """How people write the vendor's name."""
    default_base_url: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    Options: ClassVar[type[ProviderOptions]] = ProviderOptions
    example: ClassVar[Mapping[str, Any]] = {}
    """Options it cannot do without, with values as they may look."""
    reset_header: ClassVar[str] = ""
    """The header of a 429 that says when to come back, in lower case: seconds from now, or since the epoch."""
    wants_token: ClassVar[bool] = False
    """The API takes OAuth tokens only; the file of the API key holds the client's secret then."""
    grants: ClassVar[tuple[str, ...]] = ("client_credentials", "refresh_token", "jwt_bearer")
    """How tokens can be had."""
    key_seconds: ClassVar[float] = 86_400.0
    """For how long an idempotency key is known there, of kinds that have one."""
    signs_callbacks: ClassVar[bool] = False
    """Whether the vendor signs what it posts to us, so that `hook_secret_file` is of use."""

    @classmethod
    def url_for(cls, options: ProviderOptions) -> str:
        """The vendor's own address, where `base_url` does not name another."""
        return cls.default_base_url

    def __init__(self, options: ProviderOptions, base_url: str) -> None:
        """`base_url` without a slash at the end."""
        self.base_url = base_url

    @property
    def token_url(self) -> str:
        """Where the vendor gives out tokens; `""` where it has no one place."""
        return ""

    def token_scope(self, grant: str) -> str:
        """What a token has to allow, in the vendor's words."""
        return ""

    @abstractmethod
    def render(self, request: DeliveryRequest, content: bytes) -> Rendering | Refusal:
        """The calls that reach every recipient of `request` exactly once, and nobody else."""

    @abstractmethod
    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        """The headers that prove who we are (`now` in seconds since the epoch, for signatures with a date)."""

    @property
    def calls_back(self) -> bool:
        """Whether it may tell later what became of a message."""
        return type(self).events is not Provider.events

    @property
    def callbacks_described(self) -> bool:
        """Whether the options are about callbacks, which need an address then."""
        return False

    def demand_secret(self, secret: str) -> None:
        """Whether callbacks can be believed with it (`""`: none is set). Raises ValueError with the fix."""
        if secret and not self.signs_callbacks:
            raise ValueError(f"{self.title} signs nothing; remove it")

    def document_for(self, callback: Callback) -> str:
        """A URL of the vendor's own whose content `events` needs, such as a certificate; `""`: none.

        Raises CallbackError.
        """
        return ""

    def confirmation(self, callback: Callback) -> str:
        """A URL of the vendor's own to ask once so that it begins to call; of a callback `events` has believed."""
        return ""

    def events(self, callback: Callback) -> list[ProviderEvent]:
        """What a callback says, one event a recipient. Raises CallbackError."""
        raise CallbackError(f"{self.title} has no callbacks here")

    def poll(self, cursor: str, now: float) -> HttpRequest:
        """The question for news; `cursor` is that of the last Page, `""` at first. Of kinds with `polling` alone."""
        raise NotImplementedError

    def page(self, response: HttpResponse, cursor: str, now: float) -> Page:
        """What an answer (200) to `poll` says. Raises CallbackError where it is none."""
        raise NotImplementedError

    def poll_problem(self) -> str:
        """What is missing in the options for it to be polled, and the fix; `""`: nothing."""
        return "" if self.capabilities.polling != "none" else f"{self.title} has no list of events; remove it"

    @property
    def repeats(self) -> bool:
        """Whether a call may be made twice and is carried out once."""
        return self.capabilities.idempotency

    @property
    def can_be_asked(self) -> bool:
        """Whether it has a list in which a message is found by something of ours."""
        return self.capabilities.asked == "yes"

    def question(self, lost: Lost, page: str) -> HttpRequest | None:
        """Whether it has the message of a lost call; `page` is `""` at first. Of kinds that can be asked alone.

        None: nothing in this message is such that it could be found by it.
        """
        raise NotImplementedError

    def found(self, response: HttpResponse, lost: Lost, page: str) -> Found:
        """What an answer (200) to `question` says. Only what is certainly this message counts.

        Raises CallbackError where it is no answer, or does not say whose entries it lists: so nothing is taken for an
        absence that is none.
        """
        raise NotImplementedError

    @abstractmethod
    def read(self, response: HttpResponse, request: HttpRequest) -> Mapping[str, Outcome]:
        """An outcome for every recipient of `request`, whatever the answer looks like."""


def key_of(request: DeliveryRequest) -> str:
    """What a call's idempotency key is made of, beside the call's own recipients.

    Not `request.idempotency_key`: of those of this attempt some may be done with before the next one, and the call
    for the others has to be known again. One that the sender gave is its account's own, for all accounts may share the
    vendor's; and what adapters make of it (no blanks, so many characters) makes no two of them one.
    """
    given = request.directives.idempotency_key
    if not given:
        return request.message_id
    owned = f"{request.account}\n{given}".encode("utf-8", "surrogateescape")
    return f"{hashlib.blake2b(owned, digest_size=8).hexdigest()}-{given}"


def refusal_for(title: str, losses: Iterable[Loss], accepted: Iterable[Loss]) -> Refusal | None:
    """A Refusal naming every loss that is not accepted (RFC 3463 X.6.3), or None when all are."""
    found = frozenset(losses)
    unaccepted = sorted(found.difference(accepted))
    if not unaccepted:
        return None
    words = ", ".join(unaccepted)
    return Refusal(reply(550, "5.6.3", f"{printable(title)} cannot carry this message without loss: {words}"), found)
