"""What the SMTP client says, and what it makes of odd answers, against a scripted next hop."""

from __future__ import annotations

import pytest
from smtp_peer import OFFER, Peer
from smtp_setting import CONTENT, LOOPS, letters, mx_to, request, send, timeouts_at

from relay.mail.envelope import Recipient
from relay.mail.outcome import Deferred

UNFINISHED = b"354-Go\r\n"


def plain(peer: Peer, **settings):
    return mx_to(peer.port, starttls="off", **settings)


@pytest.mark.parametrize("loop", LOOPS)
def test_one_flight_carries_the_whole_envelope(loop: str) -> None:
    """With PIPELINING the peer gets MAIL, RCPT and DATA before it has answered, and the bytes as they are."""
    with Peer() as peer:
        report = send(plain(peer), loop=loop)

        assert letters(report) == "D"
    assert peer.messages == [CONTENT]
    assert report.host == f"mx.example[127.0.0.1]:{peer.port}"
    assert str(report.outcomes["ann@mx.example"].reply) == "250 2.0.0 Ok: queued as 4XyZ"
    assert peer.sessions[0].commands == [
        b"EHLO client.example",
        b"MAIL FROM:<me@client.example> SIZE=%d" % len(CONTENT),
        b"RCPT TO:<ann@mx.example>",
        b"DATA",
        b"QUIT",
    ]


def test_without_pipelining_a_refused_mail_ends_the_dialogue() -> None:
    """A peer without PIPELINING is not asked for recipients once it has refused the sender."""
    with Peer({"mail": "5xx"}, offer=()) as peer:
        send(plain(peer))

    assert peer.sessions[0].verbs == [b"EHLO", b"MAIL", b"QUIT"]


def test_a_peer_without_ehlo_is_greeted_with_helo() -> None:
    """A server older than EHLO still gets the mail, without any extension."""
    with Peer({"ehlo": "5xx"}) as peer:
        report = send(plain(peer))

        assert letters(report) == "D"
    assert peer.sessions[0].commands[1:3] == [b"HELO client.example", b"MAIL FROM:<me@client.example>"]


def test_null_sender() -> None:
    """The null reverse-path goes out as `<>`."""
    with Peer() as peer:
        send(plain(peer), request("ann@mx.example", sender=None))

    assert peer.sessions[0].commands[1].startswith(b"MAIL FROM:<> ")


def test_parameters_follow_the_offer() -> None:
    """BODY, RET, ENVID, NOTIFY and ORCPT are said to a peer that offers them, and only to it."""
    to = Recipient("ann@mx.example", notify=("SUCCESS", "DELAY"), orcpt="rfc822;ann+2Bx@mx.example")
    wanted = request(to, ret="HDRS", envid="QQ314159")
    content = "Subject: ü\r\n\r\n".encode()
    with Peer() as peer, Peer(offer=()) as bare:
        send(plain(peer), wanted, content=content)
        send(plain(bare), wanted, content=content)

    assert peer.sessions[0].commands[1:3] == [
        b"MAIL FROM:<me@client.example> SIZE=%d BODY=8BITMIME RET=HDRS ENVID=QQ314159" % len(content),
        b"RCPT TO:<ann@mx.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;ann+2Bx@mx.example",
    ]
    assert bare.sessions[0].commands[1:3] == [b"MAIL FROM:<me@client.example>", b"RCPT TO:<ann@mx.example>"]
    assert bare.messages == [content]


def test_utf8_local_part_goes_under_smtputf8() -> None:
    """An address with a UTF-8 local part is sent as stored, under SMTPUTF8."""
    with Peer() as peer:
        report = send(plain(peer), request("jürgen@bücher.example", "ann@mx.example"))

        assert letters(report) == "DD"
    assert b"SMTPUTF8" in peer.sessions[0].commands[1]
    assert peer.sessions[0].commands[2] == "RCPT TO:<jürgen@bücher.example>".encode()


