"""Observer: who hears of attempts, notices, paused routes, dead next hops and faults, for metrics and logs."""

from __future__ import annotations

from typing import Protocol

from relay.mail.errors import StoreError
from relay.mail.reply import Reply
from relay.ports import DeliveryReport, DeliveryRequest


class Observer(Protocol):
    """Must not raise."""

    def attempt_started(self, request: DeliveryRequest, transport: str) -> None: ...

    def attempt_ended(self, transport: str, report: DeliveryReport, seconds: float) -> None: ...

    def notice_queued(self, message_id: str, notice_id: str, recipient: str) -> None: ...

    def route_paused(self, route: str, seconds: float, answer: Reply) -> None: ...

    def route_resumed(self, route: str) -> None: ...

    def next_hop_opened(self, next_hop: str, seconds: float, answer: Reply) -> None: ...

    def next_hop_closed(self, next_hop: str) -> None: ...

    def store_failed(self, error: StoreError) -> None: ...

    def failure(self, where: str, error: BaseException, message_id: str | None = None) -> None: ...
