"""A next hop that misbehaves on request: real sockets, one thread a connection, every fault by name.

A fault is put at a stage (banner, ehlo, starttls, ehlo2, auth, mail, rcpt, data, body, dot, quit) and is one of `421`,
`4xx`, `5xx`, `close`, `rst`, `silence`, `garbage`, `2xx` (success in other words), `drip` (a reply line without end,
octet by octet), `bytewise` (the normal reply, octet by octet), `deaf` (nothing more is read), or bytes sent as they
are. At `rcpt` it hits addresses that hold `victim` only; at `body` it strikes in the middle of a large message, of
which no more is read then.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass, field

MIDDLE = 200_000  # octets of a message after which `body` strikes
OFFER = ("PIPELINING", "8BITMIME", "SIZE 10000000", "DSN", "SMTPUTF8")

NORMAL = {
    "banner": b"220 mx.example ESMTP\r\n",
    "starttls": b"220 2.0.0 Ready\r\n",
    "auth": b"235 2.7.0 Accepted\r\n",
    "rset": b"250 2.0.0 Ok\r\n",
    "mail": b"250 2.1.0 Ok\r\n",
    "rcpt": b"250 2.1.5 Ok\r\n",
    "data": b"354 Go ahead\r\n",
    "dot": b"250 2.0.0 Ok: queued as 4XyZ\r\n",
    "quit": b"221 2.0.0 Bye\r\n",
}
SPOKEN = {
    "421": b"421 4.3.2 Going down\r\n",
    "4xx": b"450 4.2.0 Not now\r\n",
    "5xx": b"550 5.7.1 Not ever\r\n",
    "garbage": b"\x16\x03\x01 no such thing\r\n",
}


class Gone(Exception):
    """The connection is over."""


@dataclass
class Seen:
    """What one connection brought."""

    commands: list[bytes] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)  # recipients of what was taken
    tls: bool = False
    ended: str = ""

    @property
    def verbs(self) -> list[bytes]:
        return [command.split(b" ")[0].split(b":")[0].upper() for command in self.commands]


class Peer:
    """Use as a context manager; `port` is the one to connect to, `sessions` what was seen, in order."""

    def __init__(
        self,
        faults: dict[str, str | bytes] | None = None,
        *,
        offer: tuple[str, ...] = OFFER,
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        auth: str = "",
        password: bytes = b"",
        victim: bytes = b"bob",
        good_sessions: int = 0,
        limit: int = 0,
        restart_after: int = 0,
        listener: socket.socket | None = None,
    ) -> None:
        self.faults = faults or {}
        self.offer = offer
        self.tls = tls
        self.implicit = implicit
        self.auth = auth
        self.password = password
        self.victim = victim
        self.good_sessions = good_sessions  # sessions without faults before the others
        self.limit = limit  # recipients a transaction takes before 452
        self.restart_after = restart_after  # messages after which a session is closed without a word
        self.sessions: list[Seen] = []
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._stopping = False

    def __enter__(self) -> Peer:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        # Closing a listener does not wake its accept(); a last connection does.
        socket.create_connection(self._listener.getsockname()[:2]).close()
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()
        self._listener.close()

    def _start(self, target, *arguments) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._stopping:
                connection.close()
                return
            seen = Seen()
            self.sessions.append(seen)
            faults = self.faults if len(self.sessions) > self.good_sessions else {}
            self._open.add(connection)
            self._start(_Conversation(self, connection, seen, faults).run)

    @property
    def messages(self) -> list[bytes]:
        return [message for seen in self.sessions for message in seen.messages]


class _Conversation:
    def __init__(self, peer: Peer, connection: socket.socket, seen: Seen, faults: dict[str, str | bytes]) -> None:
        self.peer = peer
        self.raw = connection
        self.connection = connection
        self.seen = seen
        self.faults = faults
        self.buffer = b""

    def run(self) -> None:
        try:
            if self.peer.implicit:
                self._secure()
            self._say("banner")
            while True:
                self._command(self._line())
        except (Gone, OSError) as error:
            self.seen.ended = type(error).__name__
        finally:
            self.peer._open.discard(self.raw)
            self.connection.close()
            self.raw.close()

    def _secure(self) -> None:
        self.connection = self.peer.tls.wrap_socket(self.connection, server_side=True)
        self.peer._open.discard(self.raw)
        self.peer._open.add(self.connection)
        self.raw = self.connection
        self.seen.tls = True

    def _line(self) -> bytes:
        while b"\r\n" not in self.buffer:
            self._receive()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        self.seen.commands.append(line)
        return line

    def _receive(self) -> None:
        data = self.connection.recv(65536)
        if not data:
            raise Gone
        self.buffer += data

    def _command(self, line: bytes) -> None:
        verb = line.split(b" ")[0].upper()
        if verb == b"EHLO":
            self._say("ehlo2" if self.seen.tls and not self.peer.implicit else "ehlo")
        elif verb == b"HELO":
            self._send(b"250 mx.example\r\n")
        elif verb == b"STARTTLS":
            self._say("starttls")
            if self.faults.get("starttls") in (None, "2xx"):
                self._secure()
        elif verb == b"AUTH":
            self._login(line)
        elif verb == b"MAIL":
            self.recipients = 0
            self.accepted: list[str] = []
            self._say("mail")
        elif verb == b"RCPT":
            self._recipient(line)
        elif verb == b"DATA":
            self._data()
        elif verb == b"BDAT":
            self._chunk(int(line.split()[1]))
        elif verb == b"QUIT":
            self._say("quit")
            raise Gone
        else:
            self._send(NORMAL["rset"] if verb == b"RSET" else b"500 5.5.1 What?\r\n")

    def _login(self, line: bytes) -> None:
        if line.upper() == b"AUTH LOGIN":
            for prompt in (b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n"):
                self._send(prompt)
                line = self._line()
        if self.peer.password and self.peer.password not in line:
            self._send(b"535 5.7.8 Wrong\r\n")
            return
        self._say("auth")

    def _recipient(self, line: bytes) -> None:
        self.recipients += 1
        if self.peer.limit and self.recipients > self.peer.limit:
            self._send(b"452 4.5.3 Too many recipients\r\n")
        elif self.peer.victim in line:
            self._say("rcpt")
            if self.faults.get("rcpt") in ("4xx", "5xx"):
                return
        else:
            self._send(NORMAL["rcpt"])
        self.accepted.append(line.partition(b"<")[2].partition(b">")[0].decode())

    def _data(self) -> None:
        self._say("data")
        if self.faults.get("data") not in (None, "bytewise"):
            return
        message = self._message()
        self.seen.messages.append(message)
        if message and self.faults.get("dot") not in ("421", "4xx", "5xx"):
            self.seen.copies += self.accepted
        self._say("dot")
        if self.peer.restart_after and len(self.seen.messages) >= self.peer.restart_after:
            raise Gone

    def _chunk(self, octets: int) -> None:
        """A message in one chunk."""
        parts, missing = [], octets
        while missing:
            if not self.buffer:
                self._receive()
            parts.append(self.buffer[:missing])
            self.buffer = self.buffer[missing:]
            missing -= len(parts[-1])
        self.seen.messages.append(b"".join(parts))
        self._say("dot")

    def _message(self) -> bytes:
        """Everything up to the terminator; what follows stays in the buffer. Linear, for large messages."""
        received, searched = bytearray(b"\r\n" + self.buffer), 0
        while (end := received.find(b"\r\n.\r\n", searched)) < 0:
            if "body" in self.faults and len(received) > MIDDLE:
                self._say("body")
                self._read_no_more()
            searched = max(len(received) - 4, 0)
            self.buffer = b""
            self._receive()
            received += self.buffer
        self.buffer = bytes(received[end + 5 :])
        return bytes(received[2 : end + 2])

    def _say(self, stage: str) -> None:
        fault = self.faults.get(stage)
        if isinstance(fault, bytes):
            self._send(fault)
        elif fault is None:
            self._send(self._normal(stage))
        elif fault == "2xx":
            self._send(b"250 2.0.0 Fine, whatever\r\n" if stage != "banner" else b"220 Hi\r\n")
        elif fault in SPOKEN:
            self._send(SPOKEN[fault])
            if fault == "421":
                raise Gone
        elif fault == "rst":
            self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise Gone
        elif fault == "drip":
            while True:
                self._send(b"2")
                time.sleep(0.02)
        elif fault == "bytewise":
            for octet in self._normal(stage):
                self._send(bytes([octet]))
        elif fault == "deaf":
            self._read_no_more()
        elif fault == "silence":
            while True:
                self._receive()
        else:
            raise Gone

    def _read_no_more(self) -> None:
        while not self.peer._stopping:
            time.sleep(0.02)
        raise Gone

    def _normal(self, stage: str) -> bytes:
        if not stage.startswith("ehlo"):
            return NORMAL[stage]
        words = ["mx.example", *self.peer.offer]
        if self.peer.tls is not None and not self.seen.tls:
            words.append("STARTTLS")
        if self.peer.auth:
            words.append(f"AUTH {self.peer.auth}")
        lines = [f"250-{word}" for word in words[:-1]] + [f"250 {words[-1]}"]
        return "".join(line + "\r\n" for line in lines).encode()

    def _send(self, octets: bytes) -> None:
        self.connection.sendall(octets)
