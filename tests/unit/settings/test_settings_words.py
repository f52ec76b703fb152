"""A mistake in the configuration is told in one line: the key as in the file, the value, and what to write."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from relay.mail.errors import SettingsError
from relay.settings import Settings, load_settings

_JARGON = re.compile(r"tuple|\\bdict|function-|Input should|valid (list|string)|model|instance|NoneType|pydantic|union")
_VALUES = (
    '""', '" "', '"x"', '"10/x"', '"**.."', "-1", "0.5", "1e20", "1" + "0" * 21, "nan", "inf", "true", "[]", "[[]]",
    '[""]', "[1]", "{}", "{a = 1}", "[{}]", "2020-01-01", "10:00:00",
)  # fmt: skip
_NEEDED = {
    "listener": 'name = "a"\nport = 0\n',
    "device": 'name = "a"\nnetwork = ["10.0.0.1"]\naccount = "a"\nsenders = ["@a.example"]\nlisteners = ["a"]\n',
    "route": 'name = "a"\nvia = ["direct"]\n',
    "limit": 'name = "a"\nrate = "1/second"\n',
    "retry": "delays = [1]\n",
    "issuer": 'issuer = "i"\naudience = ["a"]\njwks_url = "https://i.example/k"\n',
    "smarthost": 'host = "a.example"\n',
    "provider": 'kind = "sendpost"\napi_key_file = "k"\n',
    "contacts": 'kind = "sendx"\napi_key_file = "k"\n',
}


def refusal(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SettingsError) as error:
        load_settings(path)
    line = str(error.value)
    assert line.startswith(f"{path}: ")
    assert line.isprintable()
    return line.removeprefix(f"{path}: ")


def every_setting() -> list[tuple[str, str, str]]:
    """Section, key, and what stands above the key."""
    found = []
    for section, field in Settings.model_fields.items():
        whole = str(field.annotation)
        header = {"tuple": f"[[{section}]]", "dict[": f"[{section}.x]"}.get(whole[:5], f"[{section}]")
        arguments = (field.annotation, *getattr(field.annotation, "__args__", ()))
        model = next(one for one in arguments if isinstance(one, type) and issubclass(one, BaseModel))
        found += [(section, key, header) for key in model.model_fields]
    return found


@pytest.mark.parametrize(("section", "key", "header"), every_setting())
def test_no_wrong_value_of_any_setting_is_told_in_words_of_the_program(
    tmp_path: Path, section: str, key: str, header: str
) -> None:
    path = tmp_path / "relay.toml"
    needed = "".join(f"{line}\n" for line in _NEEDED.get(section, "").splitlines() if not line.startswith(f"{key} = "))
    for value in _VALUES:
        path.write_text(f"{header}\n{needed}{key} = {value}\n")
        try:
            load_settings(path)
        except SettingsError as error:
            words = str(error).removeprefix(f"{path}: ")
            assert not _JARGON.search(words), words
            assert section in words, words
            assert words.isprintable()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[listener]\nname = 'a'\n", "listener: there may be several; write [[listener]] above the settings of each"),
        ("[device.a]\n", "device: there may be several; write [[device]] above the settings of each"),
        ("route = ['direct']\n", "route: write [[route]] above the settings of each"),
        ("[[retry]]\ndelays = [1]\n", "retry: each has a name; write [retry.NAME] above its settings"),
        ("[retry]\ndelays = [1]\n", "retry.delays: each has a name; write [retry.NAME] above its settings"),
        ("server = 'a'\n", "server: write [server] in a line of its own, and its settings below"),
        ("[inbound]\ndomains = 'a.example'\n", 'inbound.domains: write a list in brackets, such as ["one", "other"]'),
        ("[guard]\nmessage_rate = '10/x'\n", "guard.message_rate: write it as 10/second, 300/minute, 5000/hour or"),
        ("[limits]\nmessage_size = 1e20\n", "limits.message_size: is too large; write a smaller whole number"),
        ("[limits]\nmemory = 10000000000000000\n", "limits.memory: write 1000000000000000 at the most (found 1"),
        ("[http]\nport = true\n", "http.port: write a number, without quotes (found true)"),
        ("[spool]\nhistory = 1e20\n", "spool.history: 1000000000 seconds (31 years) at the most (found 1e+20)"),
        ("[tls]\nexpiry_warning = 99999999999\n", "tls.expiry_warning: write 36500 at the most"),
        ("[tls]\nkey = false\n", "tls.key: write the path of a file in quotes"),
        ("[server]\nvar = ''\n", "server.var: is empty; write a path"),
        ("[retry.x]\ndelays = []\n", "retry.x.delays: is empty; write one at the least"),
        ("[retry.x]\n", "retry.x.delays: is missing; set it"),
        ("[retry.A]\ndelays = [1]\n", "retry.A: a name is 1 to 63 of a-z, 0-9,"),
        ("[site.x]\nmx = ['**..']\n", "site.x.mx: domain is not a valid host name; write a domain such as example.com"),
        ("[bounces]\ndomain = 'a b'\n", "bounces.domain: domain is not a valid host name; write a domain such as"),
        ("[account.a]\nretry = 'x'\n", "account.a.retry: no retry profile 'x'; add [retry.x], or use one of mta,"),
        ("[[route]]\nname = 'r'\nvia = ['direct']\nretry = 'x'\n", "route.r.retry: no retry profile 'x'"),
        ("[[listener]]\nport = 70000\n", "listener.#1.name: is missing; set it"),
        ("[[listener]]\nname = 'a'\nport = 70000\n", "listener.a.port: write 65535 at the most (found 70000)"),
        ("[log]\nlevel = debug\n", "not valid TOML: Invalid value (at line 2, column 9); text stands in quotes, and"),
        ("[log]\nlevel = 'infos'\n", "log.level: write 'debug', 'info', 'warning' or 'error' (found \"infos\")"),
        ("[log]\nlevel = 'info'\n".encode("utf-16"), "not UTF-8 text at byte 0; save it as UTF-8"),
        ("[log]\nlevel = 'info'\n".encode("utf-16-le"), "holds NUL octets, as UTF-16 text and damaged files do; save"),
        ("[log]\n# bücher\n".encode("latin-1"), "not UTF-8 text at byte 9; save it as UTF-8"),
    ],
)
def test_what_is_wrong_is_told_with_what_to_write(tmp_path: Path, text: str | bytes, said: str) -> None:
    assert refusal(tmp_path / "relay.toml", text).startswith(said)


def test_a_mark_at_the_beginning_as_windows_editors_write_it_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_bytes("\ufeff[log]\nlevel = 'debug'\n".encode())
    assert load_settings(path).log.level == "debug"


@pytest.mark.parametrize(
    "text",
    [
        "[smarthost.x]\nhost = 'a.example'\npassword = 'hunter2'\n",
        "[smarthost.x]\nhost = 'a.example'\npassword_file = ['hunter2']\n",
        "[provider.x]\nkind = 'sendpost'\napi_key_file = {key = 'hunter2'}\n",
        "smarthost = ['hunter2']\n",
        "[smarthost]\nx = 'hunter2'\n",
    ],
)
def test_a_secret_that_was_written_into_the_file_is_not_shown(tmp_path: Path, text: str) -> None:
    assert "hunter2" not in refusal(tmp_path / "relay.toml", text)


def test_a_route_may_name_the_null_sender_and_subdomains(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_text("[[route]]\nname = 'r'\nvia = ['direct']\nmatch = {sender_domain = ['', '*.a.example']}\n")
    assert load_settings(path).route[0].match.sender_domain == ("", "*.a.example")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('[http]\naddress = ""\n', "http.address: is empty; write 0.0.0.0 for every IPv4 address of this machine"),
        ('[[listener]]\nname = "a"\nport = 0\naddress = ""\n', "listener.a.address: is empty; write 0.0.0.0"),
        ('[[listener]]\nname = "a"\nport = 0\naddress = "x y"\n', "write a host name or an IP address"),
        ("[delivery]\nmx_port = 0\n", "delivery.mx_port"),
        ('[smarthost.x]\nhost = "a.example"\nport = 0\n', "smarthost.x.port"),
        ("[dns]\nminimum_ttl = 60\nmaximum_ttl = 30\n", "minimum_ttl is above maximum_ttl (30)"),
    ],
)
def test_a_value_that_would_only_fail_later_is_refused_at_once(tmp_path: Path, content: str, told: str) -> None:
    assert told in refusal(tmp_path / "relay.toml", content)
