"""Workers that ask each other: one that starts is waited for, and one that is not there yet is not taken for nobody."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from fastapi import APIRouter
from http_setting import Heard

from relay.httpd import peers
from relay.httpd.application import make_app
from relay.httpd.control_socket import bind_control
from relay.httpd.server import HttpServer
from relay.mail.envelope import Envelope, Recipient
from relay.mail.errors import OperatorError
from relay.mail.event import EventKind
from relay.mail.outcome import Deferred, Failed, Outcome
from relay.mail.return_path import KEY_OCTETS, ReturnPaths
from relay.ports import DeliveryRequest, Report, SystemClock
from relay.provider_news import ProviderNews
from relay.settings import Settings
from relay.store.ids import IdSource, to_text
from relay.way_back import WayBack

KEY = b"k" * KEY_OCTETS


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "spool").mkdir()
    (tmp_path / "run").mkdir()
    return Settings.model_validate({"server": {"var": tmp_path}, "bounces": {"domain": "back.example"}})


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_START_SECONDS", 0.2)


def test_a_worker_that_starts_is_waited_for(tmp_path: Path) -> None:
    async def starts() -> HttpServer:
        await asyncio.sleep(0.3)
        app, router = make_app("control", Heard()), APIRouter()
        router.add_api_route("/admin/echo", lambda: {"spool": 1}, methods=["POST"])
        app.include_router(router)
        server = HttpServer(app, [bind_control(tmp_path, 1)])
        await server.start()
        return server

    async def main() -> None:
        answer, server = await asyncio.gather(peers.ask(tmp_path, 1, "/admin/echo", {}), starts())
        assert answer == {"spool": 1}
        await server.stop(1.0)

    asyncio.run(main())


def test_a_worker_that_never_serves_is_an_error(tmp_path: Path, impatient: None) -> None:
    with pytest.raises(OperatorError, match=r"control-1\.sock: a worker does not answer"):
        asyncio.run(peers.ask(tmp_path, 1, "/admin/echo", {}))


def come_back(settings: Settings) -> Outcome:
    """What becomes of mail to the return path of a message in spool 1, where no worker of it serves."""
    message_id = to_text(IdSource(1, SystemClock()).next())
    address = ReturnPaths("back.example", KEY).of(message_id, 0)
    way_back = WayBack([], lambda: settings, KEY, SystemClock(), lambda event, ended: None)
    recipients = (Recipient(address),)
    request = DeliveryRequest("1" * 16, "", None, recipients, "", Envelope(None, recipients))
    report = asyncio.run(way_back.transports(settings)["returns"].deliver(request, b"Subject: away\r\n\r\n"))
    return report.outcomes[address]


def test_what_comes_back_for_a_worker_that_starts_is_tried_again(settings: Settings, impatient: None) -> None:
    (settings.server.var / "spool" / "1.db").touch()
    assert isinstance(come_back(settings), Deferred)


def test_what_comes_back_for_a_spool_that_is_no_more_is_refused(settings: Settings) -> None:
    assert isinstance(come_back(settings), Failed)


def test_reports_are_not_taken_while_a_worker_that_may_know_them_starts(settings: Settings, impatient: None) -> None:
    (settings.server.var / "spool" / "1.db").touch()
    news = ProviderNews([], lambda: settings, SystemClock(), None, None, None, None)  # type: ignore[arg-type] # not asked
    report = Report(EventKind.DELIVERED, "m-1", "bob@shop.example", "e-1", 1.0, "", False, "mg")
    with pytest.raises(OperatorError):
        asyncio.run(news._ask_others([report]))
