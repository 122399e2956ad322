"""What another experiment costs: the same logs spread over 1, 10 and 100 disjoint experiments, all of them analysed.

A hundred take one round without a warm-up, so their constants are frozen in it too.
"""

import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks.nightly.logs import Logs, make_store
from benchmarks.nightly.rounds import Own, folder, gigabytes, ratio, seconds, sizes, take_turns
from benchmarks.options import Options, table

ROWS = (10_000_000,)
COUNTS = (1, 10, 100)


def run(options: Options) -> str:
    """Return a table for every size."""
    with folder(options) as here:
        return "\n\n".join(measure(rows, Path(here), options) for rows in sizes(options, ROWS))


def measure(rows: int, here: Path, options: Options) -> str:
    """Return the table of one size."""
    lines, alone = [], 0.0
    for count in COUNTS[:2] if options.quick else COUNTS:
        logs, rounds = Logs(rows, experiments=count), 1 if options.quick or count == COUNTS[-1] else 3
        base = make_store(logs, here / f"{logs.name}.duckdb")
        own = here / f"own-experiments-{rows}.duckdb"
        shutil.copy(base, own)
        with Own() as ours, Own() as hand:
            answers = take_turns({
                "hand": partial(hand.ask, "hand", db=str(base), experiments=count),
                "ours": partial(ours.ask, "nightly", db=str(own), logs=asdict(logs)),
            }, rounds, warm=count != COUNTS[-1])  # fmt: skip
        own.unlink()
        alone = alone or seconds(answers["ours"]).median
        lines.append([
            f"{count}", str(rounds), f"{seconds(answers['ours']).median / alone:.3g}", ratio(answers["ours"], answers["hand"]).text(),
            seconds(answers["ours"]).text(), seconds(answers["hand"]).text(), gigabytes(answers["ours"]),
        ])  # fmt: skip
    head = (
        "experiments",
        "rounds",
        "times one experiment",
        "times one SQL for all",
        "seconds",
        "seconds by hand",
        "peak",
    )
    return f"### {rows:,} rows\n\n{table(head, lines)}"
