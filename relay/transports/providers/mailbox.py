"""What APIs of mailboxes have in common: they take the message's bytes and read the recipients from its header.

In: a message and its envelope. Out: the base of their adapters; copies in which To, Cc and Bcc together are exactly the
envelope's recipients; a Refusal. Pure. To, Cc and Bcc are always written anew, so that the vendor's parser and ours
cannot disagree about who is named; every other octet stays. Bcc is taken out by the vendor before anybody sees it.
Sources: RFC 5322 §3.6.3 and §3.4, RFC 2047.
"""

from __future__ import annotations

import base64
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

from pydantic import Field

from relay.mail.address import ascii_form
from relay.mail.message import header_block, header_fields
from relay.mail.mime import Mailbox, parse_mailboxes, raw_text
from relay.mail.outcome import Outcome
from relay.mail.parts import Loss, Parts
from relay.mail.reply import reply
from relay.ports import DeliveryRequest
from relay.transports.providers.base import (
    Capabilities,
    HttpRequest,
    HttpResponse,
    Provider,
    ProviderOptions,
    Refusal,
    Rendering,
    refusal_for,
)
from relay.transports.providers.raw import refused_raw, without_fields
from relay.transports.providers.structured import Copy, refused_author
from relay.transports.providers.visibility import Visibility, visibility

# Name recipients, or are true only of the bytes as they were.
_REPLACED: Final = frozenset(("to", "cc", "apparently-to", "return-path", "dkim-signature", "domainkey-signature"))
_RESENT: Final = frozenset(("resent-to", "resent-cc"))
_WORD_OCTETS: Final = 45  # in base64 within the 75 characters of RFC 2047 §2
_LONGEST_QUOTED: Final = 200


class MailboxOptions(ProviderOptions):
    """What every API of mailboxes has."""

    accept: tuple[Loss, ...] = Field(
        (Loss.VISIBLE_RECIPIENTS,), description="What a message may lose here without being refused"
    )


class MailboxApi(Provider):
    """One call a copy, one outcome for everybody in it."""

    wants_token: ClassVar[bool] = True

    def __init__(self, options: MailboxOptions, base_url: str, senders: Sequence[str]) -> None:
        """`senders`: whose mail alone goes this way; empty: anybody's."""
        super().__init__(options, base_url)
        self.addressing = options
        self.senders = senders

    @property
    def takes(self) -> Capabilities:
        """What it takes with the options it has."""
        return self.capabilities

    @abstractmethod
    def call(self, author: str, recipients: tuple[str, ...], octets: bytes) -> HttpRequest | Refusal:
        """What carries one copy."""

    @abstractmethod
    def outcome(self, response: HttpResponse) -> Outcome:
        """One for all: the call is taken whole or not at all."""

    def render(self, request: DeliveryRequest, content: bytes) -> Rendering | Refusal:
        found = addressed(self.title, self.takes, self.addressing, request, content, self.senders)
        if isinstance(found, Refusal):
            return found
        calls = []
        for copy, octets in found.copies:
            call = self.call(found.author, copy.recipients, octets)
            if isinstance(call, Refusal):
                return call
            calls.append(call)
        return Rendering(tuple(calls), found.losses)

    def authorise(self, request: HttpRequest, api_key: str, now: float) -> Mapping[str, str]:
        return {"Authorization": f"Bearer {api_key}"}

    def read(self, response: HttpResponse, request: HttpRequest) -> Mapping[str, Outcome]:
        return dict.fromkeys(request.recipients, self.outcome(response))


def mailbox_capabilities(
    message_octets: int, recipients_per_call: int, asked: Literal["no", "option"] = "no"
) -> Capabilities:
    """Nothing of the message is lost, and nothing is told apart by recipient."""
    return Capabilities(
        raw_mime=True,
        separate_envelope=False,
        envelope_sender=False,
        attachment_octets=0,
        message_octets=message_octets,
        recipients_per_call=recipients_per_call,
        per_recipient_result=False,
        custom_headers=True,
        tags=False,
        inline_images=True,
        idempotency=False,
        tracking="none",
        smtputf8=False,
        sender="verified address",
        dkim="replaced",
        asked=asked,
    )


def author_of(content: bytes) -> str:
    """The one author's address, or `""`."""
    return _Named(content).author


@dataclass(frozen=True, slots=True)
class Addressed:
    """A message ready to go: `copies` of recipients, each with the octets that reach it; accepted losses."""

    author: str
    copies: tuple[tuple[Copy, bytes], ...]
    losses: frozenset[Loss]


