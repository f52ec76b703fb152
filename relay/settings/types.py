"""Types of values that several sections use, and what is wrong with one that does not fit."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from relay.mail.address import is_ip_address, parse_address
from relay.mail.errors import AddressSyntaxError

_WIDEST: Final = {4: 8, 6: 16}  # prefix lengths; 10.0.0.0/8 is the widest network of one's own
_FEW: Final = {4: 29, 6: 64}  # a public network that is one customer's
_OWN: Final = "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 169.254.0.0/16 127.0.0.0/8 fd00::/8 fe80::/10 ::1/128"
_PRIVATE: Final = tuple(map(ipaddress.ip_network, _OWN.split()))
SHORTEST_POLL: Final = 10.0
LONGEST_POLL: Final = 86_400.0
Port = Annotated[int, Field(ge=0, le=65535)]
RemotePort = Annotated[int, Field(ge=1, le=65535)]
Share = Annotated[float, Field(ge=0, le=1e6)]
_MOST: Final = 10**15
OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: None if value == "" else value)]


def _countable(seconds: float) -> float:
    if seconds > 1e9:
        raise ValueError("1000000000 seconds (31 years) at the most")
    return seconds


def _name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,62}", text):
        raise ValueError("a name is 1 to 63 of a-z, 0-9, dot, hyphen and underscore, and begins with a letter or digit")
    return text


def _file(value: Any) -> Any:
    if value == "":
        raise ValueError("is empty; write a path, such as /a/path")
    return value


def _pattern(text: str) -> str:
    return text[:2] + _domain(text[2:]) if text.startswith("*.") else _domain(text)


def _rate(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,8}/(second|minute|hour|day)", text):
        raise ValueError("write it as 10/second, 300/minute, 5000/hour or 100000/day")
    return text


def per_second(rate: str) -> float:
    """`300/minute` as 5.0."""
    count, _, unit = rate.partition("/")
    return int(count) / {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}[unit]


def _duration(text: str) -> str:
    if text and not re.fullmatch(r"[1-9][0-9]{0,5}[smh]", text):
        raise ValueError("write it as 30s, 5m or 1h")
    if text and not SHORTEST_POLL <= seconds_of(text) <= LONGEST_POLL:
        raise ValueError("10s at the least, and 24h at the most")
    return text


def seconds_of(duration: str) -> float:
    """`5m` as 300.0."""
    return float(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise ValueError("write a network as 192.0.2.0/24 or 2001:db8::/32, without host bits") from None


def _address(text: str) -> str:
    if text and not is_address(text):
        raise ValueError("write an IP address such as 192.0.2.1 or 2001:db8::1")
    return text


def _domain(text: str) -> str:
    return _named(text, "a domain such as example.com")


def _host(text: str) -> str:
    return text if not text or is_address(text) else _named(text, "a host name or an IP address")


def _bindable(text: str) -> str:
    if not text:
        raise ValueError("is empty; write 0.0.0.0 for every IPv4 address of this machine, or one such as 127.0.0.1")
    return text if text.startswith("unix:") else _host(text)


def _named(text: str, wanted: str) -> str:
    try:
        parse_address(f"x@{text}")
    except AddressSyntaxError as error:
        raise ValueError(f"{error}; write {wanted}") from None
    return text


def is_address(text: str) -> bool:
    return is_ip_address(text, zone=True)


Name = Annotated[str, AfterValidator(_name)]
NeededPath = Annotated[Path, BeforeValidator(_file)]
Seconds = Annotated[float, Field(gt=0), AfterValidator(_countable)]
SecondsOrNone = Annotated[float, Field(ge=0), AfterValidator(_countable)]
Address = Annotated[str, AfterValidator(_address)]
BindAddress = Annotated[str, AfterValidator(_bindable)]
Domain = Annotated[str, AfterValidator(_domain)]
DomainPattern = Annotated[str, AfterValidator(_pattern)]
Host = Annotated[str, AfterValidator(_host)]
Dialect = Literal[
    "", "brevo", "mailgun", "mailjet", "mandrill", "postal", "postmark", "resend", "sendgrid", "sendpost", "ses",
    "sparkpost",
]  # fmt: skip
Poll = Annotated[str, AfterValidator(_duration)]
Rate = Annotated[str, AfterValidator(_rate)]
LoginTolerance = Literal["space_after_colon", "no_brackets", "bare_lf", "undeclared_8bit"]
"""What a credential may tolerate too: the rest happens before anybody has logged in."""
Tolerance = Literal[LoginTolerance, "bad_helo", "old_tls"]
MailboxProvider = Literal[
    "apple", "comcast", "fastmail", "gmx", "google", "libero", "mail.ru", "microsoft", "orange", "proton", "qq",
    "t-online", "yahoo", "yandex",
]  # fmt: skip
SenderDomains = Annotated[
    tuple[DomainPattern, ...],
    Field(description="Domains of MAIL FROM that are verified there; other mail goes elsewhere; empty: all"),
]


def _of_proxies(text: str) -> str:
    network = ipaddress.ip_network(text)
    if network.prefixlen < _WIDEST[network.version]:
        raise ValueError(f"{text} would let strangers claim any address; name your balancers and proxies alone")
    return text


def _of_our_own(text: str) -> str:
    network = ipaddress.ip_network(text)
    if network.prefixlen < _WIDEST[network.version]:
        raise ValueError(
            f"{text} lets strangers in; name networks of your own, /{_WIDEST[network.version]} at the widest"
        )
    return text


def _of_devices(text: str) -> str:
    network = ipaddress.ip_network(text)
    own = any(network.version == one.version and network.subnet_of(one) for one in _PRIVATE)  # type: ignore[arg-type]
    narrowest = _FEW[network.version]
    if not own and network.prefixlen < narrowest:
        raise ValueError(
            f"{text} lets strangers send mail; name the devices' own addresses, public ones in a /{narrowest} at most"
        )
    return text


Network = Annotated[str, AfterValidator(_network)]
OwnNetwork = Annotated[Network, AfterValidator(_of_our_own)]
DeviceNetwork = Annotated[Network, AfterValidator(_of_devices)]
ProxyNetwork = Annotated[Network, AfterValidator(_of_proxies)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """It is 1 to Python."""
        if isinstance(value, bool) and cls.model_fields[info.field_name or ""].annotation in (int, float):
            raise ValueError("write a number, without quotes")
        return value

    @field_validator("*")
    @classmethod
    def _can_be_counted(cls, value: Any) -> Any:
        """What is beyond files, counters and columns is a slip of the hand."""
        if isinstance(value, int | float) and value > _MOST:
            raise ValueError(f"write {_MOST} at the most")
        return value


def is_loopback(address: str) -> bool:
    return address.startswith(("127.", "unix:")) or address in ("::1", "localhost")


def unique(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two {what} are called {name!r}; give each its own name")
