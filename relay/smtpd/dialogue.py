"""Dialogue: one SMTP session as a state machine without I/O.

Bytes go in by `receive`; replies come out in `take_output`, corked so that a pipelining client gets them in one
write. Where an answer needs time (a password, SPF, the commit), `waiting` holds the work and nothing more is read
from the buffer until `resume` brings the reply. Any bytes lead to a reply or to `closing`, never to an exception.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Final, Protocol

from relay.mail.reply import Reply, printable, reply
from relay.mail.session import Login, Session, TlsFacts
from relay.settings import LimitSettings, ListenerSettings
from relay.smtpd.commands import CommandError, parse_mail, parse_rcpt
from relay.smtpd.sasl import MECHANISMS, Credentials, Exchange, SaslError, decode_response
from relay.smtpd.transaction import MailTransaction

COMMAND_LINE: Final = 2048  # RFC 5321 §4.5.3.1.4 asks for 512 plus what the extensions add
AUTH_LINE: Final = 12_288  # RFC 4954 §4

Answer = Reply | Awaitable[Reply]
AuthAnswer = Awaitable[Reply | Login]


class StartTls:
    """Work for the driver: do the handshake, then call `tls_started`."""


@dataclass(frozen=True, slots=True)
class Work:
    """Something that takes time; its result goes to `resume`."""

    awaitable: Awaitable[Reply | Login]
    then: Callable[[Reply | Login], None]
    authentication: bool = False


class Hooks(Protocol):
    """Who may do what. An answer is a Reply at once, or an awaitable that never raises."""

    def mail(self, session: Session, transaction: MailTransaction) -> Answer: ...

    def rcpt(self, session: Session, transaction: MailTransaction, address: str) -> Answer: ...

    def data(self, session: Session, transaction: MailTransaction) -> Reply | None:
        """None to go on with 354."""
        ...

    def message(self, session: Session, transaction: MailTransaction, content: bytes) -> Answer: ...

    def authenticate(self, session: Session, mechanism: str, credentials: Credentials) -> AuthAnswer: ...


OK = reply(250, "2.0.0", "Ok")
_BAD_SEQUENCE = reply(503, "5.5.1", "Bad sequence of commands")
_HELO_FIRST = reply(503, "5.5.1", "Send HELO or EHLO first")
_UNKNOWN = reply(500, "5.5.2", "Command not recognized")
_LINE_TOO_LONG = reply(500, "5.5.2", "Line too long")
_BARE_LF = reply(500, "5.5.2", "Line must end with CRLF, not with a bare LF")
_TOO_BIG = reply(552, "5.3.4", "Message is larger than the SIZE this server announces")
_TOO_MANY_ERRORS = reply(421, "4.7.0", "Too many errors, closing")
_NOT_SMTP = reply(554, "5.5.1", "This is an SMTP server, closing")
_BAD_STARTTLS = reply(554, "5.5.1", "Commands sent before the TLS handshake, closing")
_FOREIGN_VERBS = frozenset((b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT"))


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
        self._buffer = bytearray()
        self._output: list[bytes] = []
        self._mode: Callable[[], bool] = self._read_command
        self._skipping_line = False
        self._exchange: Exchange | None = None
        self._mechanism = ""
        self._errors = 0
        self._auth_failures = 0
        self._data_scanned = 0
        self._data_dropped = False

    # --- what the driver calls -----------------------------------------------------------------------------

    def greet(self) -> None:
        self._output.append(f"220 {self._hostname} ESMTP Sendrelay\r\n".encode("ascii", "replace"))

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer and go as far as possible."""
        self._buffer += data
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
        self._buffer.clear()

    def take_output(self) -> bytes:
        output = b"".join(self._output)
        self._output.clear()
        return output

    @property
    def buffered(self) -> int:
        """Octets received and not yet consumed, message data included."""
        return len(self._buffer)

    @property
    def in_data(self) -> bool:
        return self._mode == self._read_data

    @property
    def idle(self) -> bool:
        """Between commands, with nothing half done: the place to say 421 when draining."""
        return self.waiting is None and not self.in_data and not self._buffer

    def hang_up(self, answer: Reply) -> None:
        """Say why and close."""
        self._say(answer)
        self.closing = True

    # --- reading -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self.closing and self.waiting is None and self._mode():
            pass

    def _read_command(self) -> bool:
        line = self._next_line(COMMAND_LINE)
        if line is None:
            return False
        if isinstance(line, Reply):
            self._refuse(line)
            return True
        verb, _, argument = line.partition(b" ")
        verb = verb.upper()
        handler = self._VERBS.get(verb)
        if handler is not None:
            handler(self, argument.strip(b" "))
        elif verb in _FOREIGN_VERBS:
            # A browser or a cross-protocol attack; answering line by line would only help it.
            self.hang_up(_NOT_SMTP)
        else:
            self._refuse(_UNKNOWN)
        return True

    def _next_line(self, longest: int) -> bytes | Reply | None:
        """A whole line without its CRLF, the refusal of a bad one, or None while it is incomplete."""
        end = self._buffer.find(b"\n")
        if end < 0:
            if len(self._buffer) > longest:
                self._skipping_line = True
                self._buffer.clear()
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        if self._skipping_line or end > longest:
            self._skipping_line = False
            return _LINE_TOO_LONG
        if line.endswith(b"\r"):
            return line[:-1]
        return line if self._listener.bare_lf == "fix" else _BARE_LF

    # --- writing -------------------------------------------------------------------------------------------

    def _say(self, answer: Reply) -> None:
        self._output.append(answer.wire)

    def _refuse(self, answer: Reply) -> None:
        self._say(answer)
        self.rejections.append(answer)
        if answer.permanent:
            self._errors += 1
            if self._errors >= self._limits.errors and not self.closing:
                self.hang_up(_TOO_MANY_ERRORS)

    def _answer(self, answer: Reply) -> None:
        if answer.positive:
            self._say(answer)
        else:
            self._refuse(answer)
            if answer.code == 421:
                self.closing = True

    def _settle(self, answer: Answer, then: Callable[[Reply], None]) -> None:
        """Answer now, or when the hook is ready."""

        def finish(result: Reply | Login) -> None:
            assert isinstance(result, Reply)
            then(result)
            self._answer(result)

        if isinstance(answer, Reply):
            finish(answer)
        else:
            self.waiting = Work(answer, finish)

    # --- commands ------------------------------------------------------------------------------------------

    def _helo(self, argument: bytes) -> None:
        self._greeting(argument, "SMTP")

    def _ehlo(self, argument: bytes) -> None:
        self._greeting(argument, "ESMTP")

    def _greeting(self, argument: bytes, protocol: str) -> None:
        name = printable(argument.decode("ascii", "replace"), 255)
        if not name:
            self._refuse(reply(501, "5.5.4", "Say your host name: EHLO client.example"))
            return
        self.transaction = None
        self.session = replace(self.session, helo=name, protocol=protocol)
        if protocol == "SMTP":
            self._output.append(f"250 {self._hostname}\r\n".encode("ascii", "replace"))
        else:
            lines = (self._hostname, *self._extensions())
            text = "".join(f"250-{line}\r\n" for line in lines[:-1]) + f"250 {lines[-1]}\r\n"
            self._output.append(text.encode("ascii", "replace"))

    def _extensions(self) -> list[str]:
        extensions = [f"SIZE {self._limits.message_size}", "PIPELINING", "8BITMIME", "SMTPUTF8"]
        if self._listener.tls == "starttls" and self.session.tls is None:
            extensions.append("STARTTLS")
        if self._auth_allowed:
            extensions.append("AUTH " + " ".join(MECHANISMS))
        return [*extensions, "ENHANCEDSTATUSCODES"]

    @property
    def _auth_allowed(self) -> bool:
        return self.session.tls is not None or self._listener.plaintext_auth

    def _starttls(self, argument: bytes) -> None:
        if self._listener.tls != "starttls":
            return self._refuse(reply(502, "5.5.1", "STARTTLS is not offered here"))
        if self.session.tls is not None:
            return self._refuse(reply(503, "5.5.1", "TLS is already active"))
        if argument:
            return self._refuse(reply(501, "5.5.4", "STARTTLS takes no argument"))
        if self._buffer:
            # RFC 3207 §6 and CVE-2011-0411: what came before the handshake is not the client's.
            return self.hang_up(_BAD_STARTTLS)
        self._say(reply(220, "2.0.0", "Ready to start TLS"))
        self.waiting = StartTls()
        return None

    def _mail(self, argument: bytes) -> None:
        if not self.session.helo:
            return self._refuse(_HELO_FIRST)
        if self.transaction is not None:
            return self._refuse(reply(503, "5.5.1", "Nested MAIL command"))
        try:
            command = parse_mail(argument)
        except CommandError as error:
            return self._refuse(error.reply)
        if command.size > self._limits.message_size:
            return self._refuse(_TOO_BIG)
        transaction = MailTransaction(command)

        def begin(answer: Reply) -> None:
            if answer.positive:
                self.transaction = transaction

        return self._settle(self._hooks.mail(self.session, transaction), begin)

    def _rcpt(self, argument: bytes) -> None:
        transaction = self.transaction
        if transaction is None:
            return self._refuse(reply(503, "5.5.1", "Send MAIL first"))
        try:
            address = parse_rcpt(argument, smtputf8=transaction.command.smtputf8)
        except CommandError as error:
            return self._refuse(error.reply)
        if len(transaction.recipients) >= self._limits.recipients:
            return self._refuse(reply(452, "4.5.3", "Too many recipients, send the rest in another transaction"))

        def add(answer: Reply) -> None:
            if answer.positive:
                transaction.add(address)

        return self._settle(self._hooks.rcpt(self.session, transaction, address), add)

    def _data(self, argument: bytes) -> None:
        transaction = self.transaction
        if transaction is None:
            return self._refuse(reply(503, "5.5.1", "Send MAIL first"))
        if not transaction.recipients:
            return self._refuse(reply(554, "5.5.1", "No valid recipients"))
        if argument:
            return self._refuse(reply(501, "5.5.4", "DATA takes no argument"))
        refusal = self._hooks.data(self.session, transaction)
        if refusal is not None:
            return self._answer(refusal)
        self._output.append(b"354 End data with <CR><LF>.<CR><LF>\r\n")
        # The CRLF that ended the command also begins the data: a lone dot may be its first line.
        self._buffer[:0] = b"\r\n"
        self._data_scanned = 0
        self._data_dropped = False
        self._mode = self._read_data
        return None

    def _read_data(self) -> bool:
        """RFC 5321 §4.1.1.4: only CRLF.CRLF ends the data, whatever else looks like an end."""
        end = self._buffer.find(b"\r\n.\r\n", self._data_scanned)
        if end < 0:
            if len(self._buffer) > self._limits.message_size + 8:
                self._data_dropped = True
                del self._buffer[:-4]
            self._data_scanned = max(0, len(self._buffer) - 4)
            return False
        self._mode = self._read_command
        transaction, self.transaction = self.transaction, None
        assert transaction is not None
        if self._data_dropped or end > self._limits.message_size:
            del self._buffer[: end + 5]
            self._refuse(_TOO_BIG)
            return True
        stuffed = bytes(self._buffer[: end + 2])
        del self._buffer[: end + 5]
        # RFC 5321 §4.5.2: the client doubled a leading dot; ours is the CRLF put in front by DATA.
        content = (stuffed.replace(b"\r\n.", b"\r\n") if b"\r\n." in stuffed else stuffed)[2:]
        self._settle(self._hooks.message(self.session, transaction, content), lambda _: None)
        return True

    def _auth(self, argument: bytes) -> None:
        if not self.session.helo:
            return self._refuse(_HELO_FIRST)
        if self.session.login is not None or self.transaction is not None:
            return self._refuse(_BAD_SEQUENCE)
        if not self._auth_allowed:
            return self._refuse(reply(538, "5.7.11", "Encryption required: send STARTTLS first"))
        mechanism, _, initial = argument.partition(b" ")
        name = mechanism.decode("ascii", "replace").upper()
        if name not in MECHANISMS:
            return self._refuse(reply(504, "5.5.4", f"Unknown AUTH mechanism; offered: {' '.join(MECHANISMS)}"))
        self._exchange, self._mechanism = MECHANISMS[name](), name
        challenge = next(self._exchange)
        if initial:
            self._respond(initial.strip(b" "))
        else:
            self._challenge(challenge)
        return None

    def _challenge(self, challenge: bytes) -> None:
        self._output.append(b"334 " + base64.b64encode(challenge) + b"\r\n")
        self._mode = self._read_response

    def _read_response(self) -> bool:
        line = self._next_line(AUTH_LINE)
        if line is None:
            return False
        self._mode = self._read_command
        if isinstance(line, Reply):
            self._refuse(line)
        elif line == b"*":
            self._refuse(reply(501, "5.7.0", "Authentication cancelled"))
        else:
            self._respond(line)
        return True

    def _respond(self, line: bytes) -> None:
        exchange = self._exchange
        assert exchange is not None
        try:
            challenge = exchange.send(decode_response(line))
        except StopIteration as done:
            self._exchange = None
            awaitable = self._hooks.authenticate(self.session, self._mechanism, done.value)
            self.waiting = Work(awaitable, self._authenticated, authentication=True)
        except SaslError as error:
            self._exchange = None
            self._refuse(reply(501, "5.5.2", str(error)))
        else:
            self._challenge(challenge)

    def _authenticated(self, result: Reply | Login) -> None:
        if isinstance(result, Login):
            self.session = replace(self.session, login=result)
            return self._say(reply(235, "2.7.0", "Authentication successful"))
        self._refuse(result)
        self._auth_failures += 1
        if self._auth_failures >= self._limits.auth_failures and not self.closing:
            self.hang_up(reply(421, "4.7.0", "Too many failed authentications, closing"))
        return None

    def _rset(self, argument: bytes) -> None:
        self.transaction = None
        self._say(OK)

    def _noop(self, argument: bytes) -> None:
        self._say(OK)

    def _quit(self, argument: bytes) -> None:
        self._say(reply(221, "2.0.0", "Bye"))
        self.closing = True

    def _vrfy(self, argument: bytes) -> None:
        # RFC 5321 §7.3: neither confirm nor deny.
        self._say(reply(252, "2.5.0", "Cannot verify the user; send the message and see"))

    def _expn(self, argument: bytes) -> None:
        self._refuse(reply(502, "5.5.1", "EXPN is not supported"))

    def _help(self, argument: bytes) -> None:
        self._say(reply(214, "2.0.0", "EHLO HELO MAIL RCPT DATA RSET NOOP QUIT VRFY HELP STARTTLS AUTH"))

    _VERBS: ClassVar[dict[bytes, Callable[[Dialogue, bytes], None]]] = {
        b"HELO": _helo,
        b"EHLO": _ehlo,
        b"STARTTLS": _starttls,
        b"AUTH": _auth,
        b"MAIL": _mail,
        b"RCPT": _rcpt,
        b"DATA": _data,
        b"RSET": _rset,
        b"NOOP": _noop,
        b"QUIT": _quit,
        b"VRFY": _vrfy,
        b"EXPN": _expn,
        b"HELP": _help,
    }
