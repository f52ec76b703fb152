"""The same attacks over two hops: what the first takes and sends on, and what a next hop can do to it."""

from __future__ import annotations

import base64
import contextlib
import re
from pathlib import Path

import pytest
from attacks import CA, FALSE_ENDS, HEAD, SMUGGLED, over_two_hops, says
from front_door import FrontDoor
from smtp_peer import Peer
from smtp_setting import letters, mx_to, request, send, server_tls, smarthost_at

from relay.mail.envelope import Recipient

LOGIN = b"EHLO client.example\r\nAUTH PLAIN " + base64.b64encode(b"\0alice\0secret") + b"\r\n"
BODY = b"From: a@b.example\r\nSubject: one\r\n\r\none"


@pytest.mark.parametrize("tolerate", [(), ("bare_lf", "undeclared_8bit")], ids=["strict", "tolerant"])
def test_2_1_smuggling_reaches_no_second_hop(tmp_path: Path, tolerate: tuple[str, ...]) -> None:
    """One message each comes out behind, also where bare line ends are mended on the way in."""

    def client(door: FrontDoor) -> None:
        for end in FALSE_ENDS.values():
            says(LOGIN + HEAD + b"DATA\r\n" + BODY + end + SMUGGLED + b"QUIT\r\n")(door)

    first, second = over_two_hops(tmp_path, client, plaintext_auth=True, tolerate=tolerate)

    # NUL is refused everywhere; all else is made lines for a device that needs it.
    assert len(first.stored) == (sum(b"\0" not in end for end in FALSE_ENDS.values()) if tolerate else 1)
    assert len(second.stored) == len(first.stored)
    for taken, message in zip(first.stored, second.stored, strict=True):
        assert [recipient.address for recipient in message.envelope.recipients] == ["bob@ours.example"]
        assert (message.content or b"").endswith((taken.content or b"")[-200:])
        assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\0", message.content or b"")
    # The second mends them too, and found nothing to mend: no bare line end was on the wire between the two.
    assert ("test", "bare_lf") not in second.observer.tolerated_things


@pytest.mark.parametrize("injected", [b"250-mx.example\r\n250 AUTH PLAIN\r\n", b"250 Ok\r\n"])
def test_2_2_what_a_next_hop_says_before_tls_is_not_believed_inside_it(injected: bytes) -> None:
    with Peer({"starttls": b"220 Go\r\n" + injected}, tls=server_tls()) as peer:
        assert letters(send(mx_to(peer.port))) == "h"
        assert b"MAIL" not in peer.sessions[0].verbs


@pytest.mark.parametrize("faults", [{}, {"starttls": b"454 4.7.0 Not now\r\n"}], ids=["stripped", "454"])
def test_2_3_what_needs_tls_is_never_sent_in_clear(faults: dict[str, str | bytes]) -> None:
    with Peer(faults, tls=server_tls() if faults else None) as peer:
        assert letters(send(mx_to(peer.port, starttls="require"))) == "h"
        assert b"MAIL" not in peer.sessions[0].verbs


def test_2_3_a_certificate_of_another_name_gets_no_password(tmp_path: Path) -> None:
    with Peer(tls=server_tls("elsewhere.example", ca=CA), auth="PLAIN", password=b"x") as peer:
        smarthost = smarthost_at(peer.port, folder=tmp_path, ca=CA, username="me", tls="starttls")
        assert letters(send(smarthost)) in ("h", "r")
        assert all(b"AUTH" not in seen.verbs for seen in peer.sessions)


@pytest.mark.parametrize("tls", [False, True])
def test_2_3_requiretls_is_not_downgraded(tls: bool) -> None:
    """Not offered, and offered without the extension."""
    with Peer(tls=server_tls() if tls else None) as peer:
        report = send(mx_to(peer.port), request(requiretls=True))
        assert letters(report) in ("F", "h", "d")
        assert all(b"MAIL" not in seen.verbs for seen in peer.sessions)


@pytest.mark.parametrize(
    "address",
    ["a;reboot@ours.example", "a`id`@ours.example", "a$(id)@ours.example", "|cat@ours.example", "'a'@ours.example"],
)
def test_2_26_an_address_is_never_a_command(tmp_path: Path, address: str) -> None:
    """CVE-2020-7247, CVE-2019-10149: shell signs are letters of a name here, unchanged on both hops or refused."""
    words = LOGIN + b"MAIL FROM:<a@b.example>\r\nRCPT TO:<" + address.encode() + b">\r\nDATA\r\n" + BODY + b"\r\n.\r\n"

    first, second = over_two_hops(tmp_path, says(words), plaintext_auth=True)

    assert [one.address for message in first.stored for one in message.envelope.recipients] in ([], [address])
    for message in second.stored:
        assert message.envelope.recipients[0].address == address


@pytest.mark.parametrize(
    "recipient",
    [
        Recipient("ann@mx.example", orcpt="rfc822;a\r\nRCPT TO:<victim@x.example>"),
        Recipient("ann@mx.example\r\nRCPT TO:<victim@x.example>"),
        Recipient('"a\r\nDATA"@mx.example'),
    ],
)
def test_2_6_no_line_end_enters_a_command(recipient: Recipient) -> None:
    """CVE-2026-23829 and its kin, from wherever the recipient came."""
    with Peer() as peer:
        with contextlib.suppress(ValueError):
            send(mx_to(peer.port), request(recipient))
        commands = [command for seen in peer.sessions for command in seen.commands]
    assert not any(command.startswith((b"RCPT TO:<victim", b'DATA"')) for command in commands)
