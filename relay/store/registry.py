"""Registry, as the server reads it: accounts, SMTP credentials and API keys, looked up in memory.

In: the file `registry_admin` writes. `refresh` notices another process's commit by SQLite's own counter (microseconds
when nothing changed) and swaps in a whole new snapshot, so what the CLI adds, rotates or disables counts without a
restart. Never writes a row. A refresh that fails raises StoreError and leaves the last snapshot in force.
Open it after a fork, and call `refresh` from one task or thread at a time; look-ups may run beside it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import apsw

from relay.mail.errors import StoreError
from relay.mail.session import SenderRights
from relay.ports import StoredApiKey, StoredCredential
from relay.store.migrations import migrations_of, schema_version
from relay.store.usernames import fold_login, named_account

REGISTRY_FILE: Final = "registry.db"

_CREDENTIALS = """
SELECT username, account, sender_addresses, sender_domains, password_hash, old_hash, old_hash_until, scram, old_scram,
       priority, tolerate, credential.disabled_at IS NULL AND account.disabled_at IS NULL
FROM credential JOIN account ON account.id = credential.account
"""
_API_KEYS = """
SELECT api_key.id, account, sender_addresses, sender_domains, scopes, key_hash
FROM api_key JOIN account ON account.id = api_key.account
WHERE api_key.disabled_at IS NULL AND account.disabled_at IS NULL
"""
SCRAM_SALTS: Final = "scram salts"


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """One committed state. A disabled credential stays, as None, so that its name means nobody else meanwhile."""

    accounts: frozenset[str] = frozenset()
    enabled: frozenset[str] = frozenset()
    credentials: Mapping[str, StoredCredential | None] = field(default_factory=dict)
    api_keys: Mapping[str, StoredApiKey] = field(default_factory=dict)
    scram_kinds: frozenset[str] = frozenset()
    scram_secret: bytes = b""
    certificates: Mapping[str, str] = field(default_factory=dict)


class Registry:
    """The ports CredentialSource, ScramSource, CertificateSource and ApiKeySource over one file.

    Empty until the first `refresh`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._snapshot = _Snapshot()
        self._connection: apsw.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._version: int | None = None
        self._seen = False

    def find_credential(self, login: str) -> StoredCredential | None:
        """The credential of exactly that user name; else `identifier` of the account `identifier@ACCOUNT.x` names."""
        snapshot = self._snapshot
        username = fold_login(login)
        if username in snapshot.credentials:
            return snapshot.credentials[username]
        account = named_account(username, snapshot.accounts)
        if account is None:
            return None
        found = snapshot.credentials.get(username.partition("@")[0])
        return found if found is not None and found.account == account else None

    def certificate_user(self, name: str) -> str | None:
        """See the port CertificateSource."""
        return self._snapshot.certificates.get(name)

    def has_account(self, account: str) -> bool:
        """See the port AccountSource."""
        return account in self._snapshot.enabled

    def scram_kinds(self) -> frozenset[str]:
        """See the port ScramSource."""
        return self._snapshot.scram_kinds

    def scram_secret(self) -> bytes:
        """See the port ScramSource."""
        return self._snapshot.scram_secret

    def find_api_key(self, key_id: str) -> StoredApiKey | None:
        """The enabled key with that public id."""
        return self._snapshot.api_keys.get(key_id)

    def refresh(self, patience: float = 0.0) -> bool:
        """Take over what others committed; True when something changed.

        Waits `patience` seconds for a writer, at most; while one holds the file nothing changes and the next call
        will see it. A file that does not exist yet is an empty registry. Raises StoreError.
        """
        try:
            return self._refresh(patience)
        except apsw.BusyError:
            return False
        except apsw.Error as error:
            self.close()
            raise StoreError(f"{self._path}: cannot read the registry ({error}); restore it from a backup") from error
        except StoreError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file. Look-ups go on with the last snapshot."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self._identity, self._version = None, None, None

    def _refresh(self, patience: float) -> bool:
        connection = self._open()
        if connection is None:
            return False
        connection.set_busy_timeout(round(patience * 1000))
        if connection.pragma("data_version") == self._version:
            return False
        connection.execute("BEGIN")
        try:
            snapshot = self._read(connection)
            # The counter of the very state that was read: a commit after it is seen by the next call.
            version = connection.pragma("data_version")
        finally:
            connection.execute("ROLLBACK")
        self._snapshot, self._version = snapshot, version
        return True

    def _open(self) -> apsw.Connection | None:
        """The connection; a new one where the file was replaced, as by a restored backup."""
        try:
            status = os.stat(self._path)
        except FileNotFoundError:
            if not self._seen:
                return None
            raise StoreError(f"{self._path}: the registry is gone; restore it from a backup") from None
        except OSError as error:
            raise StoreError(f"{self._path}: cannot read the registry ({error.strerror}); check its owner") from error
        identity = (status.st_dev, status.st_ino)
        if self._connection is None or identity != self._identity:
            self.close()
            # Not SQLITE_OPEN_READONLY: after a writer was killed in mid commit, only a writable connection can roll
            # its journal back. query_only holds the promise not to write.
            connection = apsw.Connection(os.fspath(self._path), flags=apsw.SQLITE_OPEN_READWRITE)
            connection.pragma("query_only", True)
            self._connection, self._identity, self._seen = connection, identity, True
        return self._connection

    def _read(self, connection: apsw.Connection) -> _Snapshot:
        version = schema_version(connection)
        if version == 0:
            return _Snapshot()  # created by a CLI that has not got further yet
        known = len(migrations_of("registry"))
        if version != known:
            fix = "restart the server" if version > known else "run `relay account list` once to upgrade it"
            raise StoreError(f"{self._path}: has schema {version}, this program reads {known}; {fix}")
        with closing(connection.cursor()) as cursor:
            credentials = {row[0]: _credential(row) for row in cursor.execute(_CREDENTIALS)}
            secrets: list[tuple[Any, ...]] = cursor.execute(
                "SELECT value FROM secret WHERE name = ?", (SCRAM_SALTS,)
            ).fetchall()
            return _Snapshot(
                frozenset(row[0] for row in cursor.execute("SELECT id FROM account")),
                frozenset(row[0] for row in cursor.execute("SELECT id FROM account WHERE disabled_at IS NULL")),
                credentials,
                {row[0]: _api_key(row) for row in cursor.execute(_API_KEYS)},
                frozenset(one.scram.partition(":")[0] for one in credentials.values() if one is not None),
                bytes(secrets[0][0]) if secrets else b"",
                {row[0]: row[1] for row in cursor.execute("SELECT name, username FROM certificate")},
            )


@lru_cache(maxsize=1024)  # many credentials share few rights, and reading them is half the work of a refresh
def _rights(addresses: str, domains: str, priority: int = 0) -> SenderRights:
    return SenderRights(tuple(json.loads(addresses)), tuple(json.loads(domains)), priority)


@lru_cache(maxsize=64)
def _words(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def _credential(row: tuple[Any, ...]) -> StoredCredential | None:
    username, account, addresses, domains, password_hash, old_hash, old_hash_until, *rest = row
    scram, old_scram, priority, tolerate, enabled = rest
    if not enabled:
        return None
    rights, until = _rights(addresses, domains, priority), old_hash_until or 0.0
    return StoredCredential(
        username, account, rights, password_hash, old_hash or "", until, scram or "", old_scram or "", _words(tolerate)
    )


def _api_key(row: tuple[Any, ...]) -> StoredApiKey:
    key_id, account, addresses, domains, scopes, key_hash = row
    return StoredApiKey(key_id, account, _rights(addresses, domains), tuple(json.loads(scopes)), key_hash)
