"""Inbox entry: a message of the sandbox's inbox as HTTP and `relay inbox` show it.

In: InboxMessage and its bytes, both from whoever sends mail. Out: values for JSON. Never raises for a message: where
its parts cannot be told apart, `problem` says why.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from relay.mail.errors import MessageSyntaxError
from relay.mail.message import HeaderField, first_value, header_block, header_fields, signature_tags
from relay.mail.mime import decode_words
from relay.mail.parts import take_apart
from relay.ports import InboxMessage


def entry(message: InboxMessage) -> dict[str, Any]:
    """What a list says of a message."""
    header = message.header
    return {
        "id": message.id,
        "received_at": datetime.fromtimestamp(message.received_at, UTC).isoformat(timespec="milliseconds"),
        "mail_from": message.mail_from,
        "rcpt_to": list(message.rcpt_to),
        "from": _decoded(header, "from"),
        "to": _decoded(header, "to"),
        "subject": _decoded(header, "subject"),
        "tls": message.tls,
        "size": message.size,
        "signed": signature_tags(header),
    }


def full_entry(message: InboxMessage, content: bytes) -> dict[str, Any]:
    """The entry with all header fields, bodies, and attachments by name and size."""
    headers = [[_name(field), field.text] for field in header_fields(header_block(content))]
    return entry(message) | {"headers": headers} | _parts(content)


def _name(field: HeaderField) -> str:
    """As its writer spelled it."""
    return field.raw.partition(b":")[0].decode("ascii").strip()


def _decoded(header: bytes, name: str) -> str | None:
    """The first field of that name with its encoded words (RFC 2047) decoded, in one line."""
    value = first_value(header, name)
    return None if value is None else decode_words(value)[0]


def _parts(content: bytes) -> dict[str, Any]:
    try:
        parts = take_apart(content)
    except MessageSyntaxError as error:
        return {"text": None, "html": None, "attachments": [], "problem": str(error)}
    return {
        "text": parts.text,
        "html": parts.html,
        "attachments": [
            {
                "filename": attachment.filename,
                "content_type": attachment.content_type,
                "content_id": attachment.content_id,
                "inline": attachment.inline,
                "size": len(attachment.content),
            }
            for attachment in parts.attachments
        ],
    }
