"""Bounds by inversion: the curve is the score at any margin, and at a bound log E is exactly log(1/alpha)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from score_oracle import Units, random_units
from test_analysis_score import cumulative, integer_sums

from abtest.errors import InvalidInputError
from abtest.stats.mixture import log_e_one_sided, log_e_two_sided
from abtest.stats.score import StratifiedScore, pair_sums, pair_sums_from_units, stratified_score
from abtest.stats.score_bounds import MarginCurve, margin_curve

RHO2 = np.array([2e-3, 5e-4])


def single(seed: int, *, binary: bool = False, better: Any = "lower", stages: int = 3) -> StratifiedScore:
    u, q = random_units(np.random.default_rng(seed), stages=stages, binary=binary, units=400)
    return stratified_score(
        pair_sums_from_units(*u.columns(), stages=stages), list(q), better=better, proportion=binary
    )


def series(seed: int, *, binary: bool = False) -> StratifiedScore:
    rng = np.random.default_rng(seed)
    u, q = random_units(rng, stages=2, binary=binary, units=400)
    u = Units(u.arm, u.stage, u.unit, u.x if binary else np.round(u.x * 100), u.y, 2)
    at = np.minimum(u.stage * 2 + rng.integers(0, 3, len(u.x)), 4)
    return stratified_score(cumulative(u, at, 5), list(q), proportion=binary)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10), margin=st.floats(-3, 3), kind=st.sampled_from(["absolute", "relative"]), binary=st.booleans(),
    better=st.sampled_from(["lower", "higher"]), tested=st.sampled_from([0.0, 0.01, 0.4]),
)  # fmt: skip
def test_the_curve_is_the_contrast_at_any_margin(
    seed: int, margin: float, kind: Any, binary: bool, better: Any, tested: float
) -> None:
    score = single(seed, binary=binary, better=better)
    curve = margin_curve(score, kind, tested)
    s, v = curve.at(margin)
    wanted = score.contrast(margin, kind)
    assert v[0] == pytest.approx(wanted.v[0], rel=1e-9)
    assert s[0] == pytest.approx(wanted.score[0], rel=1e-9, abs=1e-9 * wanted.v[0] ** 0.5)


def falling(binary: bool) -> StratifiedScore:
    """Return a series whose variance falls: units that differed at first all end up near the same rate."""
    rng = np.random.default_rng(3)
    n, looks = 200, 4
    arm, stage, unit = rng.integers(0, 2, n), np.zeros(n, dtype=int), np.arange(n)
    high = rng.random(n) < 0.5
    # A unit that began with events goes on without, and the other way round; a few never settle.
    first, later = (1, 0) if binary else (90, 10)
    states = []
    for b in range(looks):
        x = np.where(high, first + later * b, later + first * b) + np.where(unit % 9 == 0, later * b, 0)
        states.append(
            integer_sums(Units(arm, stage, unit, np.minimum(x, 1 + b) if binary else x, np.full(n, 1 + b), 1))
        )
    cells = {k: {c: [s[0][k][c][0] for s in states] for c in ("units", "x", "y")} for k in states[0][0]}
    pairs = {k: {c: [s[1][k][c][0] for s in states] for c in ("xx", "xy", "yx", "yy")} for k in states[0][1]}
    return stratified_score(pair_sums(cells, pairs, stages=1, looks=looks), [0.5], proportion=binary)


@pytest.mark.parametrize("kind", ["absolute", "relative"])
@pytest.mark.parametrize("binary", [False, True])
def test_over_looks_the_running_maximum_is_exact_at_the_tested_margin(kind: Any, binary: bool) -> None:
    score, tested = falling(binary), 0.02
    curve, wanted = margin_curve(score, kind, tested), score.contrast(tested, kind)
    falls = (np.diff(score.contrast(tested, kind, running=False).v) < 0).any()
    assert falls or (binary and kind == "absolute")  # there the floor holds it up
    s, v = curve.at(tested)
    np.testing.assert_allclose(v, wanted.v, rtol=1e-9)
    np.testing.assert_allclose(s, wanted.score, rtol=1e-9, atol=1e-9)
    plain = score.contrast(0.3, kind, running=False)
    s, v = curve.at(0.3)
    np.testing.assert_allclose(s, plain.score, rtol=1e-9, atol=1e-9)
    assert (v >= plain.v * (1 - 1e-9)).all()  # elsewhere never smaller than without a running maximum


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("better", ["lower", "higher"])
def test_estimate_is_the_root_of_the_score(seed: int, better: Any) -> None:
    score = single(seed, better=better)
    for kind in ("absolute", "relative"):
        curve = margin_curve(score, kind)
        s, v = curve.at(curve.estimate)
        assert abs(s[0]) < 1e-9 * v[0] ** 0.5
    control, treatment = (float(a[0]) for a in score.arm_values())
    sign = 1 if better == "lower" else -1
    assert margin_curve(score, "absolute").estimate[0] == pytest.approx(sign * (treatment - control), rel=1e-9)
    assert margin_curve(score, "relative").estimate[0] == pytest.approx(sign * (treatment / control - 1), rel=1e-9)


def evidence(curve: MarginCurve, bound: np.ndarray, side: str) -> np.ndarray:
    s, v = curve.at(bound)
    if side == "two":
        return log_e_two_sided(s, v, RHO2)
    return log_e_one_sided(s if side == "lower" else -s, v, RHO2)


@pytest.mark.parametrize("kind", ["absolute", "relative"])
@pytest.mark.parametrize("alpha", [0.2, 1e-4])
@pytest.mark.parametrize("make", [single, series])
@pytest.mark.parametrize("binary", [False, True])
def test_log_e_at_a_bound_is_the_threshold(kind: Any, alpha: float, make: Any, binary: bool) -> None:
    curve = margin_curve(make(1, binary=binary), kind, 0.02)
    level = -np.log(alpha)
    low, high = curve.interval(RHO2, alpha)
    for bound, side in (
        (curve.lower(RHO2, alpha), "lower"),
        (curve.upper(RHO2, alpha), "upper"),
        (low, "two"),
        (high, "two"),
    ):
        known = np.isfinite(bound)
        assert known[-1]
        np.testing.assert_allclose(evidence(curve, np.where(known, bound, 0.0), side)[known], level, rtol=1e-6)
    assert low[-1] < curve.estimate[-1] < high[-1]


@pytest.mark.parametrize("kind", ["absolute", "relative"])
def test_between_the_bounds_nothing_is_rejected(kind: Any) -> None:
    curve, alpha = margin_curve(single(2), kind, 0.02), 0.05
    low, high = curve.lower(RHO2, alpha)[0], curve.upper(RHO2, alpha)[0]
    estimate = float(curve.estimate[0])
    for share in np.linspace(1e-6, 1, 40):
        assert evidence(curve, np.array([low + share * (estimate - low)]), "lower")[0] < -np.log(alpha)
        assert evidence(curve, np.array([high + share * (estimate - high)]), "upper")[0] < -np.log(alpha)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 20),
    a=st.floats(1e-6, 0.4),
    b=st.floats(1e-6, 0.4),
    kind=st.sampled_from(["absolute", "relative"]),
)
def test_a_smaller_alpha_never_narrows_a_bound(seed: int, a: float, b: float, kind: Any) -> None:
    strict, loose = min(a, b), max(a, b)
    curve = margin_curve(single(seed), kind)
    tolerance = 1e-9 * (1 + abs(float(curve.estimate[0])))
    for wide, narrow in zip(
        (*curve.interval(RHO2, strict), curve.lower(RHO2, strict), curve.upper(RHO2, strict)),
        (*curve.interval(RHO2, loose), curve.lower(RHO2, loose), curve.upper(RHO2, loose)),
        strict=True,
    ):
        if np.isfinite(wide[0]) and np.isfinite(narrow[0]):
            assert abs(wide[0] - curve.estimate[0]) >= abs(narrow[0] - curve.estimate[0]) - tolerance
        else:  # what the loose level cannot bound, the strict one cannot either
            assert not np.isfinite(wide[0])


def test_one_sided_bounds_lie_inside_the_two_sided_interval_at_the_same_alpha() -> None:
    curve = margin_curve(single(5), "absolute")
    low, high = curve.interval(np.array([1e-3]), 0.05)
    assert (
        low[0]
        < curve.lower(np.array([1e-3]), 0.05)[0]
        < curve.estimate[0]
        < curve.upper(np.array([1e-3]), 0.05)[0]
        < high[0]
    )


def test_fixed_bound_is_wald_where_the_variance_does_not_move() -> None:
    """With v_plug larger than v_design around the estimate the bound is D ± z·se."""
    u, _ = random_units(np.random.default_rng(7), stages=1, units=600)
    share = float((u.arm == 1).mean())
    score = stratified_score(pair_sums_from_units(*u.columns(), stages=1), [share])
    curve = margin_curve(score, "absolute")
    s, v = curve.at(curve.fixed_bound(+1, 1.96))
    assert s[0] / np.sqrt(v[0]) == pytest.approx(-1.96, rel=1e-9)
    assert curve.fixed_bound(-1, 1.96)[0] < curve.estimate[0] < curve.fixed_bound(+1, 1.96)[0]


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0, float("nan")])
def test_alpha_must_be_a_probability(alpha: float) -> None:
    with pytest.raises(InvalidInputError):
        margin_curve(single(1), "absolute").lower(RHO2, alpha)


def test_looks_without_data_have_no_bound() -> None:
    score = series(2)
    empty = stratified_score(score.sums, [0.3, 0.4], min_units=10**6)
    curve = margin_curve(empty, "absolute")
    for bound in (
        *curve.interval(RHO2, 0.05),
        curve.lower(RHO2, 0.05),
        curve.upper(RHO2, 0.05),
        curve.fixed_bound(1, 2.0),
    ):
        assert np.isnan(bound).all()
