"""One SMTP session from any octets: replies or a close, never a traceback, a hang, or growth without bound.

The first octets say which door it is and how the rest is cut, and whether the rest is what is said, or chooses what a
client says that knows the protocol (`client.py`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from client import Client, examples
from doors import LIMITS, MESSAGE_SIZE, SECURE, TLS, Gate, doors
from harness import Bounded
from transcript import Transcript, finish

from relay.mail.reply import reply
from relay.mail.session import Session
from relay.settings import SessionSettings
from relay.smtpd.dialogue import AUTH_LINE, Dialogue
from relay.smtpd.failed_sessions import FailedSessions
from relay.smtpd.hooks import PeerEnd, StartTls
from relay.smtpd.session_record import lines
from relay.smtpd.symptom import Case

_HEAD = 4
_BUFFERED = max(AUTH_LINE, MESSAGE_SIZE + MESSAGE_SIZE // 3 + 8) + 2
_REPLIES = re.compile(rb"(?:(?:[2345]\d\d-[\x20-\x7e]*\r\n)*[2345]\d\d [\x20-\x7e]*\r\n)*\Z")
_SCRIPT, _CUT = 0x80, 0x80
_GOING = reply(421, "4.3.2", "Server is going down, try again")
_HANG_UP, _PROXIED, _CERTIFIED, _SCARCE, _SILENT, _GONE, _LOOK_BACK = 1, 2, 4, 8, 16, 32, 64


class SessionTarget:
    """Call it with one input."""

    def __init__(self) -> None:
        self._gate = Gate()
        self._doors = doors(self._gate)
        self._failed = FailedSessions(SessionSettings(kept=4), 0, _Clock())
        self.counts: Counter[str] = Counter()

    def __call__(self, octets: bytes) -> None:
        head, octets = octets[:_HEAD].ljust(_HEAD, b"\0"), octets[_HEAD:]
        scripted = bool(head[0] & _SCRIPT)
        name = "client" if scripted else "session"
        self.counts[name] += 1
        with Bounded(name):
            self._session(head, octets, scripted=scripted)

    def _session(self, head: bytes, octets: bytes, *, scripted: bool) -> None:
        door = self._doors[(head[0] & 0x7F) % len(self._doors)]
        how = head[3]
        implicit = door.listener.tls == "implicit"
        facts = Session("192.0.2.1", 4000, "", "SMTP", "test", SECURE if implicit else None)
        dialogue = Dialogue(door.handler, door.listener, LIMITS, "mx.example", facts)
        self._gate.scarce = bool(how & _SCARCE)
        if how & _PROXIED:
            dialogue.arrive = lambda client: None
        if how & (_SILENT | _GONE):
            dialogue.peer_end = lambda: PeerEnd.GONE if how & _GONE else PeerEnd.SILENT
        tls = SECURE if how & _CERTIFIED else TLS
        client = Client(octets)
        dialogue.greet()
        said = [dialogue.take_output()]
        for piece in client.pieces() if scripted else _pieces(head, octets):
            dialogue.receive(piece)
            client.heard = _settle(dialogue, tls, said)
            assert dialogue.buffered <= _BUFFERED + len(piece), "growth without bound"
            if dialogue.closing:
                break
        if how & _HANG_UP:
            dialogue.hang_up(_GOING)
            _settle(dialogue, tls, said)
        in_data = dialogue.in_data
        dialogue.lost()
        assert _REPLIES.match(b"".join(said)), said
        assert self._gate.held == 0, "octets are counted that nobody holds"
        self._gate.spool.stored.clear()
        if how & _LOOK_BACK:
            self._look_back(door.listener, dialogue, in_data)

    def _look_back(self, listener: Any, dialogue: Dialogue, in_data: bool) -> None:
        """What `relay sessions` would show of it: lines, and no password."""
        case = Case(listener, dialogue.session, tuple(dialogue.record), None, dialogue.began_mail, in_data)
        if not dialogue.began_mail or dialogue.refused or in_data:
            self._failed.ended(case, 1.0)
        for line in lines(dialogue.record):
            assert line.isprintable(), line

    def seeds(self) -> Iterator[bytes]:
        """What clients of the transcripts say, and sessions of one that knows how."""
        for path in sorted((Path(__file__).resolve().parents[1] / "transcripts").rglob("*.txt")):
            said = b"".join(octets for kind, octets in Transcript.read(path).steps if kind == "C")
            yield b"\0\x00\x0f\2" + said[:5000]
            yield b"\1\x87\0\5" + said[:1500]
            yield b"\2\x00\0\0" + said[:1500]
        for script in examples():
            yield from (bytes((_SCRIPT | door, 0, 0, how)) + script for door, how in ((0, 2), (1, 4), (2, 0), (4, 1)))


class _Clock:
    def now(self) -> float:
        return 1.8e9

    def monotonic(self) -> float:
        return 1000.0


def _pieces(head: bytes, octets: bytes) -> Iterator[bytes]:
    if not head[1] & _CUT:
        yield octets
        return
    step = 1 + head[1] % 64 * (head[2] % 16 + 1)
    for at in range(0, len(octets), step):
        yield octets[at : at + step]


def _settle(dialogue: Dialogue, tls: Any, said: list[bytes]) -> bytes:
    """What the driver does. What was said to this piece."""
    start = len(said)
    while True:
        output = dialogue.take_output()
        waiting = dialogue.waiting
        if output:
            said.append(output)
        if isinstance(waiting, StartTls):
            dialogue.tls_started(tls)
        elif waiting is not None:
            dialogue.resume(finish(waiting.awaitable))  # type: ignore[arg-type]
        elif output:
            dialogue.go_on()
        else:
            return b"".join(said[start:])


def target() -> SessionTarget:
    """What run.py asks for."""
    return SessionTarget()
