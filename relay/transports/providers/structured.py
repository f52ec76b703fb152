"""What providers with a JSON message have in common: who stands where, which fields go along, what is lost.

In: parts of a message and its envelope recipients. Out: copies in which every recipient stands exactly once, header
fields, losses, a Refusal for what no such API can take. Pure.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from relay.mail.address import ascii_form, comparable, parse_address
from relay.mail.errors import AddressSyntaxError
from relay.mail.mime import Mailbox
from relay.mail.parts import Attachment, Loss, Parts, take_apart
from relay.mail.reply import printable, reply
from relay.ports import DeliveryRequest
from relay.transports.providers.base import Capabilities, ProviderOptions, Refusal, refusal_for
from relay.transports.providers.filenames import name_for, type_of
from relay.transports.providers.visibility import Visibility, visibility


@dataclass(frozen=True, slots=True)
class Copy:
    """One message at the vendor. Its recipients see `to` and `cc`."""

    to: tuple[Mailbox, ...]
    cc: tuple[Mailbox, ...] = ()
    bcc: tuple[str, ...] = ()

    @property
    def recipients(self) -> tuple[str, ...]:
        return (*(one.address for one in self.to), *(one.address for one in self.cc), *self.bcc)


def copies_of(seen: Visibility, most: int) -> tuple[Copy, ...]:
    """Every recipient once, at most `most` a copy. Who is seen together stays together; somebody has to be in To."""
    to, cc = (seen.to, seen.cc) if seen.to else (seen.cc[:1], seen.cc[1:])
    visible = [(one, True) for one in to] + [(one, False) for one in cc]
    hidden = list(seen.hidden)
    copies = []
    for start in range(0, len(visible), most):
        group = visible[start : start + most]
        shown = tuple(one for one, in_to in group if in_to) or (group[0][0],)
        beside = tuple(one for one, in_to in group if not in_to and one not in shown)
        room = most - len(group)
        copies.append(Copy(shown, beside, tuple(hidden[:room])))
        del hidden[:room]
    # Nobody may see them, and they see nobody.
    return (*copies, *(Copy((Mailbox(address),)) for address in hidden))


def recipient_losses(seen: Visibility, copies: Sequence[Copy]) -> Iterator[Loss]:
    visible = (*seen.to, *seen.cc)
    shown_alone = len(copies) > 1 or not visible
    if seen.unreached or (visible and len(copies) > 1):
        yield Loss.VISIBLE_RECIPIENTS
    if (seen.hidden and shown_alone) or (seen.cc and not seen.to) or len(visible) > len(copies[0].recipients):
        yield Loss.RECIPIENT_ROLE


@dataclass(frozen=True, slots=True)
class Says:
    """What an API can say of a message, beside its Capabilities.

    `commands`: beginnings of field names (lower case) it reads as commands. `reserved`: fields it refuses. `marks`:
    what it expands in texts. `typed`: an attachment's content type goes along; otherwise the name tells it. `charsets`:
    so does the charset of a text, as a parameter of its type. `one_to`: a
    copy has one addressee, and the others of To stand in Cc. `nameless`: whose display names it does not take; `beside`
    are all but the addressee.
    """

    recipients: int
    commands: tuple[str, ...] = ()
    reserved: frozenset[str] = frozenset()
    marks: tuple[str, ...] = ()
    amp: bool = False
    several_reply_to: bool = False
    typed: bool = True
    charsets: bool = False
    attachments: bool = True
    headers: bool = True
    one_to: bool = False
    nameless: Literal["none", "beside", "all"] = "none"


@dataclass(frozen=True, slots=True)
class Taken:
    """A message made ready for a JSON API; all of its losses are accepted."""

    parts: Parts
    copies: tuple[Copy, ...]
    headers: tuple[tuple[str, str], ...]
    losses: frozenset[Loss]


def take(
    title: str, can: Capabilities, says: Says, options: ProviderOptions, request: DeliveryRequest, content: bytes
) -> Taken | Refusal:
    """Raises MessageSyntaxError."""
    parts = take_apart(content)
    recipients = [recipient.address for recipient in request.recipients]
    refusal = refused(title, recipients, parts, can, len(content))
    if refusal is not None:
        return refusal
    if parts.attachments and not says.attachments:
        return Refusal(reply(550, "5.6.1", f"{title} takes no attachments"))
    seen = visibility(recipients, parts)
    copies = copies_of(seen, says.recipients)
    headers, lost = custom_headers(parts, options.withhold_headers, says.commands, says.reserved)
    if not says.headers and (headers or parts.reply_to):
        lost.add(Loss.CUSTOM_HEADER)
    if says.one_to and any(len(copy.to) > 1 for copy in copies):
        lost.add(Loss.RECIPIENT_ROLE)
    if any(one.name for copy in copies for one in _without_name(copy, says)):
        lost.add(Loss.RECIPIENT_NAME)
    losses = frozenset({*content_losses(parts, can, says), *recipient_losses(seen, copies), *lost})
    return refusal_for(title, losses, options.accept) or Taken(parts, copies, tuple(headers), losses)


def _without_name(copy: Copy, says: Says) -> Sequence[Mailbox]:
    shown = (*copy.to, *copy.cc)
    return {"none": (), "beside": shown[1:], "all": shown}[says.nameless]


def content_losses(parts: Parts, can: Capabilities, says: Says) -> set[Loss]:
    """What is lost of a message whoever gets it."""
    losses = set(parts.losses)
    if can.inline_images:
        losses.discard(Loss.INLINE_IMAGE)
    lost = {
        Loss.SEVERAL_FROM: len(parts.from_) > 1,
        Loss.SEVERAL_REPLY_TO: len(parts.reply_to) > 1 and not says.several_reply_to,
        Loss.ALTERNATIVE: parts.amp is not None and not says.amp,
        Loss.TEMPLATE_SYNTAX: _has_marks(parts, says.marks),
        Loss.ATTACHMENT_CHARSET: not says.charsets and any(needs_charset(item) for item in parts.attachments),
        Loss.ATTACHMENT_TYPE: not says.typed
        and any(type_of(name) != item.content_type for item, name in named(parts.attachments)),
    }
    return losses | {loss for loss, found in lost.items() if found}


def needs_charset(item: Attachment) -> bool:
    """Whether a reader who is not told the charset of a text will take it for another: UTF-8 is what most guess."""
    if not item.content_type.startswith("text/") or item.charset.lower() in ("", "us-ascii", "utf-8", "utf8"):
        return False
    return not item.content.isascii() or item.charset.lower().startswith(
        ("utf-16", "utf-32", "utf-7", "iso-2022", "hz")
    )


def _has_marks(parts: Parts, marks: tuple[str, ...]) -> bool:
    texts = (parts.subject, parts.html, parts.text, parts.amp)
    return any(text and mark in text for text in texts for mark in marks)


def custom_headers(
    parts: Parts, withheld: Collection[str], prefixes: tuple[str, ...] = (), reserved: Collection[str] = ()
) -> tuple[list[tuple[str, str]], set[Loss]]:
    """The fields to hand over, each name once. `prefixes` are commands at the vendor; `reserved` it refuses."""
    skipped = {name.lower() for name in withheld}
    headers: list[tuple[str, str]] = []
    names: set[str] = set()
    losses: set[Loss] = set()
    for name, value in parts.headers:
        key = name.lower()
        if key in skipped or (prefixes and key.startswith(prefixes)):
            continue
        if key in reserved:
            losses.add(Loss.RESERVED_HEADER)
        elif key in names:
            losses.add(Loss.REPEATED_HEADER)
        else:
            names.add(key)
            headers.append((name, value))
    return headers, losses


def refused(title: str, recipients: Sequence[str], parts: Parts, can: Capabilities, size: int) -> Refusal | None:
    """What no setting can accept: addresses and sizes the API refuses. `size`: octets of the whole message."""
    if not parts.from_:
        return Refusal(reply(550, "5.6.0", f"{title} needs a From address, and the message has none"))
    senders = [mailbox.address for mailbox in (*parts.from_[:1], *parts.reply_to)]
    refusal = refused_addresses(title, (*senders, *recipients))
    if refusal is not None:
        return refusal
    if can.attachment_octets and sum(len(item.content) for item in parts.attachments) > can.attachment_octets:
        return Refusal(reply(552, "5.3.4", f"{title} takes {can.attachment_octets} octets of attachments at most"))
    return refused_size(title, can, size)


def refused_author(title: str, author: str, senders: Collection[str]) -> Refusal | None:
    """`senders`: whose mail alone the account sends, in any spelling; empty: anybody's."""
    if senders and comparable(author) not in map(comparable, senders):
        return Refusal(reply(550, "5.7.1", printable(f"{title} sends for its `senders`, and not for {author}")))
    return None


