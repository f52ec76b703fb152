"""Symptom: the facts of a session that went wrong, and the shape of a rule that reads them. Pure."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from relay.mail.frozen import frozen
from relay.mail.reply import Reply, printable
from relay.mail.session import Session
from relay.settings import ListenerSettings
from relay.smtpd.session_record import Entry


@dataclass(frozen=True)
class Case:
    """One session as it ended. `failure` is what broke its TLS; `in_data` when it was lost inside a message."""

    listener: ListenerSettings
    session: Session
    record: tuple[Entry, ...]
    failure: OSError | None = None
    began_mail: bool = False
    in_data: bool = False

    @cached_property
    def refusals(self) -> list[tuple[bytes, str]]:
        """Every 4xx and 5xx with the command before it. Kept: every rule asks, and many sessions fail."""
        found: list[tuple[bytes, str]] = []
        command = b""
        for entry in self.record:
            if isinstance(entry, Reply):
                if not entry.positive:
                    found.append((command, str(entry)))
            elif isinstance(entry, bytes) and not entry.endswith(b"\r\n"):
                command = entry
        return found

    @property
    def tls_words(self) -> str:
        """What OpenSSL calls the failure, as `tlsv1 alert unknown ca`; empty where the connection merely ended."""
        if not isinstance(self.failure, ssl.SSLError):
            return ""
        return printable((getattr(self.failure, "reason", "") or str(self.failure)).replace("_", " ").lower(), 100)

    @property
    def spoke(self) -> bool:
        """Whether it ever named itself, before TLS too."""
        return any(isinstance(entry, bytes) and entry[:4].upper() in (b"EHLO", b"HELO") for entry in self.record)


Test = Callable[[Case], bool | str]
"""Whether a rule fits; where it fits because of a reply, that reply."""


@frozen
class Rule:
    """`happened` and `change` may hold {listener}, {reply}, {tls} and {login}."""

    symptom: str
    test: Test
    happened: str
    change: str


def said(start: str, *words: str) -> Test:
    """A reply that begins so and, where words are given, holds one of them."""

    def test(case: Case) -> str:
        texts = (text for _, text in case.refusals if text.startswith(start))
        fit = (text for text in texts if not words or any(word in text for word in words))
        return next(fit, "")

    return test


def after(start: str, shape: re.Pattern[bytes]) -> Test:
    """A reply that begins so, to a command of that shape."""

    def test(case: Case) -> str:
        fit = (text for line, text in case.refusals if text.startswith(start) and shape.match(line))
        return next(fit, "")

    return test


def noted(*entries: bytes) -> Test:
    return lambda case: any(entry in case.record for entry in entries)


def either(*tests: Test) -> Test:
    return lambda case: next((hit for test in tests if (hit := test(case))), False)
