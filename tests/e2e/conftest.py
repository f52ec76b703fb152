"""Fixtures: a fresh sandbox for a test, ended whatever happens in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from http_stub import Stub, serving
from sandbox_server import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Initialised, not started."""
    server = Server(tmp_path / "var")
    yield server
    if server.process is not None:
        server.kill()


@pytest.fixture
def running(server: Server) -> Server:
    server.start()
    return server


@pytest.fixture
def stub() -> Iterator[Stub]:
    """An HTTP API."""
    with serving() as stub:
        yield stub
