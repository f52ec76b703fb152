"""What a peer offers and what we say to it: EHLO keywords in, command lines and message framing out. No I/O.

Sources: RFC 5321 §4.1.1, RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8), RFC 3461 (DSN),
RFC 4954 (AUTH), RFC 2920 (PIPELINING), RFC 6710 (MT-PRIORITY),
RFC 2852 (DELIVERBY), RFC 8689 (REQUIRETLS),
RFC 9422 (LIMITS), RFC 3030 (BDAT, BINARYMIME).
Raises ValueError for a command that would hold a line break.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from relay.mail.address import to_ascii_domain
from relay.mail.envelope import Recipient
from relay.mail.message import split_message
from relay.ports import DeliveryRequest, LongContent
from relay.transports.smtp_reply import PeerReply

CHUNK_OCTETS: Final = 131_072

_DOT_LINE = re.compile(rb"\r\n\.")
_LIMIT = re.compile(r"([A-Z]+)=([1-9][0-9]{0,5})")
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The extensions of RFC 5321 §4.1.1.1 that we can use. `size`: octets, 0 for no limit, None for not offered.

    `deliver_by`: the shortest time in seconds it takes a message to be returned after, None for not offered. `mails`
    a session, `rcpts` a transaction, and `rcpt_domains` a session are limits; 0 for none.
    """

    pipelining: bool = False
    starttls: bool = False
    eightbitmime: bool = False
    smtputf8: bool = False
    dsn: bool = False
    priority: bool = False
    deliver_by: int | None = None
    requiretls: bool = False
    binary: bool = False
    mails: int = 0
    rcpts: int = 0
    rcpt_domains: int = 0
    size: int | None = None
    auth: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, ehlo: PeerReply) -> Capabilities:
        """Read the reply to EHLO; its first line is a greeting, unknown keywords are stepped over."""
        words: dict[str, list[str]] = {}
        for line in ehlo.lines[1:]:
            # `AUTH=LOGIN` is how servers older than RFC 2554 spell it.
            keyword, *parameters = line[4:].decode("ascii", "replace").upper().replace("AUTH=", "AUTH ").split() or [""]
            words.setdefault(keyword, []).extend(parameters)
        limits = _limits(words["LIMITS"]) if "LIMITS" in words else {}
        return cls(
            mails=limits.get("MAILMAX", 0),
            rcpts=limits.get("RCPTMAX", 0),
            rcpt_domains=limits.get("RCPTDOMAINMAX", 0),
            pipelining="PIPELINING" in words,
            starttls="STARTTLS" in words,
            eightbitmime="8BITMIME" in words,
            smtputf8="SMTPUTF8" in words,
            dsn="DSN" in words,
            priority="MT-PRIORITY" in words,
            deliver_by=_size(words["DELIVERBY"]) if "DELIVERBY" in words else None,
            requiretls="REQUIRETLS" in words,
            binary="BINARYMIME" in words and "CHUNKING" in words,
            size=_size(words["SIZE"]) if "SIZE" in words else None,
            auth=frozenset(words.get("AUTH", ())),
        )


def _size(parameters: list[str]) -> int:
    digits = parameters[0].partition(",")[0] if parameters else ""
    return int(digits) if re.fullmatch("[0-9]{1,18}", digits) else 0


def _limits(parameters: list[str]) -> dict[str, int]:
    """RFC 9422 §3.7: what is unknown or malformed is no limit."""
    found = [_LIMIT.fullmatch(parameter) for parameter in parameters]
    return {match[1]: int(match[2]) for match in found if match}


def flight(commands: Sequence[str]) -> bytes:
    """Commands as they go over the wire. Raises ValueError when one of them holds CR, LF or NUL."""
    octets = ("\r\n".join(commands) + "\r\n").encode()
    if octets.count(b"\n") != len(commands) or octets.count(b"\r") != len(commands) or b"\0" in octets:
        raise ValueError("an SMTP command may not hold CR, LF or NUL")
    return octets


def wire_address(address: str, *, utf8: bool) -> str:
    """`address` exactly as stored; without SMTPUTF8 its domain in A-labels. Raises AddressSyntaxError."""
    if utf8 or address.isascii():
        return address
    local, _, domain = address.rpartition("@")
    return f"{local}@{to_ascii_domain(domain)}"


def mail_command(request: DeliveryRequest, content: bytes | LongContent, offer: Capabilities, *, utf8: bool) -> str:
    """MAIL with the parameters that the peer offers.

    Eight-bit content goes to a peer without 8BITMIME as it is, undeclared: RFC 6152 §3 asks for a conversion, which
    would break every signature in the message, and peers that strip the eighth bit have died out.
    """
    command = f"MAIL FROM:<{wire_address(request.reverse_path or '', utf8=utf8)}>"
    if offer.size is not None:
        command += f" SIZE={len(content)}"
    if request.envelope.binary:
        command += " BODY=BINARYMIME"
    elif offer.eightbitmime and not content.isascii():
        command += " BODY=8BITMIME"
    if utf8:
        command += " SMTPUTF8"
    envelope = request.envelope
    if request.submitter and offer.auth:
        # RFC 4954 §5; `<>` where xtext cannot carry it.
        command += _xtext(" AUTH=", request.submitter) or " AUTH=<>"
    if envelope.requiretls:
        command += " REQUIRETLS"
    if offer.priority:
        # RFC 6710 §4.2 and RFC 6758 §3.2: also where nobody said one.
        command += f" MT-PRIORITY={envelope.priority or 0}"
    if offer.deliver_by is not None and request.by_seconds is not None:
        command += f" BY={request.by_seconds};{envelope.by_mode}{'T' if envelope.by_trace else ''}"
    if offer.dsn:
        command += f" RET={envelope.ret}" if envelope.ret else ""
        command += _xtext(" ENVID=", envelope.envid)
    return command


