"""Front door: a sandbox with what the clients of these sections need beside the four ports, and what it knows of them.

Listeners of its own: one without TLS, one strict, two behind a balancer, one behind an SMTP proxy; an issuer of tokens.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from driver.clients import Clients
from driver.dkimcheck import DkimRecords
from driver.farend import FarEnd
from driver.sandbox import Arrived, running_sandbox
from driver.workplace import CheckError, Workplace

ROBOT = "robot@sandbox.example"
BOUND = "bound@sandbox.example"
_ISSUER = "https://login.example"
# Ports as the configuration names them; `Sandbox.ports` gets them too, shifted like the others.
PLAIN, STRICT, BALANCED, BALANCED_TLS, UNWRAPPED, PROXIED = 3025, 3026, 3027, 3028, 3029, 3030
_LISTENERS = f"""
[[listener]]
name = "plain"
address = "127.0.0.1"
port = {PLAIN}
role = "submission"
tls = "none"

[[listener]]
name = "strict"
address = "127.0.0.1"
port = {STRICT}
role = "submission"
tls = "starttls"
tolerate = []

[[listener]]
name = "balanced"
address = "127.0.0.1"
port = {BALANCED}
role = "submission"
tls = "starttls"
proxy_protocol = ["127.0.0.1/32"]

[[listener]]
name = "balanced-tls"
address = "127.0.0.1"
port = {BALANCED_TLS}
role = "submission"
tls = "implicit"
proxy_protocol = ["127.0.0.1/32"]

[[listener]]
name = "unwrapped"
address = "127.0.0.1"
port = {UNWRAPPED}
role = "submission"
tls = "none"
plaintext_auth = true
proxy_protocol = ["127.0.0.1/32"]

[[listener]]
name = "proxied"
address = "127.0.0.1"
port = {PROXIED}
role = "submission"
tls = "starttls"
xclient = ["127.0.0.1/32"]
xclient_login = true
"""


class FrontDoor:
    """The running sandbox and the questions that its operator would ask."""

    def __init__(
        self, workplace: Workplace, clients: Clients, far_end: FarEnd, key: ec.EllipticCurvePrivateKey
    ) -> None:
        self.workplace = workplace
        self.clients = clients
        self.sandbox = clients.sandbox
        self.far_end = far_end
        self._key = key
        self.sender = f"shop@{self.sandbox.domain}"

    def relay(self, name: str, *words: str) -> str:
        """A verb of the operator's, to its end."""
        return self.workplace.program(name, [self.workplace.relay, "--config", self.sandbox.var / "relay.toml", *words])

    def asked_for(self, message: str) -> dict[str, Any]:
        """What MAIL asked for, as the queue keeps it."""
        options: dict[str, Any] = json.loads(self.relay("queue-show", "queue", "show", message, "--json"))["options"]
        return options

    def token(self, user: str = ROBOT) -> str:
        """One that logs this user in."""
        claims = {"iss": _ISSUER, "aud": "interop", "sub": user, "exp": time.time() + 600}
        return jwt.encode(claims, self._key, algorithm="ES256", headers={"kid": "interop"})

    def add_credential(self, user: str, *options: str) -> str:
        """Its password."""
        said = self.relay("credential-add", "credential", "add", user, *options, "--json")
        password: str = json.loads(said[said.index("{") : said.rindex("}") + 1])["password"]
        return password

    def connections(self, listener: str) -> int:
        """How many the listener has had, by its metric."""
        with urllib.request.urlopen(f"{self.sandbox.http_url}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        start = f'relay_connections_opened_total{{listener="{listener}"}} '
        return sum(int(float(line.removeprefix(start))) for line in text.splitlines() if line.startswith(start))

    def one(self, recipient: str) -> Arrived:
        """The only message for this recipient."""
        arrived = self.far_end.collect([recipient])
        if len(arrived) != 1:
            raise CheckError(f"{len(arrived)} messages for {recipient}")
        return arrived[0]

    def failed_sessions(self) -> dict[str, dict[str, Any]]:
        """The failed sessions the server remembers, by id."""
        listed = self.relay("sessions-list", "sessions", "list", "--limit", "1000", "--json")
        return {entry["id"]: entry for entry in json.loads(listed)["sessions"]}


@contextmanager
def running_front_door(workplace: Workplace, offset: int) -> Iterator[FrontDoor]:
    """For as long as the block lasts."""
    key = ec.generate_private_key(ec.SECP256R1())
    keys = {"keys": [{**ECAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": "interop"}]}
    published = workplace.file("front-door.jwks", json.dumps(keys).encode())

    def configure(config: Path) -> None:
        with config.open("a") as file:
            file.write(_LISTENERS)
            file.write(f'\n[issuer.interop]\nissuer = "{_ISSUER}"\naudience = ["interop"]\n')
            file.write(f'jwks_file = "{published}"\nusername_claim = "sub"\n')
            file.write('\n[account.default]\nsuppress = "all"\n')
        command = [workplace.relay, "--config", config, "credential", "add", ROBOT, "--no-password"]
        workplace.program("credential-robot", command)

    with running_sandbox(workplace, "front-door", offset, configure) as sandbox:
        for port in (PLAIN, STRICT, BALANCED, BALANCED_TLS, UNWRAPPED, PROXIED):
            sandbox.ports[port] = port + offset
        far_end = FarEnd(sandbox, DkimRecords.of(sandbox.var, sandbox.domain))
        yield FrontDoor(workplace, Clients(workplace, sandbox), far_end, key)
