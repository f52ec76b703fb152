"""Reads and plays a transcript: an SMTP session written down as an RFC prints one.

    # why                     a comment
    ! listener tls=none       settings of the session: listener, limits, guard, inbound, spf, session, disk, together,
                              scram (offer=all or some; bound=yes for a certificate to bind to), tokens,
                              certificate (of=NAME: the client showed one)
    C: text                   a line of the client, CRLF is added; `C- text` is the same without it
    S: text                   a line of the server
    -- TLS --                 the handshake after STARTTLS
    -- drain --               the server is told to stop
    -- closed --              the server closes the connection
    A: <from> <to> <to>       a message is accepted, with this envelope, `until` when it is held, and what it asks for;
    A| text                   and these lines of content; `A= text` is all of it, exactly

`\\r \\n \\0 \\xHH \\\\` are octets. `<base64 text>` is its encoding, `<1000 text>` repeats. Consecutive `C` lines are
sent in one piece, or as `cut` says; the replies must be the same.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from relay.auth.scram import ScramBook, scram_verifier
from relay.intake.accept import Accept
from relay.intake.shield import Memory, Shield
from relay.mail.errors import AuthUnavailableError
from relay.mail.reply import reply
from relay.mail.session import Login, SenderRights, Session, TlsFacts
from relay.ports import NewMessage, QueuedMessage, SpfResult, StoredCredential, SystemClock
from relay.settings import GuardSettings, InboundSettings, LimitSettings, ListenerSettings
from relay.smtpd.dialogue import Dialogue
from relay.smtpd.guard import Guard
from relay.smtpd.handler import Handler
from relay.smtpd.hooks import StartTls
from relay.smtpd.proxy_header import is_trusted
from relay.smtpd.sasl_offer import Offer
from relay.smtpd.tally import Tally

TLS = TlsFacts("TLSv1.3", "TLS_AES_256_GCM_SHA384", 256)
TOLERATES = {"scale": ("space_after_colon", "no_brackets", "bare_lf", "undeclared_8bit")}
USERS = {
    "scale": SenderRights(),
    "alice": SenderRights(),
    "app": SenderRights(addresses=("boss@other.example",), domains=("acme.example",)),
    "urgent": SenderRights(priority=4),
}
SCRAM_SECRET = bytes(32)
END_POINT = bytes(range(32))
_ESCAPE = re.compile(rb"\\(r|n|0|\\|x[0-9a-f]{2})")
_HELPER = re.compile(rb"<(base64|\d+) ([^<>]*)>")

Cut = Callable[[bytes], Iterator[bytes]]


@dataclass
class Transcript:
    """Settings by section, and the steps: (kind, octets) with kind `C`, `S`, `A` or `--`."""

    settings: dict[str, dict[str, str]] = field(default_factory=dict)
    steps: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def together(self) -> bool:
        return "together" in self.settings

    @classmethod
    def read(cls, path: Path) -> Transcript:
        transcript = cls()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line and not line.startswith("#"):
                transcript._take(line, f"{path.name}:{number}")
        return transcript

    def _take(self, line: str, where: str) -> None:
        if line.startswith("! "):
            section, *pairs = line[2:].split()
            self.settings.setdefault(section, {}).update(pair.split("=", 1) for pair in pairs)
            return
        mark, text = line[:2], _octets(line[3:])
        if mark in ("C:", "C-"):
            self._add("C", text + (b"\r\n" if mark == "C:" else b""))
        elif mark == "S:":
            self._add("S", text + b"\r\n")
        elif mark == "A:":
            self.steps.append(("A", text))
        elif mark == "A|":
            kind, before = self.steps[-1]
            self.steps[-1] = (kind, before + b"\n" + text)
        elif mark == "A=":
            kind, before = self.steps[-1]
            self.steps[-1] = (kind, before + b"\n=" + text)
        elif mark == "--":
            self.steps.append(("--", line.strip("- ").encode()))
        else:
            raise ValueError(f"{where}: cannot read {line!r}")

    def _add(self, kind: str, octets: bytes) -> None:
        if self.steps and self.steps[-1][0] == kind:
            octets = self.steps.pop()[1] + octets
        self.steps.append((kind, octets))


def _octets(text: str) -> bytes:
    def escape(match: re.Match[bytes]) -> bytes:
        name = match[1]
        return bytes.fromhex(name[1:].decode()) if name[:1] == b"x" else {
            b"r": b"\r", b"n": b"\n", b"0": b"\0", b"\\": b"\\"
        }[name]  # fmt: skip

    def helper(match: re.Match[bytes]) -> bytes:
        return base64.b64encode(match[2]) if match[1] == b"base64" else match[2] * int(match[1])

    return _HELPER.sub(helper, _ESCAPE.sub(escape, text.encode()))


class FixedClock:
    """Always the same second."""

    def now(self) -> float:
        return 1_800_000_000.0

    def monotonic(self) -> float:
        return 1000.0


class MemorySpool:
    """Keeps what it is given; ids count from 1."""

    def __init__(self) -> None:
        self.stored: list[NewMessage] = []

    def new_id(self) -> str:
        return f"id{len(self.stored) + 1}"

    async def enqueue(self, message: NewMessage) -> QueuedMessage:
        self.stored.append(message)
        return QueuedMessage(message.id, "", "", message.envelope, len(message.content), 0.0, (), ())


class Recorder(Accept):
    """The real gate over a spool in memory; remembers what came in."""

    def __init__(self, limits: LimitSettings, *, disk_full: bool) -> None:
        self.spool = MemorySpool()
        self._disk_full = disk_full
        super().__init__(
            self.spool,
            limits,
            "mx.example",
            FixedClock(),
            self,
            self,
            lambda message: None,
            lambda *facts: b"",
            shield=Shield(Memory(1, 4), 0, FixedClock(), 0.0),
        )  # type: ignore[arg-type]

    def full(self) -> bool:
        return self._disk_full

    def accepted(self, *facts: object) -> None: ...

    def store_failed(self, error: object) -> None: ...

    def accepted_lines(self) -> bytes:
        """The next message as an `A` step."""
        message = self.spool.stored.pop(0)
        envelope = message.envelope
        addresses = [envelope.reverse_path or "", *(recipient.address for recipient in envelope.recipients)]
        words = [f"<{address}>" for address in addresses]
        if envelope.hold_until is not None:
            words.append(f"until {datetime.fromtimestamp(envelope.hold_until, UTC):%Y-%m-%dT%H:%M:%SZ}")
        if envelope.hold_request:
            words.append(f"asked {envelope.hold_request}")
        if envelope.priority is not None:
            words.append(f"priority {envelope.priority}")
        if envelope.deliver_by is not None:
            by = datetime.fromtimestamp(envelope.deliver_by, UTC)
            words.append(f"by {by:%Y-%m-%dT%H:%M:%SZ} {envelope.by_mode}{'T' if envelope.by_trace else ''}")
        if envelope.requiretls:
            words.append("by TLS only")
        if envelope.binary:
            words.append("binary")
        if envelope.submitter:
            words.append(f"submitted by {envelope.submitter}")
        return " ".join(words).encode() + b"\n" + message.content


class _Spf:
    def __init__(self, result: Any) -> None:
        self._result = result

    async def check(self, ip: str, helo: str, reverse_path: str | None) -> SpfResult:
        return SpfResult(self._result, f"{ip} is not allowed")


class _Authenticator:
    async def verify(self, username: str, password: str) -> Login | None:
        rights = USERS.get(username)
        if rights is None or password != "secret":
            return None
        return Login("acme", username, rights, TOLERATES.get(username, ()))

    def named(self, username: str) -> Login | None:
        return Login("acme", username, USERS[username]) if username in USERS else None

    def still_valid(self, login: Login) -> bool:
        return True


class _ScramUsers:
    """Everybody but `app` has a verifier."""

    def find_credential(self, login: str) -> StoredCredential | None:
        if login not in USERS:
            return None
        verifier = scram_verifier("secret", login, SCRAM_SECRET, 4096) if login != "app" else None
        return StoredCredential(login, "acme", USERS[login], "", scram=verifier or "")

    def scram_kinds(self) -> frozenset[str]:
        return frozenset({"SCRAM-SHA-256$4096", ""})

    def scram_secret(self) -> bytes:
        return SCRAM_SECRET


class _Tokens:
    """`of.NAME` is NAME's token; `later` cannot be checked just now."""

    async def verify(self, token: str, username: str) -> Login | None:
        if token == "later":
            raise AuthUnavailableError("no keys")
        name = token.partition("of.")[2]
        return Login("acme", name, USERS[name]) if name in USERS and username in ("", name) else None


