"""What callbacks of vendors have in common: JSON, times, words, and signatures.

In: a Callback. Out: values, or CallbackError. Pure. A signature is compared in constant time, and an old one is none.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from relay.mail.event import EventKind
from relay.mail.reply import printable
from relay.transports.providers.base import Callback, CallbackError, ProviderEvent

WINDOW: Final = 600.0
"""Seconds a signed callback may be old, or ahead."""
MOST_EVENTS: Final = 10_000
_LONGEST_ID: Final = 256
_LATEST: Final = 253_402_300_799.0  # the last second a date can be written of

# Nothing to say about a recipient that is not known already.
IGNORED: Final = "ignored"

Words = Mapping[str, EventKind | str]
_ONCE: Final = (EventKind.DELIVERED, EventKind.BOUNCED, EventKind.COMPLAINED, EventKind.UNSUBSCRIBED)


def json_value(body: bytes) -> Any:
    """Raises CallbackError."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise CallbackError("the body is no JSON") from None


def json_objects(body: bytes) -> list[dict[str, Any]]:
    """A list of objects, or one alone. Raises CallbackError."""
    found = json_value(body)
    objects = found if isinstance(found, list) else [found]
    if len(objects) > MOST_EVENTS or not all(isinstance(each, dict) for each in objects):
        raise CallbackError("the body holds no events")
    return objects


def event(
    words: Words,
    word: object,
    *,
    remote_id: object,
    recipient: object,
    key: object,
    at: object,
    said: object,
    hard: bool | None = None,
) -> ProviderEvent | None:
    """One event from values of any type; None for a word that says nothing new."""
    text = _text(word)
    kind = words.get(text)
    if isinstance(kind, str) and not isinstance(kind, EventKind):
        return None
    found_id, address, moment = _text(remote_id).strip("<>"), _text(recipient), seconds(at)
    name = _text(key) or hashlib.blake2b(f"{text} {found_id} {address} {moment}".encode(), digest_size=16).hexdigest()
    told = printable(" ".join(_text(said).split()), 300)
    return ProviderEvent(kind, text, found_id, address, name, moment, told, hard if kind is EventKind.BOUNCED else None)


def once(kind: EventKind | str | None, word: object, remote_id: object, recipient: object, at: object) -> str:
    """A key for an event its vendor gives none: the same whether it was called back or asked for.

    What happens once to a recipient needs no time; the rest is told apart by the second.
    """
    address, found_id = address_of(recipient).lower(), _text(remote_id).strip("<>")
    happened = kind.value if isinstance(kind, EventKind) else _text(word)
    return f"{happened} {found_id} {address}" + ("" if kind in _ONCE else f" {int(seconds(at))}")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return ""
    return printable(str(value), 1000) if isinstance(value, str | int) else ""


def seconds(value: object) -> float:
    """Seconds, milliseconds or nanoseconds since the epoch, or ISO 8601 (UTC unless it says so); 0.0 for the rest."""
    moment = _seconds(value)
    return moment if 0 <= moment <= _LATEST else 0.0


def _seconds(value: object) -> float:
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value[:64])
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            pass
        try:
            value = float(value[:32])
        except ValueError:
            return 0.0
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e20:
        return 0.0
    for unit in (1e9, 1e6, 1e3):
        if value >= 1e9 * unit:
            return value / unit
    return float(value)


def inner(found: object, *path: str) -> Any:
    """The value at a path of objects, or None."""
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def demand_fresh(timestamp: str, now: float) -> None:
    """Raises CallbackError for a signature that may be a recorded one."""
    moment = seconds(timestamp)
    if not moment or abs(now - moment) > WINDOW:
        raise CallbackError("the signature is too old; is the clock of this machine right?", forged=True)


def demand_hmac(key: bytes, signed: bytes, given: str, *, encoded: bool = False) -> None:
    """HMAC-SHA256 in hex, or in base64 where `encoded`. Raises CallbackError."""
    digest = hmac.digest(key, signed, hashlib.sha256)
    wanted = base64.b64encode(digest).decode() if encoded else digest.hex()
    if not hmac.compare_digest(wanted.encode(), given.encode("utf-8", "replace")):
        raise CallbackError("the signature is wrong; check hook_secret_file", forged=True)


def decoded(text: str, what: str) -> bytes:
    """Base64. Raises CallbackError."""
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise CallbackError(f"{what} is no base64", forged=True) from None


def listed(found: Iterable[ProviderEvent | None]) -> list[ProviderEvent]:
    """Without what says nothing new."""
    return [each for each in found if each is not None]


def address_of(value: object) -> str:
    """`Ann <ann@example.net>`, or the address alone."""
    text = str(value or "")
    return text.rpartition("<")[2].removesuffix(">").strip() if "<" in text else text.strip()


def header(callback: Callback, name: str) -> str:
    """Raises CallbackError where it is missing."""
    found = callback.headers.get(name, "")
    if not found:
        raise CallbackError(
            f"the header {name} is missing, so nothing is signed; switch signing on at the vendor", forged=True
        )
    return found
