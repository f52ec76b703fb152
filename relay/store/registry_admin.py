"""Registry, as the operator changes it: the CLI's side of the file the server reads.

Each change is one exclusive transaction in rollback-journal mode, so any number of commands and servers share the file.
Opening creates the file (mode 0600, owned like its folder) and brings its schema up to date. Never sees a password:
callers hand over hashes. Raises StoreError, one line with the fix; "not found" is a return value.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import apsw

from relay.mail.errors import StoreError
from relay.mail.session import SenderRights
from relay.ports import Clock
from relay.store.migrations import exclusive, migrate, migrations_of
from relay.store.registry import REGISTRY_FILE
from relay.store.usernames import account_id, named_account, sender_address, sender_domain, stored_username

DEFAULT_ACCOUNT: Final = "default"
_PATIENCE_MS: Final = 10_000
_LONGEST_NOTE: Final = 200
_CREDENTIALS: Final = (
    "SELECT username, account, sender_addresses, sender_domains, note, created_at, rotated_at, old_hash_until,"
    " disabled_at FROM credential"
)


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """A tenant. Times are epoch seconds; `disabled_at` is None while enabled."""

    id: str
    display_name: str
    created_at: float
    disabled_at: float | None


@dataclass(frozen=True, slots=True)
class CredentialRecord:
    """An SMTP credential without its hashes, so no listing can show one."""

    username: str
    account: str
    sender_addresses: tuple[str, ...]
    sender_domains: tuple[str, ...]
    note: str
    created_at: float
    rotated_at: float | None
    old_password_until: float | None
    disabled_at: float | None


@dataclass(frozen=True, slots=True)
class ApiKeyRecord:
    """An API key without its hash. `id` is the public part of the key."""

    id: str
    account: str
    scopes: tuple[str, ...]
    sender_addresses: tuple[str, ...]
    sender_domains: tuple[str, ...]
    note: str
    created_at: float
    disabled_at: float | None


@dataclass(frozen=True, slots=True)
class Added:
    """Where something new belongs, and whether its account had to be created for it."""

    name: str
    account: str
    account_created: bool


def note_line(text: str) -> str:
    """`text` when it is one printable line for people. Raises StoreError."""
    if len(text) > _LONGEST_NOTE or not text.isprintable():
        raise StoreError(f"note or name {text[:20]!r}...: use one line of {_LONGEST_NOTE} printable characters at most")
    return text


def sender_rights(addresses: Iterable[str], domains: Iterable[str]) -> SenderRights:
    """Rights from what an operator typed, without repeats. Raises StoreError for what is no address or domain."""
    return SenderRights(
        tuple(dict.fromkeys(map(sender_address, addresses))), tuple(dict.fromkeys(map(sender_domain, domains)))
    )


class RegistryAdmin:
    """Reads and changes the registry; use as a context manager."""

    def __init__(self, connection: apsw.Connection, path: Path, clock: Clock) -> None:
        self._connection = connection
        self._path = path
        self._clock = clock

    @classmethod
    def open(cls, var: Path, clock: Clock) -> Self:
        """Open `var/registry.db`; creates folder and file where missing and applies migrations."""
        path = var / REGISTRY_FILE
        try:
            _create_private(path)
            connection = apsw.Connection(os.fspath(path), flags=apsw.SQLITE_OPEN_READWRITE)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}; run as the server's user or as root") from error
        except apsw.Error as error:
            raise StoreError(f"{path}: cannot open the registry ({error})") from error
        admin = cls(connection, path, clock)
        try:
            with admin._errors():
                _configure(connection)
                migrate(connection, migrations_of("registry"))
            admin._forget_old_passwords()
        except BaseException:
            admin.close()
            raise
        return admin

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    # --- accounts ------------------------------------------------------------------------------------------

    def add_account(self, name: str, display_name: str = "") -> None:
        """Create an account. Raises StoreError for a bad or taken id, and for one that other accounts' users name."""
        with self._change():
            if name in self._account_ids():
                raise StoreError(f"account {name!r} exists already; choose another id")
            self._insert_account(account_id(name), note_line(display_name))

    def accounts(self) -> list[AccountRecord]:
        rows = self._rows("SELECT id, display_name, created_at, disabled_at FROM account ORDER BY id")
        return [AccountRecord(*row) for row in rows]

    def set_account_disabled(self, name: str, disabled: bool) -> bool:
        """Let nobody of the account in, or everybody who is not disabled himself. False: no such account."""
        return self._set_disabled("account", "id", name, disabled)

    # --- SMTP credentials ----------------------------------------------------------------------------------

    def add_credential(
        self, username: str, account: str | None, password_hash: str, rights: SenderRights, note: str = ""
    ) -> Added:
        """Create a credential, and its account where missing.

        Without `account` it is the existing one that the user name names, else `default`. Raises StoreError for a
        bad or taken name, a disabled account, and a name that speaks of another account than `account`.
        """
        username = stored_username(username)
        with self._change():
            if self._rows("SELECT 1 FROM credential WHERE username = ?", username):
                raise StoreError(f"user name {username!r} is taken; choose another, or use `relay credential rotate`")
            account, created = self._account_for(username, account)
            self._connection.execute(
                "INSERT INTO credential (username, account, password_hash, sender_addresses, sender_domains, note,"
                " created_at) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (username, account, password_hash, *_lists(rights), note_line(note), self._clock.now()),
            )
        return Added(username, account, created)

    def credentials(self, account: str | None = None) -> list[CredentialRecord]:
        """All of them or one account's, by name."""
        rows = self._rows(f"{_CREDENTIALS} WHERE ?1 IS NULL OR account = ?1 ORDER BY username", account)
        return [_credential(row) for row in rows]

    def set_credential_disabled(self, username: str, disabled: bool) -> bool:
        """False: no such user name (the stored one, in any case of letters)."""
        return self._set_disabled("credential", "username", stored_username(username), disabled)

    def rotate_credential(
        self, username: str, rehash: Callable[[str], str], grace: float = 0.0
    ) -> CredentialRecord | None:
        """Give a credential a new password; None: no such user name.

        `rehash` gets the present hash and returns the new one. With `grace` the present password stays good for that
        many seconds; without, it and any older one end now.
        """
        username = stored_username(username)
        with self._change():
            rows = self._rows("SELECT password_hash FROM credential WHERE username = ?", username)
            if not rows:
                return None
            present, now = rows[0][0], self._clock.now()
            old = (present, now + grace) if grace > 0 else (None, None)
            self._connection.execute(
                "UPDATE credential SET password_hash = ?, old_hash = ?, old_hash_until = ?, rotated_at = ?"
                " WHERE username = ?",
                (rehash(present), *old, now, username),
            )
            return _credential(self._rows(f"{_CREDENTIALS} WHERE username = ?", username)[0])

    # --- API keys ------------------------------------------------------------------------------------------

    def add_api_key(
        self,
        key_id: str,
        key_hash: bytes,
        account: str | None,
        scopes: tuple[str, ...],
        rights: SenderRights,
        note: str = "",
    ) -> Added:
        """Store a key's SHA-256 under its public id, and create its account where missing. Raises StoreError."""
        with self._change():
            account, created = self._account_for("", account)
            self._connection.execute(
                "INSERT INTO api_key (id, account, key_hash, scopes, sender_addresses, sender_domains, note,"
                " created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (key_id, account, key_hash, json.dumps(scopes), *_lists(rights), note_line(note), self._clock.now()),
            )
        return Added(key_id, account, created)

    def api_keys(self, account: str | None = None) -> list[ApiKeyRecord]:
        """All of them or one account's, oldest first."""
        rows = self._rows(
            "SELECT id, account, scopes, sender_addresses, sender_domains, note, created_at, disabled_at"
            " FROM api_key WHERE ?1 IS NULL OR account = ?1 ORDER BY created_at, id",
            account,
        )
        return [ApiKeyRecord(row[0], row[1], _tuple(row[2]), _tuple(row[3]), _tuple(row[4]), *row[5:]) for row in rows]

    def set_api_key_disabled(self, key_id: str, disabled: bool) -> bool:
        """False: no such key."""
        return self._set_disabled("api_key", "id", key_id, disabled)

    # --- inside --------------------------------------------------------------------------------------------

    def _forget_old_passwords(self) -> None:
        """Overwrite hashes whose grace is over; nobody can log in by them any more, and nobody shall crack them."""
        if self._rows("SELECT 1 FROM credential WHERE old_hash_until <= ? LIMIT 1", self._clock.now()):
            with self._change():
                statement = "UPDATE credential SET old_hash = NULL, old_hash_until = NULL WHERE old_hash_until <= ?"
                self._connection.execute(statement, (self._clock.now(),))

    def _account_for(self, username: str, wanted: str | None) -> tuple[str, bool]:
        """The account of something new, and whether it was created just now."""
        known = self._account_ids()
        account = wanted if wanted is not None else named_account(username, known) or DEFAULT_ACCOUNT
        named = named_account(username, {*known, account_id(account)})
        if named is not None and named != account:
            raise StoreError(
                f"user name {username!r} names account {named!r}, not {account!r}; pass --account {named}, or rename it"
            )
        if account not in known:
            self._insert_account(account, "")
        elif self._rows("SELECT 1 FROM account WHERE id = ? AND disabled_at IS NOT NULL", account):
            raise StoreError(f"account {account!r} is disabled; enable it first: relay account enable {account}")
        return account, account not in known

    def _insert_account(self, name: str, display_name: str) -> None:
        accounts = {*self._account_ids(), name}
        for username, owner in self._rows("SELECT username, account FROM credential WHERE instr(username, '@') > 0"):
            if owner != name and named_account(username, accounts) == name:
                raise StoreError(
                    f"account {name!r} would be named by user {username!r} of account {owner!r}; choose another id"
                )
        self._connection.execute(
            "INSERT INTO account (id, display_name, created_at) VALUES (?, ?, ?)",
            (name, display_name, self._clock.now()),
        )

    def _account_ids(self) -> set[str]:
        return {row[0] for row in self._rows("SELECT id FROM account")}

    def _set_disabled(self, table: str, key: str, name: str, disabled: bool) -> bool:
        """False: no such row. Disabling twice keeps the first time."""
        value = "coalesce(disabled_at, ?1)" if disabled else "NULL"
        statement = f"UPDATE {table} SET disabled_at = {value} WHERE {key} = ?2 RETURNING 1"  # noqa: S608 - our own text
        with self._change():
            return bool(self._rows(statement, self._clock.now(), name))

    def _rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._errors():
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def _change(self) -> Iterator[None]:
        with self._errors(), exclusive(self._connection):
            yield

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except apsw.BusyError as error:
            raise StoreError(f"{self._path}: locked by another command; try again when it has ended") from error
        except apsw.ReadOnlyError as error:
            raise StoreError(f"{self._path}: not writable; run as the server's user or as root") from error
        except apsw.Error as error:
            raise StoreError(f"{self._path}: {error}; check disk and file, or restore a backup") from error


def _create_private(path: Path) -> None:
    """Make the file before SQLite would, readable by its owner only; root makes it the folder's owner's."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        return
    try:
        folder = path.parent.stat()
        if os.geteuid() == 0 and folder.st_uid != 0:
            # The server runs as the folder's owner and has to read what root's command creates.
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
    finally:
        os.close(descriptor)


def _configure(connection: apsw.Connection) -> None:
    connection.set_busy_timeout(_PATIENCE_MS)
    # Rollback journal, not WAL: rarely written, read by many, and one file to back up.
    connection.pragma("journal_mode", "delete")
    # FULL, and the folder synced after the journal is gone: a `disable` must survive power loss.
    connection.pragma("synchronous", "extra")
    connection.pragma("foreign_keys", True)
    connection.pragma("secure_delete", True)  # a rotated hash leaves no copy in free pages


def _lists(rights: SenderRights) -> tuple[str, str]:
    return json.dumps(rights.addresses), json.dumps(rights.domains)


def _credential(row: tuple[Any, ...]) -> CredentialRecord:
    return CredentialRecord(row[0], row[1], _tuple(row[2]), _tuple(row[3]), *row[4:])


def _tuple(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))
