"""One new day on top of what is known, against the same report from all logs; and reading it again when nothing is new.

The last days of the logs come one by one, as on real nights. Each night: the increment (its evidence hash must be that of the full
recompute), the report again from the kept state, then everything anew.
"""

import shutil
from dataclasses import asdict
from pathlib import Path

from benchmarks.nightly.logs import DAYS, Logs, make_store
from benchmarks.nightly.rounds import Answer, Own, folder, ratio, seconds, sizes
from benchmarks.options import Options, table
from benchmarks.stats_speed import spread

ROWS = (1_000_000, 10_000_000, 50_000_000)
NIGHTS = {10_000_000: 5, 50_000_000: 2}
TARGETS = {10_000_000: "0.5", 50_000_000: "0.15 at 100 M"}


def run(options: Options) -> str:
    """Return one table; every size in a row with CUPED and one without."""
    with folder(options) as here:
        lines = [
            measure(Logs(rows), Path(here), 1 if options.quick else NIGHTS.get(rows, 7), covariate=covariate)
            for rows in sizes(options, ROWS)
            for covariate in (True, False)
        ]
    head = ("rows", "metrics", "nights", "one new day / everything", "target", "equal", "one new day, s", "everything, s",
            "nothing new: read, ms (target 10)", "with judging, ms")  # fmt: skip
    return table(head, lines)


def measure(logs: Logs, here: Path, nights: int, *, covariate: bool) -> list[str]:
    """Return the row of one size."""
    first = DAYS - nights
    base = make_store(logs, here / f"{logs.name}-days-{first}.duckdb", days=first)
    own = here / f"own-incremental-{logs.rows}.duckdb"
    shutil.copy(base, own)
    ask = {"db": str(own), "logs": asdict(logs), "covariate": covariate}
    increments: list[Answer] = []
    again: list[Answer] = []
    full: list[Answer] = []
    with Own() as ours:
        ours.ask("nightly", **ask)
        for day in range(first, DAYS):
            ours.ask("add_day", db=str(own), logs=asdict(logs), day=day)
            increments.append(ours.ask("nightly", full=False, **ask))
            again.append(ours.ask("nightly", full=False, **ask))
            full.append(ours.ask("nightly", full=True, **ask))
    own.unlink()
    equal = all(a["hash"] == b["hash"] == c["hash"] for a, b, c in zip(increments, again, full, strict=True))
    return [
        f"{logs.rows:,}", "12, one with CUPED" if covariate else "12, none with CUPED", str(nights), ratio(increments, full).text(),
        TARGETS.get(logs.rows, "none"), "yes" if equal else "NO", seconds(increments).text(), seconds(full).text(),
        *(spread([1000 * float(a[k]) for a in again]).text() for k in ("read", "seconds")),
    ]  # fmt: skip
