"""Long content: a message that stays in its file while it goes out, looked at once, and signed from what was seen.

In: the spool, the message, who signs. Out: a LongContent; or bytes, where they are in no file, or the header is so long
that the message is nothing but that. Raises StoreError.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from relay.delivery.job import InFlight, Seen
from relay.mail.message import header_block
from relay.ports import LONG, LongContent, Signer, Spool, Stored

_END_OF_HEADER: Final = b"\r\n\r\n"


class Opened(NamedTuple):
    """A message's open file, and its header with the empty line after it."""

    stored: Stored
    head: bytes


async def open_long(spool: Spool, message_id: str) -> bytes | Opened:
    """Whoever asks closes the file."""
    stored = await spool.open_content(message_id)
    if isinstance(stored, bytes):
        return stored
    try:
        start = await stored.read(0, LONG)
        end = start.find(_END_OF_HEADER)
        if end >= 0 and header_block(start):
            return Opened(stored, start[: end + len(_END_OF_HEADER)])
        whole = await stored.read(0, stored.size)
    except BaseException:
        stored.close()
        raise
    stored.close()
    return whole


async def assembled(opened: Opened, head: bytes, in_flight: InFlight, signer: Signer) -> LongContent:
    """The message with this `head`, and the signature before it."""
    stored, skip, header = opened.stored, len(opened.head), header_block(head)
    seen = in_flight.seen or await _look_once(opened, header, in_flight, signer)
    signature = in_flight.signature or b""
    return LongContent(
        header=signature + header,
        head=signature + head,
        rest=stored,
        skip=skip,
        ascii=seen.ascii and head.isascii(),
        ends_line=seen.ends_line,
    )


async def _look_once(opened: Opened, header: bytes, in_flight: InFlight, signer: Signer) -> Seen:
    """For all jobs of the message in memory, one of which reads all of it."""
    looking = in_flight.looking = in_flight.looking or asyncio.Lock()
    async with looking:
        if in_flight.seen is None:
            message = in_flight.message
            # Mail let in by port 25 is not ours to sign.
            signing = signer.begin(header, message.envelope.sender_domain) if message.account else None
            seen = await _look_at(opened, signing.update if signing is not None else None)
            in_flight.signature = signing.finish() if signing is not None else b""
            in_flight.seen = seen
        return in_flight.seen


async def _look_at(opened: Opened, also: Callable[[bytes], None] | None) -> Seen:
    is_ascii, end = True, _END_OF_HEADER

    def look(piece: bytes) -> None:
        nonlocal is_ascii, end
        is_ascii = is_ascii and piece.isascii()
        end = (end + piece[-2:])[-2:]
        if also is not None:
            also(piece)

    await opened.stored.each_piece(len(opened.head), look)
    return Seen(is_ascii, end.endswith(b"\r\n"))
