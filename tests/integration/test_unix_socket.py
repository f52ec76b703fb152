"""A Unix socket: who connects is known by the kernel; others log in. With real clients where they are installed."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from front_door import MESSAGE, FrontDoor, read_all

from relay.mail.errors import OperatorError
from relay.settings import ListenerSettings
from relay.smtpd.unix_socket import bind_unix

CA = trustme.CA()
ME = {"user": str(os.getuid()), "account": "acme", "senders": ["a@b.example", "@shop.example"]}
DIALOGUE = (
    b"EHLO here\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<bob@other.example>\r\nDATA\r\n" + MESSAGE + b".\r\nQUIT\r\n"
)


def run(folder: Path, client: Callable[[str], None], **options) -> FrontDoor:
    path = str(folder / "submission.sock")
    door = FrontDoor(folder, CA, **{"address": f"unix:{path}", "tls": "none", "peer": [ME], **options})

    async def test() -> None:
        await door.beside(lambda: client(path))

    asyncio.run(door.run(test))
    return door


def talk(path: str, words: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as session:
        session.settimeout(60)
        session.connect(path)
        session.sendall(words)
        return read_all(session)


def test_a_user_of_this_machine_sends_without_a_password_as_its_account(tmp_path: Path) -> None:
    def client(path: str) -> None:
        assert b"250 2.0.0 Ok: queued as" in talk(path, DIALOGUE)

    door = run(tmp_path, client)
    assert (door.stored[0].account, door.stored[0].username) == ("acme", f"user:{os.getuid()}")
    content = door.stored[0].content or b""
    assert content.startswith(f"Received: from here (local, uid {os.getuid()})\r\n\t(known as user:".encode())
    assert b"with ESMTP id" in content
    assert [login.username for login in door.observer.logins if login] == [f"user:{os.getuid()}"]
    assert door.observer.open == 0


def test_its_senders_are_those_of_the_configuration(tmp_path: Path) -> None:
    def client(path: str) -> None:
        said = talk(path, DIALOGUE.replace(b"FROM:<a@b.example>", b"FROM:<x@b.example>"))
        assert b"550 5.7.1 user:" in said
        assert b"250 2.1.0 Ok" in talk(path, DIALOGUE.replace(b"FROM:<a@b.example>", b"FROM:<x@shop.example>"))

    run(tmp_path, client)


@pytest.mark.parametrize("peer", [{"user": "4711"}, {"account": "gone"}])
def test_another_user_or_one_without_an_account_has_to_log_in(tmp_path: Path, peer: dict[str, str]) -> None:
    def client(path: str) -> None:
        assert b"530 5.7.0 Authentication required" in talk(path, DIALOGUE)
        login = b"EHLO here\r\nAUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n"
        assert b"250 2.0.0 Ok: queued as" in talk(path, login + DIALOGUE)

    door = run(tmp_path, client, peer=[ME | peer], plaintext_auth=True)
    assert door.stored[0].username == "alice"


def test_who_is_known_may_log_in_as_somebody_else(tmp_path: Path) -> None:
    def client(path: str) -> None:
        login = b"EHLO here\r\nAUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n"
        assert b"250 2.0.0 Ok: queued as" in talk(path, login + DIALOGUE)

    assert run(tmp_path, client, plaintext_auth=True).stored[0].username == "alice"


# --- the file ----------------------------------------------------------------------------------------------


def settings(path: Path, **more: str) -> ListenerSettings:
    return ListenerSettings(name="local", address=f"unix:{path}", **more)


def test_mode_and_owner_are_set_and_a_socket_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    for mode in ("0600", "666"):
        bind_unix(settings(path, mode=mode, owner=f":{_own_group()}"), "listener 'local'").close()
        status = path.stat()
        assert stat.S_IMODE(status.st_mode) == int(mode, 8)
        assert status.st_gid == os.getgid()


def _own_group() -> str:
    import grp

    return grp.getgrgid(os.getgid()).gr_name


def test_a_socket_in_use_a_file_and_an_unknown_owner_are_refused_with_the_fix(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with bind_unix(settings(path), "listener 'local'"), pytest.raises(OperatorError, match="is in use; stop what"):
        bind_unix(settings(path), "listener 'local'")
    path.unlink()
    with pytest.raises(OperatorError, match="no such user or group here; create it"):
        bind_unix(settings(path, owner="nobody-of-that-name"), "listener 'local'")
    assert not path.exists()
    path.write_text("precious")
    with pytest.raises(OperatorError, match="is there and is no socket; remove it"):
        bind_unix(settings(path), "listener 'local'")
    assert path.read_text() == "precious"
    with pytest.raises(OperatorError, match="make the folder first"):
        bind_unix(settings(tmp_path / "none" / "s"), "listener 'local'")


# --- real clients ------------------------------------------------------------------------------------------

CLIENTS = {
    "swaks": "swaks --socket PATH --from a@b.example --to bob@other.example --helo here",
    "curl": "curl -sS --unix-socket PATH --mail-from a@b.example --mail-rcpt bob@other.example -T - smtp://here",
    "msmtp": "msmtp -C /dev/null --socket=PATH --host=here -f a@b.example --domain=here bob@other.example",
}


@pytest.mark.parametrize("program", CLIENTS)
def test_a_real_client(tmp_path: Path, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")

    def client(path: str) -> None:
        words = CLIENTS[program].replace("PATH", path).split()
        done = subprocess.run(words, input=MESSAGE, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    assert run(tmp_path, client).stored[0].account == "acme"
