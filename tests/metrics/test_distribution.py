"""The distribution-shape metric: what it takes, what its columns are, and that it errs as seldom as it says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from abtest.analysis.constants import tuning_for
from abtest.errors import SpecError
from abtest.metrics.distribution import GRID, threshold_name
from abtest.spec import Experiment
from abtest.stats.mixture import log_e_two_sided
from abtest.stats.score import pair_sums_from_units, stratified_score
from abtest.stats.score_bounds import margin_curve


def spec(*metrics: dict[str, Any]) -> Experiment:
    return Experiment.from_dict({"id": "e", "control": "A", "treatments": ["B"], "metrics": list(metrics)})


def shape(**keys: Any) -> dict[str, Any]:
    return {"name": "shape", "kind": "distribution", "value": "response_chars", "better": "lower", **keys}


def test_one_metric_is_five_contrasts_of_one_value() -> None:
    experiment = spec(
        {"name": "p", "kind": "proportion", "event": "refused", "better": "lower"},
        shape(),
        shape(name="tokens", value="output_tokens", per="call", mature_after="1h"),
    )
    measures = experiment.measures
    assert len(measures) == 3 + 2 * 4
    assert experiment.parts_of(0) == ()
    assert experiment.parts_of(1) == (3, 4, 5, 6)
    assert experiment.parts_of(2) == (7, 8, 9, 10)
    assert [m.part for m in measures] == [False] * 3 + [True] * 8
    for j in (1, 2):
        for k in experiment.parts_of(j):
            assert measures[k].numerator == measures[j].numerator
            assert (measures[k].per, measures[k].mature_us) == (measures[j].per, measures[j].mature_us)
    assert sorted(GRID) == [0.1, 0.25, 0.5, 0.75, 0.9]
    assert threshold_name(0.1) == "threshold_10"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"better": "higher"}, "better"),
        ({"success": {"mde": {"points": 0.1}}}, "neither better nor worse"),
        ({"covariate": "pre"}, "covariate"),
        ({"frozen": {"threshold": 3.0}}, "warm-up"),
        ({"guardrail": {"margin": {"relative": 0.1}}}, "points"),
        ({"value": "refused"}, "number"),
        ({"per": "unit"}, "call"),
    ],
)
def test_what_it_cannot_mean(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        spec(shape(**keys))
    assert message in str(caught.value)


def test_the_catalogue_has_it() -> None:
    metric = spec({"use": "output_length_shape", "guardrail": True}).metrics[0]
    assert (metric.kind, metric.guardrail.margin.points, metric.guardrail.action) == ("distribution", 0.1, "hold")
    with pytest.raises(SpecError, match="no better side"):
        spec({"use": "output_tokens_shape", "success": True})


def largest_log_e(rng: np.random.Generator, users: int, rows: int, looks: int) -> float:
    """Return the largest combined log E over all looks of one experiment without an effect, users clustered (ICC about 0.4)."""
    level = rng.normal(0, 0.8, users)
    values = np.exp(5 + level[:, None] + rng.normal(0, 1.0, (users, rows)))
    arm = (np.arange(users) % 2).astype(int)
    warm = values[arm == 0][:100].ravel()
    best = -math.inf
    ends = np.linspace(users // looks, users, looks).astype(int)
    for q in GRID:
        above = (values > np.quantile(warm, q)).sum(axis=1).astype(float)
        rho2 = tuning_for(1.5 * q * (1 - q), 0.1, 0.05 / len(GRID), [1.0], one_sided=False)
        for n in ends:
            sums = pair_sums_from_units(
                arm[:n], np.zeros(n), np.arange(n), above[:n], np.full(n, float(rows)), stages=1
            )
            curve = margin_curve(stratified_score(sums, [0.5], proportion=True), "absolute", 0.0)
            best = max(best, float(log_e_two_sided(*curve.at(0.0), rho2)[-1]))
    return best - math.log(len(GRID))


def test_false_alarms_under_the_same_distribution() -> None:
    """No effect, ten rows a user, ten looks: an alarm at 5 % in at most 5 % of runs (seed 11, 60 runs; 5 is 2 s.e. above)."""
    rng = np.random.default_rng(11)
    alarms = sum(largest_log_e(rng, users=400, rows=10, looks=10) >= -math.log(0.05) for _ in range(60))
    assert alarms <= 5
