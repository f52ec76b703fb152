"""Packages: what the bench needs from Debian, and its installation as root.

Nothing of the system's own mail is configured or started: Postfix is answered "No configuration", and for the time of
the installation a policy-rc.d of this module's own forbids services. Raises BenchError that names the command to type.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from bench.process import BenchError, run

NEEDED: Final = ("postfix", "opendkim", "sasl2-bin", "libsasl2-modules", "openssl")
_ANSWER: Final = "postfix postfix/main_mailer_type select No configuration\n"
_POLICY: Final = Path("/usr/sbin/policy-rc.d")
_SECONDS: Final = 600


def installed(package: str) -> bool:
    """Whether dpkg has it, unpacked and configured."""
    command = ["dpkg-query", "-W", "-f", "${db:Status-Status}", package]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout == "installed"


def ensure() -> None:
    """Return once all packages are here."""
    if shutil.which("dpkg-query") is None:
        raise BenchError("the bench installs Postfix and OpenDKIM from Debian packages; run it on Debian or Ubuntu")
    missing = [package for package in NEEDED if not installed(package)]
    if not missing:
        return
    if os.geteuid() != 0:
        raise BenchError(f"{', '.join(missing)} missing; as root: apt-get install --no-install-recommends "
                         + " ".join(missing))  # fmt: skip
    print(f"Installing {', '.join(missing)} ...", file=sys.stderr, flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    run(["debconf-set-selections"], "debconf-set-selections", text=_ANSWER)
    with _no_services():
        _apt(["update"], environment)
        _apt(["install", "--yes", "--no-install-recommends", *missing], environment)


def _apt(arguments: list[str], environment: Mapping[str, str]) -> None:
    run(["apt-get", "--quiet", *arguments], f"apt-get {arguments[0]}", environment=environment, timeout=_SECONDS)


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Where the machine has a policy already, it is that one's decision."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
