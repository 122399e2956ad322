"""The stratified score against dense matrices of units, and the symmetries that it must have."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from analysis_logs import HOUR_US, at, call, random_case, spec_of
from analysis_oracle import Oracle
from analysis_store import StoreMaker
from score_oracle import Units, dense_score, random_units

from abtest.analysis.evidence import Evidence
from abtest.analysis.read import read
from abtest.errors import InvalidInputError
from abtest.spec import Experiment
from abtest.stats.score import PairSums, StratifiedScore, pair_sums, pair_sums_from_units, stratified_score

NULLS: list[dict[str, Any]] = [
    {}, {"margin": 0.03}, {"margin": -0.5}, {"margin": 0.2, "kind": "relative"}, {"margin": -0.3, "kind": "relative"},
    {"margin": 0.1, "kind": "relative", "better": "higher"}, {"margin": 0.25, "better": "higher"},
]  # fmt: skip


def build(u: Units, q: np.ndarray, better: Any = "lower", proportion: bool = False) -> StratifiedScore:
    return stratified_score(
        pair_sums_from_units(*u.columns(), stages=u.stages), list(q), better=better, proportion=proportion
    )


def parts(score: StratifiedScore, look: int = -1, margin: float = 0.0, kind: Any = "absolute") -> tuple[float, ...]:
    c = score.contrast(margin, kind, running=False)
    return tuple(float(v[look]) for v in (c.score, c.weight, c.v_plug, c.v_design, c.v_floor))


def close(found: tuple[float, ...], wanted: Any, rel: float = 1e-9) -> None:
    """S may be a small difference of large sums: it is held to the size of its own standard deviation."""
    score, weight, *variances = wanted
    assert found[0] == pytest.approx(score, rel=rel, abs=rel * max(variances) ** 0.5)
    assert found[1:] == pytest.approx((weight, *variances), rel=rel, abs=1e-300)


@pytest.mark.parametrize("null", NULLS, ids=str)
@pytest.mark.parametrize("binary", [False, True])
def test_score_equals_dense_matrices(null: dict[str, Any], binary: bool) -> None:
    null = dict(null)
    better = null.pop("better", "lower")
    for seed in range(6):
        u, q = random_units(np.random.default_rng(seed), stages=1 + seed % 4, binary=binary)
        answer = dense_score(u, q, better=better, proportion=binary, **null)
        score = build(u, q, better, proportion=binary)
        close(parts(score, **null), (answer.score, answer.weight, answer.v_plug, answer.v_design, answer.v_floor))
        assert float(score.contrast(**null).v[-1]) == pytest.approx(answer.v, rel=1e-9)


@pytest.mark.parametrize("seed", [2, 25, 33])
def test_score_out_of_the_store_equals_dense_matrices(make_store: StoreMaker, seed: int) -> None:
    """From the log file to v_design, for every metric and treatment: at stage ends, and over time in the middle and at the end."""
    case = random_case(seed)
    store = make_store(case.records)
    experiment = Experiment.from_dict(case.spec)
    whole = read(store, experiment, as_of_us=case.end_us, series=True)
    oracle = Oracle(case.spec, case.records, case.end_us)
    assert whole.growth
    compared = 0
    for ev, hours in ((whole, None), (whole.growth.evidence, whole.growth.grid_us // HOUR_US)):
        oracle.grid_hours = hours
        for look in sorted({0, len(ev.looks) // 2, len(ev.looks) - 1}):
            compared += compare(ev, oracle, look)
    assert compared > 10


def compare(ev: Evidence, oracle: Oracle, look: int) -> int:
    """Compare the score of every metric and treatment at one look; return how many had something to say."""
    compared = 0
    experiment = ev.experiment
    for j, metric in enumerate(experiment.metrics):
        m = ev.scan.measures[j]
        for treatment in experiment.treatments:
            shares = [ev.pair_share(s) for s in ev.strata]
            names, proportion = [experiment.control, treatment], metric.kind == "proportion"
            score = stratified_score(ev.pair_sums(j, treatment), shares, better=metric.better, proportion=proportion)
            rows = [
                (names.index(a), k, u, x / (1 if m.event or m.quantile else m.scale), y / m.denominator_scale)
                for (u, a, k), (x, y) in oracle.unit_sums(j, ev.looks[look]).items() if a in names
            ]  # fmt: skip
            if len({r[0] for r in rows}) < 2:
                continue
            units = Units(*(np.array(c) for c in zip(*rows, strict=True)), stages=len(ev.strata))
            answer = dense_score(units, score.shares, better=metric.better, margin=0.01, proportion=proportion)
            found = parts(score, look, 0.01)
            if answer.weight == 0:
                assert found[:2] == (0.0, 0.0)
                continue
            compared += 1
            close(found, (answer.score, answer.weight, answer.v_plug, answer.v_design, answer.v_floor))
    return compared


def test_share_of_two_arms_out_of_three(make_store: StoreMaker) -> None:
    """With two treatments at 20 % each, control and one of them split their traffic 60 : 20."""
    spec = spec_of(treatments=["B", "C"], allocation=[{"at": at(0), "share": 0.2}])
    ev = read(make_store([call("1", "u", "A")]), Experiment.from_dict(spec))
    assert ev.pair_share(ev.strata[0]) == pytest.approx(0.25)


def test_unknown_share_is_the_observed_one() -> None:
    u, _ = random_units(np.random.default_rng(1), stages=2)
    score = stratified_score(pair_sums_from_units(*u.columns(), stages=2), [None, 0.4])
    first = u.stage == 0
    assert score.shares[0] == pytest.approx((u.arm[first] == 1).mean())
    assert score.shares[1] == 0.4


@pytest.mark.parametrize("shares", [[0.1], [0.1, 0.2, 1.0], [0.0, 0.2, 0.3], [0.1, 0.2, float("nan")]])
def test_shares_must_fit(shares: list[float]) -> None:
    u, _ = random_units(np.random.default_rng(1), stages=3)
    with pytest.raises(InvalidInputError):
        stratified_score(pair_sums_from_units(*u.columns(), stages=3), shares)


# -- the two ways to build the sums --------------------------------------------------------------------------------


def integer_sums(u: Units) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Return cells and pairs of integer units, as SQL would give them for one look."""
    cells: dict[Any, Any] = {}
    pairs: dict[Any, Any] = {}
    by_unit: dict[Any, list[tuple[int, int, int, int]]] = {}
    for a, k, unit, x, y in zip(*u.columns(), strict=True):
        by_unit.setdefault(unit, []).append((int(a), int(k), int(x), int(y)))
    for rows in by_unit.values():
        for a, k, x, y in rows:
            cell = cells.setdefault((a, k), {"units": [0], "x": [0], "y": [0]})
            for name, more in (("units", 1), ("x", x), ("y", y)):
                cell[name][0] += more
            for b, m, z, t in rows:
                if k < m or (a, k) == (b, m):
                    pair = pairs.setdefault((a, k, b, m), {n: [0] for n in ("xx", "xy", "yx", "yy")})
                    for name, more in (("xx", x * z), ("xy", x * t), ("yx", y * z), ("yy", y * t)):
                        pair[name][0] += more
    return cells, pairs


