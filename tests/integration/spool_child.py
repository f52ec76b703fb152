"""A process that spools, attempts and settles without end, and tells on standard output what was committed.

python spool_child.py FOLDER SEED. Lines: `enqueued ID SHA256`, `begun ID N`, `ended ID N`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import sys
from pathlib import Path

from relay.mail.envelope import Envelope, Recipient
from relay.mail.event import EventKind
from relay.ports import AttemptEnd, AttemptStart, NewMessage, RecipientResult, SystemClock
from relay.store.spool import SqliteSpool

THRESHOLD = 8000


def tell(*words: object) -> None:
    """One write of one line: a kill leaves it whole or out."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def lane(spool: SqliteSpool, dice: random.Random) -> None:
    clock = SystemClock()
    while True:
        content = dice.randbytes(dice.choice([100, 4000, 20_000]))
        recipients = tuple(Recipient(f"r{n}@x.example") for n in range(dice.randrange(1, 4)))
        envelope = Envelope("a@b.example", recipients)
        message = NewMessage(spool.new_id(), "acme", "app", envelope, content, clock.now())
        await spool.enqueue(message)
        tell("enqueued", message.id, hashlib.sha256(content).hexdigest())
        for n, recipient in enumerate(recipients):
            if dice.random() < 0.5:
                continue
            begun = await spool.begin_attempt(AttemptStart(message.id, (n,), "direct", "x.example", clock.now()))
            tell("begun", message.id, n)
            if dice.random() < 0.3:
                continue
            result = RecipientResult(n, recipient.address, EventKind.DELIVERED, "250 2.0.0 Ok")
            await spool.end_attempt(AttemptEnd(message.id, begun.id, clock.now(), "mx", "", (result,)))
            tell("ended", message.id, n)


async def main() -> None:
    spool = SqliteSpool.open(Path(sys.argv[1]), 0, SystemClock(), file_threshold=THRESHOLD)
    tell("open")
    dice = random.Random(int(sys.argv[2]))
    await asyncio.gather(*(lane(spool, random.Random(dice.random())) for _ in range(8)))


if __name__ == "__main__":
    asyncio.run(main())
