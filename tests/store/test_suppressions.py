"""The suppression list: one file, many processes; what is on it is found in any spelling, and until it expires."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from relay.mail.errors import StoreError
from relay.ports import Suppression, SuppressionReason
from relay.store.suppressions import SUPPRESSION_FILE, Suppressions


class Clock:
    at = 1_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


def entry(
    address: str, account: str = "shop", reason: SuppressionReason = "bounce", until: float | None = None
) -> Suppression:
    return Suppression(account, address, reason, "5.1.1", 1_000.0, until)


def test_a_list_that_is_not_there_is_empty_and_looking_does_not_make_it(tmp_path: Path) -> None:
    store = Suppressions(tmp_path, Clock())

    assert store.find("shop", "ann@example.net") is None
    assert store.entries() == []
    assert not (tmp_path / SUPPRESSION_FILE).exists()


def test_an_address_is_found_in_any_spelling_and_for_its_account_alone(tmp_path: Path) -> None:
    """And by a process that looked before it was put there."""
    reader, writer = Suppressions(tmp_path, Clock()), Suppressions(tmp_path, Clock())
    assert reader.find("shop", "Ann@bücher.example") is None
    assert writer.add([entry("ann@bücher.example")]) == 1

    found = reader.find("shop", "Ann@XN--BCHER-KVA.example")
    assert found is not None
    assert (found.reason, found.words) == ("bounce", "5.1.1")
    assert reader.find("other", "ann@bücher.example") is None
    assert (tmp_path / SUPPRESSION_FILE).stat().st_mode & 0o777 == 0o600
    assert writer.remove("shop", "ANN@bücher.example")
    assert not writer.remove("shop", "ann@bücher.example")
    assert reader.find("shop", "ann@bücher.example") is None
    reader.close()


def test_a_thousand_addresses_are_one_question(tmp_path: Path) -> None:
    """And each is found under the spelling it was asked for by, if it is on the list of that account."""
    store = Suppressions(tmp_path, Clock())
    store.add([entry("ann@example.net"), entry("cy@bücher.example"), entry("eve@example.net", until=900.0)])
    store.add([entry("r7@example.net", account="other")])
    assert store.find_all("shop", []) == {}
    assert store._reader is not None
    asked: list[str] = []
    store._reader.exec_trace = lambda cursor, sql, bindings: asked.append(sql) or True

    spellings = ["Ann@Example.NET", "ann@example.net", "cy@xn--bcher-kva.example", "eve@example.net"]
    found = store.find_all("shop", [*(f"r{n}@example.net" for n in range(996)), *spellings])

    assert {address: one.address for address, one in found.items()} == {
        "Ann@Example.NET": "ann@example.net",
        "ann@example.net": "ann@example.net",
        "cy@xn--bcher-kva.example": "cy@xn--bcher-kva.example",
    }
    assert len(asked) == 1
    store.close()


def test_what_has_expired_is_not_on_the_list(tmp_path: Path) -> None:
    clock = Clock()
    store = Suppressions(tmp_path, clock)
    store.add([entry("ann@example.net", until=1_010.0), entry("bob@example.net")])
    clock.at = 1_010.0

    assert store.find("shop", "ann@example.net") is None
    assert [one.address for one in store.entries("shop")] == ["bob@example.net"]
    store.close()


def test_the_graver_reason_stays(tmp_path: Path) -> None:
    """A bounce does not make what an operator decided run out; the same reason again starts anew."""
    store = Suppressions(tmp_path, Clock())
    store.add([entry("ann@example.net", reason="manual"), entry("bob@example.net", until=1_100.0)])

    assert store.add([entry("ann@example.net", until=1_050.0)]) == 0
    assert store.add([entry("bob@example.net", until=1_200.0)]) == 1
    assert store.add([entry("bob@example.net", reason="complaint")]) == 1
    assert [(one.reason, one.expires_at) for one in store.entries()] == [("manual", None), ("complaint", None)]
    store.close()


def test_all_of_an_import_or_nothing(tmp_path: Path) -> None:
    store = Suppressions(tmp_path, Clock())

    with pytest.raises(StoreError):
        store.add([entry("ann@example.net"), Suppression("shop", "b@example.net", "whim", "", 0.0)])
    assert store.entries() == []
    store.close()


def test_many_write_at_once_and_nothing_is_lost(tmp_path: Path) -> None:
    """Each as a worker of its own would."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: Suppressions(tmp_path, Clock()).add([entry(f"r{n}@example.net")]), range(40)))

    assert len(Suppressions(tmp_path, Clock()).entries()) == 40


def test_a_file_that_is_no_list_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / SUPPRESSION_FILE).write_bytes(b"no database at all, but long enough to look like one" * 40)

    with pytest.raises(StoreError, match=SUPPRESSION_FILE):
        Suppressions(tmp_path, Clock()).find("shop", "ann@example.net")