def whole(u: Units) -> Units:
    """Return the same units with numerators that are whole numbers."""
    return Units(u.arm, u.stage, u.unit, np.round(u.x * 1000), u.y, u.stages)


@pytest.mark.parametrize("seed", range(4))
def test_sums_from_units_equal_sums_from_integers(seed: int) -> None:
    u, q = random_units(np.random.default_rng(seed))
    u = whole(u)
    cells, pairs = integer_sums(u)
    exact = pair_sums(cells, pairs, stages=u.stages, looks=1)
    plain = pair_sums_from_units(*u.columns(), stages=u.stages)
    np.testing.assert_array_equal(exact.units, plain.units)
    np.testing.assert_allclose(exact.x + exact.centre * exact.y, plain.x + plain.centre * plain.y, rtol=1e-12)
    for margin, kind in ((0.0, "absolute"), (40.0, "absolute"), (0.1, "relative")):
        a = parts(stratified_score(exact, list(q)), margin=margin, kind=kind)
        b = parts(stratified_score(plain, list(q)), margin=margin, kind=kind)
        close(a, b)


def test_fixed_point_scales_only_move_the_point() -> None:
    u, q = random_units(np.random.default_rng(3))
    u = whole(u)
    one = stratified_score(pair_sums(*integer_sums(u), stages=3, looks=1), list(q))
    finer = Units(u.arm, u.stage, u.unit, u.x * 10**6, u.y * 100, 3)
    other = stratified_score(pair_sums(*integer_sums(finer), stages=3, looks=1, x_scale=10**6, y_scale=100), list(q))
    close(parts(other), parts(one))


def test_a_series_of_wrong_length_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        pair_sums({(0, 0): {"units": [1], "x": [1], "y": [1]}}, {}, stages=1, looks=2)


def test_no_rows_at_all() -> None:
    empty = pair_sums({}, {}, stages=2, looks=0)
    contrast = stratified_score(empty, [0.1, None]).contrast()
    assert contrast.v.shape == (0,)
    blank = stratified_score(pair_sums({}, {}, stages=1, looks=3), [0.5]).contrast()
    assert blank.v.tolist() == blank.weight.tolist() == [0.0, 0.0, 0.0]


