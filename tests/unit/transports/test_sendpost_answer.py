"""SendPost's answers: every recipient of a call gets an outcome, and none is called accepted that was not named."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sendpost_setting import read, result

from relay.mail.outcome import Deferred, Failed, Fault, InDoubt, Sent

ANN, BOB, CID = "ann@example.net", "bob@example.net", "cid@example.net"


def test_accepted_recipients_carry_their_message_ids():
    """One result a `to` entry, in any order and any case."""
    found = read([result(BOB.upper()), result(ANN)], (ANN,), (BOB,))

    assert [found[ANN].remote_id, found[BOB].remote_id] == [f"m-{ANN}", f"m-{BOB.upper()}"]
    assert {Sent} == {type(outcome) for outcome in found.values()}


@pytest.mark.parametrize(
    ("code", "wanted", "elsewhere"),
    [(1, "550 5.1.1", False), (2, "550 5.7.1", False), (3, "550 5.7.1", True), (5, "550 5.1.8", True)],
    ids=["invalid recipient", "suppressed", "domain not verified", "invalid sender"],
)
def test_error_code_in_a_200_is_that_recipients_failure(code, wanted, elsewhere):
    """HTTP 200 is no acceptance; who else was named is not touched. A fault of sender or account may go elsewhere."""
    found = read([result(ANN, code, message="so it is"), result(BOB)], (ANN,), (BOB,))

    assert isinstance(found[ANN], Failed)
    assert found[ANN].elsewhere is elsewhere
    assert str(found[ANN].reply) == f"{wanted} SendPost error {code}: so it is"
    assert isinstance(found[BOB], Sent)


def test_rate_limit_of_one_recipient_rests_the_host_as_long_as_told():
    """errorCode 4 is 429 for one recipient."""
    found = read([result(ANN, 4), result(BOB)], (ANN,), (BOB,), retry_after=90.0)

    assert isinstance(found[ANN], Deferred)
    assert (found[ANN].fault, found[ANN].retry_after) == (Fault.HOST, 90.0)
    assert isinstance(found[BOB], Sent)


def test_error_code_nobody_documented_defers():
    """Unknown means temporary."""
    found = read([result(ANN, 77, message="new")], (ANN,))[ANN]

    assert isinstance(found, Deferred)
    assert str(found.reply) == "451 4.3.0 SendPost error 77: new"


@pytest.mark.parametrize(("code", "kind"), [("0", Sent), ("2", Failed), ("77", Deferred)])
def test_error_code_as_text_is_the_number(code, kind):
    """A vendor that quotes its numbers is still understood."""
    assert type(read([result(ANN, code)], (ANN,))[ANN]) is kind


@pytest.mark.parametrize("code", [False, True, "", "ok", 0.5, [], {}, "9" * 50, "٣"])
def test_error_code_that_is_no_number_is_in_doubt(code):
    """Neither acceptance nor refusal: it may have been accepted."""
    assert isinstance(read([result(ANN, code)], (ANN,))[ANN], InDoubt)


@pytest.mark.parametrize(
    "answer",
    [b"", b"<html>OK</html>", b"null", b"true", b"[]", b"{}", b"[[]]", b'["ok"]', b"[" * 50_000, b"\xff", b"[{}]",
     b'[{"to":"else@example.net","errorCode":0,"messageId":"m"},{"to":"more@example.net","errorCode":0}]',
     b'{"error":{"code":"internal_error"}}', b'[{"errorCode":' + b"1" * 5000 + b"}]"],
)  # fmt: skip
def test_200_that_does_not_name_a_recipient_is_in_doubt(answer):
    """A success nobody can read may have been one."""
    found = read(answer, (ANN,))

    assert isinstance(found[ANN], InDoubt)


def test_missing_recipient_is_in_doubt_alone():
    """The answer names two of three."""
    found = read([result(ANN), result(CID, 2)], (ANN,), (BOB,), (CID,))

    assert [type(found[address]) for address in (ANN, BOB, CID)] == [Sent, InDoubt, Failed]


def test_copies_share_the_fate_of_their_addressee():
    """Cc and Bcc have no result of their own unless one is given."""
    shared = read([result(ANN)], (ANN, BOB, CID))
    own = read([result(ANN), result(CID, 1)], (ANN, BOB, CID))

    assert [shared[address].remote_id for address in (BOB, CID)] == [f"m-{ANN}"] * 2
    assert [type(own[address]) for address in (ANN, BOB, CID)] == [Sent, Sent, Failed]


@pytest.mark.parametrize("code", [1, 2, "2"])
def test_copies_of_a_refused_addressee_are_tried_again_without_it(code):
    """An addressee that is suppressed or wrong must not bounce the others of its copy."""
    found = read([result(ANN, code)], (ANN, BOB))

    assert isinstance(found[ANN], Failed)
    assert isinstance(found[BOB], Deferred)
    assert Fault.MESSAGE is found[BOB].fault


def test_copies_fail_with_their_addressee_where_the_sender_is_at_fault():
    """An unverified domain is the same for everybody of the call."""
    found = read([result(ANN, 3)], (ANN, BOB))

    assert found[BOB] == found[ANN]


def test_unnamed_results_belong_to_the_entries_in_order():
    """One without `to` is read by its place, but only where as many came as were asked for."""
    by_place = read([result(None, 1), result(None)], (ANN,), (BOB,))
    too_few = read([result(None)], (ANN,), (BOB,))

    assert [type(by_place[address]) for address in (ANN, BOB)] == [Failed, Sent]
    assert {InDoubt} == {type(outcome) for outcome in too_few.values()}


def test_single_result_outside_a_list_is_read():
    """Contract or not: one object is one result."""
    assert isinstance(read(result(ANN), (ANN,))[ANN], Sent)


def test_same_address_twice_has_two_results():
    """Two spellings of one mailbox do not both take the first result."""
    found = read([result(ANN), result(ANN, 4)], (ANN,), (ANN.upper(),))

    assert [type(outcome) for outcome in found.values()] == [Sent, Deferred]


@pytest.mark.parametrize(
    ("status", "body", "kind", "fault", "wanted"),
    [
        (401, {"error": {"code": "authentication_failed", "message": "no key"}}, Deferred, Fault.ROUTE, "451 4.7.0"),
        (403, {"error": {"code": "resource_exists"}}, Deferred, Fault.ROUTE, "451 4.7.0"),
        (400, {"error": {"code": "authentication_failed"}}, Deferred, Fault.ROUTE, "451 4.7.0"),
        (400, {"error": {"code": "rate_limit_exceeded"}}, Deferred, Fault.HOST, "451 4.4.5"),
        (422, {"error": {"code": "internal_error"}}, Deferred, Fault.MESSAGE, "451 4.3.0"),
        (422, {"error": {"code": "validation_error", "message": "subject"}}, Failed, None, "550 5.6.0"),
        (422, {"message": "Request body is not in proper format"}, Failed, None, "550 5.6.0"),
        (413, b"<html><h1>413</h1></html>", Failed, None, "552 5.3.4"),
        (429, b"", Deferred, Fault.HOST, "451 4.4.5"),
        (500, {"error": {"code": "validation_error"}}, Deferred, Fault.MESSAGE, "451 4.3.0"),
        (503, b"maintenance", Deferred, Fault.HOST, "451 4.3.2"),
        (504, b"", InDoubt, None, "451 4.4.2"),
    ],
)
def test_refused_call(status, body, kind, fault, wanted):
    """Key and account rest the route, rate and outage the host; only refused content fails, and may go elsewhere."""
    found = read(body, (ANN, BOB), (CID,), status=status)

    assert set(found) == {ANN, BOB, CID}
    assert len(set(map(repr, found.values()))) == 1
    assert type(found[ANN]) is kind
    assert getattr(found[ANN], "fault", None) is fault
    assert str(found[ANN].reply).startswith(wanted)
    assert getattr(found[ANN], "elsewhere", True)


def test_vendors_words_are_capped_and_printable():
    """A hostile text cannot break a line or fill a log."""
    detail = {"field": "to\r\n\x1b[31m", "message": "x" * 5000}
    body = {"error": {"message": "bad\u202e\nnews", "details": [detail] * 50, "code": ["list"]}}
    text = read(body, (ANN,), status=422)[ANN].reply.text

    assert text.isascii()
    assert text.isprintable()
    assert len(text) <= 480


KEYS = ["to", "errorCode", "messageId", "message", "error", "code", "details", "field"]
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8),
              st.sampled_from([ANN, BOB, "errorCode", "error"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    ),
    max_leaves=25,
)  # fmt: skip


@settings(max_examples=150, deadline=None, database=None)
@given(JSON, st.sampled_from([200, 202, 204, 301, 400, 401, 406, 422, 429, 500]))
def test_any_answer_gives_every_recipient_an_outcome(answer, status):
    """Whatever JSON comes, nothing is raised and nobody is left out; only a named id or code 0 accepts."""
    found = read(json.dumps(answer).encode(), (ANN, CID), (BOB,), status=status)

    assert set(found) == {ANN, BOB, CID}
    if status >= 300:
        assert not any(isinstance(outcome, Sent) for outcome in found.values())
