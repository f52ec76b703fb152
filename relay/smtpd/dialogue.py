"""Dialogue: one SMTP session as a state machine without I/O.

Bytes go in by `receive`; replies come out in `take_output`, corked so that a pipelining client gets them in one
write. Where an answer needs time (a password, SPF, the commit), `waiting` holds the work and nothing more is read
from the buffer until `resume` brings the reply. Any bytes lead to a reply or to `closing`, never to an exception.
"""

from __future__ import annotations

import base64
import functools
import string
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import ClassVar, Final, TypeVar

from relay.mail.envelope import Recipient
from relay.mail.reply import Reply, reply
from relay.mail.session import Login, Session, TlsFacts
from relay.ports import LongMessage
from relay.settings import LimitSettings, ListenerSettings
from relay.smtpd import replies
from relay.smtpd.chunks import Chunks, parse_bdat
from relay.smtpd.commands import POSTMASTER, CommandError, MailCommand, parse_mail, parse_rcpt
from relay.smtpd.extensions import Offered, ehlo
from relay.smtpd.framing import Framing
from relay.smtpd.hooks import Answer, Hooks, PeerEnd, StartTls, Work
from relay.smtpd.sasl import Claim, Exchange, LastStep, SaslError
from relay.smtpd.session_record import LONGEST, NO_COMMAND, SECRET, TLS_HELLO, new_record, without_credentials
from relay.smtpd.tolerance import NAMELESS, had_bare_line_ends, host_name, is_old, mended
from relay.smtpd.transaction import MailTransaction
from relay.smtpd.xclient import as_client, parse_xclient

COMMAND_LINE: Final = 2048  # RFC 5321 §4.5.3.1.4 asks for 512 plus what the extensions add
AUTH_LINE: Final = 12_288  # RFC 4954 §4
OUTPUT: Final = 65_536  # replies kept for a client that does not read them, before its commands wait

_FOREIGN_VERBS: Final = frozenset((b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"DELETE", b"PATCH"))
# No command begins like this: TLS in the clear, a binary protocol, message text after a DATA that was refused.
_FOREIGN_FIRST: Final = frozenset(range(256)) - frozenset(string.ascii_letters.encode() + b" \t\r\n")

