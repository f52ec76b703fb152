"""What an operator has to fix is one line that names it and the fix, and exit code 2."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from sandbox_server import Server, relay


def said(done: object) -> str:
    """The one line on standard error."""
    text = str(getattr(done, "stderr", "")).strip()
    assert "\n" not in text, text
    assert "Traceback" not in text
    return text


def serve(server: Server) -> object:
    done = relay("--config", server.config, "serve", "--port-offset", str(server.offset))
    assert done.returncode == 2
    return done


def test_a_taken_port_is_named_with_the_fix(server: Server) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 1587 + server.offset))
        other.listen()
        line = said(serve(server))
    assert f"127.0.0.1:{1587 + server.offset}" in line
    assert "the port is taken" in line


def test_an_unknown_setting_is_named_with_a_suggestion(server: Server) -> None:
    server.configure("[sandbox]", "[sandbox]\ndomian = 'x.example'")
    line = said(serve(server))
    assert str(server.config) in line
    assert "sandbox.domian: unknown setting; did you mean 'domain'?" in line


def test_a_bad_value_is_named_with_what_was_found(server: Server) -> None:
    server.configure("workers = 1", "workers = -3")
    assert "server.workers" in said(serve(server))


def test_a_missing_certificate_is_named(server: Server) -> None:
    (server.var / "certs" / "server.pem").unlink()
    line = said(serve(server))
    assert "server.pem" in line
    assert "relay init" in line


def test_an_unreadable_configuration_is_named(tmp_path: Path) -> None:
    done = relay("--config", tmp_path / "absent.toml", "serve")
    assert done.returncode == 2
    assert "absent.toml: cannot read it" in said(done)


def test_a_second_server_over_the_same_folder_is_refused(running: Server) -> None:
    done = relay("--config", running.config, "serve", "--port-offset", str(running.offset + 50))
    assert done.returncode == 2
    waits, _, refused = done.stderr.strip().partition("\n")
    assert waits.startswith("relay: waits until the server before this one has ended")
    assert "another server uses this spool" in refused
    assert "\n" not in refused


@pytest.mark.parametrize(
    ("tables", "named"),
    [
        ('[provider.bridge]\nkind = "sendpost"\napi_key_file = "/nowhere/key"\n', "/nowhere/key"),
        ('[provider.bridge]\nkind = "sendpots"\napi_key_file = "/dev/null"\n', "did you mean 'sendpost'?"),
        (
            '[provider.house]\nkind = "http"\napi_key_file = "/dev/null"\noptions.url = "https://a.example/"\n'
            'options.template = \'{"to": "{too}"}\'\n',
            "relay.toml: provider.house.options.template: at /to: no placeholder '{too}'; did you mean {to}?",
        ),
        ('[smarthost.isp]\nhost = "h.example"\nusername = "u"\n', "[smarthost.isp]: username without password_file"),
        ('[smarthost.isp]\nhost = "h.example"\nca_file = "/nowhere/ca.pem"\n', "/nowhere/ca.pem"),
    ],
)
def test_check_config_finds_what_serve_would_not_start_with(server: Server, tables: str, named: str) -> None:
    with server.config.open("a") as file:
        file.write(f"\n{tables}")
    done = relay("--config", server.config, "check-config")
    assert done.returncode == 2
    assert named in said(done)


def test_check_config_warns_of_inbound_mail_that_would_come_back(server: Server) -> None:
    server.configure("[sandbox]\nenabled = true", "[sandbox]\nenabled = false")
    done = relay("--config", server.config, "check-config")
    assert done.returncode == 0
    assert "mail for sandbox.example that port 25 takes goes to its MX in DNS" in done.stderr
    with server.config.open("a") as file:
        file.write('\n[[route]]\nname = "in"\nmatch.recipient_domain = ["sandbox.example"]\nvia = ["capture"]\n')
    assert "that port 25 takes" not in relay("--config", server.config, "check-config").stderr
