"""What a ramp can decide, stage by stage."""

import pytest

from abtest.errors import InvalidInputError
from abtest.stats.planning import sample_size
from abtest.stats.planning_ramp import RampStage, ramp_plan


def test_an_even_split_needs_the_fixed_sample():
    needed = sample_size(0.1, 1.0).total
    (plan,) = ramp_plan([RampStage(0.5, 30.0, needed / 10.0)], 0.1, 1.0)
    assert plan.decidable_after_days == pytest.approx(10.0, rel=1e-4)
    assert plan.information == pytest.approx(3.0, rel=1e-4)
    assert plan.detectable_effect == pytest.approx(0.1 / 3.0**0.5, rel=1e-4)


def test_stages_add_up_and_a_canary_alone_is_slow():
    stages = [RampStage(0.0, 1.0, 500.0), RampStage(0.01, 2.0, 10_000.0), RampStage(0.5, 14.0, 10_000.0)]
    shadow, canary, even = ramp_plan(stages, 0.005, 0.05, factor=1.65)
    assert (shadow.information, shadow.detectable_effect, shadow.days_at_this_traffic) == (0.0, None, None)
    assert canary.decidable_after_days is None
    assert canary.days_at_this_traffic > 100
    assert canary.units_treatment == pytest.approx(200.0)
    assert 3.0 < even.decidable_after_days < 17.0
    assert even.decidable_after_days == pytest.approx(3.0 + even.days_at_this_traffic)


def test_a_larger_factor_takes_longer():
    stage = [RampStage(0.5, 100.0, 1000.0)]
    fixed, anytime = (ramp_plan(stage, 0.1, 1.0, factor=f)[0].decidable_after_days for f in (1.0, 1.65))
    assert anytime == pytest.approx(1.65 * fixed)


def test_bad_input_is_refused():
    for stage in (RampStage(1.0, 1.0, 1.0), RampStage(0.5, -1.0, 1.0)):
        with pytest.raises(InvalidInputError):
            ramp_plan([stage], 0.1, 1.0)
