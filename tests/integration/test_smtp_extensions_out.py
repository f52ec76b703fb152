"""What a message asked for at the door is passed on to a next hop that offers it, and to no other."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest
import trustme
from smtp_peer import OFFER, Peer
from smtp_setting import CONTENT, LOOPS, authority, letters, mx_to, request, send, server_tls, smarthost_at

from relay.mail.outcome import Failed
from relay.ports import MxHost
from relay.transports.promises import unkept_by_api


def mail_of(peer: Peer) -> bytes:
    """The parameters of the only MAIL there was."""
    [command] = [command for seen in peer.sessions for command in seen.commands if command.startswith(b"MAIL")]
    return command.partition(b"> ")[2]


def plain(peer: Peer, **settings):
    return mx_to(peer.port, starttls="off", **settings)


def strict(peer: Peer, folder: Path, *addresses: str, secure: bool = True, **settings):
    """To hosts DNSSEC vouches for, with a CA to trust."""
    authority().cert_pem.write_to_path(folder / "ca.pem")
    host = MxHost("mx.example", 10, addresses or ("127.0.0.1",), secure)
    return mx_to(peer.port, host, ca_file=folder / "ca.pem", **settings)


@pytest.mark.parametrize(
    ("offer", "priority", "said"),
    [
        ("MT-PRIORITY", 4, b" MT-PRIORITY=4"),
        ("MT-PRIORITY STANAG4406", -9, b" MT-PRIORITY=-9"),
        ("MT-PRIORITY", 0, b" MT-PRIORITY=0"),
        ("MT-PRIORITY", None, b" MT-PRIORITY=0"),
        ("X-MT-PRIORITY", 4, b""),
    ],
)
def test_a_priority_is_passed_on_where_it_is_understood(offer: str, priority: int | None, said: bytes) -> None:
    with Peer(offer=(*OFFER, offer)) as peer:
        report = send(plain(peer), request(priority=priority))

        assert letters(report) == "D"
    assert mail_of(peer) == b"SIZE=%d" % len(CONTENT) + said


@pytest.mark.parametrize(
    ("offer", "envelope", "left", "said"),
    [
        ("DELIVERBY", {"by_mode": "R"}, 100, b" BY=100;R"),
        ("DELIVERBY 60", {"by_mode": "R", "by_trace": True}, 60, b" BY=60;RT"),
        ("DELIVERBY 60,x", {"by_mode": "N"}, -5, b" BY=-5;N"),
        ("X", {"by_mode": "N"}, 100, b""),
    ],
)
def test_a_time_is_passed_on_with_what_is_left_of_it(offer: str, envelope: dict, left: int, said: bytes) -> None:
    with Peer(offer=(*OFFER, offer)) as peer:
        report = send(plain(peer), replace(request(**envelope, deliver_by=1.0), by_seconds=left))

        assert letters(report) == "D"
        assert report.by == (offer != "X")
    assert mail_of(peer) == b"SIZE=%d" % len(CONTENT) + said


@pytest.mark.parametrize(
    ("offer", "notify", "left", "said"),
    [
        ("X", (), 100, b"NOTIFY=FAILURE,DELAY"),
        ("X", ("SUCCESS",), 100, b"NOTIFY=SUCCESS,DELAY"),
        ("X", ("NEVER",), 100, b"NOTIFY=NEVER"),
        ("X", (), -1, b""),
        ("DELIVERBY", (), 100, b""),
    ],
)
def test_who_does_not_watch_the_time_of_a_message_is_asked_for_notices_of_its_delay(
    offer: str, notify: tuple[str, ...], left: int, said: bytes
) -> None:
    """RFC 2852 §4.1.4.2: where it is not late yet."""
    timed = request(by_mode="N", deliver_by=1.0)
    recipients = tuple(replace(one, notify=notify) for one in timed.recipients)
    with Peer(offer=(*OFFER, "DSN", offer)) as peer:
        assert letters(send(plain(peer), replace(timed, recipients=recipients, by_seconds=left))) == "D"

    [command] = [line for line in peer.sessions[0].commands if line.startswith(b"RCPT")]
    assert command.partition(b"> ")[2] == said


@pytest.mark.parametrize(
    ("offer", "left", "words"),
    [
        ("X", 100, "554 5.4.7 Next hop does not offer DELIVERBY, so nobody would return the message when it is late"),
        (
            "DELIVERBY 60",
            59,
            "554 5.4.7 Next hop wants 60 seconds for a delivery by a time, and the message has 59 left",
        ),
        ("DELIVERBY", 0, "554 5.4.7 The time in which the message was to be delivered is over"),
    ],
)
def test_what_is_to_be_returned_in_time_goes_to_no_next_hop_that_does_not_keep_it(
    offer: str, left: int, words: str
) -> None:
    """RFC 2852 §4.1.4.1; another candidate of the route may."""
    with Peer(offer=(*OFFER, offer)) as peer:
        report = send(plain(peer), replace(request(by_mode="R", deliver_by=1.0), by_seconds=left))

    [outcome] = report.outcomes.values()
    assert outcome == Failed(outcome.reply, elsewhere=True)
    assert str(outcome.reply) == words
    assert peer.sessions[0].verbs == [b"EHLO", b"QUIT"]


@pytest.mark.parametrize("loop", LOOPS)
def test_mail_that_requires_tls_goes_over_verified_tls_to_who_promises_the_same(loop: str, tmp_path: Path) -> None:
    with Peer(offer=(*OFFER, "REQUIRETLS"), tls=server_tls("mx.example")) as peer:
        transport = strict(peer, tmp_path, starttls="off")
        reports = send(transport, request(requiretls=True), request(requiretls=True), loop=loop)

    assert [letters(report) for report in reports] == ["D", "D"]
    assert reports[0].tls is not None
    assert len(peer.sessions) == 1
    assert peer.sessions[0].commands[3] == b"MAIL FROM:<me@client.example> SIZE=%d REQUIRETLS" % len(CONTENT)


@pytest.mark.parametrize(
    ("offer", "names", "ca", "words"),
    [
        ("X", ("mx.example",), None, "the next hop does not offer REQUIRETLS"),
        ("REQUIRETLS", ("other.example",), None, "certificate verify failed"),
        ("REQUIRETLS", ("mx.example",), trustme.CA(), "certificate verify failed"),
        ("REQUIRETLS", (), None, "the peer does not offer STARTTLS"),
    ],
)
@pytest.mark.parametrize("loop", LOOPS)
def test_mail_that_requires_tls_fails_where_something_of_it_is_missing(
    offer: str, names: tuple[str, ...], ca: trustme.CA | None, words: str, loop: str, tmp_path: Path
) -> None:
    with Peer(offer=(*OFFER, offer), tls=server_tls(*names, ca=ca) if names else None) as peer:
        report = send(strict(peer, tmp_path), request(requiretls=True), loop=loop)

    [outcome] = report.outcomes.values()
    assert outcome == Failed(outcome.reply, elsewhere=True)
    assert str(outcome.reply.status) == "5.7.30"
    assert words in outcome.reply.text
    assert not any(b"MAIL" in seen.verbs for seen in peer.sessions)


def test_mail_that_requires_tls_is_not_even_brought_to_a_host_dnssec_does_not_vouch_for(tmp_path: Path) -> None:
    with Peer(offer=(*OFFER, "REQUIRETLS"), tls=server_tls("mx.example")) as peer:
        report = send(strict(peer, tmp_path, secure=False), request(requiretls=True))

    [outcome] = report.outcomes.values()
    assert str(outcome.reply).startswith("550 5.7.30 Message requires TLS, and DNSSEC does not protect the MX hosts")
    assert peer.sessions == []


def test_mail_that_requires_tls_passes_a_host_that_does_not_promise_it_for_one_that_does(tmp_path: Path) -> None:
    with Peer(offer=OFFER, tls=server_tls("mx.example")) as first:
        listener = socket.create_server(("127.0.0.2", first.port))
        with Peer(offer=(*OFFER, "REQUIRETLS"), tls=server_tls("mx.example"), listener=listener) as second:
            report = send(strict(first, tmp_path, "127.0.0.1", "127.0.0.2"), request(requiretls=True))

    assert letters(report) == "D"
    assert (len(first.messages), len(second.messages)) == (0, 1)


def test_mail_that_requires_tls_waits_for_a_host_that_cannot_be_reached(tmp_path: Path) -> None:
    with Peer({"banner": "4xx"}, offer=(*OFFER, "REQUIRETLS"), tls=server_tls("mx.example")) as peer:
        report = send(strict(peer, tmp_path), request(requiretls=True))

    assert letters(report) == "h"


@pytest.mark.parametrize("promised", [True, False])
def test_a_notice_that_nobody_promises_tls_for_goes_without_rather_than_being_lost(
    promised: bool, tmp_path: Path
) -> None:
    """RFC 8689 §5: of messages without a return path alone."""
    offer = (*OFFER, "REQUIRETLS") if promised else OFFER
    notice = request(sender=None, requiretls=True)
    with Peer(offer=offer, tls=server_tls("mx.example")) as peer:
        assert letters(send(strict(peer, tmp_path), notice)) == "D"
    [command] = [line for seen in peer.sessions for line in seen.commands if line.startswith(b"MAIL")]
    assert (b" REQUIRETLS" in command) is promised

    with Peer(offer=offer, tls=server_tls()) as peer:
        assert letters(send(smarthost_at(peer.port, folder=tmp_path, ca=authority()), notice)) == "S"
    assert unkept_by_api(notice) is None


@pytest.mark.parametrize(("settings", "outcome"), [({}, "S"), ({"verify": False}, "F"), ({"tls": "none"}, "F")])
def test_a_smarthost_gets_mail_that_requires_tls_where_its_certificate_is_checked(
    settings: dict, outcome: str, tmp_path: Path
) -> None:
    with Peer(offer=(*OFFER, "REQUIRETLS"), tls=server_tls()) as peer:
        transport = smarthost_at(peer.port, folder=tmp_path, ca=authority(), **settings)
        report = send(transport, request(requiretls=True))

        assert letters(report) == outcome
    assert len(peer.messages) == (outcome == "S")


def test_an_http_provider_promises_neither_tls_nor_a_time() -> None:
    assert unkept_by_api(request()) is None
    assert str(unkept_by_api(request(requiretls=True)).status) == "5.7.30"
    assert str(unkept_by_api(replace(request(by_mode="R", deliver_by=1.0), by_seconds=100)).status) == "5.4.7"
    assert unkept_by_api(replace(request(by_mode="N", deliver_by=1.0), by_seconds=100)) is None


def flow(peer: Peer) -> list[str]:
    """Verbs by session, a letter each; R is a RCPT, M a MAIL, D a DATA."""
    letter = {b"MAIL": "M", b"RCPT": "R", b"DATA": "D"}
    return ["".join(letter.get(verb, "") for verb in seen.verbs) for seen in peer.sessions]


@pytest.mark.parametrize(
    ("limits", "sessions"),
    [
        ("LIMITS RCPTMAX=2", ["MRRDMRRDMRD"]),
        ("LIMITS MAILMAX=1 RCPTMAX=2", ["MRRD", "MRRD", "MRD"]),
        ("limits rcptmax=3 mailmax=2", ["MRRRDMRRD"]),
        ("LIMITS RCPTMAX=0 MAILMAX=-1 RCPTMAX=x UNKNOWN=1 MAILMAX", ["MRRRRRD"]),
        ("X RCPTMAX=2", ["MRRRRRD"]),
    ],
)
def test_a_peer_gets_no_more_recipients_and_messages_than_it_says(limits: str, sessions: list[str]) -> None:
    with Peer(offer=(*OFFER, limits)) as peer:
        report = send(plain(peer), request(*(f"{name}@mx.example" for name in "abcde")))

        assert letters(report) == "DDDDD"
    assert flow(peer) == sessions


def test_a_connection_is_kept_for_no_more_messages_than_its_peer_takes() -> None:
    with Peer(offer=(*OFFER, "LIMITS MAILMAX=2")) as peer:
        reports = send(plain(peer), *[request()] * 5)

        assert [letters(report) for report in reports] == ["D"] * 5
    assert flow(peer) == ["MRDMRD", "MRDMRD", "MRD"]


def test_a_peer_that_takes_few_domains_a_session_gets_the_others_over_another() -> None:
    with Peer(offer=(*OFFER, "LIMITS RCPTDOMAINMAX=1")) as peer:
        transport = plain(peer, mx_override=f"127.0.0.1:{peer.port}")
        reports = send(transport, request("a@x.example", "b@y.example", "c@X.example"), request("d@y.example"))

        assert [letters(report) for report in reports] == ["DDD", "D"]
    assert flow(peer) == ["MRRD", "MRD", "MRD"] or flow(peer) == ["MRRD", "MRDMRD"]


def test_a_peer_that_takes_fewer_than_it_says_is_believed() -> None:
    """452 after the first of three, and one transaction a session: each of the others gets a session of its own."""
    with Peer(offer=(*OFFER, "LIMITS MAILMAX=1 RCPTMAX=3"), limit=1) as peer:
        report = send(plain(peer), request(*(f"{name}@mx.example" for name in "abc")))

        assert letters(report) == "DDD"
    assert flow(peer) == ["MRRRD", "MRRD", "MRD"]
