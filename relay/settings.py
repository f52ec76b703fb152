"""Settings: every value of the configuration file, each defined once, with its default and its meaning.

`config/relay.toml` lists them all and a test compares the two. Unknown keys are errors with a suggestion.
Secrets never stand in the file: `*_file` settings name a file that holds one.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import socket
import tomllib
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from relay.mail.errors import SettingsError

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
OptionalPath = Annotated[Path | None, BeforeValidator(lambda value: value or None)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


def _rate(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,8}/(second|minute|hour)", text):
        raise ValueError("write it as 10/second, 300/minute or 5000/hour")
    return text


def per_second(rate: str) -> float:
    """`300/minute` as 5.0."""
    count, _, unit = rate.partition("/")
    return int(count) / {"second": 1, "minute": 60, "hour": 3600}[unit]


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise ValueError("write a network as 192.0.2.0/24 or 2001:db8::/32, without host bits") from None


Dialect = Literal[
    "", "brevo", "mailgun", "mailjet", "mandrill", "postal", "postmark", "resend", "sendgrid", "sendpost", "ses",
    "sparkpost",
]  # fmt: skip
Rate = Annotated[str, AfterValidator(_rate)]
Network = Annotated[str, AfterValidator(_network)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServerSettings(_Section):
    """The process as a whole."""

    hostname: str = Field("", description="Name in the banner, EHLO, Received and Message-ID; empty: the machine's")
    var: Path = Field(Path("/var/lib/sendrelay"), description="Folder for spool, keys and registry")
    workers: int = Field(0, ge=0, description="Worker processes; 0: one a core")
    drain_timeout: Seconds = Field(25.0, description="Seconds to finish what is in flight after SIGTERM")
    user: str = Field("", description="User to become after binding the ports; empty: stay")

    @property
    def worker_count(self) -> int:
        return self.workers or len(os.sched_getaffinity(0))


class LogSettings(_Section):
    """One line a business fact, on standard error."""

    format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else json")
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="The least that is written")


class TlsSettings(_Section):
    """Server certificate for STARTTLS and implicit TLS."""

    certificate: OptionalPath = Field(None, description="PEM chain; empty: var/certs/server.pem")
    key: OptionalPath = Field(None, description="PEM private key; empty: var/certs/server.key")
    minimum: Literal["1.2", "1.3"] = Field("1.2", description="Oldest TLS version a client may use")


class ListenerSettings(_Section):
    """One SMTP port."""

    name: Name = Field(description="Name in log, metrics and FileDescriptorName=")
    address: str = Field("0.0.0.0", description="Address to listen on; a second listener for IPv6 ('::')")
    port: Port = Field(description="Port to listen on; 0: the system's choice")
    tls: Literal["starttls", "implicit", "none"] = Field("starttls", description="RFC 3207, RFC 8314, or plain text")
    role: Literal["submission", "mx"] = Field(
        "submission", description="submission: AUTH demanded. mx: AUTH or a recipient in [inbound]"
    )
    plaintext_auth: bool = Field(False, description="Offer AUTH without TLS; loopback addresses only")
    bare_lf: Literal["reject", "fix"] = Field("reject", description="Bare CR or LF in data: 554, or made CRLF")

    @model_validator(mode="after")
    def _plaintext_auth_only_on_loopback(self) -> Self:
        if self.plaintext_auth and not _is_loopback(self.address):
            raise ValueError("plaintext_auth is allowed on a loopback address only; set address = '127.0.0.1'")
        return self


class LimitSettings(_Section):
    """What a client may send."""

    message_size: int = Field(52_428_800, ge=1024, description="Octets; advertised as SIZE; 552 5.3.4 beyond")
    recipients: int = Field(1000, ge=1, description="Recipients a transaction; 452 4.5.3 beyond")
    received: int = Field(50, ge=1, description="Received fields; 554 5.4.6 beyond (a loop)")
    header_size: int = Field(1_048_576, ge=1024, description="Octets of header block; 552 5.3.4 beyond")
    command_timeout: Seconds = Field(300.0, description="Seconds of silence before 421 (RFC 5321 §4.5.3.2.7)")
    data_timeout: Seconds = Field(180.0, description="Seconds without a byte of data before 421")
    session_timeout: Seconds = Field(3600.0, description="Seconds a whole session may last")
    connections: int = Field(5000, ge=1, description="Open sessions a worker; 421 4.3.2 beyond")
    errors: int = Field(20, ge=1, description="5xx replies a session; 421 4.7.0 beyond")
    error_delay: float = Field(1.0, ge=0, le=30, description="Seconds a session is let wait after half of `errors`")
    auth_failures: int = Field(5, ge=1, description="Failed AUTH a session; 421 4.7.0 beyond")
    memory: int = Field(536_870_912, ge=1_048_576, description="Octets in flight a worker; 452 4.3.1 beyond")


class GuardSettings(_Section):
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


class InboundSettings(_Section):
    """What port 25 takes without AUTH. Nothing by default: no open relay."""

    domains: tuple[str, ...] = Field((), description="Domains whose mail is accepted and routed")
    postmaster: str = Field("", description="Address that gets mail for <postmaster> without a domain; empty: refused")
    spf: Literal["enforce", "mark", "off"] = Field("enforce", description="enforce: 550 5.7.23 on fail; mark: header")


class HttpSettings(_Section):
    """Health, metrics and the HTTP interfaces."""

    address: str = Field("127.0.0.1", description="Address to listen on; no key is asked for, so keep it private")
    port: Port = Field(8025, description="Port to listen on")
    enabled: bool = Field(True, description="false: no HTTP at all")


class DnsSettings(_Section):
    """The resolver."""

    nameservers: tuple[str, ...] = Field((), description="IP or IP:port; empty: /etc/resolv.conf")
    timeout: Seconds = Field(5.0, description="Seconds for one question, retries included")
    trust_ad: bool = Field(False, description="Believe the AD flag: only for a validating resolver on this machine")
    cache_size: int = Field(10_000, ge=0, description="Answers kept")
    minimum_ttl: float = Field(5.0, ge=0, description="Seconds an answer is kept at least")
    maximum_ttl: float = Field(3600.0, ge=0, description="Seconds an answer is kept at most")


class TimeoutSettings(_Section):
    """Patience with the next hop, in seconds (RFC 5321 §4.5.3.2)."""

    connect: Seconds = Field(30.0, description="Until the connection stands")
    banner: Seconds = Field(60.0, description="Until the greeting")
    command: Seconds = Field(300.0, description="Until the answer to EHLO, AUTH, MAIL, RCPT")
    data: Seconds = Field(120.0, description="Until the 354, and without progress in the message")
    final_dot: Seconds = Field(600.0, description="Until the answer to the message")


class DeliverySettings(_Section):
    """How mail goes out."""

    retry: Name = Field("sendarix", description="Retry profile where a route names none")
    concurrency: int = Field(500, ge=1, description="Deliveries at a time a worker")
    destination_concurrency: int = Field(20, ge=1, description="Deliveries at a time to one next hop, at most")
    dead_host_faults: int = Field(
        10,
        ge=0,
        description="Sessions a next hop fails to give in a row before its mail waits without dialling; 0: off",
    )
    messages_per_connection: int = Field(100, ge=1, description="Then it is closed and a new one opened")
    idle_connection: Seconds = Field(5.0, description="Seconds a connection waits for its next message")
    ipv6: bool = Field(True, description="Connect to AAAA addresses too")
    starttls: Literal["opportunistic", "require", "off"] = Field(
        "opportunistic", description="TLS to MX hosts; certificates are not checked"
    )
    source_address: str = Field("", description="Local address to send from; empty: the system's choice")
    mx_override: str = Field("", description="host:port used as every domain's MX (tests, sandbox)")
    mx_port: Port = Field(25, description="Port of the MX hosts DNS names")
    allow_private_mx: bool = Field(False, description="Connect to MX hosts with private or loopback addresses")
    delay_notices: Literal["asked", "all", "off"] = Field(
        "asked", description="Who is told that mail still waits: who asked by NOTIFY=DELAY, every sender, nobody"
    )
    returned_size: int = Field(
        1_048_576, ge=0, description="Octets of a message up to which RET=FULL returns it whole with a failure notice"
    )
    in_doubt: Literal["retry", "hold"] = Field(
        "retry", description="Mail whose answer was lost after its last byte: sent again, or held for you to decide"
    )
    route_pause: Seconds = Field(300.0, description="Seconds a route rests after its credentials were refused")
    return_path_prefix: str = Field("rp", description="Label of the return-path host that `relay domain add` prints")
    timeouts: TimeoutSettings = TimeoutSettings()


class RetrySettings(_Section):
    """One retry profile: waits after the 1st, 2nd ... attempt; after the last wait's attempt it bounces."""

    delays: tuple[Seconds, ...] = Field(description="Seconds to wait after each attempt, one number an attempt")
    jitter: float = Field(0.15, ge=0, le=0.5, description="Share by which a wait varies, either way")
    expire: float = Field(0.0, ge=0, description="Age in seconds after which it bounces whatever is left; 0: none")
    delay_notice: float = Field(
        14_400.0, ge=0, description="Age in seconds at which a sender is told that it still waits; 0: never"
    )


