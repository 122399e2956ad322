"""A tick of a running canary: 10,000 new NDJSON rows are validated and stored, and a decision is made and recorded.

The store is opened and closed in every tick, as a `watch` does that shares it with others; the process stays.
"""

import shutil
from dataclasses import asdict
from pathlib import Path

from benchmarks.nightly.logs import Logs, make_store
from benchmarks.nightly.rounds import Answer, Own, folder, gigabytes, quantile, sizes
from benchmarks.options import Options, table

ROWS = (1_000_000, 10_000_000)
NEW = 10_000
TICKS = 30
STEPS = ("open", "ingest", "read", "judge", "ledger", "close")


def run(options: Options) -> str:
    """Return one table: whole ticks, and their steps."""
    lines, decided = [], set[str]()
    with folder(options) as here:
        for rows in sizes(options, ROWS):
            answers = measure(Logs(rows, treatments=1), Path(here), 2 if options.quick else TICKS)
            decided |= {str(a["decision"]) for a in answers}
            lines.append(_line(rows, answers))
    head = (
        "rows in the store",
        "ticks",
        "p50, ms (target 200)",
        "p95, ms (target 350)",
        *(f"{s}, p50" for s in STEPS),
        "peak",
    )
    return f"{table(head, lines)}\n\nDecisions: {', '.join(sorted(decided))}."


def measure(logs: Logs, here: Path, ticks: int) -> list[Answer]:
    """Return the answers of that many ticks; the first two, which find no state and cold caches, do not count."""
    base = make_store(logs, here / f"{logs.name}.duckdb")
    own = here / f"own-tick-{logs.rows}.duckdb"
    shutil.copy(base, own)
    with Own() as ours:
        answers = [
            ours.ask("tick", db=str(own), logs=asdict(logs), first=logs.rows + k * NEW, rows=NEW, folder=str(here))
            for k in range(ticks + 2)
        ]
    own.unlink()
    if any(a["inserted"] != NEW for a in answers):
        raise AssertionError("a tick did not take all of its rows")
    return answers[2:]


def _line(rows: int, answers: list[Answer]) -> list[str]:
    milliseconds = [1000 * float(a["seconds"]) for a in answers]
    steps = [f"{quantile([1000 * float(a['steps'][s]) for a in answers], 0.5):.0f}" for s in STEPS]
    return [f"{rows:,}", str(len(answers)), f"{quantile(milliseconds, 0.5):.0f}", f"{quantile(milliseconds, 0.95):.0f}", *steps,
            gigabytes(answers)]  # fmt: skip
