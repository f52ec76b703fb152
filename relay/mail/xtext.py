"""xtext: how SMTP parameters carry what a parameter cannot hold (RFC 3461 §4, RFC 6533 §3 for addresses in UTF-8)."""

from __future__ import annotations

import re
from typing import Final

_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*\Z")
_UTF8_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~\u0080-\U0010ffff]|\+[0-9A-F]{2}|\\x\{[0-9A-F]{2,6}\})*\Z")
_ENCODED: Final = re.compile(r"\+([0-9A-F]{2})|\\x\{([0-9A-F]{2,6})\}")


def is_xtext(text: str, *, utf8: bool = False) -> bool:
    """`utf8`: octets beyond ASCII and `\\x{...}` too, as in an address of type utf-8."""
    return (_UTF8_XTEXT if utf8 else _XTEXT).match(text) is not None


def decoded(text: str) -> str:
    """What was meant. Control characters stay encoded, for this is put into header fields."""

    def one(match: re.Match[str]) -> str:
        number = int(match[1] or match[2], 16)
        return chr(number) if 0x20 <= number <= 0x10FFFF and number != 0x7F else match[0]

    return _ENCODED.sub(one, text)
