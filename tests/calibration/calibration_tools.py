"""Shared by the calibration tests: how many runs, which bound, and where the numbers go.

`ABTEST_CALIBRATE=full` runs the full sizes (minutes); the default is the reduced size of continuous integration.
`ABTEST_CALIBRATE_REPORT=FILE` appends one JSON line a simulation; `python calibration_tools.py FILE` prints them as the
tables of docs/calibration.md: what is promised, the traps, hard data.
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


ROBUST = {
    "two-sided": "two-sided",
    "harm": "harm",
    "better": "better",
    "t": "t-version",
    "horizon": "horizon",
    "rate ratio": "rate ratio",
    "bets": "bets",
    "sample ratio": "sample ratio",
    "peeked": "fixed test at every look",
}
"""Columns of the table of robustness; the methods of normal theory have a "raw" rate, without their refusal."""


def tables(lines):
    """Return Markdown: what is promised, the traps as wrong against right, and hard data by method."""
    rows = [json.loads(line) for line in lines]
    robust = [r for r in rows if r["name"].startswith("ROBUST")]
    plain = [r for r in rows if "wrong" not in r and r not in robust]
    traps = [r for r in rows if "wrong" in r]
    return "\n\n".join("\n".join(text) for text in (_promises(plain), _traps(traps), _robust(robust)) if len(text) > 2)


def _promises(rows):
    text = ["| simulation | seed | runs | false alarms ± s.e. | other |", "|---|---|---|---|---|"]
    for row in rows:
        rate = percent(row["false_alarm"], row["runs"]) if row.get("false_alarm") is not None else "-"
        other = [f"{k.replace('_', ' ')} {row[k]:.4g}" for k in row if k not in ("name", "seed", "runs", "false_alarm")]
        text.append(f"| {row['name']} | {row['seed']} | {row['runs']:,} | {rate} | {'; '.join(other)} |")
    return text


def _traps(rows):
    text = ["| trap | seed | runs | the wrong way | ours |", "|---|---|---|---|---|"]
    for row in rows:
        show = (lambda x, n=row["runs"]: percent(x, n)) if row["name"].startswith("TRAP") else _short
        name = row["name"].removeprefix("TRAP ")
        text.append(f"| {name} | {row['seed']} | {row['runs']:,} | {show(row['wrong'])} | {show(row['right'])} |")
    return text


def _short(number):
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


def _robust(rows):
    text = [
        "| data, seed, runs | " + " | ".join(ROBUST.values()) + " |",
        "|---" * (len(ROBUST) + 1) + "|",
    ]
    for row in rows:
        cells = [_robust_cell(row, method) for method in ROBUST]
        text.append(f"| {row['name'].removeprefix('ROBUST ')}; {row['seed']}; {row['runs']:,} | {' | '.join(cells)} |")
    return text


def _robust_cell(row, method):
    rate, error = 100 * row[method], 100 * standard_error(row[method], row["runs"])
    if row["silent"] and method not in ("sample ratio", "peeked"):
        return "refuses"
    if row["refuses"] and f"raw {method}" in row:
        return f"refuses ({100 * row[f'raw {method}']:.1f})"
    return f"{rate:.1f} ± {error:.1f}"


if __name__ == "__main__":
    print(tables(Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()))
