"""The registry: what the operator writes and the server reads, in one process."""

import os
import stat
from dataclasses import dataclass

import apsw
import pytest

from relay.mail.errors import StoreError
from relay.mail.session import SenderRights
from relay.store.registry import REGISTRY_FILE, Registry
from relay.store.registry_admin import RegistryAdmin, keep_scram
from relay.store.registry_records import sender_rights

HASH = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0$first"
OTHER = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0$other"
ANY = SenderRights()
KEY_HASH = bytes(range(32))


@dataclass
class ManualClock:
    """Time that moves when a test says so."""

    time: float = 1000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def admin(tmp_path, clock):
    with RegistryAdmin.open(tmp_path, clock) as one:
        yield one


@pytest.fixture
def registry(tmp_path):
    one = Registry(tmp_path / REGISTRY_FILE)
    yield one
    one.close()


def test_what_was_added_is_found_and_survives_a_restart(tmp_path, clock, registry):
    """Account, rights, hash and key come back as they went in, from another process's point of view."""
    rights = sender_rights(["Bob@Example.COM", "Bob@example.com"], ["@Example.ORG"])
    with RegistryAdmin.open(tmp_path, clock) as admin:
        added = admin.add_credential("App1", "acme", HASH, rights, "printer")
        admin.add_api_key("abcdefgh2345", KEY_HASH, "acme", ("messages:*",), rights)
    assert (added.name, added.account, added.account_created) == ("app1", "acme", True)
    for one in (registry, Registry(tmp_path / REGISTRY_FILE)):
        assert one.refresh()
        found = one.find_credential("app1")
        assert (found.username, found.account, found.password_hash) == ("app1", "acme", HASH)
        assert found.rights == SenderRights(("Bob@example.com",), ("example.org",))
        key = one.find_api_key("abcdefgh2345")
        assert (key.account, key.key_hash, key.scopes) == ("acme", KEY_HASH, ("messages:*",))
        one.close()


def test_missing_file_is_an_empty_registry_until_it_appears(tmp_path, clock, registry):
    """A server may start before the first credential exists, and sees it without a restart."""
    assert registry.refresh() is False
    assert registry.find_credential("app1") is None
    with RegistryAdmin.open(tmp_path, clock) as admin:
        admin.add_credential("app1", None, HASH, ANY)
    assert registry.refresh() is True
    assert registry.find_credential("app1").account == "default"


def test_refresh_tells_changes_from_none(admin, registry):
    """True once after a commit, False while nothing happens."""
    admin.add_credential("app1", None, HASH, ANY)
    assert [registry.refresh() for _ in range(3)] == [True, False, False]
    admin.set_credential_disabled("app1", True)
    assert [registry.refresh() for _ in range(3)] == [True, False, False]


def test_no_change_is_missed_however_fast(admin, registry):
    """Commits within one tick of the file system's clock are told apart."""
    for number in range(50):
        admin.add_credential(f"app{number}", None, HASH, ANY)
        registry.refresh()
        assert registry.find_credential(f"app{number}")


def test_disable_rotate_and_enable_take_effect(admin, registry, clock):
    """Each change of a credential shows after a refresh."""
    admin.add_credential("app1", "acme", HASH, ANY)
    assert admin.set_credential_disabled("APP1", True)
    registry.refresh()
    assert registry.find_credential("app1") is None
    assert admin.set_credential_disabled("app1", False)
    assert admin.rotate_credential("app1", lambda present: OTHER, grace=60).old_password_until == 1060
    registry.refresh()
    found = registry.find_credential("app1")
    assert found.hashes_at(1059.9) == (OTHER, HASH)
    assert found.hashes_at(1060) == (OTHER,)
    assert admin.rotate_credential("app1", lambda present: HASH).old_password_until is None
    registry.refresh()
    assert registry.find_credential("app1").hashes_at(0) == (HASH,)


