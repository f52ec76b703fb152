"""The clients: threads that send numbered messages, over kept and single connections, and write down what they hear."""

from __future__ import annotations

import base64
import hashlib
import random
import socket
import threading
import time
from contextlib import closing, suppress

from ledger import ClientLedger

DOMAINS = ("d1.example", "d2.example", "d3.example")
_AUTH = base64.b64encode(b"\0app@client.example\0secret-of-the-harness").decode()


class Client(threading.Thread):
    """One client; `ending` stops it."""

    def __init__(self, name: str, ports: dict[str, int], ledger: ClientLedger, seed: int, pause: float) -> None:
        super().__init__(name=name, daemon=True)
        self._ports = ports
        self._ledger = ledger
        self._dice = random.Random(f"{name} {seed}")
        self._pause = pause
        self._sent = 0
        self.ending = threading.Event()

    def run(self) -> None:
        while not self.ending.is_set():
            with suppress(OSError, _OutOfStepError), closing(self._connect()) as connection:
                for _ in range(self._dice.choice((1, 1, 20))):
                    if self.ending.is_set():
                        return
                    self._send(connection)
                    self.ending.wait(self._pause)
            self.ending.wait(0.02)

    def _connect(self) -> _Connection:
        door = self._dice.choice(("plain", "login"))
        connection = _Connection(self._ports[door])
        try:
            connection.expect("220")
            connection.command("EHLO client.example", "250")
            if door == "login":
                connection.command(f"AUTH PLAIN {_AUTH}", "235")
        except BaseException:
            connection.close()
            raise
        return connection

    def _send(self, connection: _Connection) -> None:
        self._sent += 1
        count = self._dice.choice((1, 1, 1, 3))
        recipients = [f"{self.name}.{self._sent}.{n}@{self._dice.choice(DOMAINS)}" for n in range(count)]
        size = self._dice.choice((300, 300, 3000, 3000, 100_000))
        body = (f"line {self._sent}\r\n.\r\n" + ("x" * 70 + "\r\n") * (size // 72)).encode()
        digest = hashlib.sha256(body).hexdigest()
        header = f"From: app@client.example\r\nSubject: n\r\nX-Digest: {digest}\r\n\r\n".encode()
        connection.command("MAIL FROM:<app@client.example>", "250")
        for recipient in recipients:
            connection.command(f"RCPT TO:<{recipient}>", "250")
        connection.command("DATA", "354")
        self._ledger.note("tried", recipients)
        connection.write(header + body.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        answer = connection.read()
        if answer.startswith("250"):
            self._ledger.note("acknowledged", recipients)
        elif answer:
            self._ledger.note("refused", recipients, answer)


class _OutOfStepError(Exception):
    """Another answer than the one waited for."""


class _Connection:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._file = self._socket.makefile("rb")

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def write(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def read(self) -> str:
        while line := self._file.readline().decode("latin-1"):
            if line[3:4] != "-":
                return line.strip()
        return ""

    def command(self, line: str, code: str) -> None:
        self.write(line.encode() + b"\r\n")
        self.expect(code)

    def expect(self, code: str) -> None:
        answer = self.read()
        if not answer.startswith(code):
            raise _OutOfStepError(answer)


class Clients:
    """All of them."""

    def __init__(self, ports: dict[str, int], ledger: ClientLedger, seed: int, count: int = 4, pause: float = 0.005):
        self._threads = [Client(f"c{seed}-{number}", ports, ledger, seed, pause) for number in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        for thread in self._threads:
            thread.ending.set()
        for thread in self._threads:
            thread.join(30)


def until_busy(ledger: ClientLedger, more: int, seconds: float = 60) -> None:
    """Wait until so many more recipients are acknowledged: a kill is to hit a server at work."""
    target, end = len(ledger.acknowledged) + more, time.monotonic() + seconds
    while len(ledger.acknowledged) < target:
        if time.monotonic() > end:
            raise TimeoutError("the relay takes no mail")
        time.sleep(0.01)
