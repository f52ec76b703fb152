"""What providers that take the message's bytes have in common: fields taken out, limits, groups of recipients.

In: a message and its envelope. Out: its bytes without some fields, a Refusal, batches of recipients. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from relay.mail import message
from relay.mail.message import header_block
from relay.ports import DeliveryRequest
from relay.transports.providers.base import Capabilities, Refusal
from relay.transports.providers.structured import refused_addresses, refused_size

_BLIND: Final = ("bcc", "resent-bcc")


def without_fields(content: bytes, names: Collection[str], prefixes: tuple[str, ...] = ()) -> bytes:
    """The message without the fields of these names (lower case), and without Bcc; every other octet stays."""
    names = {*_BLIND, *names}
    header = header_block(content)
    kept = message.without_fields(header, lambda name: name in names or (bool(prefixes) and name.startswith(prefixes)))
    return kept + content[len(header) :] if len(kept) < len(header) else content


def refused_raw(title: str, request: DeliveryRequest, can: Capabilities, size: int) -> Refusal | None:
    """`size`: octets of what is sent."""
    addresses = [recipient.address for recipient in request.recipients]
    return refused_addresses(title, addresses) or refused_size(title, can, size)


def groups(request: DeliveryRequest, most: int) -> Iterator[Sequence[str]]:
    """The envelope's recipients, at most so many a call."""
    addresses = [recipient.address for recipient in request.recipients]
    for start in range(0, len(addresses), most):
        yield addresses[start : start + most]
