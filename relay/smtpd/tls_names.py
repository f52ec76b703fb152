"""Which certificate a client gets: by the host name it asks for (SNI, RFC 6066 §3).

In: pairs, the main one first. Out: a context for a name: the pair that lists it, else the one with a wildcard for it
(one label, RFC 9525 §6.3), else the main one. Raises nothing for any name.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Collection, Mapping, Sequence

from relay.smtpd.end_point import ServerContext, end_point_of
from relay.smtpd.tls_context import new_context
from relay.smtpd.tls_pair import Pair

Group = tuple[Pair, ...]
"""Pairs for the same names with different kinds of key: one context, and each client gets the kind it can check."""


class ServedNames:
    """Immutable; made anew when a pair changes."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        known: Mapping[Group, ssl.SSLContext],
        prepare: Callable[[ssl.SSLContext], None] = lambda context: None,
    ) -> None:
        """`known`: contexts that need not be made again; `prepare` sees each that is. Raises ssl.SSLError."""
        self.contexts = {group: known.get(group) or _context(group, prepare) for group in _groups(pairs)}
        self.main = next(iter(self.contexts))
        self._main = self.contexts[self.main]
        self._by_name: dict[str, ssl.SSLContext] = {}
        for group, context in self.contexts.items():
            for name in group[0].facts.names:
                self._by_name.setdefault(name, context)

    def find(self, name: str | None) -> ssl.SSLContext:
        """A name as a client wrote it; None or empty when it named none."""
        if not name:
            return self._main
        name = _plain(name)
        return self._by_name.get(name) or self._by_name.get(_wildcard(name)) or self._main


def covers(names: Collection[str], host: str) -> bool:
    """Whether a client that looks for `host` is content with a certificate for `names`."""
    host = _plain(host)
    return host in names or _wildcard(host) in names


def _plain(name: str) -> str:
    return name.lower().rstrip(".")


def _wildcard(name: str) -> str:
    return f"*.{name.partition('.')[2]}"


def _groups(pairs: Sequence[Pair]) -> list[Group]:
    """In the order of their first pair; of two with the same names and kind of key the first counts."""
    found: dict[object, dict[str, Pair]] = {}
    for pair in pairs:
        names = frozenset(pair.facts.names) or pair
        found.setdefault(names, {}).setdefault(pair.kind, pair)
    return [tuple(group.values()) for group in found.values()]


def _context(group: Group, prepare: Callable[[ssl.SSLContext], None]) -> ServerContext:
    context = loaded(group, new_context())
    prepare(context)
    if len(group) == 1:
        # Of several OpenSSL does not tell which one a client got.
        context.end_point = end_point_of(group[0].chain)
    return context


def loaded(group: Group, context: ServerContext) -> ServerContext:
    """The same context, with every pair of the group. Raises ssl.SSLError."""
    for pair in group:
        pair.load_into(context)
    return context
