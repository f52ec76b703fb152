"""What the pages tell people to type: every TOML example is a valid configuration, every `relay` command exists."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import DOCS, ROOT
from pydantic import ValidationError
from reference_pages import verbs

from relay.mail.errors import SettingsError
from relay.settings import Settings
from relay.transports.providers import build_provider

PAGES = sorted({*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "certs").glob("*.md")})
_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"(?:^|[|`(]|&& |\$ |relay/|-r )relay ((?:--config \S+ )?[a-z][^`|&;#\n]*)", re.MULTILINE)
_VERBS = {tuple(path.split()[1:]): command for path, command in verbs()}
_PROSE = {"is", "signs", "serves"}


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def toml_examples() -> Iterator[Any]:
    for path in PAGES:
        for number, (_, language, text) in enumerate(_BLOCK.findall(path.read_text(encoding="utf-8"))):
            if language == "toml":
                yield pytest.param(text, id=f"{ids(path)}-{number}")


def mistakes(text: str) -> list[str]:
    try:
        settings = Settings.model_validate(tomllib.loads(text))
        for name, provider in settings.provider.items():
            build_provider(name, provider)
    except ValidationError as error:
        return [f"{found['loc']}: {found['msg']}" for found in error.errors()]
    except SettingsError as error:
        return [str(error)]
    return []


@pytest.mark.parametrize("text", [*toml_examples()])
def test_every_toml_example_is_a_configuration(text: str) -> None:
    """A piece may name a smarthost or provider that stands elsewhere on its page; nothing else may be wrong.

    The options of providers are checked too.
    """
    found = mistakes(re.sub(r"^ {2,3}", "", text, flags=re.MULTILINE))
    assert [mistake for mistake in found if "but there is no [" not in mistake] == []


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_every_relay_command_exists_with_its_options(path: Path) -> None:
    for line in _COMMAND.findall(path.read_text(encoding="utf-8")):
        words = shlex.split(line.replace("'", ""), comments=True)
        if words[0] == "--config":
            words = words[2:]
        if words[0] in _PROSE:
            continue
        verb = next((v for v in (tuple(words[:2]), tuple(words[:1])) if v in _VERBS), None)
        group = words[0] in {v[0] for v in _VERBS if len(v) == 2} and (len(words) == 1 or "|" in line)
        assert verb is not None or group, f"relay {line}"
        known = {name for parameter in _VERBS[verb].params for name in parameter.opts} if verb else set()
        given = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert given <= known | {"--help"}, f"relay {line}"
