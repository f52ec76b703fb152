"""Whatever the message, for every provider: it arrives equal, or the rendering says what it loses, or it is refused.

The call is read back by a reader of its format that shares nothing with the relay (`vendor_readers.py`), and what that
finds is compared with what the email package finds in the message. The corpus lies outside the project
(`SENDRELAY_SUITES`, else `../shared/suites` beside it); without it those cases skip.
"""

from __future__ import annotations

import os
from collections import Counter
from email.message import EmailMessage, Message
from email.policy import SMTP
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sendpost_setting import request
from test_every_provider import KINDS, PROVIDERS
from test_sendpost_recipients import TREES, plain, written
from vendor_readers import READERS, Leaf, Seen, defects, fields, leaves, parsed, people, read_header

from relay.mail.errors import MessageSyntaxError
from relay.mail.message import header_block, header_fields
from relay.mail.parts import Loss
from relay.transports.providers.base import HttpRequest, HttpResponse, Refusal, Rendering

SUITES = Path(os.environ.get("SENDRELAY_SUITES") or Path(__file__).parents[4] / "shared" / "suites")
CORPUS = sorted((SUITES / "mime").rglob("*.eml")) + sorted((SUITES / "mime" / "python-email").rglob("*.txt"))

RAW = {"mailgun", "ses", "sparkpost"}
# Raw as well, but who gets it stands in the header.
MAILBOXES = {"gmail", "graph"}
# Taken into their own place or not handed on, as docs/providers/README.md says; the rest has to arrive.
NOT_HANDED_ON = {
    "from", "reply-to", "to", "cc", "subject", "bcc", "resent-bcc", "mime-version", "received", "return-path",
    "dkim-signature", "domainkey-signature", "authentication-results", "received-spf",
}  # fmt: skip
NOT_HANDED_ON_PREFIXES = ("content-", "arc-", "x-relay-")
_ADDRESSED = ("to", "cc", "resent-to", "resent-cc", "apparently-to")
# What each vendor reads as a command, or the relay leaves out for its sake.
COMMANDS = {
    "brevo": ("x-mailin-", "idempotencykey", "sender.ip"),
    "gmail": (*_ADDRESSED, "return-path", "dkim-signature", "domainkey-signature"),
    "graph": (*_ADDRESSED, "return-path", "dkim-signature", "domainkey-signature"),
    "mailgun": ("x-mailgun-",),
    "mailjet": ("x-mailjet-", "x-mj-"),
    "postmark": ("x-pm-",),
    "resend": ("resend-",),
    "sendarix": ("x-idempotency-key", "idempotency-key"),
    "sendgrid": ("x-smtpapi",),
    "sendpost": ("x-sendpost-", "x-sp-"),
    "sendx": ("x-sendpost-", "x-sp-"),
    "ses": ("x-ses-", "dkim-signature", "return-path"),
    "sparkpost": ("x-msys-",),
}
NO_HEADERS = {"sendios", "sendlio"}
NO_SENDER = {"sendios", "sendlio"}
UNTYPED = {"brevo", "sendpost"}
GUESSED = {Loss.HEADER_VALUE, Loss.DUPLICATE_HEADER}


def rendered(kind: str, content: bytes, envelope: list[str]) -> Rendering | Refusal | None:
    """None: the message cannot be taken apart, which the transport makes a refusal."""
    try:
        return PROVIDERS[kind].render(request(*envelope), content)
    except MessageSyntaxError:
        return None


def arrived(kind: str, found: Rendering) -> list[Seen]:
    return [seen for call in found.requests for seen in READERS[kind](body_of(call), call.headers["Content-Type"])]


def body_of(call: HttpRequest) -> bytes:
    """Where one call prepares the next, a list of what both say."""
    bodies = [call.body]
    while call.prepares:
        assert call.follow is not None
        following = call.follow(HttpResponse(200, {}, b'{"id":16,"results_count":1}'), 1_795_600_000.0)
        assert following is not None
        call = following
        bodies.append(call.body)
    return bodies[0] if len(bodies) == 1 else b"[" + b",".join(bodies) + b"]"


