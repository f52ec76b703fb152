"""Sandbox MX: a real SMTP server on loopback that takes mail for every domain, keeps it, and fails on request.

In: SMTP from our own delivery client. Out: messages in an InboxWriter, replies as `sandbox_rules` says. Built on
aiosmtpd as it is (so our front door's code is not what judges our client), with its DATA reader replaced: stock, it
refuses lines over 1,001 octets and holds the loop while it splits large mail. For the sandbox profile only: it keeps
whatever anyone on this machine sends. Raises OperatorError for a port that cannot be bound.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

from aiosmtpd.smtp import SMTP, Envelope, Session

from relay.mail.reply import Reply, printable, reply
from relay.ports import Clock, InboxMessage, InboxWriter
from relay.smtpd.listener import bind
from relay.smtpd.protocol import tls_facts
from relay.smtpd.sandbox_rules import GREYLISTED, TLS_BREAKS_NEXT, Rule, rule_for

_READ_LIMIT: Final = 262_144
_MOST_GREYLISTED: Final = 10_000
_CANCELLED_WITHIN: Final = 10.0
_SENDER_OK: Final = reply(250, "2.1.0", "Ok")
_RECIPIENT_OK: Final = reply(250, "2.1.5", "Ok")
_INTERNAL: Final = reply(451, "4.3.0", "Internal error, try again later")
_TOO_BIG: Final = reply(552, "5.3.4", "Message is larger than the SIZE this server announces")
_BAD_ADDRESS: Final = reply(553, "5.1.3", "Address is not UTF-8")
# A TLS record with the fatal alert handshake_failure, in place of a ServerHello (RFC 8446 §6).
_HANDSHAKE_FAILURE: Final = b"\x15\x03\x03\x00\x02\x02\x28"


class SandboxMx:
    """The server; `port` is known once started. Times are seconds."""

    def __init__(
        self,
        inbox: InboxWriter,
        tls: ssl.SSLContext | None,
        clock: Clock,
        on_error: Callable[[BaseException], None],
        *,
        hostname: str = "mx.sandbox.example",
        address: str = "127.0.0.1",
        port: int = 0,
        size_limit: int = 134_217_728,
        silence: float = 330.0,
        slowness: float = 5.0,
    ) -> None:
        """`silence` is how long `timeout` says nothing before it hangs up, `slowness` how late `slow` answers."""
        self.inbox = inbox
        self.tls = tls
        self.clock = clock
        self.on_error = on_error
        self.hostname = hostname
        self.size_limit = size_limit
        self.silence = silence
        self.slowness = slowness
        self.connections: set[SandboxSmtp] = set()
        self._address = address
        self._port = port
        self._server: asyncio.Server | None = None
        self._greylisted: dict[tuple[str | None, str], None] = {}
        self._broken_handshakes: set[Any] = set()

    @property
    def port(self) -> int:
        assert self._server is not None, "start() comes first"
        return int(self._server.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen in the running loop. Raises OperatorError."""
        listening = bind(self._address, self._port, "sandbox MX")
        self._server = await asyncio.get_running_loop().create_server(lambda: SandboxSmtp(self), sock=listening)

    async def stop(self) -> None:
        """Close the port and cut what is open."""
        if self._server is not None:
            self._server.close()
            for connection in tuple(self.connections):
                connection.cut()
            await self._server.wait_closed()

    # --- what outlives a connection ------------------------------------------------------------------------

    def greylist(self, sender: str | None, recipient: str) -> bool:
        """True the first time this pair is seen."""
        pair = (sender, recipient.lower())
        if pair in self._greylisted:
            return False
        if len(self._greylisted) >= _MOST_GREYLISTED:
            del self._greylisted[next(iter(self._greylisted))]
        self._greylisted[pair] = None
        return True

    def break_next_handshake(self, peer: Any) -> None:
        """`peer` is aiosmtpd's: address and port."""
        self._broken_handshakes.add(peer[0])

    def breaks_handshake(self, peer: Any) -> bool:
        """True once after `break_next_handshake` for the same address."""
        if peer[0] in self._broken_handshakes:
            self._broken_handshakes.remove(peer[0])
            return True
        return False