class _Certificates:
    """The octets of a certificate are whom it stands for."""

    def known(self, certificate: bytes) -> bool:
        return certificate.decode() in USERS

    def login(self, certificate: bytes, username: str) -> Login | None:
        name = certificate.decode()
        return Login("acme", name, USERS[name]) if username in ("", name) else None


def _offer(settings: dict[str, dict[str, str]]) -> Offer:
    """A nonce of zeros."""
    scram, tokens = settings.get("scram"), _Tokens() if "tokens" in settings else None
    book = ScramBook(_ScramUsers(), FixedClock(), 4096, offer=scram.get("offer", "some")) if scram is not None else None
    return Offer(
        book,
        tokens=tokens,
        configuration="https://login.example/conf",
        certificates=_Certificates(),
        random_bytes=bytes,
    )


def finish(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


def fail(error: Exception) -> None:
    raise AssertionError("a bug was reported") from error


class Player:
    """A session with everything real but the socket, the password file and the disk."""

    def __init__(self, settings: dict[str, dict[str, str]]) -> None:
        def section(name: str) -> dict[str, Any]:
            return dict(settings.get(name, {}))

        options = section("listener")
        if "tolerate" in options:
            options["tolerate"] = tuple(filter(None, options["tolerate"].split(",")))
        if "xclient" in options:
            options["xclient"] = options["xclient"].split(",")
        listener = ListenerSettings(**{"name": "test", "address": "127.0.0.1", "port": 0, "tls": "none", **options})
        inbound = section("inbound")
        if "domains" in inbound:
            inbound["domains"] = inbound["domains"].split(",")
        limits = LimitSettings(**section("limits"))
        self.intake = Recorder(limits, disk_full="disk" in settings)
        self.authenticator = _Authenticator()
        spf = _Spf(section("spf").get("result", "none"))
        clock = SystemClock()
        guard = Guard(GuardSettings(**section("guard")), Tally(1, clock).for_worker(0), clock)
        handler = Handler(
            listener, InboundSettings(**{"spf": "off", **inbound}), self.intake, self.authenticator, spf, fail, guard,
            offer=_offer(settings),
        )  # fmt: skip
        self.tls = replace(TLS, end_point=END_POINT) if "bound" in section("scram") else TLS
        if "of" in section("certificate"):
            self.tls = replace(self.tls, client_certificate=section("certificate")["of"].encode())
        facts = Session("192.0.2.1", 4000, "", "SMTP", "test", self.tls if listener.tls == "implicit" else None)
        if "as" in section("session"):
            user = section("session")["as"]
            facts = replace(facts, login=Login("acme", user, USERS[user]))
        self.dialogue = Dialogue(handler, listener, limits, "mx.example", facts)
        if is_trusted(facts.peer, tuple(map(ipaddress.ip_network, listener.xclient))):
            self.dialogue.arrive = lambda client: guard.connect(client.peer)
        self.dialogue.greet()
        self.writes: list[bytes] = []

    def send(self, octets: bytes) -> None:
        """What a driver does with octets from the socket, work that takes time included."""
        self.dialogue.receive(octets)
        self.settle()

    def settle(self) -> None:
        dialogue = self.dialogue
        while True:
            self.writes.append(dialogue.take_output())
            if dialogue.waiting is not None and not isinstance(dialogue.waiting, StartTls):
                dialogue.resume(finish(dialogue.waiting.awaitable))  # type: ignore[arg-type]
            elif self.writes[-1]:
                dialogue.go_on()
            else:
                return

    def replies(self) -> bytes:
        """Everything said since the last call."""
        said = b"".join(self.writes)
        self.writes.clear()
        return said


def play(transcript: Transcript, cut: Cut) -> None:
    """Raises AssertionError where the server says anything else than what is written."""
    player = Player(transcript.settings)
    player.settle()
    for kind, octets in transcript.steps:
        if kind == "C":
            for piece in cut(octets):
                player.send(piece)
        elif kind == "S":
            _same(player.replies(), octets)
        elif kind == "A":
            _check_accepted(player.intake, octets)
        else:
            _happen(player, octets.decode())
    _same(player.replies(), b"")
    assert not player.intake.spool.stored, "a message nobody wrote down was accepted"
    assert player.dialogue.closing == (("--", b"closed") in transcript.steps[-2:])


def _same(said: bytes, written: bytes) -> None:
    assert said == written, f"said:\n{said.decode()}\nwritten:\n{written.decode()}"


def _check_accepted(intake: Recorder, written: bytes) -> None:
    envelope, _, rest = written.partition(b"\n")
    exact = rest.startswith(b"=")
    content = rest[1:] if exact else rest.replace(b"\n", b"\r\n") + (b"\r\n" if b"\n" in written else b"")
    said, _, stored = intake.accepted_lines().partition(b"\n")
    _same(said, envelope)
    assert stored.startswith(b"Received: from ")
    assert stored.endswith(b"\r\n" + content)


def _happen(player: Player, event: str) -> None:
    dialogue = player.dialogue
    if event == "TLS":
        assert isinstance(dialogue.waiting, StartTls)
        dialogue.tls_started(player.tls)
    elif event == "drain":
        assert dialogue.idle
        dialogue.hang_up(reply(421, "4.3.2", "Server is going down, try again"))
        player.settle()
    else:
        assert event == "closed"
        assert dialogue.closing
