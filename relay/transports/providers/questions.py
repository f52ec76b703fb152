"""What providers that are asked whether they have a message have in common: what it is known by there.

In: a message, an answer. Out: its name, entries; CallbackError. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from relay.mail.message import first_value, header_block
from relay.transports.providers.base import CallbackError

MARK: Final = "sendrelay"
"""Under which the relay's id of the message stands in a vendor's metadata, which nobody who gets the mail sees."""
CLOCKS: Final = 600.0
"""Seconds by which clocks may differ."""

_MESSAGE_ID: Final = re.compile(r"<([!-;=?-~]{1,900})>")


def marked(metadata: Mapping[str, str], message_id: str, most: int) -> dict[str, str]:
    """With the relay's id, where there is room for one more; what the author gave stays as it is."""
    return {**metadata, MARK: message_id} if bears_mark(metadata, most) else dict(metadata)


def bears_mark(metadata: Collection[str], most: int) -> bool:
    """Whether a message with this metadata of its own is found by the relay's id."""
    return len(metadata) < most and MARK not in metadata


def message_id_of(content: bytes, withheld: Collection[str]) -> str:
    """The Message-ID without its brackets, `""` where there is none, or none that goes along."""
    if "message-id" in {name.lower() for name in withheld}:
        return ""
    found = _MESSAGE_ID.search(first_value(header_block(content), "message-id") or "")
    return found[1] if found is not None else ""


def demanded(entry: object, name: str) -> Any:
    """What every entry says. Raises CallbackError where one does not: it might be the message."""
    if not isinstance(entry, dict) or name not in entry:
        raise CallbackError(f"an entry of the list has no {name!r}")
    return entry[name]
