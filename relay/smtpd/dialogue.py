"""Dialogue: one SMTP session as a state machine without I/O.

Bytes go in by `receive`; replies come out in `take_output`, corked so that a pipelining client gets them in one
write. Where an answer needs time (a password, SPF, the commit), `waiting` holds the work and nothing more is read
from the buffer until `resume` brings the reply. Any bytes lead to a reply or to `closing`, never to an exception.
"""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar, Final

from relay.mail.reply import Reply, printable, reply
from relay.mail.session import Login, Session, TlsFacts
from relay.settings import LimitSettings, ListenerSettings
from relay.smtpd import replies
from relay.smtpd.commands import POSTMASTER, CommandError, parse_mail, parse_rcpt
from relay.smtpd.framing import Framing
from relay.smtpd.hooks import Answer, Hooks, PeerEnd, StartTls, Work
from relay.smtpd.sasl import MECHANISMS, Credentials, Exchange, SaslError
from relay.smtpd.transaction import MailTransaction

COMMAND_LINE: Final = 2048  # RFC 5321 §4.5.3.1.4 asks for 512 plus what the extensions add
AUTH_LINE: Final = 12_288  # RFC 4954 §4
OUTPUT: Final = 65_536  # replies kept for a client that does not read them, before its commands wait

_FOREIGN_VERBS: Final = frozenset((b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"DELETE", b"PATCH"))
# No command begins like this: TLS in the clear, a binary protocol, message text after a DATA that was refused.
_FOREIGN_FIRST: Final = frozenset(range(256)) - frozenset(string.ascii_letters.encode() + b" \t\r\n")


