"""Chunks: a message that comes in counted pieces. Source: RFC 3030 §2.

In: the octets of each BDAT. Out, after the last: the content, or the Reply that refuses it. Bounded as data is: by the
message size and by `hold`; a long message goes to disk as it arrives. Nothing in a chunk ends it but its count, so
CRLF.CRLF is content like any other.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from relay.mail.errors import StoreError
from relay.mail.reply import Reply
from relay.ports import Incoming, LongMessage
from relay.smtpd import replies
from relay.smtpd.spill import LONG, Spill

_COMMAND: Final = re.compile(rb"([0-9]{1,20})(?: +(LAST))?\Z", re.IGNORECASE)
_GRAIN: Final = 16_384


def parse_bdat(argument: bytes) -> tuple[int, bool] | None:
    """What follows `BDAT `: how many octets come, and whether they are the last; None for anything else."""
    match = _COMMAND.match(argument)
    return (int(match[1]), match[2] is not None) if match else None


class Chunks:
    """The chunks of one transaction at a time. `refusal` says why they are not kept any more; `binary`: no lines."""

    def __init__(
        self,
        message_size: int,
        hold: Callable[[int], bool],
        incoming: Callable[[], Incoming],
        *,
        fix_bare_lf: bool,
        longest_header: int = 0,
    ) -> None:
        self._message_size = message_size
        self._hold = hold
        self._held = 0
        self._long = max(LONG, longest_header + 4)
        self._spill = Spill(incoming, fix=fix_bare_lf)
        self._octets = bytearray()
        self._due = 0
        self._last = False
        self.refusal: Reply | None = None
        self.open = False
        self.binary = False

    def fix_bare_lf(self) -> None:
        """From now on."""
        self._spill.fix = True

    def begin(self, octets: int, *, last: bool, refusal: Reply | None) -> bool:
        """A BDAT command came; with a `refusal` its octets are only stepped over. False for absurdly many of those."""
        self.open = True
        self._spill.binary = self.binary
        self._due, self._last = octets, last
        if self.size + octets > self._message_size:
            refusal = refusal or replies.TOO_BIG
        if refusal is not None:
            self._refuse(refusal)
        return self.refusal is None or octets <= 2 * self._message_size

    @property
    def due(self) -> int:
        """How many octets of this chunk are still to come."""
        return self._due

    @property
    def last(self) -> bool:
        return self._last

    @property
    def size(self) -> int:
        """Octets of the message so far."""
        return len(self._octets) + self._spill.octets

    def add(self, octets: bytes) -> None:
        """At most `due` octets."""
        self._due -= len(octets)
        if self.refusal is not None or not octets:
            return
        self._octets += octets
        if len(self._octets) > self._long:
            self._to_disk()
        elif len(self._octets) > self._held + _GRAIN and not self._keep_count(len(self._octets)):
            self._refuse(replies.NO_MEMORY)

    def content(self) -> bytes | LongMessage | Reply:
        """After the last chunk: the whole of it, ended by a CRLF unless it need not be lines."""
        if self.refusal is None and self.size and not self.binary and not self._octets.endswith(b"\r\n"):
            # A message is lines (RFC 5321 §2.3.8), and the next hop may have to get it by DATA.
            self._octets += b"\n" if self._octets.endswith(b"\r") else b"\r\n"
        if self.refusal is None and self._spill.octets:
            self._write_out(len(self._octets))
        result: bytes | LongMessage | Reply
        if self.refusal is not None:
            result = self.refusal
        else:
            result = self._spill.take() if self._spill.octets else bytes(self._octets)
        self.drop()
        return result

    def drop(self) -> None:
        """Forget the message."""
        if self.open:
            self._discard()
            self.refusal, self.open, self._due = None, False, 0

    def _refuse(self, refusal: Reply) -> None:
        self.refusal = self.refusal or refusal
        self._discard()

    def _discard(self) -> None:
        self._octets.clear()
        self._spill.discard()
        self._keep_count(0)

    def _to_disk(self) -> None:
        """All but what may be the first half of a CRLF, or the end of the message."""
        self._write_out(len(self._octets) - 2 - self._octets.endswith(b"\r", 0, -2))
        if self.refusal is None:
            self._keep_count(len(self._octets))

    def _write_out(self, octets: int) -> None:
        try:
            self._spill.write(bytes(memoryview(self._octets)[:octets]), stuffed=False)
        except StoreError:
            self._refuse(replies.NO_SPACE)
        else:
            del self._octets[:octets]

    def _keep_count(self, octets: int) -> bool:
        more = octets - self._held
        if more and not self._hold(more):
            return False
        self._held = octets
        return True
