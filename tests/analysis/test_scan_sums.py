"""What must add up in the evidence of any log under any question: never a wrong denominator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from analysis_logs import METRICS, Case, at, hours_us, random_case
from analysis_store import StoreMaker, by_cell
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from abtest.analysis.evidence import Evidence
from abtest.analysis.read import read
from abtest.spec import Experiment

QUESTIONS = st.fixed_dictionaries({
    "seed": st.integers(0, 10_000),
    "unit": st.sampled_from(["user", "session", "request"]),
    "per_request": st.sampled_from(["last", "first", "sum"]),
    "where": st.sampled_from([None, "surface = 'support'", "turn > 1", "latency_ms > 500"]),
    "starts": st.lists(st.integers(0, 62), max_size=3, unique=True),
    "as_of": st.sampled_from([None, 7.3, 19.0]),
})  # fmt: skip


def asked(seed: int, unit: str, per_request: str, where: str | None, starts: list[int], as_of: float | None) -> Case:
    """Return a random log under another question than the one that it was made for."""
    case = random_case(seed)
    population = {"per_request": per_request, **({"where": where} if where else {})}
    stages = [{"at": at(t / 2), "share": q} for t, q in zip(sorted(starts), (0.1, 0.2, 0.45), strict=False)]
    spec = {k: v for k, v in case.spec.items() if k not in ("start", "end")}
    spec |= {"unit": unit, "population": population, "allocation": stages}
    return Case(spec, case.records, case.end_us if as_of is None else hours_us(as_of))


@given(question=QUESTIONS)
@limits(max_examples=12)
def test_everything_adds_up(tmp_path_factory: pytest.TempPathFactory, question: dict[str, Any]) -> None:
    """Calls over fates, units over arms and stages, denominators under what could tell, growth over time."""
    case = asked(**question)
    maker = StoreMaker(Path(tmp_path_factory.mktemp("case")))
    try:
        store = maker(case.records)
        ev = read(store, Experiment.from_dict(case.spec), as_of_us=case.end_us, series=True)
    finally:
        maker.close()
    check_calls(ev)
    check_units(ev)
    check_denominators(ev)
    check_events(ev)
    check_products(ev)
    check_growth(ev)


def check_calls(ev: Evidence) -> None:
    p, named = ev.population, set(ev.experiment.arm_names)
    seen = by_cell(ev.units, "calls", "units")
    inside = sum(calls for (arm, _), (calls, _) in seen.items() if arm in named)
    outside = sum(calls for (arm, _), (calls, _) in seen.items() if arm not in named)
    assert p["calls"] == p["no_unit"] + p["no_arm"] + p["other_arm"] + inside
    assert outside == p["other_arm"]
    assert sum(a["interactions"] for a in ev.arms) == inside + outside
    assert sum(m["calls"] for m in ev.manifests) == inside
    cells = by_cell(ev.cells, "calls", "requests", "units")
    for key, (calls, requests, units) in cells.items():
        assert 0 < units <= calls
        assert requests <= calls <= seen[key][0]
        assert units <= seen[key][1]
    if not p["not_randomised"] and not any(r["contaminated"] for r in ev.contamination):
        assert sum(c for c, _, _ in cells.values()) == inside
        assert all(cells[key][2] == n for key, (_, n) in seen.items() if key[0] in named)


def check_units(ev: Evidence) -> None:
    cells = by_cell(ev.cells, "units")
    new = by_cell(ev.assignment, "new_units", "returning_units")
    assert {k: n + r for k, (n, r) in new.items()} == {k: n for k, (n,) in cells.items()}
    for row in ev.contamination:
        clean = sum(n for (_, stage), (n,) in cells.items() if stage == row["stage"])
        assert row["units"] == clean + row["contaminated"]
    for arm in ev.experiment.arm_names:
        stages = [n for (a, _), (n,) in cells.items() if a == arm]
        assert max(stages, default=0) <= ev.units_of(arm) <= sum(stages)
        assert new == {} or sum(n for (a, _), (n, _) in new.items() if a == arm) <= ev.units_of(arm)
    assert all(row["evidence_units"] <= row["units"] for row in ev.arm_units)


def check_denominators(ev: Evidence) -> None:
    cells = by_cell(ev.cells, "units", "requests", "calls")
    for j, metric in enumerate(METRICS):
        m = ev.scan.measures[j]
        for key, (x, y) in by_cell(ev.cells, f"x{j}", f"y{j}").items():
            units, requests, calls = cells[key]
            per = metric.get("per", "request")
            assert y >= 0
            if metric["kind"] == "count":
                assert y <= units
                assert "event" in metric or y == units  # where an event is counted, all rows of a unit may be NULL
                assert 0 <= x <= (calls if per == "call" else requests)
                continue
            if metric["kind"] == "ratio" or m.score:
                continue
            most = {"unit": units, "call": calls, "request": requests}[per]
            assert y <= most
            if m.event or m.quantile:
                assert 0 <= x <= y
    for j, histogram in ev.histograms.items():
        assert by_cell(histogram, "n") == {k: v for k, v in by_cell(ev.cells, f"y{j}").items() if v[0]}


def check_events(ev: Evidence) -> None:
    for j, metric in enumerate(METRICS):
        if not any(f"event{j}" in row for row in ev.first_events):
            continue
        sums = by_cell(ev.cells, "units", f"x{j}", f"y{j}")
        for key, (events, risk) in by_cell(ev.first_events, f"event{j}", f"risk{j}").items():
            units, x, y = sums[key]
            bad = y - x if metric["better"] == "higher" else x
            assert events <= min(units, bad)
            assert events <= risk
            assert metric.get("per") == "unit" or risk <= y
        events = sum(row[f"event{j}"] for row in ev.first_events)
        assert events <= sum(ev.units_of(arm) for arm in ev.experiment.arm_names)


def check_products(ev: Evidence) -> None:
    cells = by_cell(ev.cells, *(f"{a}{j}" for j in ev.active for a in "xy"))
    units = by_cell(ev.cells, "units")
    for row in ev.pairs:
        p, q = (row["arm_a"], row["stage_a"]), (row["arm_b"], row["stage_b"])
        assert p == q or p[1] < q[1]
        for n, j in enumerate(ev.active):
            xx, xy, yx, yy = (row[f"{c}{j}"] for c in ("xx", "xy", "yx", "yy"))
            if p == q:
                x, y = cells[p][2 * n : 2 * n + 2]
                assert xy == yx
                assert xy * xy <= xx * yy
                assert x * x <= units[p][0] * xx  # Cauchy and Schwarz, over units
                assert y * y <= units[p][0] * yy
                assert yy >= y  # whole numbers
    assert {(r["arm_a"], r["stage_a"]) for r in ev.pairs if r["stage_a"] == r["stage_b"]} == set(cells)


def check_growth(ev: Evidence) -> None:
    if not ev.growth:
        assert not ev.looks
        return
    grown = ev.growth.evidence
    columns = ["units", "requests", "calls", *(f"{a}{j}" for j in ev.active for a in "xy")]
    assert by_cell(grown.cells, *columns) == by_cell(ev.cells, *columns)
    names = [f"{a}{b}{j}" for j in ev.active for a in "xy" for b in "xy"]

    def pairs(each: Evidence) -> dict[Any, list[int]]:
        out: dict[Any, list[int]] = {}
        for row in each.pairs:
            total = out.setdefault(tuple(row[k] for k in ("arm_a", "stage_a", "arm_b", "stage_b")), [0] * len(names))
            total[:] = [s + row[n] for s, n in zip(total, names, strict=True)]
        return {k: v for k, v in out.items() if any(v)}

    assert pairs(grown) == pairs(ev)
    for arm in ev.experiment.arm_names:
        assert ev.growth.units[arm][-1] == ev.units_of(arm)
        assert ev.growth.units[arm] == sorted(ev.growth.units[arm])
    assert ev.growth.ends_us == sorted(ev.growth.ends_us)
