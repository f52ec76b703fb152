"""Exim as a client: Debian's real one, unpacked, because it and Postfix exclude each other as packages."""

from __future__ import annotations

import shutil
from pathlib import Path

from driver.clients import Clients
from driver.farend import FarEnd, check_contents, check_envelope, check_no_bcc, check_trace
from driver.samples import SAMPLES, Letter
from driver.table import Table
from driver.workplace import CheckError, Workplace

_USER = "Debian-exim"  # compiled into Debian's binary
# Exim folds what is longer, as Postfix does.
_LETTERS = tuple(sample for sample in SAMPLES if sample.name != "long lines")
_CONFIG = """\
exim_path = {program}
spool_directory = {folder}/spool
log_file_path = {folder}/log/%slog
exim_user = Debian-exim
primary_hostname = exim.example
qualify_domain = exim.example
begin routers
all:
  driver = manualroute
  transport = relay
  route_list = * localhost byname
  self = send
begin transports
relay:
  driver = smtp
  port = {port}
  allow_localhost
  hosts_require_auth = localhost
  hosts_require_tls = localhost
  hosts_try_chunking = *
  tls_verify_hosts = localhost
  tls_verify_certificates = {ca_file}
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  client_send = ^{username}^{password}
"""


def run_exim_client(table: Table, clients: Clients, far_end: FarEnd) -> None:
    """Mail given to an Exim whose way out is our submission port: STARTTLS checked, AUTH, CHUNKING."""
    config = _configure(clients)
    for number, sample in enumerate(_LETTERS):
        letter = Letter(f"from-exim-{number}", f"shop@{clients.sandbox.domain}", sample)
        table.check(
            "Exim",
            f"client, CHUNKING, port 587: {sample.name}",
            lambda letter=letter: _through_exim(clients.workplace, config, far_end, letter),
        )


def _program(workplace: Workplace) -> Path:
    return workplace.root / "exim/usr/sbin/exim4"


def _folder(workplace: Workplace) -> Path:
    return workplace.run / "exim"


def _configure(clients: Clients) -> Path:
    workplace, sandbox, folder = clients.workplace, clients.sandbox, _folder(clients.workplace)
    for path in (folder, folder / "spool", folder / "log"):
        path.mkdir(mode=0o755)
        shutil.chown(path, _USER)
    # Its transport runs as its own user, which the run's private folder does not let in.
    ca_file = Path(shutil.copy(sandbox.ca_file, folder / "ca.pem"))
    ca_file.chmod(0o644)
    text = _CONFIG.format(
        program=_program(workplace),
        folder=folder,
        port=sandbox.ports[587],
        ca_file=ca_file,
        username=sandbox.username,
        password=sandbox.password.replace("^", "^^"),
    )
    config = folder / "exim.conf"
    config.touch(mode=0o640)
    config.write_text(text)
    shutil.chown(config, "root", _USER)
    return config


def _through_exim(workplace: Workplace, config: Path, far_end: FarEnd, letter: Letter) -> str:
    command = [_program(workplace), "-C", config, "-odi", "-oi", "-f", letter.sender, *letter.recipients]
    workplace.program("exim", command, stdin=letter.content.replace(b"\r\n", b"\n"))
    arrived = far_end.collect(letter.recipients)
    check_envelope(arrived, letter.sender, letter.recipients)
    for message in arrived:
        check_trace(message)
        check_contents(message, letter)
        check_no_bcc(message, letter.bcc)
        far_end.check_signed(message)
    log = (_folder(workplace) / "log/mainlog").read_text(errors="replace")
    sent = [line for line in log.splitlines() if "T=relay" in line and letter.recipients[0] in line]
    if not sent or not all(" K " in line and " A=plain " in line and " CV=yes " in line for line in sent):
        raise CheckError(f"Exim's log shows no CHUNKING, AUTH and checked TLS: {sent}")
    return "by BDAT"
