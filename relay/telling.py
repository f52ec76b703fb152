"""Telling: how many notices one address gets, so that mail with a forged sender makes no flood of them.

In: a message whose sender is to be told something. Out: whether there is room for that, and whether it is the last.
An address is the account's own, and told without a limit, where the credential may send as certain senders alone, or
the relay signs for its domain. Counts are those of all workers, in memory; what is not told is logged and counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from relay.mail.address import comparable, parse_address
from relay.mail.errors import AddressSyntaxError
from relay.policy.sliding import Sliding, allowance
from relay.ports import CredentialSource, NoticeRoom, QueuedMessage
from relay.settings import Settings

_BOUND: Final = ("device:", "user:")


class Observer(Protocol):
    """Must not raise."""

    def notice_withheld(self, message_id: str, recipient: str) -> None: ...


class Telling:
    """One worker's."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        sliding: Sliding,
        credentials: CredentialSource,
        signs_for: Callable[[str], bool],
        observer: Observer,
    ) -> None:
        """`settings` gives those in force; `signs_for` says whether there is a key for a domain (A-labels)."""
        self._settings = settings
        self._sliding = sliding
        self._credentials = credentials
        self._signs_for = signs_for
        self._observer = observer

    def room(self, message: QueuedMessage) -> NoticeRoom:
        """Counts the notice that is to be made of `message`, which has a sender."""
        sender = message.envelope.reverse_path or ""
        allowed = allowance(self._settings().delivery.notice_rate)
        if allowed is None or self._is_own(message, sender):
            return "yes"
        left = self._sliding.left("notice", _mailbox(sender), allowed)
        if left <= 0:
            self._observer.notice_withheld(message.id, sender)
            return "no"
        return "last" if left <= 1 else "yes"

    def _is_own(self, message: QueuedMessage, sender: str) -> bool:
        if not message.username:
            return False
        if message.username.startswith(_BOUND):
            return True
        known = self._credentials.find_credential(message.username)
        if known is not None and not known.rights.unrestricted and known.rights.allow(sender):
            return True
        try:
            return self._signs_for(parse_address(sender).ascii_domain)
        except AddressSyntaxError:
            return False


def _mailbox(address: str) -> str:
    """Without the detail after a plus sign (RFC 5233), by which one mailbox has any number of addresses."""
    local, _, domain = comparable(address).rpartition("@")
    return f"{local.partition('+')[0]}@{domain}"
