"""Settings: what is wrong in a configuration is said in one line with file, key and fix."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relay.mail.errors import SettingsError
from relay.settings import load_settings


def refusal(folder: Path, text: str) -> str:
    path = folder / "relay.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as error:
        load_settings(path)
    line = str(error.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    return line.removeprefix(f"{path}: ")


def device(network: str, *, sender: str = "@z.example", listener: str = "a") -> str:
    """A configuration with one."""
    return (
        "[[listener]]\nname = 'a'\nport = 25\n\n"
        f"[[device]]\nname = 'd'\nnetwork = ['{network}']\naccount = 'y'\n"
        f"senders = ['{sender}']\nlisteners = ['{listener}']\n"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server\n", "not valid TOML"),
        ("[serverr]\n", "serverr: unknown setting; did you mean 'server'?"),
        ("[delivery]\nretyr = 'mta'\n", "delivery.retyr: unknown setting; did you mean 'retry'?"),
        ("[delivery.timeouts]\nbaner = 3\n", "delivery.timeouts.baner: unknown setting; did you mean 'banner'?"),
        ("[smarthost.x]\nhost = 'h'\nprt = 25\n", "smarthost.x.prt: unknown setting; did you mean 'port'?"),
        ("[http]\nport = 'x'\n", 'http.port: write a whole number, without quotes (found "x")'),
        ("[http]\nport = 70000\n", "http.port: write 65535 at the most (found 70000)"),
        ("[[listener]]\nname = 'a'\n", "listener.a: port is missing; set it, or address = 'unix:/a/path'"),
        (
            "[delivery]\nretry = 'mat'\n",
            "delivery.retry: no retry profile 'mat'; add [retry.mat], or use one of mta, otp, sendarix",
        ),
        (
            "[[route]]\nname = 'r'\nvia = ['smarthost:x']\n",
            "route 'r' uses 'smarthost:x', but there is no [smarthost.x]; add it",
        ),
        (
            "[[limit]]\nname = 'l'\nrate = '1/second'\nmatch = {candidate = ['provider:x']}\n",
            "limit 'l' uses 'provider:x', but there is no [provider.x]; add it",
        ),
        (
            "[[tls.certificate]]\ncertificate = 'a.pem'\nkey = 'a.key'\n",
            "tls.certificate: this is the main certificate's file; write further ones as [[tls.certificates]]",
        ),
        (
            "[[listener]]\nname = 'a'\nport = 25\nproxy_protocol = ['0.0.0.0/0']\n",
            "listener.a.proxy_protocol: 0.0.0.0/0 would let strangers claim any address; name your balancers and",
        ),
        (
            "[[listener]]\nname = 'a'\nport = 25\nxclient = ['0.0.0.0/0']\n",
            "listener.a.xclient: 0.0.0.0/0 would let strangers claim any address; name your balancers and proxies",
        ),
        (
            "[[listener]]\nname = 'a'\nport = 25\nproxy_protocol = ['::/8']\n",
            "listener.a.proxy_protocol: ::/8 would let strangers claim any address; name your balancers and",
        ),
        (
            "[[listener]]\nname = 'a'\nport = 25\ntls = 'none'\ntls_minimum = '1.3'\n",
            "listener.a: tls_minimum goes with neither tls = 'none', client_ca nor old_tls; take one of them out",
        ),
        (
            "[[listener]]\nname = 'a'\nport = 25\nmessage_size = 100\n",
            "listener.a.message_size: write octets, 1024 at least, or 0",
        ),
        (
            "[[listener]]\nname = 'a'\naddress = 'unix:s'\n",
            "listener.a: write a Unix socket as unix:/run/sendrelay/submission.sock",
        ),
        (
            "[[listener]]\nname = 'a'\nport = 25\npeer = [{user = 'x', account = 'y', senders = ['@z.example']}]\n",
            "listener.a: peer is for a Unix socket",
        ),
        (
            "[[listener]]\nname = 'a'\naddress = 'unix:/s'\nrole = 'mx'\n",
            "listener.a: role = 'mx', only_from, proxy_protocol and xclient mean nothing on a Unix socket",
        ),
        (
            device("0.0.0.0/0"),
            "device.d.network: 0.0.0.0/0 lets strangers send mail; name the devices' own addresses",
        ),
        (device("203.0.113.0/28"), "203.0.113.0/28 lets strangers send mail; name the devices' own addresses, public"),
        (device("::/0"), "::/0 lets strangers send mail; name the devices' own addresses, public ones in a /64"),
        (device("8.0.0.0/6"), "8.0.0.0/6 lets strangers send mail"),
        (device("10.0.0.0/8", sender="anybody"), "device.d.senders: address has no @domain; write"),
        (device("10.0.0.0/8", listener="b"), "device 'd' names the listener 'b'; those with a port: a"),
        (
            device("10.0.0.0/8") + device("10.0.0.0/8").partition("\n\n")[2].replace("'d'", "'e'"),
            "devices 'd' and 'e' both have 10.0.0.0/8; give it to one",
        ),
        (
            "[[limit]]\nname = 'l'\nrate = '10/s'\n",
            "limit.l.rate: write it as 10/second, 300/minute, 5000/hour or 100000/day",
        ),
        ("[[route]]\nname = 'r'\nvia = ['mx']\n", "route 'r' uses 'mx'; use direct, capture, smarthost:NAME"),
        (
            "[[route]]\nname = 'r'\nvia = ['direct']\nbalance = 'message'\nshare = {capture = 1}\n",
            "share names capture, which via does not; via is direct",
        ),
        (
            "[[route]]\nname = 'r'\nvia = ['direct']\nshare = {direct = 1}\n",
            'share means nothing while balance is "order"',
        ),
        ("[[route]]\nname = 'r'\nvia = ['direct']\n" * 2, "two routes are called 'r'; give each its own name"),
        ("[[listener]]\nname = 'a'\nport = 1\n" * 2, "two listeners are called 'a'; give each its own name"),
        (
            "[[listener]]\nname = 'a'\nport = 1\nplaintext_auth = true\n",
            "plaintext_auth is allowed on a loopback address only; set address = '127.0.0.1'",
        ),
    ],
)
def test_a_mistake_is_named_with_its_key_and_fix(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = " + "[" * 100_000, "not valid TOML: nested too deep"),
        ("a = " + "1" * 5000, "not valid TOML: a number is too long"),
        ('"a\\u001b[2J\\nb" = 1\n', r"a\x1b[2J\nb: unknown setting"),
    ],
)
def test_whatever_a_file_holds_it_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    refused = refusal(tmp_path, text)
    assert said in refused
    assert refused.isprintable()


def test_a_route_without_candidates_is_refused(tmp_path: Path) -> None:
    assert "route.r.via" in refusal(tmp_path, "[[route]]\nname = 'r'\nvia = []\n")


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_bytes(b"[server]\nhostname = '\xff'\n")
    with pytest.raises(SettingsError, match=r"not UTF-8 text at byte 21"):
        load_settings(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[server]\nvar = "/tmp/a\\u0000b"', "server.var: holds a NUL"),
        ('[server]\nhostname = "a b"', "server.hostname: write a host name"),
        ('[server]\nhostname = "a.example\\r\\n250 ok"', "server.hostname: write a host name"),
        (f'[server]\nhostname = "{"a" * 256}"', "server.hostname: write a host name"),
        ("[server]\nworkers = 99999999999999999999", "server.workers: "),
        ("[delivery.timeouts]\nconnect = inf", "delivery.timeouts.connect: "),
        ("[spool]\nhistory = nan", "spool.history: "),
        ("[retry.own]\ndelays = [1e308]", "retry.own.delays: "),
        ('[delivery]\nsource_address = "x y"', "delivery.source_address: write an IP address"),
        ('[delivery]\nmx_override = "[::1"', "delivery.mx_override: write host:port"),
        ('[delivery]\nmx_override = "::1:25"', "delivery.mx_override: write host:port"),
        ('[delivery]\nmx_override = "a.example"', "delivery.mx_override: write host:port"),
        ('[delivery]\nmx_override = ":25"', "delivery.mx_override: write host:port"),
        ('[delivery]\nmx_override = "a.example:"', "delivery.mx_override: write host:port"),
        ('[delivery]\nmx_override = "a.example:x"', "delivery.mx_override: write host:port"),
        ('[delivery]\nmx_override = "a.example:65536"', "delivery.mx_override: write host:port"),
        ('[delivery]\nmx_override = "a.example:0"', "delivery.mx_override: write host:port"),
        ('[smarthost.isp]\nhost = "a b"', "smarthost.isp.host: domain is not"),
        ('[inbound]\ndomains = ["a b"]', "inbound.domains: domain is not"),
        ('[inbound]\ndomains = ["a..ü"]', "inbound.domains: domain is not"),
        ('[inbound]\ndomains = [""]', "inbound.domains: domain is not"),
        ('[inbound]\npostmaster = "nobody"', "inbound.postmaster: "),
        ('[issuer.idp]\nissuer = "x"\naudience = ["y"]\njwks_url = "https://[x"', "issuer.idp: jwks_url has to begin"),
    ],
)
def test_what_no_server_could_start_or_work_with_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "relay.toml"
    path.write_text(f"{text}\n")
    with pytest.raises(SettingsError, match=re.escape(f"{path}: {said}")):
        load_settings(path)


@pytest.mark.parametrize(
    "text",
    [
        '[delivery]\nsource_address = "2001:db8::1"\nmx_override = "[::1]:2526"',
        '[delivery]\nmx_override = "localhost:2526"',
        '[smarthost.isp]\nhost = "192.0.2.1"',
        '[smarthost.isp]\nhost = "relay"',
        '[inbound]\ndomains = ["bücher.example", "[192.0.2.1]"]\npostmaster = "root@example.com"',
    ],
)
def test_addresses_names_and_endpoints_of_every_form_are_taken(tmp_path: Path, text: str) -> None:
    path = tmp_path / "relay.toml"
    path.write_text(f"{text}\n")
    load_settings(path)
