"""Attacks by what a message says, by their number in SECURITY.md: signatures, authors, bombs, templates."""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
import time
import tomllib
from pathlib import Path

import dkim
import pytest
from attacks import CA, at_door, over_two_hops, says
from front_door import FrontDoor
from test_known_attacks_floods import within

from relay.checks.received_spf import received_spf
from relay.checks.spf import SpfChecker
from relay.mail.envelope import Envelope, Recipient
from relay.mail.errors import MessageSyntaxError
from relay.mail.mime import decode_words
from relay.mail.parts import take_apart
from relay.mail.session import Login, SenderRights, Session
from relay.ports import DnsAnswer, SpfResult, SystemClock
from relay.signing.dkim import DkimSigner
from relay.signing.keys import KeyStore
from relay.signing.records import dkim_value
from relay.signing.verify import key_names, verify

ROOT = Path(__file__).parents[2]
LETTER = (
    b"From: a@example.com\r\nTo: b@example.org\r\nSubject: Hello\r\nDate: Thu, 26 Nov 2026 08:00:00 +0000\r\n"
    b"Message-ID: <1@example.com>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nHi\r\n"
)
BODY = b"Subject: one\r\n\r\none\r\n.\r\n"


# --- 2.7 DKIM replay, 2.8 verifiers ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    store = KeyStore(tmp_path_factory.mktemp("var") / "keys")
    store.add("example.com")
    return store


def held(content: bytes, keys: KeyStore) -> set[bool | None]:
    return {one.holds for one in verify(content, {key.dns_name: dkim_value(key) for key in keys.keys("example.com")})}


@pytest.mark.parametrize(
    "added",
    ["From", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type",
     "Content-Transfer-Encoding"],
)  # fmt: skip
def test_2_7_a_signed_message_takes_no_second_field_that_is_shown(keys: KeyStore, added: str) -> None:
    """Every field a reader sees is signed once more than it is there, also where it is not."""
    signed = DkimSigner(keys, SystemClock()).sign(LETTER, "example.com") + LETTER
    assert held(signed, keys) == {True}
    assert held(f"{added}: x@evil.example\r\n".encode() + signed, keys) == {False}


def test_2_7_a_signed_message_has_an_end_in_time_and_in_length(keys: KeyStore) -> None:
    fields = DkimSigner(keys, SystemClock()).sign(LETTER, "example.com")
    assert held(fields + LETTER + b"more\r\n", keys) == {False}
    tags = [tag.partition(b"=")[0].strip() for tag in fields.split(b"DKIM-Signature:")[1].split(b";")]
    assert b"x" in tags
    assert b"l" not in tags
    rsa = next(key for key in keys.keys("example.com") if key.algorithm == "rsa")
    assert len(base64.b64decode(rsa.public_base64)) > 2048 // 8


def test_2_7_a_body_signed_in_part_is_not_believed(keys: KeyStore, tmp_path: Path) -> None:
    """What dkimpy signs with l= and takes with anything behind it."""
    [pem] = (keys._folder.root / "example.com").glob("*.rsa.pem")
    rsa = next(key for key in keys.keys("example.com") if key.algorithm == "rsa")
    signature = dkim.sign(LETTER, rsa.selector.encode(), b"example.com", pem.read_bytes(), length=True)
    replayed = signature + LETTER + b"<a href=//evil.example>\r\n"
    assert dkim.verify(replayed, dnsfunc=lambda name, timeout=5: dkim_value(rsa).encode())
    assert held(replayed, keys) == {False}


@pytest.mark.parametrize(
    "content",
    [
        b" Subject: x\r\n" + LETTER, b"no field\r\n" + LETTER, b"From \r\n" + LETTER, b"", b"\r\n", b":\r\n\r\n",
        b"DKIM-Signature:\r\n" + LETTER, b"DKIM-Signature: v=1; a=; d=\xff; s=\xff\xfe\r\n" + LETTER,
        b"DKIM-Signature: v=1; d=example.com; s=relay1; h=" + b"from:" * 5000 + b"\r\n" + LETTER,
        b"DKIM-Signature: v=1; d=example.com; s=relay1; b=x; x=9" + b"9" * 5000 + b"\r\n" + LETTER,
        b"DKIM-Signature: v=1; d=example.com; s=relay1\r\nno field\r\n" + LETTER,
    ],
)  # fmt: skip
def test_2_8_no_message_makes_the_verifier_of_signatures_raise(keys: KeyStore, content: bytes) -> None:
    assert len(key_names(content)) <= 1
    assert True not in held(content, keys)


