"""Tolerance: what a listener or a credential lets pass that the grammar does not.

In: a command the grammar refused, and what is tolerated. Out: the command put right, with the names of what was wrong
in it; or None where that is not what was wrong, or not tolerated. Pure; only ever asked after a refusal, so that a
client that keeps to the rules pays nothing. Source: RFC 5321 §4.1.1.2 (no space beside the colon, paths in brackets),
§4.1.1.1 (host names).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from relay.mail.line_ends import has_bare_line_ends
from relay.mail.reply import printable
from relay.ports import LongMessage

_PATH: Final = re.compile(rb"(FROM|TO)([ \t]*:[ \t]*)(<[^<>]*>|[^<> \t]+)((?: .*)?)\Z", re.IGNORECASE | re.DOTALL)
_HOST: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Za-z:.]+\]")
_LONGEST_NAME: Final = 255
_OLD: Final = frozenset(("TLSv1", "TLSv1.1"))
NAMELESS: Final = "unknown"

Tolerates = Callable[[str], bool]


def mended(argument: bytes, tolerates: Tolerates) -> tuple[bytes, list[str]] | None:
    """`FROM: a@b.example` as `FROM:<a@b.example>`."""
    found = _PATH.match(argument)
    if found is None:
        return None
    keyword, colon, path, rest = found.groups()
    wrong = []
    if colon != b":":
        wrong.append("space_after_colon")
    if not path.startswith(b"<"):
        if b"<" in rest:  # `FROM:Bob <bob@b.example>`, which is another mistake
            return None
        wrong.append("no_brackets")
        path = b"<" + path + b">"
    if not wrong or not all(map(tolerates, wrong)):
        return None
    return keyword + b":" + path + rest, wrong


def host_name(argument: bytes) -> tuple[str, bool]:
    """The name a client gives itself, printable, and whether it is a host name or an address literal."""
    name = printable(argument.decode("ascii", "replace"), _LONGEST_NAME)
    return name, _HOST.fullmatch(name) is not None


def had_bare_line_ends(content: bytes | LongMessage) -> bool:
    return content.fixed if isinstance(content, LongMessage) else has_bare_line_ends(content)


def is_old(version: str) -> bool:
    """Of a TLS version as `ssl` names it. Source: RFC 8996."""
    return version in _OLD
