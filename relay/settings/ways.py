"""What goes out: delivery, retries, routes, rate limits, smarthosts, providers."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    field_validator,
    model_validator,
)

from relay.mail.address import to_ascii_domain
from relay.mail.outcome import AfterDoubt
from relay.presets import PRESETS, with_preset
from relay.settings.types import (
    Address,
    Dialect,
    Domain,
    DomainPattern,
    Host,
    MailboxProvider,
    Name,
    NeededPath,
    OptionalPath,
    Poll,
    Rate,
    RemotePort,
    Seconds,
    SecondsOrNone,
    Section,
    SenderDomains,
    Share,
    is_address,
    per_second,
)


def _bracketed_or_name(host: str) -> bool:
    if host.startswith("["):
        return host.endswith("]") and is_address(host[1:-1])
    return ":" not in host and "]" not in host


class BouncesSettings(Section):
    """Return paths of our own: what comes back after a message was delivered is read and goes on to its sender."""

    domain: Annotated[Domain, AfterValidator(to_ascii_domain)] | Literal[""] = Field(
        "", description="Host in MAIL FROM of what goes out by MX; its MX names this relay; empty: the client's address"
    )
    per_recipient: bool = Field(
        False, description="A transaction for each recipient, so that every bounce says whom it is about"
    )


class SiteSettings(Section):
    """MX hosts that take the mail of many domains, which share one limit and one breaker then.

    Domains with the same best MX hosts do anyway; `apple`, `google`, `microsoft` and `yahoo` are known without `mx`.
    """

    mx: tuple[DomainPattern, ...] = Field((), description="Names of its hosts; `*.example.com` matches all below")
    concurrency: int = Field(0, ge=0, description="Deliveries at a time, at most; 0: delivery.destination_concurrency")


class TimeoutSettings(Section):
    """Patience with the next hop, in seconds (RFC 5321 §4.5.3.2)."""

    connect: Seconds = Field(30.0, description="Until the connection stands")
    banner: Seconds = Field(60.0, description="Until the greeting")
    command: Seconds = Field(300.0, description="Until the answer to EHLO, AUTH, MAIL, RCPT")
    data: Seconds = Field(120.0, description="Until the 354, and without progress in the message")
    final_dot: Seconds = Field(600.0, description="Until the answer to the message")


class DeliverySettings(Section):
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
    share_hosts: bool = Field(True, description="Domains with the same MX hosts share limits and breaker")
    ipv6: bool = Field(True, description="Connect to AAAA addresses too")
    starttls: Literal["opportunistic", "require", "off"] = Field(
        "opportunistic", description="TLS to MX hosts; certificates are not checked"
    )
    ca_file: OptionalPath = Field(
        None, description="PEM file of CAs for MX hosts of mail with REQUIRETLS; empty: the system's"
    )
    source_address: Address = Field("", description="Local address to send from; empty: the system's choice")
    mx_override: str = Field("", description="host:port used as every domain's MX (tests, sandbox)")
    mx_port: RemotePort = Field(25, description="Port of the MX hosts DNS names")
    allow_private_mx: bool = Field(False, description="Connect to MX hosts with private or loopback addresses")
    delay_notices: Literal["asked", "all", "off"] = Field(
        "asked", description="Who is told that mail still waits: who asked by NOTIFY=DELAY, every sender, nobody"
    )
    notice_rate: Rate | Literal[""] = Field(
        "100/hour",
        description="Notices to one address, the last of which says so; more to senders that are an account's own;"
        " docs/howto/notices.md; empty: no limit",
    )
    returned_size: int = Field(
        1_048_576, ge=0, description="Octets of a message up to which RET=FULL returns it whole with a failure notice"
    )
    in_doubt: AfterDoubt = Field(
        "retry",
        description="Mail whose answer was lost after its last byte: sent again, held for you to decide, or the"
        " provider is asked first whether it has it (held where it cannot be)",
    )
    query_after: Seconds = Field(
        60.0,
        description="With query: seconds until the first question; then twice as long each time, up to an hour",
    )
    query_trust: Seconds = Field(
        1800.0,
        description="Age in seconds of the attempt from which two answers in a row that it has nothing are believed,"
        " and the mail is sent again: vendors list what they took with a delay",
    )
    query_times: int = Field(10, ge=2, description="Questions after which what is still in doubt is held for you")
    route_pause: Seconds = Field(300.0, description="Seconds a route rests after its credentials were refused")
    return_path_prefix: str = Field("rp", description="Label of the return-path host that `relay domain add` prints")
    timeouts: TimeoutSettings = TimeoutSettings()

    @field_validator("mx_override")
    @classmethod
    def _an_endpoint(cls, text: str) -> str:
        host, _, port = text.rpartition(":")
        if text and not (host and port.isdecimal() and 0 < int(port) < 65536 and _bracketed_or_name(host)):
            raise ValueError("write host:port, such as 127.0.0.1:2526 or [::1]:2526")
        return text


class RetrySettings(Section):
    """One retry profile: waits after the 1st, 2nd ... attempt; after the last wait's attempt it bounces."""

    delays: tuple[Seconds, ...] = Field(
        min_length=1, description="Seconds to wait after each attempt, one number an attempt"
    )
    jitter: float = Field(0.15, ge=0, le=0.5, description="Share by which a wait varies, either way")
    expire: SecondsOrNone = Field(0.0, description="Age in seconds after which it bounces whatever is left; 0: none")
    delay_notice: SecondsOrNone = Field(
        14_400.0, description="Age in seconds at which a sender is told that it still waits; 0: never"
    )


