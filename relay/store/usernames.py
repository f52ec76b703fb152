"""Names of the registry: accounts, SMTP user names, and what account a user name speaks of.

A user name is `identifier`, or `identifier@host`. Where `host` is `ACCOUNT.anything` it names that account; of several
accounts that fit, the longest id counts. The registry keeps one promise about this, which makes log-ins unambiguous:
a user name that names an existing account belongs to it. Pure functions; raises StoreError for a bad name.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Final

from relay.mail.address import parse_address
from relay.mail.errors import AddressSyntaxError, StoreError

USERNAME_OCTETS: Final = 255

_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9._+=~-]{0,63}\Z")
_HOST = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*\Z")


def account_id(text: str) -> str:
    """`text` when it may be an account's id. Raises StoreError."""
    if not _ACCOUNT.match(text):
        raise StoreError(
            f"account {text!r}: use up to 63 of a-z 0-9 . _ - and begin with a letter or digit, such as 'acme'"
        )
    return text


def stored_username(text: str) -> str:
    """The form a user name is stored in: ASCII, lower case. Raises StoreError."""
    username = fold_login(text)
    identifier, at, host = username.partition("@")
    if not _IDENTIFIER.match(identifier) or (at and not _HOST.match(host)):
        raise StoreError(
            f"user name {text!r}: use letters, digits and . _ + = ~ - (64 at most), with @host behind or without"
        )
    return username


def fold_login(text: str) -> str:
    """A login name as it is looked up: ASCII letters in lower case; `""`, which no user has, for what cannot be one.

    Non-ASCII is not folded but refused: `K` (Kelvin sign) lowers to `k`, and two names must never meet that way.
    """
    return text.lower() if text.isascii() and len(text) <= USERNAME_OCTETS else ""


def named_account(username: str, accounts: Container[str]) -> str | None:
    """The account `identifier@ACCOUNT.anything` speaks of: the longest id of `accounts` that fits, or None."""
    host = username.partition("@")[2]
    while "." in host and not username.endswith("."):
        host = host.rpartition(".")[0]
        if host in accounts:
            return host
    return None


def sender_address(text: str) -> str:
    """An address a credential may send from, its domain in lower case. Raises StoreError."""
    try:
        return str(parse_address(text))
    except AddressSyntaxError as error:
        raise StoreError(f"sender {text!r}: {error}; write it as user@example.com") from error


def sender_domain(text: str) -> str:
    """A domain a credential may send from, in lower case. Raises StoreError."""
    try:
        return parse_address(f"x@{text.removeprefix('@')}").domain
    except AddressSyntaxError as error:
        raise StoreError(f"sender domain {text!r}: {error}; write it as example.com") from error