class AccountSettings(_Section):
    """What holds for all mail of one account."""

    retry: Name | None = Field(None, description="Retry profile where message and route name none")


class MatchSettings(_Section):
    """All conditions given must hold; `*.example.com` matches subdomains."""

    account: tuple[str, ...] = Field((), description="Accounts of the credential or key")
    sender_domain: tuple[str, ...] = Field((), description="Domains of MAIL FROM")
    recipient_domain: tuple[str, ...] = Field((), description="Domains of the recipient")
    tag: tuple[str, ...] = Field((), description="Values of the X-Relay-Tag header")


class RouteSettings(_Section):
    """The first route that matches a recipient carries it."""

    name: Name = Field(description="Name, for you")
    match: MatchSettings = MatchSettings()
    via: tuple[str, ...] = Field(
        min_length=1, description="Candidates in order: direct, capture, smarthost:NAME, provider:NAME"
    )
    retry: Name | None = Field(None, description="Retry profile; empty: delivery.retry")


class RateMatchSettings(_Section):
    """All conditions given must hold; `*.example.com` matches subdomains. None: all mail."""

    account: tuple[str, ...] = Field((), description="Accounts of the credential or key")
    candidate: tuple[str, ...] = Field(
        (), description="Ways out, as in via; counts for mail whose route names it first"
    )
    recipient_domain: tuple[str, ...] = Field((), description="Domains of the recipient")


