"""python -m bench.publish FIGURES: puts the figures of a run into docs/: the tables of benchmark.md, and the chart.

In: the JSON file of a run. Out: docs/benchmark.json (the same figures), docs/benchmark.svg, and docs/benchmark.md, in
which what stands between the two marks is replaced. Exit codes: 0 done, 1 the file is no document of figures, 2 usage.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

from bench.chart import chart, machine_line
from bench.document import Document, from_json, to_json
from bench.table import disturbance, markdown
from bench.tables import tables

DOCS: Final = Path(__file__).parent.parent / "docs"
BEGIN: Final = "<!-- figures: made by `python -m bench.publish`; edit nothing up to the next mark -->"
END: Final = "<!-- end of figures -->"


def section(document: Document) -> str:
    """What stands between the marks."""
    parts = [
        f"Machine: {machine_line(document.machine, document.date)}.",
        "Versions: " + "; ".join(document.versions.values()) + "." if document.versions else "",
        "![Messages a second of the relay and of Postfix, case by case](benchmark.svg)" if document.rounds else "",
    ]
    for table in tables(document):
        parts += [f"### {table.title}", markdown(table), *table.notes]
    if rounds := document.all_rounds():
        parts.append(disturbance(rounds))
    return "\n\n".join(part for part in parts if part)


def page(text: str, document: Document) -> str:
    """The page with this section. Raises ValueError for one without the marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("the page has no marks to put figures between")
    return f"{before}{BEGIN}\n\n{section(document)}\n\n{END}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.publish", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("figures", type=Path, help="figures.json of a run")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of benchmark.md")
    options = parser.parse_args()
    target = options.docs / "benchmark.md"
    try:
        document = from_json(options.figures.read_text())
        target.write_text(page(target.read_text(), document))
    except (OSError, ValueError) as error:
        print(f"bench.publish: {error}", file=sys.stderr)
        return 1
    (options.docs / "benchmark.svg").write_text(chart(document))
    (options.docs / "benchmark.json").write_text(to_json(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
