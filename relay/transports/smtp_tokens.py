"""AUTH with an access token: OAUTHBEARER, or XOAUTH2 where only that is offered.

In: what the peer offers, the user and a token. Out: the AUTH command, and the answer to a challenge that refuses.
Pure. Sources: RFC 7628 §3.1 and §3.2.3; Google and Microsoft, "SASL XOAUTH2".
"""

from __future__ import annotations

import base64

from relay.transports.smtp_client import Endpoint
from relay.transports.smtp_commands import Capabilities


def token_exchange(offer: Capabilities, endpoint: Endpoint, username: str, token: str) -> tuple[bytes, bytes] | None:
    """None where the peer offers neither."""
    if "OAUTHBEARER" in offer.auth:
        name = username.replace("=", "=3D").replace(",", "=2C")
        words = f"n,a={name},\x01host={endpoint.name}\x01port={endpoint.port}\x01auth=Bearer {token}\x01\x01"
        return _command("OAUTHBEARER", words), b"AQ==\r\n"
    if "XOAUTH2" in offer.auth:
        return _command("XOAUTH2", f"user={username}\x01auth=Bearer {token}\x01\x01"), b"\r\n"
    return None


def _command(mechanism: str, words: str) -> bytes:
    return f"AUTH {mechanism} {base64.b64encode(words.encode()).decode()}\r\n".encode("ascii")
