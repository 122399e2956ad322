"""CUPED on the stratified score: against units in extended precision, symmetries, the fixed-horizon formula, error rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from abtest.errors import InvalidInputError
from abtest.stats.mixture import log_e_two_sided, tuning
from abtest.stats.moments import Columns, Moments, cuped_theta, level
from abtest.stats.score import PairSums, pair_sums, pair_sums_from_units, stratified_score
from abtest.stats.score_cuped import LETTERS, CovariateSums, balance, covariate_sums, covariate_sums_from_units, cuped
from tests.analysis.score_oracle import Units, dense_score

RUNS, ALPHA = 300, 0.05
BOUND = ALPHA + 3 * (ALPHA * (1 - ALPHA) / RUNS) ** 0.5
"""Three binomial standard errors above the nominal rate: 0.088."""


@dataclass
class Sample:
    """Rows of units that come back, with their history (the same in each of a unit's rows)."""

    arm: np.ndarray
    stage: np.ndarray
    unit: np.ndarray
    x: np.ndarray
    y: np.ndarray
    c: np.ndarray
    d: np.ndarray
    shares: np.ndarray

    def columns(self) -> tuple[np.ndarray, ...]:
        return self.arm, self.stage, self.unit, self.x, self.y, self.c, self.d

    def pick(self, rows: Any) -> Sample:
        return Sample(*(v[rows] for v in self.columns()), shares=self.shares)

    def sums(self) -> CovariateSums:
        return covariate_sums_from_units(*self.columns(), stages=len(self.shares))

    def change(self, **columns: np.ndarray) -> Sample:
        return Sample(**{**self.__dict__, **columns})


def sample(
    rng: np.random.Generator, units: int = 300, shares: tuple[float, ...] = (0.1, 0.25, 0.5), *, busier: float = 1.0
) -> Sample:
    """Nested hashes, three users out of five in a stage, a base that drifts; a fifth of the users are new.

    Early users differ from late ones in their history, and `busier` is how many times more requests treatment makes of them.
    """
    h, own = rng.random(units), rng.normal(0, 1, units)
    early = rng.random(units) < 0.5
    d = np.where(rng.random(units) < 0.2, 0, rng.integers(1, 6, units))
    c = d * (2.0 + own + 1.5 * early) + rng.normal(0, 1, units) * np.sqrt(d)
    stages = len(shares)
    there = rng.random((units, stages)) < np.where(
        early[:, None], np.linspace(0.9, 0.3, stages), np.linspace(0.2, 0.8, stages)
    )
    unit, stage = np.nonzero(there)
    arm = (h[unit] < np.array(shares)[stage]).astype(int)
    y = 1.0 + rng.poisson(np.where(arm == 1, 2.0 * busier, 2.0))
    x = y * (3.0 + own[unit] + 0.5 * stage + 0.7 * early[unit]) + rng.normal(0, 1, len(y)) * np.sqrt(y)
    return Sample(arm, stage, unit, x, y, c[unit], d[unit].astype(float), np.array(shares))


def contrast(sums: PairSums, shares: np.ndarray, margin: float = 0.0, kind: Any = "absolute") -> Any:
    return stratified_score(sums, list(shares)).contrast(margin, kind)


def parts(sums: PairSums, shares: np.ndarray, margin: float = 0.0, kind: Any = "absolute") -> tuple[float, ...]:
    found = contrast(sums, shares, margin, kind)
    return tuple(float(v[-1]) for v in (found.score, found.weight, found.v_plug, found.v_design))


def by_hand(s: Sample) -> tuple[float, np.ndarray]:
    """Return theta and x - theta·z from the units, term by term, in extended precision."""
    x, y, c, d = (v.astype(np.longdouble) for v in (s.x, s.y, s.c, s.d))
    z = np.zeros(len(x), dtype=np.longdouble)
    for k in range(len(s.shares)):
        here = s.stage == k
        z[here] = c[here] - c[here].sum() / d[here].sum() * d[here]
    ez = zz = np.longdouble(0)
    for k in range(len(s.shares)):
        for a in (0, 1):
            cell = (s.stage == k) & (s.arm == a)
            e = x[cell] - x[cell].sum() / y[cell].sum() * y[cell]
            centred = z[cell] - z[cell].mean()
            ez, zz = ez + (e * centred).sum(), zz + (centred**2).sum()
    return float(ez / zz), x - ez / zz * z


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("null", [(0.0, "absolute"), (0.4, "absolute"), (0.15, "relative")], ids=str)
def test_equals_the_formula_on_units(seed: int, null: tuple[float, Any]) -> None:
    s = sample(np.random.default_rng(seed))
    found = cuped(s.sums())
    theta, x = by_hand(s)
    assert float(found.theta[-1]) == pytest.approx(theta, rel=1e-9)
    units = Units(s.arm, s.stage, s.unit, x, s.y, len(s.shares))
    wanted = dense_score(units, s.shares, margin=null[0], kind=null[1])
    got = parts(found.sums, s.shares, *null)
    assert got[0] == pytest.approx(wanted.score, abs=1e-9 * wanted.v**0.5)
    assert got[1:] == pytest.approx((wanted.weight, wanted.v_plug, wanted.v_design), rel=1e-9)


def integer_tables(s: Sample) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Return cells and pairs of whole numbers, as SQL gives them for one look."""
    cells: dict[Any, Any] = {}
    pairs: dict[Any, Any] = {}
    by_unit: dict[Any, list[tuple[int, int, dict[str, int]]]] = {}
    for a, k, u, *row in zip(*s.columns(), strict=True):
        by_unit.setdefault(u, []).append((int(a), int(k), dict(zip(LETTERS, map(int, row), strict=True))))
    for rows in by_unit.values():
        for a, k, row in rows:
            cell = cells.setdefault((a, k), {n: [0] for n in ("units", *LETTERS)})
            for name, more in {"units": 1, **row}.items():
                cell[name][0] += more
            for b, m, other in rows:
                if k < m or (a, k) == (b, m):
                    pair = pairs.setdefault((a, k, b, m), {p + q: [0] for p in LETTERS for q in LETTERS})
                    for p in LETTERS:
                        for q in LETTERS:
                            pair[p + q][0] += row[p] * other[q]
    return cells, pairs


def fixed_point(s: Sample, scale: int = 10**6) -> Sample:
    return s.change(x=np.round(s.x * scale), c=np.round(s.c * scale))


@pytest.mark.parametrize("seed", range(3))
def test_sums_from_integers_equal_sums_from_units(seed: int) -> None:
    s = fixed_point(sample(np.random.default_rng(seed)))
    cells, pairs = integer_tables(s)
    exact = covariate_sums(cells, pairs, stages=3, looks=1, x_scale=10**6)
    plain = s.change(x=s.x / 1e6, c=s.c / 1e6).sums()
    a, b = cuped(exact), cuped(plain)
    assert a.theta == pytest.approx(b.theta, rel=1e-9)
    assert parts(a.sums, s.shares) == pytest.approx(parts(b.sums, s.shares), rel=1e-9)
    # The metric's own block is what an experiment without a covariate has, to the last bit.
    bare = pair_sums(cells, pairs, stages=3, looks=1, x_scale=10**6)
    for name in ("units", "x", "y", "xx", "xy", "yx", "yy", "centre"):
        np.testing.assert_array_equal(getattr(exact.metric, name), getattr(bare, name))


def test_a_large_offset_costs_no_digits() -> None:
    """A metric and a history around a billion: what is left after centring is exact in integers."""
    s = fixed_point(sample(np.random.default_rng(2)))
    far = s.change(x=s.x.astype(int).astype(object) + 10**15 * s.y.astype(int).astype(object),
                   c=s.c.astype(int).astype(object) + 10**15 * s.d.astype(int).astype(object))  # fmt: skip
    near, moved = (
        cuped(covariate_sums(*integer_tables(v), stages=3, looks=1, x_scale=10**6)) for v in (s, far)
    )  # fmt: skip
    assert moved.theta == pytest.approx(near.theta, rel=1e-6)
    assert parts(moved.sums, s.shares)[2:] == pytest.approx(parts(near.sums, s.shares)[2:], rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_fixed_horizon_formula(seed: int) -> None:
    """One stage, one row a unit: difference, theta and variance of abtest.stats.moments with a pooled theta."""
    rng = np.random.default_rng(seed)
    n = 500
    arm, past = rng.integers(0, 2, n), rng.normal(5, 2, n)
    x = 1.0 + 0.8 * past + rng.normal(0, 1, n) + 0.1 * arm
    one = np.ones(n)
    found = cuped(covariate_sums_from_units(arm, np.zeros(n), np.arange(n), x, one, past, one, stages=1))
    arms = [Moments.from_arrays(x[arm == a], past[arm == a]) for a in (0, 1)]
    columns = Columns(numerator=0, covariate=1)
    theta = cuped_theta(arms, columns)
    assert theta is not None
    control, treated = (level(m, columns, theta=theta, centre=float(past.mean())) for m in arms)
    assert control is not None
    assert treated is not None
    score, weight, v_plug, _ = parts(found.sums, np.array([0.5]))
    assert float(found.theta[0]) == pytest.approx(theta, rel=1e-9)
    assert score / weight == pytest.approx(treated.value - control.value, rel=1e-9)
    # moments divides by n - 1, the plug-in variance by n
    se2 = sum(v.se2 * (v.n - 1) / v.n for v in (control, treated))
    assert v_plug / weight**2 == pytest.approx(se2, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_swapping_the_arms_flips_the_sign(seed: int) -> None:
    s = sample(np.random.default_rng(seed))
    score, weight, v_plug, v_design = parts(cuped(s.sums()).sums, s.shares)
    other = parts(cuped(s.change(arm=1 - s.arm).sums()).sums, 1 - s.shares)
    assert other == pytest.approx((-score, weight, v_plug, v_design), rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_units_of_measurement_do_not_matter(seed: int) -> None:
    s = sample(np.random.default_rng(seed))
    base = cuped(s.sums())
    score, weight, v_plug, v_design = parts(base.sums, s.shares)
    thousand = cuped(s.change(x=s.x * 1e3).sums())
    assert parts(thousand.sums, s.shares) == pytest.approx(
        (1e3 * score, weight, 1e6 * v_plug, 1e6 * v_design), rel=1e-9
    )
    assert thousand.theta == pytest.approx(1e3 * base.theta, rel=1e-9)
    for changed in (s.change(c=s.c * -60.0), s.change(c=s.c + 7.0 * s.d), s.change(d=s.d * 4.0)):
        again = cuped(changed.sums())
        assert parts(again.sums, s.shares) == pytest.approx((score, weight, v_plug, v_design), rel=1e-8)
        assert np.abs(again.correlation) == pytest.approx(np.abs(base.correlation), rel=1e-8)


@pytest.mark.parametrize("what", ["no history", "everybody has the same", "uncorrelated by construction"])
def test_theta_zero_is_the_unadjusted_score(what: str) -> None:
    s = sample(np.random.default_rng(1), shares=(0.5,))
    if what == "no history":
        s = s.change(c=np.zeros(len(s.c)), d=np.zeros(len(s.d)))
    elif what == "everybody has the same":
        s = s.change(c=np.full(len(s.c), 1 / 3), d=np.ones(len(s.d)))
    else:  # z is what is left of the history after a regression on e within each arm
        c = s.c.copy()
        for a in (0, 1):
            cell = s.arm == a
            e = s.x[cell] - s.x[cell].sum() / s.y[cell].sum() * s.y[cell]
            c[cell] -= (c[cell] - c[cell].mean()) @ e / (e @ e) * e
        s = s.change(c=c, d=np.ones(len(c)))
    sums = s.sums()
    found = cuped(sums)
    assert bool(found.varies[0]) == (what == "uncorrelated by construction")
    assert float(found.theta[0]) == pytest.approx(0.0, abs=1e-12)
    assert parts(found.sums, s.shares) == pytest.approx(parts(sums.metric, s.shares), rel=1e-9)


@pytest.mark.parametrize("rho", [0.3, 0.7, 0.9])
def test_variance_falls_to_one_minus_the_squared_correlation(rho: float) -> None:
    n = 20_000
    rng = np.random.default_rng(11)
    past, arm, one = rng.normal(0, 1, n), rng.integers(0, 2, n), np.ones(n)
    x = rho * past + (1 - rho * rho) ** 0.5 * rng.normal(0, 1, n)
    sums = covariate_sums_from_units(arm, np.zeros(n), np.arange(n), x, one, past, one, stages=1)
    found = cuped(sums)
    assert float(found.correlation[0]) == pytest.approx(rho, abs=0.02)
    ratio = float((contrast(found.sums, np.array([0.5])).v / contrast(sums.metric, np.array([0.5])).v)[0])
    assert ratio == pytest.approx(1 - rho * rho, abs=0.03)
    assert ratio == pytest.approx(1 - float(found.correlation[0]) ** 2, abs=1e-3)


def test_units_without_history_are_left_as_they_are() -> None:
    """New users in treatment only: their cells keep their sums, control's sums move."""
    s = sample(np.random.default_rng(3), shares=(0.3, 0.5))
    s = s.change(c=np.where(s.arm == 1, 0, s.c), d=np.where(s.arm == 1, 0, s.d))
    sums = s.sums()
    found = cuped(sums)
    assert bool(found.varies[0])
    np.testing.assert_array_equal(found.sums.x[1], sums.metric.x[1])
    np.testing.assert_array_equal(found.sums.xx[1, 1, 1, 1], sums.metric.xx[1, 1, 1, 1])
    assert (found.sums.xx[0, 1, 0, 1] < sums.metric.xx[0, 1, 0, 1]).all()


def test_a_stage_that_does_not_count_has_no_say_in_theta() -> None:
    s = sample(np.random.default_rng(4), shares=(0.1, 0.5))
    alone = s.pick((s.stage == 1) | (s.arm == 0))  # the first stage has no treatment
    only = s.pick(s.stage == 1)
    only.stage = np.zeros(len(only.x), dtype=int)
    one = covariate_sums_from_units(*only.columns(), stages=1)
    assert cuped(alone.sums()).theta == pytest.approx(cuped(one).theta, rel=1e-9)


def test_a_series_of_wrong_length_is_refused() -> None:
    row = {n: [1] for n in ("units", *LETTERS)}
    with pytest.raises(InvalidInputError):
        covariate_sums({(0, 0): row}, {}, stages=1, looks=2)


def test_no_rows_at_all() -> None:
    assert cuped(covariate_sums({}, {}, stages=2, looks=0)).theta.shape == (0,)
    blank = covariate_sums({}, {}, stages=2, looks=3)
    found = cuped(blank)
    assert found.theta.tolist() == found.correlation.tolist() == [0.0] * 3
    assert not found.varies.any()
    assert np.isnan(balance(blank.history, [0.5, None])).all()


# -- balance -------------------------------------------------------------------------------------------------------


def test_balance_is_uniform_without_and_tiny_with_a_difference() -> None:
    """A randomised history is flagged at p < 0.05 about as often as that; one that treatment moved is found."""
    rng = np.random.default_rng(20)
    pvalues = np.array([float(balance((s := sample(rng)).sums().history, list(s.shares))[0]) for _ in range(RUNS)])
    assert (pvalues < ALPHA).mean() <= BOUND
    assert 0.3 < np.median(pvalues) < 0.75
    s = sample(rng, units=2000)
    moved = s.change(c=s.c + 0.5 * s.d * (s.arm == 1))
    assert float(balance(moved.sums().history, list(s.shares))[0]) < 1e-3
    assert float(balance(s.sums().history, list(s.shares))[0]) > 1e-3


# -- error rates ---------------------------------------------------------------------------------------------------


def test_false_alarms_with_returning_users_and_stages() -> None:
    """Seed 7, 300 runs, no effect on the rate, treatment makes 50 % more requests; looked at after every stage.

    The mixture may cross at any look in 5 % of runs, the fixed test at the end too: at most three binomial standard errors
    above that (8.8 %). The z-scores have no bias: their mean is within 3/sqrt(300) of zero, also at a relative margin that is
    not the truth's neighbour in the algebra (c ≠ 1).
    """
    rng = np.random.default_rng(7)
    crossed, fixed, z_scores = 0, 0, []
    for _ in range(RUNS):
        s = sample(rng, busier=1.5)
        looks = [contrast(cuped(s.pick(s.stage <= k).sums()).sums, s.shares) for k in range(3)]
        score = np.array([c.score[0] for c in looks])
        v = np.maximum.accumulate([c.v[0] for c in looks])
        crossed += bool((log_e_two_sided(score, v, tuning([float(v[-1])], ALPHA)) >= -np.log(ALPHA)).any())
        z = float(score[-1] / v[-1] ** 0.5)
        fixed += abs(z) > 1.96
        z_scores.append(z)
    assert crossed / RUNS <= BOUND
    assert fixed / RUNS <= BOUND
    assert abs(np.mean(z_scores)) < 3 / RUNS**0.5
    assert np.std(z_scores) > 0.75  # not valid by being blind: the variance is not far too large


def test_a_relative_margin_at_the_truth_is_not_rejected_too_often() -> None:
    """Seed 8, 300 runs, treatment 20 % worse and 50 % busier, tested at a relative margin of 20 %."""
    rng = np.random.default_rng(8)
    z_scores = []
    for _ in range(RUNS):
        s = sample(rng, busier=1.5)
        worse = s.change(x=s.x * np.where(s.arm == 1, 1.2, 1.0))
        found = contrast(cuped(worse.sums()).sums, s.shares, 0.2, "relative")
        z_scores.append(float(found.score[0] / found.v[0] ** 0.5))
    assert (np.abs(z_scores) > 1.96).mean() <= BOUND
    assert abs(np.mean(z_scores)) < 3 / RUNS**0.5


def test_it_finds_what_the_plain_score_misses() -> None:
    """The gain is real: with a history that explains much, mean |z| of a small harm grows as the variance falls."""
    rng = np.random.default_rng(9)
    plain, adjusted = [], []
    for _ in range(60):
        s = sample(rng, units=600, shares=(0.5,))
        s = s.change(x=s.x + 0.25 * s.y * (s.arm == 1))
        sums = s.sums()
        for into, which in ((plain, sums.metric), (adjusted, cuped(sums).sums)):
            found = contrast(which, s.shares)
            into.append(float(found.score[0] / found.v[0] ** 0.5))
    assert np.mean(adjusted) > 1.1 * np.mean(plain) > 0


def test_unit_rows_give_the_plain_sums() -> None:
    s = sample(np.random.default_rng(6))
    bare = pair_sums_from_units(s.arm, s.stage, s.unit, s.x, s.y, stages=3)
    for name in ("units", "x", "y", "xx", "xy", "yx", "yy"):
        np.testing.assert_array_equal(getattr(s.sums().metric, name), getattr(bare, name))
