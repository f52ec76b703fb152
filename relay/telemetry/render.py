"""Render: one fact as one line, for programs (JSON) or people (console).

In: the fields of an event. Out: bytes with exactly one LF, at their end. Control characters, line separators, ANSI
escapes and bidirectional overrides come out escaped; values are capped; fields named like a secret are masked.
Never raises for any value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any, Final

from relay.ports import Clock
from relay.telemetry.output import LONGEST_LINE

LONGEST_NAME: Final = 64
LONGEST_VALUE: Final = 500
LONGEST_TRACEBACK: Final = 2000
MASK: Final = "***"

_SECRET_WORDS: Final = ("password", "passwd", "secret", "token", "authorization", "cookie", "private_key", "signature")
_SECRET_NAMES: Final = frozenset({"api_key", "apikey", "key", "auth", "pass", "pwd", "body", "content"})
_SECRET_TEXT: Final = re.compile(
    r"(?i)(\bauth +(?:plain|login|xoauth2|cram-md5) +|\b(?:bearer|basic) +"
    r"|(?:password|passwd|secret|token|api[_-]?key)[\"']?[=:] ?[\"']?)[^\s\"'&,;]+"
)
_URL_LOGIN: Final = re.compile(r"://[^\s/@]+@")
_PLAIN: Final = re.compile(r"[!#-<>-~]+")
_BIG: Final = 1 << 63
_TRUNCATED: Final = "...[cut]"
_MILLISECONDS: Final = tuple(f"{number:03d}Z" for number in range(1000))

Renderer = Callable[[str, str, Mapping[str, Any]], bytes]
"""Level, event and fields to a line."""


def scrub(text: str) -> str:
    """Free text (an exception, a library's message) without what looks like a credential."""
    return _SECRET_TEXT.sub(lambda match: match[1] + MASK, _URL_LOGIN.sub(f"://{MASK}@", text))


@lru_cache(maxsize=512)
def is_secret(name: str) -> bool:
    """Whether a field of that name must not be shown."""
    lower = name.lower().replace("-", "_")
    return lower in _SECRET_NAMES or lower.endswith("_key") or any(word in lower for word in _SECRET_WORDS)


def json_renderer(clock: Clock) -> Renderer:
    """Lines such as `{"time":"2026-11-22T03:37:00.123Z","level":"info","event":"queued","id":"..."}`."""
    stamp = _Timestamps(clock)

    def render(level: str, event: str, fields: Mapping[str, Any]) -> bytes:
        head = f'{{"time":"{stamp()}","level":"{level}","event":{_json_event(event)}'
        return _fit(head, _json_fields, fields, "}\n")

    return render


def console_renderer(clock: Clock) -> Renderer:
    """Lines such as `03:37:00.123 info    queued id=... from=a@b.example`, in UTC."""
    stamp = _Timestamps(clock)

    def render(level: str, event: str, fields: Mapping[str, Any]) -> bytes:
        name = _console_value(event[:LONGEST_NAME])
        return _fit(f"{stamp()[11:23]} {level:<7} {name}", _console_fields, fields, "\n")

    return render


def _fit(head: str, body: Callable[[Mapping[str, Any], int], str], fields: Mapping[str, Any], tail: str) -> bytes:
    """The line with whole values, or with ever shorter ones until one write can carry it, or without any."""
    for longest in (LONGEST_VALUE, 150, 30):
        data = (head + body(fields, longest) + tail).encode("utf-8", "backslashreplace")
        if len(data) <= LONGEST_LINE:
            return data
    return (head + tail).encode("utf-8", "backslashreplace")


def _json_fields(fields: Mapping[str, Any], longest: int) -> str:
    out = ""
    for name, value in fields.items():
        kind = type(value)
        if value is None:
            continue
        key, secret = _json_key(name)
        if secret:
            text = f'"{MASK}"'
        elif kind is str:
            text = encode_basestring_ascii(value if len(value) <= longest else _capped(name, value, longest))
        elif kind is int and -_BIG < value < _BIG:
            text = str(value)
        elif kind is bool:
            text = "true" if value else "false"
        elif kind is float and math.isfinite(value):
            text = str(round(value, 4))
        else:
            text = encode_basestring_ascii(_capped(name, _as_text(value), longest))
        out += key + text
    return out


@lru_cache(maxsize=512)
def _json_event(event: str) -> str:
    return encode_basestring_ascii(event[:LONGEST_NAME])


@lru_cache(maxsize=512)
def _json_key(name: str) -> tuple[str, bool]:
    return f",{encode_basestring_ascii(name)}:", is_secret(name)


def _console_fields(fields: Mapping[str, Any], longest: int) -> str:
    out = ""
    for name, value in fields.items():
        if value is not None:
            shown = MASK if is_secret(name) else _console_value(_capped(name, _as_text(value), longest))
            out += f" {_console_value(name)}={shown}"
    return out


def _console_value(text: str) -> str:
    if _PLAIN.fullmatch(text):
        return text
    if not text.isprintable():
        # False for every control, separator, format and surrogate character.
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return '"' + text.replace('"', "'") + '"'


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return str(round(value, 4))
    try:
        return str(value)
    except Exception as error:  # somebody's __str__; a log line must not fail for it
        return f"<unprintable {type(value).__name__}: {type(error).__name__}>"


def _capped(name: str, text: str, longest: int) -> str:
    """At most `longest` characters; of a traceback the end counts, and more of it."""
    if name == "traceback":
        longest *= LONGEST_TRACEBACK // LONGEST_VALUE
        return text if len(text) <= longest else _TRUNCATED + text[len(text) - longest :]
    return text if len(text) <= longest else text[:longest] + _TRUNCATED


class _Timestamps:
    """RFC 3339 in UTC with milliseconds; the part down to the second is made once a second."""

    __slots__ = ("_clock", "_prefix", "_second")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second = -1
        self._prefix = ""

    def __call__(self) -> str:
        now = self._clock.now()
        second = int(now)
        if second != self._second:
            self._prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
            self._second = second
        return self._prefix + _MILLISECONDS[int((now - second) * 1000)]
