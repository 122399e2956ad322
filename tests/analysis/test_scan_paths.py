"""One evidence, however it is read: the scan leaves out what a log does not need, and nothing of that may show.

Also here: the arithmetic that the scan relies on (rounding, exact sums), against Python's own integers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import duckdb
import numpy as np
import pytest
from analysis_logs import Case, Record, at, call, hours_us, random_case, spec_of
from analysis_oracle import Oracle
from analysis_store import StoreMaker, by_cell
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from test_cuped_pipeline import with_past

from abtest.analysis import read as reading
from abtest.analysis.evidence import Evidence
from abtest.analysis.read import read
from abtest.errors import UnsupportedByEngine
from abtest.spec import Experiment
from abtest.store import rows
from abtest.store.query import Facts, Scan
from abtest.store.store import Store

Forced = Callable[[pytest.MonkeyPatch, Store], None]


# -- the same logs read in every way -----------------------------------------------------------------------------------


def as_found(patch: pytest.MonkeyPatch, store: Store) -> None:
    """Read as the facts of the store say."""


def with_every_join(patch: pytest.MonkeyPatch, store: Store) -> None:
    """Read as if the store held everything: assignments, scores, retries, doubled calls."""
    patch.setattr(reading, "facts_of", lambda engine, scan: Facts())


def ranked(patch: pytest.MonkeyPatch, store: Store) -> None:
    """Read every request as one of several attempts."""
    store.connection.execute("delete from repeated_request")
    store.connection.execute(
        "insert into repeated_request select distinct request_id from interaction where request_id is not null"
    )
    patch.setattr(reading, "facts_of", lambda engine, scan: Facts())


def in_whole_numbers(patch: pytest.MonkeyPatch, store: Store) -> None:
    """Add in BIGINT from the start."""
    plain = reading.scan_of
    patch.setattr(reading, "scan_of", lambda *a, **k: plain(*a, **k).at(wide=True))


def all_of_it(patch: pytest.MonkeyPatch, store: Store) -> None:
    """Everything at once."""
    ranked(patch, store)
    in_whole_numbers(patch, store)


def everything(found: Evidence) -> tuple[Any, ...]:
    """Return all that a reading says: the evidence, how it grew, and the constants it froze."""
    growth = found.growth
    over_time = (growth.evidence.sha256(), growth.grid_us, growth.units, growth.ends_us) if growth else None
    return found.sha256(), over_time, found.frozen, found.looks, found.population


HAS: dict[tuple[int, bool], Facts] = {
    (0, False): Facts(assignments=True, twins=False),
    (5, False): Facts(assignments=False, twins=False),
    (11, False): Facts(assignments=True, twins=False),
    (27, False): Facts(assignments=True, twins=False),
    (2, True): Facts(assignments=False, twins=False),
}
"""Random log (its seed, and whether units have a history) -> what it needs; or the test compares a path with itself."""


@pytest.mark.parametrize(("seed", "past"), HAS)
def test_every_way_to_read_gives_the_same_evidence(
    make_store: StoreMaker, monkeypatch: pytest.MonkeyPatch, seed: int, past: bool
) -> None:
    case = Case(*with_past(seed)) if past else random_case(seed)
    metrics = [m for m in case.spec["metrics"] if m["name"] != "offset"]  # its numbers alone ask for BIGINT
    experiment = Experiment.from_dict({**case.spec, "metrics": metrics})
    store = make_store(case.records)
    found: dict[str, tuple[Any, ...]] = {}
    for way in (as_found, with_every_join, in_whole_numbers, ranked, all_of_it):
        with monkeypatch.context() as patch:
            way(patch, store)
            ev = read(store, experiment, as_of_us=case.end_us, series=way in (as_found, all_of_it))
        if way is as_found:
            assert (ev.scan.facts, ev.scan.wide) == (HAS[seed, past], False)
        found[way.__name__] = everything(ev)
    assert found["as_found"][4]["calls"] > 20
    for way, result in found.items():
        assert result[0] == found["as_found"][0], way
        assert result[2:] == found["as_found"][2:], way
    assert found["all_of_it"] == found["as_found"]


@pytest.mark.parametrize("what", ["nothing", "retries", "scores", "assignments"])
def test_a_log_with_one_thing_in_it(make_store: StoreMaker, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    """Only the join that is needed is made, and the answer is that of the oracle."""
    case = random_case(5)
    seen: set[str] = set()
    records = []
    for r in case.records:
        kind = r.get("type", "interaction")
        if kind == "interaction":
            # Without retries no request has a second call; without assignments every call says its arm.
            first = r.get("request_id") not in seen
            seen.add(r.get("request_id") or r["interaction_id"])
            if what == "retries" or first:
                records.append({k: v for k, v in r.items() if k not in ("trace_id", "span_id", "provider_response_id")})
        elif f"{kind}s" == what:
            records.append(r)
    if what == "assignments":
        units = sorted({r["unit_id"] for r in records if r.get("unit_id")})
        for r in records:
            if r["unit_id"] in units[::2] if "unit_id" in r else False:
                r.pop("variant", None)
        records += [
            {"type": "assignment", "experiment_id": "e", "unit_id": u, "variant": "AB"[n % 2], "ts": at(0)}
            for n, u in enumerate(units)
        ]
    store = make_store(records)
    ev = read(store, Experiment.from_dict(case.spec), as_of_us=case.end_us, series=True)
    assert ev.scan.facts == Facts(what == "assignments", what == "scores", what == "retries", twins=False)
    oracle = Oracle(case.spec, records, case.end_us)
    for j in ev.active:
        found = by_cell(ev.cells, "units", f"x{j}", f"y{j}")
        assert found == oracle.cells(j, ev.looks[-1])
    with monkeypatch.context() as patch:
        all_of_it(patch, store)
        assert everything(
            read(store, Experiment.from_dict(case.spec), as_of_us=case.end_us, series=True)
        ) == everything(ev)


# -- huge numbers ------------------------------------------------------------------------------------------------------

HUGE: list[Record] = [
    {"name": "latency", "kind": "mean", "value": "latency_ms", "better": "lower"},
    {"name": "each", "kind": "mean", "value": "latency_ms", "better": "lower", "per": "call"},
    {"name": "of_unit", "kind": "mean", "value": "latency_ms", "better": "lower", "per": "unit"},
    {"name": "ratio", "kind": "ratio", "numerator": "latency_ms", "denominator": "input_tokens", "better": "lower"},
]  # fmt: skip


def huge_log(values: np.ndarray, units: int, *, minus: bool = False) -> list[Record]:
    """Return calls of these values, by units in turn; every third one is tried again."""
    out = []
    for n, value in enumerate(values):
        fields = {"latency_ms": float(value), "input_tokens": 1 + n % 977, "request_id": f"r{n - (n % 3 == 1)}"}
        unit = n // 3 % units
        out.append(call(f"c{n:06d}", f"u{unit}", "AB"[unit % 2], 0.1 + 40 * n / len(values), **fields))
    return out


@pytest.mark.parametrize(
    ("low", "high", "rows_", "units", "wide"),
    [
        (1e2, 1e4, 900, 60, False),
        (2e8, 2**51 / 1e6 / 4, 300, 300, False),  # the largest that fit, two calls a unit
        (2**50 / 1e6, 2**51 / 1e6, 300, 300, True),
        (2**51 / 1e6, 2**53 / 1e6, 900, 60, True),  # a double has no room for the rounding trick
        (1e9, 1e10, 3000, 300, True),
        (1e12 - 1e3, 1e12 + 1e3, 24, 8, True),
        (1e6, 2e6, 3000, 1, True),  # small numbers, but thousands of one unit
    ],
)
@pytest.mark.parametrize("per_request", ["last", "sum"])
def test_huge_numbers_are_exact(
    make_store: StoreMaker, low: float, high: float, rows_: int, units: int, wide: bool, per_request: str
) -> None:
    """Sums and products against Python's integers; the scan turns to BIGINT by itself."""
    records = huge_log(np.random.default_rng(7).uniform(low, high, rows_), units)
    stages = [{"at": at(0), "share": 0.2}, {"at": at(20), "share": 0.5}]
    spec = spec_of(*HUGE, allocation=stages, population={"per_request": per_request}, warm_up_units=30)
    ev = read(make_store(records), Experiment.from_dict(spec), as_of_us=hours_us(41), series=True)
    assert ev.scan.wide is wide
    oracle = Oracle(spec, records, hours_us(41))
    assert ev.growth
    for each, grid in ((ev, None), (ev.growth.evidence, ev.growth.grid_us // 3_600_000_000)):
        oracle.grid_hours = grid
        for j in range(len(HUGE)):
            cells: dict[Any, list[int]] = {}
            for r in each.cells:
                cell = cells.setdefault((r["arm"], r["stage"]), [0, 0, 0])
                cell[:] = [s + r[c] for s, c in zip(cell, ("units", f"x{j}", f"y{j}"), strict=True)]
            assert cells == {k: list(v) for k, v in oracle.cells(j, each.looks[-1]).items()}
            pairs: dict[Any, list[int]] = {}
            for r in each.pairs:
                pair = pairs.setdefault(((r["arm_a"], r["stage_a"]), (r["arm_b"], r["stage_b"])), [0] * 4)
                pair[:] = [s + r[f"{c}{j}"] for s, c in zip(pair, ("xx", "xy", "yx", "yy"), strict=True)]
            wanted = {k: list(v) for k, v in oracle.pairs(j, each.looks[-1]).items()}
            assert {k: v for k, v in pairs.items() if any(v)} == wanted


def test_negative_huge_numbers_are_exact(make_store: StoreMaker) -> None:
    metric = {"name": "minus", "kind": "mean", "value": "0 - latency_ms", "better": "higher"}
    values = np.random.default_rng(8).uniform(2e9, 9e9, 400)
    records = huge_log(values, 50)
    ev = read(make_store(records), Experiment.from_dict(spec_of(metric, warm_up_units=30)), as_of_us=hours_us(41))
    assert ev.scan.wide
    heads = [v for n, v in enumerate(values) if n % 3 != 0 or n + 1 == len(values)]
    assert sum(r["x0"] for r in ev.cells) == sum(round(-float(v) * 10**6) for v in heads)


def test_frozen_constants_of_huge_numbers_come_from_exact_sums(make_store: StoreMaker) -> None:
    """In doubles their last digits would depend on the order in which threads happen to add."""
    records = huge_log(np.random.default_rng(9).uniform(1e9, 1e10, 3000), 300)
    spec = spec_of(HUGE[1], warm_up_units=100, unit="user")
    ev = read(make_store(records), Experiment.from_dict(spec), as_of_us=hours_us(41))
    first: dict[str, float] = {}
    for r in records:
        if r["variant"] == "A":
            first.setdefault(r["unit_id"], r["ts"])
    until = sorted(first.values())[99]
    values = [round(r["latency_ms"] * 10**6) for r in records if r["variant"] == "A" and r["ts"] <= until]
    assert ev.frozen["each"]["baseline"] == sum(values) / len(values) / 10**6


def test_what_does_not_fit_at_all_is_an_error_that_says_what_to_do(make_store: StoreMaker) -> None:
    records = huge_log(np.full(60, 8e12), 10)
    with pytest.raises(UnsupportedByEngine, match="too large") as error:
        read(make_store(records), Experiment.from_dict(spec_of(HUGE[1], warm_up_units=30)), as_of_us=hours_us(41))
    assert error.value.hint


# -- rounding ----------------------------------------------------------------------------------------------------------

SCALES = (1, 10**6, 10**9)


@pytest.fixture(scope="module")
def engine() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def rounded(con: duckdb.DuckDBPyConnection, values: list[float], scale: int, *, wide: bool) -> list[Any]:
    """Return the values as DuckDB rounds them."""
    sql = f"select {rows.fixed('x', scale, wide=wide)} from (select unnest($values::double[]) as x)"
    return [row[0] for row in con.execute(sql, {"values": values}).fetchall()]


def numbers(scale: int, bound: float) -> st.SearchStrategy[list[float]]:
    """Return floats up to a bound of the product, many of them ties."""
    most = bound / scale * (1 - 1e-9)
    ties = st.integers(-(2**40), 2**40).map(lambda n: (n + 0.5) / scale)
    spread = st.builds(lambda sign, e, m: sign * min(2.0**e * (1 + m), most), st.sampled_from([-1, 1]),
                       st.integers(-60, int(np.log2(most))), st.floats(0, 0.999))  # fmt: skip
    return st.lists(st.one_of(st.floats(-most, most), ties, spread), min_size=1, max_size=200)


@pytest.mark.parametrize("scale", SCALES)
@given(data=st.data())
@limits(max_examples=60)
def test_doubles_round_half_to_even_as_python_does(
    engine: duckdb.DuckDBPyConnection, scale: int, data: st.DataObject
) -> None:
    values = data.draw(numbers(scale, rows.EXACT))
    found = rounded(engine, values, scale, wide=False)
    assert found == [round(v * scale) for v in values]
    assert all(isinstance(f, float) for f in found)


@pytest.mark.parametrize("scale", SCALES)
@given(data=st.data())
@limits(max_examples=60)
def test_whole_numbers_round_half_to_even_as_python_does(
    engine: duckdb.DuckDBPyConnection, scale: int, data: st.DataObject
) -> None:
    values = data.draw(numbers(scale, 2.0**63))
    found = rounded(engine, values, scale, wide=True)
    assert found == [round(v * scale) for v in values]
    assert all(isinstance(f, int) for f in found)


def test_ties_on_both_sides_of_every_power_of_two(engine: duckdb.DuckDBPyConnection) -> None:
    values = [s * (2.0**e + d) for e in range(63) for d in (-1, -0.5, 0, 0.5, 1, 1.5) for s in (-1, 1)]
    assert rounded(engine, values, 1, wide=True) == [round(v) for v in values]
    small = [v for v in values if abs(v) < rows.EXACT]
    assert rounded(engine, small, 1, wide=False) == [round(v) for v in small]


def test_a_scan_says_what_it_reads() -> None:
    """The defaults of a scan read everything: leaving a join out has to be asked for."""
    scan = Scan(experiment="e", arms=("A", "B"), unit="user", measures=())
    assert scan.facts == Facts(assignments=True, scores=True, repeated=True, twins=True)
    assert (scan.wide, scan.units, scan.since) == (False, None, None)
