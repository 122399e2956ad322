"""The rule for proportions: half of the share of the halt budget for the mixture, half for the rate ratio on first events."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from score_paths import FULL, Rate
from studies_rare import DETECTION, RULE, THIN, THIN_NULL

pytestmark = pytest.mark.calibration


def test_a_candidate_without_effect_is_halted_in_at_most_the_share():
    seen, runs = Counter(), 0
    for name, study in RULE.items():
        if "no effect" in name:
            counts = study.measure()
            seen.update(counts.seen)
            runs += counts.runs
            for alpha in (0.01, 0.0025):
                assert counts[f"halt {alpha:g}"].at_most(alpha), (name, counts[f"halt {alpha:g}"])
    for alpha in (0.01, 0.0025):
        assert Rate(seen[f"halt {alpha:g}"], runs).at_most(alpha)


def test_what_the_rule_does_at_the_margin_and_at_half_of_it():
    """No guarantee covers these: the rate ratio tests "no more events than control", the margin is only asked of the estimate.

    Recorded, so that nobody takes the margin for a guarantee (docs/calibration_score.md).
    """
    at = RULE["50/50, base 0.5 %, at the margin"].measure()
    half = RULE["50/50, base 0.5 %, half of the margin"].measure()["halt 0.01"]
    common = RULE["90/10, base 5 %, half of the margin"].measure()["halt 0.01"]
    assert at["halt 0.01"].above(0.05), at["halt 0.01"]
    assert at["halt 0.01"].hits < at["halt, 0 s.e. 0.01"].hits
    assert at["halt, points margin 0.01"].at_most(0.01), at["halt, points margin 0.01"]
    assert half.at_most(0.05), half
    assert common.at_most(0.01), common


def test_rare_harm_is_found_within_about_a_thousand_requests():
    limits = {"0.5 -> 5 %": (950, 1080), "0 -> 5 %": (600, 690)}
    for name, (method, rule) in limits.items():
        seen = DETECTION[name].measure()
        slack = 1.0 if FULL else 1.15  # the median of 80 runs
        assert seen.median("rate ratio, all of alpha") <= method * slack
        assert seen.median("rule") <= rule * slack
        # A standard error past the margin costs nothing.
        assert seen.median("rule") <= seen.median("rule, 0 s.e.") * 1.02
    assert np.isfinite(DETECTION["0 -> 5 %"].measure().values["rule"]).mean() > 0.995  # within 4,000 requests


def test_shares_taken_from_single_requests_see_nothing_and_merged_hours_do():
    """One request an hour: the at-risk share of the hour is 0 or 1, and the hour says nothing."""
    assert not np.isfinite(THIN[1].measure().values["hour by hour"]).any()
    thick = THIN[100].measure().median("merged to 200")
    for an_hour in (1, 5):
        assert THIN[an_hour].measure().median("merged to 200") <= (1.1 if FULL else 1.35) * thick


@pytest.mark.parametrize("cell", THIN_NULL, ids=str)
def test_hours_merged_to_two_hundred_requests_keep_the_level(cell):
    seen = THIN_NULL[cell].measure()
    for name in ("hour by hour", "merged to 50", "merged to 200"):
        assert seen[name].at_most(0.05), (name, seen[name])
