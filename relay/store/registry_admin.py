"""Registry, as the operator changes it: the CLI's side of the file the server reads.

In: what `registry_records` has checked. Out: records; each change is one transaction of `registry_file`, and what is
new belongs to an account by `registry_accounts`. Never sees a password: callers hand over hashes. Raises StoreError,
one line with the fix; "not found" is a return value.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Self

from relay.mail.errors import StoreError
from relay.mail.session import SenderRights
from relay.ports import Clock
from relay.store.registry import SCRAM_SALTS
from relay.store.registry_accounts import account_for, account_ids, insert_account
from relay.store.registry_file import RegistryFile
from relay.store.registry_records import (
    CREDENTIALS,
    AccountRecord,
    Added,
    ApiKeyRecord,
    CertificateRecord,
    CredentialRecord,
    credential_record,
    known_priority,
    known_tolerance,
    lists_of,
    note_line,
    tuple_of,
)
from relay.store.usernames import account_id, stored_username


class RegistryAdmin:
    """Reads and changes the registry; use as a context manager."""

    def __init__(self, file: RegistryFile, clock: Clock) -> None:
        self._file = file
        self._clock = clock

    @classmethod
    def open(cls, var: Path, clock: Clock) -> Self:
        """Open `var/registry.db`, created where it is missing; what was to be forgotten by now is."""
        admin = cls(RegistryFile.open(var), clock)
        try:
            admin._make_scram_secret()
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
        self._file.close()

    # --- accounts ------------------------------------------------------------------------------------------

    def add_account(self, name: str, display_name: str = "") -> None:
        """Create an account. Raises StoreError for a bad or taken id, and for one that other accounts' users name."""
        with self._file.change():
            if name in account_ids(self._file):
                raise StoreError(f"account {name!r} exists already; choose another id")
            insert_account(self._file, account_id(name), note_line(display_name), self._clock.now())

    def accounts(self) -> list[AccountRecord]:
        rows = self._file.rows("SELECT id, display_name, created_at, disabled_at FROM account ORDER BY id")
        return [AccountRecord(*row) for row in rows]

    def set_account_disabled(self, name: str, disabled: bool) -> bool:
        """Let nobody of the account in, or everybody who is not disabled himself. False: no such account."""
        return self._set_disabled("account", "id", name, disabled)

    # --- SMTP credentials ----------------------------------------------------------------------------------

    def add_credential(
        self,
        username: str,
        account: str | None,
        password_hash: str,
        rights: SenderRights,
        note: str = "",
        scram: str | None = None,
    ) -> Added:
        """Create a credential, and its account where missing. `scram` is the SCRAM verifier of the same password.

        Without `account` it is the existing one that the user name names, else `default`. Raises StoreError for a
        bad or taken name, a disabled account, and a name that speaks of another account than `account`.
        """
        username = stored_username(username)
        with self._file.change():
            if self._file.rows("SELECT 1 FROM credential WHERE username = ?", username):
                raise StoreError(f"user name {username!r} is taken; choose another, or use `relay credential rotate`")
            account, created = account_for(self._file, username, account, self._clock.now())
            self._file.rows(
                "INSERT INTO credential (username, account, password_hash, sender_addresses, sender_domains, note,"
                " created_at, scram, priority) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                username,
                account,
                password_hash,
                *lists_of(rights),
                note_line(note),
                self._clock.now(),
                scram,
                rights.priority,
            )
        return Added(username, account, created)

    def credentials(self, account: str | None = None) -> list[CredentialRecord]:
        """All of them or one account's, by name."""
        rows = self._file.rows(f"{CREDENTIALS} WHERE ?1 IS NULL OR account = ?1 ORDER BY username", account)
        return [credential_record(row) for row in rows]

    def set_credential_disabled(self, username: str, disabled: bool) -> bool:
        """False: no such user name (the stored one, in any case of letters)."""
        return self._set_disabled("credential", "username", stored_username(username), disabled)

    def set_priority(self, username: str, priority: int) -> bool:
        """The highest priority its mail may ask for; False: no such user name. Raises StoreError."""
        with self._file.change():
            statement = "UPDATE credential SET priority = ? WHERE username = ? RETURNING 1"
            return bool(self._file.rows(statement, known_priority(priority), stored_username(username)))

    def set_tolerate(self, username: str, words: Iterable[str]) -> bool:
        """What its clients may do wrong, from their next login on; False: no such user name. Raises StoreError."""
        with self._file.change():
            tolerated = json.dumps([known_tolerance(word) for word in dict.fromkeys(words)])
            statement = "UPDATE credential SET tolerate = ? WHERE username = ? RETURNING 1"
            return bool(self._file.rows(statement, tolerated, stored_username(username)))

    def rotate_credential(
        self, username: str, rehash: Callable[[str], str], grace: float = 0.0, scram: str | None = None
    ) -> CredentialRecord | None:
        """Give a credential a new password; None: no such user name.

        `rehash` gets the present hash and returns the new one; `scram` is the new password's verifier. With `grace` the
        present password stays good for that many seconds; without, it and any older one end now.
        """
        username = stored_username(username)
        with self._file.change():
            rows = self._file.rows("SELECT password_hash, scram FROM credential WHERE username = ?", username)
            if not rows:
                return None
            (present, present_scram), now = rows[0], self._clock.now()
            old = (present, now + grace, present_scram) if grace > 0 else (None, None, None)
            self._file.rows(
                "UPDATE credential SET password_hash = ?, old_hash = ?, old_hash_until = ?, old_scram = ?,"
                " rotated_at = ?, scram = ? WHERE username = ?",
                rehash(present),
                *old,
                now,
                scram,
                username,
            )
            return credential_record(self._file.rows(f"{CREDENTIALS} WHERE username = ?", username)[0])

    def scram_secret(self) -> bytes:
        """What the salts of SCRAM verifiers are made with."""
        found: bytes = self._file.rows("SELECT value FROM secret WHERE name = ?", SCRAM_SALTS)[0][0]
        return found

    def set_scram(self, username: str, password_hash: str, verifier: str) -> bool:
        """Add a password's SCRAM verifier. False, and nothing done, where the password is not that of the hash."""
        statement = "UPDATE credential SET scram = ? WHERE username = ? AND password_hash = ? RETURNING 1"
        with self._file.change():
            return bool(self._file.rows(statement, verifier, username, password_hash))

    # --- client certificates -------------------------------------------------------------------------------

    def add_certificate(self, name: str, username: str) -> bool:
        """Let certificates of that name log in as the credential. False: no such user name.

        Raises StoreError where the name stands for another credential.
        """
        username = stored_username(username)
        with self._file.change():
            if not self._file.rows("SELECT 1 FROM credential WHERE username = ?", username):
                return False
            held = self._file.rows("SELECT username FROM certificate WHERE name = ?", name)
            if held and held[0][0] != username:
                raise StoreError(
                    f"certificate {name!r} stands for {held[0][0]!r}; remove it first: relay client-cert remove {name}"
                )
            self._file.rows(
                "INSERT INTO certificate (name, username, created_at) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING",
                name,
                username,
                self._clock.now(),
            )
        return True

    def certificates(self) -> list[CertificateRecord]:
        """All of them, by user name."""
        rows = self._file.rows("SELECT name, username, created_at FROM certificate ORDER BY username, name")
        return [CertificateRecord(*row) for row in rows]

    def remove_certificate(self, name: str) -> bool:
        """False: no such name."""
        with self._file.change():
            return bool(self._file.rows("DELETE FROM certificate WHERE name = ? RETURNING 1", name))

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
        with self._file.change():
            account, created = account_for(self._file, "", account, self._clock.now())
            self._file.rows(
                "INSERT INTO api_key (id, account, key_hash, scopes, sender_addresses, sender_domains, note,"
                " created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                key_id,
                account,
                key_hash,
                json.dumps(scopes),
                *lists_of(rights),
                note_line(note),
                self._clock.now(),
            )
        return Added(key_id, account, created)

    def api_keys(self, account: str | None = None) -> list[ApiKeyRecord]:
        """All of them or one account's, oldest first."""
        rows = self._file.rows(
            "SELECT id, account, scopes, sender_addresses, sender_domains, note, created_at, disabled_at"
            " FROM api_key WHERE ?1 IS NULL OR account = ?1 ORDER BY created_at, id",
            account,
        )
        return [
            ApiKeyRecord(row[0], row[1], tuple_of(row[2]), tuple_of(row[3]), tuple_of(row[4]), *row[5:]) for row in rows
        ]

    def set_api_key_disabled(self, key_id: str, disabled: bool) -> bool:
        """False: no such key."""
        return self._set_disabled("api_key", "id", key_id, disabled)

    # --- inside --------------------------------------------------------------------------------------------

    def _make_scram_secret(self) -> None:
        if not self._file.rows("SELECT 1 FROM secret WHERE name = ?", SCRAM_SALTS):
            with self._file.change():
                statement = "INSERT OR IGNORE INTO secret (name, value) VALUES (?, ?)"
                self._file.rows(statement, SCRAM_SALTS, secrets.token_bytes(32))

    def _forget_old_passwords(self) -> None:
        """Overwrite hashes whose grace is over; nobody can log in by them any more, and nobody shall crack them."""
        if self._file.rows("SELECT 1 FROM credential WHERE old_hash_until <= ? LIMIT 1", self._clock.now()):
            with self._file.change():
                statement = (
                    "UPDATE credential SET old_hash = NULL, old_hash_until = NULL, old_scram = NULL"
                    " WHERE old_hash_until <= ?"
                )
                self._file.rows(statement, self._clock.now())

    def _set_disabled(self, table: str, key: str, name: str, disabled: bool) -> bool:
        """False: no such row. Disabling twice keeps the first time."""
        value = "coalesce(disabled_at, ?1)" if disabled else "NULL"
        statement = f"UPDATE {table} SET disabled_at = {value} WHERE {key} = ?2 RETURNING 1"  # noqa: S608 - our own text
        with self._file.change():
            return bool(self._file.rows(statement, self._clock.now(), name))


def keep_scram(var: Path, clock: Clock, username: str, password_hash: str, verifier: str) -> None:
    """Add a verifier to the registry below `var` from a running server; in a thread, for it waits for the disk."""
    with RegistryAdmin.open(var, clock) as admin:
        admin.set_scram(username, password_hash, verifier)
