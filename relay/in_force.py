"""InForce: the configuration the server runs by, and how a new one takes its place while it runs.

In: a way to read the configuration. Out: settings that every process of the server has alike: a new
file is checked as a whole first, then published in `<var>/run/settings.json`, where workers take it from, so that they
never differ. What cannot change while ports are open and spools are locked keeps its old value and is named.
Raises OperatorError, one line with the fix; then nothing has changed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from relay.dns.mx import MxResolver
from relay.dns.resolver import DnsResolver
from relay.httpd.control_socket import control_path
from relay.logins import make_issuer
from relay.mail.errors import OperatorError
from relay.ports import SystemClock, system_random
from relay.settings import ListenerSettings, Settings
from relay.smtpd.known import Known
from relay.smtpd.tls_certificates import check_pairs
from relay.transports.build import build_doors, build_polls, build_transports
from relay.transports.contacts import build_contacts

_SECTIONS: Final = ("server", "log", "http", "dns", "sandbox")
_LISTENER: Final = ("address", "port", "tls", "mode", "owner")


@dataclass(frozen=True, slots=True)
class Changes:
    """Keys that differ: those that take effect at once, and those that need a restart."""

    live: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()


class InForce:
    """Of one server; kept by the process that was started."""

    def __init__(self, load: Callable[[], Settings]) -> None:
        """`load` reads the configuration. Raises OperatorError."""
        self._load = load
        self.settings = load()

    def publish(self) -> None:
        """Write what is in force for the workers and the operator's verbs. Raises OperatorError."""
        path = snapshot_path(self.settings)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = path.with_suffix(".new")
            temporary.unlink(missing_ok=True)
            with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(self.settings.model_dump_json())
            temporary.replace(path)
        except OSError as error:
            raise OperatorError(f"{path}: cannot write it: {error.strerror}; check owner and disk") from error

    def renew(self) -> Settings:
        """Read, check and publish the configuration; says on standard error what has to wait for a restart."""
        wanted = self._load()
        found = changes(self.settings, wanted)
        settings = merged(self.settings, wanted)
        check_files(settings)
        before, self.settings = self.settings, settings
        try:
            self.publish()
        except OperatorError:
            self.settings = before
            raise
        if found.restart:
            print(f"relay: reload: these need a restart: {', '.join(found.restart)}", file=sys.stderr, flush=True)
        return settings


def snapshot_path(settings: Settings) -> Path:
    return settings.server.var / "run" / "settings.json"


def read_snapshot(settings: Settings) -> Settings:
    """What a running server has published in the data folder of `settings`. Raises OperatorError."""
    path = snapshot_path(settings)
    try:
        return Settings.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise OperatorError(f"{path} is missing: the server does not run; start it with `relay serve`") from None
    except (OSError, ValueError) as error:
        raise OperatorError(f"{path}: cannot read it: {error}; restart the server") from error


def check_files(settings: Settings) -> None:
    """Build what the server would build, as far as that needs no connection. Raises OperatorError."""
    control_path(settings.server.var / "run", settings.server.worker_count - 1)
    if any(listener.tls != "none" for listener in settings.listener):
        check_pairs(settings)
    for listener in settings.listener:
        Known(listener, settings.device, lambda account: True)
    clock = SystemClock()
    resolver = DnsResolver(settings.dns, clock)
    build_doors(settings)
    build_polls(settings)
    build_contacts(settings.contacts, clock, resolver)
    for name, one in settings.issuer.items():
        make_issuer(name, one, resolver, clock, print)
    build_transports(settings, settings.delivery, MxResolver(resolver, system_random()), clock, resolver)


def merged(old: Settings, new: Settings) -> Settings:
    """`new`, with what needs a restart as it is in `old`."""
    wanted = {listener.name: listener for listener in new.listener}
    listeners = tuple(_kept(listener, wanted.get(listener.name, listener)) for listener in old.listener)
    kept: dict[str, Any] = {name: getattr(old, name) for name in _SECTIONS}
    spool = new.spool.model_copy(update={"file_threshold": old.spool.file_threshold})
    return new.model_copy(update={**kept, "listener": listeners, "spool": spool})


def _kept(old: ListenerSettings, new: ListenerSettings) -> ListenerSettings:
    kept = new.model_copy(update={name: getattr(old, name) for name in _LISTENER})
    try:
        return ListenerSettings.model_validate(kept.model_dump())
    except ValidationError as error:
        words = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise OperatorError(
            f"listener {old.name}: its address changes at a restart alone, and until then {words}; restart the server"
        ) from error


def changes(old: Settings, new: Settings) -> Changes:
    """Every key whose value differs, in order."""
    before, after = dict(_flat(old.model_dump(mode="json"))), dict(_flat(new.model_dump(mode="json")))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    names = {listener.name for listener in old.listener} & {listener.name for listener in new.listener}
    waiting = [key for key in keys if _needs_restart(key, names)]
    return Changes(tuple(key for key in keys if key not in waiting), tuple(waiting))


def _needs_restart(key: str, listeners: set[str]) -> bool:
    section, _, rest = key.partition(".")
    if section == "listener":
        name, _, field = rest.rpartition(".")
        return name not in listeners or field in _LISTENER
    return section in _SECTIONS or key == "spool.file_threshold"


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """`route.NAME.via` and so on, with its value. Lists of tables are told apart by name."""
    if isinstance(value, list) and value and all(isinstance(item, dict) and "name" in item for item in value):
        value = {item["name"]: item for item in value}
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _flat(item, f"{key}.{name}" if key else name)
    elif value not in ({}, []):
        yield key, value