def test_disabled_account_closes_credentials_and_keys(admin, registry):
    """One switch for a whole tenant; others stay."""
    admin.add_credential("app1", "acme", HASH, ANY)
    admin.add_credential("app2", "beta", HASH, ANY)
    admin.add_api_key("abcdefgh2345", KEY_HASH, "acme", ("*",), ANY)
    assert admin.set_account_disabled("acme", True)
    registry.refresh()
    assert registry.find_credential("app1") is None
    assert registry.find_api_key("abcdefgh2345") is None
    assert registry.find_credential("app2")
    with pytest.raises(StoreError, match="relay account enable acme"):
        admin.add_credential("app3", "acme", HASH, ANY)


def test_disabling_twice_keeps_the_first_time(admin, clock):
    """The listing tells since when."""
    admin.add_credential("app1", None, HASH, ANY)
    admin.set_credential_disabled("app1", True)
    clock.time += 50
    admin.set_credential_disabled("app1", True)
    assert admin.credentials()[0].disabled_at == 1000.0


def test_not_found_is_an_answer(admin):
    """Nothing of that name is no exception."""
    assert admin.set_credential_disabled("nobody", True) is False
    assert admin.set_account_disabled("nobody", True) is False
    assert admin.set_api_key_disabled("nobody", True) is False
    assert admin.rotate_credential("nobody", lambda present: HASH) is None


def test_ended_grace_leaves_no_hash_behind(tmp_path, clock):
    """The next command after the grace overwrites the old hash, in the file's bytes too."""
    with RegistryAdmin.open(tmp_path, clock) as admin:
        admin.add_credential("app1", None, HASH, ANY)
        for neighbour in ("app0", "app2", "app3"):
            admin.add_credential(neighbour, None, OTHER, ANY)
        admin.rotate_credential("app1", lambda present: OTHER, grace=60)
    assert HASH.encode() in (tmp_path / REGISTRY_FILE).read_bytes()
    clock.time += 60
    RegistryAdmin.open(tmp_path, clock).close()
    content = (tmp_path / REGISTRY_FILE).read_bytes()
    assert HASH.encode() not in content
    assert OTHER.encode() in content


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_file_is_0600_whatever_the_umask(tmp_path, clock, umask):
    """Hashes are readable by their owner only, from the first moment; a loosened file is closed again."""
    before = os.umask(umask)
    try:
        RegistryAdmin.open(tmp_path / "new" / "var", clock).close()
    finally:
        os.umask(before)
    path = tmp_path / "new" / "var" / REGISTRY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    RegistryAdmin.open(path.parent, clock).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(os.listdir(path.parent)) == [REGISTRY_FILE]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
def test_file_created_by_root_belongs_to_the_folder_owner(tmp_path, clock):
    """`sudo relay credential add` must not lock the server's user out."""
    var = tmp_path / "var"
    var.mkdir()
    os.chown(var, 12345, 12346)
    RegistryAdmin.open(var, clock).close()
    status = (var / REGISTRY_FILE).stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (12345, 12346, 0o600)


def test_replaced_file_is_noticed(tmp_path, clock, admin, registry):
    """A backup moved into place counts at the next refresh."""
    admin.add_credential("app1", None, HASH, ANY)
    registry.refresh()
    with RegistryAdmin.open(tmp_path / "backup", clock) as other:
        other.add_credential("app2", None, HASH, ANY)
    os.replace(tmp_path / "backup" / REGISTRY_FILE, tmp_path / REGISTRY_FILE)
    assert registry.refresh()
    assert registry.find_credential("app1") is None
    assert registry.find_credential("app2")


def test_lost_or_damaged_file_is_told_and_the_last_state_stays(tmp_path, admin, registry):
    """The server goes on with what it knew, says so each time, and recovers by itself."""
    admin.add_credential("app1", None, HASH, ANY)
    registry.refresh()
    path = tmp_path / REGISTRY_FILE
    good = path.read_bytes()
    path.unlink()
    for _ in range(2):
        with pytest.raises(StoreError, match="is gone"):
            registry.refresh()
    path.write_bytes(b"not a database, but long enough to look like a file of some sort" * 50)
    with pytest.raises(StoreError, match="cannot read"):
        registry.refresh()
    assert registry.find_credential("app1")
    path.unlink()
    path.write_bytes(good)
    assert registry.refresh()
    assert registry.find_credential("app1")


