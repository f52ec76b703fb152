"""A certificate and its key: what is read, and what is refused with which fix."""

from __future__ import annotations

from pathlib import Path

import pytest
from tls_kit import DAY, NOW, Setting

from relay.mail.errors import SettingsError
from relay.smtpd.tls_pair import Pair, PairFiles, read_pair, stamp_of


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


def files(setting: Setting, certificate: str = "main.pem", key: str = "main.key") -> PairFiles:
    return PairFiles(setting.folder / certificate, setting.folder / key)


def test_names_issuer_key_and_dates_are_read(setting: Setting) -> None:
    setting.write("main", "MX.example.com", "*.example.com", "192.0.2.1", days=30)
    facts = read_pair(files(setting)).facts
    assert facts.names == ("mx.example.com", "*.example.com", "192.0.2.1")
    assert facts.key_type == "ECDSA secp256r1"
    assert facts.issuer.startswith("trustme")
    assert (facts.starts, facts.expires) == (NOW - DAY, NOW + 30 * DAY)
    assert facts.days_left(NOW + 1) == 29
    assert facts.days_left(NOW + 30 * DAY + 1) == -1


def test_a_key_of_another_certificate_is_refused(setting: Setting) -> None:
    setting.write("main", "a.example")
    setting.write("other", "b.example")
    with pytest.raises(SettingsError, match="the key is that of another certificate"):
        read_pair(files(setting, key="other.key"))


@pytest.mark.parametrize(
    ("certificate", "key", "words"),
    [
        (b"no certificate", None, "the first is no certificate in PEM"),
        (b"", None, "the first is no certificate in PEM"),
        (None, b"no key", "has a pass phrase or is none"),
        (None, b"", "has a pass phrase or is none"),
    ],
)
def test_what_is_no_pem_is_named(setting: Setting, certificate: bytes | None, key: bytes | None, words: str) -> None:
    setting.write("main", "a.example")
    if certificate is not None:
        (setting.folder / "main.pem").write_bytes(certificate)
    if key is not None:
        (setting.folder / "main.key").write_bytes(key)
    with pytest.raises(SettingsError, match=words) as caught:
        read_pair(files(setting))
    assert "\n" not in str(caught.value)


def test_a_folder_in_place_of_a_key_is_an_error_of_the_operator(setting: Setting) -> None:
    setting.write("main", "a.example")
    (setting.folder / "main.key").unlink()
    (setting.folder / "main.key").mkdir()
    with pytest.raises(SettingsError, match=r"main\.key: Is a directory"):
        read_pair(files(setting))


def test_a_pair_of_the_configuration_that_is_missing_has_its_own_fix(setting: Setting) -> None:
    absent = PairFiles(setting.folder / "shop.pem", setting.folder / "shop.key", "tls.certificates")
    with pytest.raises(SettingsError, match=r"tls\.certificates: .*shop\.pem is missing; check the path"):
        read_pair(absent)


def test_the_key_shows_in_no_representation(setting: Setting) -> None:
    setting.write("main", "a.example")
    pair = read_pair(files(setting))
    assert isinstance(pair, Pair)
    assert "PRIVATE" not in repr(pair)


def test_a_link_that_points_elsewhere_is_a_change(setting: Setting) -> None:
    """As certbot and Kubernetes renew."""
    setting.write("one", "a.example")
    setting.write("two", "a.example")
    links = files(setting, "link.pem", "link.key")
    for path in (links.certificate, links.key):
        path.symlink_to(f"one{path.suffix}")
    before = stamp_of(links)
    assert before == stamp_of(links)
    for path in (links.certificate, links.key):
        path.unlink()
        path.symlink_to(f"two{path.suffix}")
    assert stamp_of(links) not in (before, None)
