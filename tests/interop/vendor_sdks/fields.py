"""A request as names and values that can be compared, whatever it is made of: JSON, a form, a message in either.

In: a Recorded request. Out: every leaf of it. Order counts in lists and forms, not in objects; how JSON is spaced and
escaped, and what the boundary of a form is, does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from email import message_from_bytes
from email.policy import HTTP
from typing import Any

from stub import Recorded

Field = tuple[str, str]


def fields(request: Recorded) -> Iterator[Field]:
    yield "method", request.method
    yield "path", request.path
    kind = request.headers.get("content-type", "")
    for name, value in request.headers.items():
        yield f"header {name}", value.partition(";")[0] if name == "content-type" else value
    if kind.partition(";")[0].strip() == "multipart/form-data":
        yield from _form(kind, request.body)
    else:
        yield from _leaves("", json.loads(request.body))


def _form(kind: str, body: bytes) -> Iterator[Field]:
    """Fields in the order they stand; a name that comes again is numbered."""
    form = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body, policy=HTTP)
    seen: dict[str, int] = {}
    for part in form.iter_parts():
        given = part["Content-Disposition"].params
        number = seen[given["name"]] = seen.get(given["name"], -1) + 1
        name = f"form {given['name']}[{number}]"
        yield name, _payload(part).decode("utf-8", "backslashreplace")
        if "filename" in given:
            yield f"{name} filename", given["filename"]
            yield f"{name} type", part.get_content_type() if "Content-Type" in part else "(none)"


def _payload(part: Any) -> bytes:
    """The email package takes a message/rfc822 part apart; it is put together again as it was."""
    if part.get_content_type() == "message/rfc822":
        return part.get_payload(0).as_bytes(policy=HTTP.clone(refold_source="none", cte_type="8bit"))
    found: bytes = part.get_payload(decode=True)
    return found


def _leaves(name: str, value: Any) -> Iterator[Field]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(f"{name}.{key}" if name else key, inner)
    elif isinstance(value, list):
        yield f"{name}[]", str(len(value))
        for number, inner in enumerate(value):
            yield from _leaves(f"{name}[{number}]", inner)
    else:
        yield name, json.dumps(value, ensure_ascii=False)
