"""The migration runner, and the registry's own files through it."""

from dataclasses import dataclass

import apsw
import pytest

from relay.cli.serve import upgrade_registry
from relay.mail.errors import StoreError
from relay.store.migrations import Migration, exclusive, load_migrations, migrate, migrations_of, schema_version
from relay.store.registry import REGISTRY_FILE, Registry
from relay.store.registry_admin import RegistryAdmin

TWO = (
    Migration(1, "0001_a.sql", "CREATE TABLE a (x); INSERT INTO a VALUES (1);"),
    Migration(2, "0002_b.sql", "ALTER TABLE a ADD COLUMN y DEFAULT 2;"),
)


@dataclass
class StoppedClock:
    """A time that never moves."""

    def now(self) -> float:
        return 1000.0

    def monotonic(self) -> float:
        return 1000.0


@pytest.fixture
def connection(tmp_path):
    one = apsw.Connection(str(tmp_path / "test.db"))
    yield one
    one.close()


def test_from_empty_to_newest_and_then_nothing(connection):
    """Every file runs once, in order; a second run changes nothing."""
    assert migrate(connection, TWO) == 2
    assert migrate(connection, TWO) == 0
    assert schema_version(connection) == 2
    assert connection.execute("SELECT x, y FROM a").fetchall() == [(1, 2)]


def test_only_what_is_missing_is_applied(connection):
    """A file at version 1 gets number 2 and keeps its rows."""
    migrate(connection, TWO[:1])
    connection.execute("INSERT INTO a VALUES (9)")
    assert migrate(connection, TWO) == 1
    assert connection.execute("SELECT x, y FROM a").fetchall() == [(1, 2), (9, 2)]


def test_a_failing_file_leaves_the_schema_as_it_was(connection):
    """Everything before the bad statement is undone with it, files included; mended ones apply afterwards."""
    bad = (*TWO[:1], Migration(2, "0002_b.sql", "CREATE TABLE b (x); CREATE TABLE a (x);"))
    with pytest.raises(apsw.SQLError):
        migrate(connection, bad)
    assert schema_version(connection) == 0
    assert connection.execute("SELECT name FROM sqlite_schema").fetchall() == []
    assert migrate(connection, TWO) == 2


def test_a_newer_schema_is_refused_in_one_line(connection):
    """An older program must not touch what it does not know."""
    migrate(connection, TWO)
    with pytest.raises(StoreError, match="newer") as caught:
        migrate(connection, TWO[:1])
    assert "\n" not in str(caught.value)


def test_what_another_process_applied_meanwhile_is_not_applied_again(tmp_path, connection):
    """The version is read again under the lock."""
    other = apsw.Connection(str(tmp_path / "test.db"))

    class Late(tuple):
        """Somebody else migrates between the look at the version and the lock."""

        looks = 0

        def __len__(self):
            Late.looks += 1
            if Late.looks == 2:
                migrate(other, TWO)
            return tuple.__len__(self)

    assert migrate(connection, Late(TWO)) == 0
    assert Late.looks == 2
    assert connection.execute("SELECT x, y FROM a").fetchall() == [(1, 2)]
    other.close()


@pytest.mark.parametrize("names", [["0002_a.sql"], ["0001_a.sql", "0001_b.sql"], ["0001_a.sql", "0003_c.sql"]])
def test_gaps_and_repeats_in_the_numbers_are_refused(tmp_path, names):
    """A release with a lost or doubled file does not start."""
    for name in names:
        (tmp_path / name).write_text("SELECT 1;")
    with pytest.raises(ValueError, match="not numbered"):
        load_migrations(tmp_path)


def test_files_that_are_no_migrations_are_ignored(tmp_path):
    """Only `.sql` counts."""
    (tmp_path / "0001_a.sql").write_text("SELECT 1;")
    (tmp_path / "README.md").write_text("words")
    assert [one.name for one in load_migrations(tmp_path)] == ["0001_a.sql"]


def test_exclusive_rolls_back_and_keeps_the_exception(connection):
    """Also for what is no Exception, such as Ctrl-C."""
    connection.execute("CREATE TABLE a (x)")

    def insert_and_raise(error):
        with exclusive(connection):
            connection.execute("INSERT INTO a VALUES (1)")
            raise error

    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            insert_and_raise(error)
    assert connection.execute("SELECT count(*) FROM a").fetchall() == [(0,)]


def test_registry_opens_from_empty_and_again(tmp_path):
    """An empty file, as an interrupted first command leaves it, is brought up to date too."""
    (tmp_path / REGISTRY_FILE).touch()
    for _ in range(2):
        with RegistryAdmin.open(tmp_path, StoppedClock()) as admin:
            assert admin.accounts() == []
    connection = apsw.Connection(str(tmp_path / REGISTRY_FILE))
    assert schema_version(connection) == len(migrations_of("registry"))
    connection.close()


@pytest.mark.parametrize(("version", "fix"), [(99, "restart the server"), (-1, "relay account list")])
def test_reader_refuses_a_schema_it_does_not_know(tmp_path, version, fix):
    """A newer or unknown schema is told with its fix; the registry stays as it was."""
    RegistryAdmin.open(tmp_path, StoppedClock()).close()
    connection = apsw.Connection(str(tmp_path / REGISTRY_FILE))
    connection.pragma("user_version", version)
    connection.close()
    registry = Registry(tmp_path / REGISTRY_FILE)
    with pytest.raises(StoreError, match=fix):
        registry.refresh()


def test_empty_file_reads_as_an_empty_registry(tmp_path):
    """A server may look between the creation of the file and its first schema."""
    (tmp_path / REGISTRY_FILE).touch()
    registry = Registry(tmp_path / REGISTRY_FILE)
    registry.refresh()
    assert registry.find_credential("app1") is None
    RegistryAdmin.open(tmp_path, StoppedClock()).close()
    assert registry.refresh()
    registry.close()


def test_a_registry_from_before_is_upgraded_with_its_credentials(tmp_path):
    """What the server does when it starts: logins go on, and SCRAM may be added to them."""
    path = tmp_path / REGISTRY_FILE
    connection = apsw.Connection(str(path))
    migrate(connection, migrations_of("registry")[:1])
    connection.execute("INSERT INTO account VALUES ('acme', '', 1.0, NULL)")
    connection.execute(
        "INSERT INTO credential VALUES ('app1', 'acme', '$argon2id$x', NULL, NULL, '[]', '[]', '', 1.0, NULL, NULL)"
    )
    connection.close()
    upgrade_registry(tmp_path)
    registry = Registry(path)
    registry.refresh()
    found = registry.find_credential("app1")
    assert (found.password_hash, found.scram, found.old_scram) == ("$argon2id$x", "", "")
    assert len(registry.scram_secret()) == 32
    registry.close()
    upgrade_registry(tmp_path / "empty")
    assert not (tmp_path / "empty").exists()
