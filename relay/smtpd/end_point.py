"""The channel binding `tls-server-end-point`: a digest of our certificate, to which SCRAM-SHA-256-PLUS ties a login.

In: a certificate as PEM. Out: its digest, empty where the RFC defines none (a signature without a hash, as Ed25519).
Python's ssl gives no `tls-exporter`, and `tls-unique` cannot be told from the broken one (RFC 9266 §1); so this is the
only binding there is here. Raises ValueError for what is no certificate. Source: RFC 5929 §4.1.
"""

from __future__ import annotations

import ssl
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes

_WEAK: Final = (hashes.MD5, hashes.SHA1)


class ServerContext(ssl.SSLContext):
    """A server's context that knows the digest of its certificate."""

    end_point: bytes = b""


def end_point_of(pem: bytes) -> bytes:
    """The digest of the first certificate in `pem`."""
    certificate = x509.load_pem_x509_certificate(pem)
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        algorithm = None
    if algorithm is None:
        return b""
    return certificate.fingerprint(hashes.SHA256() if isinstance(algorithm, _WEAK) else algorithm)
