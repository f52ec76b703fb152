"""Sandbox rules: which misbehaviour a recipient's local part asks of the sandbox MX. Pure; docs/howto/sandbox.md.

In: an address. Out: None (accept) or a Rule. The local part counts without its `+tag`, in any case:
`NNN` (a 4xx or 5xx code), `timeout`, `close`, `reset`, `greylist`, `slow`, `tls-broken`; with `data-` before it
(`data-550`, `data-close` ...) the same happens after the final dot instead of at RCPT TO. The test addresses of
playwithsendpost.io answer as SendPost documents them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from relay.mail.reply import Reply, reply

Action = Literal["reply", "timeout", "close", "reset", "greylist", "slow", "tls-broken"]

SENDPOST_DOMAIN: Final = "playwithsendpost.io"
GREYLISTED: Final = reply(450, "4.2.0", "Greylisted, try again")
TLS_BREAKS_NEXT: Final = reply(454, "4.7.0", "TLS is broken for this recipient: the next handshake here will fail")

_CODE: Final = re.compile(r"[45][0-5][0-9]\Z")
_ANYWHERE: Final[tuple[Action, ...]] = ("timeout", "close", "reset", "slow")
_AT_RCPT: Final[tuple[Action, ...]] = ("greylist", "tls-broken")
_TEXTS: Final = {
    421: ("4.3.2", "Service not available, closing connection"),
    450: ("4.2.1", "Mailbox busy, try again later"),
    451: ("4.3.0", "Local error in processing, try again later"),
    452: ("4.2.2", "Mailbox full, try again later"),
    454: ("4.7.0", "Temporary authentication failure"),
    550: ("5.1.1", "No such user here"),
    551: ("5.1.6", "User has moved"),
    552: ("5.2.2", "Mailbox full"),
    553: ("5.1.3", "Mailbox name not allowed"),
    554: ("5.7.1", "Message refused"),
    556: ("5.1.10", "Domain does not accept mail"),
}
_SENDPOST: Final = {
    "hardbounce": reply(550, "5.1.1", "hardbounce@playwithsendpost.io: no such user"),
    "softbounce": reply(451, "4.2.2", "softbounce@playwithsendpost.io: mailbox full, try again later"),
    "dropped": reply(550, "5.7.1", "dropped@playwithsendpost.io: message dropped by policy"),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """What to do, and when: at RCPT TO, or `at_data` in place of the answer to the final dot."""

    action: Action
    at_data: bool = False
    answer: Reply | None = None


def rule_for(address: str) -> Rule | None:
    """The rule an address asks for, or None: accept."""
    local, _, domain = address.rpartition("@")
    word = local.strip('"').partition("+")[0].lower()
    if domain.lower() == SENDPOST_DOMAIN and word in _SENDPOST:
        return Rule("reply", answer=_SENDPOST[word])
    at_data = word.startswith("data-")
    word = word.removeprefix("data-")
    if _CODE.match(word):
        return Rule("reply", at_data, code_reply(int(word)))
    for action in _ANYWHERE if at_data else _ANYWHERE + _AT_RCPT:
        if word == action:
            return Rule(action, at_data)
    return None


def code_reply(code: int) -> Reply:
    """The reply a numeric local part gets; codes without a text of their own say so."""
    status, text = _TEXTS.get(code, (f"{code // 100}.0.0", "Refused, as the recipient's local part asks"))
    return reply(code, status, text)
