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
_BETWEEN: Final = ""


def authors(value: str) -> list[str]:
    """The addresses, in order. `"Joe" <joe@example.com>` gives `joe@example.com`."""
    found: list[str] = []
    word: list[str] = []
    is_address = False
    for piece in (*_pieces(value), _BETWEEN):
        if piece != _BETWEEN:
            word.append(piece)
            is_address |= "@" in piece and not piece.startswith('"')
            continue
        if is_address:
            found.append("".join(word))
        word, is_address = [], False
    return found


def _pieces(value: str) -> list[str]:
    """Words in pieces, a quoted string being one, with `_BETWEEN` for separators, spaces and comments."""
    pieces: list[str] = []
    position = depth = 0
    while position < len(value):
        match = (_IN_COMMENT if depth else _OUTSIDE).match(value, position)
        assert match is not None
        piece, position = match[0], match.end()
        if piece == "(":
            depth += 1
            pieces.append(_BETWEEN)
        elif depth:
            depth -= piece == ")"
        elif piece in _SEPARATORS or piece.isspace():
            pieces.append(_BETWEEN)
        elif piece in ('"', ")"):
            return []
        else:
            pieces.append(piece)
    return pieces if not depth else []
