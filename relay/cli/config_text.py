"""The configuration file as text, rendered from the settings themselves so that it cannot disagree with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from relay.settings import (
    AccountSettings,
    CertificateSettings,
    ContactsSettings,
    DeviceSettings,
    IssuerSettings,
    ListenerSettings,
    MatchSettings,
    OAuthSettings,
    PeerSettings,
    ProviderSettings,
    RateLimitSettings,
    RateMatchSettings,
    RetrySettings,
    RouteSettings,
    Settings,
    SiteSettings,
    SmarthostSettings,
)

_HEAD = """\
# Sendrelay configuration. Every setting stands here with its default; take the # away to change one.
# `relay check-config` says whether a file is right and what is in force. Reference: docs/reference/settings.md
"""

OPENSSL_CONFIG = """\
# OpenSSL settings for the relay alone: the service and the container name this file in OPENSSL_CONF.
# Without the finite-field groups (ffdhe): any client may ask for them, and one handshake by ffdhe8192 costs the server
# as much as sixty others (docs/reference/tls.md).
openssl_conf = relay

[relay]
ssl_conf = relay_ssl

[relay_ssl]
system_default = relay_tls

[relay_tls]
1.Groups = X25519:P-256:X448:P-384:P-521
# From OpenSSL 3.5 on; an older one passes over a line with a name it does not know.
2.Groups = X25519MLKEM768:X25519:P-256:X448:P-384:P-521
"""

_LISTENERS = """\
[[listener]]            # other mail servers; without AUTH only for the domains of [inbound]
name = "smtp"
port = 25
role = "mx"

[[listener]]            # mail clients and applications
name = "submission"
port = 587

[[listener]]            # where networks block 25 and 587
name = "alternate"
port = 2525

[[listener]]            # implicit TLS (RFC 8314)
name = "submissions"
port = 465
tls = "implicit"
"""

_EXAMPLES: dict[str, str] = {
    "listener": '[[listener]]\nname = "example"\nport = 2526',
    "listener.peer": (
        '[[listener]]\nname = "local"\naddress = "unix:/run/sendrelay/local.sock"\n'
        '[[listener.peer]]\nuser = "www-data"\naccount = "shop"\nsenders = ["@shop.example"]'
    ),
    "device": (
        '[[device]]\nname = "printer"\nnetwork = ["192.168.7.20/32"]\naccount = "office"\n'
        'senders = ["printer@example.com"]\nlisteners = ["alternate"]'
    ),
    "tls.certificates": (
        '[[tls.certificates]]\ncertificate = "/etc/sendrelay/tls/shop.pem"\nkey = "/etc/sendrelay/tls/shop.key"'
    ),
    "route": '[[route]]\nname = "example"\nvia = ["smarthost:example", "direct"]\nretry = "mta"',
    "route.match": '[route.match]\naccount = ["shop"]',
    "limit": '[[limit]]\nname = "example"\nrate = "10/second"',
    "limit.match": '[limit.match]\nrecipient_domain = ["example.com"]',
    "account": '[account.example]\nretry = "otp"',
    "site": '[site.example]\nmx = ["*.mail.example.com"]',
    "issuer": '[issuer.example]\nissuer = "https://login.example.com"\naudience = ["smtp"]\n'
    'jwks_url = "https://login.example.com/jwks"',
    "retry": "[retry.example]\ndelays = [30, 300, 1800]",
    "smarthost": '[smarthost.example]\nhost = "smtp.example.com"',
    "smarthost.oauth": '[smarthost.example.oauth]\nclient_id = "5d7e"',
    "provider": '[provider.example]\nkind = "sendpost"\napi_key_file = "/etc/sendrelay/sendpost.key"',
    "contacts": '[contacts.example]\nkind = "sendx"\napi_key_file = "/etc/sendrelay/sendx.key"',
    "provider.oauth": '[provider.example.oauth]\nclient_id = "5d7e"',
}

_TABLES: tuple[tuple[str, type[BaseModel]], ...] = (
    ("listener", ListenerSettings),
    ("listener.peer", PeerSettings),
    ("device", DeviceSettings),
    ("tls.certificates", CertificateSettings),
    ("route", RouteSettings),
    ("route.match", MatchSettings),
    ("limit", RateLimitSettings),
    ("limit.match", RateMatchSettings),
    ("account", AccountSettings),
    ("site", SiteSettings),
    ("issuer", IssuerSettings),
    ("retry", RetrySettings),
    ("smarthost", SmarthostSettings),
    ("smarthost.oauth", OAuthSettings),
    ("provider", ProviderSettings),
    ("provider.oauth", OAuthSettings),
    ("contacts", ContactsSettings),
)


def shipped_config(var: Path | None = None) -> str:
    """`config/relay.toml`: the four standard ports, everything else commented with its default."""
    sections = [_HEAD]
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            sections.append(_section(name, field.annotation, {"var": var} if name == "server" and var else {}))
    sections.append(_LISTENERS)
    sections += [_example(name, model) for name, model in _TABLES]
    return "\n".join(sections)


def sandbox_config(var: Path, domain: str, hostname: str) -> str:
    """The profile of `make run`: loopback only, ports above 1024, every domain's MX built in."""
    lines = [
        "# The sandbox of `make run`: loopback ports, a built-in MX for every domain. Made by `relay init --sandbox`.",
        "[server]",
        f"hostname = {_toml(hostname)}",
        f"var = {_toml(str(var))}",
        "workers = 1",
        "",
        "[sandbox]",
        "enabled = true",
        f"domain = {_toml(domain)}",
        "",
        "[inbound]",
        f"domains = [{_toml(domain)}]",
        'spf = "off"',
        "",
        "[retry.sandbox]",
        "delays = [2, 5, 10, 20, 40]",
        "",
        "[delivery]",
        'retry = "sandbox"',
    ]
    for name, port, role, tls in (
        ("smtp", 1025, "mx", "starttls"),
        ("submission", 1587, "submission", "starttls"),
        ("alternate", 2525, "submission", "starttls"),
        ("submissions", 1465, "submission", "implicit"),
    ):
        lines += ["", "[[listener]]", f'name = "{name}"', 'address = "127.0.0.1"', f"port = {port}"]
        lines += [f'role = "{role}"', f'tls = "{tls}"']
    return "\n".join([*lines, ""])


