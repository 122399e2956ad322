"""The gate to the alias swap: over index swaps with a known loss, looked at after every golden query, it holds its levels.

One cell is real: the differences of 120 golden queries between an index of all-MiniLM-L6-v2 and one that was re-indexed in
part with another model (tests/lineage/fixtures), drawn with replacement; its true loss is their mean.
"""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from calibration_tools import at_most, report, size

from abtest.stats.ranking import GatePlan, log_e_above, paired_gate, recall_at_k

sys.path.append(str(Path(__file__).parents[1] / "lineage"))
from index_tools import embedded

pytestmark = pytest.mark.calibration

ALPHA, HALT, SEED = 0.05, 0.01, 910
RUNS, QUERIES = size(400, 2000), size(500, 1500)
MARGIN = 0.05


def real_differences(every):
    """Differences of recall@10 of an index in which every n-th document has another model's vector."""
    data = embedded()
    hits = []
    for vectors in (data.a, data.half(every)):
        found = [
            row["ids"].index(row["query_id"]) if row["query_id"] in row["ids"] else None
            for row in data.run(data.queries_a, vectors)
        ]
        gains = np.array([[float(place == rank) for rank in range(10)] for place in found])
        hits.append(recall_at_k(gains, np.ones(len(found)), 10))
    return hits[1] - hits[0]


# Values and their chances; the mean is the truth. A rare catastrophe is what fools a gate that trusts the variance it saw.
SHAPES = {
    "found or not": ([-1.0, 0.0, 1.0], [0.10, 0.85, 0.05]),
    "rare loss": ([-1.0, 0.0], [0.05, 0.95]),
    "rare gain": ([-0.1, 1.0], [0.9545454545454546, 0.0454545454545454]),
    "graded": ([-0.6, -0.2, 0.0, 0.2, 0.5], [0.08, 0.18, 0.58, 0.07, 0.096]),
}


def draw(rng, runs, name):
    if name == "real":
        pool = real_differences(12)
        return rng.choice(pool, size=(runs, QUERIES)), float(pool.mean())
    values, chances = (np.array(x) for x in SHAPES[name])
    chances = chances / chances.sum()
    return rng.choice(values, size=(runs, QUERIES), p=chances), float(values @ chances)


def ever(runs, rng, name, tested, alpha, sign, shift=0.0):
    """Share of runs that cross at any look, and the median look of those; `tested` is the mean of the null."""
    plan, crossed, at = GatePlan(float(QUERIES)), 0, []
    for begin in range(0, runs, 100):
        d, _ = draw(rng, min(100, runs - begin), name)
        path = log_e_above(np.clip(sign * (d + shift), -1, 1), sign * tested, plan, alpha)
        hit = path >= -math.log(alpha)
        crossed += int(hit.any(axis=1).sum())
        at += [int(row.argmax()) + 1 for row in hit if row.any()]
    return crossed / runs, float(np.median(at)) if at else None


@pytest.mark.parametrize("name", [*SHAPES, "real"])
def test_levels_hold_when_the_loss_is_exactly_the_margin(name):
    rng = np.random.default_rng(SEED)
    _, loss = draw(rng, 1, name)
    promoted, _ = ever(RUNS, rng, name, loss, ALPHA, 1.0)
    halted, _ = ever(RUNS, rng, name, loss, HALT, -1.0)
    report(f"index gate, loss exactly at the margin, {name}", SEED, RUNS, false_promote=promoted, false_halt=halted)
    assert promoted <= at_most(ALPHA, RUNS)
    assert halted <= at_most(HALT, RUNS)


def test_harmless_swaps_are_promoted_and_bad_ones_halted():
    rng = np.random.default_rng(SEED + 1)
    runs = size(100, 1000)
    good, queries = ever(runs, rng, "found or not", -MARGIN, ALPHA, 1.0, shift=MARGIN)  # no loss on average
    bad, soon = ever(runs, rng, "found or not", -MARGIN, HALT, -1.0, shift=-0.1)  # a loss of 0.15
    report("index gate, margin 0.05: no loss promoted, a loss of 0.15 halted", SEED + 1, runs, promoted=good, halted=bad,
           median_queries_promote=queries, median_queries_halt=soon)  # fmt: skip
    assert good >= size(0.5, 0.9)
    assert bad >= 0.9


def test_the_path_is_the_gate():
    rng = np.random.default_rng(SEED + 2)
    d, _ = draw(rng, 20, "graded")
    plan = GatePlan(float(QUERIES))
    for row in d:
        gate = paired_gate(row, margin=MARGIN, plan=plan)
        path = float(log_e_above(row, -MARGIN, plan, ALPHA)[-1])
        assert gate.safe_pvalue == pytest.approx(min(1.0, math.exp(-path)), rel=1e-9)
