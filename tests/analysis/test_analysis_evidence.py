"""The evidence out of SQL against plain loops over the same records: equal to the last integer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from analysis_logs import HOUR_US, Case, hours_us, random_case
from analysis_oracle import MANIFEST, Oracle
from analysis_store import StoreMaker

from abtest.analysis.evidence import Evidence
from abtest.analysis.rare import takes_rate_ratio
from abtest.analysis.read import read
from abtest.spec import Experiment
from abtest.store.moments import LOOK
from abtest.store.store import Store

SEEDS = (0, 1, 5, 6, 11, 20, 22, 25, 27, 29, 33, 36)
Read = Callable[[int], tuple[Case, Evidence, Oracle]]


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Read a random case once; even seeds at the end of the log, odd ones in the middle of it."""
    cache: dict[int, tuple[Case, Evidence, Oracle]] = {}

    def get(seed: int) -> tuple[Case, Evidence, Oracle]:
        if seed not in cache:
            case = random_case(seed)
            as_of = case.end_us if seed % 2 == 0 else hours_us(9 + seed / 3)
            maker = StoreMaker(tmp_path_factory.mktemp("case"))
            store: Store = maker()
            third = len(case.records) // 3
            maker.add(store, case.records[:third], case.records[third:])
            found = read(store, Experiment.from_dict(case.spec), as_of_us=as_of, series=True)
            store.close()
            cache[seed] = (case, found, Oracle(case.spec, case.records, as_of))
        return cache[seed]

    return get


