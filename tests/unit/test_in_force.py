"""InForce: what changes at once, what needs a restart, and that a mistake changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.in_force import InForce, changes, merged, read_snapshot
from relay.mail.errors import OperatorError, SettingsError
from relay.settings import Settings


def settings(var: Path, **sections: Any) -> Settings:
    server = {"var": str(var), "workers": 1, "hostname": "a.example", **sections.pop("server", {})}
    return Settings.model_validate({"server": server, **sections})


def listener(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "port": 2525, "tls": "none", **more}


def test_keys_that_differ_are_named_by_table_and_name(tmp_path: Path) -> None:
    old = settings(tmp_path, listener=[listener("a"), listener("b")], route=[{"name": "r", "via": ["direct"]}])
    new = settings(
        tmp_path,
        server={"workers": 3},
        listener=[listener("a", tolerate=("bare_lf",), port=2526), listener("c")],
        route=[{"name": "r", "via": ["capture"]}],
        limits={"recipients": 5},
    )
    found = changes(old, new)
    assert [key for key in found.live if not key.startswith("listener.")] == ["limits.recipients", "route.r.via"]
    assert "listener.a.tolerate" in found.live
    assert {"server.workers", "listener.a.port", "listener.b.port", "listener.c.port"} <= set(found.restart)


def test_what_needs_a_restart_keeps_its_value(tmp_path: Path) -> None:
    old = settings(tmp_path, listener=[listener("a"), listener("b")])
    new = settings(
        tmp_path,
        server={"hostname": "b.example"},
        listener=[listener("a", tolerate=("bare_lf",), port=2526), listener("c")],
        spool={"file_threshold": 5, "window": 7},
    )
    found = merged(old, new)
    assert (found.server, found.spool.file_threshold, found.spool.window) == (old.server, 65_536, 7)
    assert [(one.name, one.port, one.tolerate) for one in found.listener] == [
        ("a", 2525, ("bare_lf",)),
        ("b", 2525, ("undeclared_8bit",)),
    ]
    assert changes(found, merged(found, new)).live == ()


@pytest.mark.parametrize("more", [{"plaintext_auth": True}, {"tolerate": ("old_tls",)}])
def test_what_is_for_loopback_alone_waits_with_the_address(tmp_path: Path, more: dict[str, Any]) -> None:
    """The address changes at a restart; until then the port is as public as it was."""
    old = settings(tmp_path, listener=[listener("a", address="192.0.2.1")])
    new = settings(tmp_path, listener=[listener("a", address="127.0.0.1", **more)])
    with pytest.raises(OperatorError, match="listener a: its address changes at a restart alone"):
        merged(old, new)


def test_what_was_checked_is_published_for_the_workers(tmp_path: Path) -> None:
    files = [settings(tmp_path), settings(tmp_path, limits={"recipients": 5})]
    in_force = InForce(lambda: files.pop(0))
    in_force.publish()
    assert read_snapshot(in_force.settings).limits.recipients == 1000
    assert in_force.renew().limits.recipients == 5
    assert read_snapshot(in_force.settings) == in_force.settings
    assert (tmp_path / "run/settings.json").stat().st_mode & 0o777 == 0o600


def test_a_mistake_changes_nothing(tmp_path: Path) -> None:
    good = settings(tmp_path)
    bad = settings(
        tmp_path,
        limits={"recipients": 5},
        smarthost={"one": {"host": "h", "username": "u", "password_file": "/nowhere"}},
    )
    files = [good, bad]
    in_force = InForce(lambda: files.pop(0))
    in_force.publish()
    with pytest.raises(SettingsError, match="/nowhere: cannot read the password"):
        in_force.renew()
    assert in_force.settings is good
    assert read_snapshot(good) == good


def test_without_a_running_server_there_is_nothing_in_force(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="the server does not run"):
        read_snapshot(settings(tmp_path))
