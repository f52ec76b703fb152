"""From an address to a session ready for MAIL: connect, greeting, EHLO, STARTTLS, EHLO again, AUTH.

In: an Endpoint. Out: an SmtpConnection, or a Refusal that says whose fault it is. Never raises for what a peer does.
Sources: RFC 5321 §3.1-3.2, RFC 3207 (STARTTLS), RFC 7435 (opportunistic), RFC 4954 and RFC 4616 (AUTH PLAIN).
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, Protocol

from relay.mail.outcome import Deferred, Fault
from relay.mail.reply import Reply, printable, reply
from relay.settings import TimeoutSettings
from relay.transports.smtp_client import Endpoint, SmtpConnection, Sweeper
from relay.transports.smtp_commands import Capabilities, flight
from relay.transports.smtp_reply import PeerReply
from relay.transports.smtp_tokens import token_exchange

_NO_STARTTLS: Final = reply(451, "4.7.4", "TLS is required, but the peer does not offer STARTTLS")
_NO_TOKEN_AUTH: Final = reply(451, "4.7.0", "Peer offers neither AUTH OAUTHBEARER nor XOAUTH2 on this connection")
_NO_AUTH: Final = reply(451, "4.7.0", "Peer offers neither AUTH PLAIN nor AUTH LOGIN on this connection")


class Tokens(Protocol):
    """Access tokens that come and go."""

    async def token(self) -> str | Deferred:
        """The one in force, or what becomes of mail without one."""
        ...

    def refuse(self, word: str) -> None:
        """The server takes it no more."""
        ...


@dataclass(frozen=True, slots=True)
class Credentials:
    """What AUTH sends: a password, or a token. Neither shows in a repr."""

    username: str
    password: str = field(default="", repr=False)
    tokens: Tokens | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why there is no session. `tls_broken`: the same host may still work in clear text.

    `insecure`: it is there, but cannot be spoken to as the message requires.
    """

    reply: Reply
    fault: Fault = Fault.HOST
    tls_broken: bool = False
    insecure: bool = False


