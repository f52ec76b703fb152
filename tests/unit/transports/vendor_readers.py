"""Readers of the vendors' request formats, and of MIME, that share no code with what writes them.

In: one call as it goes out. Out: one `Seen` for each message the vendor would make of it. MIME is read by the email
package, JSON by the field names of the vendors' references. A reader knows its format and nothing of the relay.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.utils import getaddresses
from typing import Any

Person = tuple[str, str]
"""Name and address."""


@dataclass(frozen=True)
class Leaf:
    """A part that is no multipart. `name`, `cid` and `charset` are empty where there is none."""

    kind: str
    data: bytes
    name: str = ""
    cid: str = ""
    charset: str = ""


@dataclass
class Seen:
    """One message as somebody sees it; `bcc` and `envelope` are for the vendor alone."""

    sender: list[Person] = field(default_factory=list)
    subject: str = ""
    reply_to: list[Person] = field(default_factory=list)
    to: list[Person] = field(default_factory=list)
    cc: list[Person] = field(default_factory=list)
    bcc: list[str] = field(default_factory=list)
    bodies: dict[str, str] = field(default_factory=dict)
    files: list[Leaf] = field(default_factory=list)
    headers: list[tuple[str, str]] = field(default_factory=list)
    raw: bytes | None = None

    @property
    def everybody(self) -> list[str]:
        return [address for _, address in (*self.to, *self.cc)] + self.bcc


# --- MIME --------------------------------------------------------------------------------------------------


def read_header(value: str) -> str:
    value = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    try:
        text = str(make_header(decode_header(value)))
    except (HeaderParseError, LookupError, ValueError):
        text = value
    return " ".join(text.split())


def fields(message: Message, name: str) -> list[str]:
    """Raw values, unfolded."""
    return [
        value.replace("\r", "").replace("\n", "") for each, value in message.raw_items() if each.lower() == name.lower()
    ]


def people(values: Iterable[str]) -> list[Person]:
    plain = [value.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for value in values]
    return [(read_header(name), address) for name, address in getaddresses(plain)]


def leaves(message: Message) -> list[tuple[Message, Leaf]]:
    """Every part that holds octets, in order; an attached message is one, and is not looked into."""
    if message.get_content_maintype() == "message":
        return [(message, Leaf(message.get_content_type(), b""))]
    if message.is_multipart():
        return [found for part in message.get_payload() for found in leaves(part)]
    if "Content-Transfer-Encoding" in message:  # the email package knows none with a space behind it
        message.replace_header("Content-Transfer-Encoding", str(message["Content-Transfer-Encoding"]).strip())
    data = message.get_payload(decode=True) or b""
    name = filename(message)
    cid = (message.get("Content-ID") or "").strip().removeprefix("<").removesuffix(">")
    charset = str(message.get_content_charset() or "")
    return [(message, Leaf(message.get_content_type(), data, read_header(name), cid, charset))]


def filename(part: Message) -> str:
    """The email package loses what is beyond ASCII where it read octets; from text it does not."""
    again = Message()
    for each in ("Content-Disposition", "Content-Type"):
        for value in fields(part, each):
            again[each] = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return again.get_filename() or ""


def defects(message: Message) -> bool:
    return bool(message.defects) or any(
        defects(part) for part in (message.get_payload() if message.is_multipart() else ())
    )


def parsed(content: bytes) -> Message:
    return message_from_bytes(content)


# --- JSON --------------------------------------------------------------------------------------------------


def _one(found: dict[str, Any] | None, address: str = "email", name: str = "name") -> list[Person]:
    return [(found.get(name, ""), found[address])] if found else []


def _all(found: list[dict[str, Any]] | None, address: str = "email", name: str = "name") -> list[Person]:
    return [(each.get(name, ""), each[address]) for each in found or ()]


def _text(found: str | None) -> list[Person]:
    return getaddresses([found]) if found else []


def _texts(found: list[str] | None) -> list[Person]:
    return [person for each in found or () for person in getaddresses([each])]


def _addresses(found: list[Person]) -> list[str]:
    return [address for _, address in found]


def _file(found: dict[str, Any], content: str, name: str, kind: str = "", cid: str = "") -> Leaf:
    data = base64.b64decode(found[content], validate=True)
    number = str(found.get(cid, "") or "").removeprefix("cid:") if cid else ""
    given, _, charset = (found[kind] if kind else "").partition("; charset=")
    return Leaf(given, data, found[name], number, charset)


def _bodies(found: dict[str, Any], text: str, html: str, amp: str = "") -> dict[str, str]:
    kinds = {"text/plain": text, "text/html": html, "text/x-amp-html": amp}
    return {kind: found[key] for kind, key in kinds.items() if key and key in found}


def sendpost(body: bytes, kind: str) -> list[Seen]:
    message = json.loads(body)
    return [
        Seen(
            _one(message["from"]),
            message["subject"],
            _one(message.get("replyTo")),
            _one(entry),
            _all(entry.get("cc")),
            _addresses(_all(entry.get("bcc"))),
            _bodies(message, "textBody", "htmlBody", "ampBody"),
            [_file(each, "content", "filename") for each in message.get("attachments", ())],
            list(message.get("headers", {}).items()),
        )
        for entry in message["to"]
    ]


def sendgrid(body: bytes, kind: str) -> list[Seen]:
    message = json.loads(body)
    return [
        Seen(
            _one(message["from"]),
            message["subject"],
            _one(message.get("reply_to")) + _all(message.get("reply_to_list")),
            _all(copy["to"]),
            _all(copy.get("cc")),
            _addresses(_all(copy.get("bcc"))),
            {each["type"]: each["value"] for each in message["content"]},
            [_file(each, "content", "filename", "type", "content_id") for each in message.get("attachments", ())],
            list(message.get("headers", {}).items()),
        )
        for copy in message["personalizations"]
    ]


def postmark(body: bytes, kind: str) -> list[Seen]:
    found = json.loads(body)
    return [
        Seen(
            _text(message["From"]),
            message["Subject"],
            _text(message.get("ReplyTo")),
            _text(message["To"]),
            _text(message.get("Cc")),
            _addresses(_text(message.get("Bcc"))),
            _bodies(message, "TextBody", "HtmlBody"),
            [_file(each, "Content", "Name", "ContentType", "ContentID") for each in message.get("Attachments", ())],
            [(each["Name"], each["Value"]) for each in message["Headers"] if each["Name"] != "X-PM-KeepID"],
        )
        for message in (found if isinstance(found, list) else [found])
    ]


def resend(body: bytes, kind: str) -> list[Seen]:
    message = json.loads(body)
    files = message.get("attachments", ())
    return [
        Seen(
            _text(message["from"]),
            message["subject"],
            _texts(message.get("reply_to")),
            _texts(message["to"]),
            _texts(message.get("cc")),
            message.get("bcc", []),
            _bodies(message, "text", "html"),
            [_file(each, "content", "filename", "content_type", "content_id") for each in files],
            list(message.get("headers", {}).items()),
        )
    ]


def brevo(body: bytes, kind: str) -> list[Seen]:
    message = json.loads(body)
    return [
        Seen(
            _one(message["sender"]),
            message["subject"],
            _one(message.get("replyTo")),
            _all(message["to"]),
            _all(message.get("cc")),
            _addresses(_all(message.get("bcc"))),
            _bodies(message, "textContent", "htmlContent"),
            [_file(each, "content", "name") for each in message.get("attachment", ())],
            [pair for pair in message["headers"].items() if pair[0] != "idempotencyKey"],
        )
    ]


def mailjet(body: bytes, kind: str) -> list[Seen]:
    keys = ("Base64Content", "Filename", "ContentType")
    return [
        Seen(
            _one(message["From"], "Email", "Name"),
            message["Subject"],
            _one(message.get("ReplyTo"), "Email", "Name"),
            _all(message["To"], "Email", "Name"),
            _all(message.get("Cc"), "Email", "Name"),
            _addresses(_all(message.get("Bcc"), "Email")),
            _bodies(message, "TextPart", "HTMLPart"),
            [_file(each, *keys) for each in message.get("Attachments", ())]
            + [_file(each, *keys, "ContentID") for each in message.get("InlinedAttachments", ())],
            list(message.get("Headers", {}).items()),
        )
        for message in json.loads(body)["Messages"]
    ]


def sendarix(body: bytes, kind: str) -> list[Seen]:
    message = json.loads(body)
    headers = message.get("headers", {})
    return [
        Seen(
            _text(message["from"]),
            message["subject"],
            _text(headers.pop("Reply-To", "")),
            [("", message["recipient"])],
            bodies=_bodies(message, "text", "html"),
            headers=list(headers.items()),
        )
    ]


def sendx(body: bytes, kind: str) -> list[Seen]:
    message = json.loads(body)
    bodies = _bodies(message, "textBody", "htmlBody")
    if bodies["text/html"] == "<pre></pre>" or ("text/plain" in bodies and bodies["text/html"].startswith("<pre>")):
        del bodies["text/html"]  # a page is demanded: this one is made of the text
    return [
        Seen(
            _one(message["from"]),
            message["subject"],
            _one(message.get("replyTo")),
            _one(entry),
            [("", address) for address in entry.get("cc", ())],
            entry.get("bcc", []),
            bodies,
            headers=list(message.get("headers", {}).items()),
        )
        for entry in message["to"]
    ]


def sendios(body: bytes, kind: str) -> list[Seen]:
    message = json.loads(body)
    data = message["data"]
    bodies = {kind: text for kind, text in _bodies(data, "relay_text", "relay_html").items() if text}
    return [Seen([], data["relay_subject"], to=[(data["user"]["name"], message["email"])], bodies=bodies)]


def sendlio(body: bytes, kind: str) -> list[Seen]:
    """An audience, and a campaign for it."""
    query, message = json.loads(body)
    [clause] = query["clauses"]
    assert message["audience_id"] == 16
    [block] = message["blocks"]
    page = block["code"].replace("&#64;", "@").replace("&#123;", "{")
    text = re.fullmatch(r'<pre style="white-space:pre-wrap">(.*)</pre>', page, re.DOTALL)
    bodies = {"text/plain": html.unescape(text[1])} if text else {"text/html": page}
    return [Seen([], message["subject"].strip(), to=[("", clause["value"])], bodies=bodies)]


def http(body: bytes, kind: str) -> list[Seen]:
    """As the template of the kind's example says."""
    message = json.loads(body)
    files = message.get("attachments", ())
    return [
        Seen(
            _one(message["from"]),
            message.get("subject", ""),
            _one(message.get("reply_to")),
            _all(message["to"]),
            _all(message.get("cc")),
            _addresses(_all(message.get("bcc"))),
            _bodies(message, "text", "html"),
            [_file(each, "content", "name", "type", "content_id") for each in files],
            list(message.get("headers", {}).items()),
        )
    ]


