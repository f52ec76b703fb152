"""Disk: full below its limit, in time for mail that is still to be written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relay.store.disk import Disk


class _Status:
    f_frsize = 4096
    f_files = 1_000_000

    def __init__(self, blocks: int, inodes: int) -> None:
        self.f_bavail = blocks
        self.f_favail = inodes


@pytest.mark.parametrize(
    ("blocks", "inodes", "full"),
    [(1000, 50_000, False), (999, 50_000, True), (1000, 1000, True), (10**9, 1001, False)],
)
def test_too_few_octets_or_inodes_make_it_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: int, inodes: int, full: bool
) -> None:
    disk = Disk(tmp_path, 1000 * 4096)
    monkeypatch.setattr(os, "statvfs", lambda folder: _Status(blocks, inodes))
    assert not disk.full(), "nothing is known before a look"
    disk.look()
    assert disk.full() is full
    monkeypatch.setattr(os, "statvfs", lambda folder: _Status(10**9, 10**9))
    disk.look()
    assert not disk.full()
