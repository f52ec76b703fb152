"""Session record: the last commands and replies of a session, kept by reference, and how they are shown.

In: what the dialogue notes as it goes, at the price of one append each. Out, only for a session that went wrong, lines
`C: ...`, `S: ...` and `-- event --`. No credentials and no message content: the dialogue notes a stand-in for them, and
of a command only what its grammar knows is shown. Bounded in lines and in octets a line. Never raises.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from relay.mail.reply import Reply, printable

MOST: Final = 48  # entries of a session that are kept, the last ones
LONGEST: Final = 256  # octets of a line

Entry = bytes | Reply | str
"""A command, a reply as it went out (bytes that end in CRLF) or as a value, or an event."""
Record = deque[Entry]

NO_COMMAND: Final = b"\0"
TLS_HELLO: Final = b"\x16"
SECRET: Final = b"\x01"
_STAND_INS: Final = {
    NO_COMMAND: "(a line that is no command)",
    TLS_HELLO: "(the first octets of a TLS handshake)",
    SECRET: "(a line of AUTH)",
}

_MECHANISM: Final = re.compile(
    rb"(PLAIN|LOGIN|CRAM-MD5|DIGEST-MD5|SCRAM-SHA-(?:1|256)(?:-PLUS)?|XOAUTH2|OAUTHBEARER|EXTERNAL|NTLM|GSSAPI|ANONYMOUS)"
    rb"(?: |\Z)",
    re.IGNORECASE,
)
_PATH: Final = re.compile(r"((?:FROM|TO) ?: ?(?:<[^<>]*>?|[^ ]*))(.*)", re.IGNORECASE)
_PARAMETER: Final = re.compile(
    r"(SIZE|BODY|SMTPUTF8|RET|ENVID|NOTIFY|ORCPT|HOLDFOR|HOLDUNTIL|BY|MT-PRIORITY|REQUIRETLS)(=[^ ]*)?", re.IGNORECASE
)
_COUNTED: Final = re.compile(r"[0-9]{1,20}( LAST)?", re.IGNORECASE)


def new_record() -> Record:
    return deque(maxlen=MOST)


def without_credentials(argument: bytes) -> bytes:
    """An AUTH command to be noted in place of the one with `argument`."""
    mechanism = _MECHANISM.match(argument)
    words = b"AUTH " + mechanism[1].upper() if mechanism else b"AUTH ..."
    return words + b" ..." if mechanism and len(argument) > len(mechanism[1]) else words


def lines(record: Iterable[Entry]) -> Iterator[str]:
    """The record as it may be shown to people."""
    for entry in record:
        if isinstance(entry, Reply):
            yield f"S: {entry}"
        elif isinstance(entry, str):
            yield f"-- {printable(entry, LONGEST)} --"
        elif entry.endswith(b"\r\n"):
            yield from (f"S: {line}" for line in _reply(entry))
        else:
            yield f"C: {_STAND_INS.get(entry) or command_shown(entry)}"


def _reply(wire: bytes) -> list[str]:
    if wire.startswith(b"334 "):
        return ["334 ..."]  # a challenge may be made from what is secret
    return [printable(line) for line in wire.decode("ascii", "replace").splitlines()]


def command_shown(line: bytes) -> str:
    """What of a command line may be seen: the verb, and what its grammar has for an argument."""
    text = printable(line.decode("ascii", "backslashreplace"), LONGEST)
    verb, _, argument = text.partition(" ")
    verb, argument = verb.upper(), argument.strip(" ")
    return f"{verb} {_argument(verb, argument)}".rstrip() if argument else verb


def _argument(verb: str, argument: str) -> str:
    if verb in ("HELO", "EHLO", "AUTH"):
        return argument
    if verb in ("MAIL", "RCPT") and (path := _PATH.fullmatch(argument)):
        words = (word if _PARAMETER.fullmatch(word) else "..." for word in path[2].split())
        return " ".join((path[1], *words))
    if verb == "BDAT" and _COUNTED.fullmatch(argument):
        return argument
    return "..."
