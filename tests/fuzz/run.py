"""make fuzz: atheris (libFuzzer) drives every reader of what strangers send with inputs of its own making.

    python tests/fuzz/run.py [--inputs N] [--seconds S] [--target NAME] [--corpus FOLDER]

`--inputs` are shared out to the targets, most to the front door. Exit code 0: no input broke an invariant. One that
does is in the corpus folder as `crash-...`, and its traceback above; `--input FILE --target NAME` runs it alone. How
many inputs each reader has had is printed, and summed up over all runs in `counts` of the corpus folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
# What share of the inputs each gets, and how long an input may be.
TARGETS = {
    "session": (40, 700),
    "door": (4, 1500),
    "commands": (24, 600),
    "mail": (14, 4000),
    "logins": (5, 3000),
    "vendors": (7, 3000),
    "rebuilt": (1, 3000),
    "next_hop": (4, 2000),
    "operators": (1, 2000),
}
_SPEAK_SMTP = ("session", "door", "commands")


def main() -> int:
    options = _options()
    if options.child:
        return _fuzz(options.child, options)
    names = options.target or list(TARGETS)
    if options.input:
        for name in names:
            _target(name)(options.input.read_bytes())
        return 0
    counts = options.corpus.absolute() / "counts"
    before = _total(counts)
    # libFuzzer ends its process; each target has one of its own.
    failed = [name for name in names if _child(name, names, options)]
    after = _total(counts)
    for reader in sorted(after):
        print(f"{reader:24}{after[reader] - before.get(reader, 0):>12,}{after[reader]:>14,} in all")
    print(f"{'all readers':24}{sum(after.values()) - sum(before.values()):>12,}{sum(after.values()):>14,} in all")
    print(f"fuzz: {', '.join(failed)} broke" if failed else "fuzz: nothing broke")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=200_000, help="inputs in all (default 200,000)")
    parser.add_argument("--seconds", type=int, default=0, help="seconds in all; 0: until the inputs are used up")
    parser.add_argument("--target", choices=TARGETS, action="append", default=[])
    parser.add_argument("--corpus", type=Path, default=Path("fuzz-work"))
    parser.add_argument("--input", type=Path, help="one input file, without atheris")
    parser.add_argument("--child", choices=TARGETS, help=argparse.SUPPRESS)
    return parser.parse_args()


def _child(name: str, names: list[str], options: argparse.Namespace) -> int:
    """The exit code of a process that fuzzes one target with its share."""
    weight, whole = TARGETS[name][0], sum(TARGETS[each][0] for each in names)
    inputs = max(1, options.inputs * weight // whole)
    seconds = max(1, options.seconds * weight // whole) if options.seconds else 0
    words = [f"--inputs={inputs}", f"--seconds={seconds}", f"--corpus={options.corpus.absolute()}"]
    print(f"fuzz: {name}, {inputs:,} inputs", flush=True)
    command = [sys.executable, str(HERE / "run.py"), "--child", name, *words]
    told = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True, errors="replace")
    if told.returncode:
        print(told.stderr[-20_000:], file=sys.stderr)
    return told.returncode


def _total(folder: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for path in folder.glob("*.json"):
        found |= {f"{path.stem}: {reader}": count for reader, count in json.loads(path.read_text()).items()}
    return found


def _target(name: str) -> Any:
    if str(HERE) not in sys.path:
        sys.path.insert(0, str(HERE))
    module = __import__(name)
    return module.target()


def _fuzz(name: str, options: argparse.Namespace) -> int:
    import atheris

    # What was imported before is not instrumented, and teaches the fuzzer nothing.
    assert not any(loaded.startswith("relay.") for loaded in sys.modules)
    with atheris.instrument_imports(include=["relay"]):
        target = _target(name)
    corpus = options.corpus / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number:03}").write_bytes(seed)
    arguments = [sys.argv[0], f"-runs={options.inputs}", f"-max_len={TARGETS[name][1]}", "-timeout=60"]
    arguments += [f"-max_total_time={options.seconds}"] if options.seconds else []
    arguments += ["-rss_limit_mb=1024", f"-artifact_prefix={corpus}/", "-verbosity=0", str(corpus)]
    arguments += [f"-dict={HERE / 'protocol.dict'}"] if name in _SPEAK_SMTP else []
    atheris.Setup(arguments, _counted(target, options.corpus / "counts" / f"{name}.json"))
    atheris.Fuzz()
    return 0


def _counted(target: Any, path: Path) -> Callable[[bytes], None]:
    from harness import keep_counts

    path.parent.mkdir(parents=True, exist_ok=True)
    counted: Callable[[bytes], None] = keep_counts(target, path)
    return counted


if __name__ == "__main__":
    sys.exit(main())
