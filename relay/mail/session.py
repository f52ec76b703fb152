"""Session: facts about one client connection, as every room above the listener sees them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TlsFacts:
    """What was negotiated: `TLSv1.3`, `TLS_AES_256_GCM_SHA384`, 256 bits."""

    version: str
    cipher: str
    bits: int


@dataclass(frozen=True, slots=True)
class SenderRights:
    """Which senders a credential may use. Empty on both counts means any sender."""

    addresses: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()

    @property
    def unrestricted(self) -> bool:
        return not self.addresses and not self.domains

    def allow(self, address: str) -> bool:
        """True when `address` (already parsed) is listed, or its domain is. Local parts compare as written."""
        if self.unrestricted:
            return True
        local, _, domain = address.rpartition("@")
        domain = domain.lower()
        return domain in self.domains or f"{local}@{domain}" in self.addresses

    def __str__(self) -> str:
        return ", ".join((*self.addresses, *(f"@{domain}" for domain in self.domains))) or "any sender"


@dataclass(frozen=True, slots=True)
class Login:
    """An authenticated client: the account (tenant) its mail belongs to and what the credential may do."""

    account: str
    username: str
    rights: SenderRights = SenderRights()


@dataclass(frozen=True, slots=True)
class Session:
    """One connection. `protocol` is the RFC 3848 word: SMTP, ESMTP, ESMTPS, ESMTPA, ESMTPSA (or HTTP)."""

    peer: str
    peer_port: int
    helo: str
    protocol: str
    listener: str
    tls: TlsFacts | None = None
    login: Login | None = None
