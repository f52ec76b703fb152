"""Cases: the loads both systems are put under, as values. The same messages, sessions and generator for both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

SESSIONS: Final = 20
SIGNED: Final = "bench.example"
_UNSIGNED: Final = "unsigned.example"
_REFERENCE: Final = 3000


@dataclass(frozen=True, slots=True)
class Case:
    """`messages` a round, of `size` octets of body; `once`: a connection for each.

    `port` is the listener used: `plain` takes mail as it comes, `signed` asks for AUTH and signs, `login` asks for
    STARTTLS and AUTH. smtp-source can do neither, so those two are fed by `bench.source`. So is what asks for a NOTIFY.
    `sender_domain`: only one has a DKIM key, so that nothing is signed but where both sign.
    """

    name: str
    title: str
    messages: int
    size: int = 4096
    once: bool = False
    port: Literal["plain", "signed", "login"] = "plain"
    sender_domain: str = _UNSIGNED
    notify: str = ""

    @property
    def own_source(self) -> bool:
        return self.port != "plain" or bool(self.notify)

    @property
    def tls(self) -> bool:
        return self.port == "login"

    @property
    def signed(self) -> bool:
        return self.sender_domain == SIGNED

    @property
    def sender(self) -> str:
        return f"app@{self.sender_domain}"

    @property
    def arrivals(self) -> int:
        """What reaches the sink for a message: itself, and the notice its sender asked for."""
        return 2 if "SUCCESS" in self.notify else 1

    @property
    def warm_up(self) -> int:
        """Messages of the untimed round before: enough for every session to have its connection and its worker."""
        return max(SESSIONS, self.messages // 4)


CASES: Final = (
    Case("kept", "kept connections, 4 KB", _REFERENCE),
    Case("single", "one connection per message, 4 KB", 2000, once=True),
    Case("dkim", "kept connections, 4 KB, DKIM RSA-2048", 1500, port="signed", sender_domain=SIGNED),
    Case("large", "kept connections, 1 MB", 120, size=1 << 20),
    Case("login", "STARTTLS and AUTH, one connection per message, 4 KB", 800, once=True, port="login"),
)


MORE_CASES: Final = (Case("huge", "kept connections, 25 MB", 40, size=25 << 20),)


def scaled(case: Case, reference: int) -> Case:
    """The case with its share of messages, where `kept` has `reference` of them; never less than one a session."""
    return replace(case, messages=max(SESSIONS, case.messages * reference // _REFERENCE))


def select(names: Sequence[str]) -> tuple[Case, ...]:
    """Cases by name, in their own order; the usual ones for no name. Raises ValueError that lists the names."""
    known = {case.name: case for case in (*CASES, *MORE_CASES)}
    for name in names:
        if name not in known:
            raise ValueError(f"no case {name!r}; there are: {', '.join(known)}")
    return tuple(case for case in known.values() if case.name in names) if names else CASES
