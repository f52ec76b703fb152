"""VERP: the MAIL FROM under which a message leaves, so that what comes back says which message it was.

In: a request with the client's own sender. Out: the requests to make, each with a return path of ours. Only for mail of
an account, and never for the null sender: a notice about a notice goes nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from relay.mail.outcome import Deferred, Fault
from relay.mail.return_path import ReturnPaths
from relay.ports import DeliveryReport, DeliveryRequest
from relay.settings import Settings


@dataclass(frozen=True, slots=True)
class Verp:
    """`candidates` are the ways out that know nothing of the client's sender."""

    paths: ReturnPaths
    candidates: frozenset[str]
    per_recipient: bool

    @classmethod
    def of(cls, settings: Settings, key: bytes) -> Verp | None:
        """None where bounces go to whom the client named."""
        bounces = settings.bounces
        if not bounces.domain or not key:
            return None
        chosen = {f"smarthost:{name}" for name, one in settings.smarthost.items() if one.return_path == "bounces"}
        return cls(ReturnPaths(bounces.domain, key), frozenset({"direct", *chosen}), bounces.per_recipient)

    def requests(self, candidate: str, request: DeliveryRequest, indexes: Sequence[int]) -> list[DeliveryRequest]:
        """In place of `request`, whose recipients have these `indexes`."""
        if candidate not in self.candidates or request.reverse_path is None or not request.account:
            return [request]
        if len(indexes) > 1 and not self.per_recipient:
            return [replace(request, reverse_path=self.paths.of(request.message_id, None))]
        return [
            replace(request, reverse_path=self.paths.of(request.message_id, index), recipients=(recipient,))
            for index, recipient in zip(indexes, request.recipients, strict=True)
        ]


def no_use_to_go_on(report: DeliveryReport) -> Deferred | None:
    """What holds for the other recipients too: there is no session with this next hop."""
    for outcome in report.outcomes.values():
        if isinstance(outcome, Deferred) and outcome.fault in (Fault.HOST, Fault.ROUTE):
            return outcome
    return None
