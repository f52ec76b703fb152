"""Session: facts about one client connection, as every room above the listener sees them."""

from __future__ import annotations

from dataclasses import field

from relay.mail.frozen import frozen


@frozen
class TlsFacts:
    """What was negotiated: `TLSv1.3`, `TLS_AES_256_GCM_SHA384`, 256 bits.

    `end_point` is the digest of our certificate that a client may bind its login to (RFC 5929 §4); empty: unknown.
    `client_certificate` is the client's (DER), verified; empty: it showed none.
    """

    version: str
    cipher: str
    bits: int
    end_point: bytes = b""
    client_certificate: bytes = field(default=b"", repr=False)


@frozen
class SenderRights:
    """Which senders a credential may use. Empty on both counts means any sender.

    `priority`: the highest it may ask for (RFC 6710).
    """

    addresses: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    priority: int = 0

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


@frozen
class Login:
    """An authenticated client: the account (tenant) its mail belongs to and what the credential may do.

    `tolerate`: what its client may do wrong, in the words of `listener.tolerate`. `bound`: no password was asked for,
    where the client comes from says who it is (a device, a user of this machine).
    """

    account: str
    username: str
    rights: SenderRights = SenderRights()
    tolerate: tuple[str, ...] = ()
    bound: bool = False


@frozen
class Session:
    """One connection. `protocol` is the RFC 3848 word: SMTP, ESMTP, ESMTPS, ESMTPA, ESMTPSA (or HTTP).

    `peer` is `local`, and `uid` the user at the other end, on a Unix socket.
    """

    peer: str
    peer_port: int
    helo: str
    protocol: str
    listener: str
    tls: TlsFacts | None = None
    login: Login | None = None
    uid: int | None = None