def test_refresh_never_waits_for_a_writer(tmp_path, admin, registry):
    """While a command holds the file the loop goes on with the last state."""
    admin.add_credential("app1", None, HASH, ANY)
    registry.refresh()
    writer = apsw.Connection(str(tmp_path / REGISTRY_FILE))
    writer.execute("BEGIN EXCLUSIVE; UPDATE credential SET disabled_at = 1")
    assert registry.refresh() is False
    assert registry.find_credential("app1")
    writer.execute("COMMIT")
    assert registry.refresh() is True
    assert registry.find_credential("app1") is None
    writer.close()


def test_reader_cannot_write(admin, registry):
    """The server's connection holds its promise even against a bug."""
    admin.add_credential("app1", None, HASH, ANY)
    registry.refresh()
    with pytest.raises(apsw.ReadOnlyError):
        registry._connection.execute("DELETE FROM credential")


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("acme", True),
        ("0", True),
        ("a.b_c-d", True),
        ("a" * 63, True),
        ("a" * 64, False),
        ("", False),
        ("Acme", False),
        (".acme", False),
        ("-acme", False),
        ("../etc", False),
        ("a/b", False),
        ("a\\b", False),
        ("%2e%2e", False),
        ("a\0b", False),
        ("a\n", False),
        ("ácme", False),
        ("con:", False),
    ],
)
def test_account_ids_are_safe_as_file_names(admin, name, good):
    """No separator, no dot at the beginning, no case, no control character."""
    if good:
        admin.add_account(name)
        assert [one.id for one in admin.accounts()] == [name]
    else:
        with pytest.raises(StoreError):
            admin.add_account(name)
        with pytest.raises(StoreError):
            admin.add_credential("app1", name, HASH, ANY)
        assert admin.accounts() == []
        assert admin.credentials() == []


@pytest.mark.parametrize(
    "username",
    [
        "",
        "@",
        "a@",
        "@b",
        "a@@b",
        "a@b@c",
        "a b",
        "a\0",
        "a\n",
        "ünicode",
        "\u212aelvin",
        "a@b..c",
        "a" * 65,
        "a@" + "b" * 300,
    ],
)
def test_user_names_that_nobody_can_have(admin, registry, username):
    """Refused when added; as a login they are unknown, without an exception."""
    with pytest.raises(StoreError):
        admin.add_credential(username, None, HASH, ANY)
    admin.add_credential("kelvin", None, HASH, ANY)
    registry.refresh()
    assert registry.find_credential(username) is None


def test_duplicates_are_refused(admin):
    """Names are unique over all accounts, whatever the case of their letters."""
    admin.add_credential("app1", "acme", HASH, ANY)
    with pytest.raises(StoreError, match="taken"):
        admin.add_credential("APP1", "beta", HASH, ANY)
    with pytest.raises(StoreError, match="exists already"):
        admin.add_account("acme")
    admin.add_api_key("abcdefgh2345", KEY_HASH, None, (), ANY)
    with pytest.raises(StoreError):
        admin.add_api_key("abcdefgh2345", KEY_HASH, None, (), ANY)
    # Nothing of a refused change stays: account beta was created and rolled back with it.
    assert [one.id for one in admin.accounts()] == ["acme", "default"]


def test_only_argon2id_hashes_can_be_stored(admin):
    """A password stored by mistake in place of its hash is refused by the schema itself."""
    with pytest.raises(StoreError):
        admin.add_credential("app1", None, "the password itself", ANY)
    assert admin.credentials() == []