def test_utf8_local_part_fails_alone_where_smtputf8_is_missing() -> None:
    """Without SMTPUTF8 only the recipient that needs it fails; a U-label domain goes out as A-label."""
    with Peer(offer=("PIPELINING",)) as peer:
        report = send(plain(peer), request("ann@bücher.example", "jürgen@bücher.example"))

        assert letters(report) == "DF"
    assert str(report.outcomes["jürgen@bücher.example"].reply).startswith("550 5.6.7 ")
    assert peer.sessions[0].commands[1:4] == [
        b"MAIL FROM:<me@client.example>",
        b"RCPT TO:<ann@xn--bcher-kva.example>",
        b"DATA",
    ]


@pytest.mark.parametrize(
    ("sender", "content", "smtputf8"),
    [("jürgen@client.example", CONTENT, True), ("me@client.example", "Subject: ü\r\n\r\n".encode(), True)],
)
def test_message_that_needs_smtputf8_is_not_mangled(sender: str, content: bytes, smtputf8: bool) -> None:
    """A UTF-8 sender or header fails with 5.6.7 at a peer without SMTPUTF8, and nothing is said to it."""
    with Peer(offer=("PIPELINING",)) as peer:
        report = send(plain(peer), request(sender=sender, smtputf8=smtputf8), content=content)

        assert letters(report) == "F"
    assert peer.sessions[0].verbs == [b"EHLO", b"QUIT"]


def test_declared_smtputf8_that_is_not_needed_is_dropped() -> None:
    """An ASCII message goes to a peer without SMTPUTF8 although its client had declared it."""
    with Peer(offer=("PIPELINING",)) as peer:
        assert letters(send(plain(peer), request(smtputf8=True))) == "D"


def test_message_beyond_the_peers_size_is_not_sent() -> None:
    """A message larger than the SIZE offered fails here, with 5.3.4."""
    with Peer(offer=("SIZE 10",)) as peer:
        report = send(plain(peer))

        assert str(report.outcomes["ann@mx.example"].reply).startswith("552 5.3.4 ")
    assert peer.sessions[0].verbs == [b"EHLO", b"QUIT"]


def test_lone_dot_when_nobody_is_left() -> None:
    """Every RCPT refused but DATA accepted: an empty message ends the wait (RFC 2920), and RSET precedes the next."""
    with Peer(victim=b"bob") as peer:
        peer.faults = {"rcpt": "5xx"}
        reports = send(plain(peer), request("bob@mx.example"), request("ann@mx.example"))

        assert [letters(report) for report in reports] == ["F", "D"]
    assert peer.messages == [b"", CONTENT]
    assert peer.sessions[0].verbs == [b"EHLO", b"MAIL", b"RCPT", b"DATA", b"RSET", b"MAIL", b"RCPT", b"DATA", b"QUIT"]


@pytest.mark.parametrize("offer", [OFFER, OFFER[1:]], ids=["pipelined", "stepwise"])
def test_too_many_recipients_go_in_further_transactions(offer: tuple[str, ...]) -> None:
    """452 after some RCPTs were accepted: the rest follows at once on the same connection (RFC 5321 §4.5.3.1.10)."""
    with Peer(limit=2, offer=offer) as peer:
        report = send(plain(peer), request(*(f"r{n}@mx.example" for n in range(5))))

        assert letters(report) == "DDDDD"
    assert peer.messages == [CONTENT] * 3
    assert len(peer.sessions) == 1


def test_a_hundred_recipients_a_transaction() -> None:
    """Longer lists are split, so that no peer is asked for more than it must take."""
    with Peer() as peer:
        report = send(plain(peer), request(*(f"r{n}@mx.example" for n in range(150))))

        assert letters(report) == "D" * 150
    assert peer.messages == [CONTENT] * 2


def test_overflow_is_not_repeated_when_the_message_is_refused() -> None:
    """Recipients beyond the peer's limit wait for the next attempt when the message itself was refused."""
    with Peer({"dot": "4xx"}, limit=1) as peer:
        report = send(plain(peer), request("ann@mx.example", "cid@mx.example"))

        assert letters(report) == "dd"
    assert len(peer.messages) == 1
    assert report.outcomes["cid@mx.example"].retry_after == 0.0


@pytest.mark.parametrize(("reply", "wanted"), [(b"552 5.2.2 Full\r\n", "d"), (b"553 No such\r\n", "F")])
def test_552_to_rcpt_means_452(reply: bytes, wanted: str) -> None:
    """552 to RCPT is temporary (RFC 5321 §4.5.3.1.10); other 5xx replies are not."""
    with Peer({"rcpt": reply}) as peer:
        assert letters(send(plain(peer), request("bob@mx.example"))) == wanted


