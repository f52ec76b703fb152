"""How many notices one address gets, and who gets all of them."""

from __future__ import annotations

import pytest

from relay.mail.envelope import Envelope
from relay.mail.session import SenderRights
from relay.policy.sliding import Sliding
from relay.ports import NoticeRoom, QueuedMessage, StoredCredential
from relay.settings import Settings
from relay.smtpd.tally import Tally
from relay.telling import Telling


class Clock:
    seconds = 1_000_000.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> float:
        return self.seconds


class Scene:
    """Two workers; `shop` may send as its domain, `legacy` as anybody; there is a key for signed.example."""

    def __init__(self, rate: str = "3/hour") -> None:
        self.clock = Clock()
        self.withheld: list[tuple[str, str]] = []
        given = Settings.model_validate({"delivery": {"notice_rate": rate}})
        tally = Tally(2, self.clock)
        self.workers = [
            Telling(
                lambda: given,
                Sliding(tally.for_worker(index), self.clock),
                self,
                lambda domain: domain == "signed.example",
                self,
            )
            for index in range(2)
        ]

    def find_credential(self, login: str) -> StoredCredential | None:
        rights = {"shop": SenderRights((), ("shop.example",)), "legacy": SenderRights()}
        return StoredCredential(login, "acme", rights[login], "") if login in rights else None

    def notice_withheld(self, message_id: str, recipient: str) -> None:
        self.withheld.append((message_id, recipient))

    def ask(self, sender: str, username: str = "legacy", worker: int = 0) -> NoticeRoom:
        envelope = Envelope(sender, ())
        account = "acme" if username else ""
        return self.workers[worker].room(QueuedMessage("id-1", account, username, envelope, 0, 0.0, (), ()))


def test_one_address_gets_so_many_notices_the_last_of_which_says_so_and_the_others_are_told_of() -> None:
    scene = Scene()
    assert [scene.ask("a@b.example") for _ in range(5)] == ["yes", "yes", "last", "no", "no"]
    assert scene.withheld == [("id-1", "a@b.example")] * 2
    assert scene.ask("other@b.example") == "yes"


def test_workers_count_together_and_an_hour_later_there_is_room_again() -> None:
    scene = Scene()
    assert [scene.ask("a@b.example", worker=number % 2) for number in range(4)] == ["yes", "yes", "last", "no"]
    scene.clock.seconds += 7200.0
    assert scene.ask("a@b.example", worker=1) == "yes"


@pytest.mark.parametrize("other", ["A@B.example", "a+1@b.example", "a+1+2@b.example"])
def test_another_spelling_of_a_mailbox_is_no_other_address(other: str) -> None:
    scene = Scene("1/hour")
    assert scene.ask("a@b.example") == "last"
    assert scene.ask(other) == "no"


@pytest.mark.parametrize(
    ("sender", "username"),
    [
        ("bounces@shop.example", "shop"),
        ("bounces@signed.example", "legacy"),
        ("scan@office.example", "device:printer"),
        ("cron@office.example", "user:www-data"),
    ],
)
def test_an_accounts_own_senders_are_told_of_everything(sender: str, username: str) -> None:
    scene = Scene("1/hour")
    assert {scene.ask(sender, username) for _ in range(50)} == {"yes"}


@pytest.mark.parametrize("username", ["", "legacy", "gone"])
def test_strangers_and_credentials_that_may_send_as_anybody_are_bounded(username: str) -> None:
    scene = Scene("1/hour")
    assert [scene.ask("a@shop.example", username) for _ in range(2)] == ["last", "no"]


def test_a_stranger_who_names_a_domain_of_ours_is_bounded() -> None:
    scene = Scene("1/hour")
    assert [scene.ask("a@signed.example", "") for _ in range(2)] == ["last", "no"]


def test_without_a_rate_there_is_no_limit() -> None:
    scene = Scene("")
    assert {scene.ask("a@b.example") for _ in range(500)} == {"yes"}