# -- symmetries ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_order_and_names_of_units_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    u, q = random_units(rng)
    shuffled = u.pick(rng.permutation(len(u.x)))
    shuffled.unit = np.array([f"user-{(n * 7919) % 100003}" for n in shuffled.unit])
    close(parts(build(shuffled, q), margin=0.1), parts(build(u, q), margin=0.1))


@pytest.mark.parametrize("seed", range(5))
def test_sums_of_disjoint_units_add_up(seed: int) -> None:
    u = whole(random_units(np.random.default_rng(seed))[0])
    halves = [integer_sums(u.pick(u.unit % 2 == rest)) for rest in (0, 1)]
    merged: list[dict[Any, Any]] = [{}, {}]
    for half in halves:
        for into, table in zip(merged, half, strict=True):
            for key, row in table.items():
                kept = into.setdefault(key, {n: [0] for n in row})
                for name, values in row.items():
                    kept[name] = [kept[name][0] + values[0]]
    a = pair_sums(merged[0], merged[1], stages=3, looks=1)
    b = pair_sums(*integer_sums(u), stages=3, looks=1)
    for name in ("units", "x", "y", "xx", "xy", "yx", "yy", "centre"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("binary", [False, True])
def test_swapping_the_arms_flips_the_sign(seed: int, binary: bool) -> None:
    u, q = random_units(np.random.default_rng(seed), binary=binary)
    swapped = Units(1 - u.arm, *u.columns()[1:], stages=u.stages)
    # The hash that was below q is above 1 - q; min(q_k, q_l) - q_k q_l does not change.
    score, weight, v_plug, v_design, _ = parts(build(u, q))
    close(parts(build(swapped, 1 - q))[:4], (-score, weight, v_plug, v_design))


@pytest.mark.parametrize("seed", range(5))
def test_scaling_and_shifting_the_metric(seed: int) -> None:
    u, q = random_units(np.random.default_rng(seed))
    score, weight, v_plug, v_design, _ = parts(build(u, q), margin=0.2)
    times = Units(u.arm, u.stage, u.unit, u.x * 1000.0, u.y, u.stages)
    close(parts(build(times, q), margin=200.0)[:4], (1e3 * score, weight, 1e6 * v_plug, 1e6 * v_design))
    units = Units(u.arm, u.stage, u.unit, u.x, u.y * 60.0, u.stages)  # hours to minutes: the ratio falls, S stays
    close(parts(build(units, q), margin=0.2 / 60)[:4], (score, 60 * weight, v_plug, v_design))
    shifted = Units(u.arm, u.stage, u.unit, u.x + 50.0 * u.y, u.y, u.stages)
    close(parts(build(shifted, q), margin=0.2)[:4], (score, weight, v_plug, v_design))


@pytest.mark.parametrize("seed", range(5))
def test_higher_is_better_is_the_mirror_of_lower(seed: int) -> None:
    u, q = random_units(np.random.default_rng(seed), binary=True)
    good = Units(u.arm, u.stage, u.unit, u.y - u.x, u.y, u.stages)  # successes instead of failures
    for margin in (0.0, 0.02, -0.1):
        close(parts(build(good, q, "higher", True), margin=margin), parts(build(u, q, "lower", True), margin=margin))
    u, q = random_units(np.random.default_rng(seed))
    negative = Units(u.arm, u.stage, u.unit, -u.x, u.y, u.stages)
    for margin in (0.0, 0.3):
        close(parts(build(negative, q, "higher"), margin=margin), parts(build(u, q), margin=margin))


def test_one_stage_is_the_usual_two_sample_comparison() -> None:
    """With one row a unit and y = 1: D is the difference of means, v_plug / w² the usual variance of it."""
    rng = np.random.default_rng(5)
    arm, x = rng.integers(0, 2, 400), rng.normal(10, 3, 400)
    u = Units(arm, np.zeros(400, dtype=int), np.arange(400), x, np.ones(400), 1)
    score, weight, v_plug, v_design, _ = parts(build(u, np.array([0.5])))
    t, c = x[arm == 1], x[arm == 0]
    assert score / weight == pytest.approx(t.mean() - c.mean(), rel=1e-12)
    assert v_plug / weight**2 == pytest.approx(t.var() / len(t) + c.var() / len(c), rel=1e-12)
    assert v_design == pytest.approx(0.25 * ((x - x.mean()) ** 2).sum(), rel=1e-12)


# -- looks, empty cells, precision ---------------------------------------------------------------------------------


def cumulative(u: Units, at: np.ndarray, looks: int) -> PairSums:
    """Return the sums at every look when row i arrives at look at[i]."""
    each = [integer_sums(u.pick(at <= b)) for b in range(looks)]
    cells = {k: {n: [c[k][n][0] if k in c else 0 for c, _ in each] for n in ("units", "x", "y")} for k in each[-1][0]}
    pairs = {
        k: {n: [p[k][n][0] if k in p else 0 for _, p in each] for n in ("xx", "xy", "yx", "yy")} for k in each[-1][1]
    }
    return pair_sums(cells, pairs, stages=u.stages, looks=looks)


def test_every_look_is_the_score_of_what_was_there_and_v_never_falls() -> None:
    rng = np.random.default_rng(8)
    u, q = random_units(rng, binary=True, units=300)
    at = np.minimum(u.stage * 3 + rng.integers(0, 4, len(u.x)), 8)
    score = stratified_score(cumulative(u, at, 9), list(q), proportion=True)
    plain, running = score.contrast(0.02, running=False), score.contrast(0.02)
    for b in range(9):
        answer = dense_score(u.pick(at <= b), q, margin=0.02, proportion=True)
        assert plain.score[b] == pytest.approx(answer.score, rel=1e-9, abs=1e-9)
        assert plain.v[b] == pytest.approx(answer.v, rel=1e-9)
    np.testing.assert_array_equal(running.v, np.maximum.accumulate(plain.v))
    picked = stratified_score(score.sums.look(4), list(q), proportion=True).contrast(0.02)
    assert picked.score[0] == pytest.approx(plain.score[4], rel=1e-12)


@pytest.mark.parametrize("missing", ["no treatment", "one unit", "no denominator"])
@pytest.mark.parametrize("kind", ["mean", "proportion"])
def test_a_stage_without_both_arms_says_nothing(missing: str, kind: str) -> None:
    """Neither to the score nor to any variance, the design effect of the floor included."""
    proportion = kind == "proportion"
    u, q = random_units(np.random.default_rng(2), stages=2, binary=proportion)
    late = (u.stage == 1) & (u.arm == 1)
    if missing == "no denominator":
        broken = Units(u.arm, u.stage, u.unit, np.where(late, 0, u.x), np.where(late, 0, u.y), 2)
    else:
        keep = ~late
        keep[np.flatnonzero(late)[: int(missing == "one unit")]] = True
        broken = u.pick(keep)
    early = u.pick(u.stage == 0)
    alone = build(Units(*early.columns(), stages=1), q[:1], proportion=proportion)
    close(parts(build(broken, q, proportion=proportion), margin=0.02), parts(alone, margin=0.02))
    assert build(broken, q).used[:, 0].tolist() == [True, False]


def test_zero_events_and_constant_values() -> None:
    u, q = random_units(np.random.default_rng(4), binary=True)
    none = Units(u.arm, u.stage, u.unit, np.zeros(len(u.x)), u.y, u.stages)
    score, _, v_plug, v_design, v_floor = parts(build(none, q, proportion=True), margin=0.02)
    assert v_plug == 0.0
    assert score < 0 < v_floor  # the floor knows that a rate of 2 % could hide behind zero events
    assert v_design > 0  # moved back by the margin, treatment's zeros are no zeros
    same = Units(u.arm, u.stage, u.unit, 7.0 * u.y, u.y, u.stages)
    assert parts(build(same, q))[2:] == pytest.approx((0, 0, 0), abs=1e-20)


def test_variance_survives_a_mean_of_a_hundred_million_standard_deviations() -> None:
    """Mean/sd = 1e8, both through integers and through floats, against exact fractions."""
    rng = np.random.default_rng(6)
    u, q = random_units(rng, stages=2, units=400)
    y = np.ones(len(u.x))
    noise = np.round(rng.normal(0, 2**20, len(u.x)))  # in units of 2^-20: exact in binary at 1e8
    x = 10**8 * 2**20 + noise.astype(np.int64)
    small = dense_score(Units(u.arm, u.stage, u.unit, noise / 2**20, y, 2), q)
    ints = Units(u.arm, u.stage, u.unit, x.astype(object), y, 2)
    through_integers = stratified_score(pair_sums(*integer_sums(ints), stages=2, looks=1, x_scale=2**20), list(q))
    through_floats = build(
        Units(u.arm, u.stage, u.unit, np.array([float(Fraction(int(v), 2**20)) for v in x]), y, 2), q
    )
    for score in (through_integers, through_floats):
        s, w, v_plug, v_design, _ = parts(score)
        assert v_plug == pytest.approx(small.v_plug, rel=1e-9)
        assert v_design == pytest.approx(small.v_design, rel=1e-9)
        assert s / w == pytest.approx(small.score / small.weight, abs=1e-7)  # 1e-15 of the mean