def test_the_peers_own_wish_is_heard() -> None:
    """ "Try again in 5 minutes" becomes retry_after."""
    with Peer({"rcpt": b"450 4.2.0 Greylisted, try again in 5 minutes\r\n"}) as peer:
        outcome = send(plain(peer), request("bob@mx.example")).outcomes["bob@mx.example"]

        assert isinstance(outcome, Deferred)
        assert outcome.retry_after == 300.0


@pytest.mark.parametrize(
    ("stage", "reply", "wanted"),
    [
        ("dot", b"250 Ok\r\n421 4.3.2 Bye\r\n", "D"),
        ("dot", b"250-Ok\r\n250 2.0.0 queued\r\n", "D"),
        ("dot", b"250-Ok\r\n550 No\r\n", "?"),
        ("dot", b"354 More\r\n", "?"),
        ("data", b"354 Go\r\n250 2.0.0 Queued\r\n", "d"),
        ("data", UNFINISHED, "d"),
        ("mail", b"354 Go\r\n", "d"),
        ("mail", b"250 Ok\r\n250 Ok\r\n250 Ok\r\n354 Go\r\n250 queued\r\n", "d"),
        ("banner", b"220 Hi\r\n250 Ok\r\n", "h"),
        ("banner", b"220 " + b"x" * 70_000 + b"\r\n", "h"),
        ("banner", b"220-x\r\n" * 20_000, "h"),
        ("banner", b"220-" + b"x" * 2000 + b"\r\n220 Hi\r\n", "D"),
        ("ehlo", b"250-mx\r\n" + b"250-X\r\n" * 20_000, "h"),
        ("banner", b"HTTP/1.1 400 Bad Request\r\n\r\n", "h"),
        ("banner", b"999 Hi\r\n", "h"),
        ("banner", b"220\r\n", "D"),
        ("banner", b"220 Hi\n", "D"),
    ],
)
def test_hostile_replies(stage: str, reply: bytes, wanted: str) -> None:
    """Glued, endless, contradictory and senseless replies end in an honest outcome and never in a false Delivered."""
    timeouts = timeouts_at(stage, "silence" if reply == UNFINISHED else reply)
    with Peer({stage: reply}) as peer:
        assert letters(send(plain(peer, timeouts=timeouts))) == wanted


@pytest.mark.parametrize("stage", ["banner", "ehlo", "mail", "rcpt", "data", "dot"])
def test_replies_octet_by_octet(stage: str) -> None:
    """A reply that arrives in single octets is the same reply."""
    with Peer({stage: "bytewise"}) as peer:
        assert letters(send(plain(peer), request("bob@mx.example"))) == "D"


@pytest.mark.parametrize(("stage", "wanted"), [("banner", "h"), ("mail", "d"), ("dot", "?")])
def test_dripping_does_not_buy_time(stage: str, wanted: str) -> None:
    """The deadline is for the whole reply: a peer that sends octet after octet is cut off just the same."""
    with Peer({stage: "drip"}) as peer:
        assert letters(send(plain(peer, timeouts=timeouts_at(stage, "drip")))) == wanted


def test_a_replys_text_is_made_harmless() -> None:
    """Control characters and escapes of a peer never reach an outcome."""
    with Peer({"dot": b"550 5.7.1 \x1b[31mNo\xe2\x80\xae\x00 <b>\r\n"}) as peer:
        reply = send(plain(peer)).outcomes["ann@mx.example"].reply

        assert str(reply) == "550 5.7.1 [31mNo  <b>"


@pytest.mark.parametrize("address", ["ann@mx.example\r\nDATA", "a\nb@mx.example", "a\0@mx.example"])
def test_no_line_break_enters_a_command(address: str) -> None:
    """An address that holds CR, LF or NUL raises before anything is said."""
    with Peer() as peer, pytest.raises(ValueError, match="CR, LF or NUL"):
        send(plain(peer), request(address))

    assert b"MAIL" not in peer.sessions[0].verbs
