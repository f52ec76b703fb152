"""Guard: how much one client may do, over all connections and all workers of the server.

In: a client's address, login and what it is about to do. Out: None to go on, a temporary Reply to refuse, seconds to
wait before an answer. An IPv4 address is a client, an IPv6 /64 is one; a subnet is a /24 or a /48. Networks in
`guard.exempt` are never limited. Nobody can lock somebody else out: failures at a user name only slow down, and a login
that worked from an address before is let in from there although the address is refused.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from functools import lru_cache
from typing import Final

from relay.mail.reply import Reply, reply
from relay.mail.session import Login
from relay.policy.sliding import Allowance, Counts, Sliding, allowance
from relay.ports import Clock
from relay.settings import GuardSettings

_DAY: Final = 86_400.0
_FREE_FAILURES: Final = 3  # a typing error costs nobody time
_LONGEST_DELAY: Final = 16.0
_LONGEST_USER_DELAY: Final = 4.0
_SESSION: Final = 7200.0

_CONNECTIONS = reply(421, "4.7.0", "Too many connections from your address, try again later")
_CONNECTION_RATE = reply(421, "4.7.0", "Connections come too fast from your address, try again later")
_FAILURES = reply(421, "4.7.0", "Too many failed authentications from your address, try again later")
_MESSAGES = reply(450, "4.7.0", "Too many messages from your address, try again later")
_LOGIN_MESSAGES = reply(450, "4.7.0", "Too many messages with this login, try again later")
_DAILY = reply(452, "4.5.3", "Too many recipients in 24 hours with this login, try again later")


class Guard:
    """The limits of one worker's doors."""

    def __init__(self, settings: GuardSettings, counts: Counts, clock: Clock) -> None:
        self._counts = counts
        self._sliding = Sliding(counts, clock)
        self._open: Counter[str] = Counter()
        self.reconfigure(settings)

    def reconfigure(self, settings: GuardSettings) -> None:
        """Other limits from now on; what was counted is kept."""
        self._settings = settings
        self._exempt = tuple(map(ipaddress.ip_network, settings.exempt))
        self._connection_rate = allowance(settings.connection_rate)
        self._message_rate = allowance(settings.message_rate)
        self._login_message_rate = allowance(settings.login_message_rate)
        self._client = lru_cache(maxsize=10_000)(self._client_of)

    # --- connections ---------------------------------------------------------------------------------------

    def connect(self, peer: str) -> Reply | None:
        """A connection came; it counts until `leave`, refused or not."""
        client = self._client(peer)
        if not client:
            return None
        self._publish(client, +1)
        most = self._settings.connections
        if most and self._counts.total(("open", client)) > most:
            return _CONNECTIONS
        return self._limit("connection", client, self._connection_rate, _CONNECTION_RATE)

    def leave(self, peer: str) -> None:
        client = self._client(peer)
        if client:
            self._publish(client, -1)

    def _publish(self, client: str, change: int) -> None:
        self._open[client] += change
        count = self._open[client]
        if not count:
            del self._open[client]
        self._counts.set(("open", client), count, _SESSION)

    # --- mail ----------------------------------------------------------------------------------------------

    def message(self, peer: str, login: Login | None) -> Reply | None:
        """A transaction begins."""
        client = self._client(peer)
        refusal = self._limit("message", client, self._message_rate, _MESSAGES) if client else None
        if refusal is None and login is not None:
            return self._limit("login", login.username, self._login_message_rate, _LOGIN_MESSAGES)
        return refusal

    def recipient(self, login: Login | None) -> Reply | None:
        """A recipient is named."""
        most = self._settings.recipients_per_day
        if not most or login is None:
            return None
        return self._limit("recipient", login.username, Allowance(most, _DAY), _DAILY)

    # --- passwords -----------------------------------------------------------------------------------------

    def before_authentication(self, peer: str, username: str) -> Reply | float:
        """A Reply: not even looked at. Else the seconds to let it wait."""
        client = self._client(peer)
        if not client or self._counts.total(("good", client, username)):
            return 0.0
        failures = self._recent("failed", client)
        if self._refuses(failures, self._recent("failed in", _subnet(client))):
            return _FAILURES
        at_user = self._recent("failed at", username) if username else 0.0
        return max(_delay(failures, _LONGEST_DELAY), _delay(at_user, _LONGEST_USER_DELAY))

    def authenticated(self, peer: str, username: str, *, success: bool) -> None:
        """What came of it."""
        client = self._client(peer)
        if not client:
            return
        if success:
            self._counts.set(("good", client, username), 1, _DAY)
            return
        for kind, who in (("failed", client), ("failed in", _subnet(client)), ("failed at", username)):
            self._sliding.count(kind, who, self._settings.auth_window)

    def _refuses(self, by_client: float, by_subnet: float) -> bool:
        settings = self._settings
        return bool(
            (settings.auth_failures and by_client >= settings.auth_failures)
            or (settings.subnet_auth_failures and by_subnet >= settings.subnet_auth_failures)
        )

    def _recent(self, kind: str, who: str) -> float:
        return self._sliding.sum(kind, who, self._settings.auth_window)

    # --- counting in a sliding window ----------------------------------------------------------------------

    def _limit(self, kind: str, who: str, rate: Allowance | None, refusal: Reply) -> Reply | None:
        if rate is None:
            return None
        return None if self._sliding.left(kind, who, rate) > 0 else refusal

    def _client_of(self, peer: str) -> str:
        """The network that counts as one client; empty for who is exempt, and for a Unix socket."""
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return ""
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address in network for network in self._exempt):
            return ""
        return _network(str(address), 32, 64)


def _network(address: str, v4: int, v6: int) -> str:
    return str(ipaddress.ip_network((address, v6 if ":" in address else v4), strict=False))


def _subnet(client: str) -> str:
    return _network(client.partition("/")[0], 24, 48)


def _delay(failures: float, longest: float) -> float:
    beyond = int(failures) - _FREE_FAILURES
    return 0.0 if beyond < 0 else min(longest, 2.0 ** min(beyond, 10))
