"""Our half of the comparison with peers, on the very data that `python -m benchmarks peers` runs the peers on.

The peers need environments of their own, so their half is a benchmark and not a test; docs/calibration.md has both.
"""

import numpy as np
import pytest
from calibration_tools import at_most, report, size

from benchmarks.peers import data, ours
from benchmarks.peers.study import found_rate, mean_stop

pytestmark = pytest.mark.calibration


def rates(found, scenario="null"):
    return {label: found_rate(stops[scenario]) for label, stops in found.items()}


def test_proportions(tmp_path):
    runs = size(200, 2000)
    drawn = data.proportions(tmp_path, runs)
    found = ours.proportions(drawn)
    counts = drawn.arrays["null_counts"].astype(float)
    n_c, x_c, n_t, x_t = np.moveaxis(counts, -1, 0)
    p_c, p_t = x_c / n_c, x_t / n_t
    z = np.abs(p_t - p_c) / np.sqrt(p_c * (1 - p_c) / n_c + p_t * (1 - p_t) / n_t)
    peeked = float((z > 1.959964).any(axis=1).mean())
    for label, rate in rates(found).items():
        stop = mean_stop(drawn, found[label]["effect"], found[label].get("last", -1))
        report(f"peers' data, 30 against 40 %: {label}", 401, runs, false_alarm=rate, stop=stop)
        assert rate <= at_most(drawn.alpha, runs), label
        # 80 % is the fixed sample's power; who goes on to four times that finds practically everything.
        assert found_rate(found[label]["effect"]) > (0.7 if "last" in found[label] else 0.97)
    report(
        "TRAP peers' data: a fixed test read at every look",
        401,
        runs,
        wrong=peeked,
        right=rates(found)["normal mixture"],
    )
    assert peeked > 3 * drawn.alpha


def test_events(tmp_path):
    runs = size(200, 2000)
    drawn = data.events(tmp_path, runs)
    (stops,) = ours.events(drawn).values()
    assert found_rate(stops["null"]) <= at_most(drawn.alpha, runs)
    assert found_rate(stops["zero"]) == 1.0
    assert found_rate(stops["effect"]) > 0.98


def test_sample_ratio(tmp_path):
    runs = size(500, 5000)
    drawn = data.sample_ratio(tmp_path, runs)
    (stops,) = ours.sample_ratio(drawn).values()
    assert found_rate(stops["null"]) <= at_most(drawn.alpha, runs)
    assert found_rate(stops["effect"]) > 0.85