def check(kind: str, content: bytes, envelope: list[str]) -> bool:
    """Whether it was carried; fails where it arrives otherwise than it was, and nothing says so."""
    found = rendered(kind, content, envelope)
    if not isinstance(found, Rendering):
        assert found is None or found.reply.permanent
        return False
    copies = arrived(kind, found)
    message = parsed(content)
    assert Counter(plain(a) for seen in copies for a in seen.everybody) == Counter(map(plain, envelope))
    for seen in copies:
        if kind in RAW:
            check_raw(kind, content, seen)
        elif kind in MAILBOXES:
            check_raw(kind, content, seen)
            check_visible(kind, message, seen, found.losses)
        else:
            check_visible(kind, message, seen, found.losses)
            check_headers(kind, message, seen, found.losses)
            check_content(kind, message, seen, found.losses)
    return True


def withheld(name: str, hidden: tuple[str, ...]) -> bool:
    """By its name, or by the beginning of it."""
    return name in hidden or name.startswith(tuple(each for each in hidden if each.endswith("-")))


def check_raw(kind: str, content: bytes, seen: Seen) -> None:
    """Every octet, but for the fields that must not go along."""
    hidden = ("bcc", "resent-bcc", *COMMANDS[kind])
    head = header_block(content)
    assert seen.raw is not None
    given = header_fields(header_block(seen.raw))
    if kind in MAILBOXES:
        given = (each for each in given if each.name not in ("to", "cc", "bcc"))
    else:
        assert not fields(parsed(seen.raw), "bcc")
    assert b"".join(each.raw for each in given) == b"".join(
        each.raw for each in header_fields(head) if not withheld(each.name, hidden)
    )
    assert seen.raw.endswith(content[len(head) :])


# --- who ---------------------------------------------------------------------------------------------------


def named(message: Message, name: str) -> list[tuple[str, str]]:
    """Its mailboxes, as far as the email package can read them."""
    return [(" ".join(each.split()), plain(address)) for each, address in people(fields(message, name)) if address]


def same_people(given: list[tuple[str, str]], wanted: list[tuple[str, str]]) -> bool:
    found = [(" ".join(name.split()), plain(address)) for name, address in given]
    return Counter(found) == Counter(wanted)


