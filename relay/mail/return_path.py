"""Return paths: addresses of our own in MAIL FROM that tell which message, and which recipient, a bounce is about.

In: a message id and, where a transaction has one recipient, its index. Out: an address, and back. It is signed, so that
nobody can report a bounce of mail that never went to him; letters of any case are understood, for some hosts change it.
Source: VERP (D. J. Bernstein 1997), BATV (draft-levine-smtp-batv) for the signature.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import b32encode
from dataclasses import dataclass, field
from typing import Final

KEY_OCTETS: Final = 32
_SIGNATURE_OCTETS: Final = 10
_LOCAL = re.compile(r"r-([0-7][0-9a-f]{15})-([0-9]{0,6})-([a-z2-7]{16})\Z")


@dataclass(frozen=True, slots=True)
class About:
    """What an address means; `index` is None where it stands for all recipients of the message."""

    message_id: str
    index: int | None


@dataclass(frozen=True, slots=True)
class ReturnPaths:
    """`domain` in A-labels and lower case; `key` holds KEY_OCTETS octets."""

    domain: str
    key: bytes = field(repr=False)

    def of(self, message_id: str, index: int | None) -> str:
        about = f"{message_id}-{'' if index is None else index}"
        return f"r-{about}-{self._signature(about)}@{self.domain}"

    def read(self, address: str) -> About | None:
        """None for an address that is not ours, or was never given out."""
        local, _, domain = address.lower().rpartition("@")
        match = _LOCAL.match(local)
        if match is None or domain != self.domain:
            return None
        about = f"{match[1]}-{match[2]}"
        if not hmac.compare_digest(self._signature(about), match[3]):
            return None
        return About(match[1], int(match[2]) if match[2] else None)

    def _signature(self, about: str) -> str:
        digest = hmac.digest(self.key, about.encode(), hashlib.sha256)
        return b32encode(digest[:_SIGNATURE_OCTETS]).decode().lower()
