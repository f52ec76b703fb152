"""`relay domain` as the operator runs it: from the first key to a green check, against a DNS server on loopback."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.zone
import pytest
import typer
from typer.testing import CliRunner

from relay.cli import domain
from relay.ports import SystemClock
from relay.signing.dkim import DkimSigner
from relay.signing.keys import KeyStore

HOST = "relay.example.net"
OWN_ZONE = f"{HOST}. IN A 192.0.2.1\n"

root = typer.Typer()
root.add_typer(domain.app, name="domain")


class NameServer:
    """Answers for what `zone` holds, in zone-file lines; NXDOMAIN for the rest; SERVFAIL while `broken`."""

    def __init__(self) -> None:
        self.zone = ""
        self.broken = False
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._socket.getsockname())
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            if not query:
                return
            self._socket.sendto(self._answer(dns.message.from_wire(query)).to_wire(), client)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        if self.broken:
            answer.set_rcode(dns.rcode.SERVFAIL)
            return answer
        zone = dns.zone.from_text(f"$TTL 60\n{self.zone}", ".", relativize=False, check_origin=False)
        question = query.question[0]
        node = zone.get_node(question.name)
        if node is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif (found := node.get_rdataset(question.rdclass, question.rdtype)) is not None:
            answer.find_rrset(answer.answer, question.name, question.rdclass, question.rdtype, create=True).update(
                found
            )
        return answer


@pytest.fixture
def server() -> Iterator[NameServer]:
    one = NameServer()
    one.zone = OWN_ZONE
    yield one
    one.close()


@pytest.fixture
def relay(tmp_path: Path, server: NameServer) -> SimpleNamespace:
    """`run(...)` runs a verb with its own configuration and var folder."""
    config = tmp_path / "relay.toml"
    var = tmp_path / "var"
    var.mkdir()
    config.write_text(
        f'[server]\nvar = "{var}"\nhostname = "{HOST}"\n[dns]\nnameservers = ["{server.address}"]\ntimeout = 2\n'
    )

    def run(*arguments: str):
        return CliRunner(env={"RELAY_CONFIG": str(config)}).invoke(root, ["domain", *arguments])

    return SimpleNamespace(run=run, config=config, var=var)


def test_from_the_first_key_to_a_green_check(relay, server: NameServer) -> None:
    """The zone lines `add` prints are all that `check` asks for."""
    assert relay.run("check", "example.com").exit_code == 2
    added = relay.run("add", "Example.com", "--zone")
    assert added.exit_code == 0, added.output
    before = relay.run("check", "example.com")
    assert before.exit_code == 1
    assert before.stdout.count("missing") == 6
    server.zone = OWN_ZONE + added.stdout
    after = relay.run("check", "example.com")
    assert after.exit_code == 0, after.output
    assert after.stdout.count("found") == 6


def test_json_is_the_same_in_every_verb(relay, server: NameServer) -> None:
    """A program reads keys, records and verdicts by the same names; no private key among them."""
    added = json.loads(relay.run("add", "example.com", "--json").stdout)
    keys = [
        {"selector": "relay1", "algorithm": "rsa", "active": True},
        {"selector": "relay1e", "algorithm": "ed25519", "active": True},
    ]
    assert (added["domain"], added["keys"]) == ("example.com", keys)
    assert [record["purpose"] for record in added["records"]] == ["dkim", "dkim", "spf", "dmarc", "return-path", "spf"]
    assert json.loads(relay.run("list", "--json").stdout) == [{"domain": "example.com", "keys": keys}]
    result = relay.run("check", "example.com", "--json")
    verdict = json.loads(result.stdout)
    assert result.exit_code == 1
    assert verdict["ok"] is False
    assert [{key: found[key] for key in ("name", "type", "value", "purpose")} for found in verdict["records"]] == added[
        "records"
    ]
    assert {found["status"] for found in verdict["records"]} == {"missing"}


def test_adding_again_prints_the_same_records(relay) -> None:
    """Nothing is made anew, and keys brought along under other names get no company unasked."""
    first = relay.run("add", "example.com")
    assert relay.run("add", "example.com").stdout == first.stdout
    folder = relay.var / "keys" / "example.com"
    (folder / "relay1.rsa.pem").rename(folder / "mail.rsa.pem")
    assert "mail._domainkey.example.com" in relay.run("add", "example.com").stdout
    assert not (folder / "relay1.rsa.pem").exists()


def test_rotation(relay) -> None:
    """A second selector is made, shown as waiting, and signs once `use` says so."""
    relay.run("add", "example.com")
    added = relay.run("add", "example.com", "--selector", "relay2")
    assert "relay domain use example.com relay2 relay2e" in added.stderr
    assert "relay2 (rsa, waiting)" in relay.run("list").stdout
    assert relay.run("use", "example.com", "relay2", "relay2e").exit_code == 0
    assert "relay1 (rsa, waiting)" in relay.run("list").stdout
    assert relay.run("use", "example.com", "relay9").exit_code == 2


def test_a_wrong_record_is_shown_beside_the_wanted(relay, server: NameServer) -> None:
    """What stands in DNS is printed without its control characters, with what to put there."""
    relay.run("add", "example.com")
    server.zone = OWN_ZONE + 'example.com. IN TXT "v=spf1 -all \\027[31m" "x"\n'
    output = relay.run("check", "example.com").stdout
    assert "\x1b" not in output
    assert "wrong    TXT  example.com\n" in output
    assert "wanted: v=spf1 a:relay.example.net ~all" in output


def test_no_answer_is_no_verdict(relay, server: NameServer) -> None:
    """A name server in trouble is exit code 1 and never called a missing record."""
    relay.run("add", "example.com")
    server.broken = True
    result = relay.run("check", "example.com")
    assert result.exit_code == 1
    assert result.stdout.count("unknown") == 6
    assert "missing" not in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", "../etc"),
        ("add", "example.com", "--selector", "../../x"),
        ("check", "example"),
        ("check", "example.org"),
        ("use", "example.org", "x"),
    ],
)
def test_mistakes_are_one_line(relay, arguments: tuple[str, ...]) -> None:
    """Exit code 2, one line on standard error, nothing on disk."""
    result = relay.run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("relay: ")
    assert result.stderr.count("\n") == 1
    assert not (relay.var / "keys").exists()


def test_a_received_message_is_verified_by_the_keys_in_dns(relay, server: NameServer, tmp_path: Path) -> None:
    """Lone LFs, as a mail program may save them, are no reason to doubt a signature."""
    server.zone = OWN_ZONE + relay.run("add", "example.com", "--zone").stdout
    message = b"From: a@example.com\r\nSubject: Hello\r\n\r\nHi\r\n"
    signature = DkimSigner(KeyStore(relay.var / "keys"), SystemClock()).sign(message, "example.com")
    saved = tmp_path / "message.eml"
    saved.write_bytes((signature + message).replace(b"\r\n", b"\n"))

    verified = relay.run("verify", str(saved))
    assert verified.exit_code == 0, verified.output
    assert verified.stdout == (
        "d=example.com s=relay1 a=rsa-sha256  holds\nd=example.com s=relay1e a=ed25519-sha256  holds\n"
    )
    saved.write_bytes((signature + message).replace(b"Hi", b"Ho"))
    assert json.loads(relay.run("verify", str(saved), "--json").stdout)["ok"] is False
    saved.write_bytes(message)
    assert (relay.run("verify", str(saved)).exit_code, relay.run("verify", str(saved)).stdout) == (1, "not signed\n")
    saved.write_bytes(signature + message)
    server.broken = True
    assert relay.run("verify", str(saved)).exit_code == 2


def test_a_relay_without_a_name_is_told(relay) -> None:
    """Records that name `localhost` help nobody."""
    relay.config.write_text(f'[server]\nvar = "{relay.var}"\nhostname = "localhost"\n')
    assert "set server.hostname" in relay.run("add", "example.com").stderr
