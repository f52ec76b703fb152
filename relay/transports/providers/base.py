"""The shape of a provider: an HTTP email API as pure functions, from message to requests and from answer to outcomes.

In: a DeliveryRequest with the message's bytes; an HttpResponse. Out: a Rendering or a Refusal; an Outcome for every
recipient of the call. Never does I/O, never reads a clock, never sees the API key except in `authorise`. Raises
nothing for what a message holds or a vendor answers (MessageSyntaxError from `take_apart` may pass through `render`).
A new provider is one file beside this one that ends in `PROVIDER = ItsClass`; docs/providers/README.md has the rest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

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
    """All attachments of a message together, decoded; 0: none are taken."""
    recipients_per_call: int
    per_recipient_result: bool
    custom_headers: bool
    tags: bool
    inline_images: bool
    idempotency: bool
    """A request can be repeated with the same key and is carried out once."""
    tracking: Literal["none", "option", "always"]
    scheduled: bool
    smtputf8: bool
    """Takes addresses with a local part beyond ASCII."""
    sender: Literal["any", "verified domain", "verified address"]
    """Whose From it carries."""


class ProviderOptions(BaseModel):
    """The `options` table every provider has; its own model adds what is its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accept: tuple[Loss, ...] = Field((), description="What a message may lose here without being refused")
    withhold_headers: tuple[str, ...] = Field((), description="Header fields not to hand over, any case")


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One call. Header names and values are ASCII without line breaks; the API key is not among them.

    `copies`: the recipients this call covers, one tuple for each message the vendor makes of it. The first address
    is the one the vendor answers about; the others (cc, bcc) share its fate. `idempotent`: the vendor carries out a
    repetition only once, so a lost answer is no doubt.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    copies: tuple[tuple[str, ...], ...]
    idempotent: bool = False

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


class Provider(ABC):
    """One vendor. An instance holds settings only and may be shared by every delivery."""

    kind: ClassVar[str]
    """The word in `provider.NAME.kind`."""
    title: ClassVar[str]
    """How people write the vendor's name."""
    default_base_url: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    Options: ClassVar[type[ProviderOptions]] = ProviderOptions

    def __init__(self, options: ProviderOptions, base_url: str) -> None:
        """`base_url` without a slash at the end."""
        self.base_url = base_url

    @abstractmethod
    def render(self, request: DeliveryRequest, content: bytes) -> Rendering | Refusal:
        """The calls that reach every recipient of `request` exactly once, and nobody else."""

    @abstractmethod
    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        """The headers that prove who we are (`now` in seconds since the epoch, for signatures with a date)."""

    @abstractmethod
    def read(self, response: HttpResponse, request: HttpRequest) -> Mapping[str, Outcome]:
        """An outcome for every recipient of `request`, whatever the answer looks like."""


def refusal_for(title: str, losses: Iterable[Loss], accepted: Iterable[Loss]) -> Refusal | None:
    """A Refusal naming every loss that is not accepted (RFC 3463 X.6.3), or None when all are."""
    found = frozenset(losses)
    unaccepted = sorted(found.difference(accepted))
    if not unaccepted:
        return None
    words = ", ".join(unaccepted)
    return Refusal(reply(550, "5.6.3", f"{printable(title)} cannot carry this message without loss: {words}"), found)
