"""Libraries: nodemailer and PHPMailer called with options of their own, and what each says of every mail."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from driver.clients import Clients
from driver.workplace import PROGRAMS, CheckError

Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Said:
    """One mail by the library's own words; `id` is the relay's, where it was taken."""

    ok: bool
    reply: str
    error: str = ""
    rejected: Sequence[str] = ()
    parsed_id: str = ""

    @classmethod
    def read(cls, line: str) -> Said:
        said = json.loads(line)
        words = (said["ok"], said["reply"], said.get("error", ""), said.get("rejected", ()), said.get("id") or "")
        return cls(*words)

    @property
    def id(self) -> str:
        found = self.reply.partition("queued as ")[2]
        return found or self.parsed_id


@dataclass(frozen=True, slots=True)
class Library:
    """One of the two, called by its name."""

    name: str
    clients: Clients

    def call(self, case: str, port: int, asked: Options, **env: str) -> list[Said]:
        """Run it once with `{transport, mails}`. Raises CheckError when it breaks, not when mail is refused."""
        clients = self.clients
        options = clients.workplace.file(f"{case}.options", json.dumps({"transport": {}, **asked}).encode())
        program = {
            "nodemailer": ["node", PROGRAMS / "options/nodemailer.js"],
            "PHPMailer": [*clients.php, PROGRAMS / "options/phpmailer.php"],
        }[self.name]
        done = clients.workplace.program(
            case, program, env={**clients.environment(port), "OPTIONS": str(options), **env}
        )
        return [Said.read(line) for line in done.splitlines() if line.startswith("{")]

    def taken(self, case: str, port: int, asked: Options, **env: str) -> list[Said]:
        """The same where every mail has to be taken."""
        said = self.call(case, port, asked, **env)
        for one in said:
            if not one.ok:
                raise CheckError(f"not sent: {one.error or one.reply}")
        return said
