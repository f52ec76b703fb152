"""The relay's configuration in the bench: its defaults, but for names, ports and where mail goes. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

Overrides = Mapping[str, Mapping[str, Any]]
"""Settings by table (`[[limit]]` for one of several), instead of or beside those below."""

_LISTENERS: Final[dict[str, dict[str, Any]]] = {
    "plain": {"tls": "none", "role": "mx"},
    "signed": {"tls": "none", "plaintext_auth": True},
    "login": {"tls": "starttls"},
}
PORTS: Final = (*_LISTENERS, "http")


def configuration(
    var: str, workers: int, ports: Mapping[str, int], sink: int, domain: str, recipient_domain: str, changes: Overrides
) -> str:
    """The text of relay.toml. `changes` of a table that is not here make it."""
    tables: dict[str, dict[str, Any]] = {
        "server": {"hostname": f"relay.{domain}", "var": var, "workers": workers},
        "log": {"format": "json"},
        "http": {"enabled": False, "port": ports["http"]},
        "inbound": {"domains": [recipient_domain], "spf": "off"},
        "smarthost.sink": {"host": "127.0.0.1", "port": sink, "tls": "none", "verify": False},
    }
    for name, values in changes.items():
        tables[name] = {**tables.get(name, {}), **values}
    parts = [_table(name if name.startswith("[") else f"[{name}]", values) for name, values in tables.items()]
    for name, values in _LISTENERS.items():
        parts.append(_table("[[listener]]", {"name": name, "address": "127.0.0.1", "port": ports[name], **values}))
    parts.append(_table("[[route]]", {"name": "all", "via": ["smarthost:sink"]}))
    return "\n".join(parts)


def _table(head: str, values: Mapping[str, Any]) -> str:
    """What is used here, strings, numbers, truth values and lists, TOML writes as JSON does."""
    return "\n".join([head, *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""])
