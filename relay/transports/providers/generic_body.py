"""The body and the URL of a call whose template is filled: JSON, a form, a multipart form, or the message itself.

In: values. Out: Content-Type and octets; a URL. Pure; the same values give the same octets.
Sources: RFC 7578 and WHATWG HTML (multipart/form-data), WHATWG URL (application/x-www-form-urlencoded).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from relay.transports.providers.structured import as_json
from relay.transports.providers.template import ABSENT, Text, fill, written
from relay.transports.providers.template_values import File

_ESCAPES: Final = {'"': "%22", "\r": "%0D", "\n": "%0A"}


def body_of(kind: str, plan: Any, values: Mapping[str, Any], content: bytes) -> tuple[str, bytes]:
    """Content-Type and octets."""
    if kind == "raw":
        return "message/rfc822", content
    if kind == "json":
        return "application/json", as_json(fill(plan, values))
    fields = list(_fields(plan, values))
    if kind == "form":
        return "application/x-www-form-urlencoded", urlencode(fields).encode("ascii")
    return _multipart(fields, content)


def url_with(url: str, query: Mapping[str, Any]) -> str:
    pairs = list(_pairs(query))
    return f"{url}?{urlencode(pairs, quote_via=quote)}" if pairs else url


def _fields(plan: Mapping[str, Text], values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return _pairs({name: fill(text, values) for name, text in plan.items()})


def _pairs(found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """A list is a field repeated; an object is JSON."""
    for name, value in found.items():
        for each in value if isinstance(value, list) else () if value is ABSENT else (value,):
            if isinstance(each, dict | list):
                yield name, json.dumps(each, ensure_ascii=False)
            else:
                yield name, each if isinstance(each, File) else written(each)


def _multipart(fields: list[tuple[str, Any]], content: bytes) -> tuple[str, bytes]:
    boundary = "relay-" + hashlib.sha256(content).hexdigest()[:32]
    pieces = []
    for name, value in fields:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"'
        if isinstance(value, File):
            head += f'; filename="{_quoted(value.filename)}"\r\nContent-Type: {_plain(value.content_type)}'
        octets = value.content if isinstance(value, File) else value.encode("utf-8")
        pieces += [f"{head}\r\n\r\n".encode(), octets, b"\r\n"]
    return f"multipart/form-data; boundary={boundary}", b"".join((*pieces, f"--{boundary}--\r\n".encode()))


def _quoted(name: str) -> str:
    for character, escape in _ESCAPES.items():
        name = name.replace(character, escape)
    return name


def _plain(content_type: str) -> str:
    """The sender's word, fit for a header line."""
    fits = content_type.isascii() and content_type.isprintable() and " " not in content_type
    return content_type if fits else "application/octet-stream"
