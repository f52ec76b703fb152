"""Messages rebuilt for providers: each arrives equal, or the rendering says what it loses, or it is refused.

What a call holds is read back by readers that share nothing with the relay, as in test_arrives_equal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit" / "transports"))

from harness import Octets, Readers
from sendpost_setting import request
from test_arrives_equal import check
from test_every_provider import KINDS, PROVIDERS
from test_sendpost_recipients import written

from relay.mail.errors import MessageSyntaxError
from relay.mail.line_ends import fixed_line_ends
from relay.transports.providers.base import Refusal

TESTS = Path(__file__).resolve().parents[1]
_ENVELOPE = ["ann@example.net", "bob@bücher.example", "hidden@example.net"]
_LEAVES = (
    b"Content-Type: text/plain\r\n\r\nhello", b"Content-Type: text/html; charset=utf-8\r\n\r\n<p>\xc3\xbc</p>",
    b"Content-Type: image/png; name=a.png\r\nContent-ID: <x>\r\nContent-Transfer-Encoding: base64\r\n\r\nUE5H",
    b"Content-Type: text/plain; charset=iso-8859-1\r\n\r\n\xfc\xdf",
    b"Content-Type: text/plain; charset=nonsense\r\n\r\n\xff",
    b"Content-Disposition: attachment; filename*=utf-8''%C3%BC.b\r\n\r\n{{x}}",
    b"Content-Type: message/rfc822\r\n\r\nTo: inner@inner.example\r\n\r\n",
    b"Content-Transfer-Encoding: base64\r\n\r\n!!!", b"",
    b"Content-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<img src=3D\"cid:x\">=C3=BC=\r\n",
    b"Content-Type: text/calendar; method=REQUEST\r\n\r\nBEGIN:VCALENDAR",
)  # fmt: skip
_KINDS = ("mixed", "alternative", "related", "signed", "report", "digest")
_FIELDS = (
    b"Subject: hello", b"Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?=", b"Subject: =?utf-8?b?w7w=?= =?iso-8859-1?q?=FC?= x",
    "Subject: Grüße".encode(), b"To: Ann <ann@example.net>", b"Cc: =?utf-8?q?B=C3=B6b?= <bob@xn--bcher-kva.example>",
    b'To: "a, b" <ann@example.net>, c@d.example', b"Reply-To: x@y.example, z@y.example", b"X-One: 1", b"X-One: 2",
    b"X-Fold: a\r\n\tb", b"Date: Tue, 24 Nov 2026 10:00:00 +0000", b"Message-ID: <1@example.org>",
    b"Bcc: hidden@example.net",
    b"List-Unsubscribe: <https://x.example/u>", b"X-SMTPAPI: {}", b"References: <a@b> <c@d>",
    b"Sender: s@t.example",
)  # fmt: skip


def _tree(chosen: Octets, depth: int) -> Any:
    if depth > 3 or not chosen.number(2):
        leaf = chosen.one(_LEAVES)
        return leaf + chosen.take(chosen.number(24)) if leaf else leaf
    return chosen.one(_KINDS), [_tree(chosen, depth + 1) for _ in range(1 + chosen.number(3))]


def _equal(octets: bytes) -> None:
    """A message made of parts of every sort, to one of the vendors."""
    chosen = Octets(octets)
    kind = chosen.one(KINDS)
    fields = [b"From: =?utf-8?q?App?= <app@example.org>"]
    for _ in range(chosen.number(6)):
        name, more = chosen.one(_FIELDS), chosen.take(chosen.number(4)).translate(None, b"\r\n\0")
        # What the email package makes of a broken address, word or line is its own affair.
        if name.startswith(b"X-"):
            fields.append(name + more)
        elif name.partition(b":")[0] not in {field.partition(b":")[0] for field in fields}:
            fields.append(name)
    fields.append(b"MIME-Version: 1.0")
    content = b"\r\n".join(fields) + b"\r\n" + written(_tree(chosen, 0), count())
    check(kind, fixed_line_ends(content).replace(b"\0", b""), _ENVELOPE[: 1 + chosen.number(3)])


def _rendered(octets: bytes) -> None:
    """Any octets at all: every recipient is in one call, or it is refused."""
    chosen = Octets(octets)
    provider, envelope = PROVIDERS[chosen.one(KINDS)], _ENVELOPE[: 1 + chosen.number(3)]
    content = fixed_line_ends(chosen.rest())
    try:
        found = provider.render(request(*envelope), content)
    except MessageSyntaxError:
        return
    if isinstance(found, Refusal):
        assert found.reply.permanent
        return
    assert sorted(address for call in found.requests for address in call.recipients) == sorted(envelope)
    for call in found.requests:
        assert all(text.isascii() and text.isprintable() for pair in call.headers.items() for text in pair)
        assert call.url.isascii()


def target() -> Readers:
    found = Readers((_equal, _equal, _rendered), pure=(_rendered,))
    found.more = list(_seeds(found))
    return found


def _seeds(found: Readers) -> Iterator[bytes]:
    for kind in range(len(KINDS)):
        for leaf in range(0, len(_LEAVES), 2):
            yield found.seed(_equal, bytes((kind, 2, 0, 0, 4, 0, 1, 1, 2, 0, leaf, 0, 0, 1, 0)))
        for path in sorted((TESTS / "golden" / "messages").glob("*.eml"))[kind % 4 :: 4]:
            yield found.seed(_rendered, bytes((kind, 1)) + path.read_bytes().replace(b"\n", b"\r\n"))
