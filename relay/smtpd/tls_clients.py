"""Contexts for listeners that ask clients for a certificate (`client_ca`), which then log in by AUTH EXTERNAL.

In: the CA file, and the pairs the server shows. Out: a context. A client may have no certificate; one that is not of
these CAs, has ended or is for another use breaks the handshake off. No session is resumed by a ticket: it would bring a
certificate past the CAs of the listener it comes back to. Raises SettingsError for a CA file that cannot be used.
Source: RFC 8446 §4.3.2, RFC 4422 appendix A.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path

from relay.mail.errors import SettingsError
from relay.smtpd.tls_context import new_context
from relay.smtpd.tls_names import ServedNames
from relay.smtpd.tls_pair import Pair


def read_client_ca(path: Path) -> str:
    """The CAs of a PEM file, tried out."""
    try:
        pem = path.read_text(encoding="ascii")
        ask(new_context(), pem)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no PEM certificate in it"
        raise SettingsError(f"client_ca: cannot use {path} ({reason}); name a PEM file of CAs") from error
    return pem


def ask(context: ssl.SSLContext, pem: str) -> None:
    """Raises ssl.SSLError, an OSError, for what are no CAs."""
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=pem)


def client_context(pairs: Sequence[Pair], pem: str) -> ssl.SSLContext:
    """Shows the pair a client's host name asks for, and asks for the client's own."""
    front = new_context()
    front.num_tickets = 0
    front.options |= ssl.OP_NO_TICKET
    ask(front, pem)
    pairs[0].load_into(front)
    # OpenSSL looks for the CAs in the context that was chosen by name, so each of them has to know them.
    names = ServedNames(pairs, {}, lambda context: ask(context, pem))

    def choose(secured: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        secured.context = names.find(name)

    front.sni_callback = choose
    return front