def bare(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [("", address) for _, address in found]


def check_visible(kind: str, message: Message, seen: Seen, losses: frozenset[Loss]) -> None:
    to = named(message, "to")
    cc = [each for each in named(message, "cc") if each[1] not in {address for _, address in to}]
    shown = {address for _, address in to + cc}
    visible = [plain(address) for _, address in (*seen.to, *seen.cc)]
    hidden = [address for address in visible if address not in shown]
    assert not hidden or [plain(address) for address in seen.everybody] == hidden
    if losses & {Loss.VISIBLE_RECIPIENTS, Loss.RECIPIENT_ROLE, *GUESSED}:
        return
    names = Loss.RECIPIENT_NAME not in losses
    for found, wanted in ((seen.to, to), (seen.cc, cc)):
        assert same_people(found if names else bare(found), wanted if names else bare(wanted))


# --- header fields -----------------------------------------------------------------------------------------


def check_headers(kind: str, message: Message, seen: Seen, losses: frozenset[Loss]) -> None:
    if losses & GUESSED:
        return
    assert " ".join(seen.subject.split()) == " ".join(read_header(value) for value in fields(message, "subject"))
    if kind not in NO_SENDER and Loss.SEVERAL_FROM not in losses:
        assert same_people(seen.sender, named(message, "from"))
    if not losses & {Loss.SEVERAL_REPLY_TO, Loss.CUSTOM_HEADER}:
        assert same_people(seen.reply_to, named(message, "reply-to"))
    wanted = [
        (name.lower(), " ".join(value.encode("utf-8", "surrogateescape").decode("utf-8", "replace").split()))
        for name, value in message.raw_items()
        if name.lower() not in NOT_HANDED_ON
        and not name.lower().startswith((*NOT_HANDED_ON_PREFIXES, *COMMANDS.get(kind, ())))
    ]
    given = [(name.lower(), " ".join(value.split())) for name, value in seen.headers]
    assert set(given) <= set(wanted)
    if not losses & {Loss.CUSTOM_HEADER, Loss.RESERVED_HEADER, Loss.REPEATED_HEADER}:
        assert Counter(given) == Counter(wanted)


# --- content -----------------------------------------------------------------------------------------------


def check_content(kind: str, message: Message, seen: Seen, losses: frozenset[Loss]) -> None:
    """Every part of the message is a body or a file, once, and there is nothing else."""
    if losses & {Loss.TRANSFER_ENCODING, Loss.DUPLICATE_HEADER}:
        return
    # Of an attached message the octets are not known here: it is any file that nothing else is.
    parts = sorted(leaves(message), key=lambda each: each[1].kind.startswith("message/"))
    files = sorted(seen.files, key=lambda each: not each.data.strip())
    bodies = {each: text for each, text in seen.bodies.items() if text.strip()}
    for part, leaf in parts:
        if leaf.kind in bodies and part.get_content_disposition() != "attachment" and fits(part, bodies[leaf.kind]):
            del bodies[leaf.kind]
        elif given_up(leaf, seen, losses):
            continue
        elif leaf.name or leaf.kind not in ("text/plain", "text/html") or leaf.data.decode("utf-8", "replace").strip():
            take(kind, leaf, files, losses, seen.bodies.get("text/html", ""))
    assert not bodies, f"{kind}: a body nobody sent"
    assert not [each for each in files if each.data.strip()], f"{kind}: a file nobody sent"
    if {"text/plain", "text/html"} <= {name for name, text in seen.bodies.items() if text.strip()}:
        assert Loss.EXTRA_BODY in losses or any(
            each.get_content_type() == "multipart/alternative" for each in message.walk()
        )


def given_up(leaf: Leaf, seen: Seen, losses: frozenset[Loss]) -> bool:
    """A body beside others that the vendor has no place for, and the rendering says so."""
    if leaf.kind == "text/x-amp-html":
        return Loss.ALTERNATIVE in losses
    return leaf.kind == "text/plain" and Loss.ONE_BODY in losses and "text/html" in seen.bodies


def fits(part: Message, text: str) -> bool:
    """Whether the part's octets in its charset are this text; ASCII is read as the UTF-8 it often is."""
    data = part.get_payload(decode=True) or b""
    label = str(part.get_content_charset() or "utf-8")
    for charset in (label, "utf-8", "gb18030", "cp949", "cp932", "cp950"):
        try:
            if data.decode(charset) == text:
                return True
        except (LookupError, UnicodeDecodeError):
            continue
    return False


def take(kind: str, leaf: Leaf, files: list[Leaf], losses: frozenset[Loss], page: str) -> None:
    for each in files:
        same = each.data == leaf.data or (leaf.kind.startswith("message/") and Loss.ATTACHED_MESSAGE in losses)
        shown = not leaf.cid or f"cid:{leaf.cid}" not in page or each.cid == leaf.cid or Loss.INLINE_IMAGE in losses
        if same and shown and agrees(kind, leaf, each, losses):
            files.remove(each)
            return
    raise AssertionError(f"{kind}: lost without a word: {leaf.kind} {leaf.name!r} {leaf.data[:60]!r}, {sorted(losses)}")


def agrees(kind: str, leaf: Leaf, given: Leaf, losses: frozenset[Loss]) -> bool:
    typed = kind in UNTYPED or given.kind == leaf.kind or Loss.ATTACHMENT_TYPE in losses
    # A lone backslash is half of a quoted pair (RFC 2045 §5.1); the email package keeps it.
    name = " ".join(given.name.replace("\\", "").split())
    named = not leaf.name or name == leaf.name.replace("\\", "") or Loss.HEADER_VALUE in losses
    told = given.charset == leaf.charset or readable_without(leaf) or Loss.ATTACHMENT_CHARSET in losses
    return typed and named and told


def readable_without(leaf: Leaf) -> bool:
    """Whether nobody needs to be told the charset: no text, ASCII, or the UTF-8 that is guessed."""
    return not leaf.kind.startswith("text/") or leaf.data.isascii() or leaf.charset in ("", "us-ascii", "utf-8", "utf8")


# --- messages ----------------------------------------------------------------------------------------------

WORD = st.text("abc XYZ'\"(),;:<>@.\\üß漢😀-_=?{%", min_size=1, max_size=25).map(lambda text: " ".join(text.split()))
NAMES = st.one_of(st.just(""), WORD)
ADDRESSES = st.sampled_from([f"r{n}@mx{n % 3}.example" for n in range(12)] + ["Big.Case@MX.example", "a+b=c@x.example"])
PEOPLE = st.lists(st.tuples(NAMES, ADDRESSES), max_size=4, unique_by=lambda each: each[1])
TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")) | st.just("\n"), max_size=120)
TYPES = st.sampled_from(["application/pdf", "image/png", "text/csv", "text/plain", "application/x-unknown"])
FILES = st.lists(
    st.tuples(st.sampled_from(["", "a.pdf", "ü 1.png", "x.csv", "no"]), TYPES, st.binary(max_size=80)), max_size=3
)
CHARSETS = st.sampled_from(["", "", "us-ascii", "utf-8", "iso-8859-1", "utf-16"])
FIELDS = st.lists(
    st.tuples(st.sampled_from(["X-App", "List-Unsubscribe", "In-Reply-To", "X-Mailer", "X-Long", "Date"]), WORD),
    max_size=4,
    unique_by=lambda each: each[0],
)


def phrase(name: str, address: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}" <{address}>' if name else address


@st.composite
def composed(draw):
    """A message such as an application sends, and its envelope with some who are hidden."""
    message = EmailMessage(policy=SMTP.clone(utf8=draw(st.booleans()), refold_source="none"))
    to, cc = draw(PEOPLE), draw(PEOPLE)
    head = [b"From: " + phrase(draw(NAMES), "app@example.org").encode()]
    for name, found in (("To", to), ("Cc", cc), ("Reply-To", draw(PEOPLE))):
        if found:
            head.append(f"{name}: {', '.join(phrase(*each) for each in found)}".encode())
    if draw(st.booleans()):
        head.append(b"Bcc: hidden@secret.example")
    head += [f"{name}: {value}".encode() for name, value in draw(FIELDS)]
    if draw(st.booleans()):
        head.append(b"Subject: " + draw(WORD).encode())
    message.set_content(draw(TEXTS), cte=draw(st.sampled_from(["base64", "quoted-printable", "8bit"])))
    html = draw(st.none() | TEXTS)
    if html is not None:
        message.add_alternative(html + draw(st.sampled_from(["", '<img src="cid:one">'])), subtype="html")
        if draw(st.booleans()):
            page = message.get_payload()[-1]
            page.add_related(draw(st.binary(max_size=40)), "image", "png", cid="<one>", filename="one.png")
    for name, kind, data in draw(FILES):
        main, _, sub = kind.partition("/")
        message.add_attachment(data, main, sub, **({"filename": name} if name else {}))
        if main == "text" and (charset := draw(CHARSETS)):
            message.get_payload()[-1].set_param("charset", charset)
    for number, part in enumerate(each for each in message.walk() if each.is_multipart()):
        part.set_boundary(f"=_{number}_")
    hidden = ["hidden@secret.example"] if draw(st.booleans()) else []
    envelope = sorted({address for _, address in to + cc} | set(hidden)) or ["alone@mx.example"]
    return b"\r\n".join(head) + b"\r\n" + message.as_bytes(), envelope


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(made=composed())
def test_what_an_application_composes_arrives_equal_or_says_what_it_loses(kind, made):
    """Bodies, files, names, roles, header fields and everybody's address."""
    check(kind, *made)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(tree=TREES)
def test_any_tree_arrives_equal_or_says_what_it_loses(kind, tree):
    """Nested as nobody would, with parts of every kind."""
    content = b"From: app@example.org\r\nTo: ann@mx.example\r\n" + written(tree, count())
    if not defects(parsed(content)):
        check(kind, content, ["ann@mx.example"])


@pytest.mark.parametrize("kind", KINDS)
def test_an_attached_message_arrives_beside_a_part_without_octets(kind):
    """Which is a file as well where its vendor gets files, and is not taken for the message."""
    attached = b"Content-Type: message/rfc822\r\n\r\nTo: inner@inner.example\r\n\r\nx\r\n"
    tree = ("mixed", [b"Content-Type: text/plain\r\n\r\nhello", b"", attached])
    content = b"From: app@example.org\r\nTo: ann@mx.example\r\n" + written(tree, count())
    check(kind, content, ["ann@mx.example"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_corpus_arrives_equal_or_says_what_it_loses(kind):
    """Real and malformed messages: those the email package has no fault to find with are compared part by part."""
    if not CORPUS:
        pytest.skip(f"no corpus under {SUITES}")
    carried = 0
    failures = []
    for path in CORPUS:
        content = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        for whole in (content, b"From: app@example.org\r\n" + content):
            message = parsed(whole)
            if defects(message):
                found = rendered(kind, whole, ["ann@mx.example"])
                assert not isinstance(found, Rendering) or len(arrived(kind, found)) == 1
                continue
            try:
                carried += check(kind, whole, ["ann@mx.example"])
            except Exception as error:
                failures.append((str(path.relative_to(SUITES)), type(error).__name__, str(error)[:200]))
    assert not failures, "\n".join(map(str, failures[:40])) + f" {len(failures)}"
    assert carried > (20 if kind != "gmail" else 10)  # which has one author, and its own
