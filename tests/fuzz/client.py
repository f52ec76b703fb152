"""A client that knows how it is done: octets choose commands, and each is right but for what the octets twist in it.

So inputs get behind the greeting: a login by any mechanism with the proof that belongs to it, a message by BDAT with
the count that belongs to it. A command is an octet that chooses it and those its maker takes; the two high bits say
whether it waits to be sent with the next one, and whether an octet of it is changed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterator
from functools import lru_cache

from doors import END_POINT, ITERATIONS, PASSWORD, USERS
from harness import Octets

from relay.smtpd.xclient import ATTRIBUTES

_NAMES = (*USERS, "nobody", "busy", "broken", "al=2Cce", "ÿé", "", "alice,alice", "a" * 300)
_ADDRESSES = (
    "ann@ours.example", "app@acme.example", "boss@other.example", "postmaster", "", "a@b.example",
    '"a b"@ours.example', "ä@bücher.example", "x@[192.0.2.1]", "x@[IPv6:::1]", "a%b@ours.example",
    "@one.example,@two.example:ann@ours.example", "r-0-0-0@ours.example", "a" * 64 + "@ours.example", "a@b..c",
)  # fmt: skip
_MAIL = (
    "SIZE=1", "SIZE=4096", "SIZE=99999999999999999999", "BODY=8BITMIME", "BODY=BINARYMIME", "BODY=7BIT", "SMTPUTF8",
    "RET=FULL", "RET=HDRS", "ENVID=a+2Bb", "ENVID=+ZZ", "AUTH=<>", "AUTH=app@acme.example", "AUTH=a+40b",
    "HOLDFOR=60", "HOLDFOR=999999999", "HOLDUNTIL=2027-01-15T09:00:00Z", "HOLDUNTIL=0001-01-01T00:00:00+14:00",
    "HOLDUNTIL=9999-12-31T23:59:59-14:00", "MT-PRIORITY=4", "MT-PRIORITY=-9", "MT-PRIORITY=10", "BY=120;R", "BY=-5;N",
    "BY=0;RT", "BY=+999999999;NT", "REQUIRETLS", "REQUIRETLS=1", "NOTIFY=NEVER", "X-UNKNOWN=1", "=", "SIZE=",
)  # fmt: skip
_RCPT = (
    "NOTIFY=NEVER", "NOTIFY=SUCCESS,FAILURE,DELAY", "NOTIFY=NEVER,DELAY", "NOTIFY=", "ORCPT=rfc822;a+40b",
    "ORCPT=utf-8;\\x{FC}", "ORCPT=utf-8;ü", "ORCPT=;", "ORCPT=rfc822", "SIZE=1",
)  # fmt: skip
_XCLIENT = (
    "192.0.2.99", "[UNAVAILABLE]", "[TEMPUNAVAIL]", "IPV6:2001:db8::1", "IPV6:::ffff:192.0.2.1", "fe80::1%eth0", "25",
    "65536", "ESMTP", "SMTP", "spike.example", "alice", "nobody", "+41", "+0D+0A", "x" * 255,
)  # fmt: skip
_HELLOS = (
    b"client.example", b"[192.0.2.1]", b"[IPv6:::1]", b"", b"-", b"a b", b"(x", b"\xff\xfe", b"x" * 300, b"scanner_1"
)  # fmt: skip
_MESSAGES = (
    b"Subject: hi\r\n\r\nhello\r\n", b"", b"\r\n", b"no header", b".\r\n..\r\n", b"From: app@acme.example\r\n\r\nx",
    b"Message-ID: <1@x>\r\nFrom: boss@other.example\r\nTo: a@b.example\r\nBcc: c@d.example\r\n\r\nhi\r\n",
    b"X-SMTPAPI: {\"category\":[\"a\"],\"send_at\":1}\r\nMessage-ID: <2@x>\r\n\r\nhi\r\n",
    b"X-Relay-Retry: otp\r\nX-Relay-Expire: 60\r\nX-Relay-Send-At: 2027-01-15 09:00:00\r\n\r\n\r\n",
    b"MT-Priority: 3\r\nDate: x\r\n\r\nbare\nlf\rcr\r\n", b"\xff\xfe\r\n\r\n\xff", b"nul\0",
    b"Received: x\r\n" * 60 + b"\r\n",
    b"X: " + b"y" * 1100 + b"\r\n\r\n",
)  # fmt: skip

Maker = Callable[[Octets, bytes], bytes]
_LINES = (b"RSET", b"NOOP", b"VRFY ann", b"EXPN list", b"HELP", b"*", b"=", b"", b"QUIT", b"STARTTLS", b"STARTTLS x")


def _words(words: tuple[str, ...], chosen: Octets) -> bytes:
    return "".join(f" {chosen.one(words)}" for _ in range(chosen.number(4))).encode()


def _b64(value: bytes | str) -> bytes:
    return base64.b64encode(value.encode() if isinstance(value, str) else value)


def _hello(chosen: Octets, heard: bytes) -> bytes:
    return chosen.one((b"EHLO ", b"EHLO ", b"HELO ")) + chosen.one(_HELLOS) + b"\r\n"


def _line(chosen: Octets, heard: bytes) -> bytes:
    return chosen.one(_LINES) + b"\r\n"


def _raw(chosen: Octets, heard: bytes) -> bytes:
    return chosen.take(chosen.number()) + chosen.one((b"\r\n", b"\n", b"", b"\r"))


def _mail(chosen: Octets, heard: bytes) -> bytes:
    start, end = chosen.one(
        ((b"MAIL FROM:<", b">"), (b"MAIL FROM: <", b">"), (b"MAIL FROM:", b""), (b"mail from:<", b">"))
    )
    return start + chosen.one(_ADDRESSES).encode() + end + _words(_MAIL, chosen) + b"\r\n"


def _rcpt(chosen: Octets, heard: bytes) -> bytes:
    start, end = chosen.one(((b"RCPT TO:<", b">"), (b"RCPT TO:<", b">"), (b"RCPT TO: ", b"")))
    return start + chosen.one(_ADDRESSES).encode() + end + _words(_RCPT, chosen) + b"\r\n"


def _content(chosen: Octets) -> bytes:
    times = chosen.number(8)
    content = chosen.one(_MESSAGES) + chosen.take(chosen.number(64))
    return content * (1 << times) if times > 4 else content


def _data(chosen: Octets, heard: bytes) -> bytes:
    content = _content(chosen)
    if chosen.number(2):
        content = content.replace(b"\r\n.", b"\r\n..")
    return b"DATA\r\n" + content + chosen.one((b"\r\n.\r\n", b"\r\n.\r\n", b"\n.\n", b"\n.\r\n"))


def _bdat(chosen: Octets, heard: bytes) -> bytes:
    content = _content(chosen)
    count = len(content) + chosen.one((0, 0, 0, 0, 1, -1, 5000, 10**19))
    return b"BDAT %d%s\r\n" % (count, chosen.one((b"", b" LAST", b" last", b" LAST x"))) + content


def _xclient(chosen: Octets, heard: bytes) -> bytes:
    names = (*ATTRIBUTES, "LOGIN", "OTHER")
    pairs = (f" {chosen.one(names)}={chosen.one(_XCLIENT)}" for _ in range(chosen.number(5)))
    return f"XCLIENT{''.join(pairs)}\r\n".encode()


def _once(mechanism: bytes, response: bytes | str, chosen: Octets) -> bytes:
    """With the response in the command, or after the challenge."""
    between = chosen.one((b" ", b" ", b"\r\n"))
    return b"AUTH " + mechanism + between + _b64(response) + b"\r\n"


def _plain(chosen: Octets, heard: bytes) -> bytes:
    name, other = chosen.one(_NAMES), chosen.one(("", "", "alice", "\0"))
    return _once(b"PLAIN", f"{other}\0{name}\0{chosen.one((PASSWORD, PASSWORD, '', 'ü'))}", chosen)


def _login(chosen: Octets, heard: bytes) -> bytes:
    name = _b64(chosen.one(_NAMES))
    return b"AUTH LOGIN\r\n" + name + b"\r\n" + _b64(chosen.one((PASSWORD, "x", ""))) + b"\r\n"


def _xoauth2(chosen: Octets, heard: bytes) -> bytes:
    name, token = chosen.one(_NAMES), chosen.one(("of.alice", "of.app", "later", "x" * 5000, ""))
    return _once(b"XOAUTH2", f"user={name}\x01auth=Bearer {token}\x01\x01", chosen) + chosen.one((b"", b"\r\n"))


def _oauthbearer(chosen: Octets, heard: bytes) -> bytes:
    name, token = chosen.one(_NAMES), chosen.one(("of.alice", "of.app", "later", ""))
    header = chosen.one((f"n,a={name},", "n,,", f"y,a={name},", "p=tls-unique,,", "n,"))
    pairs = chosen.one(("host=x\x01", "", "port=1\x01a=\x01", "auth=\x01"))
    said = _once(b"OAUTHBEARER", f"{header}\x01{pairs}auth=Bearer {token}\x01\x01", chosen)
    return said + chosen.one((b"", b"AQ==\r\n"))


def _external(chosen: Octets, heard: bytes) -> bytes:
    return _once(b"EXTERNAL", chosen.one(("", "alice", "app", "\xff")), chosen)


def _scram(chosen: Octets, heard: bytes) -> bytes:
    """The first message, and, where the server has answered one, what belongs after it."""
    name, plus = chosen.one(_NAMES), chosen.number(2)
    header = "p=tls-server-end-point,," if plus else chosen.one(("n,,", "y,,", "n,a=alice,", "p=tls-unique,,"))
    more = chosen.one(("", "", ",x=1", ",m=1"))
    bare = f"n={name},r=nonce{more}"
    mechanism = b"SCRAM-SHA-256-PLUS" if plus else b"SCRAM-SHA-256"
    return _once(mechanism, header + bare, chosen)


def _scram_final(chosen: Octets, heard: bytes) -> bytes:
    """What answers the challenge last heard, as the user chosen before would."""
    challenge = _challenge(heard)
    name, plus = chosen.one(_NAMES), chosen.number(2)
    header = ("p=tls-server-end-point,," if plus else chosen.one(("n,,", "y,,", "n,a=alice,"))).encode()
    bare = f"n={name},r=nonce{chosen.one(('', '', ',x=1'))}".encode()
    fields = dict(pair.partition(b"=")[::2] for pair in challenge.split(b","))
    binding = _b64(header + (END_POINT if plus else b""))
    without_proof = b"c=" + binding + b",r=" + fields.get(b"r", b"")
    proof = _proof(fields.get(b"s", b""), bare + b"," + challenge + b"," + without_proof)
    return _b64(without_proof + b",p=" + _b64(proof)) + b"\r\n" + chosen.one((b"\r\n", b"=\r\n", b"AA==\r\n", b""))


def _challenge(heard: bytes) -> bytes:
    line = heard.rpartition(b"334 ")[2].strip()
    try:
        return base64.b64decode(line, validate=True)
    except ValueError:
        return b""


@lru_cache(maxsize=64)
def _keys(salt: bytes) -> tuple[bytes, bytes]:
    try:
        decoded = base64.b64decode(salt, validate=True)
    except ValueError:
        decoded = b""
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), decoded, ITERATIONS)
    client = hmac.digest(salted, b"Client Key", "sha256")
    return client, hashlib.sha256(client).digest()


def _proof(salt: bytes, message: bytes) -> bytes:
    client, stored = _keys(salt)
    signature = hmac.digest(stored, message, "sha256")
    return bytes(one ^ other for one, other in zip(client, signature, strict=True))


MAKERS: tuple[Maker, ...] = (
    _hello, _hello, _line, _raw, _mail, _mail, _rcpt, _rcpt, _data, _data, _bdat, _bdat, _xclient, _plain, _login,
    _xoauth2, _oauthbearer, _external, _scram, _scram_final,
)  # fmt: skip
_LATER, _TWISTED = 0x40, 0x80
HELLO, MAIL, RCPT, DATA, BDAT, PLAIN = 0, 4, 6, 8, 10, 13


class Client:
    """Says what the octets want, a piece at a time; `heard` is what the server said to the last."""

    def __init__(self, octets: bytes) -> None:
        self._chosen = Octets(octets)
        self.heard = b""

    def pieces(self) -> Iterator[bytes]:
        kept = b""
        while self._chosen:
            how = self._chosen.number()
            said = MAKERS[(how & 0x3F) % len(MAKERS)](self._chosen, self.heard)
            if how & _TWISTED:
                said = self._twisted(said)
            kept += said
            if not how & _LATER:
                yield kept
                kept = b""
        if kept:
            yield kept

    def _twisted(self, said: bytes) -> bytes:
        at, value, kind = self._chosen.number(), self._chosen.number(), self._chosen.number(3)
        at = at * len(said) // 256
        return said[:at] + bytes((value,) * (kind > 0)) + said[at + (kind != 1) :]


def examples() -> Iterator[bytes]:
    """Sessions that send a message, each in another way."""
    mail = bytes((MAIL, 0, 1, 0, RCPT, 0, 0, 0))
    yield bytes((HELLO, 0, 0)) + mail + bytes((DATA, 0, 0, 0, 0))
    yield bytes((HELLO, 0, 0)) + mail + bytes((BDAT, 0, 0, 0, 0, 0, BDAT, 0, 0, 0, 0, 1))
    for login in (
        (PLAIN, 0, 0, 0, 0), (14, 0, 0), (15, 1, 0, 0, 0), (16, 1, 0, 0, 0, 0, 0), (17, 0, 0), (18, 1, 0, 0, 0, 0,
        19, 1, 0, 0, 0, 0),
        (18, 1, 1, 0, 0, 19, 1, 1, 0, 0),
    ):  # fmt: skip
        yield bytes((HELLO, 0, 0, *login)) + mail + bytes((DATA, 6, 0, 0, 0))
    yield bytes((12, 2, 1, 0, 8, 11, HELLO, 0, 0)) + mail + bytes((BDAT, 0, 1, 0, 0, 1))
    yield bytes(
        (HELLO | _LATER, 0, 0, MAIL | _LATER, 0, 1, 1, 4, RCPT | _TWISTED, 0, 0, 0, 9, 9, 1, BDAT, 0, 12, 0, 0, 1)
    )
