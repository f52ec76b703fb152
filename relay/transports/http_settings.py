"""What `[provider.NAME]` says about the connection, checked at start: API key, CA file, base_url.

In: the provider's name and one setting. Out: the usable value. Raises SettingsError: one line with the key and the
fix, never with the secret.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from yarl import URL

from relay.mail.errors import SettingsError
from relay.transports.guard import AddressGuard

_KEY_CHARACTERS: Final = 4096


def read_api_key(name: str, path: Path) -> str:
    """The key that stands alone in a file. Raises SettingsError with the file and the fix, never with its content."""
    return read_word(f"provider.{name}.api_key_file", path)


def read_word(key: str, path: Path) -> str:
    """The secret that stands alone in the file of setting `key`. Raises SettingsError."""
    try:
        text = path.read_text(encoding="ascii")[:_KEY_CHARACTERS].strip()
    except OSError as error:
        raise SettingsError(f"{key}: cannot read {path} ({error.strerror}); check the path and its owner") from error
    except UnicodeDecodeError:
        raise SettingsError(f"{key}: {path} holds no key (not ASCII); write it alone into it") from None
    if not text:
        raise SettingsError(f"{key}: {path} is empty; write the key into it")
    if any(not "!" <= character <= "~" for character in text):
        raise SettingsError(f"{key}: {path} holds more than one word; write the key alone into it")
    return text


def tls_context(key: str, ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        reason = error.strerror or "no PEM certificate in it"
        raise SettingsError(f"{key}: cannot use {ca_file} ({reason}); name a PEM file") from error


def checked_host(key: str, base_url: str, allow_private: bool, guard: AddressGuard) -> str:
    """The host of the URL in the setting `key`. Raises SettingsError."""
    try:
        url = URL(base_url)
        host = url.host or ""
    except ValueError as error:
        raise SettingsError(f"{key}: no URL: {error}") from error
    if url.scheme not in ("https", "http") or not host or url.user or url.query_string or url.fragment:
        raise SettingsError(f"{key}: use https://host/path, without user, query or fragment")
    if url.scheme == "http" and not allow_private:
        raise SettingsError(f"{key}: the API key would travel in clear text; use https:// (or allow_private = true)")
    literal = host.replace(".", "").isdigit() or ":" in host
    if literal and not guard.permits(host):
        raise SettingsError(f"{key}: {host} is no public address; set allow_private = true if it is meant")
    return host
