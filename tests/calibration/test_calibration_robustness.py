"""Hard data: false alarms stay below alpha, or the answer is a refusal; every cell of the table in docs/calibration.md."""

import numpy as np
import pytest
from calibration_tools import at_most, report, size
from robustness_cells import (
    ALPHA,
    EXACT,
    LEVEL,
    NORMAL_THEORY,
    STRESSES,
    arrivals,
    measure,
    pair_sums_of,
    plan,
    score_paths,
)

import abtest
from abtest.analysis.judge import MIN_UNITS
from abtest.stats import mixture, rate_ratio, srm
from abtest.stats.score import pair_sums_from_units, stratified_score

pytestmark = pytest.mark.calibration


@pytest.mark.parametrize("stress", STRESSES, ids=lambda s: s.name)
def test_robustness(stress):
    runs = size(300, 4000)
    rates = measure(stress, runs)
    report(f"ROBUST {stress.name}", stress.seed, runs, refuses=stress.refuses, silent=stress.silent, **rates)
    for method in (*NORMAL_THEORY, *EXACT):
        assert rates[method] <= at_most(ALPHA, runs), method
    if stress.refuses:
        assert rates["refused"] == 1.0
    if stress.silent:
        assert not any(rates[method] for method in (*NORMAL_THEORY, "rate ratio", "bets"))
    if stress.seed in (301, 311, 316, 317, 319):
        # The data are hard enough to tell right from wrong: the fixed test read at every look fails on them.
        assert rates["peeked"] > 3 * ALPHA


def test_cells_are_what_a_caller_computes():
    # One experiment of correlated users: the stacked sums equal `pair_sums_from_units`, the tests equal the scalar calls.
    rng = np.random.default_rng(7)
    n = 200
    treated, rows = rng.random((1, n)) < 0.5, rng.geometric(0.1, size=(1, n))
    x = rng.binomial(rows, 0.1).astype(float)
    looks = np.array([60, 120, n])
    evidence = arrivals(treated, x, rows.astype(float), x > 0, x / rows, looks)
    stacked = stratified_score(pair_sums_of(evidence), [0.5], proportion=True).contrast(running=False)
    for k, last in enumerate(looks):
        sums = pair_sums_from_units(
            treated[0, :last], np.zeros(last), np.arange(last), x[0, :last], rows[0, :last], stages=1
        )
        single = stratified_score(sums, [0.5], proportion=True).contrast()
        assert stacked.score[k] == pytest.approx(single.score[0], rel=1e-9)
        assert stacked.v[k] == pytest.approx(single.v[0], rel=1e-9)
    s, v, *_ = score_paths(evidence, 0.5, True)
    weight = float(stacked.weight[-1])
    rho2 = mixture.tuning(v[0, -1], ALPHA)
    scalar = mixture.mixture_estimate(s[0, -1] / weight, np.sqrt(v[0, -1]) / weight, v[0, -1], rho2, ALPHA)
    assert scalar.log_e_value == pytest.approx(float(mixture.log_e_two_sided(s[0, -1], v[0, -1], rho2)))


def test_horizon_cells_use_the_thresholds_of_judge():
    stress = next(s for s in STRESSES if s.seed == 301)
    declared = plan(stress).horizon
    for looks, v in ((1, 0.5), (declared.looks, 1.0), (declared.looks + 1, 0.9), (3, 1.2)):
        judged = declared.judge(0.1, 0.05, v * declared.v_max, looks)
        inside = looks <= declared.looks and v <= 1
        assert judged.details["log_threshold"] == pytest.approx(declared.log_threshold if inside else LEVEL)


# --- refusals --------------------------------------------------------------------------------------------------------


def test_no_events_is_a_status():
    assert mixture.mixture_estimate(0.0, 0.0, 0.0, 1.0, ALPHA).status == "zero_variance"
    assert rate_ratio.rate_ratio(0, 0, 0.5, ALPHA).status == "no_data"
    assert srm.sequential_srm([0, 0], [1, 1], ALPHA).status == "no_data"


def test_callers_refuse_small_arms(simulated):
    # A hundred users at a 5 % share: the treatment has a handful, whatever the logs say about them.
    logs = simulated("cost-regression", users=100)
    with logs.store() as store:
        found = abtest.analyze(store, logs.experiment())
    assert min(arm.units for arm in found.arms) < MIN_UNITS
    for metric in found.metrics:
        assert metric.status in ("insufficient", "no_data", "zero_variance")
        assert metric.verdict == "unknown" or metric.method == "rate_ratio"
        assert not metric.superior
