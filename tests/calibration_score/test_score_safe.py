"""Safe claims with the truth exactly at the margin: the plug-in variance fails, the running maximum with the floor holds."""

from __future__ import annotations

import numpy as np
import pytest
from studies_safe import (
    AT_MARGIN,
    CHANGES,
    HALT,
    NO_EFFECT,
    PROMOTION,
    PROMOTION_CLOCK,
    QUANTILES,
    SAFE,
    SHAPES,
    THRESHOLDS,
)

pytestmark = pytest.mark.calibration

PLUG_IN_FAILS = ("binary 5 %", "binary 0.3 %", "lognormal", "Pareto")


@pytest.mark.parametrize("shape", SHAPES)
def test_truth_at_the_margin_on_a_ramp(shape):
    seen = AT_MARGIN[shape].measure()
    assert seen["safe"].at_most(SAFE), seen["safe"]
    assert seen["safe, no 30-unit gate"].at_most(SAFE), seen["safe, no 30-unit gate"]
    assert seen["harm"].at_most(HALT), seen["harm"]
    assert seen["harm at 5 %"].at_most(0.05), seen["harm at 5 %"]
    assert seen["safe"].hits <= seen["safe by plug-in and design"].hits <= seen["safe by plug-in"].hits


def test_the_plug_in_variance_alone_calls_harm_safe():
    """All four skewed shapes together, so that the reduced runs suffice."""
    counts = [AT_MARGIN[shape].measure() for shape in PLUG_IN_FAILS]
    hits = sum(c["safe by plug-in"].hits for c in counts)
    assert hits / sum(c.runs for c in counts) > 2 * SAFE
    rare = counts[1]
    assert rare["safe by plug-in"].value > 0.25
    assert rare["harm by design alone"].above(HALT), rare["harm by design alone"]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_interval_covers_no_effect_at_every_look(shape):
    seen = NO_EFFECT[shape].measure()
    assert seen["ours"].at_most(0.05), seen["ours"]


def test_promotion_over_four_stages():
    seen = PROMOTION.measure()
    assert seen["fixed 5 % bound"].above(0.12), seen["fixed 5 % bound"]
    assert seen["cumulative"].at_most(SAFE), seen["cumulative"]


def test_promotion_over_four_stages_when_the_variance_is_known():
    mean = {name: float(np.mean(values)) for name, values in PROMOTION_CLOCK.measure().values.items()}
    assert mean["fixed 5 % bound"] > 0.25
    assert mean["cumulative"] < mean["restarted in each stage"]
    assert mean["cumulative"] <= SAFE


@pytest.mark.parametrize("cell", QUANTILES, ids=str)
def test_quantile_guardrails_of_clustered_calls(cell):
    seen = QUANTILES[cell].measure()
    assert seen["harm"].at_most(HALT), seen["harm"]
    assert seen["harm at 5 %"].at_most(0.05), seen["harm at 5 %"]
    assert seen["safe"].at_most(SAFE), seen["safe"]
    assert seen["rows, one look, two-sided 5 %"].above(0.08), seen["rows, one look, two-sided 5 %"]


@pytest.mark.parametrize("cell", [c for c in CHANGES if c[1] < 9999], ids=str)
def test_quantile_guardrails_when_the_shape_changes_too(cell):
    """The threshold is control's quantile as the warm-up saw it: at another shape that is not quite the tested quantile."""
    seen = CHANGES[cell].measure()
    assert seen["harm"].at_most(HALT), seen["harm"]
    assert seen["safe"].at_most(SAFE), seen["safe"]


@pytest.mark.parametrize("change", THRESHOLDS)
def test_where_the_threshold_of_a_quantile_comes_from(change):
    """A frozen threshold is a little off the quantile; over 200,000 calls that still stays within chance of the level."""
    seen = THRESHOLDS[change].measure()
    for source in ("frozen at 20 calls", "frozen at 200 calls", "control so far"):
        assert seen[f"harm, {source}"].at_most(HALT), (source, seen[f"harm, {source}"])
        assert seen[f"safe, {source}"].at_most(SAFE), (source, seen[f"safe, {source}"])
