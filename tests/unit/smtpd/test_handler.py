"""Handler: bugs behind the door are temporary outside, and told inside."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relay.mail.envelope import Recipient
from relay.mail.reply import Reply
from relay.mail.session import Login, Session
from relay.settings import InboundSettings, ListenerSettings
from relay.smtpd.commands import MailCommand
from relay.smtpd.handler import Handler
from relay.smtpd.sasl import Credentials
from relay.smtpd.transaction import MailTransaction

_STRANGER = Session("192.0.2.1", 4000, "client.example", "ESMTP", "mx")


class _NoGuard:
    """Lets everybody do everything."""

    def connect(self, peer: str) -> None: ...

    def leave(self, peer: str) -> None: ...

    def message(self, peer: str, login: Login | None) -> None: ...

    def recipient(self, login: Login | None) -> None: ...

    def before_authentication(self, peer: str, username: str) -> float:
        return 0.0

    def authenticated(self, peer: str, username: str, *, success: bool) -> None: ...


class _Broken:
    """Everything behind the door fails."""

    def refusal(self) -> Reply | None:
        return None

    def hold(self, octets: int) -> bool:
        return True

    def incoming(self) -> None: ...

    async def accept(self, *facts: Any, **options: Any) -> Reply:
        raise RuntimeError("secret detail")

    async def verify(self, username: str, password: str) -> Login | None:
        raise OSError("secret detail")

    def still_valid(self, login: Login) -> bool:
        return True

    async def check(self, ip: str, helo: str, reverse_path: str | None) -> Any:
        raise RuntimeError("secret detail")


@pytest.mark.parametrize("hook", ["mail", "message", "authenticate"])
def test_a_bug_is_451_and_its_detail_is_told_to_the_observer_alone(hook: str) -> None:
    """Promise 5: SPF, the gate, the password check."""
    bugs: list[Exception] = []
    broken = _Broken()
    listener = ListenerSettings(name="mx", port=0, role="mx")
    handler = Handler(
        listener, InboundSettings(domains=("ours.example",)), broken, broken, broken, bugs.append, _NoGuard()
    )
    transaction = MailTransaction(MailCommand("a@b.example"))
    transaction.add(Recipient("bob@ours.example"))
    answers: dict[str, Any] = {
        "mail": lambda: handler.mail(_STRANGER, transaction),
        "message": lambda: handler.message(_STRANGER, transaction, b"", lambda: False),
        "authenticate": lambda: handler.authenticate(_STRANGER, Credentials("alice", "secret")),
    }

    async def ask() -> str:
        return str(await answers[hook]())

    assert asyncio.run(ask()) == "451 4.3.0 Internal error, try again later"
    assert [str(bug) for bug in bugs] == ["secret detail"]


@pytest.mark.parametrize(
    ("address", "code"), [("r-1@back.example", 250), ("r-2@back.example", 550), ("bob@back.example", 550)]
)
def test_a_stranger_reaches_a_return_path_that_was_given_out_and_no_other(address: str, code: int) -> None:
    broken = _Broken()
    handler = Handler(
        ListenerSettings(name="mx", port=0, role="mx"),
        InboundSettings(),
        broken,
        broken,
        broken,
        print,
        _NoGuard(),
        "r-1@back.example".__eq__,
    )
    answer = handler.rcpt(_STRANGER, MailTransaction(MailCommand("")), address)

    assert isinstance(answer, Reply)
    assert answer.code == code