class SandboxSmtp(SMTP):
    """One connection."""

    def __init__(self, mx: SandboxMx) -> None:
        # aiosmtpd keeps these in a dict of the class that every new connection clears for all others.
        self.command_size_limits = defaultdict(lambda: 4096)
        self.line_length_limit = _READ_LIMIT
        super().__init__(
            _Handler(mx),
            data_size_limit=mx.size_limit,
            enable_SMTPUTF8=True,
            hostname=mx.hostname,
            ident="ESMTP sandbox",
            tls_context=mx.tls,
            timeout=mx.silence + 30.0,
            loop=asyncio.get_running_loop(),
        )
        self._mx = mx

    def connection_made(self, transport: Any) -> None:
        self._mx.connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._mx.connections.discard(self)
        super().connection_lost(error)

    @property
    def _bare_transport(self) -> Any:
        """The TCP transport, also under TLS."""
        return self._original_transport or self.transport

    def cut(self) -> None:
        """End the connection without a word; no TLS close_notify either."""
        if self._bare_transport is not None:
            self._bare_transport.abort()

    def reset(self) -> None:
        """End the connection with a TCP RST."""
        if self._bare_transport is not None:
            sock = self._bare_transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._bare_transport.abort()

    async def say_and_close(self, answer: Reply) -> None:
        await self.push(str(answer))
        if self.transport is not None:
            self.transport.close()

    async def smtp_STARTTLS(self, arg: str) -> None:  # noqa: N802 -- aiosmtpd finds commands by such names
        if arg or self.session is None or not self._mx.breaks_handshake(self.session.peer):
            await super().smtp_STARTTLS(arg)
            return
        await self.push("220 Ready to start TLS")
        # Closing with the ClientHello unread would send a RST that may overtake the alert.
        record = await self._reader.readexactly(5)
        await self._reader.readexactly(int.from_bytes(record[3:5], "big"))
        self._bare_transport.write(_HANDSHAKE_FAILURE)
        self._bare_transport.close()

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802 -- aiosmtpd finds commands by such names
        if await self.check_helo_needed():
            return
        assert self.envelope is not None
        if arg or not self.envelope.rcpt_tos:
            await self.push("501 5.5.4 Syntax: DATA" if arg else "503 5.5.1 Error: need RCPT command")
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        content = await self._read_content()
        status = str(_TOO_BIG)
        if content is not None:
            self.envelope.content = self.envelope.original_content = content
            status = await self._call_handler_hook("DATA")
        self.envelope = self._create_envelope()
        await self.push(status)

    async def _read_content(self) -> bytes | None:
        """The message without its final dot and transparency dots; None when larger than SIZE (all of it is read).

        Only CRLF.CRLF ends it (RFC 5321 §2.3.8, §4.5.2); lines may have any length.
        """
        pieces: list[bytes] = []
        size, end = 0, b"\r\n"
        while end != b"\r\n.\r\n":
            try:
                piece = await self._reader.readuntil(b".\r\n")
            except asyncio.LimitOverrunError as error:
                piece = await self._reader.readexactly(error.consumed)
            self._reset_timeout()
            size += len(piece)
            if size <= self._mx.size_limit + 3:
                pieces.append(piece)
            else:
                pieces.clear()
            end = (end + piece[-5:])[-5:]
        if size > self._mx.size_limit + 3:
            return None
        return (b"\r\n" + b"".join(pieces)[:-3]).replace(b"\r\n.", b"\r\n")[2:]


class _Handler:
    """aiosmtpd's hooks."""

    def __init__(self, mx: SandboxMx) -> None:
        self._mx = mx
        self._rule: Rule | None = None

    async def handle_EHLO(  # noqa: N802 -- aiosmtpd finds hooks by such names
        self, server: SandboxSmtp, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = printable(hostname, 255)
        kept = [line for line in responses if not line[4:].startswith(("AUTH", "HELP"))]
        return [*kept, "250-PIPELINING", "250 ENHANCEDSTATUSCODES"]

    async def handle_MAIL(  # noqa: N802 -- as above
        self, server: SandboxSmtp, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self._rule = None
        if not _is_utf8(address):
            return str(_BAD_ADDRESS)
        envelope.mail_from = address
        return str(_SENDER_OK)

    async def handle_RCPT(  # noqa: N802 -- as above
        self, server: SandboxSmtp, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if not _is_utf8(address):
            return str(_BAD_ADDRESS)
        rule = rule_for(address)
        refusal = None
        if rule is not None and rule.at_data:
            self._rule = self._rule or rule
        elif rule is not None:
            refusal = await self._follow(rule, server, session, envelope, address)
        if refusal is None:
            envelope.rcpt_tos.append(address)
        return str(refusal or _RECIPIENT_OK)

    async def handle_DATA(self, server: SandboxSmtp, session: Session, envelope: Envelope) -> str:  # noqa: N802 -- as above
        if self._rule is not None:
            refusal = await self._follow(self._rule, server, session, envelope, "")
            if refusal is not None:
                return str(refusal)
        content = envelope.original_content or b""
        tls = tls_facts(server.transport) if server.transport else None
        number = self._mx.inbox.add(
            InboxMessage(
                id=0,
                received_at=self._mx.clock.now(),
                mail_from=None if envelope.mail_from == "<>" else envelope.mail_from,
                rcpt_to=tuple(envelope.rcpt_tos),
                tls=tls.version if tls else None,
                cipher=tls.cipher if tls else None,
                helo=session.host_name or "",
                size=len(content),
            ),
            content,
        )
        return str(reply(250, "2.0.0", f"Ok: in the inbox as {number}"))

    async def handle_exception(self, error: Exception) -> str:
        """A fault of ours; the client only learns that it may try again."""
        self._mx.on_error(error)
        return str(_INTERNAL)

    async def _follow(
        self, rule: Rule, server: SandboxSmtp, session: Session, envelope: Envelope, address: str
    ) -> Reply | None:
        """Do as the rule says: a refusal, None to accept, or never come back because the connection is gone."""
        mx = self._mx
        if rule.action == "greylist":
            return GREYLISTED if mx.greylist(envelope.mail_from, address) else None
        if rule.action == "tls-broken":
            if session.ssl is None:
                return None
            mx.break_next_handshake(session.peer)
            return TLS_BREAKS_NEXT
        if rule.action == "slow":
            await asyncio.sleep(mx.slowness)
            return None
        if rule.answer is not None and rule.answer.code != 421:
            return rule.answer
        await _end(rule, server, mx.silence)
        raise ConnectionResetError("ended as the recipient's local part asks")


async def _end(rule: Rule, server: SandboxSmtp, silence: float) -> None:
    """End the connection; returns only when that took no notice of it."""
    if rule.action == "timeout":
        await asyncio.sleep(silence)
    if rule.answer is not None:
        await server.say_and_close(rule.answer)
    elif rule.action == "reset":
        server.reset()
    else:
        server.cut()
    # Losing the connection cancels this task; aiosmtpd has no other way to answer nothing.
    await asyncio.sleep(_CANCELLED_WITHIN)


def _is_utf8(address: str) -> bool:
    """aiosmtpd lets octets that are no UTF-8 through as surrogates."""
    try:
        address.encode()
    except UnicodeEncodeError:
        return False
    return True
