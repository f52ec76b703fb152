"""TLS for connections that we open: contexts and the facts of what was negotiated.

Opportunistic TLS accepts any certificate, for the alternative is clear text (RFC 7435 §3, RFC 3207 §4.1);
a smarthost's certificate is verified together with its name (RFC 8314 §5.1).
Raises SettingsError where a CA file cannot be used.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

from relay.mail.errors import SettingsError
from relay.mail.session import TlsFacts


def unverified_context() -> ssl.SSLContext:
    """TLS 1.2 or later with any certificate. Old ciphers are allowed: they still beat clear text."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("DEFAULT:@SECLEVEL=1")
    return context


def verifying_context(ca_file: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or later; chain and host name are checked against `ca_file`, or the system's CAs when None."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or "no PEM certificates in it"
            raise SettingsError(f"{ca_file}: cannot use it as ca_file ({reason}); give a PEM file of CAs") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def tls_facts(transport: asyncio.BaseTransport) -> TlsFacts | None:
    """What was negotiated on `transport`, or None in clear text."""
    connection = transport.get_extra_info("ssl_object")
    cipher = connection.cipher() if connection is not None else None
    if cipher is None:
        return None
    name, _, bits = cipher
    return TlsFacts(connection.version() or "", name, bits)
