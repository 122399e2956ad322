"""What another metric costs: 1, 12 and 100 metrics over the same logs, one stage, against the hand-written SQL of the same metrics."""

import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks.nightly.logs import Logs, make_store
from benchmarks.nightly.rounds import Own, folder, gigabytes, ratio, seconds, sizes, take_turns
from benchmarks.options import Options, table

ROWS = (10_000_000,)
COUNTS = (1, 12, 100)


def run(options: Options) -> str:
    """Return a table for every size."""
    with folder(options) as here:
        return "\n\n".join(measure(rows, Path(here), options) for rows in sizes(options, ROWS))


def measure(rows: int, here: Path, options: Options) -> str:
    """Return the table of one size."""
    rounds = 1 if options.quick else 3
    logs, lines, one = Logs(rows), [], []
    base = make_store(logs, here / f"{logs.name}.duckdb")
    own = here / f"own-metrics-{rows}.duckdb"
    shutil.copy(base, own)
    for count in COUNTS[:2] if options.quick else COUNTS:
        with Own() as ours, Own() as hand:
            answers = take_turns({
                "hand": partial(hand.ask, "hand", db=str(base), metrics=count),
                "ours": partial(ours.ask, "nightly", db=str(own), logs=asdict(logs), metrics=count),
            }, rounds)  # fmt: skip
        one = one or answers["ours"]
        lines.append([
            f"{count}", ratio(answers["ours"], one).text(), ratio(answers["ours"], answers["hand"]).text(),
            seconds(answers["ours"]).text(), seconds(answers["hand"]).text(), gigabytes(answers["ours"]),
        ])  # fmt: skip
    own.unlink()
    head = ("metrics", "times one metric", "times the hand-written SQL", "seconds", "seconds by hand", "peak")
    return f"### {rows:,} rows, {rounds} rounds\n\n{table(head, lines)}"
