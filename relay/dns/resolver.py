"""Resolver: DNS answers with a memory. Implements ports.Resolver.

In: a name and a type. Out: a DnsAnswer. Answers are kept for their TTL (clamped by the settings), negative ones for
that of their SOA; equal questions at one time are asked once; when DNS gives no answer, one that is at most an hour too
old still counts, and a failure is remembered for some seconds. Raises DnsTemporaryError where there is nothing to say.
Sources: RFC 2308 (negative caching), RFC 8767 (stale answers), RFC 9520 (caching of failures).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final, Protocol

from relay.dns.upstream import Upstream
from relay.mail.errors import DnsTemporaryError
from relay.ports import Clock, DnsAnswer, RecordType
from relay.settings import DnsSettings

STALE_SECONDS: Final = 3600.0
_STALE_RECHECK_SECONDS: Final = 30.0  # RFC 8767 §5
_FAILURE_SECONDS: Final = 5.0  # RFC 9520 §3.2
# Each question holds a socket, and strangers cause questions (SPF): beyond this the answer is "later".
_MOST_QUESTIONS: Final = 1024

_Key = tuple[str, RecordType]


class _Asks(Protocol):
    async def ask(self, name: str, rdtype: RecordType) -> DnsAnswer: ...


@dataclass(frozen=True, slots=True)
class _Entry:
    """An answer or the reason why there is none; fresh until then, of use until later."""

    result: DnsAnswer | str
    fresh_until: float
    usable_until: float


class DnsResolver:
    """One worker's resolver. Belongs to one event loop; holds no socket between questions."""

    def __init__(self, settings: DnsSettings, clock: Clock, *, upstream: _Asks | None = None) -> None:
        """Raises SettingsError for a malformed `dns.nameservers`."""
        self._settings = settings
        self._clock = clock
        self._upstream = upstream or Upstream(settings, clock)
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()
        self._asked: dict[_Key, asyncio.Task[DnsAnswer | str]] = {}

    async def query(self, name: str, rdtype: RecordType) -> DnsAnswer:
        """See ports.Resolver."""
        key = (name.lower().removesuffix("."), rdtype)
        entry = self._entries.get(key)
        if entry is not None and self._clock.monotonic() < entry.fresh_until:
            self._entries.move_to_end(key)
            return _told(entry.result)
        task = self._asked.get(key)
        if task is None:
            if len(self._asked) >= _MOST_QUESTIONS:
                raise DnsTemporaryError("too many DNS questions at once")
            task = asyncio.get_running_loop().create_task(self._ask(key))
            self._asked[key] = task
            task.add_done_callback(lambda _: self._asked.pop(key, None))
        # One caller's end is not the end of the question: others wait for it too.
        return _told(await asyncio.shield(task))

    async def _ask(self, key: _Key) -> DnsAnswer | str:
        """Never raises DnsTemporaryError: with every caller gone, nobody would look at it."""
        try:
            answer = await self._upstream.ask(*key)
        except DnsTemporaryError as error:
            return self._failed(key, str(error))
        answer = replace(answer, ttl=self._clamped(answer.ttl))
        fresh_until = self._clock.monotonic() + answer.ttl
        self._keep(key, _Entry(answer, fresh_until, fresh_until + STALE_SECONDS))
        return answer

    def _failed(self, key: _Key, reason: str) -> DnsAnswer | str:
        now = self._clock.monotonic()
        old = self._entries.get(key)
        if old is not None and isinstance(old.result, DnsAnswer) and now < old.usable_until:
            self._keep(key, replace(old, fresh_until=min(now + _STALE_RECHECK_SECONDS, old.usable_until)))
            return old.result
        self._keep(key, _Entry(reason, now + _FAILURE_SECONDS, now))
        return reason

    def _clamped(self, ttl: float) -> float:
        return min(max(ttl, self._settings.minimum_ttl), self._settings.maximum_ttl)

    def _keep(self, key: _Key, entry: _Entry) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        while len(self._entries) > self._settings.cache_size:
            self._entries.popitem(last=False)


def _told(result: DnsAnswer | str) -> DnsAnswer:
    if isinstance(result, str):
        raise DnsTemporaryError(result)
    return result