def rcpt_command(recipient: Recipient, offer: Capabilities, *, utf8: bool, timed: bool = False) -> str:
    """RCPT, with NOTIFY and ORCPT where the peer offers DSN.

    `timed`: the sender wants to hear when the message is late, and the peer does not watch its time.
    """
    command = f"RCPT TO:<{wire_address(recipient.address, utf8=utf8)}>"
    if offer.dsn:
        notify = _with_delay(recipient.notify) if timed else recipient.notify
        command += f" NOTIFY={','.join(notify)}" if notify else ""
        command += _xtext(" ORCPT=", recipient.orcpt)
    return command


def _with_delay(notify: tuple[str, ...]) -> tuple[str, ...]:
    """RFC 2852 §4.1.4.2: a delay is asked for too, which nobody did who said NEVER."""
    if "NEVER" in notify or "DELAY" in notify:
        return notify
    return (*(notify or ("FAILURE",)), "DELAY")


def _xtext(name: str, value: str | None) -> str:
    """A parameter whose value is xtext (RFC 3461 §4): as it is where it is valid, encoded otherwise."""
    # What xtext cannot carry is left out: a lost ENVID harms nobody, a malformed command loses the message.
    if not value or not value.isascii() or not value.isprintable():
        return ""
    if _XTEXT.fullmatch(value):
        return name + value
    return name + "".join(c if "!" <= c <= "~" and c not in "+=" else f"+{ord(c):02X}" for c in value)


def needs_utf8(request: DeliveryRequest, content: bytes | LongContent) -> bool:
    """True when the message can only travel under SMTPUTF8, whoever of its recipients is meant (RFC 6531 §3.4)."""
    sender = request.reverse_path
    if sender and not sender.isascii() and not has_ascii_local_part(sender):
        return True
    if not request.envelope.smtputf8:
        return False
    header = content.header if isinstance(content, LongContent) else split_message(content)[0]
    return not header.isascii()


def has_ascii_local_part(address: str) -> bool:
    return address.isascii() or address.rpartition("@")[0].isascii()


def counted(content: bytes) -> Iterator[bytes | memoryview]:
    """`content` as the only chunk of a message (RFC 3030 §2)."""
    yield b"BDAT %d LAST\r\n" % len(content)
    view = memoryview(content)
    for start in range(0, len(content), CHUNK_OCTETS):
        yield view[start : start + CHUNK_OCTETS]


def end_of_data(content: bytes | LongContent) -> bytes:
    """The terminator that goes after `content`, with the CRLF that its last line may lack."""
    if isinstance(content, LongContent):
        return b".\r\n" if content.ends_line else b"\r\n.\r\n"
    return b".\r\n" if not content or content.endswith(b"\r\n") else b"\r\n.\r\n"


def dot_stuffed(content: bytes) -> bytes:
    """`content` with a dot put before every line that begins with one (RFC 5321 §4.5.2)."""
    # In this order: a search for one octet is ten times as fast as one for three.
    if b"." in content and _DOT_LINE.search(content):
        content = content.replace(b"\r\n.", b"\r\n..")
    return b"." + content if content.startswith(b".") else content


def stuffed_chunks(content: bytes) -> Iterator[bytes | memoryview]:
    """`content` dot-stuffed in chunks of whole lines; what needs no stuffing is a view, not a copy."""
    view, start = memoryview(content), 0
    while start < len(content):
        found = content.find(b"\r\n", start + CHUNK_OCTETS)
        end = len(content) if found < 0 else found + 2
        if content.startswith(b".", start) or _DOT_LINE.search(content, start, end):
            yield dot_stuffed(content[start:end])
        else:
            yield view[start:end]
        start = end


class Stuffing:
    """Dot-stuffing of content that comes in pieces, cut anywhere."""

    def __init__(self) -> None:
        self._before = b"\r\n"  # the last two octets

    def stuffed(self, piece: bytes) -> bytes:
        before = self._before
        self._before = (before + piece[-2:])[-2:]
        if b"." not in piece:
            return piece
        if before.endswith(b"\r\n"):
            return dot_stuffed(piece)
        if _DOT_LINE.search(piece):
            piece = piece.replace(b"\r\n.", b"\r\n..")
        if before.endswith(b"\r") and piece.startswith(b"\n."):
            return b"\n." + piece[1:]
        return piece
