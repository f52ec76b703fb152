"""What comes in: ports, certificates, limits, who may log in, mail from strangers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)

from relay.mail.address import parse_address
from relay.mail.errors import AddressSyntaxError
from relay.settings.types import (
    BindAddress,
    DeviceNetwork,
    Domain,
    Name,
    NeededPath,
    Network,
    OptionalPath,
    OwnNetwork,
    Port,
    ProxyNetwork,
    Rate,
    Seconds,
    SecondsOrNone,
    Section,
    Tolerance,
    is_loopback,
    unique,
)


def _one_file(value: Any) -> Any:
    if isinstance(value, list | dict):
        raise ValueError("this is the main certificate's file; write further ones as [[tls.certificates]]")
    return None if value == "" else value


class CertificateSettings(Section):
    """A further certificate, for clients that ask for one of its names (SNI); names are those it lists itself."""

    certificate: NeededPath = Field(description="PEM chain")
    key: NeededPath = Field(description="PEM private key")


class TlsSettings(Section):
    """Server certificates for STARTTLS and implicit TLS. Files that change are read again without a reload."""

    certificate: Annotated[Path | None, BeforeValidator(_one_file)] = Field(
        None, description="PEM chain, for clients that ask for no name or an unknown one; empty: var/certs/server.pem"
    )
    key: OptionalPath = Field(None, description="PEM private key; empty: var/certs/server.key")
    minimum: Literal["1.2", "1.3"] = Field("1.2", description="Oldest TLS version a client may use")
    check_interval: Seconds = Field(30.0, description="Seconds between looks at whether the files have changed")
    expiry_warning: int = Field(
        14,
        ge=0,
        le=36_500,
        description="Days left below which a certificate is warned of, daily in the log and by `relay cert`",
    )
    certificates: tuple[CertificateSettings, ...] = ()


def _sender(text: str) -> str:
    try:
        if text.startswith("@"):
            return f"@{parse_address(f'x{text}').domain}"
        return str(parse_address(text))
    except AddressSyntaxError as error:
        raise ValueError(f"{error}; write user@example.com, or @example.com for a domain") from None


def _mode(text: str) -> str:
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError('write permissions as "0660"')
    return text


def _user(text: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9._-]{1,64}", text):
        raise ValueError('write the name or number of a user of this machine, such as "www-data"')
    return text


def _size(octets: int) -> int:
    if 0 < octets < 1024:
        raise ValueError("write octets, 1024 at least, or 0")
    return octets


OwnSize = Annotated[int, Field(ge=0), AfterValidator(_size)]
_OWN_LIMITS: Final = ("message_size", "recipients", "command_timeout", "data_timeout", "session_timeout")
Senders = Annotated[tuple[Annotated[str, AfterValidator(_sender)], ...], Field(min_length=1)]


class PeerSettings(Section):
    """A user of this machine who needs no password on a Unix socket: the kernel says who connects."""

    user: Annotated[str, AfterValidator(_user)] = Field(description="User name or number")
    account: Name = Field(description="Account its mail belongs to")
    senders: Senders = Field(description="Addresses and @domains it may send as")


class ListenerSettings(Section):
    """One SMTP port, or Unix socket."""

    name: Name = Field(description="Name in log, metrics and FileDescriptorName=")
    address: BindAddress = Field(
        "0.0.0.0", description="Address to listen on; another listener for IPv6 ('::'); or unix:/a/path"
    )
    port: Port = Field(0, description="Port to listen on; 0: the system's choice; none on a Unix socket")
    mode: Annotated[str, AfterValidator(_mode)] = Field("0660", description="Permissions of a Unix socket")
    owner: str = Field("", description="user:group a Unix socket belongs to, either may be left out; empty: as started")
    tls: Literal["starttls", "implicit", "none"] = Field("starttls", description="RFC 3207, RFC 8314, or plain text")
    role: Literal["submission", "mx"] = Field(
        "submission", description="submission: AUTH demanded. mx: AUTH or a recipient in [inbound]"
    )
    plaintext_auth: bool = Field(False, description="Offer AUTH without TLS; loopback addresses only")
    client_ca: OptionalPath = Field(
        None,
        description="PEM file of CAs whose client certificates may log in by AUTH EXTERNAL; empty: none is asked for",
    )
    tolerate: tuple[Tolerance, ...] = Field(
        ("undeclared_8bit",), description="What clients may do wrong; docs/howto/devices.md says what each is and costs"
    )
    only_from: tuple[OwnNetwork, ...] = Field(
        (), description="Networks of the clients that are served; others get 554; empty: all"
    )
    proxy_protocol: tuple[ProxyNetwork, ...] = Field(
        (), description="Networks of balancers that begin with a PROXY header (v1 or v2), and have to"
    )
    xclient: tuple[ProxyNetwork, ...] = Field(
        (), description="Networks of SMTP proxies that may say by XCLIENT who their client is"
    )
    xclient_login: bool = Field(
        False, description="Let those proxies log their client in too (LOGIN), as a credential they have checked"
    )

    tls_minimum: Literal["", "1.2", "1.3"] = Field("", description="Oldest TLS version here; empty: tls.minimum")
    message_size: OwnSize = Field(0, description="Octets of a message here; 0: limits.message_size")
    recipients: int = Field(0, ge=0, description="Recipients a transaction here; 0: limits.recipients")
    command_timeout: SecondsOrNone = Field(0.0, description="Seconds of silence here; 0: limits.command_timeout")
    data_timeout: SecondsOrNone = Field(0.0, description="Seconds without data here; 0: limits.data_timeout")
    session_timeout: SecondsOrNone = Field(0.0, description="Seconds of a session here; 0: limits.session_timeout")
    peer: tuple[PeerSettings, ...] = ()

    def limited(self, limits: LimitSettings) -> LimitSettings:
        """`limits` with what holds on this listener."""
        own = {name: getattr(self, name) for name in _OWN_LIMITS if getattr(self, name)}
        return limits.model_copy(update=own) if own else limits

    @property
    def path(self) -> str:
        """Of a Unix socket; empty for TCP."""
        return self.address.removeprefix("unix:") if self.address.startswith("unix:") else ""

    @property
    def place(self) -> str:
        """Where it listens, to be shown."""
        return self.address if self.path else f"{self.address}:{self.port}"

    @model_validator(mode="after")
    def _is_one_kind_of_socket(self) -> Self:
        if not self.address.startswith("unix:"):
            if "port" not in self.model_fields_set:
                raise ValueError("port is missing; set it, or address = 'unix:/a/path'")
            if self.peer:
                raise ValueError("peer is for a Unix socket; set address = 'unix:/a/path', or use [[device]]")
            return self
        if not self.path.startswith("/"):
            raise ValueError("write a Unix socket as unix:/run/sendrelay/submission.sock")
        if self.role == "mx" or self.only_from or self.proxy_protocol or self.xclient:
            raise ValueError("role = 'mx', only_from, proxy_protocol and xclient mean nothing on a Unix socket")
        unique("peers", [one.user for one in self.peer])
        return self

    @model_validator(mode="after")
    def _plaintext_auth_only_on_loopback(self) -> Self:
        if self.plaintext_auth and not is_loopback(self.address):
            raise ValueError("plaintext_auth is allowed on a loopback address only; set address = '127.0.0.1'")
        return self

    @model_validator(mode="after")
    def _a_minimum_goes_with_tls_of_today(self) -> Self:
        if self.tls_minimum and (self.tls == "none" or self.client_ca is not None or "old_tls" in self.tolerate):
            raise ValueError("tls_minimum goes with neither tls = 'none', client_ca nor old_tls; take one of them out")
        return self

    @model_validator(mode="after")
    def _client_certificates_need_tls_of_today(self) -> Self:
        if self.client_ca is not None and (self.tls == "none" or "old_tls" in self.tolerate):
            raise ValueError("client_ca needs TLS 1.2 or later; set tls, and take old_tls out of tolerate")
        return self

    @model_validator(mode="after")
    def _old_tls_only_where_it_is_isolated(self) -> Self:
        if "old_tls" in self.tolerate and not self.only_from and not is_loopback(self.address):
            raise ValueError(
                "old_tls is tolerated on a loopback address or for networks in only_from alone; "
                "set only_from = ['192.0.2.0/24'], or take it out of tolerate"
            )
        return self


class DeviceSettings(Section):
    """Clients that cannot log in: bound to an account by the address they come from."""

    name: Name = Field(description="Name in log and metrics, as device:NAME")
    network: Annotated[tuple[DeviceNetwork, ...], Field(min_length=1)] = Field(
        description="Addresses or networks it comes from; public ones of 8 addresses (IPv6: a /64) at the widest"
    )
    account: Name = Field(description="Account its mail belongs to")
    senders: Senders = Field(description="Addresses and @domains it may send as")
    listeners: Annotated[tuple[Name, ...], Field(min_length=1)] = Field(description="Listeners on which it is known")
    tolerate: tuple[Tolerance, ...] = Field((), description="What it may do wrong, beside what its listener tolerates")

    @field_validator("tolerate")
    @classmethod
    def _no_tls(cls, tolerate: tuple[Tolerance, ...]) -> tuple[Tolerance, ...]:
        if "old_tls" in tolerate:
            raise ValueError("old_tls is a listener's; set it there")
        return tolerate


class LimitSettings(Section):
    """What a client may send."""

    message_size: int = Field(52_428_800, ge=1024, description="Octets; advertised as SIZE; 552 5.3.4 beyond")
    recipients: int = Field(1000, ge=1, description="Recipients a transaction; advertised as RCPTMAX; 452 4.5.3 beyond")
    transactions: int = Field(
        0, ge=0, le=999_999, description="MAIL commands a session; advertised as MAILMAX; 421 4.7.0 beyond; 0: no limit"
    )
    received: int = Field(100, ge=1, description="Received fields; 554 5.4.6 beyond: a loop (RFC 5321 §6.3)")
    header_size: int = Field(1_048_576, ge=1024, description="Octets of header block; 552 5.3.4 beyond")
    command_timeout: Seconds = Field(300.0, description="Seconds of silence before 421 (RFC 5321 §4.5.3.2.7)")
    data_timeout: Seconds = Field(180.0, description="Seconds without a byte of data before 421")
    session_timeout: Seconds = Field(3600.0, description="Seconds a whole session may last")
    connections: int = Field(5000, ge=1, description="Open sessions a worker; 421 4.3.2 beyond")
    errors: int = Field(20, ge=1, description="5xx replies a session; 421 4.7.0 beyond")
    error_delay: float = Field(1.0, ge=0, le=30, description="Seconds a session is let wait after half of `errors`")
    auth_failures: int = Field(5, ge=1, description="Failed AUTH a session; 421 4.7.0 beyond")
    duplicate_window: SecondsOrNone = Field(
        3600.0, description="Seconds in which the same message of the same login is stored once; 0: always again"
    )
    future_release: int = Field(
        604_800,
        ge=0,
        le=1_000_000_000,
        description="Seconds a message may ask to be held (HOLDFOR, Send-At); 0: not at all",
    )
    memory: int = Field(536_870_912, ge=1_048_576, description="Octets in flight a worker; 452 4.3.1 beyond")


class GuardSettings(Section):
    """What one client may do, over all connections and workers. An IPv4 address is a client, an IPv6 /64 is one."""

    connections: int = Field(100, ge=0, description="Open sessions of a client; 421 4.7.0 beyond; 0: no limit")
    connection_rate: Rate | Literal[""] = Field(
        "", description="New sessions of a client, such as 60/minute; 421 beyond"
    )
    message_rate: Rate | Literal[""] = Field("", description="Messages of a client, such as 500/hour; 450 4.7.0 beyond")
    login_message_rate: Rate | Literal[""] = Field("", description="Messages of a login; 450 4.7.0 beyond")
    recipients_per_day: int = Field(
        0, ge=0, description="Recipients of a login in 24 hours; 452 4.5.3 beyond; 0: no limit"
    )
    auth_failures: int = Field(
        10,
        ge=0,
        description="Failed AUTH of a client in auth_window; 421 4.7.0 beyond, but for logins that worked from there",
    )
    subnet_auth_failures: int = Field(100, ge=0, description="The same for a /24 or /48; 0: no limit")
    auth_window: Seconds = Field(600.0, description="Seconds in which failures count")
    exempt: tuple[Network, ...] = Field(("127.0.0.0/8", "::1/128"), description="Networks that are not limited")


class AuthSettings(Section):
    """How clients may log in, beside PLAIN and LOGIN."""

    scram: Literal["all", "some", "off"] = Field(
        "all",
        description="Offer SCRAM-SHA-256 once all or some credentials have a verifier for it; off: none is made",
    )
    scram_iterations: int = Field(
        65_536,
        ge=4096,
        le=10_000_000,
        description="PBKDF2 rounds of a SCRAM verifier, which a client runs at a login; Cyrus SASL refuses more",
    )
    scram_plus: bool = Field(
        True, description="Offer SCRAM-SHA-256-PLUS too; false where clients can bind to nothing but tls-exporter"
    )


class SessionSettings(Section):
    """What is remembered of SMTP sessions that went wrong, in memory, for `relay sessions`."""

    kept: int = Field(50, ge=0, le=10_000, description="Clients that failed in one way a worker remembers; 0: none")
    keep: Seconds = Field(86_400.0, description="Seconds they are remembered")


def _is_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme == "https" and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


class IssuerSettings(Section):
    """An issuer of tokens (OAuth, OpenID Connect) by which clients log in: XOAUTH2 and OAUTHBEARER."""

    issuer: str = Field(min_length=1, description="`iss` of its tokens, to the letter")
    audience: tuple[str, ...] = Field(min_length=1, description="`aud` of tokens that are meant for this server")
    jwks_file: OptionalPath = Field(None, description="File of its public keys, a JWKS document; empty: jwks_url")
    jwks_url: str = Field("", description="https:// address of its public keys; read hourly and for an unknown key")
    username_claim: str = Field("email", min_length=1, description="Claim that names the credential")
    algorithms: tuple[Literal["RS256", "ES256", "EdDSA"], ...] = Field(
        ("RS256", "ES256", "EdDSA"), min_length=1, description="Signatures it may use"
    )
    clock_skew: float = Field(60.0, ge=0, le=600, description="Seconds its clock and ours may differ")
    ca_file: OptionalPath = Field(None, description="PEM file of CAs to trust for jwks_url; empty: the system's")
    allow_private: bool = Field(False, description="Let jwks_url name a private or loopback address")

    @model_validator(mode="after")
    def _keys_have_one_place(self) -> Self:
        if (self.jwks_file is None) == (not self.jwks_url):
            raise ValueError("its keys have one place; set jwks_file or jwks_url")
        if self.jwks_url and not _is_https(self.jwks_url):
            raise ValueError(f"jwks_url has to begin with https:// and a host (found {self.jwks_url!r})")
        return self


class InboundSettings(Section):
    """What port 25 takes without AUTH. Nothing by default: no open relay."""

    domains: tuple[Domain, ...] = Field((), description="Domains whose mail is accepted and routed")
    postmaster: str = Field("", description="Address that gets mail for <postmaster> without a domain; empty: refused")
    spf: Literal["enforce", "mark", "off"] = Field("enforce", description="enforce: 550 5.7.23 on fail; mark: header")

    @field_validator("postmaster")
    @classmethod
    def _an_address(cls, text: str) -> str:
        try:
            return str(parse_address(text)) if text else ""
        except AddressSyntaxError as error:
            raise ValueError(f"{error}; write an address such as postmaster@example.com") from None
