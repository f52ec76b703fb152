"""GuardedFetcher: reads one document over https, such as the keys of an issuer of tokens.

In: a URL of the configuration. Out: the body of a 200. Connects only where the SSRF guard allows, follows no redirect,
uses no proxy or cookie, reads 256 KB at most and waits 10 seconds at most. Raises OSError with words for the log.
At construction SettingsError, for a CA file that cannot be used.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

import aiohttp

from relay.mail.errors import SettingsError
from relay.ports import Resolver
from relay.transports.guard import AddressGuard, ForbiddenAddressError
from relay.transports.http_exchange import guarded_session

_LONGEST: Final = 262_144
_SECONDS: Final = 10.0
_PATIENCE: Final = aiohttp.ClientTimeout(total=_SECONDS)


class GuardedFetcher:
    """The port Fetcher. A connection a document: they are rare."""

    def __init__(self, key: str, ca_file: Path | None, resolver: Resolver, *, allow_private: bool) -> None:
        """`key` is the setting of the CA file."""
        self._resolver = resolver
        self._guard = AddressGuard(allow_private=allow_private)
        try:
            self._tls = ssl.create_default_context(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror or "no PEM certificate in it"
            raise SettingsError(f"{key}: cannot use {ca_file} ({reason}); name a PEM file") from error

    async def get(self, url: str) -> bytes:
        """See the port."""
        try:
            async with (
                guarded_session(self._guard, self._resolver, self._tls) as session,
                session.get(url, allow_redirects=False, timeout=_PATIENCE) as answer,
            ):
                if answer.status != 200:
                    raise OSError(f"{url} answers {answer.status}")
                return await _read(answer, url)
        except TimeoutError:
            raise OSError(f"{url} gives no answer within {_SECONDS:.0f} seconds") from None
        except aiohttp.ClientError as error:
            # What the guard said stands behind aiohttp's own words.
            reason = getattr(error, "os_error", None)
            raise OSError(f"{url}: {reason if isinstance(reason, ForbiddenAddressError) else error}") from error


async def _read(answer: aiohttp.ClientResponse, url: str) -> bytes:
    body = bytearray()
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > _LONGEST:
            raise OSError(f"{url} is longer than {_LONGEST} octets")
    return bytes(body)
