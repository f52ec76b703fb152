"""Systemd: tells the service manager where we are in life, and takes the sockets it has bound for us.

In: the process environment and pid (NOTIFY_SOCKET, WATCHDOG_USEC, LISTEN_FDS; sd_notify(3), sd_listen_fds(3)).
Out: one datagram a state. Without systemd every call does nothing and says so.
Never raises: a manager that does not listen is no reason to lose mail. Never blocks for more than a second.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from relay.ports import Clock

_FIRST_DESCRIPTOR: Final = 3
_MOST_DESCRIPTORS: Final = 256
_SECONDS_TO_SEND: Final = 1.0


class Notifier:
    """Sends states to systemd. Every method returns whether the datagram went out."""

    def __init__(self, environment: Mapping[str, str], pid: int, clock: Clock) -> None:
        """`pid` is our own: a child that inherited the environment must not speak for its parent."""
        self._address = _socket_address(environment.get("NOTIFY_SOCKET", ""))
        self._clock = clock
        timeout = _number(environment.get("WATCHDOG_USEC", "")) / 1e6
        ours = environment.get("WATCHDOG_PID", str(pid)) == str(pid)
        # sd_watchdog_enabled(3) asks for a sign of life every half of the time allowed.
        self.watchdog_interval: float | None = timeout / 2 if timeout and ours and self._address else None
        """Seconds between two calls of `watchdog`; None when nobody watches."""

    def ready(self, status: str = "") -> bool:
        """The ports are open; also ends a `reloading`."""
        return self._send("READY=1", status)

    def reloading(self, status: str = "") -> bool:
        """SIGHUP is being worked on; call `ready` when it is done (Type=notify-reload wants the time, too)."""
        return self._send(f"RELOADING=1\nMONOTONIC_USEC={int(self._clock.monotonic() * 1e6)}", status)

    def stopping(self, status: str = "") -> bool:
        """The drain has begun."""
        return self._send("STOPPING=1", status)

    def watchdog(self) -> bool:
        """A sign of life, every `watchdog_interval`."""
        return self._send("WATCHDOG=1")

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send("", text)

    def _send(self, state: str, status: str = "") -> bool:
        if not self._address:
            return False
        line = f"STATUS={' '.join(status.split())}" if status else ""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.settimeout(_SECONDS_TO_SEND)
                channel.sendto("\n".join(filter(None, (state, line))).encode(), self._address)
        except OSError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class InheritedSocket:
    """A socket systemd bound: `name` is FileDescriptorName= of its unit, which names one of our listeners."""

    name: str
    socket: socket.socket


def inherited_sockets(environment: Mapping[str, str], pid: int) -> tuple[InheritedSocket, ...]:
    """The listening sockets of LISTEN_FDS, non-blocking and closed on exec; call it once.

    Empty without socket activation, or when LISTEN_PID is not `pid`. Several sockets may have the same name.
    """
    if environment.get("LISTEN_PID") != str(pid):
        return ()
    count = min(_number(environment.get("LISTEN_FDS", "")), _MOST_DESCRIPTORS)
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    found = []
    for index in range(count):
        try:
            inherited = socket.socket(fileno=_FIRST_DESCRIPTOR + index)
        except OSError:  # not a socket: a FIFO or file of somebody else's unit
            continue
        inherited.set_inheritable(False)
        inherited.setblocking(False)
        found.append(InheritedSocket(names[index] if index < len(names) else "", inherited))
    return tuple(found)


def _socket_address(name: str) -> str:
    """A path, or an abstract name written with `@`; anything else (vsock) is not for us."""
    if name.startswith("@"):
        return "\0" + name[1:]
    return name if name.startswith("/") else ""


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