class AccountSettings(Section):
    """What holds for all mail of one account."""

    retry: Name | None = Field(None, description="Retry profile where message and route name none")
    later_bounces: Literal["notice", "none"] = Field(
        "notice", description="notice: the sender gets a DSN when a provider reports a bounce later"
    )
    suppress: Literal["off", "bounces", "complaints", "all"] = Field(
        "off", description="What is reported later puts the recipient on the suppression list; off: no list is kept"
    )
    suppress_for: SecondsOrNone = Field(7_776_000.0, description="Seconds such a recipient stays on it; 0: for good")


class MatchSettings(Section):
    """All conditions given must hold; `*.example.com` matches subdomains."""

    account: tuple[str, ...] = Field((), description="Accounts of the credential or key")
    sender_domain: tuple[DomainPattern | Literal[""], ...] = Field((), description="Domains of MAIL FROM")
    recipient_domain: tuple[DomainPattern, ...] = Field((), description="Domains of the recipient")
    mailbox_provider: tuple[MailboxProvider, ...] = Field(
        (), description="Providers of the recipient's mailbox, by their own domains, such as google"
    )
    tag: tuple[str, ...] = Field((), description="Values of the X-Relay-Tag header")


class RouteSettings(Section):
    """The first route that matches a recipient carries it."""

    name: Name = Field(description="Name, for you")
    match: MatchSettings = MatchSettings()
    via: tuple[str, ...] = Field(
        min_length=1, description="Candidates in order: direct, capture, smarthost:NAME, provider:NAME"
    )
    balance: Literal["order", "message", "recipient_domain", "sender_domain"] = Field(
        "order",
        description="Who is first: the first of via; or by share, anew for each message or the same for a domain",
    )
    share: dict[str, Share] = Field({}, description="Shares of the candidates under balance; 1 where none is given")
    overflow: bool = Field(
        False, description="A candidate whose rate limit is used up is passed over for the next one that has a token"
    )
    retry: Name | None = Field(None, description="Retry profile; empty: delivery.retry")

    @model_validator(mode="after")
    def _shares_are_of_candidates(self) -> Self:
        strange = ", ".join(sorted(self.share.keys() - set(self.via)))
        if strange:
            raise ValueError(f"share names {strange}, which via does not; via is {', '.join(self.via)}")
        if self.share and self.balance == "order":
            raise ValueError('share means nothing while balance is "order"; set balance = "message"')
        return self


class RateMatchSettings(Section):
    """All conditions given must hold; `*.example.com` matches subdomains. None: all mail."""

    account: tuple[str, ...] = Field((), description="Accounts of the credential or key")
    candidate: tuple[str, ...] = Field(
        (), description="Ways out, as in via; counts for mail whose route names it first"
    )
    recipient_domain: tuple[DomainPattern, ...] = Field((), description="Domains of the recipient")


class RateLimitSettings(Section):
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


class OAuthSettings(Section):
    """How access tokens are had; api_key_file or password_file holds the client's secret then."""

    client_id: str = Field(min_length=1, description="The application's id")
    grant: Literal["client_credentials", "refresh_token", "jwt_bearer"] = Field(
        "client_credentials",
        description="For the application, a user who consented once, or a user it may speak for by a signed word",
    )
    subject: str = Field("", description="jwt_bearer: the user; the secret's file holds a private key then")
    refresh_token_file: OptionalPath = Field(
        None, description="File that holds the refresh token; rewritten when renewed"
    )
    token_url: str = Field("", description="Where tokens are given out; empty: the vendor's own")
    scope: str = Field("", description="What the token has to allow; empty: what the adapter needs")
    allow_private: bool = Field(False, description="Let token_url name a private or loopback address")
    client_auth: Literal["body", "basic"] = Field("body", description="Where the secret goes: the form, or a header")

    @model_validator(mode="after")
    def _has_what_it_needs(self) -> Self:
        if (self.grant == "refresh_token") != (self.refresh_token_file is not None):
            raise ValueError('grant = "refresh_token" and refresh_token_file go together; set both, or none')
        if (self.grant == "jwt_bearer") != bool(self.subject):
            raise ValueError('grant = "jwt_bearer" and subject go together; set both, or none')
        if not (self.client_id.isascii() and self.client_id.isprintable() and self.scope.isascii()):
            raise ValueError("client_id and scope are printable ASCII; copy them again")
        return self