def _section(name: str, model: type[BaseModel], given: dict[str, Any], prefix: str = "") -> str:
    lines = [f"[{prefix}{name}]", *_doc(model)]
    nested = []
    for key, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            nested.append(_section(key, field.annotation, {}, f"{prefix}{name}."))
        elif f"{prefix}{name}.{key}" in _EXAMPLES:
            continue
        elif key in given:
            lines += [*_description(field), f"{key} = {_toml(str(given[key]))}"]
        else:
            lines += [*_description(field), f"# {key} = {_toml(field.get_default())}"]
    return "\n".join([*lines, "", *nested])


def _example(name: str, model: type[BaseModel]) -> str:
    head = _EXAMPLES[name].split("\n")
    shown = {line.partition(" ")[0] for line in head[1:]}
    lines = [f"# {line}" for line in head]
    for key, field in model.model_fields.items():
        if key in shown or _nested(field.annotation) or field.is_required():
            continue
        lines += [*_description(field), f"# {key} = {_toml(field.get_default())}"]
    return "\n".join([*_doc(model), *lines, ""])


def _nested(annotation: Any) -> bool:
    """A table of its own."""
    kinds = (annotation, *get_args(annotation))
    return any(isinstance(kind, type) and issubclass(kind, BaseModel) for kind in kinds)


def _doc(model: type[BaseModel]) -> list[str]:
    return [f"# {(model.__doc__ or '').strip().splitlines()[0]}"]


def _description(field: FieldInfo) -> list[str]:
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
    words = field.description or ""
    if not all(choice in words for choice in choices):
        words = f"{words}; one of: {', '.join(choices)}".removeprefix("; ")
    return [f"# {words}"] if words else []


def _toml(value: Any) -> str:
    if value is None:
        return '""'
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    return json.dumps(str(value))
