"""The configuration file as text, rendered from the settings themselves so that it cannot disagree with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from relay.settings import (
    AccountSettings,
    ListenerSettings,
    MatchSettings,
    ProviderSettings,
    RateLimitSettings,
    RateMatchSettings,
    RetrySettings,
    RouteSettings,
    Settings,
    SmarthostSettings,
)

_HEAD = """\
# Sendrelay configuration. Every setting stands here with its default; take the # away to change one.
# `relay check-config` says whether a file is right and what is in force. Reference: docs/reference/settings.md
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
    "route": '[[route]]\nname = "example"\nvia = ["smarthost:example", "direct"]\nretry = "mta"',
    "route.match": '[route.match]\naccount = ["shop"]',
    "limit": '[[limit]]\nname = "example"\nrate = "10/second"',
    "limit.match": '[limit.match]\nrecipient_domain = ["example.com"]',
    "account": '[account.example]\nretry = "otp"',
    "retry": "[retry.example]\ndelays = [30, 300, 1800]",
    "smarthost": '[smarthost.example]\nhost = "smtp.example.com"',
    "provider": '[provider.example]\nkind = "sendpost"\napi_key_file = "/etc/sendrelay/sendpost.key"',
}

_TABLES: tuple[tuple[str, type[BaseModel]], ...] = (
    ("listener", ListenerSettings),
    ("route", RouteSettings),
    ("route.match", MatchSettings),
    ("limit", RateLimitSettings),
    ("limit.match", RateMatchSettings),
    ("account", AccountSettings),
    ("retry", RetrySettings),
    ("smarthost", SmarthostSettings),
    ("provider", ProviderSettings),
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
        nested = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        if key in shown or nested or field.is_required():
            continue
        lines += [*_description(field), f"# {key} = {_toml(field.get_default())}"]
    return "\n".join([*_doc(model), *lines, ""])


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
