"""Memory: what processes hold, from /proc (proc_pid_smaps(5), proc_pid_status(5)). Megabytes are 10^6 octets.

Sums are of proportional set sizes: a page that several processes share counts once. A peak is of one process and counts
every page it had. A process that has gone in between holds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_KIB: Final = 1024 / 1e6


@dataclass(frozen=True, slots=True)
class Held:
    """`pss`: its share; `own`: what nobody else maps, so what one more of its kind costs."""

    pss: float = 0.0
    own: float = 0.0


def held(pid: int) -> Held:
    """Needs the process's owner or root."""
    fields = _fields(Path(f"/proc/{pid}/smaps_rollup"))
    own = fields.get("Private_Clean", 0) + fields.get("Private_Dirty", 0)
    return Held(round(fields.get("Pss", 0) * _KIB, 1), round(own * _KIB, 1))


def together(pids: Iterable[int]) -> float:
    """Of all of them."""
    return round(sum(held(pid).pss for pid in pids), 1)


def forget_peaks(pids: Iterable[int]) -> None:
    """Peaks count from now on."""
    for pid in pids:
        try:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        except OSError:
            pass


def largest_peak(pids: Iterable[int]) -> float:
    """The peak of the process that had the highest."""
    return round(max((_fields(Path(f"/proc/{pid}/status")).get("VmHWM", 0) for pid in pids), default=0) * _KIB, 1)


def _fields(path: Path) -> dict[str, int]:
    """`Name:   123 kB` lines."""
    try:
        text = path.read_text()
    except OSError:
        return {}
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB":
            found[name] = int(words[0])
    return found
