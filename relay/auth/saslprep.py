"""SASLprep: the form of a password that SCRAM derives from, the same on both sides of the wire.

In: text. Out: its UTF-8 octets after mapping and NFKC, or None for what SASLprep forbids. Code points that Unicode 3.2
did not know pass, as in a query (RFC 3454 §7): today's clients send them.
Sources: RFC 4013, RFC 3454 §6, RFC 5802 §2.2.
"""

from __future__ import annotations

import stringprep
from typing import Final
from unicodedata import ucd_3_2_0

_FORBIDDEN: Final = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str) -> bytes | None:
    """None for forbidden code points, mixed directions, and what is nothing in the end."""
    if not text.isascii():
        mapped = "".join(
            " " if stringprep.in_table_c12(one) else one for one in text if not stringprep.in_table_b1(one)
        )
        text = ucd_3_2_0.normalize("NFKC", mapped)
    if not text or any(forbidden(one) for one in text for forbidden in _FORBIDDEN) or not _one_direction(text):
        return None
    return text.encode("utf-8")


def _one_direction(text: str) -> bool:
    """RFC 3454 §6: right-to-left text holds nothing that runs left to right, and begins and ends as itself."""
    if not any(map(stringprep.in_table_d1, text)):
        return True
    at_both_ends = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    return at_both_ends and not any(map(stringprep.in_table_d2, text))
