"""A provider somebody else wrote: docs/providers/skeleton, built, installed into a venv, and used by a server there."""

from __future__ import annotations

import base64
import functools
import importlib.util
import json
import shutil
import subprocess
import sys
import sysconfig
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import sandbox_server
from http_stub import Stub, states, until
from sandbox_server import Server, relay

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "3b1d6a0c9f8e4d7b2a5c"
CONFIG = """
[[route]]
name = "own"
match.recipient_domain = ["shop.example"]
via = ["provider:own"]

[provider.own]
kind = "example"
api_key_file = "{var}/own.key"
base_url = "http://127.0.0.1:{port}/v1"
hook_token_file = "{var}/own.hook"
allow_private = true

[provider.own.options]
stream = "shop"
"""

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("pip") is None, reason="pip builds the skeleton, and this environment lacks it"
)


def run(*command: str | Path) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a venv that has the relay, what it needs, and the skeleton; all of it without a network."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copytree(ROOT / "docs/providers/skeleton", folder / "skeleton")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    found = folder / "venv/bin/python"
    packages = Path(run(found, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (packages / "relay.pth").write_text(f"{sysconfig.get_path('purelib')}\n{ROOT}\n")
    offline = ("--no-index", "--no-deps", "--disable-pip-version-check", "-q")
    pip = (sys.executable, "-m", "pip")
    run(*pip, "wheel", *offline, "--no-build-isolation", "-w", folder, folder / "skeleton")
    [wheel] = folder.glob("*.whl")
    run(*pip, "--python", found, "install", *offline, wheel)
    return found


@pytest.fixture
def own(server: Server, stub: Stub, python: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """Configured, not started."""
    monkeypatch.setattr(sandbox_server, "RELAY", [str(python), "-m", "relay"])
    (server.var / "own.key").write_text("key-0123456789")
    (server.var / "own.hook").write_text(TOKEN)
    with server.config.open("a") as config:
        config.write(CONFIG.format(var=server.var, port=stub.port))
    return server


def call_back(server: Server, body: Any) -> int:
    url = f"http://127.0.0.1:{8025 + server.offset}/hooks/own/{TOKEN}"
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode()), timeout=60) as answer:
        return int(answer.status)


def test_mail_goes_by_it_and_its_callbacks_are_heard(own: Server, stub: Stub) -> None:
    """As with a provider of the house."""
    stub.answers = [(503, {}, {"error": "busy"}), (200, {}, {"id": "x-1"})]
    own.configure("delays = [2, 5, 10, 20, 40]", "delays = [1, 1, 1]\njitter = 0")
    own.start()
    sender = own.facts["username"]
    with own.client() as client:
        text = f"From: {sender}\r\nTo: anna@shop.example\r\nX-Mailgun-Tag: hi\r\nSubject: x\r\n\r\nHello\r\n"
        client.sendmail(sender, ["anna@shop.example", "berta@shop.example"], text)
    names = ("anna@shop.example", "berta@shop.example")
    until(lambda: states(own) == dict.fromkeys(names, "sent"), own)
    (_, _, first), (path, headers, body) = stub.requests
    assert path == "/v1/messages"
    assert headers["authorization"] == "Bearer key-0123456789"
    assert (body["from"], body["to"], body["stream"], body["tags"]) == (sender, list(names), "shop", ["hi"])
    raw = base64.b64decode(body["raw"])
    assert raw.endswith(b"\r\n\r\nHello\r\n")
    assert b"X-Mailgun" not in raw
    assert first["to"] == body["to"]

    told = {"message_id": "x-1", "time": 1795600000}
    events = [
        {**told, "event": "delivered", "event_id": "1", "recipient": names[0]},
        {
            **told,
            "event": "bounced",
            "event_id": "2",
            "recipient": names[1],
            "bounce": "hard",
            "reason": "no such user",
        },
    ]
    assert call_back(own, events) == 200
    until(lambda: states(own).items() >= {names[0]: "delivered", names[1]: "bounced"}.items(), own)


def test_its_options_are_checked_and_explained_as_others_are(own: Server) -> None:
    """check-config names the key; explain says what would be carried."""
    check = functools.partial(relay, "--config", own.config)
    message = own.var / "m.eml"
    message.write_bytes(b"From: a@shop.example\r\nTo: b@shop.example\r\nSubject: x\r\n\r\nhi\r\n")
    assert check("check-config").returncode == 0
    assert "own" in check("providers", "explain", message, "--to", "b@shop.example").stdout
    own.configure('stream = "shop"', 'strem = "shop"')
    told = check("check-config")
    assert told.returncode != 0
    assert "provider.own.options.strem" in told.stderr
    assert "known: accept, withhold_headers, stream" in told.stderr
    own.configure('kind = "example"', 'kind = "exampel"')
    assert "did you mean 'example'?" in check("check-config").stderr
