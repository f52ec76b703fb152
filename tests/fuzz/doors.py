"""What the fuzzed front doors are made of: listeners of every sort, users of every sort, a gate over memory.

Everything is real but the socket, the password file and the disk. The cost of passwords is left out: SCRAM verifiers
are made once.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "transcripts"))

from transcript import (
    END_POINT,
    SCRAM_SECRET,
    TLS,
    USERS,
    FixedClock,
    MemorySpool,
    Recorder,
    _Certificates,
    _Spf,
    _Tokens,
)

from relay.auth.scram import ScramBook, scram_verifier
from relay.intake.shield import Memory, Shield
from relay.mail.errors import AuthBusyError, AuthUnavailableError
from relay.mail.session import Login, Session
from relay.ports import Incoming, StoredCredential, SystemClock
from relay.settings import GuardSettings, InboundSettings, LimitSettings, ListenerSettings, Tolerance
from relay.smtpd.guard import Guard
from relay.smtpd.handler import Handler
from relay.smtpd.sasl_offer import Offer
from relay.smtpd.tally import Tally

MESSAGE_SIZE = 4096
ITERATIONS = 4096
PASSWORD = "secret"
LIMITS = LimitSettings(
    message_size=MESSAGE_SIZE, header_size=1024, recipients=5, errors=12, transactions=9, error_delay=0
)
EVERYTHING = get_args(Tolerance)
SECURE = replace(TLS, end_point=END_POINT, client_certificate=b"alice")
_CREDENTIALS = {
    name: StoredCredential(
        name, "acme", rights, "", scram=scram_verifier(PASSWORD, name, SCRAM_SECRET, ITERATIONS) or ""
    )
    for name, rights in USERS.items()
}


class _NoFile:
    """Nothing here is long enough for one."""

    def write(self, octets: bytes) -> None:
        raise AssertionError("a message below the size went to disk")

    def discard(self) -> None: ...


class _Spool(MemorySpool):
    """With ids of the form they have."""

    def new_id(self) -> str:
        return f"{len(self.stored) + 1:016x}"


class Gate(Recorder):
    """The real gate; counts what is held for messages that arrive."""

    def __init__(self) -> None:
        super().__init__(LIMITS, disk_full=False)
        self._spool = self.spool = _Spool()  # type: ignore[assignment]
        self._shield = Shield(Memory(1, 64), 3600.0, FixedClock(), 0.0)
        self.held = 0
        self.scarce = False

    def incoming(self) -> Incoming:
        return _NoFile()

    def hold(self, octets: int) -> bool:
        if self.scarce and octets > 0:
            return False
        self.held += octets
        assert self.held >= 0
        return super().hold(octets)

    def repeated(self, session: Session, message_id: str) -> None: ...

    def failure(self, where: str, error: BaseException, message_id: str | None = None) -> None:
        bug(error)


class _Users:
    """`busy` and `broken` cannot be checked just now; the others have the password."""

    async def verify(self, username: str, password: str) -> Login | None:
        if username == "busy":
            raise AuthBusyError("busy")
        if username == "broken":
            raise AuthUnavailableError("no registry")
        return _CREDENTIALS[username].login if username in _CREDENTIALS and password == PASSWORD else None

    def named(self, username: str) -> Login | None:
        return _CREDENTIALS[username].login if username in _CREDENTIALS else None

    def still_valid(self, login: Login) -> bool:
        return login.username != "urgent"

    def find_credential(self, login: str) -> StoredCredential | None:
        return _CREDENTIALS.get(login)

    def scram_kinds(self) -> frozenset[str]:
        return frozenset({f"SCRAM-SHA-256${ITERATIONS}"})

    def scram_secret(self) -> bytes:
        return SCRAM_SECRET


def bug(error: BaseException) -> None:
    raise AssertionError("a bug was reported") from error


def _known(session: Session) -> Login | None:
    """A device, by where it comes from."""
    return replace(_CREDENTIALS["scale"].login, bound=True) if session.peer == "192.0.2.99" else None


def _listener(**more: Any) -> ListenerSettings:
    return ListenerSettings(name="test", address="127.0.0.1", port=0, xclient_login=True, **more)


@dataclass(frozen=True, slots=True)
class Door:
    listener: ListenerSettings
    handler: Handler


def doors(gate: Gate) -> list[Door]:
    """Port 25 marking and enforcing SPF; submission strict, tolerant, without TLS, inside TLS."""
    clock = SystemClock()
    guard = Guard(GuardSettings(exempt=("0.0.0.0/0", "::/0")), Tally(1, clock).for_worker(0), clock)
    users: Any = _Users()
    offer = Offer(
        ScramBook(users, FixedClock(), ITERATIONS),
        tokens=_Tokens(),
        configuration="https://login.example/conf",
        certificates=_Certificates(),
        random_bytes=bytes,
    )
    listeners = (
        (_listener(role="mx", tls="starttls"), "mark", "softfail"),
        (_listener(role="submission", tls="starttls", plaintext_auth=True), "off", "none"),
        (_listener(role="submission", tls="starttls", plaintext_auth=True, tolerate=EVERYTHING), "off", "none"),
        (_listener(role="submission", tls="none", plaintext_auth=True, tolerate=()), "off", "none"),
        (_listener(role="submission", tls="implicit"), "off", "none"),
        (_listener(role="mx", tls="none"), "enforce", "fail"),
    )
    found = []
    for listener, spf, result in listeners:
        inbound = InboundSettings(spf=spf, domains=("ours.example",), postmaster="boss@ours.example")
        arguments: Any = (listener, inbound, gate, users, _Spf(result), bug, guard)
        more: Any = {
            "is_return_path": lambda address: address.startswith("r-"),
            "offer": offer,
            "known": _known,
            "suppressed": lambda account, address: None,
        }
        found.append(Door(listener, Handler(*arguments, **more)))
    return found
