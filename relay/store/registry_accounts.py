"""Registry accounts: which account something new belongs to, and that no name speaks of another one.

In: an open registry, inside of a change. Out: the account, made where it is missing. Raises StoreError, one line with
the fix, for an account that is bad or disabled, and where a user name names another.
"""

from __future__ import annotations

from typing import Final

from relay.mail.errors import StoreError
from relay.store.registry_file import RegistryFile
from relay.store.usernames import account_id, named_account

DEFAULT_ACCOUNT: Final = "default"


def account_for(file: RegistryFile, username: str, wanted: str | None, now: float) -> tuple[str, bool]:
    """The account of something new, and whether it was created just now."""
    known = account_ids(file)
    account = wanted if wanted is not None else named_account(username, known) or DEFAULT_ACCOUNT
    named = named_account(username, {*known, account_id(account)})
    if named is not None and named != account:
        raise StoreError(
            f"user name {username!r} names account {named!r}, not {account!r}; pass --account {named}, or rename it"
        )
    if account not in known:
        insert_account(file, account, "", now)
    elif file.rows("SELECT 1 FROM account WHERE id = ? AND disabled_at IS NOT NULL", account):
        raise StoreError(f"account {account!r} is disabled; enable it first: relay account enable {account}")
    return account, account not in known


def insert_account(file: RegistryFile, name: str, display_name: str, now: float) -> None:
    """Raises StoreError where a user of another account would name this one."""
    accounts = {*account_ids(file), name}
    for username, owner in file.rows("SELECT username, account FROM credential WHERE instr(username, '@') > 0"):
        if owner != name and named_account(username, accounts) == name:
            raise StoreError(
                f"account {name!r} would be named by user {username!r} of account {owner!r}; choose another id"
            )
    file.rows("INSERT INTO account (id, display_name, created_at) VALUES (?, ?, ?)", name, display_name, now)


def account_ids(file: RegistryFile) -> set[str]:
    return {row[0] for row in file.rows("SELECT id FROM account")}
