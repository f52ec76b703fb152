"""The verifier most mail servers run, opendkim, on our signatures and our records. It asks no network."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from relay.ports import SystemClock
from relay.signing.dkim import DkimSigner
from relay.signing.keys import KeyStore
from relay.signing.records import dkim_value

OPENDKIM = shutil.which("opendkim", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")

pytestmark = pytest.mark.skipif(OPENDKIM is None, reason="opendkim is not installed")

HEADER = (
    b"From: Joe <joe@example.com>\r\nTo: a@example.net\r\nSubject: some   text\r\n\tfolded \r\nMIME-Version: 1.0\r\n"
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    keys = KeyStore(tmp_path_factory.mktemp("var") / "keys")
    keys.add("example.com")
    return keys


def verdicts(folder: Path, store: KeyStore, message: bytes) -> list[str]:
    """The `dkim=` results opendkim would put into Authentication-Results, one a signature."""
    records = folder / "records"
    records.write_text("".join(f"{key.dns_name} {dkim_value(key)}\n" for key in store.keys("example.com")))
    config = folder / "opendkim.conf"
    config.write_text(f"Mode v\nTestPublicKeys {records}\nTemporaryDirectory {folder}\n")
    (folder / "message").write_bytes(message)
    run = subprocess.run(
        [str(OPENDKIM), "-x", str(config), "-t", str(folder / "message"), "-vv"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = (line.strip() for line in run.stdout.splitlines())
    return [line.split()[0].removeprefix("dkim=") for line in lines if line.startswith("dkim=")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\r\n",
        b"Hello\r\n",
        b"Hello  there \t \r\n\r\n  indented\r\n\r\n\r\n",
        "Grüße\r\n".encode(),
        b".\r\n..\r\n",
        b"x" * 990 + b"\r\n",
        b"many lines of text  \r\n" * 20_000,
    ],
    ids=["none", "empty line", "one line", "blanks", "8 bit", "dots", "long line", "400 KB"],
)
def test_opendkim_accepts_both_signatures(tmp_path: Path, store: KeyStore, body: bytes) -> None:
    """rsa-sha256 and ed25519-sha256 pass."""
    content = HEADER + b"\r\n" + body
    prefix = DkimSigner(store, SystemClock()).sign(content, "")
    assert verdicts(tmp_path, store, prefix + content) == ["pass", "pass"]


def test_opendkim_sees_a_change(tmp_path: Path, store: KeyStore) -> None:
    """The check is alive: a changed body and an added From fail."""
    content = HEADER + b"\r\nHello\r\n"
    prefix = DkimSigner(store, SystemClock()).sign(content, "")
    for changed in (content.replace(b"Hello", b"Hullo"), content.replace(b"To:", b"Cc: x@example.net\r\nTo:")):
        assert verdicts(tmp_path, store, prefix + changed) == ["fail", "fail"]
