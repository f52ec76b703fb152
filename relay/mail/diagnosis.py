"""Diagnosis: what is known of an SMTP session that went wrong, in words for who has to change something."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """`symptom` is its name for programs, `happened` what the client did, `change` what to do about it."""

    symptom: str
    happened: str
    change: str


@dataclass(frozen=True, slots=True)
class Device:
    """A client that needs something tolerated, `times` since `first_at`, last `at`; `username` where it logged in."""

    peer: str
    username: str | None
    listener: str
    what: str
    times: int
    first_at: float
    at: float
    helo: str = ""


@dataclass(frozen=True, slots=True)
class FailedSession:
    """The last of the sessions of one client that failed alike, `times` of them since `first_at`.

    `transcript` has lines `C: ...`, `S: ...` and `-- event --`, printable, without credentials and without message
    content. `helo` is empty and `tls` None where there was none; `seconds` is how long the session lasted.
    """

    id: str
    at: float
    first_at: float
    times: int
    seconds: float
    peer: str
    listener: str
    helo: str
    tls: str | None
    username: str | None
    findings: tuple[Finding, ...]
    transcript: tuple[str, ...]
