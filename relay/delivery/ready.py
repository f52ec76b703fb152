"""Ready: next hops that have a job and room for it, in turn; those with the most urgent mail first. No I/O."""

from __future__ import annotations

from collections import OrderedDict

from relay.delivery.tiers import Tiers


class Ready:
    """Queue names, each once, at the priority of its most urgent job."""

    __slots__ = ("_at", "_queues", "_tiers")

    def __init__(self) -> None:
        self._queues: dict[int, OrderedDict[str, None]] = {}
        self._at: dict[str, int] = {}
        self._tiers = Tiers()

    def __len__(self) -> int:
        return len(self._at)

    def put(self, queue: str, priority: int) -> None:
        """At the end of its priority's queues; where it stands already it keeps its turn."""
        at = self._at.get(queue)
        if at == priority:
            return
        if at is not None:
            self._leave(queue, at)
        self._at[queue] = priority
        queues = self._queues.get(priority)
        if queues is None:
            queues = self._queues[priority] = OrderedDict()
        if not queues:
            self._tiers.add(priority)
        queues[queue] = None

    def drop(self, queue: str) -> None:
        """It is not ready any more, if it was."""
        at = self._at.pop(queue, None)
        if at is not None:
            self._leave(queue, at)

    def pop(self) -> str:
        """The next one; there has to be one."""
        priority = next(self._tiers.order())
        self._tiers.served()
        queue = next(iter(self._queues[priority]))
        self.drop(queue)
        return queue

    def _leave(self, queue: str, priority: int) -> None:
        queues = self._queues[priority]
        del queues[queue]
        if not queues:
            self._tiers.remove(priority)
