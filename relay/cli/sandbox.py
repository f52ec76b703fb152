"""The sandbox's facts: what `make run` prints, ready to paste, and writes to `<var>/sandbox.json` for programs."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any, Final

from relay.settings import Settings

SANDBOX_FILE: Final = "sandbox.json"
_STANDARD_PORTS: Final = {"smtp": "25", "submission": "587", "alternate": "2525", "submissions": "465"}


def read_secrets(var: Path) -> dict[str, Any]:
    """What `relay init --sandbox` made: username, password, api_key. Empty before it has run."""
    facts = _read(var)
    return {name: facts[name] for name in ("username", "password", "api_key")} if facts else {}


def _read(var: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((var / SANDBOX_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return facts


def kept_offset(settings: Settings) -> int:
    """By how much the sandbox's ports are shifted, as it was told last; 0 where there is no sandbox."""
    if not settings.sandbox.enabled:
        return 0
    offset = _read(settings.server.var).get("port_offset", 0)
    return offset if isinstance(offset, int) else 0


def write_facts(settings: Settings, secrets: dict[str, Any], port_offset: int) -> dict[str, Any]:
    """Write the file (atomic, for the owner only) and return what it holds. `settings` are shifted already."""
    var = settings.server.var
    facts = {
        "smtp_ports": {
            _STANDARD_PORTS[listener.name]: listener.port
            for listener in settings.listener
            if listener.name in _STANDARD_PORTS
        },
        "host": "127.0.0.1",
        "port_offset": port_offset,
        "http_url": f"http://{settings.http.address}:{settings.http.port}",
        **secrets,
        "ca_file": str(var / "certs" / "ca.pem"),
        "domain": settings.sandbox.domain,
        "config": str(var / "relay.toml"),
    }
    temporary = var / f"{SANDBOX_FILE}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(facts, file, indent=2)
        file.write("\n")
    temporary.rename(var / SANDBOX_FILE)
    return facts


def examples(facts: dict[str, Any], relay: str) -> str:
    """One example each for swaks, curl and Python, and how to see what arrived. `relay` is the command to type."""
    user, password, ca_file = (shlex.quote(facts[name]) for name in ("username", "password", "ca_file"))
    host, port = facts["host"], facts["smtp_ports"]["587"]
    sender = facts["username"]
    inbox = f"{shlex.quote(relay)} --config {shlex.quote(facts['config'])} inbox"
    return f"""\
Sendrelay's sandbox is running. Every domain's MX is built in: nothing leaves this machine.

  SMTP   {", ".join(f"{known} -> {host}:{used}" for known, used in facts["smtp_ports"].items())}
  HTTP   {facts["http_url"]}   (/healthz, /readyz, /metrics, /sandbox/inbox)
  facts  {facts["config"].removesuffix("relay.toml")}{SANDBOX_FILE}

swaks:

  swaks --server {host}:{port} --tls --auth --auth-user {user} --auth-password {password} \\
    --from {sender} --to someone@example.com --header 'Subject: Hello from swaks'

curl:

  printf 'From: {sender}\\nTo: someone@example.com\\nSubject: Hello from curl\\n\\nHello\\n' | \\
  curl -sS --ssl-reqd --cacert {ca_file} smtp://{host}:{port} --user {user}:{password} \\
    --mail-from {sender} --mail-rcpt someone@example.com --crlf --upload-file -

Python:

  python3 - <<'END'
  import smtplib, ssl
  with smtplib.SMTP({host!r}, {port}) as client:
      client.starttls(context=ssl.create_default_context(cafile={facts["ca_file"]!r}))
      client.login({facts["username"]!r}, {facts["password"]!r})
      client.sendmail({sender!r}, ["someone@example.com"],
                      "From: {sender}\\nTo: someone@example.com\\nSubject: Hello from Python\\n\\nHello\\n")
  END

What arrived, signed:

  {inbox} list
  {inbox} show 1
  curl {facts["http_url"]}/sandbox/inbox
"""
