"""Reply: code, enhanced status and text as three fields that cannot contradict each other.

Sources: RFC 5321 §4.2 (codes), RFC 3463 and RFC 2034 (enhanced status codes).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from relay.mail.frozen import frozen

_STATUS = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?=\s|$)")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")
_LONGEST_PEER_TEXT: Final = 480


@frozen
class EnhancedStatus:
    """`class.subject.detail` (RFC 3463 §2); `klass` is 2, 4 or 5."""

    klass: int
    subject: int
    detail: int

    def __post_init__(self) -> None:
        if self.klass not in (2, 4, 5) or not (0 <= self.subject <= 999 and 0 <= self.detail <= 999):
            raise ValueError(f"not an enhanced status code: {self}")

    def __str__(self) -> str:
        return f"{self.klass}.{self.subject}.{self.detail}"

    @classmethod
    @lru_cache(maxsize=512)
    def parse(cls, text: str) -> EnhancedStatus:
        """Read `5.7.1`. Raises ValueError for anything else."""
        match = _STATUS.fullmatch(text)
        if match is None:
            raise ValueError(f"not an enhanced status code: {text!r}")
        return cls(*map(int, match.groups()))


@frozen
class Reply:
    """One SMTP reply, ours or a peer's.

    The class of `status` always equals the first digit of `code`, and `text` holds printable ASCII only,
    so no reply can carry a second line. Raises ValueError otherwise.
    """

    code: int
    status: EnhancedStatus
    text: str

    def __post_init__(self) -> None:
        if not 200 <= self.code <= 599 or self.code // 100 != self.status.klass:
            raise ValueError(f"code {self.code} does not go with status {self.status}")
        if not _is_printable(self.text):
            raise ValueError(f"unprintable byte in reply text: {self.text!r}")

    def __str__(self) -> str:
        return f"{self.code} {self.status} {self.text}"

    @property
    def wire(self) -> bytes:
        """The reply as it goes over the connection, CRLF included."""
        return f"{self.code} {self.status} {self.text}\r\n".encode("ascii")

    @property
    def positive(self) -> bool:
        return self.code < 400

    @property
    def temporary(self) -> bool:
        return 400 <= self.code < 500

    @property
    def permanent(self) -> bool:
        return self.code >= 500

    @classmethod
    def from_peer(cls, code: int, text: str) -> Reply:
        """A peer's reply as data: hostile bytes made printable, a missing or lying status replaced.

        `text` may begin with an enhanced status code; where its class contradicts `code` the code wins
        (RFC 2034 §4). A code outside 200..599 or of class 3 becomes 451, for unknown means temporary.
        """
        clean = (text if _is_printable(text) else _UNPRINTABLE.sub(" ", text)).strip()
        match = _STATUS.match(clean)
        status = EnhancedStatus.parse(match[0]) if match else None
        if match:
            clean = clean[match.end() :].strip()
        if not 200 <= code <= 599 or code // 100 == 3:
            code, status = 451, None
        if status is None or status.klass != code // 100:
            status = EnhancedStatus(code // 100, *(status.subject, status.detail) if status else (0, 0))
        return cls(code, status, clean[:_LONGEST_PEER_TEXT])


def reply(code: int, status: str, text: str) -> Reply:
    """Shorthand for the replies we write ourselves: `reply(550, "5.7.1", "Relaying denied")`."""
    return Reply(code, EnhancedStatus.parse(status), text)


def printable(text: str, longest: int = _LONGEST_PEER_TEXT) -> str:
    """`text` made safe for a reply, a log line or a header: printable ASCII, one line, capped."""
    return (text if _is_printable(text) else _UNPRINTABLE.sub("?", text))[:longest]


def _is_printable(text: str) -> bool:
    """Whether all of it is printable ASCII; several times as fast as to search for what is not."""
    return text.isascii() and text.isprintable()