class RateLimitSettings(_Section):
    """So many messages a time for all mail that matches; what is beyond waits its turn and uses up no attempt."""

    name: Name = Field(description="Name, for you")
    match: RateMatchSettings = RateMatchSettings()
    rate: Rate = Field(
        description="Messages a second, minute or hour, such as 10/second; living workers share it equally"
    )
    burst: int = Field(
        1, ge=1, description="Messages that may go at once after a silence, shared too; 1 a worker at least"
    )

    @property
    def per_second(self) -> float:
        return per_second(self.rate)


class SmarthostSettings(_Section):
    """A relay that takes our mail over SMTP."""

    host: str = Field(description="Host name or address")
    port: Port = Field(587, description="Port, such as 587, 465 or 25")
    tls: Literal["starttls", "implicit", "none"] = Field("starttls", description="RFC 3207, RFC 8314, or plain text")
    verify: bool = Field(True, description="Check the certificate against the system's CAs or ca_file")
    ca_file: OptionalPath = Field(None, description="PEM file of CAs to trust; empty: the system's")
    username: str = Field("", description="User name for AUTH; empty: no AUTH")
    password_file: OptionalPath = Field(None, description="File that holds the password alone")
    dialect: Dialect = Field("", description="Vendor whose own header fields are left in; docs/howto/directives.md")


