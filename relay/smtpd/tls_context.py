"""The policy for TLS with clients: one function that makes every context of the front door.

Out: a context without a certificate. Versions from 1.2 (RFC 8996 forbids older ones), forward secrecy and authenticated
encryption only (RFC 9325 §4), no compression, no renegotiation. Curves are OpenSSL's own list, X25519 first: `ssl` can
name a single one only, which would be a worse list.
"""

from __future__ import annotations

import ssl
from typing import Final

from relay.settings import TlsSettings
from relay.smtpd.end_point import ServerContext

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
_OPTIONS: Final = ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def new_context() -> ServerContext:
    context = ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= _OPTIONS
    context.set_ciphers(_CIPHERS)
    # A client comes back over one connection: a second ticket is octets for nothing.
    context.num_tickets = 1
    return context


def demand(context: ssl.SSLContext, settings: TlsSettings) -> None:
    """The oldest version of handshakes that begin from now on."""
    context.minimum_version = _VERSIONS[settings.minimum]
