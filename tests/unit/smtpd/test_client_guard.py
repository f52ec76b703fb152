"""Guard: what one client may do, and that nobody can lock somebody else out."""

from __future__ import annotations

from typing import Any

import pytest

from relay.mail.reply import Reply
from relay.mail.session import Login
from relay.settings import GuardSettings
from relay.smtpd.guard import Guard
from relay.smtpd.tally import Tally

ALICE = Login("acme", "alice")


class Clock:
    seconds = 1_000_000.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> float:
        return self.seconds


class Server:
    """A guard for each of two workers."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        tally = Tally(2, self.clock)
        made = GuardSettings(**settings)
        self.one, self.other = (Guard(made, tally.for_worker(index), self.clock) for index in range(2))


def fail(guard: Guard, peer: str, user: str, times: int) -> None:
    for _ in range(times):
        guard.authenticated(peer, user, success=False)


def test_connections_of_one_client_are_counted_over_workers_and_given_back() -> None:
    server = Server(connections=3)
    assert [guard.connect("192.0.2.1") for guard in (server.one, server.other, server.one)] == [None] * 3
    refusal = server.other.connect("192.0.2.1")
    assert str(refusal) == "421 4.7.0 Too many connections from your address, try again later"
    assert server.other.connect("192.0.2.2") is None
    server.other.leave("192.0.2.1")
    server.one.leave("192.0.2.1")
    assert server.other.connect("192.0.2.1") is None


def test_addresses_of_one_ipv6_64_are_one_client_and_a_mapped_address_is_its_ipv4() -> None:
    server = Server(connections=1)
    assert server.one.connect("2001:db8::1") is None
    assert server.one.connect("2001:db8::2") is not None
    assert server.one.connect("2001:db8:0:1::1") is None
    assert server.one.connect("::ffff:192.0.2.1") is None
    assert server.one.connect("192.0.2.1") is not None


def test_exempt_networks_and_unix_sockets_have_no_limit() -> None:
    guard = Server(connections=1, message_rate="1/hour").one
    for peer in ("127.0.0.1", "::1", "local"):
        assert [guard.connect(peer) for _ in range(3)] == [None] * 3
        assert [guard.message(peer, None) for _ in range(3)] == [None] * 3


def test_a_rate_refuses_what_is_beyond_and_lets_in_again_as_time_passes() -> None:
    server = Server(message_rate="4/minute")
    assert [server.one.message("192.0.2.1", None) for _ in range(4)] == [None] * 4
    assert str(server.other.message("192.0.2.1", None)).startswith("450 4.7.0 Too many messages from your address")
    server.clock.seconds += 90
    assert server.other.message("192.0.2.1", None) is None


def test_refused_messages_do_not_count() -> None:
    server = Server(message_rate="2/minute")
    for _ in range(50):
        server.one.message("192.0.2.1", None)
    server.clock.seconds += 121
    assert server.one.message("192.0.2.1", None) is None


def test_a_login_has_a_rate_and_a_daily_number_of_recipients_wherever_it_comes_from() -> None:
    server = Server(login_message_rate="2/hour", recipients_per_day=3)
    assert [server.one.message(f"192.0.2.{n}", ALICE) for n in range(2)] == [None, None]
    assert str(server.other.message("192.0.2.9", ALICE)).startswith("450 4.7.0 Too many messages with this login")
    assert [server.one.recipient(ALICE) for _ in range(3)] == [None] * 3
    assert str(server.other.recipient(ALICE)).startswith("452 4.5.3 Too many recipients in 24 hours")
    assert server.other.recipient(Login("acme", "bob")) is None


def test_failures_wait_longer_each_time_and_are_then_refused() -> None:
    server = Server(auth_failures=6)
    answers: list[Reply | float] = []
    for _ in range(7):
        answers.append(server.one.before_authentication("192.0.2.1", "alice"))
        fail(server.other, "192.0.2.1", "alice", 1)
    assert answers[:6] == [0.0, 0.0, 0.0, 1.0, 2.0, 4.0]
    assert str(answers[6]).startswith("421 4.7.0 Too many failed authentications")
    server.clock.seconds += 1300
    assert server.one.before_authentication("192.0.2.1", "alice") == 0.0


def test_a_subnet_that_takes_turns_is_refused_as_a_whole() -> None:
    server = Server(auth_failures=10, subnet_auth_failures=20)
    for number in range(20):
        fail(server.one, f"192.0.2.{number}", f"user{number}", 1)
    assert isinstance(server.other.before_authentication("192.0.2.200", "alice"), Reply)
    assert server.other.before_authentication("198.51.100.1", "alice") == 0.0


def test_failures_at_a_name_from_many_addresses_slow_it_down_and_lock_nobody_out() -> None:
    server = Server()
    for number in range(200):
        fail(server.one, f"198.51.{number}.1", "alice", 1)
    assert server.other.before_authentication("192.0.2.1", "alice") == 4.0


def test_a_login_that_worked_from_an_address_is_let_in_from_there_whatever_others_there_do() -> None:
    server = Server()
    server.one.authenticated("192.0.2.1", "alice", success=True)
    fail(server.one, "192.0.2.1", "mallory", 50)
    assert server.other.before_authentication("192.0.2.1", "alice") == 0.0
    assert isinstance(server.other.before_authentication("192.0.2.1", "mallory"), Reply)


@pytest.mark.parametrize("name", ["alice", "nobody"])
def test_known_and_unknown_names_wait_alike(name: str) -> None:
    server = Server()
    fail(server.one, "192.0.2.1", name, 4)
    assert server.one.before_authentication("192.0.2.1", name) == 2.0


def test_failures_that_name_nobody_slow_nobody_down() -> None:
    """A token alone says who it is; without one that holds there is no name to count at."""
    server = Server(auth_failures=0)
    for number in range(6):
        server.one.authenticated(f"192.0.2.{number}", "", success=False)
        server.one.authenticated(f"192.0.2.{number}", "alice", success=False)

    assert server.one.before_authentication("198.51.100.1", "") == 0.0
    assert server.one.before_authentication("198.51.100.1", "alice") == 4.0