class Zone:
    """TXT records by domain."""

    def __init__(self, records: dict[str, str]) -> None:
        self.records = records

    async def query(self, name: str, rdtype: str) -> DnsAnswer:
        found = self.records.get(name) if rdtype == "TXT" else None
        return DnsAnswer((found,)) if found else DnsAnswer((), exists=False)


HOSTILE = [
    "v=spf1 \u200b-all".encode().decode("latin-1"), "v=spf1 a:%{x}", "v=spf1 redirect=%", "v=spf1 ip4:999.1.1.1",
    "v=spf1 include:", "v=spf1 " + "a " * 5000, "v=spf1 exists:%{l999999999r+-,/_=}.%{d9}", "v=spf1 ip6:" + ":" * 500,
    "v=spf1 \0 -all", "v=spf1 a/999//999", "v=spf1 include:x0.example", "v=spf1\t-all", "v=spf1 -all\r\n550 no",
]  # fmt: skip


def test_2_8_no_record_refuses_mail_by_accident(tmp_path: Path) -> None:
    """A zero-width space in one stopped another server; here each is read, judged or passed over."""
    zone = Zone({f"x{number}.example": text for number, text in enumerate(HOSTILE)})
    replies: list[bytes] = []
    words = b"".join(b"MAIL FROM:<a@x%d.example>\r\nRSET\r\n" % number for number in range(len(HOSTILE)))
    at_door(tmp_path, says(b"EHLO c.example\r\n" + words + b"QUIT\r\n", replies), spf=SpfChecker(zone))
    verdicts = [line for line in replies if line[:9] not in (b"250 2.0.0", b"221 2.0.0")][-len(HOSTILE) :]
    assert set(verdicts) == {b"250 2.1.0 Ok"}


# --- 2.11 who wrote it -------------------------------------------------------------------------------------

FORMS = [
    b"From: ceo@bank.example\r\nFrom: me@shop.example", b"From: me@shop.example\r\nFrom: ceo@bank.example",
    b"From: me@shop.example\r\nfrom : ceo@bank.example", b"From:\r\n ceo@bank.example",
    b"From: me@shop.example, ceo@bank.example", b"From: ceo@bank.example <me@shop.example>",
    b"From: <ceo@bank.example> <me@shop.example>", b"From: <@shop.example:ceo@bank.example>",
    b"From: ceo@bank.example(<me@shop.example>)", b'From: (") ceo@bank.example (") <me@shop.example>',
    b"From: Group: me@shop.example, ceo@bank.example;", b"From: me@shop.example\r\n\tceo@bank.example",
    b"From: me@shop.example\xe2\x80\xa8ceo@bank.example", b"From: me@shop.example\x0bceo@bank.example",
    b"From: ceo@bank.example@shop.example", b'From: "me@shop.example', b"From: ceo@bank.example;me@shop.example",
    b"From: me@shop.example\0ceo@bank.example", b"From: me@shop.example\rFrom: ceo@bank.example",
    b"From: me@shop.example\nFrom: ceo@bank.example",
]  # fmt: skip


def test_2_11_no_from_shows_another_author_than_the_login_may_write_as(tmp_path: Path) -> None:
    """What one reader takes for the author and another does not is refused, whichever of them is right."""
    login = b"EHLO c.example\r\nAUTH PLAIN " + base64.b64encode(b"\0shop\0secret") + b"\r\n"
    answers: dict[bytes, bytes] = {}

    def client(door: FrontDoor) -> None:
        for form in FORMS:
            said: list[bytes] = []
            head = b"MAIL FROM:<me@shop.example>\r\nRCPT TO:<bob@ours.example>\r\nDATA\r\n" + form + b"\r\n"
            says(login + head + BODY + b"QUIT\r\n", said)(door)
            answers[form] = said[-2]

    door = at_door(tmp_path, client, role="submission", plaintext_auth=True)
    assert {form: answer for form, answer in answers.items() if answer[:3] not in (b"550", b"554")} == {}
    assert door.stored == []


