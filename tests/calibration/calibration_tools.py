"""Shared by the calibration tests: how many runs, which bound, and where the numbers go.

`ABTEST_CALIBRATE=full` runs the full sizes (minutes); the default is the reduced size of continuous integration.
`ABTEST_CALIBRATE_REPORT=FILE` appends one JSON line a simulation; `python calibration_tools.py FILE` prints them as the
tables of docs/calibration.md.
"""

import json
import math
import os
import sys
from pathlib import Path

import numpy as np

FULL = os.environ.get("ABTEST_CALIBRATE") == "full"


def size(reduced, full):
    return full if FULL else reduced


def at_most(alpha, runs, errors=3.0):
    """Largest rate that `runs` runs of a test with error `alpha` show, up to `errors` standard errors."""
    return alpha + errors * math.sqrt(alpha * (1 - alpha) / runs)


def standard_error(rate, runs):
    return math.sqrt(max(rate * (1 - rate), 1e-12) / runs)


def report(name, seed, runs, **numbers):
    target = os.environ.get("ABTEST_CALIBRATE_REPORT")
    if target:
        plain = {k: (float(v) if isinstance(v, (float, np.floating)) else v) for k, v in numbers.items()}
        with Path(target).open("a", encoding="utf-8") as out:
            out.write(json.dumps({"name": name, "seed": seed, "runs": runs, **plain}) + "\n")


def brownian(rng, runs, times, drift=0.0):
    """Paths of Brownian motion with drift at ascending times; shape (runs, looks)."""
    steps = np.diff(np.concatenate([[0.0], times]))
    return np.cumsum(rng.normal(drift * steps, np.sqrt(steps), size=(runs, len(times))), axis=1)


def first_crossing(crossed, times):
    """Return (rate of runs that cross, their mean stopping time with the rest stopped at the last look)."""
    hit = crossed.any(axis=1)
    stop = np.where(hit, np.asarray(times)[crossed.argmax(axis=1)], times[-1])
    return float(hit.mean()), float(stop.mean()), np.where(hit, stop, np.inf)


def percent(rate, runs):
    return f"{100 * rate:.2f} ± {100 * standard_error(rate, runs):.2f} %"


def tables(lines):
    """Return Markdown: what is promised, then the traps as wrong against right."""
    rows = [json.loads(line) for line in lines]
    text = ["| simulation | seed | runs | false alarms ± s.e. | other |", "|---|---|---|---|---|"]
    for row in (r for r in rows if "wrong" not in r):
        rate = percent(row["false_alarm"], row["runs"]) if row.get("false_alarm") is not None else "-"
        other = [f"{k.replace('_', ' ')} {row[k]:.4g}" for k in row if k not in ("name", "seed", "runs", "false_alarm")]
        text.append(f"| {row['name']} | {row['seed']} | {row['runs']:,} | {rate} | {'; '.join(other)} |")
    text += ["", "| trap | seed | runs | the wrong way | ours |", "|---|---|---|---|---|"]
    for row in (r for r in rows if "wrong" in r):
        show = (lambda x, n=row["runs"]: percent(x, n)) if row["name"].startswith("TRAP") else (lambda x: f"{x:.3g}")
        name = row["name"].removeprefix("TRAP ")
        text.append(f"| {name} | {row['seed']} | {row['runs']:,} | {show(row['wrong'])} | {show(row['right'])} |")
    return "\n".join(text)


if __name__ == "__main__":
    print(tables(Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()))
