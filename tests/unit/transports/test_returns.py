"""What comes back is delivered once it is written down and queued for its sender, and comes again where it is not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relay.mail.envelope import Envelope, Recipient
from relay.mail.errors import OperatorError, StoreError
from relay.mail.outcome import Deferred, Delivered, Failed, Outcome
from relay.mail.reply import Reply, reply
from relay.mail.return_path import KEY_OCTETS, ReturnPaths
from relay.ports import DeliveryRequest, Origin, ReturnedMail, SystemClock
from relay.transports.returns import ReturnsTransport

PATHS = ReturnPaths("back.example", b"k" * KEY_OCTETS)
PASSED_ON = reply(250, "2.0.0", "Passed on")
ADDRESS = PATHS.of("19a2b3c4d5e6f708", 2)
CONTENT = (
    b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
    b"Reporting-MTA: dns; x\r\n\r\nFinal-Recipient: rfc822; bob@x.example\r\nAction: failed\r\n\r\n--b--\r\n"
)


def deliver(
    take: Any, pass_on: Any = PASSED_ON, address: str = ADDRESS, attempt: int = 1
) -> tuple[Outcome, list[ReturnedMail], int]:
    """The outcome, what was taken, and how much was passed on."""
    taken: list[ReturnedMail] = []
    passed: list[bytes] = []

    async def taking(mail: ReturnedMail) -> Any:
        taken.append(mail)
        if isinstance(take, Exception):
            raise take
        return take

    async def passing(origin: Origin, request: DeliveryRequest, content: bytes) -> Reply:
        passed.append(content)
        if isinstance(pass_on, Exception):
            raise pass_on
        answer: Reply = pass_on
        return answer

    recipients = (Recipient(address),)
    request = DeliveryRequest("1" * 16, "", None, recipients, "", Envelope(None, recipients), attempt)
    transport = ReturnsTransport(PATHS, taking, passing, SystemClock())
    report = asyncio.run(transport.deliver(request, CONTENT))
    assert all(content == CONTENT for content in passed)
    return report.outcomes[address], taken, len(passed)


def test_what_was_read_and_passed_on_is_delivered() -> None:
    outcome, [mail], passed = deliver(Origin("acme", "a@b.example"))

    assert isinstance(outcome, Delivered)
    assert passed == 1
    assert (mail.message_id, mail.index, mail.key) == ("19a2b3c4d5e6f708", 2, f"returned {'1' * 16}")
    assert [(one.action, one.addresses) for one in mail.reported] == [("failed", ("bob@x.example",))]


def test_what_nobody_wants_is_read_and_ends_there() -> None:
    outcome, _, passed = deliver(Origin("acme", ""))

    assert isinstance(outcome, Delivered)
    assert passed == 0


@pytest.mark.parametrize(
    ("take", "pass_on"),
    [
        ("early", None),
        (StoreError("disk"), None),
        (OperatorError("a worker does not answer"), None),
        (Origin("acme", "a@b.example"), StoreError("disk")),
    ],
)
def test_what_cannot_be_done_now_is_tried_again(take: Any, pass_on: Any) -> None:
    assert isinstance(deliver(take, pass_on)[0], Deferred)


def test_only_the_first_attempt_is_patient() -> None:
    assert [deliver("gone", attempt=number)[1][0].patient for number in (1, 2)] == [True, False]


@pytest.mark.parametrize(
    ("take", "pass_on", "address"),
    [
        ("gone", None, ADDRESS),
        (Origin("acme", "a@b.example"), reply(554, "5.4.6", "Loop"), ADDRESS),
        (Origin("acme", "a@b.example"), None, ADDRESS.replace("-2-", "-3-")),
    ],
)
def test_what_can_never_be_done_ends(take: Any, pass_on: Any, address: str) -> None:
    assert isinstance(deliver(take, pass_on, address)[0], Failed)
