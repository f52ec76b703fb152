"""Certificate: what a server certificate says of itself, for logs, metrics and the operator's verbs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """The first certificate of a PEM chain. `names` are its DNS names and addresses; `key_type` such as `RSA 2048`.

    `starts` and `expires` are seconds since the epoch; `chain` counts the certificates in the file.
    """

    file: str
    key_file: str
    names: tuple[str, ...]
    issuer: str
    key_type: str
    serial: str
    starts: float
    expires: float
    chain: int = 1

    def days_left(self, now: float) -> int:
        """Whole days until it expires; negative afterwards."""
        return int((self.expires - now) // _DAY)

    def unfit(self, now: float) -> str:
        """Why no client would believe it at this time; empty when it is valid."""
        if now >= self.expires:
            return "it has expired"
        if now < self.starts:
            return "it is not valid yet; look at its dates and at this machine's clock"
        return ""
