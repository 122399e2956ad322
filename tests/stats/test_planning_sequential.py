"""Planning a declared horizon: against the targets of STATISTICS §13 and against drawn paths."""

from __future__ import annotations

import numpy as np
import pytest

from abtest.errors import InvalidInputError
from abtest.stats.mixture import log_e_two_sided, tuning
from abtest.stats.planning_sequential import cuped_variance, horizon_plan


def test_the_horizon_of_the_targets():
    plan = horizon_plan(1.25, looks=50)
    assert plan.log_threshold == pytest.approx(1.99, abs=0.01)
    assert plan.power == pytest.approx(0.78, abs=0.005)
    assert plan.mean_stop <= 0.76
    assert horizon_plan(1.25, looks=50, sides=1).log_threshold == pytest.approx(2.07, abs=0.01)


def test_a_longer_horizon_has_more_power_and_more_looks_cost_a_little():
    powers = [horizon_plan(h, looks=20).power for h in (0.75, 1.0, 1.5, 2.0)]
    assert powers == sorted(powers)
    assert horizon_plan(1.25, looks=100).log_threshold > horizon_plan(1.25, looks=10).log_threshold


def test_drawn_paths_stop_as_planned():
    # 4,000 Brownian paths, seed 11: power within 4 standard errors, false alarms at most alpha + 4 standard errors.
    rng, runs, looks = np.random.default_rng(11), 4000, 50
    plan = horizon_plan(1.25, looks=looks)
    steps = rng.normal(0, np.sqrt(1.25 / looks), (runs, looks)).cumsum(axis=1)
    v = np.linspace(1.25 / looks, 1.25, looks)
    drift = 1.959964 + 0.841621
    rho2 = tuning(1.0, 0.05)
    found = (log_e_two_sided(steps + drift * v, v, rho2) >= plan.log_threshold).any(axis=1).mean()
    wrong = (log_e_two_sided(steps, v, rho2) >= plan.log_threshold).any(axis=1).mean()
    assert found == pytest.approx(plan.power, abs=4 * np.sqrt(0.78 * 0.22 / runs))
    assert wrong <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / runs)


def test_a_covariate_leaves_one_minus_the_squared_correlation():
    assert cuped_variance(4.0, 0.5) == pytest.approx(3.0)
    assert cuped_variance(4.0, -0.5) == pytest.approx(3.0)
    for wrong in ((4.0, 1.1), (0.0, 0.5)):
        with pytest.raises(InvalidInputError):
            cuped_variance(*wrong)
    for bad in (
        lambda: horizon_plan(0.0),
        lambda: horizon_plan(looks=0),
        lambda: horizon_plan(alpha=1.5),
        lambda: horizon_plan(sides=3),
    ):
        with pytest.raises(InvalidInputError):
            bad()
