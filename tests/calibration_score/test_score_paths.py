"""The simulation's own moments are the project's: the same as from unit rows, at every look."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from score_paths import RAMP, happened, path_sums, planned, traffic, warm_up

from abtest.analysis.constants import fractions_of
from abtest.spec import Experiment
from abtest.stats.score import pair_sums_from_units, stratified_score


def unit_rows(t, x, y, until):
    """Sum rows to one per unit and stage (the arm follows from both)."""
    rows = t.look <= until
    key = t.unit[rows] * len(t.shares) + t.stage[rows]
    cells, index = np.unique(key, return_inverse=True)
    arm = np.zeros(len(cells), dtype=int)
    arm[index] = t.arm[rows]
    total = [np.bincount(index, weights=w[rows]) for w in (x, y)]
    return arm, cells % len(t.shares), cells // len(t.shares), *total


@pytest.mark.parametrize("until", [30, 95])
def test_moments_at_a_look_are_those_of_the_rows_until_then(until):
    rng = np.random.default_rng(1)
    t = traffic(rng, 700, 5000)
    x, y = rng.lognormal(size=t.rows), (rng.random(t.rows) < 0.9).astype(float)
    path = stratified_score(path_sums(t, x, y), t.shares)
    once = stratified_score(pair_sums_from_units(*unit_rows(t, x, y, until), stages=4), t.shares)
    for margin, kind in ((0.0, "absolute"), (0.1, "absolute"), (0.1, "relative")):
        mine, theirs = path.contrast(margin, kind, running=False), once.contrast(margin, kind, running=False)
        for name in ("score", "weight", "v_plug", "v_design"):
            np.testing.assert_allclose(getattr(mine, name)[until], getattr(theirs, name)[0], rtol=1e-8)


def test_a_rate_that_should_be_high_is_the_mirror_of_one_that_should_be_low():
    rng = np.random.default_rng(3)
    t = traffic(rng, 700, 5000)
    bad = (rng.random(t.rows) < 0.03).astype(float)
    low = stratified_score(path_sums(t, bad), t.shares, proportion=True)
    high = stratified_score(path_sums(t, 1 - bad), t.shares, better="higher", proportion=True)
    for margin in (0.0, 0.01):
        mine, mirrored = low.contrast(margin), high.contrast(margin)
        for name in ("score", "v", "weight", "v_plug", "v_design", "v_floor"):
            np.testing.assert_allclose(getattr(mirrored, name), getattr(mine, name), rtol=1e-6, atol=1e-9)


def test_the_planned_clock_is_the_one_of_a_spec_with_this_ramp():
    spec = Experiment.model_validate({
        "id": "x", "unit": "user", "control": "a", "treatments": ["b"],
        "metrics": [{"name": "e", "kind": "proportion", "event": "is_error", "better": "lower"}],
        "ramp": [{"stage": "canary", "share": q} for q in RAMP],
    })  # fmt: skip
    assert planned(RAMP) == fractions_of(spec, ())


def test_warm_up_reads_control_until_its_200th_unit():
    rng = np.random.default_rng(2)
    t = traffic(rng, 900, 9000)
    x = rng.random(t.rows)
    short = warm_up(t, x)
    assert short["baseline"] == pytest.approx(0.5, abs=0.1)
    assert warm_up(t, np.ones(t.rows)) == {"baseline": 1.0, "variance": 0.0}


def test_names_of_what_happened():
    assert happened(a=np.array([False, True]), b=False, c=np.array([False])) == ["a"]
    assert stats.binom.ppf(0.999, 300, 0.05) == 28  # the tolerance of the reduced runs, for the record
