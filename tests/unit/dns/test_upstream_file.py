"""resolv.conf: missing, empty, broken and changed. No question leaves the machine here."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from relay.dns.upstream import Upstream
from relay.mail.errors import DnsTemporaryError
from relay.settings import DnsSettings


class Clock:
    """Time that moves when told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


@pytest.mark.parametrize("text", [None, b"", b"# nothing\n", b"nameserver not-an-address\n", b"nameserver \xff\xfe\n"])
def test_without_a_name_server_every_question_is_put_off(tmp_path: Path, text: bytes | None) -> None:
    """The start succeeds; the question says which file to mend."""
    file = tmp_path / "resolv.conf"
    if text is not None:
        file.write_bytes(text)
    upstream = Upstream(DnsSettings(), Clock(), file)
    with pytest.raises(DnsTemporaryError, match=r"no name server in .*resolv\.conf"):
        asyncio.run(upstream.ask("a.example", "A"))


def test_a_changed_file_is_followed(tmp_path: Path) -> None:
    """Within 30 seconds, and a file that is broken for a moment changes nothing."""
    file = tmp_path / "resolv.conf"
    clock = Clock()
    upstream = Upstream(DnsSettings(), clock, file)

    def servers() -> list[str]:
        return [getattr(server, "address", "") for server in upstream._configured().nameservers]

    file.write_text("nameserver 192.0.2.1\noptions edns0 timeout:0 rotate\n")
    assert servers() == ["192.0.2.1"]
    for moment, text, wanted in [(1, "nameserver 192.0.2.2\n", "192.0.2.1"), (31, "", "192.0.2.1")]:
        file.write_text(text)
        os.utime(file, ns=(0, moment))
        clock.seconds = moment
        assert servers() == [wanted]
    file.write_text("nameserver 192.0.2.3\n")
    clock.seconds = 62
    assert servers() == ["192.0.2.3"]


@pytest.mark.parametrize("name", ["a..example", ".example", "x" * 64 + ".example", ".".join(["x" * 63] * 4) + ".xy"])
def test_a_name_that_dns_cannot_hold_does_not_exist(tmp_path: Path, name: str) -> None:
    """Nothing is asked: there is nobody to ask here."""
    upstream = Upstream(DnsSettings(), Clock(), tmp_path / "none")
    assert asyncio.run(upstream.ask(name, "A")).exists is False
