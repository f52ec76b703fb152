"""The control socket on disk, and the verbs' client on it: who may reach it, what a crash leaves, what can go wrong."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from http_setting import Heard
from typer.testing import CliRunner

from relay.cli.control import request
from relay.cli.main import app
from relay.httpd.application import make_app
from relay.httpd.control_socket import bind_control
from relay.httpd.server import HttpServer
from relay.mail.errors import OperatorError
from relay.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.model_validate({"server": {"var": tmp_path}})


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def peer(path: Path, answer: bytes | None) -> Iterator[None]:
    """Somebody else on the socket, who says `answer` to one client; None: hangs up."""
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(1)

        def serve() -> None:
            client, _ = listening.accept()
            with client:
                client.recv(65_536)
                client.sendall(answer or b"")

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            thread.join(10)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_question_is_answered_over_the_socket_which_goes_with_the_server(settings: Settings, run: Any) -> None:
    folder = settings.server.var / "run"

    async def scenario() -> None:
        app = make_app("control", Heard())

        @app.post("/admin/echo")
        async def echo(body: dict[str, list[str]]) -> dict[str, Any]:
            return {"had": body}

        @app.get("/admin/status")
        async def status() -> dict[str, int]:
            return {"pid": 1}

        server = HttpServer(app, [bind_control(folder, 3)])
        await server.start()
        ask = asyncio.to_thread(request, settings, "POST", "/admin/echo", {"ids": ["ü"]}, worker=3)
        assert await ask == (200, {"had": {"ids": ["ü"]}})
        assert await asyncio.to_thread(request, settings, "GET", "/admin/status", worker=3) == (200, {"pid": 1})
        code, answer = await asyncio.to_thread(request, settings, "GET", "/admin/other", worker=3)
        assert (code, answer["error"]["code"]) == (404, "not_found")
        await server.stop(1)

    run(scenario())
    assert list(folder.iterdir()) == []


def test_the_socket_is_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0)
    try:
        folder = tmp_path / "deep" / "run"
        bind_control(folder, 0).close()
        assert os.umask(0) == 0
    finally:
        os.umask(previous)
    assert mode(folder) == 0o700
    assert mode(folder / "control-0.sock") == 0o600


def test_a_folder_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    bind_control(tmp_path, 0).close()
    assert mode(tmp_path) == 0o700


def test_the_socket_of_a_crashed_server_is_replaced(tmp_path: Path) -> None:
    bind_control(tmp_path, 0).close()
    assert (tmp_path / "control-0.sock").exists()
    with bind_control(tmp_path, 0), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "control-0.sock"))


@pytest.mark.parametrize("waiting", [0, 40], ids=["idle", "full"])
def test_the_socket_of_a_living_server_stays(tmp_path: Path, waiting: int) -> None:
    """Also of one that is too busy to accept."""
    path = str(tmp_path / "control-0.sock")
    with bind_control(tmp_path, 0) as living:
        clients = [socket.socket(socket.AF_UNIX) for _ in range(waiting)]
        for client in clients:
            client.setblocking(False)
            try:
                client.connect(path)
            except BlockingIOError:
                pass
        with pytest.raises(OperatorError, match="another server answers there"):
            bind_control(tmp_path, 0)
        for client in clients:
            client.close()
        with socket.socket(socket.AF_UNIX) as client:
            while True:
                try:
                    living.accept()[0].close()
                except BlockingIOError:
                    break
            client.connect(path)


def test_what_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("data")
    (tmp_path / "control-0.sock").symlink_to(precious)
    with pytest.raises(OperatorError, match="is no socket; move it away"):
        bind_control(tmp_path, 0)
    assert precious.read_text() == "data"


def test_a_path_too_long_for_a_socket_is_said_by_server_client_and_check(tmp_path: Path) -> None:
    var = tmp_path / ("x" * 100)
    config = tmp_path / "relay.toml"
    config.write_text(f'[server]\nvar = "{var}"\n')
    words = "107 octets of a Unix socket; use a shorter server.var"
    with pytest.raises(OperatorError, match=re.escape(words)):
        bind_control(var / "run", 0)
    with pytest.raises(OperatorError, match=re.escape(words)):
        request(load_settings(config), "GET", "/admin/status", worker=0)
    checked = CliRunner().invoke(app, ["--config", str(config), "check-config"])
    assert checked.exit_code == 2
    assert words in checked.stderr


def test_the_longest_path_that_fits_is_served_and_asked(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * (107 - len(f"{tmp_path}//run/control-0.sock"))) / "run"
    with bind_control(folder, 0) as listening:
        assert len(listening.getsockname()) == 107


def test_a_folder_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(OperatorError, match=r"cannot listen for `relay queue` \(File exists\); let the folder"):
        bind_control(tmp_path / "run", 0)


def test_without_a_server_the_client_says_how_to_start_one(settings: Settings) -> None:
    with pytest.raises(OperatorError, match=r"control-0\.sock: the server does not run; start it with `relay serve`"):
        request(settings, "GET", "/admin/status", worker=0)
    bind_control(settings.server.var / "run", 0).close()
    with pytest.raises(OperatorError, match="the server does not run"):
        request(settings, "GET", "/admin/status", worker=0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_another_user_is_told_whose_right_it_is(settings: Settings) -> None:
    with bind_control(settings.server.var / "run", 0):
        (settings.server.var / "run" / "control-0.sock").chmod(0)
        with pytest.raises(OperatorError, match="only the server's user may do that"):
            request(settings, "GET", "/admin/status", worker=0)


@pytest.mark.parametrize(
    "answer",
    [None, b"\xff\xfe\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{", b"HTTP/1.1 200 OK\r\n\r\n<html>"],
    ids=["nothing", "garbage", "cut", "html"],
)
def test_an_answer_that_breaks_off_is_one_line(settings: Settings, answer: bytes | None) -> None:
    with (
        peer(settings.server.var / "run" / "control-0.sock", answer),
        pytest.raises(OperatorError, match=r"the server broke off \(.+\); see its log") as caught,
    ):
        request(settings, "GET", "/admin/status", worker=0)
    assert str(caught.value).isprintable()
