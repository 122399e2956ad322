"""Shared by the calibration tests: how many runs, which bound, and where the numbers go.

`ABTEST_CALIBRATE=full` runs the full sizes (minutes); the default is the reduced size of continuous integration.
`ABTEST_CALIBRATE_REPORT=FILE` appends one JSON line a simulation, from which docs/calibration.md is made.
"""

import json
import math
import os
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
