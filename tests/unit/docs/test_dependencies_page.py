"""docs/dependencies.md names every dependency, in the order of pyproject.toml, with what it is for and its licence."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from pages import ROOT, names, page, section, table

PAGE = page("dependencies.md")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def required(requirements: list[str]) -> list[str]:
    return [re.split(r"[^A-Za-z0-9_.-]", one)[0] for one in requirements]


def test_every_dependency_has_its_line() -> None:
    assert names(section(PAGE, "To run")) == required(PROJECT["dependencies"])
    assert names(section(PAGE, "To develop")) == required(
        [one for extra in ("dev", "fuzz") for one in PROJECT["optional-dependencies"][extra]]
    )


def test_no_cell_is_empty() -> None:
    assert all(all(row) for row in table(PAGE))


def test_what_the_server_does_not_import_is_said_to_be_so() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "relay").rglob("*.py"))
    imported = set(re.findall(r"^ *(?:import|from) (\w+)", source, re.MULTILINE))
    modules = {"dnspython": "dns", "dkimpy": "dkim", "pyjwt": "jwt"}
    for row in table(section(PAGE, "To run")):
        name = row[0].strip("`")
        module = modules.get(name, name.replace("-", "_"))
        assert (module in imported) != ("does not import it" in row[1]), name
