"""Certificates of a worker: files that change are followed, and what cannot be used changes nothing."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from tls_kit import DAY, Setting, client_context, handshake

from relay.mail.errors import SettingsError


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    setting = Setting(tmp_path)
    setting.write("main", "old.example")
    setting.write("shop", "shop.example")
    setting.more = ["shop"]
    setting.start()
    return setting


def test_a_renewed_pair_is_served_after_a_look(setting: Setting) -> None:
    setting.write("main", "new.example", days=120)
    assert setting.names_for(None) == ["old.example"]
    setting.certificates.look()
    assert setting.names_for(None) == ["new.example"]
    assert setting.names_for("shop.example") == ["shop.example"]
    assert [one.names for one in setting.heard.loaded] == [("new.example",)]
    assert [one.names for one in setting.heard.served] == [("new.example",), ("shop.example",)]


def test_a_look_at_files_that_are_as_they_were_changes_nothing(setting: Setting) -> None:
    names = setting.certificates._names
    setting.certificates.look()
    assert setting.certificates._names is names
    assert setting.heard.loaded == []


def test_a_file_that_was_only_touched_is_not_told_of(setting: Setting) -> None:
    (setting.folder / "main.pem").touch()
    (setting.folder / "main.key").chmod(0o600)
    setting.certificates.look()
    assert setting.heard.loaded == []
    assert setting.heard.refused == []


def test_an_open_handshake_ends_with_what_it_began_with(setting: Setting) -> None:
    context = setting.certificates.context
    setting.write("main", "new.example")
    setting.certificates.look()
    client, _ = handshake(context, client_context())
    assert client.getpeercert()["subjectAltName"] == (("DNS", "new.example"),)  # type: ignore[index]


def test_a_certificate_whose_key_has_not_come_yet_waits_for_it(setting: Setting) -> None:
    """Two files do not change at once: no alarm when the second look finds both."""
    key = (setting.folder / "main.key").read_bytes()
    setting.write("main", "new.example")
    new_key = (setting.folder / "main.key").read_bytes()
    (setting.folder / "main.key").write_bytes(key)
    setting.certificates.look()
    assert setting.names_for(None) == ["old.example"]
    (setting.folder / "main.key").write_bytes(new_key)
    setting.certificates.look()
    assert setting.names_for(None) == ["new.example"]
    assert setting.heard.refused == []


def test_a_pair_that_does_not_fit_is_refused_once_and_the_old_one_stays(setting: Setting) -> None:
    setting.write("other", "other.example")
    (setting.folder / "other.key").replace(setting.folder / "main.key")
    for _ in range(4):
        setting.certificates.look()
    (line,) = setting.heard.refused
    assert "main.pem: " in line
    assert "KEY_VALUES_MISMATCH" in line
    assert setting.names_for(None) == ["old.example"]


def test_a_broken_pair_does_not_keep_another_from_being_renewed(setting: Setting) -> None:
    (setting.folder / "main.pem").unlink()
    setting.write("shop", "shop.example", "more.example")
    setting.certificates.look()
    setting.certificates.look()
    assert setting.names_for("more.example") == ["shop.example", "more.example"]
    assert setting.names_for(None) == ["old.example"]
    assert [line.partition(":")[0] for line in setting.heard.refused] == ["main.pem"]


@pytest.mark.parametrize(("start", "days", "words"), [(-90, -1, "expired"), (2, 90, "not valid yet")])
def test_a_new_pair_that_no_client_would_believe_is_refused(
    setting: Setting, start: float, days: float, words: str
) -> None:
    setting.write("main", "new.example", start=start, days=days)
    setting.certificates.look()
    setting.certificates.look()
    assert setting.names_for(None) == ["old.example"]
    (line,) = setting.heard.refused
    assert words in line


def test_a_repaired_pair_is_served(setting: Setting) -> None:
    (setting.folder / "main.pem").write_text("half a certific")
    setting.certificates.look()
    setting.certificates.look()
    setting.write("main", "new.example")
    setting.certificates.look()
    assert setting.names_for(None) == ["new.example"]


def test_a_server_starts_with_an_expired_certificate_and_says_so(tmp_path: Path) -> None:
    """Mail by opportunistic TLS goes on; to refuse the start would stop all of it."""
    setting = Setting(tmp_path)
    setting.write("main", "old.example", days=-3, start=-30)
    setting.start()
    setting.certificates.remind()
    assert setting.names_for(None) == ["old.example"]
    assert setting.heard.expiring == [("main.pem", -3)]


def test_a_reload_keeps_a_good_pair_where_the_new_one_has_expired(setting: Setting) -> None:
    setting.write("main", "new.example", days=-1, start=-90)
    setting.start()
    assert setting.names_for(None) == ["old.example"]
    assert len(setting.heard.refused) == 1


def test_a_reload_reads_only_what_has_changed(setting: Setting) -> None:
    """Hundreds of certificates would hold the loop for a second."""
    main, shop = (one.pair for one in setting.certificates._watched)
    setting.write("shop", "shop.example", days=120)
    setting.start()
    assert [one.pair is before for one, before in zip(setting.certificates._watched, (main, shop), strict=True)] == [
        True,
        False,
    ]


def test_a_reload_with_a_pair_that_cannot_be_read_changes_nothing(setting: Setting) -> None:
    setting.more = ["shop", "absent"]
    with pytest.raises(SettingsError, match=r"absent\.pem is missing"):
        setting.start()
    assert setting.names_for("shop.example") == ["shop.example"]


def test_a_reload_takes_in_further_certificates_and_a_stricter_minimum(setting: Setting) -> None:
    setting.write("third", "third.example")
    setting.more = ["third"]
    setting.start(minimum="1.3")
    assert setting.names_for("third.example") == ["third.example"]
    assert setting.names_for("shop.example") == ["old.example"]
    old = client_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(setting.certificates.context, old)


def test_what_expires_soon_is_said_once_a_day_and_no_more_after_the_renewal(setting: Setting) -> None:
    setting.clock.time += 75.5 * DAY
    setting.write("shop", "shop.example", days=170)
    for _ in range(8):
        setting.certificates.look()
        setting.certificates.remind()
        setting.clock.time += DAY / 2
    assert setting.heard.expiring == [("main.pem", 13), ("main.pem", 12), ("main.pem", 11)]
    setting.write("main", "old.example", days=170)
    setting.certificates.look()
    setting.certificates.remind()
    assert len(setting.heard.expiring) == 3


def test_no_expiry_is_said_before_its_time(setting: Setting) -> None:
    setting.certificates.remind()
    assert setting.heard.expiring == []


def test_a_listener_may_ask_for_a_newer_tls_than_the_others(setting: Setting) -> None:
    strict, old = setting.certificates.at_least("1.3"), client_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        handshake(strict, old)
    assert handshake(strict, client_context())[0].version() == "TLSv1.3"
    assert handshake(setting.certificates.context, old)[0].version() == "TLSv1.2"
    assert setting.certificates.at_least("1.3") is strict


def test_it_serves_renewed_certificates_too(setting: Setting) -> None:
    strict = setting.certificates.at_least("1.3")
    setting.write("main", "new.example", days=120)
    setting.certificates.look()
    client, _ = handshake(strict, client_context())
    assert client.getpeercert()["subjectAltName"] == (("DNS", "new.example"),)  # type: ignore[index]
