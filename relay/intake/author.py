"""Who a message says it is from: every address a reader could take for the author's, to be held against rights.

In: the unfolded value of a From field. Out: addresses; none where the value names nobody or cannot be read. Never
raises; linear. Not a parser of mailboxes but a suspicious reader: outside quoted strings and comments every word with
an @ counts, so that no trick with brackets, groups or comments shows one address here and another to the reader.
Source: RFC 5322 §3.2 (comments, quoted strings), §3.4 (mailboxes, groups).
"""

from __future__ import annotations

import re
from typing import Final

_OUTSIDE: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"|\\.|[^"\\()<>,;:\s]++|.', re.DOTALL)
_IN_COMMENT: Final = re.compile(r"\\.|[^\\()]++|.", re.DOTALL)
_SEPARATORS: Final = frozenset("<>,;:")
_QUOTED: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


def authors(value: str) -> list[str]:
    """The addresses, in order. `"Joe" <joe@example.com>` gives `joe@example.com`."""
    return [word for word in _words(value) if "@" in _QUOTED.sub("", word)]


def _words(value: str) -> list[str]:
    """What stands between separators, spaces and comments; a quoted string belongs to the word it touches."""
    words = [""]
    position = depth = 0
    while position < len(value):
        match = (_IN_COMMENT if depth else _OUTSIDE).match(value, position)
        assert match is not None
        piece, position = match[0], match.end()
        if piece == "(":
            depth += 1
            words.append("")
        elif depth:
            depth -= piece == ")"
        elif piece in _SEPARATORS or piece.isspace():
            words.append("")
        elif piece in ('"', ")"):
            return []
        else:
            words[-1] += piece
    return words if not depth else []
