"""Certificates: the pairs one worker serves, which follow their files without a signal.

In: settings, the contexts of `tls_tickets`, and a look every so often. Out: the context each handshake starts with;
what happened, to an observer. Raises SettingsError where an operator waits for the answer (start, reload); a look never
raises for a file: what cannot be used leaves the pair that was read before.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

from relay.mail.certificate import Certificate
from relay.mail.errors import SettingsError
from relay.ports import Clock
from relay.settings import Settings, TlsSettings
from relay.smtpd.tls_clients import client_context, read_client_ca
from relay.smtpd.tls_context import demand, new_context
from relay.smtpd.tls_names import Group, ServedNames, loaded
from relay.smtpd.tls_old import opened
from relay.smtpd.tls_pair import Pair, PairFiles, Stamp, pair_files, read_pair, stamp_of
from relay.smtpd.tls_tickets import TicketContexts

_DAY: Final = 86_400.0
_LONGEST_HANDSHAKE: Final = 60.0


class CertificateObserver(Protocol):
    """Hears of certificates, for log and metrics; must not raise."""

    def certificate_loaded(self, certificate: Certificate, days_left: int) -> None: ...

    def certificate_refused(self, file: str, reason: str) -> None: ...

    def certificate_expires(self, certificate: Certificate, days_left: int) -> None: ...

    def certificates_served(self, certificates: Sequence[Certificate]) -> None: ...


@dataclass(slots=True)
class _Watched:
    """A pair, and the state of its files that could not be used: said at the second look, for two files do not
    change at once."""

    pair: Pair
    unusable: Stamp | None = None
    seen: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that can fail has been made."""

    settings: TlsSettings
    watched: tuple[_Watched, ...]
    names: ServedNames


