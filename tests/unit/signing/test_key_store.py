"""Keys on disk: where they lie, who may read them, which of them sign, and what is refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from relay.mail.errors import OperatorError
from relay.signing.keys import KeyStore

DOMAIN = "example.com"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def put(folder: Path, name: str, data: bytes, mode: int = 0o600) -> Path:
    """A file as an operator might drop it."""
    path = folder / DOMAIN / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)
    return path


def ed25519_pem() -> bytes:
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def rsa_pem(bits: int) -> bytes:
    return generate_private_key(65537, bits).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def signing(store: KeyStore) -> list[str]:
    return [key.selector for key in store.find(DOMAIN)]


def test_without_a_folder_nothing_is_known(folder: Path) -> None:
    """A relay that signs nothing needs no key folder, and makes none."""
    store = KeyStore(folder)
    assert store.domains() == ()
    assert store.find(DOMAIN) == ()
    assert not folder.exists()


def test_add_makes_private_files(folder: Path) -> None:
    """An RSA-2048 and an Ed25519 key as PKCS#8, 0600 in folders of 0700, with nothing left beside them."""
    store = KeyStore(folder)
    old_umask = os.umask(0)
    try:
        rsa, ed25519 = store.add("Example.COM.")
    finally:
        os.umask(old_umask)
    assert (rsa.domain, rsa.selector, rsa.algorithm) == (DOMAIN, "relay1", "rsa")
    assert (ed25519.domain, ed25519.selector, ed25519.algorithm) == (DOMAIN, "relay1e", "ed25519")
    assert rsa.private.key_size == 2048
    files = sorted((folder / DOMAIN).iterdir())
    assert [path.name for path in files] == ["relay1.rsa.pem", "relay1e.ed25519.pem"]
    assert all(path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n") for path in files)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / DOMAIN)} == {0o700}


def test_private_parts_are_not_shown(folder: Path) -> None:
    """A key in a log line or traceback shows its name alone."""
    assert "private" not in repr(KeyStore(folder).add(DOMAIN))


def test_adding_again_changes_nothing(folder: Path) -> None:
    """The same command twice keeps the keys that DNS already shows."""
    first = [key.public_base64 for key in KeyStore(folder).add(DOMAIN)]
    assert [key.public_base64 for key in KeyStore(folder).add(DOMAIN)] == first


def test_adding_completes_what_a_crash_left(folder: Path) -> None:
    """With one of the two keys there, only the other is made, and both sign."""
    store = KeyStore(folder)
    store.add(DOMAIN)
    (folder / DOMAIN / "relay1e.ed25519.pem").unlink()
    kept = (folder / DOMAIN / "relay1.rsa.pem").read_bytes()
    store.add(DOMAIN)
    assert (folder / DOMAIN / "relay1.rsa.pem").read_bytes() == kept
    assert signing(store) == ["relay1", "relay1e"]


def test_a_new_selector_waits_until_it_is_used(folder: Path) -> None:
    """Rotation: the old keys sign until `use`; then the new ones do, also after a restart."""
    store = KeyStore(folder)
    store.add(DOMAIN)
    added = store.add(DOMAIN, "relay2")
    assert {key.selector: key.active for key in added} == {
        "relay1": True,
        "relay1e": True,
        "relay2": False,
        "relay2e": False,
    }
    assert signing(store) == ["relay1", "relay1e"]
    store.use(DOMAIN, ["relay2", "relay2e"])
    assert signing(store) == signing(KeyStore(folder)) == ["relay2", "relay2e"]


@pytest.mark.parametrize("selectors", [[], ["relay9"], ["relay1", "relay9"], ["../../x"]])
def test_use_wants_keys_that_exist(folder: Path, selectors: list[str]) -> None:
    """A selector without a key would mean mail without a signature."""
    store = KeyStore(folder)
    store.add(DOMAIN)
    with pytest.raises(OperatorError):
        store.use(DOMAIN, selectors)
    assert signing(KeyStore(folder)) == ["relay1", "relay1e"]


def test_parents_sign_for_their_children_only(folder: Path) -> None:
    """The longest suffix with keys signs; siblings, parents and look-alikes get nothing."""
    store = KeyStore(folder)
    store.add("mail.example.com")
    assert store.find("a.b.mail.example.com")[0].domain == "mail.example.com"
    for other in ("example.com", "email.example.com", "mail.example.com.test", "com", "", "." * 300):
        assert store.find(other) == ()


def test_reload_reads_only_what_changed(folder: Path) -> None:
    """Nothing changed: nothing is read. A key more: the others stay the very same objects."""
    store = KeyStore(folder)
    before = store.add(DOMAIN)
    assert store.reload() is False
    KeyStore(folder).add("example.org")
    assert store.reload() is True
    assert store.domains() == (DOMAIN, "example.org")
    assert all(new.private is old.private for new, old in zip(store.keys(DOMAIN), before, strict=True))


def test_reload_sees_a_file_replaced_and_a_file_gone(folder: Path) -> None:
    """An operator may swap or remove key files while the relay runs."""
    store = KeyStore(folder)
    old = store.add(DOMAIN)[1].public_base64
    put(folder, "relay1e.ed25519.pem", ed25519_pem())
    assert store.reload() is True
    assert store.keys(DOMAIN)[1].public_base64 != old
    (folder / DOMAIN / "relay1e.ed25519.pem").unlink()
    assert store.reload() is True
    assert signing(store) == ["relay1"]


def test_a_bad_file_leaves_the_loaded_keys_in_use(folder: Path) -> None:
    """A mistake made while the relay runs is told to the operator and costs no signature."""
    store = KeyStore(folder)
    store.add(DOMAIN)
    path = put(folder, "broken.rsa.pem", b"no key")
    with pytest.raises(OperatorError, match=r"broken\.rsa\.pem: not an unencrypted"):
        store.reload()
    assert signing(store) == ["relay1", "relay1e"]
    path.unlink()
    store.reload()
    assert signing(store) == ["relay1", "relay1e"]


def test_key_files_that_cannot_be_used_are_named(folder: Path) -> None:
    """Each mistake is one line with the file and the fix."""
    encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"
    for name, data, mode, message in (
        ("a.rsa.pem", rsa_pem(1024), 0o600, "1024 bits"),
        ("a.rsa.pem", ed25519_pem(), 0o600, "not an rsa key"),
        ("a.ed25519.pem", rsa_pem(2048), 0o600, "not an ed25519 key"),
        ("a.rsa.pem", encrypted, 0o600, "unencrypted"),
        ("a.rsa.pem", b"x" * 20_000, 0o600, "not a key file"),
        ("a.ed25519.pem", ed25519_pem(), 0o640, "chmod 600"),
        ("a.ed25519.pem", ed25519_pem(), 0o604, "chmod 600"),
        ("a.pem", ed25519_pem(), 0o600, "name it"),
        ("a.dsa.pem", ed25519_pem(), 0o600, "name it"),
        ("A.ed25519.pem", ed25519_pem(), 0o600, "selector"),
        ("active", b"nobody\n", 0o600, "names no key"),
    ):
        good = put(folder, "good.ed25519.pem", ed25519_pem())
        path = put(folder, name, data, mode)
        with pytest.raises(OperatorError, match=message) as caught:
            KeyStore(folder)
        assert str(caught.value).startswith(str(path))
        path.unlink()
        good.unlink()


def test_one_selector_is_one_key(folder: Path) -> None:
    """DNS holds one key a selector, so two files of one selector are a mistake."""
    put(folder, "mail.ed25519.pem", ed25519_pem())
    put(folder, "mail.rsa.pem", rsa_pem(2048))
    with pytest.raises(OperatorError, match="share a selector"):
        KeyStore(folder)


NO_NAMES = ["..", ".", "", "/", "../../x", "a/../../x", "/etc", "..\\x", "C:\\x", "%2e%2e/a.b", "-a.example", "a..b"]


@pytest.mark.parametrize("name", [*NO_NAMES, "a\0.example", "example", "a" * 64 + ".example", "a b.example", "é" * 300])
def test_a_domain_that_is_none_becomes_no_folder(folder: Path, name: str) -> None:
    """Nothing but a domain name becomes a path, and nothing is made on disk."""
    with pytest.raises(OperatorError):
        KeyStore(folder).add(name)
    assert not folder.exists()


@pytest.mark.parametrize("name", [*NO_NAMES, "a\0", "A", "a" * 63, "a b", "é", "a\n", "_a", "a_"])
def test_a_selector_that_is_none_becomes_no_file(folder: Path, name: str) -> None:
    """The same for selectors; one letter has to be left for the Ed25519 key's."""
    with pytest.raises(OperatorError):
        KeyStore(folder).add(DOMAIN, name)
    assert not folder.exists()


def test_symbolic_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    """A link in the key folder leads nowhere: not for reading, and not for a root operator's writing."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mail.ed25519.pem").write_bytes(ed25519_pem())
    (outside / "mail.ed25519.pem").chmod(0o600)
    store = KeyStore(folder)
    store.add("example.org")

    (folder / DOMAIN).symlink_to(outside)
    with pytest.raises(OperatorError, match="symbolic link"):
        KeyStore(folder)
    with pytest.raises(OperatorError):
        store.add(DOMAIN)
    (folder / DOMAIN).unlink()

    (folder / DOMAIN).mkdir()
    (folder / DOMAIN / "mail.ed25519.pem").symlink_to(outside / "mail.ed25519.pem")
    with pytest.raises(OperatorError):
        KeyStore(folder)
    assert [path.name for path in outside.iterdir()] == ["mail.ed25519.pem"]


def test_the_key_folder_itself_is_no_link(folder: Path, tmp_path: Path) -> None:
    """Whoever owns var cannot send a root operator's keys elsewhere."""
    (tmp_path / "outside").mkdir()
    folder.symlink_to(tmp_path / "outside")
    with pytest.raises(OperatorError):
        KeyStore(folder)


def test_writing_is_all_or_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file and its folder are synced around the moment the name appears, and a failure leaves no name."""
    store = KeyStore(folder)
    calls: list[str] = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(descriptor: int) -> None:
        calls.append("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        real_fsync(descriptor)

    def link(*args, **kwargs) -> None:
        calls.append("name")
        real_link(*args, **kwargs)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    store.add(DOMAIN)
    named = calls.index("name")
    assert calls[named - 1 : named + 2] == ["sync file", "name", "sync folder"]

    def full(*_args, **_kwargs) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OperatorError, match="No space left"):
        store.add("example.org")
    assert list((folder / "example.org").iterdir()) == []


def test_an_existing_key_is_never_overwritten(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that another command has just written is an error, not a loss."""
    KeyStore(folder).add(DOMAIN)
    kept = (folder / DOMAIN / "relay1.rsa.pem").read_bytes()
    store = KeyStore(folder)
    monkeypatch.setattr(KeyStore, "keys", lambda self, domain: ())
    with pytest.raises(OperatorError, match="exists already"):
        store.add(DOMAIN)
    assert (folder / DOMAIN / "relay1.rsa.pem").read_bytes() == kept


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_gives_keys_to_the_owner_of_var(tmp_path: Path) -> None:
    """`relay domain add` run by root makes keys the service can read."""
    var = tmp_path / "var"
    var.mkdir()
    os.chown(var, 12345, 12346)
    KeyStore(var / "keys").add(DOMAIN)
    paths = [var / "keys", var / "keys" / DOMAIN, *(var / "keys" / DOMAIN).iterdir()]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in paths} == {(12345, 12346)}


def test_without_var_the_error_names_it(tmp_path: Path) -> None:
    """Keys are not made in a place nobody set up."""
    with pytest.raises(OperatorError, match="no such folder"):
        KeyStore(tmp_path / "var" / "keys").add(DOMAIN)
