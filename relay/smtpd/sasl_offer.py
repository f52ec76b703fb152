"""Offer: which SASL mechanisms a session is offered, and the exchange for the one it chooses.

In: the session's facts. Out: names for EHLO and for AUTH, in the order they are listed, or an Exchange. What no
credential of this server could use is not listed. Source: RFC 4954 §3, RFC 5802 §6.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from relay.mail.session import Session
from relay.ports import CertificateBook, ScramBook, TokenVerifier
from relay.smtpd.sasl import Exchange, Steps, external, login, plain
from relay.smtpd.sasl_bearer import oauthbearer, xoauth2
from relay.smtpd.sasl_scram import scram

SCRAM: Final = "SCRAM-SHA-256"
SCRAM_PLUS: Final = "SCRAM-SHA-256-PLUS"
_PASSWORDS: Final = ("PLAIN", "LOGIN")
_TOKENS: Final = ("XOAUTH2", "OAUTHBEARER")


@dataclass(frozen=True, slots=True)
class Offer:
    """One server's. `scram_book` is None where SCRAM is off, `binds` False where it is not to bind the channel.

    `tokens` is None where no issuer is configured; `configuration` is the address of the only one's, for clients.
    `certificates` knows those of clients.
    """

    scram_book: ScramBook | None = None
    binds: bool = True
    tokens: TokenVerifier | None = None
    configuration: str = ""
    certificates: CertificateBook | None = None
    random_bytes: Callable[[int], bytes] = secrets.token_bytes

    def mechanisms(self, session: Session) -> Sequence[str]:
        """Their names, with and without channel binding (RFC 5802 §6): first with, for clients that take the first."""
        others = (_TOKENS if self.tokens is not None else ()) + self._by_certificate(session)
        if self.scram_book is None or not self.scram_book.offered():
            return (*_PASSWORDS, *others)
        bound = (SCRAM_PLUS,) if self._end_point(session) else ()
        return (*_PASSWORDS, *bound, SCRAM, *others)

    def _by_certificate(self, session: Session) -> tuple[str, ...]:
        """To who has one that stands for a credential."""
        tls = session.tls
        if tls is None or not tls.client_certificate or self.certificates is None:
            return ()
        return ("EXTERNAL",) if self.certificates.known(tls.client_certificate) else ()

    def exchange(self, session: Session, mechanism: str) -> Exchange:
        """`mechanism` is one of `mechanisms`."""
        return Exchange(self._steps(session, mechanism))

    def _steps(self, session: Session, mechanism: str) -> Steps:
        match mechanism:
            case "PLAIN":
                return plain()
            case "LOGIN":
                return login()
            case "XOAUTH2":
                return xoauth2()
            case "OAUTHBEARER":
                return oauthbearer(self.configuration)
            case "EXTERNAL":
                return external(session.tls.client_certificate if session.tls is not None else b"")
        assert self.scram_book is not None
        end_point = self._end_point(session)
        return scram(self.scram_book, end_point, self.random_bytes, plus=mechanism == SCRAM_PLUS)

    def _end_point(self, session: Session) -> bytes:
        return session.tls.end_point if session.tls is not None and self.binds else b""
