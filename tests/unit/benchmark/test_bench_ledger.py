"""A lost or doubled message never passes, whatever the total says."""

from __future__ import annotations

import pytest

from bench.ledger import count_problems, ledger_problems, read


def dump(*ids, signed=()):
    """Messages as smtp-sink writes them."""
    return b"".join(
        b"X-Client-Addr: 127.0.0.1\nX-Mail-Args: <app@bench.example>\n"
        + (b"DKIM-Signature: v=1; a=rsa-sha256; d=bench.example;\n b=AAAA\n" if number in signed else b"")
        + b"Received: from client\nMessage-Id: <%d@bench.example>\n\nXXXX\n\n" % number
        for number in ids
    )


def problems(*ids, sent, signed=False, signatures=()):
    return ledger_problems(read(dump(*ids, signed=signatures)), sent, signed=signed)


def test_each_message_once_is_no_problem():
    assert problems(1, 2, 3, sent=3) == []


def test_a_lost_message_is_a_problem():
    assert problems(1, 3, sent=3) == ["1 of 3 messages lost"]


def test_a_doubled_message_is_a_problem():
    assert problems(1, 2, 2, 2, 3, sent=3) == ["2 of 3 messages delivered again"]


def test_one_lost_and_another_doubled_is_found_though_the_number_is_right():
    assert problems(1, 2, 2, sent=3) == ["1 of 3 messages lost", "1 of 3 messages delivered again"]


def test_a_message_nobody_sent_is_a_problem():
    assert problems(1, 2, 3, 4, sent=3) == ["1 messages more than the 3 sent"]


def test_an_empty_dump_means_all_are_lost():
    assert problems(sent=2) == ["2 of 2 messages lost"]


def test_a_message_without_its_signature_is_a_problem_where_both_sign():
    assert problems(1, 2, sent=2, signed=True, signatures=(1, 2)) == []
    assert problems(1, 2, sent=2, signed=True, signatures=(1,)) == ["1 DKIM signatures instead of 2"]


def test_work_nobody_asked_for_is_a_problem():
    assert problems(1, 2, sent=2, signatures=(2,)) == ["1 DKIM signatures instead of 0"]


def test_message_id_counts_in_any_case_and_only_as_a_field_of_its_own():
    ledger = read(b"MESSAGE-ID: <a@b>\nX-Message-Id: <c@d>\nReferences: Message-Id: <e@f>\n\n")
    assert dict(ledger.arrivals) == {b"<a@b>": 1}


@pytest.mark.parametrize("counted", [9, 11])
def test_a_count_that_is_off_by_one_is_a_problem(counted):
    assert count_problems(counted, 10) == [f"{counted} messages reached the sink instead of 10"]
    assert count_problems(10, 10) == []
