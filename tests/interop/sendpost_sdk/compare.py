"""Sends every letter by the SDK and through a running relay to one stub, and compares the requests field by field.

compare.py --relay COMMAND --sdk PYTHON --work FOLDER. Exit code 1 on any difference that ALLOWED does not explain.
"""

from __future__ import annotations

import argparse
import json
import signal
import smtplib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from driver.sandbox import Sandbox, free_offset, running_sandbox
from driver.workplace import CheckError, Workplace
from smtp_send import submit
from stub import Recorded, Stub, running_stub

LETTERS = Path(__file__).with_name("letters.json")
KEY = "sp_interop_0123456789abcdef"
ABSENT = "(absent)"

ALLOWED = {
    "header user-agent": "each client names itself",
    "header content-length": "the SDK's JSON has spaces and escapes, the relay's is compact UTF-8",
    "header x-sendpost-public-contract": "the relay says which contract it reads; the SDK relies on the default",
}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--relay", type=Path, required=True)
    parser.add_argument("--sdk", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    # A terminated run still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    workplace = Workplace(options.work, options.relay)
    workplace.start_anew()
    try:
        with running_stub() as stub:
            by_sdk = send_by_sdk(workplace, options.sdk, stub)
            by_relay = send_by_relay(workplace, stub)
    except CheckError as error:
        print(f"FAILED: {error}")
        return 1
    return report(by_sdk, by_relay)


def letters() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(LETTERS.read_text(encoding="utf-8"))
    return found


def send_by_sdk(workplace: Workplace, python: Path, stub: Stub) -> list[Recorded]:
    """One request a letter, and the SDK has to understand the stub's answer."""
    said = workplace.program(
        "sdk", [python, LETTERS.with_name("sdk_send.py"), LETTERS, stub.base_url], env={"SENDPOST_KEY": KEY}
    )
    accepted = [line for line in said.splitlines() if " 0 " in line]
    if len(accepted) != len(letters()):
        raise CheckError(f"the SDK reports {len(accepted)} of {len(letters())} letters accepted")
    return [_expect(stub, letter["name"], "the SDK") for letter in letters()]


def send_by_relay(workplace: Workplace, stub: Stub) -> list[Recorded]:
    """One at a time, so that requests and letters stand in the same order."""
    key = workplace.file("sendpost.key", KEY.encode())

    def configure(config: Path) -> None:
        with config.open("a", encoding="utf-8") as file:
            file.write(_route(stub.base_url, key))

    found = []
    with running_sandbox(workplace, "bridge", free_offset(31_000), configure) as sandbox:
        for letter in letters():
            _submit(sandbox, letter)
            found.append(_expect(stub, letter["name"], "the relay"))
        _nothing_more(stub, sandbox)
    return found


def _submit(sandbox: Sandbox, letter: dict[str, Any]) -> None:
    try:
        submit(sandbox, letter)
    except (smtplib.SMTPException, OSError) as error:
        raise CheckError(f"{letter['name']}: the relay did not take it: {error}") from error


def _route(base_url: str, key: Path) -> str:
    return f"""
[provider.stub]
kind = "sendpost"
api_key_file = "{key}"
base_url = "{base_url}"
allow_private = true

[provider.stub.options]
track_opens = true
ippool = "transactional"

[[route]]
name = "bridge"
via = ["provider:stub"]
"""


def _expect(stub: Stub, letter: str, sender: str) -> Recorded:
    request = stub.next(30)
    if request is None:
        raise CheckError(f"{letter}: {sender} made no request within 30 s")
    return request


def _nothing_more(stub: Stub, sandbox: Sandbox) -> None:
    if stub.next(1) is not None:
        raise CheckError("the relay made more than one request for a letter")
    if sandbox.listing():
        raise CheckError("a letter went to the sandbox's MX instead of the provider")


# --- comparing ---------------------------------------------------------------------------------------------


def report(by_sdk: list[Recorded], by_relay: list[Recorded]) -> int:
    """Print the table; 1 when a difference is unexplained."""
    unexplained = 0
    print(f"{'letter':15} {'field':35} {'SDK':40} {'bridge':40} verdict")
    for letter, sdk, relay in zip(letters(), by_sdk, by_relay, strict=True):
        left, right = dict(fields(sdk)), dict(fields(relay))
        names = sorted({*left, *right})
        different = [name for name in names if left.get(name, ABSENT) != right.get(name, ABSENT)]
        for name in different:
            reason = ALLOWED.get(name, "")
            unexplained += not reason
            values = " ".join(f"{side.get(name, ABSENT)[:40]:40}" for side in (left, right))
            print(f"{letter['name']:15} {name:35} {values} {reason or 'DIFFERENT'}")
        print(f"{letter['name']:15} {len(names) - len(different)} of {len(names)} fields are equal")
    print(f"{len(by_sdk)} letters, {unexplained} unexplained differences")
    return 1 if unexplained else 0


def fields(request: Recorded) -> Iterator[tuple[str, str]]:
    """Every leaf of a request as a name and a value. Order counts in lists, not in objects."""
    yield "method", request.method
    yield "path", request.path
    for name, value in request.headers.items():
        yield f"header {name}", value
    yield from _leaves("", request.body)


def _leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(f"{name}.{key}" if name else key, inner)
    elif isinstance(value, list):
        yield f"{name}[]", str(len(value))
        for number, inner in enumerate(value):
            yield from _leaves(f"{name}[{number}]", inner)
    else:
        yield name, json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    raise SystemExit(main())
