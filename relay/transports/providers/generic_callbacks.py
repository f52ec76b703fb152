"""Callbacks of an API that its operator describes: where an event says what, and how it is proved.

In: a Callback and `[provider.NAME.options.callback]`. Out: ProviderEvents. Pure; raises CallbackError. A word nobody
has given a meaning stays unknown. Sources: RFC 6901 (JSON pointers), draft-bhutton-relative-json-pointer (`2/id`),
RFC 2104 (HMAC), RFC 7617 (Basic), docs/providers/http.md.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from relay.mail.event import EventKind
from relay.transports.providers.base import Callback, CallbackError, ProviderEvent
from relay.transports.providers.callbacks import (
    IGNORED,
    MOST_EVENTS,
    address_of,
    demand_fresh,
    event,
    header,
    json_value,
    listed,
)
from relay.transports.providers.generic_answer import Pointer, scalar, value_at

Meaning = Literal[
    "delivered", "bounced", "bounced_hard", "bounced_soft", "deferred", "complained", "opened", "clicked",
    "unsubscribed", "ignored",
]  # fmt: skip
_KINDS: Final = {
    "delivered": EventKind.DELIVERED,
    "bounced": EventKind.BOUNCED,
    "bounced_hard": EventKind.BOUNCED,
    "bounced_soft": EventKind.BOUNCED,
    "deferred": EventKind.DELAYED,
    "complained": EventKind.COMPLAINED,
    "opened": EventKind.OPENED,
    "clicked": EventKind.CLICKED,
    "unsubscribed": EventKind.UNSUBSCRIBED,
    "ignored": IGNORED,
}
_HARD: Final = {"bounced_hard": True, "bounced_soft": False}
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_PLACE: Final = re.compile(r"[0-9]{0,2}(?=/)|(?![\s\S])")
_BETWEEN: Final = re.compile(r"[,; ]+")
_MOST_PROOFS: Final = 20


def _place(text: str) -> str:
    if not _PLACE.match(text):
        raise ValueError(f"a place begins with / or, further out, with a number such as 2/; did you mean /{text}?")
    if re.search(r"~(?![01])", text):
        raise ValueError("a ~ in a place is written ~0, and a / inside a name ~1")
    return text


def _header(text: str) -> str:
    if text and not _NAME.fullmatch(text):
        raise ValueError("write the name of a header field, such as X-Signature")
    return text.lower()


Place = Annotated[str, AfterValidator(_place)]
HeaderName = Annotated[str, AfterValidator(_header)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SignatureOptions(_Table):
    """How the body is signed; the key is in hook_secret_file."""

    header: HeaderName = Field(min_length=1, description="Header field with the signature")
    algorithm: Literal["sha256", "sha1"] = Field("sha256", description="HMAC with SHA-256 or SHA-1")
    encoding: Literal["hex", "base64"] = Field("hex", description="How the signature is written")
    prefix: str = Field("", description="What stands before it, such as sha256= or v1=")
    signed: str = Field("{body}", description="What is signed, such as {timestamp}.{body}")
    timestamp_header: HeaderName = Field("", description="Header field with the time that {timestamp} is")
    timestamp_prefix: str = Field("", description="What stands before the time, such as t=")

    @model_validator(mode="after")
    def _signs_the_body(self) -> Self:
        if self.signed.count("{body}") != 1:
            raise ValueError("signed: the body has to be signed; write {body} once")
        if ("{timestamp}" in self.signed) != bool(self.timestamp_header):
            raise ValueError("timestamp_header and {timestamp} in signed go together; set both, or none")
        if set(re.findall(r"\{[^}]*\}", self.signed)) - {"{body}", "{timestamp}"} or not self.signed.isascii():
            raise ValueError("signed: ASCII with {timestamp} and {body}, and no other placeholder")
        return self


class CallbackOptions(_Table):
    """What it posts to us. Places are JSON pointers inside an event; `2/id` begins two levels further out."""

    events: Pointer = Field("", description="Where the events are, /list/*/events; empty: the body is one, or a list")
    event: tuple[Place, ...] = Field(min_length=1, description="Places of the words that say what happened")
    words: dict[str, Meaning] = Field(min_length=1, description="What the words mean, joined with spaces")
    id: Place = Field(min_length=1, description="Place of the id the answer to the call gave")
    recipient: Place = Field("", description="Place of the address; empty: messages have one recipient each")
    time: Place = Field("", description="Place of the time: seconds, milliseconds, ISO 8601")
    text: tuple[Place, ...] = Field((), description="Places of the reason; the first that says something is quoted")
    key: Place = Field("", description="Place of the event's own id; empty: word, id, recipient and time are one")
    basic: bool = Field(False, description="It logs in by Basic; hook_secret_file holds USER:PASSWORD")
    signature: SignatureOptions | None = Field(None, description="It signs the body")

    @model_validator(mode="after")
    def _proves_one_way(self) -> Self:
        if self.basic and self.signature is not None:
            raise ValueError("basic and signature need two secrets, and there is one hook_secret_file; choose one")
        return self


def demand_secret(options: CallbackOptions, secret: str) -> None:
    """Whether it is one these callbacks can be proved with. Raises ValueError."""
    name = "signature" if options.signature is not None else "basic" if options.basic else ""
    if secret and not name:
        raise ValueError("options.callback says nothing of a proof; set signature or basic there, or remove it")
    if name and not secret:
        raise ValueError(f"missing; options.callback.{name} cannot be checked without it")
    if options.basic and ":" not in secret:
        raise ValueError("options.callback.basic needs USER:PASSWORD in it")


def read_events(callback: Callback, options: CallbackOptions) -> list[ProviderEvent]:
    """Believed first, then read."""
    if options.signature is not None:
        _demand_signature(callback, options.signature)
    if options.basic:
        _demand_login(callback)
    chains = list(_events_at(json_value(callback.body), options.events))
    return listed(_event(chain, options) for chain in chains)


# --- proof -------------------------------------------------------------------------------------------------


def _demand_signature(callback: Callback, how: SignatureOptions) -> None:
    """Any of several: a header may carry one for each key while keys are being changed."""
    before, _, after = how.signed.partition("{body}")
    stamps = _pieces(header(callback, how.timestamp_header), how.timestamp_prefix) if how.timestamp_header else [""]
    stamp = stamps[0] if stamps else ""
    signed = b"".join(
        (before.replace("{timestamp}", stamp).encode(), callback.body, after.replace("{timestamp}", stamp).encode())
    )
    digest = hmac.digest(callback.secret.encode(), signed, how.algorithm)
    wanted = digest.hex() if how.encoding == "hex" else base64.b64encode(digest).decode()
    given = _pieces(header(callback, how.header), how.prefix)
    if how.encoding == "hex":
        given = [each.lower() for each in given]
    if not any(hmac.compare_digest(wanted.encode(), each.encode("utf-8", "replace")) for each in given):
        raise CallbackError(
            "the signature is wrong; check hook_secret_file and options.callback.signature", forged=True
        )
    if how.timestamp_header:
        demand_fresh(stamp, callback.now)


def _pieces(value: str, prefix: str) -> list[str]:
    found = _BETWEEN.split(value)[:_MOST_PROOFS]
    return [each.removeprefix(prefix) for each in found if each.startswith(prefix)]


def _demand_login(callback: Callback) -> None:
    scheme, _, word = callback.headers.get("authorization", "").partition(" ")
    try:
        given = base64.b64decode(word.strip(), validate=True) if scheme.lower() == "basic" else b""
    except (ValueError, binascii.Error):
        given = b""
    if not hmac.compare_digest(given, callback.secret.encode()):
        raise CallbackError("the login (Basic) is wrong or missing; check hook_secret_file", forged=True)


# --- events ------------------------------------------------------------------------------------------------

Chain = tuple[Any, ...]
"""From the body to an event: each level, the event last."""


def _events_at(body: Any, pointer: str) -> Iterator[Chain]:
    """Raises CallbackError where the pointer leads nowhere."""
    count = 0
    for chain in _led([(body,)], pointer.split("/")[1:], pointer):
        inside = chain[-1]
        # An object alone is a list of one, so that places count the same levels.
        for each in [(*chain, one) for one in (inside if isinstance(inside, list) else [inside])]:
            count += 1
            if count > MOST_EVENTS or not isinstance(each[-1], dict):
                raise CallbackError("the body holds no events, or too many; check options.callback.events")
            yield each


def _led(chains: list[Chain], steps: Sequence[str], pointer: str) -> list[Chain]:
    for step in steps:
        found: list[Chain] = []
        for chain in chains:
            here = chain[-1]
            if step == "*":
                inside = here if isinstance(here, list) else list(here.values()) if isinstance(here, dict) else []
                found += [(*chain, each) for each in inside]
                continue
            there = value_at(here, f"/{step}")
            if there is None:
                raise CallbackError(f"nothing stands at {pointer}; check options.callback.events")
            found.append((*chain, there))
        if len(found) > MOST_EVENTS:
            raise CallbackError("the body holds too many events")
        chains = found
    return chains


def _event(chain: Chain, options: CallbackOptions) -> ProviderEvent | None:
    words = [word for word in (_at(chain, place) for place in options.event) if word]
    known = next((" ".join(words[:count]) for count in range(len(words), 0, -1) if " ".join(words[:count]) in
                  options.words), "")  # fmt: skip
    word = known or " ".join(words) or f"(nothing at {' '.join(options.event)})"
    meaning = options.words.get(known)
    said = (_at(chain, place) for place in options.text)
    key = _at(chain, options.key) if options.key else ""
    return event(
        {known: _KINDS[meaning]} if meaning else {},
        word,
        remote_id=_at(chain, options.id),
        recipient=address_of(_at(chain, options.recipient)) if options.recipient else "",
        key=f"{word} {key}" if key else "",
        at=_at(chain, options.time) if options.time else None,
        said=next((text for text in said if text), ""),
        hard=_HARD.get(meaning or ""),
    )


def _at(chain: Chain, place: str) -> str:
    """The word at a place, seen from the event; `""` where there is none."""
    levels, _, rest = place.partition("/")
    out = int(levels or "0")
    if out >= len(chain):
        return ""
    found = value_at(chain[-1 - out], f"/{rest}")
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    return scalar(found)
