"""Known: clients that need no password, for where they come from says who they are.

In: a session's address, or the user at the other end of a Unix socket. Out: the login it is bound to, or None. The
most particular network counts. Raises SettingsError for a user this machine does not have.
"""

from __future__ import annotations

import ipaddress
import pwd
from collections.abc import Callable, Sequence

from relay.mail.errors import SettingsError
from relay.mail.session import Login, SenderRights, Session
from relay.settings import DeviceSettings, ListenerSettings, PeerSettings
from relay.smtpd.proxy_header import unmapped


class Known:
    """Of one listener. `has_account`: whether there is an enabled account of that id."""

    def __init__(
        self, listener: ListenerSettings, devices: Sequence[DeviceSettings], has_account: Callable[[str], bool]
    ) -> None:
        here = [
            (ipaddress.ip_network(text), _login(f"device:{one.name}", one, one.tolerate))
            for one in devices
            if listener.name in one.listeners
            for text in one.network
        ]
        self._networks = sorted(here, key=lambda entry: -entry[0].prefixlen)
        self._users = {_uid(one.user): _login(f"user:{one.user}", one) for one in listener.peer}
        self._has_account = has_account

    def find(self, session: Session) -> Login | None:
        found = None
        if session.uid is not None:
            found = self._users.get(session.uid)
        elif self._networks:
            found = self._device(session.peer)
        return found if found is not None and self._has_account(found.account) else None

    def _device(self, peer: str) -> Login | None:
        try:
            address = unmapped(ipaddress.ip_address(peer.partition("%")[0]))
        except ValueError:
            return None
        return next((login for network, login in self._networks if address in network), None)


def _login(username: str, one: DeviceSettings | PeerSettings, tolerate: tuple[str, ...] = ()) -> Login:
    addresses = tuple(sender for sender in one.senders if not sender.startswith("@"))
    domains = tuple(sender[1:] for sender in one.senders if sender.startswith("@"))
    return Login(one.account, username, SenderRights(addresses, domains), tolerate, bound=True)


def _uid(user: str) -> int:
    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise SettingsError(f"listener.peer: there is no user {user!r} here; create it, or write its number") from None