def both(ev: Evidence, oracle: Oracle) -> Iterator[tuple[Evidence, list[int]]]:
    """Yield what a decision looks at (stage ends) and how it grew, with a few looks each; the oracle is set to match."""
    for each, hours in ((ev, None), (ev.growth and ev.growth.evidence, ev.growth and ev.growth.grid_us // HOUR_US)):
        oracle.grid_hours = hours
        if each:
            n = len(each.looks)
            yield each, [each.looks[i] for i in sorted({0, n // 4, n // 2, n - 1})] if n else []


def gained(rows: Any, look: int, key: tuple[str, ...], columns: list[str]) -> dict[Any, tuple[int, ...]]:
    """Add up what the looks until `look` brought."""
    out: dict[Any, list[int]] = {}
    for row in rows:
        if row["look"] <= look:
            sums = out.setdefault(tuple(row[k] for k in key), [0] * len(columns))
            for i, column in enumerate(columns):
                sums[i] += row[column]
    return {k: tuple(v) for k, v in out.items()}


@pytest.mark.parametrize("seed", SEEDS)
def test_cell_sums(evidence: Read, seed: int) -> None:
    _, whole, oracle = evidence(seed)
    assert whole.active == tuple(range(len(whole.experiment.metrics)))
    for ev, looks in both(whole, oracle):
        assert set(ev.looks) == {oracle.look(c) for c in oracle.clean}
        for look in looks:
            for j in ev.active:
                found = gained(ev.cells, look, ("arm", "stage"), ["units", f"x{j}", f"y{j}"])
                assert found == oracle.cells(j, look), ev.experiment.metrics[j].name


@pytest.mark.parametrize("seed", SEEDS)
def test_requests_and_calls(evidence: Read, seed: int) -> None:
    _, whole, oracle = evidence(seed)
    for ev, looks in both(whole, oracle):
        for look in looks:
            calls = Counter((c.arm, c.stage) for c in oracle.clean if oracle.look(c) <= look)
            heads = Counter((c.arm, c.stage) for c in oracle.clean if oracle.look(c) <= look and c.head)
            found = gained(ev.cells, look, ("arm", "stage"), ["requests", "calls"])
            assert found == {cell: (heads[cell], n) for cell, n in calls.items()}


@pytest.mark.parametrize("seed", SEEDS)
def test_pair_moments(evidence: Read, seed: int) -> None:
    _, whole, oracle = evidence(seed)
    for ev, looks in both(whole, oracle):
        for look in looks:
            for j in ev.active:
                columns = [f"{name}{j}" for name in ("xx", "xy", "yx", "yy")]
                found = gained(ev.pairs, look, ("arm_a", "stage_a", "arm_b", "stage_b"), columns)
                wanted = {(*p, *q): v for (p, q), v in oracle.pairs(j, look).items()}
                assert {k: v for k, v in found.items() if any(v)} == {k: v for k, v in wanted.items() if any(v)}


@pytest.mark.parametrize("seed", SEEDS)
def test_pair_sums_are_the_units_own_products(evidence: Read, seed: int) -> None:
    """`Evidence.pair_sums` (centred floats, every look) against the same sums over units, in natural units."""
    _, whole, oracle = evidence(seed)
    for ev, looks in both(whole, oracle):
        for j in ev.active:
            check_pair_sums(ev, oracle, j, looks)


def check_pair_sums(ev: Evidence, oracle: Oracle, j: int, looks: list[int]) -> None:
    experiment = ev.experiment
    treatment = experiment.treatments[-1]
    names, measure = [experiment.control, treatment], ev.scan.measures[j]
    sums = ev.pair_sums(j, treatment)
    x_scale = 1 if measure.event or measure.quantile else measure.scale
    for look in looks:
        b = ev.looks.index(look)
        rows = {
            k: (Fraction(x, x_scale), Fraction(y, measure.denominator_scale))
            for k, (x, y) in oracle.unit_sums(j, look).items() if k[1] in names
        }  # fmt: skip
        units = {u: {(names.index(a), k): xy for (v, a, k), xy in rows.items() if v == u} for u in {k[0] for k in rows}}
        wanted = {
            n: np.zeros(getattr(sums, n).shape[:-1], dtype=object) for n in ("units", "x", "y", "xx", "xy", "yx", "yy")
        }
        above, below = (
            sum(v[i] for k, v in oracle.unit_sums(j, ev.looks[-1]).items() if k[1] in names) for i in (0, 1)
        )
        centre = Fraction(round((above << 20) / below) if below else 0, (1 << 20) * x_scale) * measure.denominator_scale
        assert sums.centre == pytest.approx(float(centre), rel=1e-15)
        for cells in units.values():
            for p, (above_p, yp) in cells.items():
                xp = above_p - centre * yp
                wanted["units"][p] += 1
                wanted["x"][p] += xp
                wanted["y"][p] += yp
                for q, (above_q, yq) in cells.items():
                    if p[1] <= q[1]:
                        xq = above_q - centre * yq
                        for name, product in (("xx", xp * xq), ("xy", xp * yq), ("yx", yp * xq), ("yy", yp * yq)):
                            wanted[name][(*p, *q)] += product
        for name, value in wanted.items():
            found = getattr(sums, name)[..., b]
            np.testing.assert_allclose(found, value.astype(float), rtol=1e-9, atol=1e-9, err_msg=f"{name} of {j}")


@pytest.mark.parametrize("seed", SEEDS)
def test_first_events_and_who_is_still_at_risk(evidence: Read, seed: int) -> None:
    """Wanted where the rate-ratio test will use them: guardrails on proportions, where the share is known."""
    _, ev, oracle = evidence(seed)
    known = all(s.share is not None for s in ev.strata)
    for j, metric in enumerate(ev.experiment.metrics):
        if takes_rate_ratio(metric) and known:
            found = {(r["arm"], r["stage"], r["bucket"]): (r[f"event{j}"], r[f"risk{j}"]) for r in ev.first_events}
            wanted = oracle.first_events(j)
            assert {k: v for k, v in found.items() if any(v)} == {k: v for k, v in wanted.items() if any(v)}, (
                metric.name
            )
        else:
            assert not any(f"event{j}" in r for r in ev.first_events)


@pytest.mark.parametrize("seed", SEEDS)
def test_histograms(evidence: Read, seed: int) -> None:
    _, ev, oracle = evidence(seed)
    assert set(ev.histograms) == {j for j, m in enumerate(ev.experiment.metrics) if m.kind == "quantile"}
    for j, rows in ev.histograms.items():
        assert {(r["arm"], r["stage"], r["value_bucket"]): r["n"] for r in rows} == oracle.histogram(j)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_happened_to_every_row(evidence: Read, seed: int) -> None:
    _, ev, oracle = evidence(seed)
    calls = oracle.calls
    assert dict(ev.population) == {
        "calls": len(calls),
        "no_unit": sum(c.unit is None for c in calls),
        "no_arm": sum(c.unit is not None and c.arm is None for c in calls),
        "other_arm": sum(c.unit is not None and c.arm is not None and c.arm not in oracle.arms for c in calls),
        "not_randomised": sum(c.unrandom for c in calls),
        "first_us": min((c.ts for c in calls), default=None),
        "last_us": max((c.ts for c in calls), default=None),
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_arms_stages_and_manifests_as_they_were_seen(evidence: Read, seed: int) -> None:
    _, ev, oracle = evidence(seed)
    seen = [c for c in oracle.calls if c.unit is not None and c.arm is not None]
    arms = {a: [c for c in seen if c.arm == a] for a in {c.arm for c in seen}}
    assert {r["arm"]: (r["units"], r["interactions"], r["first_us"], r["last_us"]) for r in ev.arms} == {
        a: (len({c.unit for c in cs}), len(cs), min(c.ts for c in cs), max(c.ts for c in cs)) for a, cs in arms.items()
    }
    named = [c for c in seen if c.arm in oracle.arms]
    stages = {key: [c for c in named if (c.stage, c.arm) == key] for key in {(c.stage, c.arm) for c in named}}
    assert {(r["stage"], r["arm"]): (r["units"], r["first_us"], r["last_us"]) for r in ev.stages} == {
        key: (len({c.unit for c in cs}), min(c.ts for c in cs), max(c.ts for c in cs)) for key, cs in stages.items()
    }
    manifests = Counter((c.arm, *(c.record.get(f) for f in MANIFEST)) for c in named)
    assert {(r["arm"], *(r[f] for f in MANIFEST)): r["calls"] for r in ev.manifests} == manifests


@pytest.mark.parametrize("seed", SEEDS)
def test_contamination(evidence: Read, seed: int) -> None:
    _, ev, oracle = evidence(seed)
    wanted = {k: (n, sum(stage == k for _, stage in oracle.contaminated)) for k, n in oracle.units_by_stage.items()}
    assert {r["stage"]: (r["units"], r["contaminated"]) for r in ev.contamination} == wanted


@pytest.mark.parametrize("seed", SEEDS)
def test_new_and_returning_units(evidence: Read, seed: int) -> None:
    """A unit is new in the stage that saw it first, even when it was contaminated there, and returning afterwards."""
    _, ev, oracle = evidence(seed)
    first: dict[str | None, int] = {}
    for c in sorted(oracle._randomised(), key=lambda c: c.stage):
        first.setdefault(c.unit, c.stage)
    cells = {c.cell for c in oracle.clean}
    wanted = {
        (stage, arm): (
            sum(first[u] == stage for u, a, k in cells if (k, a) == (stage, arm)),
            sum(first[u] < stage for u, a, k in cells if (k, a) == (stage, arm)),
        )
        for stage, arm in {(k, a) for _, a, k in cells}
    }
    assert {(r["stage"], r["arm"]): (r["new_units"], r["returning_units"]) for r in ev.assignment} == wanted


@pytest.mark.parametrize("seed", SEEDS)
def test_units_over_time(evidence: Read, seed: int) -> None:
    """Every unit that counts in an arm is counted once, in the stretch in which it first counts."""
    _, ev, oracle = evidence(seed)
    for arm in ev.experiment.arm_names:
        assert ev.units_of(arm) == len({c.unit for c in oracle.clean if c.arm == arm})
        if ev.growth:
            oracle.grid_hours = ev.growth.grid_us // HOUR_US
            first: dict[str | None, int] = {}
            for c in oracle.clean:
                if c.arm == arm:
                    first[c.unit] = min(first.get(c.unit, oracle.look(c)), oracle.look(c))
            new = Counter(first.values())
            assert ev.growth.units[arm] == list(accumulate(new[look] for look in ev.growth.evidence.looks))


@pytest.mark.parametrize("seed", SEEDS)
def test_strata_and_looks(evidence: Read, seed: int) -> None:
    _, ev, oracle = evidence(seed)
    assert [(s.since_us, s.share) for s in ev.strata] == list(zip(oracle.starts, oracle.shares, strict=True))
    if ev.growth:
        grid, ends = ev.growth.grid_us, [*oracle.starts[1:], ev.as_of_us or 0]
        wanted = [min((look % LOOK + 1) * grid, ends[look // LOOK]) for look in ev.growth.evidence.looks]
        assert ev.growth.ends_us == wanted
        assert wanted == sorted(wanted)


def test_the_random_cases_reach_everything(evidence: Read) -> None:
    """The generator must produce what the tests above are for."""
    oracles = [evidence(seed)[2] for seed in SEEDS]
    assert {o.spec["unit"] for o in oracles} == {"user", "session", "request"}
    assert {o.how for o in oracles} == {"last", "first", "sum"}
    assert {1, 2, 3, 4} <= {len(o.starts) for o in oracles}
    assert any(len(o.arms) == 3 for o in oracles)
    assert any(o.contaminated for o in oracles)
    for name in ("unrandom", "head"):
        assert any(getattr(c, name) for o in oracles for c in o.calls)
    assert any(c.unit is None for o in oracles for c in o.calls)
    assert any(c.unit is not None and c.arm is None for o in oracles for c in o.calls)
    assert any(c.arm == "ghost" for o in oracles for c in o.calls)
    assert any(len(group) > 1 for o in oracles for group in o.requests.values())
    assert any(sum(len(s) for s in o.scores.values()) > 5 for o in oracles)
    assert any(len({k for u, a, k in {c.cell for c in o.clean} if u == c.unit}) > 1 for o in oracles for c in o.clean)
    assert any("where" in o.spec["population"] for o in oracles)
    assert any("end" in o.spec for o in oracles)
