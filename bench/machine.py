"""Machine: where figures were made. Numbers of another machine, or of this one on a busy day, are other numbers."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

_SYNCS: Final = 50
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Machine:
    """Facts as text and numbers; `fsync_ms`: the median for 4 KB appended to a file in the bench's folder."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    distribution: str
    python: str
    filesystem: str
    fsync_ms: float
    load: float
    commit: str

    def lines(self) -> list[str]:
        return [
            f"CPU         {self.cpu}, {self.cores} core(s), {self.memory_gib:.1f} GiB",
            f"system      {self.distribution}, Linux {self.kernel}, Python {self.python}",
            f"filesystem  {self.filesystem}, fsync of 4 KB {self.fsync_ms:.2f} ms",
            f"load        {self.load:.2f} before the start",
            f"commit      {self.commit or 'unknown'}",
        ]


def look(folder: Path) -> Machine:
    """The machine as it is now; `folder` is where both queues will be."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        cpu=cpu_model(Path("/proc/cpuinfo").read_text()),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(memory / 2**30, 1),
        kernel=platform.release(),
        distribution=platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"),
        python=platform.python_version(),
        filesystem=filesystem(Path("/proc/self/mountinfo").read_text(), folder.resolve()),
        fsync_ms=round(_fsync(folder) * 1e3, 3),
        load=os.getloadavg()[0],
        commit=_commit(),
    )


def cpu_model(cpuinfo: str) -> str:
    """The first `model name` of /proc/cpuinfo; the architecture where the kernel gives none."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def filesystem(mountinfo: str, folder: Path) -> str:
    """Type and device of the longest mount point above `folder` (proc_pid_mountinfo(5))."""
    best, found = -1, "unknown"
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 2:
            continue
        point = Path(fields[4].replace("\\040", " "))
        # A later mount on the same point hides the earlier one.
        if folder.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), f"{kind[0]} on {kind[1]}"
    return found


def busy_seconds(stat: str) -> float:
    """CPU seconds the machine was not idle since it started, the hypervisor's share included (proc_stat(5))."""
    for line in stat.splitlines():
        if line.startswith("cpu "):
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, line.split()[1:9])
            return (user + nice + system + irq + softirq + steal) / _TICKS
    return 0.0


def _fsync(folder: Path) -> float:
    path, block, times = folder / "fsync-probe", b"x" * 4096, []
    with path.open("wb", buffering=0) as file:
        for _ in range(_SYNCS):
            start = time.perf_counter()
            file.write(block)
            os.fsync(file.fileno())
            times.append(time.perf_counter() - start)
    path.unlink()
    return median(times)


def _commit() -> str:
    try:
        command = ["git", "describe", "--always", "--dirty"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    except OSError:
        return ""
    return done.stdout.strip()