class ProviderSettings(_Section):
    """An HTTP email API. `kind` names the adapter; `options` are its own settings."""

    kind: Name = Field(description="Adapter, such as sendpost")
    api_key_file: Path = Field(description="File that holds the key alone")
    base_url: str = Field("", description="Empty: the vendor's own")
    ca_file: OptionalPath = Field(None, description="PEM file of CAs to trust; empty: the system's")
    timeout: Seconds = Field(60.0, description="Seconds without progress after which a call is given up")
    allow_private: bool = Field(False, description="Let base_url name a private or loopback address")
    options: dict[str, Any] = Field({}, description="The adapter's own options; docs/providers")


class SpoolSettings(_Section):
    """The spool."""

    file_threshold: int = Field(65_536, ge=0, description="Octets above which a body is a file of its own")
    minimum_free: int = Field(104_857_600, ge=0, description="Octets free below which MAIL gets 452 4.3.1")
    history: float = Field(604_800.0, ge=0, description="Seconds a message can be looked up after it was received")
    dead_letters: float = Field(
        86_400.0, ge=0, description="Seconds the text of what bounced or expired is kept for `relay dead`; 0: not kept"
    )
    dead_letters_size: int = Field(
        1_073_741_824, ge=0, description="Octets of dead letters a worker keeps at most; the oldest go first"
    )
    window: int = Field(20_000, ge=1, description="Messages a worker keeps scheduled in memory")
    memory: int = Field(134_217_728, ge=0, description="Octets of bodies kept in memory until delivered")


class SandboxSettings(_Section):
    """The built-in MX of `make run`: takes every domain's mail, keeps it, fails on request."""

    enabled: bool = Field(False, description="true only in the sandbox: no mail leaves")
    domain: str = Field("sandbox.example", description="Domain of its credential and DKIM key")


_RETRY_PROFILES = {
    "sendarix": RetrySettings(delays=(30, 300, 1800, 7200, 18000)),
    "mta": RetrySettings(delays=(300, 600, 1200, 2400) + (4000,) * 107, expire=432_000),
    "otp": RetrySettings(delays=(5, 10, 20, 40, 60, 120, 180, 240), expire=900),
}