class Certificates:
    """Of one worker."""

    def __init__(self, tickets: TicketContexts, clock: Clock, observer: CertificateObserver) -> None:
        self._tickets = tickets
        self._clock = clock
        self._observer = observer
        self._watched: tuple[_Watched, ...] = ()
        self._names: ServedNames | None = None
        self._settings = TlsSettings()
        self._front: ssl.SSLContext | None = None
        self._period = -1
        self._before: ssl.SSLContext | None = None
        self._turned = 0.0
        self._old: tuple[Group, ssl.SSLContext] | None = None
        self._reminded: dict[str, float] = {}
        self._strict: dict[str, tuple[int, ssl.SSLContext]] = {}
        self._of_clients: dict[Path, tuple[tuple[Pair, ...], ssl.SSLContext]] = {}

    @property
    def ready(self) -> bool:
        """Whether something is served: a server without TLS needs no certificate."""
        return self._front is not None

    @property
    def context(self) -> ssl.SSLContext:
        """For a handshake that begins now; not to be kept."""
        assert self._front is not None
        return self._front

    @property
    def for_old_tls(self) -> ssl.SSLContext:
        """The main pair, with RSA and ECDSA where there are both, for listeners that let in who has no TLS 1.2. Such
        clients name no host."""
        assert self._names is not None
        if self._old is None or self._old[0] != self._names.main:
            self._old = self._names.main, opened(loaded(self._names.main, new_context()))
        return self._old[1]

    def at_least(self, minimum: Literal["1.2", "1.3"]) -> ssl.SSLContext:
        """As `context`, for listeners with an oldest TLS version of their own; its tickets are one worker's."""
        held = self._strict.get(minimum)
        if held is None or held[0] != self._period:
            held = self._strict[minimum] = self._period, new_context()
            held[1].sni_callback = self._choose
            demand(held[1], self._settings.model_copy(update={"minimum": minimum}))
        return held[1]

    def for_clients(self, client_ca: Path) -> ssl.SSLContext:
        """For listeners that ask for a client's certificate. Raises SettingsError at the first call for a file."""
        pairs = tuple(one.pair for one in self._watched)
        held = self._of_clients.get(client_ca)
        if held is None or any(one is not other for one, other in zip(held[0], pairs, strict=False)):
            held = self._of_clients[client_ca] = pairs, client_context(pairs, read_client_ca(client_ca))
        demand(held[1], self._settings)
        return held[1]

    # --- by the operator's word ----------------------------------------------------------------------------

    def prepare(self, settings: Settings) -> Prepared:
        """Read every pair that is new or has changed. Raises SettingsError; nothing has changed by then."""
        held = {one.pair.files: one.pair for one in self._watched}
        pairs = [self._newest(held.get(files), files) for files in pair_files(settings)]
        return Prepared(settings.tls, tuple(map(_Watched, pairs)), self._serve(pairs))

    def use(self, prepared: Prepared) -> None:
        """From the next handshake on."""
        self._settings, self._watched, self._names = prepared.settings, prepared.watched, prepared.names
        self._of_clients = {}
        if self._front is None:
            self._turn()
        assert self._front is not None
        demand(self._front, self._settings)
        self._tell()

    def _newest(self, old: Pair | None, files: PairFiles) -> Pair:
        """A pair no client would believe takes the place of none that is still good."""
        if old is not None and stamp_of(files) == old.stamp:
            # Hundreds of pairs take a second to read, in which the loop serves nobody.
            return old
        new, now = read_pair(files), self._clock.now()
        reason = new.facts.unfit(now)
        if reason and old is not None and not old.facts.unfit(now):
            self._observer.certificate_refused(new.facts.file, reason)
            return old
        return new

    def _serve(self, pairs: Sequence[Pair]) -> ServedNames:
        return ServedNames(pairs, self._names.contexts if self._names else {})

    # --- every so often ------------------------------------------------------------------------------------

    def look(self) -> None:
        """Take over what has changed on disk, and turn the ticket keys when it is their time."""
        if not self.ready:
            return
        self._turn()
        changed = [one for one in self._watched if stamp_of(one.pair.files) != one.pair.stamp]
        fresh = [one.pair for one in changed if self._take(one)]
        if fresh:
            self._names = self._serve([one.pair for one in self._watched])
            for pair in fresh:
                self._observer.certificate_loaded(pair.facts, pair.facts.days_left(self._clock.now()))
        self._tell()

    def remind(self) -> None:
        """Say which certificates expire soon or have expired, each once a day. For one worker of a server."""
        now = self._clock.now()
        for facts in (one.pair.facts for one in self._watched):
            days = facts.days_left(now)
            if days < self._settings.expiry_warning and now - self._reminded.get(facts.file, -_DAY) >= _DAY:
                self._reminded[facts.file] = now
                self._observer.certificate_expires(facts, days)

    def _take(self, one: _Watched) -> bool:
        """Whether there is another pair in the changed files, and it can be served."""
        try:
            pair = read_pair(one.pair.files)
        except SettingsError as error:
            self._refuse(one, stamp_of(one.pair.files), str(error))
            return False
        reason = pair.facts.unfit(self._clock.now())
        if reason:
            self._refuse(one, pair.stamp, reason)
            return False
        old, one.pair, one.unusable, one.seen = one.pair, pair, None, 0
        return (pair.chain, pair.key) != (old.chain, old.key)

    def _refuse(self, one: _Watched, stamp: Stamp | None, reason: str) -> None:
        one.seen = one.seen + 1 if one.seen and one.unusable == stamp else 1
        one.unusable = stamp
        if one.seen == 2:
            self._observer.certificate_refused(one.pair.facts.file, reason)

    def _tell(self) -> None:
        self._observer.certificates_served([one.pair.facts for one in self._watched])

    # --- handshakes ----------------------------------------------------------------------------------------

    def _turn(self) -> None:
        period, now = self._tickets.period(), self._clock.monotonic()
        if period != self._period:
            self._before, self._front = self._front, self._tickets.current()
            self._period, self._turned = period, now
            self._front.sni_callback = self._choose
            demand(self._front, self._settings)
        elif now - self._turned > _LONGEST_HANDSHAKE:
            # Before that a handshake under way may still ask it for its callback.
            self._before = None

    def _choose(self, secured: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        assert self._names is not None
        secured.context = self._names.find(name)


def check_pairs(settings: Settings) -> None:
    """Whether all of them could be served. Raises SettingsError."""
    for files in pair_files(settings):
        read_pair(files)
    for listener in settings.listener:
        if listener.client_ca is not None:
            read_client_ca(listener.client_ca)


def pair_or_reason(files: PairFiles) -> Pair | str:
    """For who looks at all of them and stops at none."""
    try:
        return read_pair(files)
    except SettingsError as error:
        return str(error)
