"""Whatever the message and its envelope: everybody gets it once, nobody else does, and who is hidden stays hidden."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from itertools import count

from hypothesis import given, settings
from hypothesis import strategies as st
from sendpost_setting import EVERYTHING, calls, rendered

from relay.transports.providers.base import Rendering
from relay.transports.providers.sendpost import COPIES, RECIPIENTS

POOL = [f"r{n}@{domain}" for n in range(40) for domain in ("mx.example", "bücher.example", "MX.example")]
ADDRESSES = st.sampled_from(POOL)
FIELDS = st.lists(ADDRESSES, max_size=60)


def plain(address: str) -> str:
    """The key under which header and envelope meet, by a way of its own."""
    return address.lower().replace("bücher", "xn--bcher-kva")


LEAVES = st.sampled_from([
    b"Content-Type: text/plain\r\n\r\nhello",
    b"Content-Type: text/html; charset=utf-8\r\n\r\n<p>\xc3\xbc</p>",
    b"Content-Type: image/png\r\nContent-ID: <x>\r\n\r\nPNG",
    b"Content-Type: text/plain; charset=nonsense\r\n\r\n\xff",
    b"Content-Disposition: attachment; filename=a.b\r\n\r\n{{x}}",
    b"Content-Type: message/rfc822\r\n\r\nTo: inner@inner.example\r\nBcc: inner2@inner.example\r\n\r\n",
    b"Content-Transfer-Encoding: base64\r\n\r\n!!!",
    b"",
])  # fmt: skip


KINDS = st.sampled_from(["mixed", "alternative", "related", "signed", "report", "digest"])
TREES = st.recursive(LEAVES, lambda inner: st.tuples(KINDS, st.lists(inner, min_size=1, max_size=3)), max_leaves=6)


def written(tree: bytes | tuple[str, list], numbers: Iterator[int]) -> bytes:
    """A tree as MIME; no boundary is the beginning of another."""
    if isinstance(tree, bytes):
        return tree
    kind, children = tree
    boundary = f"b{next(numbers):04}"
    mark = f"--{boundary}".encode()
    head = f'Content-Type: multipart/{kind}; boundary="{boundary}"\r\n\r\n'.encode()
    inside = b"".join(mark + b"\r\n" + written(child, numbers) + b"\r\n" for child in children)
    return head + inside + mark + b"--\r\n"


@st.composite
def deliveries(draw):
    """A message, its envelope, and the addresses its To and Cc show."""
    to, cc, bcc = draw(FIELDS), draw(FIELDS), draw(st.lists(ADDRESSES, max_size=5))
    envelope = draw(st.lists(ADDRESSES, min_size=1, max_size=130, unique=True))
    fields = [b"From: app@example.org", b"Received: from x by y for <hidden@trace.example>; now"]
    for name, addresses in (("To", to), ("Cc", cc), ("Bcc", bcc), ("Resent-Bcc", bcc)):
        if addresses:
            fields.append(f"{name}: {', '.join(addresses)}".encode())
    content = b"\r\n".join(draw(st.permutations(fields))) + b"\r\n" + written(draw(TREES), count())
    return content, envelope, {plain(address) for address in to + cc}


@settings(max_examples=150, deadline=None, database=None)
@given(deliveries())
def test_union_over_the_calls_is_the_envelope_and_nobody_hidden_is_seen(delivery):
    """Each envelope recipient stands once in all calls; one that To and Cc do not show is seen by itself alone."""
    content, envelope, shown = delivery
    found = rendered(content, *envelope, accept=EVERYTHING)
    assert isinstance(found, Rendering), found
    messages = [json.loads(call.body) for call in found.requests]
    entries = [entry for message in messages for entry in message["to"]]

    assert Counter(a for call in found.requests for a in call.recipients) == Counter(envelope)
    assert Counter(plain(a) for entry in entries for a in everybody(entry)) == Counter(map(plain, envelope))
    for entry in entries:
        visible = [entry["email"], *(copy["email"] for copy in entry.get("cc", ()))]
        hidden = [address for address in visible if plain(address) not in shown]
        assert not hidden or everybody(entry) == hidden
    for message in messages:
        head = {name.lower() for name in message.get("headers", {})}
        assert not head & {"to", "cc", "bcc", "resent-bcc", "received"}
        rest = plain(json.dumps({key: value for key, value in message.items() if key != "to"}))
        assert "mx.example" not in rest
        assert "trace.example" not in rest


@settings(max_examples=60, deadline=None, database=None)
@given(st.integers(0, 120), st.integers(0, 700))
def test_lists_keep_the_vendors_limits(visible, hidden):
    """50 entries a cc or bcc list, 500 recipients a call."""
    shown = [f"v{n}@mx.example" for n in range(visible)]
    secret = [f"h{n}@mx.example" for n in range(hidden)]
    content = f"From: app@example.org\r\nTo: {', '.join(shown)}\r\nSubject: x\r\n\r\nx\r\n".encode()
    found = calls(content, *shown, *secret)

    for message in found:
        assert sum(len(everybody(entry)) for entry in message["to"]) <= RECIPIENTS
        for entry in message["to"]:
            assert len(entry.get("cc", ())) <= COPIES
            assert len(entry.get("bcc", ())) <= COPIES
    assert sum(len(everybody(entry)) for message in found for entry in message["to"]) == visible + hidden


def everybody(entry: dict) -> list[str]:
    return [entry["email"], *(copy["email"] for copy in (*entry.get("cc", ()), *entry.get("bcc", ())))]
