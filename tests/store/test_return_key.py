"""The key of return paths: one for all workers, for the server alone, and never made over one that is there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from relay.mail.errors import SettingsError
from relay.store.return_key import return_key


def test_all_who_start_at_once_have_the_same_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: return_key(tmp_path), range(32)))

    assert len(keys) == 1
    assert keys == {return_key(tmp_path)}
    assert [path.name for path in tmp_path.iterdir()] == ["return-path.key"]
    assert (tmp_path / "return-path.key").stat().st_mode & 0o777 == 0o600


def test_a_key_that_is_none_is_said_so_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "return-path.key").write_bytes(b"short")

    with pytest.raises(SettingsError, match=r"return-path\.key: not 32 octets; restore it"):
        return_key(tmp_path)
    assert (tmp_path / "return-path.key").read_bytes() == b"short"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="check the owner of"):
        return_key(tmp_path / "missing")
