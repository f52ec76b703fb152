"""The verbs `relay credential`, `relay key` and `relay account`, run as the operator runs them."""

import asyncio
import json

import pytest
import trustme
import typer
from typer.testing import CliRunner

from relay.auth.api_keys import ApiKeyVerifier
from relay.auth.credentials import CredentialAuthenticator
from relay.auth.passwords import PasswordVerifier, parse_hash
from relay.auth.scram import ScramBook
from relay.cli import account, client_cert, credential, key
from relay.ports import SystemClock
from relay.store.registry import REGISTRY_FILE, Registry

root = typer.Typer()
root.add_typer(account.app, name="account")
root.add_typer(credential.app, name="credential")
root.add_typer(client_cert.app, name="client-cert")
root.add_typer(key.app, name="key")


@pytest.fixture
def relay(tmp_path):
    config = tmp_path / "relay.toml"
    config.write_text(f'[server]\nvar = "{tmp_path / "var"}"\n')

    def run(*arguments: str, stdin: str | bytes | None = None):
        return CliRunner(env={"RELAY_CONFIG": str(config)}).invoke(root, list(arguments), input=stdin)

    return run


@pytest.fixture
def registry(tmp_path):
    one = Registry(tmp_path / "var" / REGISTRY_FILE)
    yield one
    one.close()


def login(registry: Registry, username: str, password: str):
    async def run():
        clock = SystemClock()
        passwords = PasswordVerifier(clock)
        try:
            return await CredentialAuthenticator(registry, passwords, clock).verify(username, password)
        finally:
            passwords.close()

    registry.refresh(5)
    return asyncio.run(run())


def test_add_prints_the_password_alone_and_it_works(relay, registry):
    """Standard output is one line a script can take; the rest is standard error."""
    result = relay("credential", "add", "app1", "--account", "acme", "--sender", "Bob@Example.COM")
    assert result.exit_code == 0, result.stderr
    password = result.stdout.strip()
    assert result.stdout == f"{password}\n"
    assert len(password) == 24
    assert password not in result.stderr
    assert "Account acme did not exist and was created." in result.stderr
    found = login(registry, "app1", password)
    assert (found.account, found.username, found.rights.addresses) == ("acme", "app1", ("Bob@example.com",))
    assert login(registry, "app1@acme.smtp.example", password) == found


def test_password_from_standard_input_is_never_printed(relay, registry):
    """The line ending is not part of it, everything else is."""
    result = relay(
        "credential", "add", "app1", "--password-stdin", stdin=" Gr\u00fc\u00dfe aus K\u00f6ln \r\nsecond line\n"
    )
    assert result.exit_code == 0, result.stderr
    assert "aus" not in result.output
    assert login(registry, "app1", " Gr\u00fc\u00dfe aus K\u00f6ln ").account == "default"


@pytest.mark.parametrize("stdin", ["short\n", "", "x" * 1100, b"\xff\xfe not text \xff\n"])
def test_unusable_password_is_code_2_and_stores_nothing(relay, stdin):
    """Too short, missing, too long, not UTF-8."""
    result = relay("credential", "add", "app1", "--password-stdin", stdin=stdin)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert json.loads(relay("credential", "list", "--json").stdout) == []


def test_rotate_ends_the_old_password_and_grace_keeps_it(relay, registry):
    """Without --grace at once; with it both work."""
    first = relay("credential", "add", "app1").stdout.strip()
    second = relay("credential", "rotate", "app1").stdout.strip()
    assert login(registry, "app1", first) is None
    assert login(registry, "app1", second)
    third = relay("credential", "rotate", "APP1", "--grace", "24h").stdout.strip()
    assert login(registry, "app1", second)
    assert login(registry, "app1", third)
    # One derivation answers for both, so a grace period does not show in the time a refusal takes.
    hashes = registry.find_credential("app1").hashes_at(0)
    assert len({parse_hash(phc).recipe for phc in hashes}) == 1
    assert len(hashes) == 2
    fourth = json.loads(relay("credential", "rotate", "app1", "--json").stdout)["password"]
    assert login(registry, "app1", third) is None
    assert login(registry, "app1", fourth)


def test_disable_and_enable_credential_and_account(relay, registry):
    """Either switch closes the door, and opening it again needs no new password."""
    password = relay("credential", "add", "app1", "--account", "acme").stdout.strip()
    for noun, name in (("credential", "app1"), ("account", "acme")):
        assert relay(noun, "disable", name).exit_code == 0
        assert login(registry, "app1", password) is None
        assert relay(noun, "enable", name).exit_code == 0
        assert login(registry, "app1", password)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("credential", "disable", "nobody"), 1),
        (("credential", "enable", "nobody"), 1),
        (("credential", "rotate", "nobody"), 1),
        (("key", "disable", "nosuchkey123"), 1),
        (("account", "disable", "nobody"), 1),
        (("credential", "add", "not a name"), 2),
        (("credential", "add", "ok", "--account", "../../etc"), 2),
        (("credential", "add", "ok", "--sender", "nonsense"), 2),
        (("credential", "add", "ok", "--sender-domain", "a b"), 2),
        (("credential", "add", "ok", "--note", "two\nlines"), 2),
        (("credential", "rotate", "ok", "--grace", "forever"), 2),
        (("credential", "rotate", "ok", "--grace", "31d"), 2),
        (("account", "add", "Upper"), 2),
        (("key", "add", "--scope", "everything"), 2),
    ],
)
def test_exit_codes_and_one_line(relay, arguments, code):
    """1 for what is not there, 2 for what has to be fixed; one line on standard error, nothing on standard output."""
    result = relay(*arguments)
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith("relay: ")
    assert result.stderr.count("\n") == 1


