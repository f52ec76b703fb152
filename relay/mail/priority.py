"""Priority: how urgent a message is, from -9 to 9, as MAIL's MT-PRIORITY and the field MT-Priority write it.

In: a value, or header fields. Out: the number, None where there is none or it is none. Never raises.
Source: RFC 6710 §7 (the value), RFC 6758 §4 (the field).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from relay.mail.message import HeaderField

_VALUE: Final = re.compile(r"-?[1-9]|0")
_COMMENT: Final = re.compile(r"\([^()]*+\)")
FIELD: Final = "mt-priority"


def priority_of(value: str) -> int | None:
    return int(value) if _VALUE.fullmatch(value) else None


def priority_in(fields: Iterable[HeaderField]) -> int | None:
    """What the only MT-Priority field says; several say nothing."""
    found = [one for one in fields if one.name == FIELD]
    return priority_of(_COMMENT.sub("", found[0].text).strip()) if len(found) == 1 else None