def addressed(
    title: str,
    can: Capabilities,
    options: ProviderOptions,
    request: DeliveryRequest,
    content: bytes,
    senders: Collection[str] = (),
) -> Addressed | Refusal:
    """`senders`: whose mail alone goes this way; empty: anybody's."""
    names = _Named(content)
    refusal = _refused_author(title, names, senders)
    if refusal is not None:
        return refusal
    rest = without_fields(content, {*_REPLACED, *_RESENT, *(name.lower() for name in options.withhold_headers)})
    refusal = refused_raw(title, request, can, len(rest))
    if refusal is not None:
        return refusal
    seen = visibility((recipient.address for recipient in request.recipients), names.parts())
    copies = tuple(_copies(seen, can.recipients_per_call))
    withheld = {name.lower() for name in options.withhold_headers}
    losses = frozenset(_losses(names, seen, len(copies), withheld))
    refusal = refusal_for(title, losses, options.accept)
    if refusal is not None:
        return refusal
    # On top: behind a line that is no field some parsers read no further.
    made = [(copy, _fields(copy) + rest) for copy in copies]
    for _, octets in made:
        refusal = refused_raw(title, request, can, len(octets))
        if refusal is not None:
            return refusal
    return Addressed(names.author, tuple(made), losses)


class _Named:
    """The people a header names."""

    def __init__(self, content: bytes) -> None:
        self.clean = True
        self.resent = False
        self._authors: list[Mailbox] = []
        self._from_fields = 0
        self._to: tuple[Mailbox, ...] = ()
        self._cc: tuple[Mailbox, ...] = ()
        for field in header_fields(header_block(content)):
            self._read(field.name, field.value)

    def _read(self, name: str, value: bytes) -> None:
        if name in _RESENT:
            self.resent = True
        if name not in ("from", "to", "cc"):
            return
        text, readable = raw_text(value)
        found, clean = parse_mailboxes(text)
        if name == "from":
            self._from_fields += 1
            self._authors += found
            return
        self.clean = self.clean and readable and clean
        if name == "to":
            self._to += found
        else:
            self._cc += found

    @property
    def author(self) -> str:
        """The one author's address, or `""`."""
        alone = self._from_fields == 1 and len(self._authors) == 1
        return self._authors[0].address if alone else ""

    def parts(self) -> Parts:
        return Parts(None, tuple(self._authors), (), self._to, self._cc, (), None, None, None, (), frozenset())


def _refused_author(title: str, names: _Named, senders: Collection[str]) -> Refusal | None:
    if not names.author:
        return Refusal(reply(550, "5.6.0", f"{title} needs one From address, and the message has none or several"))
    return refused_author(title, names.author, senders)


def _copies(seen: Visibility, most: int) -> Iterator[Copy]:
    """Every recipient once. Who is seen together stays together, and hidden ones join while there is room."""
    visible = [(one, True) for one in seen.to] + [(one, False) for one in seen.cc]
    hidden = list(seen.hidden)
    for start in range(0, len(visible), most):
        group = visible[start : start + most]
        room = most - len(group)
        to = tuple(one for one, in_to in group if in_to)
        cc = tuple(one for one, in_to in group if not in_to)
        yield Copy(to, cc, tuple(hidden[:room]))
        del hidden[:room]
    for start in range(0, len(hidden), most):
        yield Copy((), (), tuple(hidden[start : start + most]))


def _losses(names: _Named, seen: Visibility, copies: int, withheld: Collection[str]) -> Iterator[Loss]:
    if seen.unreached or (copies > 1 and (seen.to or seen.cc)):
        yield Loss.VISIBLE_RECIPIENTS
    if not names.clean:
        yield Loss.HEADER_VALUE
    if names.resent and not _RESENT.issubset(withheld):
        yield Loss.RESERVED_HEADER


def _fields(copy: Copy) -> bytes:
    """To, Cc and Bcc of one copy, as far as somebody stands there."""
    hidden = tuple(Mailbox(address) for address in copy.bcc)
    named = (("To", copy.to), ("Cc", copy.cc), ("Bcc", hidden))
    return b"".join(_field(name, mailboxes) for name, mailboxes in named if mailboxes)


def _field(name: str, mailboxes: Sequence[Mailbox]) -> bytes:
    return f"{name}: {f',{chr(13)}{chr(10)} '.join(map(_mailbox, mailboxes))}\r\n".encode("ascii")


def _mailbox(mailbox: Mailbox) -> str:
    """In ASCII, no line above the 78 characters RFC 5322 asks for but where an address or word is long."""
    address = ascii_form(mailbox.address)
    if not mailbox.name:
        return address
    if mailbox.name.isascii() and len(mailbox.name) <= _LONGEST_QUOTED:
        name = mailbox.name.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{name}"\r\n <{address}>' if len(name) + len(address) > 60 else f'"{name}" <{address}>'
    words = "\r\n ".join(_encoded_words(mailbox.name))
    return f"{words}\r\n <{address}>"


def _encoded_words(text: str) -> Iterator[str]:
    """RFC 2047 §2, no character cut in two."""
    piece = b""
    for character in text:
        octets = character.encode("utf-8", "replace")
        if len(piece) + len(octets) > _WORD_OCTETS:
            yield _encoded_word(piece)
            piece = b""
        piece += octets
    yield _encoded_word(piece)


def _encoded_word(octets: bytes) -> str:
    return f"=?utf-8?B?{base64.b64encode(octets).decode('ascii')}?="
