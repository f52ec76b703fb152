"""Table: one row a check, printed as it ends; a failure is a row, never an end of the run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from driver.workplace import CheckError

_CLIENT, _WHAT = 14, 52


@dataclass(slots=True)
class Table:
    """Counts what held and what did not. `only` keeps the checks whose client or name contains it."""

    only: str = ""
    passed: int = 0
    failures: list[str] = field(default_factory=list)

    def head(self) -> None:
        print(f"{'CLIENT':<{_CLIENT}} {'WHAT':<{_WHAT}} RESULT")

    def check(self, client: str, what: str, run: Callable[[], str | None]) -> None:
        """Run one check; what it returns is shown beside `ok`."""
        if self.only and self.only.lower() not in f"{client} {what}".lower():
            return
        started = time.monotonic()
        try:
            note = run() or ""
        except CheckError as error:
            self.failures.append(f"{client}: {what}: {error}")
            result = f"FAILED  {error}"
        except Exception as error:
            # A check that breaks is a check that did not hold; the rest still has to run.
            self.failures.append(f"{client}: {what}: {error!r}")
            result = f"FAILED  {error!r}"
        else:
            self.passed += 1
            result = f"ok  {time.monotonic() - started:5.1f} s  {note}".rstrip()
        print(f"{client:<{_CLIENT}} {what:<{_WHAT}} {result}", flush=True)

    def group(self, name: str, run: Callable[[], None]) -> None:
        """Checks that share what has to start first; where that fails, they fail, and the other groups go on."""
        try:
            run()
        except CheckError as error:
            self.failures.append(f"{name}: {error}")
            print(f"{name:<{_CLIENT}} {'':<{_WHAT}} FAILED  {error}", flush=True)

    def foot(self, seconds: float) -> int:
        """What failed once more, and the count; returns the exit code."""
        print(f"\n{seconds:.0f} s")
        for failure in self.failures:
            print(f"FAILED  {failure}")
        print(f"{self.passed} passed, {len(self.failures)} failed", flush=True)
        return 1 if self.failures or not self.passed else 0
