"""`relay serve` as root with `server.user`: what the workers write to is made by the user they run as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from relay import supervisor
from relay.cli import serve


def test_the_folder_of_shared_metrics_is_made_after_becoming_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Becoming another user for good would end the tests, and so only its place in the order is seen here."""
    config, folder = tmp_path / "relay.toml", tmp_path / "var" / "run" / "metrics"
    config.write_text(f'[server]\nvar = "{tmp_path / "var"}"\nworkers = 2\nuser = "nobody"\n[http]\nenabled = false\n')
    seen: list[Any] = []

    def become(user: str) -> None:
        seen.append((user, folder.parent.exists()))

    def run(*_: Any) -> int:
        seen.append(list(folder.iterdir()))
        return 0

    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")
    monkeypatch.setattr(supervisor, "drop_privileges", become)
    monkeypatch.setattr(supervisor, "serve", run)
    result = CliRunner(env={"RELAY_CONFIG": str(config)}).invoke(serve.app, [])
    assert result.exit_code == 0, result.output
    assert seen == [("nobody", False), []]
