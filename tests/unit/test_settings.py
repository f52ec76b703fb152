"""Settings: what is wrong in a configuration is said in one line with file, key and fix."""

from __future__ import annotations

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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server\n", "not valid TOML"),
        ("[serverr]\n", "serverr: unknown setting; did you mean 'server'?"),
        ("[delivery]\nretyr = 'mta'\n", "delivery.retyr: unknown setting; did you mean 'retry'?"),
        ("[delivery.timeouts]\nbaner = 3\n", "delivery.timeouts.baner: unknown setting; did you mean 'banner'?"),
        ("[smarthost.x]\nhost = 'h'\nprt = 25\n", "smarthost.x.prt: unknown setting; did you mean 'port'?"),
        ("[http]\nport = 'x'\n", "http.port: Input should be a valid integer"),
        ("[http]\nport = 70000\n", "http.port: Input should be less than or equal to 65535 (found 70000)"),
        ("[[listener]]\nname = 'a'\n", "listener.0.port: Field required"),
        ("[delivery]\nretry = 'mat'\n", "no retry profile 'mat'; known: mta, otp, sendarix"),
        (
            "[[route]]\nname = 'r'\nvia = ['smarthost:x']\n",
            "route 'r' uses 'smarthost:x', but there is no [smarthost.x]; add it",
        ),
        (
            "[[limit]]\nname = 'l'\nrate = '1/second'\nmatch = {candidate = ['provider:x']}\n",
            "limit 'l' uses 'provider:x', but there is no [provider.x]; add it",
        ),
        ("[[limit]]\nname = 'l'\nrate = '10/s'\n", "limit.0.rate: write it as 10/second, 300/minute or 5000/hour"),
        ("[[route]]\nname = 'r'\nvia = ['mx']\n", "route 'r' uses 'mx'; use direct, capture, smarthost:NAME"),
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


def test_a_route_without_candidates_is_refused(tmp_path: Path) -> None:
    assert "route.0.via" in refusal(tmp_path, "[[route]]\nname = 'r'\nvia = []\n")


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_bytes(b"[server]\nhostname = '\xff'\n")
    with pytest.raises(SettingsError, match=r"not UTF-8 text at byte 21"):
        load_settings(path)
