"""Leaving out: recipients their account does not write to any more end before anything is sent.

In: a job and those of its recipients that try now. Out: the others; who was left out has ended, on disk, and the sender
is told. Raises StoreError. Notices are never kept back: they are mail too important for that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from relay.delivery.job import Job, Pending
from relay.delivery.record import Recorder, Tried
from relay.mail.outcome import Failed, Outcome
from relay.ports import Suppressed

Begin = Callable[[Job, str, Pending], Awaitable[tuple[int, float]]]
"""Puts an attempt by a candidate on disk; who does not wait any more leaves. Gives its id, and when it began."""


class LeavingOut:
    """Of one engine."""

    def __init__(self, suppressed: Suppressed, begin: Begin, recorder: Recorder) -> None:
        self._suppressed = suppressed
        self._begin = begin
        self._recorder = recorder

    async def apply(self, job: Job, pending: Pending) -> bool:
        """Who is left out leaves `pending`; whether nobody else is in it."""
        message = job.message
        if message.envelope.reverse_path is None:
            return False
        found = self._suppressed(message.account, [waiting.recipient.address for waiting in pending.values()])
        if not found:
            return False
        gone = {index: waiting for index, waiting in pending.items() if waiting.recipient.address in found}
        for index in gone:
            del pending[index]
        attempt_id, _ = await self._begin(job, job.via[0], gone)
        if gone:
            outcomes: dict[int, Outcome] = {
                index: Failed(found[waiting.recipient.address]) for index, waiting in gone.items()
            }
            await self._recorder.settle(job, outcomes, Tried(attempt_id))
        return not pending
