"""Faults: named points at which a test lets the process die, to prove that nothing is lost there.

In production nothing is armed and a point costs a function call. `RELAY_FAULT=NAME` arms one, `NAME:N` its Nth passage;
`RELAY_FAULT_ONCE=FILE` lets only the process that can remove FILE die, so that the one started after it lives.
The points are listed in docs/reliability.md; a test compares.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

_reached: Callable[[str], None] | None = None


def point(name: str) -> None:
    """Here the process may die."""
    if _reached is not None:
        _reached(name)


def arm(environment: Mapping[str, str]) -> None:
    """Do as the environment says from now on."""
    global _reached  # noqa: PLW0603 - one process, one fault; a parameter through every room would cost each message
    wanted, _, passage = environment.get("RELAY_FAULT", "").partition(":")
    once = environment.get("RELAY_FAULT_ONCE", "")
    _reached = _Fault(wanted, int(passage or 1), Path(once) if once else None) if wanted else None


class _Fault:
    """Counts the passages of one point and dies at the one that was asked for."""

    def __init__(self, name: str, passage: int, once: Path | None) -> None:
        self._name = name
        self._left = passage
        self._once = once

    def __call__(self, name: str) -> None:
        if name != self._name:
            return
        self._left -= 1
        if self._left:
            return
        if self._once is not None:
            try:
                self._once.unlink()
            except FileNotFoundError:
                return
        os._exit(137)
