"""Old TLS: a server's context opened for clients that know no TLS 1.2. Only ever for an isolated listener.

In: a context. Out: the same, from TLS 1.0 on, with the ciphers such clients have; newer clients
still get the newest. OpenSSL signs TLS 1.0 and 1.1 with SHA-1 at security level 0 alone. RFC 8996 forbids all of this.
"""

from __future__ import annotations

import ssl
from typing import Final

_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES:RSA+AES:!aNULL:!eNULL:@SECLEVEL=0"


def opened(context: ssl.SSLContext) -> ssl.SSLContext:
    # What OpenSSL was built with; SSLv3 stays off, by `ssl`'s own default and by this option.
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers(_CIPHERS)
    return context
