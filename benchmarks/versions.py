"""`abtest versions` in a fresh process, in turns with a bare DuckDB GROUP BY over the same columns in a process of its own."""

import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from abtest.lineage.manifest import FIELDS
from benchmarks.nightly.logs import Logs, make_store
from benchmarks.options import Options, table
from benchmarks.stats_speed import spread

ROWS = (10_000_000,)
QUICK_ROWS = 60_000
RUNS = 5
TARGET_SECONDS = 1.0
_COLUMNS = ", ".join(("surface", *FIELDS))
_BARE = (
    "import duckdb, sys\n"
    "con = duckdb.connect(sys.argv[1], read_only=True)\n"
    f"print(len(con.execute('select {_COLUMNS}, count(*), min(ts_us), max(ts_us) from interaction group by {_COLUMNS}').fetchall()))"
)
_FORGET = "delete from version_hour; delete from version_state; checkpoint"


def run(options: Options) -> str:
    """Return the table: what is asked at two in the morning, and what it would cost without what is kept."""
    sizes = options.rows or ((QUICK_ROWS,) if options.quick else ROWS)
    with TemporaryDirectory(prefix="abtest-versions-") as name:
        folder = options.data or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        parts = [_table(rows, folder, 2 if options.quick else RUNS) for rows in sizes]
    return "\n\n".join(parts)


def _table(rows: int, folder: Path, runs: int) -> str:
    logs = Logs(rows, treatments=1, staged=True)
    db = make_store(logs, folder / f"{logs.name}.duckdb")
    with duckdb.connect(str(db), read_only=True) as con:
        newest = con.execute(
            "select cast(make_timestamp(max(ts_us) - 864000000000) as varchar) from interaction"
        ).fetchall()[0][0]
    then = f"{str(newest)[:19].replace(' ', 'T')}Z"
    kinds: dict[str, list[str]] = {
        "bare GROUP BY, nothing else": ["-c", _BARE, str(db)],
        f"`abtest versions` (target {TARGET_SECONDS:g} s)": _ours(db),
        "`abtest versions --at`, ten days back": [*_ours(db), "--at", then],
        "`abtest versions --json --last 24h`": [*_ours(db), "--json", "--last", "24h"],
        "Python alone": ["-c", "pass"],
    }
    with duckdb.connect(str(db)) as con:
        con.execute(_FORGET)
    first = _seconds(_ours(db))
    times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in kinds}
    for _ in range(runs):
        for kind, arguments in kinds.items():
            times[kind].append(_seconds(arguments))
    bare = times["bare GROUP BY, nothing else"]
    lines = [
        [
            kind,
            *(spread([t[k] for t in found]).text() for k in (0, 1)),
            spread([a[0] / b[0] for a, b in zip(found, bare, strict=True)]).text(),
        ]
        for kind, found in times.items()
    ]
    ratio = first[0] / spread([t[0] for t in bare]).median
    lines.insert(2, ["the first one after a load of everything", f"{first[0]:.3g}", f"{first[1]:.3g}", f"{ratio:.3g}"])
    head = (f"{rows:,} calls, process start included", "seconds", "processor seconds", "x bare GROUP BY")
    return table(head, lines)


def _ours(db: Path) -> list[str]:
    return ["-m", "abtest.cli.main", "versions", "--db", str(db)]


def _seconds(arguments: Sequence[str]) -> tuple[float, float]:
    """Return the time by the clock and the processor time of a process: other work on the machine adds to the first only."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    clock, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