class Settings(_Section):
    """The whole configuration."""

    server: ServerSettings = ServerSettings()
    log: LogSettings = LogSettings()
    tls: TlsSettings = TlsSettings()
    limits: LimitSettings = LimitSettings()
    guard: GuardSettings = GuardSettings()
    inbound: InboundSettings = InboundSettings()
    http: HttpSettings = HttpSettings()
    dns: DnsSettings = DnsSettings()
    delivery: DeliverySettings = DeliverySettings()
    spool: SpoolSettings = SpoolSettings()
    sandbox: SandboxSettings = SandboxSettings()
    listener: tuple[ListenerSettings, ...] = ()
    route: tuple[RouteSettings, ...] = ()
    limit: tuple[RateLimitSettings, ...] = ()
    retry: dict[Name, RetrySettings] = {}
    account: dict[Name, AccountSettings] = {}
    smarthost: dict[Name, SmarthostSettings] = {}
    provider: dict[Name, ProviderSettings] = {}

    @model_validator(mode="after")
    def _references_exist(self) -> Self:
        _unique("listeners", [listener.name for listener in self.listener])
        _unique("routes", [route.name for route in self.route])
        _unique("limits", [limit.name for limit in self.limit])
        for limit in self.limit:
            for candidate in limit.match.candidate:
                self._check_candidate(f"limit {limit.name!r}", candidate)
        for route in self.route:
            for candidate in route.via:
                self._check_candidate(f"route {route.name!r}", candidate)
            if route.retry:
                self.retry_profile(route.retry)
        for profile in (self.delivery.retry, *(one.retry for one in self.account.values() if one.retry)):
            self.retry_profile(profile)
        return self

    def _check_candidate(self, user: str, candidate: str) -> None:
        kind, _, name = candidate.partition(":")
        known: dict[str, Any] = {"smarthost": self.smarthost, "provider": self.provider}
        if candidate in ("direct", "capture") or name in known.get(kind, ()):
            return
        if kind in known:
            raise ValueError(f"{user} uses {candidate!r}, but there is no [{kind}.{name}]; add it")
        raise ValueError(f"{user} uses {candidate!r}; use direct, capture, smarthost:NAME or provider:NAME")

    def retry_profile(self, name: str) -> RetrySettings:
        """The profile called `name`, own ones first. Raises ValueError with the known names."""
        profile = self.retry.get(name) or _RETRY_PROFILES.get(name)
        if profile is None:
            known = ", ".join(sorted({*self.retry, *_RETRY_PROFILES}))
            raise ValueError(f"no retry profile {name!r}; known: {known}")
        return profile

    def retry_profile_for(self, message: str, route: str | None, account: str) -> RetrySettings:
        """The most particular one: what the message names, then the route, the account, and the default.

        A message may name one that is not there any more.
        """
        own = self.account.get(account)
        for name in (message, route, own.retry if own else None):
            if name and (profile := self.retry.get(name) or _RETRY_PROFILES.get(name)):
                return profile
        return self.retry_profile(self.delivery.retry)

    @property
    def retry_names(self) -> frozenset[str]:
        return frozenset((*_RETRY_PROFILES, *self.retry))

    @property
    def retry_profiles(self) -> tuple[RetrySettings, ...]:
        """Every profile there is."""
        return tuple({**_RETRY_PROFILES, **self.retry}.values())

    @property
    def digest(self) -> str:
        """A few letters that differ where any value does."""
        return sha256(self.model_dump_json().encode()).hexdigest()[:16]

    @property
    def hostname(self) -> str:
        return self.server.hostname or socket.getfqdn()


def _unique(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two {what} are called {name!r}; give each its own name")


def _is_loopback(address: str) -> bool:
    return address.startswith(("127.", "/")) or address in ("::1", "localhost")


def load_settings(path: Path) -> Settings:
    """Read and check a TOML file. Raises SettingsError: one line with file, key and fix."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: cannot read it ({error.strerror}); check the path and its owner") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8") from error
    try:
        return Settings.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from error
    except ValidationError as error:
        raise SettingsError(f"{path}: {_explain(error)}") from error


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"]) or "settings"
    if first["type"] == "extra_forbidden":
        suggestion = difflib.get_close_matches(str(first["loc"][-1]), _known_keys(first["loc"][:-1]), n=1)
        hint = f"did you mean {suggestion[0]!r}?" if suggestion else "remove it, or see config/relay.toml"
        return f"{key}: unknown setting; {hint}"
    message = first["msg"].removeprefix("Value error, ")
    shown = "" if isinstance(first["input"], dict) else f" (found {first['input']!r})"
    return f"{key}: {message}{shown}"


def _known_keys(location: tuple[int | str, ...]) -> list[str]:
    model: Any = Settings
    for part in location:
        if isinstance(part, int):
            continue
        fields = getattr(model, "model_fields", None)
        if fields is None or part not in fields:
            continue  # the name of a table such as [smarthost.NAME]
        model = _model_in(fields[part].annotation)
    return list(getattr(model, "model_fields", ()))


def _model_in(annotation: Any) -> Any:
    candidates = [annotation, *getattr(annotation, "__args__", ())]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)
