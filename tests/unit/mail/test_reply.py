"""Reply: three fields that cannot contradict each other, and peers' bytes that cannot become a second line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mail.outcome import Deferred, Delivered, Failed, Sent, outcome_of
from relay.mail.reply import EnhancedStatus, Reply, printable, reply


def test_a_reply_is_written_as_code_status_and_text():
    answer = reply(550, "5.7.1", "Relaying denied")
    assert str(answer) == "550 5.7.1 Relaying denied"
    assert answer.wire == b"550 5.7.1 Relaying denied\r\n"


@pytest.mark.parametrize(("code", "status"), [(450, "5.1.1"), (550, "4.1.1"), (250, "5.0.0"), (354, "2.0.0")])
def test_a_code_and_a_status_of_another_class_are_refused(code, status):
    with pytest.raises(ValueError, match="does not go with"):
        reply(code, status, "no")


@pytest.mark.parametrize("text", ["a\r\nb", "a\nb", "a\x00", "a\x7f", "ü", "a\u2028b"])
def test_text_that_is_not_one_line_of_printable_ascii_is_refused(text):
    with pytest.raises(ValueError, match="unprintable"):
        Reply(250, EnhancedStatus(2, 0, 0), text)


@pytest.mark.parametrize("text", ["", "5", "5.1", "5.1.1.1", "3.1.1", "5.1000.1", "5.1.1 x", " 5.1.1"])
def test_what_is_no_enhanced_status_is_refused(text):
    with pytest.raises(ValueError, match="not an enhanced status"):
        EnhancedStatus.parse(text)


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (250, "2.1.5 Ok", "250 2.1.5 Ok"),
        (250, "Ok", "250 2.0.0 Ok"),
        (550, "4.2.1 go away", "550 5.2.1 go away"),
        (451, "5.7.1 later", "451 4.7.1 later"),
        (354, "2.0.0 send it", "451 4.0.0 send it"),
        (999, "5.1.1 what", "451 4.0.0 what"),
        (0, "", "451 4.0.0 "),
        (550, "5.1.1", "550 5.1.1 "),
        (550, "5.1.1-rejected", "550 5.0.0 5.1.1-rejected"),
        (550, "5.1.1 b\xc3\xb6se\r\n250 2.0.0 fine", "550 5.1.1 b se 250 2.0.0 fine"),
    ],
)
def test_a_peers_reply_becomes_one_that_cannot_lie(code, text, expected):
    assert str(Reply.from_peer(code, text)) == expected


@given(st.integers(-10, 1000), st.text(max_size=700))
def test_any_answer_of_a_peer_is_one_line_of_bounded_length(code, text):
    answer = Reply.from_peer(code, text)
    assert answer.wire.count(b"\r\n") == 1
    assert len(answer.wire) < 510
    assert answer.positive + answer.temporary + answer.permanent == 1


@given(st.text(max_size=600))
def test_printable_text_fits_a_reply(text):
    assert reply(250, "2.0.0", printable(text)).text == printable(text)


def test_a_verdict_becomes_an_outcome_of_its_class():
    yes, later, no = reply(250, "2.0.0", "ok"), reply(451, "4.0.0", "later"), reply(550, "5.0.0", "no")
    assert outcome_of(yes, final_hop=True) == Delivered(yes)
    assert outcome_of(yes, final_hop=False) == Sent(yes)
    assert outcome_of(later, final_hop=True) == Deferred(later)
    assert outcome_of(no, final_hop=False) == Failed(no)
