"""`relay providers`: what is configured, and what a message would lose; no key is shown and nothing is sent."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from relay.cli.main import app

CONFIG = """
[provider.a]
kind = "sendgrid"
api_key_file = "{key}"

[provider.b]
kind = "sendarix"
api_key_file = "{key}"
hook_token_file = "{key}"

[[route]]
name = "all"
via = ["provider:a", "provider:b"]
"""
MESSAGE = b"""From: app@example.org
To: ann@example.net
Subject: x
X-SMTPAPI: {"category": "k"}
Content-Type: multipart/mixed; boundary=m

--m

hello
--m
Content-Type: application/pdf

PDF
--m--
"""


@pytest.fixture
def files(tmp_path):
    (tmp_path / "key").write_text("a-secret-that-is-long")
    (tmp_path / "relay.toml").write_text(CONFIG.format(key=tmp_path / "key"))
    (tmp_path / "message.eml").write_bytes(MESSAGE)
    return tmp_path


def run(files, *words):
    return CliRunner().invoke(app, ["--config", str(files / "relay.toml"), "providers", *words])


def test_list_names_what_is_configured_and_no_secret(files):
    told = run(files, "list")
    assert told.exit_code == 0
    assert "a  sendgrid  https://api.sendgrid.com/v3  no callbacks" in told.output
    assert "b  sendarix  https://app.sendarix.com/v1  calls back at /hooks/b/..." in told.output
    assert "secret" not in told.output


def test_explain_tells_who_carries_a_message_and_who_refuses_it(files):
    told = run(files, "explain", str(files / "message.eml"), "--to", "ann@example.net", "--to", "bob@example.net")
    assert told.exit_code == 0
    assert "a: carried without loss" in told.output
    assert "POST https://api.sendgrid.com/v3/mail/send" in told.output
    assert "    ann@example.net, bob@example.net" in told.output
    assert "b: refused: 550 5.6.1 Sendarix takes no attachments" in told.output
    assert "secret" not in told.output


def test_explain_as_json_and_exit_code_1_where_nobody_carries_it(files):
    (files / "message.eml").write_bytes(b"Subject: no author\r\n\r\nx\r\n")
    told = run(files, "explain", str(files / "message.eml"), "--to", "ann@example.net", "--json")
    assert told.exit_code == 1
    answer = json.loads(told.output)
    assert [one["carried"] for one in answer["providers"]] == [False, False]


def test_what_the_gate_refuses_is_said_so(files):
    (files / "message.eml").write_bytes(b"From: a@example.org\r\nX-SMTPAPI: {\r\n\r\nx\r\n")
    told = run(files, "explain", str(files / "message.eml"), "--to", "ann@example.net")
    assert told.exit_code == 2
    assert "the relay itself would refuse it" in told.output
