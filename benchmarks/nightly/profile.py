"""Where the time of a nightly analysis goes, query by query."""

import shutil
from dataclasses import asdict
from pathlib import Path

from benchmarks.nightly.logs import Logs, make_store
from benchmarks.nightly.rounds import Answer, Own, folder, sizes
from benchmarks.options import Options, table

ROWS = (10_000_000,)


def run(options: Options) -> str:
    """Return a table for one stage with segments, and one for three stages."""
    parts = []
    with folder(options) as name:
        here = Path(name)
        for rows in sizes(options, ROWS):
            for logs, segments in ((Logs(rows), True), (Logs(rows, staged=True), False)):
                own = here / f"own-profile-{rows}.duckdb"
                shutil.copy(make_store(logs, here / f"{logs.name}.duckdb"), own)
                with Own() as ours:
                    ask = {"db": str(own), "logs": asdict(logs), "segments": segments}
                    ours.ask("nightly", **ask)
                    answer = ours.ask("profile", **ask)
                own.unlink()
                title = "three stages" if logs.staged else "one stage with 10 segments"
                parts.append(f"### {rows:,} rows, {title}: {answer['seconds']:.2f} s\n\n{report(answer)}")
    return "\n\n".join(parts)


def report(answer: Answer) -> str:
    """Return the table of the queries that take at least 1 % of the time, and the rest."""
    whole = float(answer["seconds"])
    spent = {name: (len(each), sum(each)) for name, each in answer["spent"].items()}
    large = {n: s for n, s in spent.items() if s[1] >= 0.01 * whole}
    rows = [
        [n, str(k), f"{s:.2f}", f"{100 * s / whole:.0f} %"]
        for n, (k, s) in sorted(large.items(), key=lambda e: -e[1][1])
    ]
    small = [s for n, s in spent.items() if n not in large]
    for name, count, value in (
        ("other queries", str(sum(k for k, _ in small)), sum(s for _, s in small)),
        ("Python: judging, integers, JSON", "", whole - sum(s for _, s in spent.values())),
    ):
        rows.append([name, count, f"{value:.2f}", f"{100 * value / whole:.0f} %"])
    return table(("query", "times", "seconds", "share"), rows)