def test_taken_name_is_code_2_and_keeps_the_first_password(relay, registry):
    """Adding twice is no way to change a password."""
    password = relay("credential", "add", "app1").stdout.strip()
    assert relay("credential", "add", "App1").exit_code == 2
    assert login(registry, "app1", password)


def test_listings_show_no_secret(relay):
    """Neither hash nor key nor password, in either form."""
    password = relay("credential", "add", "app1", "--note", "the printer").stdout.strip()
    text = relay("key", "add", "--note", "ci").stdout.strip()
    for noun in ("credential", "key", "account"):
        for form in ((), ("--json",)):
            shown = relay(noun, "list", *form)
            assert shown.exit_code == 0
            assert not any(secret in shown.output for secret in (password, text.rpartition("_")[2], "argon2"))
    assert [one["username"] for one in json.loads(relay("credential", "list", "--json").stdout)] == ["app1"]
    assert json.loads(relay("credential", "list", "--json", "--account", "other").stdout) == []


def test_key_add_prints_a_key_that_opens_until_disabled(relay, registry):
    """The key noun end to end; a whole key pasted as the id works too and is not echoed."""
    text = relay("key", "add", "--account", "acme", "--scope", "messages:send").stdout.strip()
    registry.refresh(5)
    grant = ApiKeyVerifier(registry).verify(text)
    assert grant is not None
    assert grant.login.account == "acme"
    assert grant.allows("messages:send")
    assert not grant.allows("messages:read")
    result = relay("key", "disable", text)
    assert result.exit_code == 0
    assert text.rpartition("_")[2] not in result.output
    registry.refresh(5)
    assert ApiKeyVerifier(registry).verify(text) is None


def test_a_new_password_comes_with_its_scram_verifier(relay, registry, tmp_path):
    """Whatever the command was, and not where SCRAM is off; a listing says who has one."""
    password = relay("credential", "add", "App1").stdout.strip()
    registry.refresh(5)
    book = ScramBook(registry, SystemClock(), 65_536)
    one = registry.find_credential("app1")
    assert one.scram == book.verifier(password, one)
    again = relay("credential", "rotate", "app1", "--grace", "1h").stdout.strip()
    registry.refresh(5)
    one = registry.find_credential("app1")
    assert one.scram_at(0) == (book.verifier(again, one), book.verifier(password, one))
    (tmp_path / "relay.toml").write_text(f'[server]\nvar = "{tmp_path / "var"}"\n[auth]\nscram = "off"\n')
    relay("credential", "rotate", "app1")
    registry.refresh(5)
    assert registry.find_credential("app1").scram == ""
    assert [one["scram"] for one in json.loads(relay("credential", "list", "--json").stdout)] == [False]


def test_certificates_are_added_listed_and_removed(relay, registry, tmp_path):
    """By a name in them or by the file; a name stands for one credential."""
    relay("credential", "add", "app1", "--no-password")
    relay("credential", "add", "app2", "--no-password")
    file = tmp_path / "client.pem"
    trustme.CA().issue_cert("app@example.com").cert_chain_pems[0].write_to_path(file)
    assert relay("client-cert", "add", "App1", "--name", "DNS:Printer.Example").exit_code == 0
    assert relay("client-cert", "add", "app2", "--file", str(file)).exit_code == 0
    registry.refresh(5)
    assert registry.certificate_user("dns:printer.example") == "app1"
    listed = json.loads(relay("client-cert", "list", "--json").stdout)
    assert [one["username"] for one in listed] == ["app1", "app2"]
    assert registry.certificate_user(listed[1]["name"]) == "app2"
    for arguments, code in (
        (("add", "app2", "--name", "dns:printer.example"), 2),
        (("add", "app1", "--name", "dns:printer.example"), 0),
        (("add", "nobody", "--name", "dns:x.example"), 1),
        (("add", "app1"), 2),
        (("add", "app1", "--name", "x.example"), 2),
        (("add", "app1", "--file", str(tmp_path / "none.pem")), 2),
        (("add", "app1", "--file", str(tmp_path / "relay.toml")), 2),
        (("remove", "dns:other.example"), 1),
        (("remove", "DNS:printer.example"), 0),
    ):
        result = relay("client-cert", *arguments)
        assert (result.exit_code, result.stderr.count("\n")) == (code, 1), result.stderr
    registry.refresh(5)
    assert registry.certificate_user("dns:printer.example") is None


def test_a_credential_without_a_password_shows_none(relay):
    result = relay("credential", "add", "app1", "--no-password")
    assert (result.exit_code, result.stdout) == (0, "")
    assert relay("credential", "add", "app2", "--no-password", "--password-stdin", stdin="long enough\n").exit_code == 2
