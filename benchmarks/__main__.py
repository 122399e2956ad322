"""`python -m benchmarks [PART ...] [--quick] [--environments DIR]`: prints Markdown tables."""

import argparse
import importlib
import sys
import time
from pathlib import Path

from benchmarks.options import Options

PARTS = {
    "stats": "benchmarks.stats_speed",
    "peers": "benchmarks.peers.study",
    "ingest": "benchmarks.ingest",
    "nightly": "benchmarks.nightly.nightly",
    "metrics": "benchmarks.nightly.metrics",
    "experiments": "benchmarks.nightly.experiments",
    "incremental": "benchmarks.nightly.incremental",
    "tick": "benchmarks.nightly.tick",
    "decide": "benchmarks.nightly.one_shot",
    "profile": "benchmarks.nightly.profile",
    "versions": "benchmarks.versions",
}
"""Part -> module with `run(options) -> str`. A new benchmark is one new file and one line here."""


def main(arguments: list[str] | None = None) -> int:
    """Run the parts that were asked for, in the order of the list."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="few repetitions: to see that it runs")
    parser.add_argument(
        "--environments", type=Path, help="keep the peers' environments here (default: a temporary folder)"
    )
    parser.add_argument("--data", type=Path, help="keep large logs here (default: a temporary folder)")
    parser.add_argument("--rows", type=int, nargs="+", default=(), help="sizes of the large logs")
    asked = parser.parse_args(arguments)
    unknown = [part for part in asked.parts if part not in PARTS]
    if unknown:
        parser.error(f"unknown part {unknown[0]!r}, known: {', '.join(PARTS)}")
    options = Options(quick=asked.quick, environments=asked.environments, data=asked.data, rows=tuple(asked.rows))
    for part in asked.parts or PARTS:
        start = time.perf_counter()
        print(f"## {part}\n\n{importlib.import_module(PARTS[part]).run(options)}\n", flush=True)
        print(f"{part}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
