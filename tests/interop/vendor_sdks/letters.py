"""The letters of letters.json as an application without an SDK writes them: MIME, with directives in header fields.

In: one letter. Out: its bytes and its envelope. Bcc stands in the envelope alone.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Any

Letter = Mapping[str, Any]
_BODIES = (("text", "plain"), ("html", "html"))
FILE = Path(__file__).with_name("letters.json")


def letters() -> list[Letter]:
    found: list[Letter] = json.loads(FILE.read_text(encoding="utf-8"))
    return found


def envelope(letter: Letter) -> list[str]:
    return [person["email"] for role in ("to", "cc", "bcc") for person in letter.get(role, ())]


def as_mime(letter: Letter) -> bytes:
    message = EmailMessage(policy=SMTP)
    message["From"] = _address(letter["from"])
    for role in ("to", "cc"):
        if role in letter:
            message[role.title()] = [_address(person) for person in letter[role]]
    if "reply_to" in letter:
        message["Reply-To"] = _address(letter["reply_to"])
    message["Subject"] = letter["subject"]
    for name, value in letter["headers"].items():
        message[name] = value
    if "tags" in letter:
        message["X-Relay-Tag"] = ", ".join(letter["tags"])
    for name, value in letter.get("metadata", {}).items():
        message[f"X-Relay-Metadata-{name}"] = value
    _fill(message, letter)
    return message.as_bytes()


def _fill(message: EmailMessage, letter: Letter) -> None:
    bodies = [(letter[kind].replace("\r\n", "\n"), subtype) for kind, subtype in _BODIES if kind in letter]
    message.set_content(bodies[0][0], subtype=bodies[0][1])
    for text, subtype in bodies[1:]:
        message.add_alternative(text, subtype=subtype)
    for item in letter.get("images", ()):
        page = message.get_payload()[-1]
        page.add_related(*_content(item), cid=f"<{item['cid']}>", filename=item["filename"], disposition="inline")
    for item in letter.get("attachments", ()):
        message.add_attachment(*_content(item), filename=item["filename"])
    for number, part in enumerate(part for part in message.walk() if part.is_multipart()):
        part.set_boundary(f"=_{number}_")


def _content(item: Mapping[str, str]) -> tuple[bytes, str, str]:
    maintype, subtype = item["type"].split("/")
    return base64.b64decode(item["content"]), maintype, subtype


def _address(person: Mapping[str, str]) -> Address:
    return Address(person.get("name", ""), addr_spec=person["email"])