def refused_size(title: str, can: Capabilities, size: int) -> Refusal | None:
    if can.message_octets and size > can.message_octets:
        return Refusal(reply(552, "5.3.4", f"{title} takes messages of {can.message_octets} octets at most"))
    return None


def refused_addresses(title: str, addresses: Sequence[str]) -> Refusal | None:
    """For APIs without SMTPUTF8."""
    for address in addresses:
        try:
            if parse_address(address).needs_smtputf8:
                return Refusal(reply(553, "5.6.7", f"{title} takes no local part beyond ASCII"))
        except AddressSyntaxError as error:
            return Refusal(reply(550, "5.6.0", printable(f"{title} cannot be given an address: {error}")))
    return None


def person(mailbox: Mailbox, address: str = "email", name: str = "name") -> dict[str, str]:
    """A mailbox as an object; `address` and `name` are the vendor's keys."""
    found = {address: ascii_form(mailbox.address)}
    if mailbox.name:
        found[name] = mailbox.name
    return found


def written(mailbox: Mailbox) -> str:
    """A mailbox as text (RFC 5322 §3.4), with the name as it is read."""
    address = ascii_form(mailbox.address)
    if not mailbox.name:
        return address
    name = mailbox.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{name}" <{address}>'


def encoded(item: Attachment) -> str:
    return base64.b64encode(item.content).decode("ascii")


def named(items: Sequence[Attachment]) -> Iterator[tuple[Attachment, str]]:
    """Attachments with a file name each."""
    for number, item in enumerate(items, 1):
        yield item, name_for(item, number)


def as_json(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


class _Addressed(Protocol):
    @property
    def recipients(self) -> tuple[str, ...]: ...


_C = TypeVar("_C", bound=_Addressed)


def batches(copies: Sequence[_C], recipients: int, messages: int) -> Iterator[list[_C]]:
    """Copies for one call: at most so many messages, and so many recipients in all."""
    batch: list[_C] = []
    size = 0
    for copy in copies:
        if batch and (size + len(copy.recipients) > recipients or len(batch) >= messages):
            yield batch
            batch, size = [], 0
        batch.append(copy)
        size += len(copy.recipients)
    if batch:
        yield batch
