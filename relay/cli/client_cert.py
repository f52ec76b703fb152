"""`relay client-cert`: which client certificates log in as which credential (AUTH EXTERNAL).

Works beside a running server, which follows within a second. Exit codes: 0 done, 1 no such credential or name, 2
something to fix.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from relay.auth.certificates import certificate_names, plain_name
from relay.cli.common import fail, octets_of
from relay.cli.registry_verbs import JsonOption, listing, opened, say, when

app = typer.Typer(help="Client certificates that log in by AUTH EXTERNAL.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="sha256:HEX, email:, dns:, uri: or subject:")]


@app.command()
def add(
    ctx: typer.Context,
    username: Annotated[str, typer.Argument(metavar="USERNAME", help="The credential it stands for")],
    name: Annotated[
        str | None, typer.Option(help="A name in it: sha256:HEX, email:, dns:, uri: or subject: and the value")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="The certificate itself (PEM): this one alone")] = None,
) -> None:
    """Let a certificate log in, by its fingerprint or by a name that your CA puts into it."""
    if (name is None) == (file is None):
        fail("say which certificate: --name or --file")
    stored = _of_file(file) if file is not None else _typed(name or "")
    with opened(ctx) as admin:
        if not admin.add_certificate(stored, username):
            fail(f"no credential {username!r}; see `relay credential list`", 1)
    say(f"A certificate with {stored} logs in as {username.lower()}; a running server follows within a second.")


@app.command("list")
def list_certificates(ctx: typer.Context, as_json: JsonOption = False) -> None:
    """List the names and their credentials."""
    with opened(ctx) as admin:
        records = admin.certificates()
    rows = [(record.username, record.name, when(record.created_at)) for record in records]
    listing(records, as_json, ("USERNAME", "NAME", "CREATED"), rows)


@app.command()
def remove(ctx: typer.Context, name: NameArgument) -> None:
    """Let certificates of this name log in no more."""
    stored = _typed(name)
    with opened(ctx) as admin:
        if not admin.remove_certificate(stored):
            fail(f"no certificate {stored!r}; see `relay client-cert list`", 1)
    say(f"Certificates with {stored} log in no more; a running server follows within a second.")


def _typed(name: str) -> str:
    try:
        return plain_name(name)
    except ValueError as error:
        fail(str(error))


def _of_file(file: Path) -> str:
    try:
        certificate = x509.load_pem_x509_certificate(octets_of(file))
    except ValueError:
        fail(f"{file}: no PEM certificate in it; name the client's certificate")
    return certificate_names(certificate.public_bytes(Encoding.DER))[0]
