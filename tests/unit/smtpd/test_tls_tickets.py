"""Session tickets: good at every worker, for a time."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path
from typing import cast

import pytest
from tls_kit import Setting, client_context, handshake

from relay.smtpd import tls_tickets
from relay.smtpd.protocol import tls_facts
from relay.smtpd.tls_context import new_context
from relay.smtpd.tls_tickets import PERIOD

VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


def served(folder: Path, ahead: int) -> Setting:
    setting = Setting(folder, ahead)
    setting.write("main", "mail.example.com")
    setting.write("shop", "shop.example")
    setting.more = ["shop"]
    setting.start()
    return setting


def only(version: ssl.TLSVersion) -> ssl.SSLContext:
    context = client_context()
    context.minimum_version = context.maximum_version = version
    return context


def reused_in_another_process(setting: Setting, context: ssl.SSLContext, name: str, session: ssl.SSLSession) -> bool:
    child = os.fork()
    if child == 0:
        code = 2
        try:
            code = int(bool(handshake(setting.certificates.context, context, name, session)[0].session_reused))
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code < 2
    return bool(code)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@VERSIONS
@pytest.mark.parametrize("name", ["mail.example.com", "shop.example"])
def test_a_ticket_is_good_in_every_process_forked_later(tmp_path: Path, version: ssl.TLSVersion, name: str) -> None:
    setting, context = served(tmp_path, ahead=2), only(version)
    session = handshake(setting.certificates.context, context, name)[0].session
    assert session is not None
    assert reused_in_another_process(setting, context, name, session)
    setting.clock.time += PERIOD
    setting.certificates.look()
    later = handshake(setting.certificates.context, context, name)[0].session
    assert later is not None
    assert reused_in_another_process(setting, context, name, later)


@VERSIONS
def test_a_ticket_of_the_time_before_costs_a_full_handshake_and_nothing_else(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    setting, context = served(tmp_path, ahead=2), only(version)
    session = handshake(setting.certificates.context, context, "shop.example")[0].session
    setting.clock.time += PERIOD
    setting.certificates.look()
    client, _ = handshake(setting.certificates.context, context, "shop.example", session)
    assert not client.session_reused
    assert client.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]


def test_a_renewed_certificate_leaves_tickets_good(tmp_path: Path) -> None:
    setting, context = served(tmp_path, ahead=1), client_context()
    session = handshake(setting.certificates.context, context, "shop.example")[0].session
    setting.write("shop", "shop.example", days=120)
    setting.certificates.look()
    assert handshake(setting.certificates.context, context, "shop.example", session)[0].session_reused


def test_a_login_in_a_resumed_session_is_bound_to_nothing(tmp_path: Path) -> None:
    """Its client knows the certificate of the first handshake, which may have been renewed since."""
    setting, context = served(tmp_path, ahead=1), client_context()
    client, first = handshake(setting.certificates.context, context, "shop.example")
    _, resumed = handshake(setting.certificates.context, context, "shop.example", client.session)
    found = [tls_facts(cast("asyncio.Transport", _Transport(server))) for server in (first, resumed)]
    assert [facts is not None and len(facts.end_point) for facts in found] == [32, 0]


class _Transport:
    def __init__(self, secured: ssl.SSLObject) -> None:
        self._secured = secured

    def get_extra_info(self, name: str) -> ssl.SSLObject:
        return self._secured


def test_contexts_whose_time_is_over_are_dropped(tmp_path: Path) -> None:
    setting = served(tmp_path, ahead=3)
    setting.clock.time += 2 * PERIOD
    setting.tickets.forget()
    assert list(setting.tickets._contexts) == [2]


def test_when_those_made_ahead_are_used_up_there_is_still_one(tmp_path: Path) -> None:
    setting = served(tmp_path, ahead=1)
    first = setting.certificates.context
    setting.clock.time += 5 * PERIOD
    setting.certificates.look()
    assert setting.certificates.context is not first
    assert setting.names_for("shop.example") == ["shop.example"]


def test_the_context_before_outlives_the_handshakes_that_began_with_it(tmp_path: Path) -> None:
    """OpenSSL asks it for its callback again after a HelloRetryRequest."""
    setting = served(tmp_path, ahead=2)
    before = setting.certificates.context
    setting.clock.time += PERIOD
    setting.certificates.look()
    assert setting.certificates._before is before
    setting.clock.time += 61
    setting.certificates.look()
    assert setting.certificates._before is None


def test_one_ticket_a_session_is_sent(tmp_path: Path) -> None:
    assert served(tmp_path, ahead=0).certificates.context.num_tickets == 1


def test_a_context_is_made_where_there_is_none_and_not_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was made ahead is served as it is."""
    made: list[ssl.SSLContext] = []
    monkeypatch.setattr(tls_tickets, "new_context", lambda: made.append(new_context()) or made[-1])
    tickets = Setting(tmp_path, ahead=1).tickets
    for _ in range(3):
        assert tickets.current() is made[0]
    tickets._began -= PERIOD
    for _ in range(3):
        assert tickets.current() is made[1]
    assert len(made) == 2