def test_2_11_a_field_before_the_header_is_none(tmp_path: Path) -> None:
    """A first line that begins with a space makes the rest a body, with an author of ours above it."""
    login = b"EHLO c.example\r\nAUTH PLAIN " + base64.b64encode(b"\0shop\0secret") + b"\r\n"
    head = b"MAIL FROM:<me@shop.example>\r\nRCPT TO:<bob@ours.example>\r\nDATA\r\n From: ceo@bank.example\r\n"
    door = at_door(tmp_path, says(login + head + BODY + b"QUIT\r\n"), role="submission", plaintext_auth=True)
    [message] = door.stored
    header = (message.content or b"").partition(b"\r\n\r\n")[0]
    assert b"ceo@bank.example" not in header
    assert header.count(b"\r\nFrom: ") == 1


def test_2_11_no_stranger_brings_results_of_checks_in_our_name(tmp_path: Path) -> None:
    forged = b"Authentication-Results: (a) mx.example;\r\n\tspf=pass smtp.mailfrom=ceo@bank.example\r\n"
    honest = b"Authentication-Results: other.example; spf=pass\r\nFrom: a@b.example\r\n"
    head = b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<bob@ours.example>\r\nDATA\r\n"
    door = at_door(tmp_path, says(head + forged + honest + BODY + b"QUIT\r\n"))
    [message] = door.stored
    assert b"ceo@bank.example" not in (message.content or b"")
    assert (message.content or b"").endswith(honest + BODY.removesuffix(b".\r\n"))


def test_2_11_strangers_name_one_author_too(tmp_path: Path) -> None:
    said: list[bytes] = []
    head = b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<bob@ours.example>\r\nDATA\r\n"
    at_door(tmp_path, says(head + b"From: a@b.example\r\nFrom: c@d.example\r\n" + BODY + b"QUIT\r\n", said))
    assert said[-2] == b"554 5.6.0 More than one From field; name all authors in one"


@pytest.mark.parametrize(
    "evil", ["a'(b", ") spf=pass (", '"; helo="x', "a\r\nFrom: ceo@bank.example", "a\\", "\0", "é"]
)
def test_2_11_nothing_in_a_session_adds_a_result_of_a_check(evil: str) -> None:
    session = Session("192.0.2.1", 1, evil, "ESMTP", "test")
    envelope = Envelope(f"{evil}@b.example", (Recipient("c@d.example"),))
    field = received_spf("mx.example", SpfResult("fail", evil), session, envelope)
    assert field.startswith(b"Received-SPF: fail (mx.example: ")
    assert [line[:1] for line in field.split(b"\r\n")[1:]] == [b"\t"] * 5 + [b""]
    assert b"\0" not in field


# --- 2.12 bombs --------------------------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    parts = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(depth))
    return parts + b"Content-Type: text/plain\r\n\r\nx"


BOMBS = {
    "depth": nested(20_000),
    "parts": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    + b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n" * 10_000,
    "parameters": b"Content-Type: text/plain" + b"; a=" * 250_000 + b"\r\n\r\nx",
    "fields": b"a:\r\n" * 260_000 + b"\r\nx",
    "junk lines": b"a: b\r\n" + b"x\r\n" * 340_000 + b"\r\nx",
    "folds": b"a: b" + b"\r\n " * 340_000 + b"\r\n\r\nx",
    "one line": b"Subject: " + b"x" * 1_000_000 + b"\r\n\r\nx",
    "words": b"Subject: " + b"=?utf-8?q?=41?= " * 60_000 + b"\r\n\r\nx",
    "comments": b"From: " + b"(" * 1_000_000 + b"\r\n\r\nx",
    "authors": b"From: " + b"a@shop.example," * 66_000 + b"\r\n\r\nx",
    "quotes": b"From: " + b'"\\' * 500_000 + b"\r\n\r\nx",
    "priority": b"MT-Priority: " + b"(" * 1_000_000 + b"\r\n\r\nx",
}


