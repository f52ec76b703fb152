"""Terms: what the configuration says of ways out, as an attempt needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from relay.delivery.verp import Verp
from relay.settings import Settings


@dataclass(frozen=True, slots=True)
class Terms:
    """By candidate: whose header fields it understands, and the senders whose mail alone it takes.

    `verp` is None where bounces go to whom the client named. `returned_size`: octets up to which a notice returns all.
    """

    dialects: Mapping[str, str]
    sender_domains: Mapping[str, tuple[str, ...]]
    verp: Verp | None
    returned_size: int

    @classmethod
    def of(cls, settings: Settings, return_key: bytes) -> Terms:
        dialects = {f"smarthost:{name}": each.dialect for name, each in settings.smarthost.items()}
        verp = Verp.of(settings, return_key)
        return cls(dialects, settings.sender_domains, verp, settings.delivery.returned_size)
