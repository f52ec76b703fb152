"""Envelope addresses: one strict parser, no decoding, no normalising beyond the domain's case.

Source: RFC 5321 §4.1.2 and §4.5.3.1, RFC 6531 §3.3 (UTF-8 local parts and domains), RFC 5891 (IDNA).
Display addresses in header fields are parsed elsewhere and never decide routing.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from functools import lru_cache
from typing import Final

from relay.mail.errors import AddressSyntaxError
from relay.mail.frozen import frozen

LOCAL_PART_OCTETS: Final = 64
DOMAIN_OCTETS: Final = 255

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_UTF8 = r"\u0080-\U0010ffff"
_DOT_STRING = re.compile(rf"[{_ATEXT}{_UTF8}]+(?:\.[{_ATEXT}{_UTF8}]+)*\Z")
_QUOTED = re.compile(rf'"(?:[\x20\x21\x23-\x5b\x5d-\x7e{_UTF8}]|\\[\x20-\x7e])*"\Z')
_LABEL = rf"[A-Za-z0-9{_UTF8}_](?:[A-Za-z0-9{_UTF8}_\-]*[A-Za-z0-9{_UTF8}_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
_HOST_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*\Z")
_LABEL_DOTS = re.compile("[.\u3002\uff0e\uff61]")
# RFC 5894 §7.2: sharp s, final sigma and the joiners are letters of IDNA 2008 that IDNA 2003 mapped away.
_DEVIATIONS = re.compile("[\u00df\u1e9e\u03c2\u200c\u200d]")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f\u0080-\u009f\u2028\u2029\ud800-\udfff]")


@frozen
class Address:
    """A mailbox: `local` as the client wrote it, `domain` in lower case (U-labels stay U-labels)."""

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def ascii_domain(self) -> str:
        """The domain in A-labels, as DNS wants it. Raises AddressSyntaxError where IDNA refuses it."""
        return to_ascii_domain(self.domain)

    @property
    def needs_smtputf8(self) -> bool:
        return not self.local.isascii()


def ascii_form(address: str) -> str:
    """The address with its domain in A-labels, as APIs want it; unchanged where it is no address."""
    try:
        parsed = parse_address(address)
        return f"{parsed.local}@{parsed.ascii_domain}"
    except AddressSyntaxError:
        return address


def comparable(address: str) -> str:
    """A key under which two spellings of one mailbox meet; never sent to anybody."""
    return ascii_form(address).casefold()


@lru_cache(maxsize=4096)
def parse_address(text: str) -> Address:
    """Parse `local@domain` or `local@[address literal]`.

    Raises AddressSyntaxError with words fit for a 501/553 reply.
    """
    if _FORBIDDEN.search(text):
        raise AddressSyntaxError("control character in address")
    local, at, domain = text.rpartition("@")
    if not at:
        raise AddressSyntaxError("address has no @domain")
    if len(local.encode()) > LOCAL_PART_OCTETS:
        raise AddressSyntaxError(f"local part is longer than {LOCAL_PART_OCTETS} octets")
    if not (_DOT_STRING.match(local) or _QUOTED.match(local)):
        raise AddressSyntaxError("local part is not a dot-string or quoted string")
    return Address(local, _parse_domain(domain))


def _parse_domain(domain: str) -> str:
    if domain.startswith("[") and domain.endswith("]"):
        literal = domain[1:-1]
        if "%" in literal:  # a zone id may hold anything, also what ends a path
            raise AddressSyntaxError("bad address literal")
        try:
            if literal[:5].lower() == "ipv6:":
                return f"[IPv6:{ipaddress.IPv6Address(literal[5:])}]"
            return f"[{ipaddress.IPv4Address(literal)}]"
        except ValueError:
            raise AddressSyntaxError("bad address literal") from None
    if not _DOMAIN.match(domain):
        raise AddressSyntaxError("domain is not a valid host name")
    if len(to_ascii_domain(domain)) > DOMAIN_OCTETS:
        raise AddressSyntaxError(f"domain is longer than {DOMAIN_OCTETS} octets")
    return domain.lower()


@lru_cache(maxsize=4096)
def to_ascii_domain(domain: str) -> str:
    """`bücher.example` -> `xn--bcher-kva.example`, as IDNA 2008 has it (RFC 5891). Raises AddressSyntaxError."""
    if len(domain) > DOMAIN_OCTETS:  # before it is remembered: header fields may hold a megabyte
        raise AddressSyntaxError(f"domain is longer than {DOMAIN_OCTETS} octets")
    if domain.isascii():
        if any(len(label) > 63 for label in domain.split(".")):
            raise AddressSyntaxError("a domain label is longer than 63 octets")
        return domain.lower()
    try:
        name = ".".join(_to_a_label(label) for label in _LABEL_DOTS.split(domain))
    except UnicodeError:
        raise AddressSyntaxError("domain is not valid IDNA") from None
    # Nameprep turns wide and no-break characters into ASCII ones that end a path or a word.
    if not _HOST_NAME.match(name):
        raise AddressSyntaxError("domain is not valid IDNA")
    return name


def _to_a_label(label: str) -> str:
    """By Python's IDNA 2003, but for the letters it would turn into others, and so into somebody else's domain."""
    if not _DEVIATIONS.search(label):
        return label.encode("idna").decode("ascii").lower()
    letters = unicodedata.normalize("NFC", label.lower())
    for part in _DEVIATIONS.split(letters):
        part.encode("idna")
    a_label = "xn--" + letters.encode("punycode").decode("ascii").lower()
    if "\u200c" in letters or "\u200d" in letters or len(a_label) > 63:
        raise UnicodeError("joiners need the context rules of RFC 5892, which nobody registers domains by")
    return a_label


def is_ip_address(text: str, *, zone: bool = False) -> bool:
    """Whether it is one of IPv4 or IPv6; with `zone`, also one of a link, such as fe80::1%eth0 (RFC 4007 §11)."""
    try:
        return getattr(ipaddress.ip_address(text), "scope_id", None) is None or zone
    except ValueError:
        return False


def domain_of(address: str) -> str:
    """The domain of an address already parsed once, in lower case; `""` for the null sender."""
    return address.rpartition("@")[2].lower()