def test_2_12_no_message_holds_the_gate_up(tmp_path: Path) -> None:
    """Half a second of CPU time is several times what the worst of them takes."""
    door = FrontDoor(tmp_path, CA, tls="none", role="mx")
    login = Login("acme", "shop", SenderRights(domains=("shop.example",)))
    gaps: dict[str, float] = {}

    async def scene() -> None:
        for name, content in BOMBS.items():
            session = Session("192.0.2.1", 1, "c.example", "ESMTP", "test", None, login)
            envelope = Envelope("a@shop.example", (Recipient("bob@ours.example"),))
            beats: list[float] = []
            beating = asyncio.create_task(_beat(beats))
            await asyncio.sleep(0)
            await door.intake.accept(session, envelope, content)
            await asyncio.sleep(0.02)
            beating.cancel()
            gaps[name] = max(b - a for a, b in itertools.pairwise(beats))

    asyncio.run(door.run(scene))
    assert {name: gap for name, gap in gaps.items() if gap > 0.5} == {}


async def _beat(beats: list[float]) -> None:
    while True:
        beats.append(time.thread_time())
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("charset", ["utf-7", "idna", "punycode", "zip", "bz2", "rot13", "unicode_escape", "undefined"])
def test_2_12_a_charset_is_no_other_codec(charset: str) -> None:
    """Names of codecs that unpack, or take quadratic time."""
    with within(5):
        take_apart(f"Content-Type: text/plain; charset={charset}\r\n\r\n".encode() + b"a-" * 500_000)
        decode_words(f"=?{charset}?q?{'a.' * 500_000}?=")


def test_2_12_a_message_of_parts_without_an_end_is_not_taken_apart() -> None:
    """For providers that want parts: an error of its own, and no recursion."""
    for name in ("depth", "parts", "parameters", "words"):
        with within(5), pytest.raises(MessageSyntaxError):
            take_apart(BOMBS[name])


# --- 2.15 templates, 2.17 links ----------------------------------------------------------------------------

TEMPLATES = [
    "{{ 7*7 }}", "{{ ''.__class__.__mro__ }}", "{% for i in range(10**9) %}x{% endfor %}", "${7*7}", "<%= 7*7 %>",
    "{0.__class__.__init__.__globals__}", "%(x)s", "%n%s", "#{7*7}", "*|FNAME|*", "{% include '/etc/passwd' %}",
]  # fmt: skip


def test_2_15_and_2_17_what_a_message_says_is_text_and_its_links_stay_as_they_are(tmp_path: Path) -> None:
    """No template is rendered anywhere, and no link is rewritten: nothing here could send a reader elsewhere."""
    links = b'<a href="https://shop.example/?to=//evil.example">x</a><a href="javascript:1">y</a>'
    lines = [f"X-{number}: {text}" for number, text in enumerate(TEMPLATES)]
    content = "\r\n".join(["From: a@b.example", *lines, "Content-Type: text/html", "", *TEMPLATES]).encode() + links
    head = b"EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<bob@ours.example>\r\nDATA\r\n"
    _, second = over_two_hops(tmp_path, says(head + content + b"\r\n.\r\nQUIT\r\n"))
    assert [(message.content or b"").endswith(content + b"\r\n") for message in second.stored] == [True]


def test_2_15_no_template_engine_is_there_to_be_broken_out_of() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    engines = ("jinja", "mako", "chameleon", "django", "cheetah", "tornado", "genshi", "liquid")
    assert not [one for one in project["dependencies"] if one.lower().startswith(engines)]
    sources = {path: path.read_text() for path in (ROOT / "relay").rglob("*.py")}
    words = re.compile(rf"^\s*(from|import) ({'|'.join(engines)}|\w+\.templating)", re.MULTILINE)
    assert not [path for path, text in sources.items() if words.search(text) or "Template(" in text]