_Keeper = TypeVar("_Keeper", Framing, Chunks)
_Parsed = TypeVar("_Parsed", MailCommand, Recipient)


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
        self.tolerated: tuple[str, ...] = ()
        self._fixes_bare_lf = False
        self.record = new_record()
        self._note = self.record.append
        self.refused = False
        self.began_mail = False
        self.transaction: MailTransaction | None = None
        self._framing = self._keeper(Framing)
        self._chunks: Chunks | None = None
        if "bare_lf" in listener.tolerate:
            self._fix_bare_lf()
        self._output: list[bytes] = []
        self._output_size = 0
        self._mode: Callable[[], bool] = self._read_command
        self._exchange: Exchange | LastStep | None = None
        self.errors = 0
        self._mails = 0
        self.peer_end: Callable[[], PeerEnd] = lambda: PeerEnd.OPEN
        self.arrive: Callable[[Session], Reply | None] | None = None  # for a proxy that may say whose session it is
        self._connection = session
        self._regreeting = b""
        self._blind = False
        self._auth_failures = 0

    def _keeper(self, kind: type[_Keeper]) -> _Keeper:
        """What keeps a message while it arrives, within this session's limits."""
        limits, hooks, fix = self._limits, self._hooks, "bare_lf" in self._listener.tolerate
        return kind(limits.message_size, hooks.hold, hooks.incoming, fix_bare_lf=fix, longest_header=limits.header_size)

    def _fix_bare_lf(self) -> None:
        """Of the listener from the first line on, of a login from then on."""
        self._fixes_bare_lf = True
        self._framing.fix_bare_lf(lambda: self._lets_pass("bare_lf"))
        if self._chunks is not None:
            self._chunks.fix_bare_lf()

    # --- what the driver calls -----------------------------------------------------------------------------

    def greet(self) -> None:
        self._write(self._banner())

    def _banner(self) -> bytes:
        return f"220 {self._hostname} ESMTP Sendrelay\r\n".encode("ascii", "replace")

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
        login = self._hooks.known(self.session)
        if login is not None:
            self.session = replace(self.session, login=login)
        self._note(facts.version)
        if is_old(facts.version):
            self._lets_pass("old_tls")
        self._forget_transaction()
        self._framing.clear()

    def take_output(self) -> bytes:
        output = b"".join(self._output)
        self._output.clear()
        self._output_size = 0
        return output

    def lost(self) -> None:
        """The peer is gone: nothing more is read, and what it sent is forgotten."""
        self.closing = True
        self._forget_transaction()
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
        return self._mode in (self._read_data, self._read_chunk)

    @property
    def idle(self) -> bool:
        """Between commands, with nothing half done: the place to say 421 when draining."""
        return self.waiting is None and not self.in_data and not len(self._framing)

    def hang_up(self, answer: Reply) -> None:
        """Say why and close."""
        self.refused = True
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
                self._note(line if len(line) <= LONGEST else line[:LONGEST])
                handler(self, argument.strip(b" "))
                return True
            if verb in self._FIXED:
                self._note(verb)
                self._answer(self._FIXED[verb])
                return True
            if verb in _FOREIGN_VERBS:
                # A browser or a cross-protocol attack; answering line by line would only help it.
                self._note(verb)
                self.hang_up(replies.NOT_SMTP)
                return True
            line = replies.UNKNOWN
        return self._no_command(line)

    def _no_command(self, refusal: Reply | None) -> bool:
        """No verb we know; `refusal` is None while the line is incomplete."""
        first = self._framing.first
        if first in _FOREIGN_FIRST:
            self._note(TLS_HELLO if first == TLS_HELLO[0] else NO_COMMAND)
            self.hang_up(replies.NOT_SMTP)
        elif refusal is not None:
            self._note(NO_COMMAND)
            self._refuse(refusal)
        return refusal is not None

    # --- writing -------------------------------------------------------------------------------------------

    def _say(self, answer: Reply) -> None:
        self._note(answer)
        wire = answer.wire
        self._output.append(wire)
        self._output_size += len(wire)

    def _write(self, wire: bytes) -> None:
        self._note(wire)
        self._output.append(wire)
        self._output_size += len(wire)

    def _refuse(self, answer: Reply) -> None:
        self.refused = True
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

    # --- what is tolerated ---------------------------------------------------------------------------------

    def _tolerates(self, what: str) -> bool:
        login = self.session.login
        return what in self._listener.tolerate or (login is not None and what in login.tolerate)

    def _lets_pass(self, what: str) -> bool:
        """Whether it is tolerated; then that it was needed is told."""
        if not self._tolerates(what):
            return False
        if what not in self.tolerated:
            self.tolerated += (what,)
            self._note(f"tolerated: {what}")
        return True

    def _second_look(self, refused: CommandError, argument: bytes, parse: Callable[[bytes], _Parsed]) -> _Parsed | None:
        """A command as it was meant; None where it is refused all the same, which has been said then."""
        found = mended(argument, self._tolerates)
        if found is not None:
            try:
                parsed = parse(found[0])
            except CommandError as error:
                refused = error
            else:
                for what in found[1]:
                    self._lets_pass(what)
                return parsed
        self._refuse(refused.reply)
        return None

    def _may_be_8bit(self, transaction: MailTransaction) -> bool:
        """RFC 6152 §3: 8-bit octets come with BODY=8BITMIME alone, or with SMTPUTF8 (RFC 6531 §3.6)."""
        return transaction.command.smtputf8 or self._lets_pass("undeclared_8bit")

    # --- commands ------------------------------------------------------------------------------------------

    def _helo(self, argument: bytes) -> None:
        self._greeting(argument, "SMTP")

    def _ehlo(self, argument: bytes) -> None:
        self._greeting(argument, "ESMTP")

    def _greeting(self, argument: bytes, protocol: str) -> None:
        name, good = host_name(argument)
        if not good and not self._lets_pass("bad_helo"):
            self._refuse(replies.BAD_NAME if name else replies.NAME_YOURSELF)
            return
        name = name or NAMELESS
        self._forget_transaction()
        self.session = replace(self.session, helo=name, protocol=protocol)
        if protocol == "SMTP":
            self._write(f"250 {self._hostname}\r\n".encode("ascii", "replace"))
        else:
            self._write(ehlo(self._offered()))

    def _offered(self) -> Offered:
        secured, hold = self.session.tls is not None, self._hooks.longest_hold()
        return Offered(
            hostname=self._hostname,
            size=self._limits.message_size,
            recipients=self._limits.recipients,
            transactions=self._limits.transactions,
            starttls=self._listener.tls == "starttls" and not secured,
            secured=secured,
            mechanisms=tuple(self._hooks.mechanisms(self.session)) if self._auth_allowed else (),
            hold=None if hold is None else (hold[0], int(hold[1])),
            xclient=self.arrive is not None and not self._regreeting,
            xclient_login=self._listener.xclient_login,
        )

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

    def _xclient(self, argument: bytes) -> None:
        """The session begins anew, as the client's a trusted proxy names.

        Once the client has spoken that is over: many a proxy passes on unread what its client says then, and who the
        client is must not be the client's to say.
        """
        if self.arrive is None:
            return self._refuse(replies.NO_XCLIENT)
        if self._regreeting and self.record[-2] is not self._regreeting:
            return self._refuse(replies.XCLIENT_AGAIN)
        if self.transaction is not None:
            return self._refuse(replies.BAD_SEQUENCE)
        try:
            given = parse_xclient(argument, login=self._listener.xclient_login)
        except CommandError as error:
            return self._refuse(error.reply)
        login = self._hooks.vouched(given["LOGIN"]) if given.get("LOGIN") else None
        if given.get("LOGIN") and login is None:
            return self._refuse(replies.NO_SUCH_LOGIN)
        session = as_client(self.session, self._connection, given, login)
        self.session = session if login else replace(session, login=self._hooks.known(session))
        self.errors = self._auth_failures = self._mails = 0
        refusal = self.arrive(self.session)
        if refusal is not None:
            self.rejections.append(refusal)
            return self.hang_up(refusal)
        self._regreeting = self._banner()
        return self._write(self._regreeting)

    def _mail(self, argument: bytes) -> None:
        if not self.session.helo:
            return self._refuse(replies.HELO_FIRST)
        if self.transaction is not None:
            return self._refuse(replies.NESTED_MAIL)
        self._mails += 1
        if 0 < self._limits.transactions < self._mails:
            return self._answer(replies.TOO_MANY_TRANSACTIONS)
        command: MailCommand | None
        try:
            command = parse_mail(argument)
        except CommandError as error:
            command = self._second_look(error, argument, parse_mail)
        if command is None:
            return None
        if command.size > self._limits.message_size:
            return self._refuse(replies.TOO_BIG)
        transaction = MailTransaction(command)

        def begin(answer: Reply) -> None:
            if answer.positive:
                self.began_mail = True
                self.transaction = transaction

        return self._settle(self._hooks.mail(self.session, transaction), begin)

    def _rcpt(self, argument: bytes) -> None:
        transaction = self.transaction
        if transaction is None:
            return self._refuse(replies.MAIL_FIRST)
        if self._chunked:
            return self._refuse(replies.DATA_AND_BDAT)
        smtputf8 = transaction.command.smtputf8
        recipient: Recipient | None
        try:
            recipient = parse_rcpt(argument, smtputf8=smtputf8)
        except CommandError as error:
            recipient = self._second_look(error, argument, functools.partial(parse_rcpt, smtputf8=smtputf8))
        if recipient is None:
            return None
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
        if self._chunked:
            return self._refuse(replies.DATA_AND_BDAT)
        if not transaction.recipients:
            return self._refuse(replies.NO_RECIPIENTS)
        if argument:
            return self._refuse(replies.DATA_ARGUMENT)
        if transaction.command.binary:
            return self._refuse(replies.BINARY_BY_BDAT)
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
        self._end_of_message(content)
        return True

    def _end_of_message(self, content: bytes | LongMessage | Reply) -> None:
        transaction, self.transaction = self.transaction, None
        assert transaction is not None
        if isinstance(content, Reply):
            self._refuse(content)
        elif not (transaction.command.body_8bit or content.isascii() or self._may_be_8bit(transaction)):
            if isinstance(content, LongMessage):
                content.incoming.discard()
            self._refuse(replies.UNDECLARED_8BIT)
        else:
            if not transaction.command.binary and self._fixes_bare_lf and had_bare_line_ends(content):
                self._lets_pass("bare_lf")
            self._settle(self._hooks.message(self.session, transaction, content, self._gone), _nothing)

    def _bdat(self, argument: bytes) -> None:
        """RFC 3030 §2: whatever the answer, the octets announced are no commands."""
        command = parse_bdat(argument)
        if command is None:
            return self.hang_up(replies.BDAT_SYNTAX)
        if self._chunks is None:
            self._chunks = self._keeper(Chunks)
        if self.transaction is not None:
            self._chunks.binary = self.transaction.command.binary
        refusal = None if self._chunked else self._bdat_refusal()
        if not self._chunks.begin(command[0], last=command[1], refusal=refusal):
            return self.hang_up(replies.TOO_BIG)
        self._blind = True
        self._mode = self._read_chunk
        return None

    def _bdat_refusal(self) -> Reply | None:
        transaction = self.transaction
        if transaction is None:
            return replies.MAIL_FIRST
        if not transaction.recipients:
            return replies.NO_RECIPIENTS
        return self._hooks.data(self.session, transaction)

    def _read_chunk(self) -> bool:
        chunks = self._chunks
        assert chunks is not None
        octets = self._framing.take(chunks.due)
        chunks.add(octets)
        if chunks.due:
            return False
        self._mode = self._read_command
        if chunks.refusal is not None:
            refusal = chunks.refusal
            self._forget_transaction()
            self._answer(refusal)
        elif chunks.last:
            self._end_of_message(chunks.content())
        else:
            self._say(reply(250, "2.0.0", f"{chunks.size} octets of the message received"))
        return True

    @property
    def _chunked(self) -> bool:
        """Whether the transaction has begun to send its message by BDAT."""
        return self._chunks is not None and self._chunks.open

    def _forget_transaction(self) -> None:
        self.transaction = None
        if self._chunks is not None:
            self._chunks.drop()

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
        self.record[-1] = without_credentials(argument)
        if not self.session.helo:
            return self._refuse(replies.HELO_FIRST)
        if (self.session.login is not None and not self.session.login.bound) or self.transaction is not None:
            return self._refuse(replies.BAD_SEQUENCE)
        if not self._auth_allowed:
            return self._refuse(replies.TLS_FIRST)
        mechanism, _, initial = argument.partition(b" ")
        name = mechanism.decode("ascii", "replace").upper()
        offered = self._hooks.mechanisms(self.session)
        if name not in offered:
            return self._refuse(reply(504, "5.5.4", f"Unknown AUTH mechanism; offered: {' '.join(offered)}"))
        self._exchange = exchange = self._hooks.exchange(self.session, name)
        return self._go_through(exchange.begin, initial.strip(b" "))

    def _read_response(self) -> bool:
        line = self._framing.line(AUTH_LINE)
        if line is None:
            return False
        self._mode = self._read_command
        self._note(SECRET)
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

    def _go_through(self, step: Callable[[bytes], bytes | Claim | Reply | Login], line: bytes) -> None:
        try:
            result = step(line)
        except SaslError as error:
            return self._refuse(reply(501, "5.5.2", str(error)))
        if isinstance(result, bytes):
            return self._challenge(result)
        if isinstance(result, Reply | Login):
            return self._authenticated(result)
        awaitable = self._hooks.authenticate(self.session, result)
        self.waiting = Work(awaitable, partial(self._decided, result), authentication=True)
        return None

    def _challenge(self, line: bytes) -> None:
        self._mode = self._read_response
        self._write(b"334 " + line + b"\r\n")

    def _decided(self, claim: Claim, result: Reply | Login) -> None:
        """Some mechanisms have a last word before the reply."""
        words = claim.last_words(result)
        if not words:
            return self._authenticated(result)
        self._exchange = LastStep(result)
        return self._challenge(base64.b64encode(words))

    def _authenticated(self, result: Reply | Login) -> None:
        if isinstance(result, Login):
            self.session = replace(self.session, login=result)
            if "bare_lf" in result.tolerate:
                self._fix_bare_lf()
            return self._say(replies.AUTHENTICATED)
        self._refuse(result)
        self._auth_failures += result.permanent
        if result.code == 421:
            self.closing = True
        elif self._auth_failures >= self._limits.auth_failures and not self.closing:
            self.hang_up(replies.TOO_MANY_FAILURES)
        return None

    def _rset(self, argument: bytes) -> None:
        self._forget_transaction()
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
        b"BDAT": _bdat,
        b"XCLIENT": _xclient,
        b"RSET": _rset,
        b"QUIT": _quit,
    }


def _nothing(answer: Reply) -> None:
    """After a message nothing is left to do but to answer."""
