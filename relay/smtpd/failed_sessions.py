"""Failed sessions: the last of each kind, in the memory of one worker, with what was wrong and what to change.

In: a session as it ended. Out: nothing for one that went well; else `FailedSession` values. Sessions of one client that
fail alike are one, counted. `kept` of one kind at most, so that guessed passwords push out no printer. Never raises.
"""

from __future__ import annotations

from collections import OrderedDict

from relay.mail.diagnosis import FailedSession, Finding
from relay.ports import Clock
from relay.settings import SessionSettings
from relay.smtpd.session_record import Entry, lines
from relay.smtpd.symptom import Case
from relay.smtpd.symptoms import RULES, UNKNOWN

_Key = tuple[str, str, str]


class FailedSessions:
    """Of worker number `worker`."""

    def __init__(self, settings: SessionSettings, worker: int, clock: Clock) -> None:
        self._settings = settings
        self._worker = worker
        self._clock = clock
        self._number = 0
        self._kinds: dict[str, OrderedDict[_Key, FailedSession]] = {}

    def reconfigure(self, settings: SessionSettings) -> None:
        self._settings = settings

    def ended(self, case: Case, seconds: float) -> None:
        """Keep it where something was wrong."""
        findings = find(case) if self._settings.kept else ()
        if not findings:
            return
        session, now = case.session, self._clock.now()
        username = session.login.username if session.login else None
        kind = self._kinds.setdefault(findings[0].symptom, OrderedDict())
        key = (session.peer, session.listener, username or "")
        before = kind.get(key)
        self._number += before is None
        kind[key] = FailedSession(
            id=before.id if before else f"{self._worker}-{self._number}",
            at=now,
            first_at=before.first_at if before else now,
            times=before.times + 1 if before else 1,
            seconds=round(seconds, 3),
            peer=session.peer,
            listener=session.listener,
            helo=session.helo,
            tls=session.tls.version if session.tls else None,
            username=username,
            findings=findings,
            transcript=tuple(lines(_with_failure(case))),
        )
        kind.move_to_end(key)
        while len(kind) > self._settings.kept:
            kind.popitem(last=False)

    def all(self) -> list[FailedSession]:
        """The newest first, without what is older than `keep`."""
        self._forget()
        found = [one for kind in self._kinds.values() for one in kind.values()]
        return sorted(found, key=lambda one: -one.at)

    def _forget(self) -> None:
        """What is too old, and what is beyond a lowered `kept`."""
        oldest = self._clock.now() - self._settings.keep
        for kind in self._kinds.values():
            while kind and (len(kind) > self._settings.kept or next(iter(kind.values())).at < oldest):
                kind.popitem(last=False)


def _with_failure(case: Case) -> tuple[Entry, ...]:
    if case.failure is None:
        return case.record
    return (*case.record, f"TLS handshake failed {f'({case.tls_words})' if case.tls_words else 'without a word'}")


def find(case: Case) -> tuple[Finding, ...]:
    """What is wrong, the cause first; the plain reply where no rule knows it."""
    found = [(rule, hit) for rule in RULES if (hit := rule.test(case))]
    faults = [text for _, text in case.refusals if not _no_fault(case, text)]
    if not found and faults:
        found = [(UNKNOWN, faults[0])]
    words = {
        "listener": case.listener.name,
        "tls": f"({case.tls_words})" if case.tls_words else "without a word",
        "login": case.session.login.username if case.session.login else "",
    }
    return tuple(
        Finding(rule.symptom, rule.happened.format(reply=hit, **words), rule.change.format(**words))
        for rule, hit in found
    )


def _no_fault(case: Case, text: str) -> bool:
    """A server that stops, and the end of a connection a client kept open after its mail."""
    return text.startswith("421 4.3.2 Server") or (
        text.startswith("421 4.4.2") and case.began_mail and not case.in_data
    )
