"""Every letter by each vendor's own SDK to a stub, and by the relay's provider; the requests compared field by field.

compare.py --sdks FOLDER --work FOLDER [KIND]... Exit code 1 on any difference that vendors.py does not explain.
compare.py --list: every kind and the package of its SDK.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import urlsplit

from driver.workplace import CheckError, Workplace
from fields import fields
from letters import Letter, as_mime, envelope, letters
from stub import Recorded, Stub, running_stub, self_signed
from vendors import EVERYWHERE, VENDORS, Vendor

from relay.mail.dialects import read_directives, without_directives
from relay.mail.envelope import Envelope, Recipient
from relay.mail.message import header_block, header_fields
from relay.mail.outcome import Sent
from relay.ports import DeliveryRequest
from relay.settings import ProviderSettings
from relay.transports.providers import build_provider
from relay.transports.providers.base import HttpRequest, HttpResponse, Provider, Refusal

SCRIPTS = Path(__file__).with_name("sdk")
ABSENT = "(absent)"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--sdks", type=Path)
    parser.add_argument("--work", type=Path)
    parser.add_argument("kinds", nargs="*")
    options = parser.parse_args()
    if options.list:
        print("\n".join(f"{vendor.kind} {vendor.package}" for vendor in VENDORS))
        return 0
    # A terminated run still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    workplace = Workplace(options.work, Path("unused"))
    workplace.start_anew()
    unexplained = 0
    for vendor in VENDORS:
        if not options.kinds or vendor.kind in options.kinds:
            try:
                unexplained += compared(workplace, options.sdks / vendor.kind, vendor)
            except CheckError as error:
                print(f"{vendor.kind:10} FAILED: {error}")
                unexplained += 1
    return 1 if unexplained else 0


def compared(workplace: Workplace, sdk: Path, vendor: Vendor) -> int:
    """The number of differences nothing explains."""
    carried = [letter for letter in letters() if letter["name"] not in vendor.refuses]
    certificate = self_signed(workplace.run) if vendor.tls else None
    with running_stub(vendor.answer, certificate) as stub:
        provider = provider_of(vendor, stub)
        by_sdk = send_by_sdk(workplace, sdk, vendor, carried, stub)
    for letter in letters():
        if letter["name"] in vendor.refuses and not isinstance(rendered(provider, letter), Refusal):
            raise CheckError(f"{letter['name']} is carried, and was to be refused")
    by_relay = [request_of(provider, vendor, letter) for letter in carried]
    if vendor.signer:
        check_signatures(workplace, sdk, vendor, by_relay)
    return report(vendor, carried, by_sdk, by_relay)


# --- the SDK -----------------------------------------------------------------------------------------------


def send_by_sdk(workplace: Workplace, sdk: Path, vendor: Vendor, carried: list[Letter], stub: Stub) -> list[Recorded]:
    """One request a letter, and the SDK has to understand the stub's answer."""
    folder = workplace.run / "letters"
    folder.mkdir(exist_ok=True)
    for letter in carried:
        (folder / f"{letter['name']}.eml").write_bytes(without_directives(as_mime(letter)))
    given = workplace.file(f"{vendor.kind}.json", json.dumps(carried).encode())
    script = SCRIPTS / (vendor.script or f"by_{vendor.kind}.py")
    program = "node" if vendor.npm else sdk / "bin/python"
    env = {
        "SDK_KEY": vendor.key,
        "NODE_PATH": str(sdk / "node_modules"),
        "REQUESTS_CA_BUNDLE": str(workplace.run / "stub.crt") if vendor.tls else "",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    said = workplace.program(f"{vendor.kind}-sdk", [program, script, given, stub.address, folder], env=env)
    found = stub.taken()
    if len(found) != len(carried) or len(said.strip().splitlines()) < len(carried):
        raise CheckError(f"the SDK made {len(found)} requests for {len(carried)} letters")
    return found


# --- the relay ---------------------------------------------------------------------------------------------


def provider_of(vendor: Vendor, stub: Stub) -> Provider:
    base_url = f"{'https' if vendor.tls else 'http'}://{stub.address}{vendor.path}"
    settings = ProviderSettings(
        kind=vendor.kind, api_key_file=Path("unused"), base_url=base_url, allow_private=True, options=vendor.options
    )
    return build_provider(vendor.kind, settings)


def rendered(provider: Provider, letter: Letter) -> HttpRequest | Refusal:
    content = as_mime(letter)
    recipients = tuple(Recipient(address) for address in envelope(letter))
    asked = read_directives(header_fields(header_block(content)))
    whole = Envelope(letter["from"]["email"], recipients)
    request = DeliveryRequest(
        "id-1", "acme", whole.reverse_path, recipients, "", whole, idempotency_key="id-1-0", directives=asked
    )
    found = provider.render(request, without_directives(content))
    if isinstance(found, Refusal):
        return found
    [call] = found.requests
    return call


def request_of(provider: Provider, vendor: Vendor, letter: Letter) -> Recorded:
    """As it would go out, but for what the HTTP client adds. The provider has to understand the stub's answer, too."""
    call = rendered(provider, letter)
    if isinstance(call, Refusal):
        raise CheckError(f"{letter['name']} is refused: {call.reply}")
    headers = {**call.headers, **provider.authorise(call, vendor.key, 1_795_514_400.0)}
    given = {name.lower(): value for name, value in vendor.answer.headers}
    outcomes = provider.read(HttpResponse(vendor.answer.status, given, vendor.answer.body.encode()), call)
    if not all(isinstance(outcome, Sent) for outcome in outcomes.values()):
        raise CheckError(f"{letter['name']}: the provider does not take the answer for an acceptance")
    url = urlsplit(call.url)
    headers["Host"] = url.netloc
    path = f"{url.path}?{url.query}" if url.query else url.path
    return Recorded(call.method, path, {name.lower(): value for name, value in headers.items()}, call.body)


def check_signatures(workplace: Workplace, sdk: Path, vendor: Vendor, requests: list[Recorded]) -> None:
    """The SDK's signer, given the relay's request and its moment, has to come to the same."""
    for number, request in enumerate(requests):
        given = {**asdict(request), "body": request.body.decode()}
        path = workplace.file(f"{vendor.kind}-{number}.json", json.dumps(given).encode())
        words = [sdk / "bin/python", SCRIPTS / vendor.signer, path]
        said = workplace.program(f"{vendor.kind}-signer", words, env={"SDK_KEY": vendor.key}).strip()
        if said != request.headers["authorization"]:
            raise CheckError(f"the SDK signs otherwise: {said}")


# --- comparing ---------------------------------------------------------------------------------------------


def report(vendor: Vendor, carried: list[Letter], by_sdk: list[Recorded], by_relay: list[Recorded]) -> int:
    """What is explained is shown once."""
    unexplained = compared_fields = 0
    shown = set(EVERYWHERE)
    for letter, sdk, relay in zip(carried, by_sdk, by_relay, strict=True):
        left, right = dict(fields(sdk)), dict(fields(relay))
        compared_fields += len({*left, *right})
        for name, values in differences(left, right):
            reason = explained(vendor, name)
            unexplained += not reason
            if not reason or name not in shown:
                words = " ".join(f"{value[:60]:60}" for value in values)
                print(f"{vendor.kind:10} {letter['name']:12} {name:36} {words} {reason or 'DIFFERENT'}")
            shown |= {name} if reason else set()
    print(f"{vendor.kind:10} {len(carried)} letters, {compared_fields} fields, {unexplained} unexplained differences")
    return unexplained


def differences(left: dict[str, str], right: dict[str, str]) -> Iterator[tuple[str, tuple[str, str]]]:
    for name in sorted({*left, *right}):
        values = (left.get(name, ABSENT), right.get(name, ABSENT))
        if values[0] != values[1]:
            yield name, values


def explained(vendor: Vendor, name: str) -> str:
    for pattern, reason in {**EVERYWHERE, **vendor.allowed}.items():
        if fnmatchcase(name, pattern.replace("[", "[[]")):
            return reason
    return ""


if __name__ == "__main__":
    raise SystemExit(main())
