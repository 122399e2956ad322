"""Harm alarms: rows are not users, tuning along a ramp, weights that run the clock backwards."""

from __future__ import annotations

import numpy as np
import pytest
from studies_harm import ROWS, TUNING, TUNING_LARGE, TUNING_SMALL, WEIGHTS

pytestmark = pytest.mark.calibration


def test_rows_as_units_alarm_and_users_do_not():
    seen = ROWS.measure()
    assert seen["rows, one look"].above(0.10), seen["rows, one look"]  # 25 % expected at a nominal 5 %
    assert seen["users, one look"].at_most(0.055), seen["users, one look"]  # fixed horizon, one look: its own level
    assert seen["rows, fixed test daily"].above(0.25), seen["rows, fixed test daily"]
    for name in ("users, two-sided sequence daily", "users, harm sequence daily"):
        assert seen[name].at_most(0.05), (name, seen[name])
        assert seen[name].hits < seen[name.replace("users", "rows")].hits


def test_strong_harm_in_the_first_stage_is_not_drowned_by_the_tuning_for_the_last():
    mean = {name: float(np.mean(values)) for name, values in TUNING.measure().values.items()}
    assert mean["mean over stage ends, in the 1 % stage"] >= 0.80
    assert mean["one tuning, in the 1 % stage"] <= 0.05
    for name in ("mean over stage ends, false", "one tuning, false"):
        assert mean[name] <= 0.01
    # The price of it at the end of the ramp: a few points of power.
    assert mean["mean over stage ends, power at the end"] >= mean["one tuning, power at the end"] - 0.07


def test_a_plan_that_is_off_by_ten_costs_power_but_less_than_one_tuning():
    for study in (TUNING_SMALL, TUNING_LARGE):
        mean = {name: float(np.mean(values)) for name, values in study.measure().values.items()}
        assert mean["mean over stage ends, in the 1 % stage"] > 0.35
        assert mean["mean over stage ends, in the 1 % stage"] > mean["one tuning, in the 1 % stage"]


def test_unit_counts_as_weights_run_the_clock_backwards():
    seen = WEIGHTS.measure()
    assert min(seen.values["unit weights: peak over end"]) > 2.5
    assert max(seen.values["ours: largest fall"]) < 0.10
    assert min(seen.values["ours: growth"]) > 10
