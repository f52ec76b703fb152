"""Failed sessions: how many are remembered, how long, and which are pushed out."""

from __future__ import annotations

import ssl
from dataclasses import replace

from relay.mail.reply import reply
from relay.mail.session import Session
from relay.settings import ListenerSettings, SessionSettings
from relay.smtpd import replies
from relay.smtpd.failed_sessions import FailedSessions
from relay.smtpd.session_record import MOST, Entry, lines, new_record
from relay.smtpd.symptom import Case

LISTENER = ListenerSettings(name="submission", port=587)
WRONG_PASSWORD = reply(535, "5.7.8", "Authentication credentials invalid")


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


def failed(number: int, answer: Entry = replies.BARE_LF) -> Case:
    session = Session(f"192.0.2.{number}", 4000, "client.example", "ESMTP", "submission")
    return Case(LISTENER, session, (b"EHLO client.example", answer))


def sessions(kept: int = 3, keep: float = 60.0) -> tuple[FailedSessions, Clock]:
    clock = Clock()
    return FailedSessions(SessionSettings(kept=kept, keep=keep), 4, clock), clock


def peers(remembered: FailedSessions) -> list[str]:
    return [one.peer.rpartition(".")[2] for one in remembered.all()]


def test_the_last_of_one_kind_are_kept_the_newest_first() -> None:
    remembered, clock = sessions()
    for number in (1, 2, 3, 1, 4):
        clock.seconds += 1
        remembered.ended(failed(number), 0.5)
    assert peers(remembered) == ["4", "1", "3"]
    assert [one.times for one in remembered.all()] == [1, 2, 1]
    assert [one.id for one in remembered.all()] == ["4-4", "4-1", "4-3"]


def test_who_guesses_passwords_pushes_out_no_other_kind() -> None:
    remembered, clock = sessions()
    remembered.ended(failed(1), 0.5)
    for number in range(2, 200):
        clock.seconds += 0.1
        remembered.ended(failed(number, WRONG_PASSWORD), 0.5)
    assert len(remembered.all()) == 4
    assert peers(remembered)[-1] == "1"


def test_what_is_older_than_keep_is_forgotten() -> None:
    remembered, clock = sessions()
    remembered.ended(failed(1), 0.5)
    clock.seconds += 59
    remembered.ended(failed(2), 0.5)
    assert peers(remembered) == ["2", "1"]
    clock.seconds += 2
    assert peers(remembered) == ["2"]


def test_fewer_are_kept_after_a_reload_and_none_with_0() -> None:
    remembered, _ = sessions()
    for number in (1, 2, 3):
        remembered.ended(failed(number), 0.5)
    remembered.reconfigure(SessionSettings(kept=1))
    assert peers(remembered) == ["3"]
    remembered.reconfigure(SessionSettings(kept=0))
    remembered.ended(failed(4), 0.5)
    assert peers(remembered) == []


def test_a_session_without_anything_wrong_is_not_kept() -> None:
    remembered, _ = sessions()
    remembered.ended(replace(failed(1, replies.OK), began_mail=True), 0.5)
    assert peers(remembered) == []


def test_a_record_keeps_the_last_entries_by_reference() -> None:
    record = new_record()
    for _ in range(MOST + 5):
        record.append(replies.OK)
    assert len(record) == MOST
    assert record[0] is replies.OK


def test_a_challenge_is_not_shown() -> None:
    assert list(lines([b"334 cj1ub25jZQ==\r\n"])) == ["S: 334 ..."]


def test_a_tls_failure_that_gives_no_reason_is_told_in_its_own_words() -> None:
    """An SSLError that OpenSSL did not raise has none."""
    session = Session("192.0.2.1", 4000, "", "SMTP", "submission")
    case = Case(LISTENER, session, (b"STARTTLS",), ssl.SSLError(1, "broken off"))
    remembered, _ = sessions()
    remembered.ended(case, 0.5)
    assert "broken off" in remembered.all()[0].transcript[-1]
