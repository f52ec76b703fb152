"""`relay domain`: signing keys of a domain, the DNS records it needs, and whether DNS shows them.

Works beside a running server, which follows when it reloads. A private key is never printed.
Exit codes: 0 done, 1 something in DNS is not as it should be, 2 something to fix.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from relay.checks.spf import SpfChecker
from relay.cli.common import fail, load, operator_errors, print_json
from relay.cli.verdicts import report_verdicts
from relay.dns.resolver import DnsResolver
from relay.mail.errors import DnsTemporaryError, OperatorError
from relay.ports import SystemClock
from relay.settings import Settings
from relay.signing.check import DomainChecker, RecordCheck
from relay.signing.key import SigningKey
from relay.signing.keys import DEFAULT_SELECTOR, KeyStore
from relay.signing.names import checked_domain
from relay.signing.records import DnsRecord, records_for, zone_snippet
from relay.signing.verify import key_names
from relay.signing.verify import verify as signatures_of

app = typer.Typer(help="Domains this relay signs for, and their DNS.", no_args_is_help=True)

DomainArgument = Annotated[str, typer.Argument(metavar="DOMAIN", help="such as example.com")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]
ZoneOption = Annotated[bool, typer.Option("--zone", help="Print lines for a zone file")]
SelectorOption = Annotated[
    str | None,
    typer.Option(help=f"Name of the RSA key; the Ed25519 key's has an 'e' added. First time: {DEFAULT_SELECTOR}"),
]


@app.command()
def add(
    ctx: typer.Context,
    domain: DomainArgument,
    selector: SelectorOption = None,
    zone: ZoneOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make signing keys for a domain and print the DNS records to publish. Again: print them again.

    With a new --selector the new keys wait until `relay domain use` names them.
    """
    settings = load(ctx)
    with operator_errors():
        store = _store(settings)
        known = store.keys(checked_domain(domain))
        keys = known if known and selector is None else store.add(domain, selector or DEFAULT_SELECTOR)
    records = _records(settings, keys)
    for note in _notes(settings, keys):
        typer.echo(f"relay: note: {note}", err=True)
    if as_json:
        print_json({"domain": keys[0].domain, "keys": _described(keys), "records": [asdict(r) for r in records]})
    elif zone:
        typer.echo(zone_snippet(records), nl=False)
    else:
        _show_records(keys[0].domain, records)


@app.command("list")
def list_domains(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List the domains that have keys."""
    with operator_errors():
        store = _store(load(ctx))
    if as_json:
        print_json([{"domain": domain, "keys": _described(store.keys(domain))} for domain in store.domains()])
        return
    for domain in store.domains():
        names = (f"{key.selector} ({key.algorithm}{'' if key.active else ', waiting'})" for key in store.keys(domain))
        typer.echo(f"{domain}  {', '.join(names)}")


@app.command()
def use(
    ctx: typer.Context,
    domain: DomainArgument,
    selectors: Annotated[list[str], typer.Argument(metavar="SELECTOR...", help="All that are to sign from now on")],
) -> None:
    """Sign with these selectors and no others. Check first that DNS shows them."""
    with operator_errors():
        keys = _store(load(ctx)).use(domain, selectors)
    active = ", ".join(key.selector for key in keys if key.active)
    typer.echo(f"{keys[0].domain} signs with {active}.", err=True)


@app.command()
def check(ctx: typer.Context, domain: DomainArgument, as_json: JsonOption = False) -> None:
    """Ask DNS for every record of a domain and say what is missing or wrong."""
    settings = load(ctx)
    with operator_errors():
        name = checked_domain(domain)
        keys = _store(settings).keys(name)
        if not keys:
            fail(f"no keys for {name}; make them with `relay domain add {name}`")
        results = asyncio.run(_check(settings, _records(settings, keys)))
    good = all(result.status == "found" for result in results)
    if as_json:
        print_json({"domain": name, "ok": good, "records": [_flat(result) for result in results]})
    else:
        _show_results(results)
    if not good:
        raise typer.Exit(1)


@app.command()
def verify(
    ctx: typer.Context,
    file: Annotated[
        typer.FileBinaryRead, typer.Argument(help="A message as it was received (.eml); - reads standard input")
    ],
    as_json: JsonOption = False,
) -> None:
    """Whether the DKIM signatures of a received message hold, by dkimpy and the keys in DNS.

    Exit code 1 when one does not, or there is none.
    """
    settings = load(ctx)
    content = file.read().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    with operator_errors():
        keys = asyncio.run(_keys_in_dns(settings, key_names(content)))
    report_verdicts(signatures_of(content, keys), as_json)


async def _keys_in_dns(settings: Settings, names: Sequence[str]) -> dict[str, str]:
    """The first TXT record of each name that has one."""
    resolver = DnsResolver(settings.dns, SystemClock())
    found = {}
    for name in names:
        try:
            answer = await resolver.query(name, "TXT")
        except DnsTemporaryError as error:
            raise OperatorError(f"DNS has no answer for {name} ({error}); try again") from error
        if answer.records:
            found[name] = answer.records[0]
    return found


def _store(settings: Settings) -> KeyStore:
    return KeyStore(settings.server.var / "keys")


def _records(settings: Settings, keys: Sequence[SigningKey]) -> tuple[DnsRecord, ...]:
    return records_for(keys[0].domain, keys, settings.hostname.lower(), settings.delivery.return_path_prefix)


async def _check(settings: Settings, records: Sequence[DnsRecord]) -> list[RecordCheck]:
    resolver = DnsResolver(settings.dns, SystemClock())
    return await DomainChecker(resolver, SpfChecker(resolver), settings.hostname).check(records)


def _notes(settings: Settings, keys: Sequence[SigningKey]) -> list[str]:
    notes = []
    if "." not in settings.hostname:
        notes.append(f"the relay is called {settings.hostname!r}; set server.hostname to its public name")
    waiting = [key.selector for key in keys if not key.active]
    if waiting:
        notes.append(
            f"{', '.join(waiting)}: not signing yet; once DNS shows them: "
            f"relay domain use {keys[0].domain} {' '.join(waiting)}"
        )
    return notes


def _described(keys: Sequence[SigningKey]) -> list[dict[str, Any]]:
    return [{"selector": key.selector, "algorithm": key.algorithm, "active": key.active} for key in keys]


def _flat(result: RecordCheck) -> dict[str, Any]:
    return asdict(result.record) | {"status": result.status, "present": result.present, "advice": result.advice}


def _show_records(domain: str, records: Sequence[DnsRecord]) -> None:
    typer.echo(f"Publish these records, then run: relay domain check {domain}\n")
    for record in records:
        typer.echo(f"{record.type:4} {record.name}\n     {record.value}")


def _show_results(results: Sequence[RecordCheck]) -> None:
    for result in results:
        typer.echo(f"{result.status:8} {result.record.type:4} {result.record.name}")
        if result.advice:
            typer.echo(f"{'':13} {result.advice}")
        if result.status in ("missing", "wrong"):
            typer.echo(f"{'':13} wanted: {result.record.value}")
            for text in result.present:
                typer.echo(f"{'':13} found:  {text}")