@dataclass(slots=True)
class Dialer:
    """Opens sessions. `hostname` is what EHLO says; `source_address` the local address, empty for any.

    `verifying` gives the context for endpoints of the mode `verify`.
    """

    hostname: str
    timeouts: TimeoutSettings
    context: ssl.SSLContext
    sweeper: Sweeper
    credentials: Credentials | None = None
    source_address: str = ""
    verifying: Callable[[], ssl.SSLContext] | None = None

    async def open(self, endpoint: Endpoint) -> SmtpConnection | Refusal:
        """A session, or why not. Opportunistic TLS that breaks is given up for a fresh connection in clear text."""
        session = await self._open(endpoint, with_tls=endpoint.tls != "off")
        if isinstance(session, Refusal) and session.tls_broken and endpoint.tls == "opportunistic":
            session = await self._open(endpoint, with_tls=False)
        return session

    async def _open(self, endpoint: Endpoint, *, with_tls: bool) -> SmtpConnection | Refusal:
        connection = await self._connect(endpoint)
        if isinstance(connection, Refusal):
            return connection
        try:
            refusal = await self._prepare(connection, with_tls=with_tls)
        except BaseException:
            connection.end(reply(451, "4.3.0", "Delivery was interrupted"))
            raise
        if refusal is None:
            return connection
        connection.quit()
        return refusal

    async def _connect(self, endpoint: Endpoint) -> SmtpConnection | Refusal:
        loop = asyncio.get_running_loop()
        implicit = endpoint.tls == "implicit"
        try:
            async with asyncio.timeout(self.timeouts.connect):
                _, connection = await loop.create_connection(
                    lambda: SmtpConnection(endpoint, self.timeouts, self.sweeper, loop),
                    endpoint.address,
                    endpoint.port,
                    local_addr=(self.source_address, 0) if self.source_address else None,
                    ssl=self.context if implicit else None,
                    server_hostname=endpoint.name if implicit else None,
                )
        except TimeoutError:
            return Refusal(reply(451, "4.4.1", f"Timed out connecting to {endpoint}"))
        except ssl.SSLError as error:
            return Refusal(reply(451, "4.7.5", f"TLS with {endpoint} failed: {printable(str(error), 200)}"))
        except (OSError, UnicodeError) as error:
            return Refusal(reply(451, "4.4.1", f"Cannot connect to {endpoint}: {printable(str(error), 200)}"))
        if implicit:
            connection.note_tls()
        return connection

    async def _prepare(self, connection: SmtpConnection, *, with_tls: bool) -> Refusal | None:
        refusal = _refused(connection, await connection.banner())
        if refusal is None:
            refusal = await self._ehlo(connection)
        if refusal is None and with_tls and connection.tls is None:
            refusal = await self._secure(connection)
        if refusal is None and self.credentials is not None:
            login = self._authenticate if self.credentials.tokens is None else self._authenticate_by_token
            refusal = await login(connection, self.credentials)
        return refusal

    async def _ehlo(self, connection: SmtpConnection) -> Refusal | None:
        replies = await connection.exchange(flight([f"EHLO {self.hostname}"]), ["EHLO"])
        if connection.trouble is None and replies and replies[0].code >= 500:
            # RFC 5321 §3.2: a server older than EHLO. It offers nothing.
            replies = await connection.exchange(flight([f"HELO {self.hostname}"]), ["HELO"])
            connection.capabilities = Capabilities()
            return _refused(connection, replies)
        if replies and replies[0].positive:
            connection.capabilities = Capabilities.parse(replies[0])
        return _refused(connection, replies)

    async def _secure(self, connection: SmtpConnection) -> Refusal | None:
        required = connection.endpoint.tls != "opportunistic"
        verify = connection.endpoint.tls == "verify"
        if not connection.capabilities.starttls:
            return Refusal(_NO_STARTTLS, insecure=verify) if required else None
        replies = await connection.exchange(b"STARTTLS\r\n", ["STARTTLS"])
        trouble = connection.trouble
        if trouble is not None:
            # Replies after the 220 are an attack (RFC 3207 §6) and 421 is a farewell: neither is an invitation to
            # go on in clear text. Everything else is a peer whose TLS does not work.
            return Refusal(trouble, tls_broken=not replies)
        if not replies[0].positive:
            insecure = verify and replies[0].code >= 500
            return Refusal(replies[0].to_reply(), insecure=insecure) if required else None
        context = self.verifying() if verify and self.verifying is not None else self.context
        await connection.start_tls(context, _server_name(connection.endpoint.name))
        if connection.trouble is not None:
            return Refusal(connection.trouble, tls_broken=True, insecure=verify and connection.untrusted)
        return await self._ehlo(connection)

    async def _authenticate(self, connection: SmtpConnection, credentials: Credentials) -> Refusal | None:
        offered = connection.capabilities.auth
        user, password = credentials.username.encode(), credentials.password.encode()
        if "PLAIN" in offered:
            token = base64.b64encode(b"\0" + user + b"\0" + password)
            replies = await connection.exchange(b"AUTH PLAIN " + token + b"\r\n", ["AUTH"])
        elif "LOGIN" in offered:
            replies = await connection.exchange(b"AUTH LOGIN\r\n", ["AUTH"])
            for word in (user, password):
                if connection.trouble is None and replies[0].code // 100 == 3:
                    replies = await connection.exchange(base64.b64encode(word) + b"\r\n", ["AUTH"])
        else:
            return Refusal(_NO_AUTH, Fault.ROUTE)
        refusal = _refused(connection, replies)
        if refusal is not None and replies and replies[0].code >= 500:
            return Refusal(refusal.reply, Fault.ROUTE)
        return refusal

    async def _authenticate_by_token(self, connection: SmtpConnection, credentials: Credentials) -> Refusal | None:
        """A token that is refused is renewed once: its life may have ended before the time that was said."""
        refusal = await self._token_login(connection, credentials)
        if refusal is not None and refusal.reply.permanent and connection.trouble is None:
            refusal = await self._token_login(connection, credentials)
        return refusal

    async def _token_login(self, connection: SmtpConnection, credentials: Credentials) -> Refusal | None:
        assert credentials.tokens is not None
        word = await credentials.tokens.token()
        if isinstance(word, Deferred):
            return Refusal(word.reply, word.fault)
        exchange = token_exchange(connection.capabilities, connection.endpoint, credentials.username, word)
        if exchange is None:
            return Refusal(_NO_TOKEN_AUTH, Fault.ROUTE)
        command, dismissal = exchange
        replies = await connection.exchange(command, ["AUTH"])
        if connection.trouble is None and replies and replies[0].code // 100 == 3:
            # The challenge says why not; the refusal comes after an answer to it (RFC 7628 §3.2.3).
            replies = await connection.exchange(dismissal, ["AUTH"])
        refusal = _refused(connection, replies)
        if refusal is None or not replies or replies[0].code < 500:
            return refusal
        credentials.tokens.refuse(word)
        return Refusal(refusal.reply, Fault.ROUTE)


def _refused(connection: SmtpConnection, replies: list[PeerReply]) -> Refusal | None:
    """None when the one awaited reply is positive and the connection stands."""
    if replies and not replies[0].positive:
        return Refusal(replies[0].to_reply())
    return Refusal(connection.trouble) if connection.trouble is not None else None


def _server_name(name: str) -> str | None:
    """The SNI for a host name; an address has none (RFC 6066 §3)."""
    try:
        ip_address(name)
    except ValueError:
        return name
    return None
