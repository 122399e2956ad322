"""Traffic 1 -> 5 -> 20 -> 50 % while the base failure rate drifts 2 -> 8 %: pooling alarms, stages do not (STATISTICS §0)."""

from __future__ import annotations

import pytest
from studies_harm import DRIFT_HARM, DRIFT_NULL

pytestmark = pytest.mark.calibration


def test_pooling_raises_harm_alarms_without_an_effect_and_the_stratified_score_does_not():
    seen = DRIFT_NULL.measure()
    assert seen["pooled 0.05"].at_least(0.93), seen["pooled 0.05"]
    assert seen["pooled 0.01"].at_least(0.88), seen["pooled 0.01"]
    assert seen["ours 0.05"].at_most(0.05), seen["ours 0.05"]
    assert seen["ours 0.01"].at_most(0.01), seen["ours 0.01"]


def test_a_harm_of_half_as_much_again_is_found():
    seen = DRIFT_HARM.measure()
    assert seen["ours 0.05"].at_least(0.95), seen["ours 0.05"]
    assert seen["ours 0.01"].at_least(0.95), seen["ours 0.01"]
