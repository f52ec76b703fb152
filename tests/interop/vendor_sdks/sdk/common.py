"""What every by_*.py has in common: SCRIPT LETTERS ADDRESS FOLDER, the API key in $SDK_KEY, inside the SDK's own venv.

LETTERS is a JSON list, ADDRESS the stub's host and port, FOLDER holds a letter's bytes as NAME.eml. Standard library
only. One line a letter: what the SDK made of the answer.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ADDRESS = sys.argv[2]
KEY = os.environ["SDK_KEY"]
IDEMPOTENCY_KEY = "an-applications-own-key"


def raw(letter: dict[str, Any]) -> bytes:
    return (Path(sys.argv[3]) / f"{letter['name']}.eml").read_bytes()


def everybody(letter: dict[str, Any]) -> list[str]:
    return [person["email"] for role in ("to", "cc", "bcc") for person in letter.get(role, ())]


def written(person: dict[str, str]) -> str:
    """As a user writes a mailbox into a string (RFC 5322 §3.4)."""
    if "name" not in person:
        return person["email"]
    name = person["name"].replace("\\", "\\\\").replace('"', '\\"')
    return f'"{name}" <{person["email"]}>'


def labels(letter: dict[str, Any]) -> dict[str, str]:
    """Tags and metadata where an API takes names and values of ASCII letters, digits, _ and - alone."""
    tags = {"tag" if n == 1 else f"tag{n}": tag for n, tag in enumerate(letter.get("tags", ()), 1)}
    return {name: re.sub(r"[^A-Za-z0-9_-]+", "_", value) for name, value in (tags | letter.get("metadata", {})).items()}


def each_letter(send: Callable[[dict[str, Any]], Any]) -> None:
    for letter in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        print(f"{letter['name']}: {send(letter)}", flush=True)