class SmarthostSettings(Section):
    """A relay that takes our mail over SMTP. A preset fills in what is not set here."""

    preset: str = Field("", description="Vendor whose host, TLS and limits are known; docs/howto/smarthosts.md")
    host: Host = Field("", description="Host name or address")
    port: RemotePort = Field(587, description="Port, such as 587, 465 or 25")
    tls: Literal["starttls", "implicit", "none"] = Field("starttls", description="RFC 3207, RFC 8314, or plain text")
    verify: bool = Field(True, description="Check the certificate against the system's CAs or ca_file")
    ca_file: OptionalPath = Field(None, description="PEM file of CAs to trust; empty: the system's")
    username: str = Field("", description="User name for AUTH; empty: no AUTH")
    password_file: OptionalPath = Field(None, description="File that holds the password alone")
    dialect: Dialect = Field("", description="Vendor whose own header fields are left in; docs/howto/directives.md")
    return_path: Literal["client", "bounces"] = Field(
        "client", description="MAIL FROM there: the client's, or one at bounces.domain"
    )
    submitter: bool = Field(False, description="Tell it who submitted, by AUTH= of MAIL; only for one that is to know")
    sender_domains: SenderDomains = ()
    message_size: int = Field(0, ge=0, description="Octets; a larger message does not go there; 0: as it says itself")
    recipients: int = Field(0, ge=0, description="Recipients a transaction, 100 at most; 0: 100")
    connections: int = Field(
        0, ge=0, description="Connections at a time, shared by the workers; 0: delivery.destination_concurrency"
    )
    rate: Rate | Literal[""] = Field("", description="Messages, such as 30/minute, shared by the workers; empty: any")
    oauth: OAuthSettings | None = Field(None, description="Access tokens instead of a password")

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, given: Any) -> Any:
        return with_preset(given)

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Self:
        if not self.host:
            raise ValueError(f"host is missing; set it, or preset to one of {', '.join(PRESETS)}")
        return self


class ProviderSettings(Section):
    """An HTTP email API. `kind` names the adapter; `options` are its own settings."""

    kind: Name = Field(description="Adapter, such as sendpost")
    api_key_file: NeededPath = Field(description="File that holds the key alone")
    sender_domains: SenderDomains = ()
    base_url: str = Field("", description="Empty: the vendor's own")
    hook_token_file: OptionalPath = Field(
        None, description="File with the word that ends the callback address; empty: no callbacks"
    )
    hook_secret_file: OptionalPath = Field(None, description="File with what the vendor signs callbacks with")
    poll: Poll = Field(
        "", description="How often it is asked for news, such as 1m, where it cannot call back; empty: never"
    )
    report_within: SecondsOrNone = Field(
        0.0,
        description="Seconds in which it tells of a message (callbacks, poll); silence puts others first; 0: unwatched",
    )
    unreported: Literal["sent", "in_doubt"] = Field(
        "sent", description="What it took and does not report on is sent all the same, or in_doubt: delivery.in_doubt"
    )
    query_trust: SecondsOrNone = Field(0.0, description="As delivery.query_trust, for this provider; 0: that one")
    ca_file: OptionalPath = Field(None, description="PEM file of CAs to trust; empty: the system's")
    timeout: Seconds = Field(60.0, description="Seconds without progress after which a call is given up")
    allow_private: bool = Field(False, description="Let base_url name a private or loopback address")
    oauth: OAuthSettings | None = Field(None, description="Access tokens instead of a key")
    options: dict[str, Any] = Field({}, description="The adapter's own options; docs/providers")


RETRY_PROFILES = {
    "sendarix": RetrySettings(delays=(30, 300, 1800, 7200, 18000)),
    "mta": RetrySettings(delays=(300, 600, 1200, 2400) + (4000,) * 107, expire=432_000),
    "otp": RetrySettings(delays=(5, 10, 20, 40, 60, 120, 180, 240), expire=900),
}