# --- raw ---------------------------------------------------------------------------------------------------


def mailgun(body: bytes, kind: str) -> list[Seen]:
    """The form is read by the email package; its file part is cut out of the octets, for that may hold any."""
    boundary = b"--" + kind.partition("boundary=")[2].encode()
    head, mark, rest = body.partition(b'name="message"; filename="message.eml"\r\nContent-Type: message/rfc822\r\n\r\n')
    assert mark
    raw, last, end = rest.rpartition(b"\r\n" + boundary + b"--")
    assert last
    assert end == b"\r\n"
    pieces = [piece.partition(b"\r\n\r\n") for piece in head.split(boundary + b"\r\n")[1:-1]]
    to = [value.removesuffix(b"\r\n").decode() for name, _, value in pieces if b'name="to"' in name]
    return [Seen(bcc=to, raw=raw)]


def ses(body: bytes, kind: str) -> list[Seen]:
    message = json.loads(body)
    destination = message["Destination"]
    assert set(destination) == {"ToAddresses"}
    return [Seen(bcc=destination["ToAddresses"], raw=base64.b64decode(message["Content"]["Raw"]["Data"]))]


def sparkpost(body: bytes, kind: str) -> list[Seen]:
    message = json.loads(body)
    to = [each["address"]["email"] for each in message["recipients"]]
    return [Seen(bcc=to, raw=message["content"]["email_rfc822"].encode())]


def _mailbox(raw: bytes) -> list[Seen]:
    """An API that reads the recipients from the header, and takes Bcc out."""
    message = parsed(raw)
    to, cc, bcc = (people(fields(message, name)) for name in ("to", "cc", "bcc"))
    return [Seen(to=to, cc=cc, bcc=_addresses(bcc), raw=raw)]


def gmail(body: bytes, kind: str) -> list[Seen]:
    """In base64url, or as it is."""
    return _mailbox(body if kind == "message/rfc822" else base64.urlsafe_b64decode(json.loads(body)["raw"]))


def graph(body: bytes, kind: str) -> list[Seen]:
    return _mailbox(base64.b64decode(body, validate=True))


READERS: dict[str, Callable[[bytes, str], list[Seen]]] = {
    "brevo": brevo,
    "gmail": gmail,
    "graph": graph,
    "http": http,
    "mailgun": mailgun,
    "mailjet": mailjet,
    "postmark": postmark,
    "resend": resend,
    "sendarix": sendarix,
    "sendgrid": sendgrid,
    "sendios": sendios,
    "sendlio": sendlio,
    "sendpost": sendpost,
    "sendx": sendx,
    "ses": ses,
    "sparkpost": sparkpost,
}
