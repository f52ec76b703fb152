"""What the placeholders of an operator's template stand for.

In: a message taken apart, or its bytes alone, with its envelope and one copy of its recipients. Out: a value for each
placeholder that is used, ABSENT where there is nothing to say. Pure; only what a template uses is computed.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from relay.mail.address import ascii_form
from relay.mail.mime import Mailbox
from relay.mail.parts import Attachment, Parts
from relay.ports import DeliveryRequest
from relay.transports.providers.base import key_of
from relay.transports.providers.filenames import name_for
from relay.transports.providers.structured import Copy, encoded, written
from relay.transports.providers.template import ABSENT, fill

MAILBOX: Final = frozenset(("email", "name", "mailbox"))
ATTACHMENT: Final = frozenset(("filename", "content", "type", "content_id", "disposition"))
FIELD: Final = frozenset(("name", "value"))
_NO_KEY: Final = re.compile(r"[^A-Za-z0-9_.:-]+")
_LONGEST_KEY: Final = 100


@dataclass(frozen=True, slots=True)
class Shapes:
    """How one mailbox, one attachment and one header field are written; `header` is None for an object of all."""

    address: Any
    attachment: Any
    header: Any


@dataclass(frozen=True, slots=True)
class File:
    """A part of a multipart form that has a file name."""

    filename: str
    content_type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Mail:
    """One message. `parts` is None where it goes as it is. `headers` are the fields to hand over."""

    request: DeliveryRequest
    content: bytes = field(repr=False)
    parts: Parts | None
    headers: tuple[tuple[str, str], ...]
    shapes: Shapes
    split_inline: bool

    @property
    def taken(self) -> Parts:
        assert self.parts is not None  # placeholders of parts are refused beside the raw message
        return self.parts

    def attachments(self, *, inline: bool) -> list[tuple[Attachment, str]]:
        """With a name each. Where the template has a place for inline parts, they stand there alone."""
        numbered = [(item, name_for(item, number)) for number, item in enumerate(self.taken.attachments, 1)]
        apart = self.split_inline
        return [(item, name) for item, name in numbered if (apart and _shown(item)) == inline]


def _shown(item: Attachment) -> bool:
    return item.inline and bool(item.content_id)


def _some(value: Any) -> Any:
    """Nothing to say is ABSENT."""
    return ABSENT if value is None or value in ("", [], {}) else value


def _words(mailbox: Mailbox) -> dict[str, Any]:
    return {"email": ascii_form(mailbox.address), "name": _some(mailbox.name), "mailbox": written(mailbox)}


def _shaped(shapes: Shapes, mailboxes: Sequence[Mailbox]) -> Any:
    return _some([fill(shapes.address, _words(mailbox)) for mailbox in mailboxes])


def _file_words(item: Attachment, name: str) -> dict[str, Any]:
    return {
        "filename": name,
        "content": encoded(item),
        "type": item.content_type,
        "content_id": _some(item.content_id if _shown(item) else ""),
        "disposition": "inline" if _shown(item) else "attachment",
    }


def _listed(mail: Mail, *, inline: bool) -> Any:
    found = mail.attachments(inline=inline)
    return _some([fill(mail.shapes.attachment, _file_words(item, name)) for item, name in found])


def _files(mail: Mail, *, inline: bool) -> Any:
    found = mail.attachments(inline=inline)
    return _some([File(item.content_id if inline else name, item.content_type, item.content) for item, name in found])


def _fields(mail: Mail) -> Any:
    if mail.shapes.header is None:
        return _some(dict(mail.headers))
    return _some([fill(mail.shapes.header, {"name": name, "value": value}) for name, value in mail.headers])


def _reply_to(mail: Mail) -> Any:
    return fill(mail.shapes.address, _words(mail.taken.reply_to[0])) if mail.taken.reply_to else ABSENT


def _of(mailboxes: Sequence[Mailbox], word: str) -> Any:
    return _words(mailboxes[0])[word] if mailboxes else ABSENT


def _switch(value: bool | None) -> Any:
    return ABSENT if value is None else value


def _sender(mail: Mail) -> Any:
    return _some(ascii_form(mail.request.reverse_path) if mail.request.reverse_path else "")


def _key(mail: Mail, copy: Copy) -> str:
    """The same for the same recipients only: under one key an API takes one body."""
    digest = hashlib.blake2b("\n".join(copy.recipients).encode("utf-8"), digest_size=8).hexdigest()
    return f"{_NO_KEY.sub('_', key_of(mail.request))[:_LONGEST_KEY]}-{digest}"


# --- placeholders by name ----------------------------------------------------------------------------------

_FromMail = Callable[[Mail], Any]
_FromCopy = Callable[[Mail, Copy], Any]

# Of the message's bytes or its envelope.
ENVELOPE: Final[dict[str, _FromMail]] = {
    "id": lambda mail: mail.request.message_id,
    "sender": _sender,
    "tag": lambda mail: _some(next(iter(mail.request.directives.tags), "")),
    "tags": lambda mail: _some(list(mail.request.directives.tags)),
    "metadata": lambda mail: _some(dict(mail.request.directives.metadata)),
    "track_opens": lambda mail: _switch(mail.request.directives.track_opens),
    "track_clicks": lambda mail: _switch(mail.request.directives.track_clicks),
}
RAW: Final[dict[str, _FromMail]] = {
    "raw": lambda mail: base64.b64encode(mail.content).decode("ascii"),
    "raw.url": lambda mail: base64.urlsafe_b64encode(mail.content).decode("ascii"),
    "raw.file": lambda mail: [File("message.eml", "message/rfc822", mail.content)],
}
# Of the message taken apart.
PARTS: Final[dict[str, _FromMail]] = {
    "from": lambda mail: fill(mail.shapes.address, _words(mail.taken.from_[0])),
    "from.email": lambda mail: _of(mail.taken.from_, "email"),
    "from.name": lambda mail: _of(mail.taken.from_, "name"),
    "from.mailbox": lambda mail: _of(mail.taken.from_, "mailbox"),
    "reply_to": _reply_to,
    "reply_to.email": lambda mail: _of(mail.taken.reply_to, "email"),
    "reply_to.mailbox": lambda mail: _of(mail.taken.reply_to, "mailbox"),
    "reply_to.list": lambda mail: _shaped(mail.shapes, mail.taken.reply_to),
    "subject": lambda mail: mail.taken.subject or "",
    "text": lambda mail: mail.taken.text or (ABSENT if mail.taken.html else "\r\n"),
    "html": lambda mail: _some(mail.taken.html),
    "amp": lambda mail: _some(mail.taken.amp),
    "headers": _fields,
    "attachments": lambda mail: _listed(mail, inline=False),
    "attachments.files": lambda mail: _files(mail, inline=False),
    "inline": lambda mail: _listed(mail, inline=True),
    "inline.files": lambda mail: _files(mail, inline=True),
}
COPY: Final[dict[str, _FromCopy]] = {
    "idempotency_key": _key,
    "recipient": lambda mail, copy: fill(mail.shapes.address, _words(copy.to[0])),
    "recipient.email": lambda mail, copy: _of(copy.to, "email"),
    "recipient.name": lambda mail, copy: _of(copy.to, "name"),
    "recipient.mailbox": lambda mail, copy: _of(copy.to, "mailbox"),
    "recipients": lambda mail, copy: _shaped(mail.shapes, copy.to),
    "recipients.emails": lambda mail, copy: _emails(copy.to),
    "to": lambda mail, copy: _shaped(mail.shapes, copy.to),
    "to.emails": lambda mail, copy: _emails(copy.to),
    "cc": lambda mail, copy: _shaped(mail.shapes, copy.cc),
    "cc.emails": lambda mail, copy: _emails(copy.cc),
    "bcc": lambda mail, copy: _shaped(mail.shapes, _plain(copy.bcc)),
    "bcc.emails": lambda mail, copy: _emails(_plain(copy.bcc)),
}
FILES: Final = frozenset(name for name in (*RAW, *PARTS) if name.endswith((".file", ".files")))
# Lists and objects, which cannot stand inside other text; lists of plain words can.
SINGLE: Final = FILES | {
    "from", "reply_to", "reply_to.list", "recipient", "recipients", "to", "cc", "bcc", "headers", "metadata",
    "attachments", "inline",
}  # fmt: skip
PLACEHOLDERS: Final = frozenset((*ENVELOPE, *RAW, *PARTS, *COPY))


def _plain(addresses: Sequence[str]) -> tuple[Mailbox, ...]:
    return tuple(Mailbox(address) for address in addresses)


def _emails(mailboxes: Sequence[Mailbox]) -> Any:
    return _some([ascii_form(mailbox.address) for mailbox in mailboxes])


def values_of(mail: Mail, used: Collection[str]) -> dict[str, Any]:
    """What is the same in every copy."""
    known = {**ENVELOPE, **RAW, **PARTS}
    return {name: known[name](mail) for name in used if name in known}


def values_for(mail: Mail, copy: Copy, used: Collection[str], common: Mapping[str, Any]) -> dict[str, Any]:
    """`common` and what is of this copy alone."""
    return {**common, **{name: COPY[name](mail, copy) for name in used if name in COPY}}