def test_scram_verifiers_follow_their_passwords(tmp_path, admin, registry, clock):
    """Stored with a password or later; kept for a grace; gone with the password they belong to."""
    secret = admin.scram_secret()
    admin.add_credential("app1", None, HASH, ANY)
    admin.add_credential("app2", None, HASH, ANY, scram="SCRAM-SHA-256$4096:c2FsdA==$a:b")
    registry.refresh()
    assert registry.scram_secret() == secret
    assert registry.scram_kinds() == {"", "SCRAM-SHA-256$4096"}
    assert [record.scram for record in admin.credentials()] == [False, True]
    assert not admin.set_scram("app1", OTHER, "SCRAM-SHA-256$4096:c2FsdA==$c:d")
    keep_scram(tmp_path, clock, "app1", HASH, "SCRAM-SHA-256$4096:c2FsdA==$c:d")
    assert registry.refresh()
    assert registry.find_credential("app1").scram_at(clock.now()) == ("SCRAM-SHA-256$4096:c2FsdA==$c:d",)
    assert registry.scram_kinds() == {"SCRAM-SHA-256$4096"}
    admin.rotate_credential("app2", lambda present: OTHER, grace=100)
    registry.refresh()
    assert registry.find_credential("app2").scram_at(clock.now()) == ("", "SCRAM-SHA-256$4096:c2FsdA==$a:b")
    clock.time += 101
    assert registry.find_credential("app2").scram_at(clock.now()) == ("",)
    RegistryAdmin.open(tmp_path, clock).close()
    connection = apsw.Connection(str(tmp_path / REGISTRY_FILE))
    assert connection.execute("SELECT old_scram FROM credential WHERE username = 'app2'").fetchall() == [(None,)]
    connection.close()
    admin.rotate_credential("app1", lambda present: OTHER, scram="SCRAM-SHA-256$5000:c2FsdA==$e:f")
    admin.set_credential_disabled("app2", True)
    registry.refresh()
    assert registry.scram_kinds() == {"SCRAM-SHA-256$5000"}
    with RegistryAdmin.open(tmp_path, clock) as again:
        assert again.scram_secret() == secret


def test_two_registries_salt_differently(tmp_path, admin, clock):
    """What is known of one server's salts says nothing about another's."""
    with RegistryAdmin.open(tmp_path / "other", clock) as other:
        assert other.scram_secret() != admin.scram_secret()


def test_the_highest_priority_of_a_credential_is_part_of_its_rights(tmp_path, admin, registry):
    admin.add_credential("app1", None, HASH, sender_rights((), (), 3))
    admin.add_credential("app2", None, HASH, ANY)
    registry.refresh()
    assert [registry.find_credential(name).rights.priority for name in ("app1", "app2")] == [3, 0]
    assert admin.set_priority("App2", 9)
    assert not admin.set_priority("app3", 9)
    registry.refresh()
    assert registry.find_credential("app2").rights.priority == 9
    assert [one.priority for one in admin.credentials()] == [3, 9]


@pytest.mark.parametrize("number", [-1, 10])
def test_a_priority_nobody_can_have_is_refused(admin, number):
    with pytest.raises(StoreError, match="0 to 9"):
        admin.set_priority("app1", number)
    with pytest.raises(StoreError, match="0 to 9"):
        sender_rights((), (), number)


def test_what_a_credential_tolerates_is_known_at_its_next_login(admin, registry):
    admin.add_credential("scale", None, HASH, ANY)
    registry.refresh()
    assert registry.find_credential("scale").login.tolerate == ()
    assert admin.set_tolerate("Scale", ["bare_lf", "no_brackets", "bare_lf"])
    assert not admin.set_tolerate("nobody", ["bare_lf"])
    registry.refresh()
    assert registry.find_credential("scale").login.tolerate == ("bare_lf", "no_brackets")
    assert [one.tolerate for one in admin.credentials()] == [("bare_lf", "no_brackets")]
    assert admin.set_tolerate("scale", [])
    assert [one.tolerate for one in admin.credentials()] == [()]


@pytest.mark.parametrize(
    ("word", "said"),
    [("old_tls", "before a client logs in"), ("bad_helo", "tolerate of the listener"), ("x", "known:")],
)
def test_what_no_credential_can_tolerate_is_refused(admin, word, said):
    admin.add_credential("scale", None, HASH, ANY)
    with pytest.raises(StoreError, match=said):
        admin.set_tolerate("scale", ["bare_lf", word])
    assert admin.credentials()[0].tolerate == ()


def test_a_name_no_certificate_has_is_an_error_and_one_that_is_known_stays(admin):
    admin.add_credential("app1", "acme", HASH, ANY, "")
    assert admin.add_certificate("email:a@b.example", "app1")
    assert admin.add_certificate("email:a@b.example", "app1")
    with pytest.raises(StoreError):
        admin.add_certificate("a@b.example", "app1")
    assert [one.name for one in admin.certificates()] == ["email:a@b.example"]