class Dialogue:
    """One session. `session` holds the facts; it is replaced, never altered, when they change."""

    def __init__(
        self, hooks: Hooks, listener: ListenerSettings, limits: LimitSettings, hostname: str, session: Session
    ) -> None:
        self._hooks = hooks
        self._listener = listener
        self._limits = limits
        self._hostname = hostname
        self.session = session
        self.waiting: Work | StartTls | None = None
        self.closing = False
        self.rejections: list[Reply] = []
        self.transaction: MailTransaction | None = None
        self._framing = Framing(
            limits.message_size,
            hooks.hold,
            hooks.incoming,
            fix_bare_lf=listener.bare_lf == "fix",
            longest_header=limits.header_size,
        )
        self._output: list[bytes] = []
        self._output_size = 0
        self._mode: Callable[[], bool] = self._read_command
        self._exchange: Exchange | None = None
        self.errors = 0
        self.peer_end: Callable[[], PeerEnd] = lambda: PeerEnd.OPEN
        self._blind = False
        self._auth_failures = 0

    # --- what the driver calls -----------------------------------------------------------------------------

    def greet(self) -> None:
        self._write(f"220 {self._hostname} ESMTP Sendrelay\r\n".encode("ascii", "replace"))

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer and go as far as possible."""
        self._framing.add(data)
        self._run()

    def go_on(self) -> None:
        """Read on after `stalled`, once the output is on its way."""
        self._run()

    def resume(self, result: Reply | Login) -> None:
        """The result of the Work in `waiting`; goes on with what the client pipelined meanwhile."""
        work, self.waiting = self.waiting, None
        assert isinstance(work, Work)
        work.then(result)
        self._run()

    def tls_started(self, facts: TlsFacts) -> None:
        """RFC 3207 §4.2: everything known before the handshake is forgotten."""
        self.waiting = None
        self.session = replace(self.session, tls=facts, helo="", protocol="SMTP", login=None)
        self.transaction = None
        self._framing.clear()

    def take_output(self) -> bytes:
        output = b"".join(self._output)
        self._output.clear()
        self._output_size = 0
        return output

    def lost(self) -> None:
        """The peer is gone: nothing more is read, and what it sent is forgotten."""
        self.closing = True
        self._framing.clear()

    @property
    def buffered(self) -> int:
        """Octets received and not yet consumed, message data included."""
        return len(self._framing)

    @property
    def stalled(self) -> bool:
        """Commands wait because the client has a lot of replies to read first."""
        return self._output_size >= OUTPUT

    @property
    def in_data(self) -> bool:
        return self._mode == self._read_data

    @property
    def idle(self) -> bool:
        """Between commands, with nothing half done: the place to say 421 when draining."""
        return self.waiting is None and not self.in_data and not len(self._framing)

    def hang_up(self, answer: Reply) -> None:
        """Say why and close."""
        self._say(answer)
        self.closing = True

    # --- reading -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self.closing and self.waiting is None and self._output_size < OUTPUT and self._mode():
            pass

    def _read_command(self) -> bool:
        line = self._framing.line(COMMAND_LINE)
        if isinstance(line, bytes):
            verb, _, argument = line.partition(b" ")
            verb = verb.upper()
            handler = self._VERBS.get(verb)
            if handler is not None:
                handler(self, argument.strip(b" "))
                return True
            if verb in self._FIXED:
                self._answer(self._FIXED[verb])
                return True
            if verb in _FOREIGN_VERBS:
                # A browser or a cross-protocol attack; answering line by line would only help it.
                self.hang_up(replies.NOT_SMTP)
                return True
            line = replies.UNKNOWN
        return self._no_command(line)

    def _no_command(self, refusal: Reply | None) -> bool:
        """No verb we know; `refusal` is None while the line is incomplete."""
        if self._framing.first in _FOREIGN_FIRST:
            self.hang_up(replies.NOT_SMTP)
        elif refusal is not None:
            self._refuse(refusal)
        return refusal is not None

    # --- writing -------------------------------------------------------------------------------------------

    def _say(self, answer: Reply) -> None:
        wire = answer.wire
        self._output.append(wire)
        self._output_size += len(wire)

    def _write(self, wire: bytes) -> None:
        self._output.append(wire)
        self._output_size += len(wire)

    def _refuse(self, answer: Reply) -> None:
        self._say(answer)
        self.rejections.append(answer)
        if answer.permanent:
            self.errors += 1
            if self.errors >= self._limits.errors and not self.closing:
                self.hang_up(replies.TOO_MANY_ERRORS)

    def _answer(self, answer: Reply) -> None:
        if answer.positive:
            self._say(answer)
        else:
            self._refuse(answer)
            if answer.code == 421:
                self.closing = True

    def _settle(self, answer: Answer, then: Callable[[Reply], None]) -> None:
        """Answer now, or when the hook is ready."""
        if isinstance(answer, Reply):
            then(answer)
            self._answer(answer)
            return

        def finish(result: Reply | Login) -> None:
            assert isinstance(result, Reply)
            then(result)
            self._answer(result)

        self.waiting = Work(answer, finish)

    # --- commands ------------------------------------------------------------------------------------------

    def _helo(self, argument: bytes) -> None:
        self._greeting(argument, "SMTP")

    def _ehlo(self, argument: bytes) -> None:
        self._greeting(argument, "ESMTP")

    def _greeting(self, argument: bytes, protocol: str) -> None:
        name = printable(argument.decode("ascii", "replace"), 255)
        if not name:
            self._refuse(replies.NAME_YOURSELF)
            return
        self.transaction = None
        self.session = replace(self.session, helo=name, protocol=protocol)
        if protocol == "SMTP":
            self._write(f"250 {self._hostname}\r\n".encode("ascii", "replace"))
        else:
            lines = (self._hostname, *self._extensions())
            text = "".join(f"250-{line}\r\n" for line in lines[:-1]) + f"250 {lines[-1]}\r\n"
            self._write(text.encode("ascii", "replace"))

    def _extensions(self) -> list[str]:
        extensions = [f"SIZE {self._limits.message_size}", "PIPELINING", "8BITMIME", "SMTPUTF8"]
        if self._listener.tls == "starttls" and self.session.tls is None:
            extensions.append("STARTTLS")
        if self._auth_allowed:
            extensions.append("AUTH " + " ".join(MECHANISMS))
        return [*extensions, "DSN", "ENHANCEDSTATUSCODES"]

    @property
    def _auth_allowed(self) -> bool:
        return self.session.tls is not None or self._listener.plaintext_auth

    def _starttls(self, argument: bytes) -> None:
        if self._listener.tls != "starttls":
            return self._refuse(replies.NO_STARTTLS)
        if self.session.tls is not None:
            return self._refuse(replies.TLS_ALREADY)
        if argument:
            return self._refuse(replies.STARTTLS_ARGUMENT)
        if len(self._framing):
            # RFC 3207 §6 and CVE-2011-0411: what came before the handshake is not the client's.
            return self.hang_up(replies.INJECTED)
        self._say(replies.READY_FOR_TLS)
        self.waiting = StartTls()
        return None

    def _mail(self, argument: bytes) -> None:
        if not self.session.helo:
            return self._refuse(replies.HELO_FIRST)
        if self.transaction is not None:
            return self._refuse(replies.NESTED_MAIL)
        try:
            command = parse_mail(argument)
        except CommandError as error:
            return self._refuse(error.reply)
        if command.size > self._limits.message_size:
            return self._refuse(replies.TOO_BIG)
        transaction = MailTransaction(command)

        def begin(answer: Reply) -> None:
            if answer.positive:
                self.transaction = transaction

        return self._settle(self._hooks.mail(self.session, transaction), begin)

    def _rcpt(self, argument: bytes) -> None:
        transaction = self.transaction
        if transaction is None:
            return self._refuse(replies.MAIL_FIRST)
        try:
            recipient = parse_rcpt(argument, smtputf8=transaction.command.smtputf8)
        except CommandError as error:
            return self._refuse(error.reply)
        if recipient.address == POSTMASTER:
            found = self._hooks.postmaster()
            if not found:
                return self._refuse(replies.NO_POSTMASTER)
            recipient = replace(recipient, address=found)
        if len(transaction.recipients) >= self._limits.recipients:
            return self._refuse(replies.TOO_MANY_RECIPIENTS)

        def add(answer: Reply) -> None:
            if answer.positive:
                transaction.add(recipient)

        return self._settle(self._hooks.rcpt(self.session, transaction, recipient.address), add)

    def _data(self, argument: bytes) -> None:
        transaction = self.transaction
        if transaction is None:
            return self._refuse(replies.MAIL_FIRST)
        if not transaction.recipients:
            return self._refuse(replies.NO_RECIPIENTS)
        if argument:
            return self._refuse(replies.DATA_ARGUMENT)
        refusal = self._hooks.data(self.session, transaction)
        if refusal is not None:
            return self._answer(refusal)
        self._write(b"354 End data with <CR><LF>.<CR><LF>\r\n")
        self._blind = len(self._framing) > 0
        self._framing.begin_data()
        self._mode = self._read_data
        return None

    def _read_data(self) -> bool:
        content = self._framing.data()
        if content is None:
            return False
        self._mode = self._read_command
        transaction, self.transaction = self.transaction, None
        assert transaction is not None
        if isinstance(content, Reply):
            self._refuse(content)
        else:
            self._settle(self._hooks.message(self.session, transaction, content, self._gone), _nothing)
        return True

    def _gone(self) -> bool:
        """Whether the client waits for no answer any more.

        Who closes and who only stops sending look alike. A client that waited for the 354 would wait for the answer
        too, so it has gone; one that sent everything blind, as `nc` and devices do, may still be there to read.
        """
        if self.closing:
            return True
        end = self.peer_end()
        return end is PeerEnd.GONE or (end is PeerEnd.SILENT and not self._blind and not len(self._framing))

    def _auth(self, argument: bytes) -> None:
        if not self.session.helo:
            return self._refuse(replies.HELO_FIRST)
        if self.session.login is not None or self.transaction is not None:
            return self._refuse(replies.BAD_SEQUENCE)
        if not self._auth_allowed:
            return self._refuse(replies.TLS_FIRST)
        mechanism, _, initial = argument.partition(b" ")
        name = mechanism.decode("ascii", "replace").upper()
        if name not in MECHANISMS:
            return self._refuse(reply(504, "5.5.4", f"Unknown AUTH mechanism; offered: {' '.join(MECHANISMS)}"))
        self._exchange = Exchange(name)
        return self._go_through(self._exchange.begin, initial.strip(b" "))

    def _read_response(self) -> bool:
        line = self._framing.line(AUTH_LINE)
        if line is None:
            return False
        self._mode = self._read_command
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        if isinstance(line, Reply):
            self._refuse(line)
        elif line == b"*":
            self._refuse(replies.CANCELLED)
        else:
            self._exchange = exchange
            self._go_through(exchange.respond, line)
        return True

    def _go_through(self, step: Callable[[bytes], bytes | Credentials], line: bytes) -> None:
        exchange = self._exchange
        assert exchange is not None
        try:
            result = step(line)
        except SaslError as error:
            return self._refuse(reply(501, "5.5.2", str(error)))
        if isinstance(result, bytes):
            self._mode = self._read_response
            return self._write(b"334 " + result + b"\r\n")
        awaitable = self._hooks.authenticate(self.session, exchange.mechanism, result)
        self.waiting = Work(awaitable, self._authenticated, authentication=True)
        return None

    def _authenticated(self, result: Reply | Login) -> None:
        if isinstance(result, Login):
            self.session = replace(self.session, login=result)
            return self._say(replies.AUTHENTICATED)
        self._refuse(result)
        self._auth_failures += result.permanent
        if result.code == 421:
            self.closing = True
        elif self._auth_failures >= self._limits.auth_failures and not self.closing:
            self.hang_up(replies.TOO_MANY_FAILURES)
        return None

    def _rset(self, argument: bytes) -> None:
        self.transaction = None
        self._say(replies.OK)

    def _quit(self, argument: bytes) -> None:
        self._say(replies.BYE)
        self.closing = True

    _FIXED: ClassVar[dict[bytes, Reply]] = {
        b"NOOP": replies.OK,
        b"VRFY": replies.VRFY,
        b"EXPN": replies.NO_EXPN,
        b"HELP": replies.HELP,
    }
    _VERBS: ClassVar[dict[bytes, Callable[[Dialogue, bytes], None]]] = {
        b"HELO": _helo,
        b"EHLO": _ehlo,
        b"STARTTLS": _starttls,
        b"AUTH": _auth,
        b"MAIL": _mail,
        b"RCPT": _rcpt,
        b"DATA": _data,
        b"RSET": _rset,
        b"QUIT": _quit,
    }


def _nothing(answer: Reply) -> None:
    """After a message nothing is left to do but to answer."""
