"""CUPED from the log file to the verdict: the history that SQL finds, what it may not see, and what is done with it.

The second opinion on the history: a unit's own calls before it met the experiment, read by the plain Python oracle as if they
were an experiment of their own with one arm and one stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from analysis_logs import HOUR_US, METRICS, Record, assign, at, call, hours_us, random_case, score, spec_of, us
from analysis_oracle import GENERATION, Oracle
from analysis_store import StoreMaker
from score_oracle import Units, dense_score

from abtest.analysis.analyze import analyze
from abtest.analysis.judge import judge
from abtest.analysis.read import Evidence, read
from abtest.errors import SpecError
from abtest.results import MetricResult
from abtest.rollout.decide import decide
from abtest.spec import Experiment
from abtest.store.store import Store

LETTERS = "xycd"
PAST = [m if m["kind"] == "quantile" else {**m, "covariate": "pre"} for m in METRICS]
MEAN: Record = {"name": "m", "kind": "mean", "value": "latency_ms", "better": "lower", "covariate": "pre",
                "guardrail": {"margin": {"relative": 0.1}}}  # fmt: skip
PLAIN: Record = {k: v for k, v in MEAN.items() if k != "covariate"}
COVARIATES = [j for j, m in enumerate(PAST) if "covariate" in m]
Past = dict[str, list[tuple[int, int]]]
NOTHING = [(0, 0)] * len(PAST)
"""The history of a unit without one: c and d of every metric."""


# -- the history against plain Python ------------------------------------------------------------------------------


def with_past(seed: int) -> tuple[Record, list[Record], int]:
    """Return a random experiment whose units were there before: calls of no or of another experiment, and their scores.

    Scores name their call: which call another key means is found at ingest, among all calls, and tested there.
    """
    case, rng = random_case(seed), np.random.default_rng(1000 + seed)
    records = [r for r in case.records if r.get("type") != "score" or "interaction_id" in r]
    sources = [r for r in records if "type" not in r]
    for n in range(200):
        old = sources[int(rng.integers(len(sources)))]
        key, hours = f"past{n}", float(np.round(rng.uniform(-40, 12), 2))
        request = (
            None if rng.random() < 0.3 else f"r{int(rng.integers(60))}" if rng.random() < 0.5 else old.get("request_id")
        )
        foreign = {"experiment_id": "other", "variant": "B"} if rng.random() < 0.5 else {}
        kept = {
            k: v
            for k, v in old.items()
            if k not in ("experiment_id", "variant", "trace_id", "span_id", "provider_response_id")
        }
        new = {**kept, **foreign, "interaction_id": key, "ts": at(hours), "request_id": request}
        records.append({k: v for k, v in new.items() if v is not None})
        if rng.random() < 0.6:
            moment = hours + float(rng.choice([0.1, 3.0, 30.0]))
            name, kind = str(rng.choice(["help", "taste"])), str(rng.choice(["judge", "human"]))
            judged = score(f"ps{n}", key, float(np.round(rng.uniform(-1, 1), 6)), moment, name, scorer_kind=kind)
            records.append(judged)
            if rng.random() < 0.4:
                later = at(moment + float(rng.choice([0.1, 5.0])))
                records.append({**judged, "value": 0.125, "updated_at": later})
    spec = {**case.spec, "metrics": PAST}
    return spec, records, case.end_us


def history(spec: Record, records: list[Record], oracle: Oracle) -> dict[str, list[tuple[int, int]]]:
    """Return unit -> (c, d) of every metric, for units that have calls before they met the experiment."""
    calls = [r for r in records if "type" not in r]
    met: dict[str, int] = {}

    def meets(unit: str | None, moment: int) -> None:
        if unit is not None and moment <= oracle.as_of:
            met[unit] = min(met.get(unit, moment), moment)

    for c in oracle.calls:
        meets(c.unit, c.ts)
    for r in calls:
        if r.get("experiment_id") == "e" and r.get("variant") is not None and r.get("exposed", True):
            meets(oracle._unit(r), us(r["ts"]))
    for r in records:
        if r.get("type") == "assignment" and r["experiment_id"] == "e":
            meets(r["unit_id"], us(r["ts"]))
    bare = {k: v for k, v in spec.items() if k not in ("allocation", "start", "end")}
    found = {}
    for unit in {c.unit for c in oracle.calls if c.unit is not None}:
        own = [
            {**r, "experiment_id": "e", "variant": "A"} for r in calls
            if oracle._unit(r) == unit and us(r["ts"]) < met[unit] and r.get("operation") in GENERATION
        ]  # fmt: skip
        keys = {r["interaction_id"] for r in own}
        scores = [r for r in records if r.get("type") == "score" and r["interaction_id"] in keys]
        alone = Oracle(bare, [*own, *scores], met[unit] - 1)
        sums = [alone.unit_sums(j, 10**9) for j in range(len(spec["metrics"]))]
        if any(s for s in sums):
            found[unit] = [next(iter(s.values())) if s else (0, 0) for s in sums]
    return found


def gained(rows: Any, look: int, key: tuple[str, ...], columns: list[str]) -> dict[Any, tuple[int, ...]]:
    out: dict[Any, list[int]] = {}
    for row in rows:
        if row["look"] <= look:
            sums = out.setdefault(tuple(row[k] for k in key), [0] * len(columns))
            for i, column in enumerate(columns):
                sums[i] += row[column]
    return {k: tuple(v) for k, v in out.items()}


@pytest.mark.parametrize("seed", [0, 2, 5, 11, 20, 27, 33, 36])
def test_cells_and_pairs_equal_plain_loops(make_store: StoreMaker, seed: int) -> None:
    spec, records, end = with_past(seed)
    as_of = end if seed % 2 == 0 else hours_us(20)
    half = len(records) // 2
    whole = read(make_store(records[:half], records[half:]), Experiment.from_dict(spec), as_of_us=as_of, series=True)
    oracle = Oracle(spec, records, as_of)
    past = history(spec, records, oracle)
    assert whole.growth
    assert (
        len({(j, u) for u, row in past.items() for j, cd in enumerate(row) if cd != (0, 0)}) > 20
    )  # or it tests nothing
    looks = 0
    for ev, hours in ((whole, None), (whole.growth.evidence, whole.growth.grid_us // HOUR_US)):
        oracle.grid_hours = hours
        for look in sorted({ev.looks[0], ev.looks[len(ev.looks) // 2], ev.looks[-1]}):
            looks += 1
            for j, metric in enumerate(PAST):
                if metric["kind"] != "quantile":
                    check_look(ev, oracle, past, look, j)
    assert looks > 2


def check_look(ev: Evidence, oracle: Oracle, past: Past, look: int, j: int) -> None:
    """Compare the sums and products of one metric at one look."""
    units: dict[str, list[tuple[tuple[str, int], tuple[int, ...]]]] = {}
    for (unit, arm, stage), (x, y) in oracle.unit_sums(j, look).items():
        units.setdefault(unit, []).append(((arm, stage), (x, y, *past.get(unit, NOTHING)[j])))
    cells: dict[Any, list[int]] = {}
    pairs: dict[Any, list[int]] = {}
    for rows in units.values():
        for p, a in rows:
            add(cells, p, a)
            for q, b in rows:
                if p == q or p[1] < q[1]:
                    add(pairs, (*p, *q), [v * w for v in a for w in b])
    found = gained(ev.cells, look, ("arm", "stage"), [f"{a}{j}" for a in LETTERS])
    assert found == {k: tuple(v) for k, v in cells.items()}, PAST[j]["name"]
    products = [f"{a}{b}{j}" for a in LETTERS for b in LETTERS]
    found = gained(ev.pairs, look, ("arm_a", "stage_a", "arm_b", "stage_b"), products)
    assert found == {k: tuple(v) for k, v in pairs.items()}, PAST[j]["name"]


def add(sums: dict[Any, list[int]], key: Any, values: Sequence[int]) -> None:
    """Add a row to the sums of a key."""
    total = sums.setdefault(key, [0] * len(values))
    total[:] = [s + v for s, v in zip(total, values, strict=True)]


@pytest.mark.parametrize("seed", [0, 2, 5, 11, 20, 27, 33, 36])
def test_the_balance_of_histories_equals_plain_loops(make_store: StoreMaker, seed: int) -> None:
    """A unit's history counts once in each of its cells, in the hour in which the unit arrived there."""
    spec, records, end = with_past(seed)
    as_of = end if seed % 2 == 0 else hours_us(20)
    ev = read(make_store(records), Experiment.from_dict(spec), as_of_us=as_of)
    oracle = Oracle(spec, records, as_of)
    past = history(spec, records, oracle)
    arrived: dict[str, dict[tuple[str, int], int]] = {}
    for c in oracle.clean:
        cells = arrived.setdefault(str(c.unit), {})
        cells[str(c.arm), c.stage] = min(c.hour, cells.get((str(c.arm), c.stage), c.hour))
    wanted: dict[Any, list[int]] = {}
    for unit, cells in arrived.items():
        known = [past.get(unit, NOTHING)[j] for j in COVARIATES]
        products = [v * w for cd in known for v in cd for w in cd]
        for p, hour in cells.items():
            add(wanted, (*p, *p, hour), [1, *(v for cd in known for v in cd), *products])
            for q, later in cells.items():
                if p[1] < q[1]:
                    add(wanted, (*p, *q, later), [1, *([0] * 2 * len(known)), *products])
    columns = ["units", *(f"{a}{j}" for j in COVARIATES for a in "cd")]
    columns += [f"{a}{b}{j}" for j in COVARIATES for a in "cd" for b in "cd"]
    keys = ("arm_a", "stage_a", "arm_b", "stage_b", "bucket")
    found = {tuple(row[k] for k in keys): [row[c] for c in columns] for row in ev.history}
    assert len(found) == len(ev.history)
    assert found == wanted


# -- what the history may not see ------------------------------------------------------------------------------------


def past_of_the_unit(store: Store, metric: Record, **fields: Any) -> tuple[int, int]:
    """Return c and d of the only unit with a past: the same in each of its cells, once."""
    ev = read(store, Experiment.from_dict(spec_of(metric, **fields)))
    cells: dict[tuple[str, int], list[int]] = {}
    for row in ev.cells:
        cell = cells.setdefault((row["arm"], row["stage"]), [0, 0])
        cell[:] = [cell[0] + row["c0"], cell[1] + row["d0"]]
    (found,) = {tuple(cell) for cell in cells.values()}
    return found[0], found[1]


def old(key: str, unit: str, hours: float, latency: float, **fields: Any) -> Record:
    """Return a call of no experiment."""
    return {**call(key, unit, None, hours, latency_ms=latency, **fields), "experiment_id": None}


def test_only_what_came_strictly_before_counts(make_store: StoreMaker) -> None:
    records = [
        old("1", "u", -5, 100.0), old("2", "u", 0.999999, 30.0), old("3", "v", -5, 7000.0),
        {**old("4", "u", -3, 1000.0), "experiment_id": "other", "variant": "B"},
        call("5", "u", "B", 1.0, latency_ms=9e5), old("6", "u", 1.0, 8e5), old("7", "u", 2.0, 8e5),
        {**old("8", "u", 3, 8e5), "experiment_id": "other", "variant": "B"}, call("9", "u", "B", 4.0, latency_ms=9e5),
        old("10", "u", -2, 5e5, exposed=False), old("11", "u", -2, 5e5, operation="embeddings"), old("12", "u", -1, 5e5, surface="search"),
    ]  # fmt: skip
    where = {"population": {"where": "COALESCE(surface, '') <> 'search'"}}
    assert past_of_the_unit(make_store(records), MEAN, **where) == (1_130_000_000, 3)


@pytest.mark.parametrize(
    ("first", "why"),
    [
        ([call("x", "u", "A", 0.5)], "an earlier stage in the other arm"),
        ([assign("u", "B", 0.5)], "the moment of the assignment"),
        ([call("x", "u", "B", 0.5, request_id="r")], "an attempt that does not stand for its request"),
        ([call("x", "u", "B", -9.5)], "a call before the start of the spec"),
        ([assign("u", "B", -9.5)], "an assignment before the start of the spec"),
        ([call("x", "u", "ghost", 0.5)], "an arm that the spec does not name"),
    ],
)  # fmt: skip
def test_the_first_exposure_is_the_first_in_any_arm_and_stage(
    make_store: StoreMaker, first: list[Record], why: str
) -> None:
    """The log has a call an hour before `first` and one after it; only the earlier one is history."""
    moment = -9.5 if "start" in why else 0.5
    records = [old("1", "u", moment - 1, 100.0), old("2", "u", moment + 0.25, 900.0), *first,
               call("5", "u", "B", 3.0, latency_ms=5.0, request_id="r")]  # fmt: skip
    spec = (
        {"start": at(-3)}
        if "start" in why
        else {"allocation": [{"at": at(0), "share": 0.2}, {"at": at(1), "share": 0.5}]}
    )
    assert past_of_the_unit(make_store(records), MEAN, **spec) == (100_000_000, 1)


def test_a_score_counts_as_it_stood_before_the_exposure(make_store: StoreMaker) -> None:
    help_score = {"name": "s", "kind": "mean", "score": "help", "better": "higher", "covariate": "pre"}
    late = score("s2", "2", 1.0, 3.0)
    fixed = score("s1", "1", 0.25, -4.0)
    records = [
        old("1", "u", -5, 1.0), old("2", "u", -5, 1.0), call("3", "u", "B", 1.0), score("s3", "3", 1.0, 2.0),
        fixed, {**fixed, "value": 0.5, "updated_at": at(-3)}, {**fixed, "value": 1.0, "updated_at": at(2)}, late,
    ]  # fmt: skip
    assert past_of_the_unit(make_store(records), help_score) == (500_000, 1)


def test_what_happens_later_cannot_change_the_history(make_store: StoreMaker) -> None:
    """Everything after the exposure is made a thousand times larger: c, d and their own products stay."""
    records = traffic(3, units=80)
    louder = [
        {**r, "latency_ms": round(r["latency_ms"] * 1000, 3)} if us(r["ts"]) >= us(at(0)) else r for r in records
    ]  # fmt: skip
    found = []
    for log in (records, louder):
        ev = read(make_store(log), Experiment.from_dict(spec_of(MEAN)))
        found.append(
            [[r[n] for n in ("c0", "d0")] for r in ev.cells] + [[r[n] for n in ("cc0", "cd0", "dd0")] for r in ev.pairs]
        )
    assert found[0] == found[1]


def test_a_replay_does_not_see_a_past_that_was_loaded_later(make_store: StoreMaker) -> None:
    store = make_store([call("5", "u", "B", 1.0, latency_ms=5.0)], [old("1", "u", -5, 100.0)])
    experiment = Experiment.from_dict(spec_of(MEAN))
    assert [read(store, experiment, max_file=n).cells[0]["d0"] for n in (1, 2)] == [0, 1]


# -- the verdict -----------------------------------------------------------------------------------------------------

STAGES = {"allocation": [{"at": at(0), "share": 0.2}, {"at": at(20), "share": 0.5}]}


def traffic(
    seed: int, *, units: int = 700, harm: float = 0.0, moved: float = 1.0, past: bool = True, since: float = 0.0
) -> list[Record]:
    """Users with a level of their own, a past of up to four calls, two stages with nested hashes.

    `harm` is the relative harm of B, `moved` what B's users' past is multiplied by, `since` when users begin to come.
    """
    rng = np.random.default_rng(seed)
    records = []
    for u in range(units):
        h, own, name = rng.random(), float(np.exp(rng.normal(0, 0.3))), f"u{seed}-{u}"
        moments = np.round(np.sort(rng.uniform(since, 40, int(rng.integers(1, 4)))), 3)
        for n, hours in enumerate(moments):
            arm = "B" if h < (0.2 if hours < 20 else 0.5) else "A"
            level = 100 * own * (1 + harm * (arm == "B"))
            records.append(
                call(
                    f"c{name}-{n}",
                    name,
                    arm,
                    float(hours),
                    latency_ms=round(float(level * np.exp(rng.normal(0, 0.15))), 3),
                )
            )
        for n in range(int(rng.integers(0, 5)) if past else 0):
            value = 100 * own * (moved if h < 0.35 else 1.0) * np.exp(rng.normal(0, 0.15))
            records.append(old(f"p{name}-{n}", name, -float(rng.uniform(1, 99)), round(float(value), 3)))
    return records


def judged(store: Store, *metrics: Record, **fields: Any) -> tuple[Evidence, MetricResult]:
    ev = read(store, Experiment.from_dict(spec_of(*metrics, **{**STAGES, **fields})))
    return ev, judge(ev, 0, "B")


def dense_rows(records: list[Record]) -> tuple[np.ndarray, ...]:
    """Return arm, stage, unit, x, y, c, d by counting."""
    cells: dict[tuple[str, int, int], list[float]] = {}
    past: dict[str, list[float]] = {}
    for r in records:
        if r["experiment_id"] is None:
            into = past.setdefault(r["unit_id"], [0.0, 0.0])
        else:
            stage = int(us(r["ts"]) >= us(at(20)))
            into = cells.setdefault((r["unit_id"], int(r["variant"] == "B"), stage), [0.0, 0.0])
        into[0] += r["latency_ms"]
        into[1] += 1
    rows = [(a, k, u, x, y, *past.get(u, (0.0, 0.0))) for (u, a, k), (x, y) in cells.items()]
    return tuple(np.array(c) for c in zip(*rows, strict=True))


def test_the_verdict_is_that_of_the_adjusted_units(make_store: StoreMaker) -> None:
    records = traffic(1, harm=0.3)
    ev, result = judged(make_store(records), MEAN)
    _, plain = judged(make_store(records), PLAIN)
    arm, stage, unit, x, y, c, d = dense_rows(records)
    z, ez, zz = np.zeros(len(x)), 0.0, 0.0
    for k in (0, 1):
        here = stage == k
        z[here] = c[here] - c[here].sum() / d[here].sum() * d[here]
        for a in (0, 1):
            cell = here & (arm == a)
            ez += float((x[cell] - x[cell].sum() / y[cell].sum() * y[cell]) @ z[cell])
            zz += float(((z[cell] - z[cell].mean()) ** 2).sum())
    theta, shares = ez / zz, np.array([0.2, 0.5])
    wanted = dense_score(Units(arm, stage, unit, x - theta * z, y, 2), shares)
    before = dense_score(Units(arm, stage, unit, x, y, 2), shares)
    assert result.estimate == pytest.approx(wanted.score / wanted.weight, rel=1e-9)
    assert result.std_error == pytest.approx(wanted.v**0.5 / wanted.weight, rel=1e-9)
    cuped = result.details["cuped"]
    assert cuped["theta"] == pytest.approx(theta, rel=1e-9)
    assert cuped["variance_reduction"] == pytest.approx(1 - wanted.v / before.v, rel=1e-9)
    assert cuped["variance_reduction"] > 0.2
    assert result.note == f"CUPED: variance reduced by {round(100 * cuped['variance_reduction'])} %"
    assert plain.estimate == pytest.approx(before.score / before.weight, rel=1e-9)
    assert plain.std_error is not None
    assert result.std_error is not None
    assert result.std_error < 0.9 * plain.std_error
    assert (result.method, result.verdict, result.status) == ("normal_mixture", "harm", "ok")
    # The tuning is not touched: the same constants, frozen from the same warm-up.
    assert ev.frozen["m"] == judged(make_store(records), PLAIN)[0].frozen["m"]


def test_other_metrics_do_not_notice(make_store: StoreMaker) -> None:
    records = traffic(2, units=200)
    other = {**PLAIN, "name": "other"}
    both, alone = make_store(records), make_store(records)
    ev, _ = judged(both, MEAN, other)
    without = judge(judged(alone, PLAIN, other)[0], 1, "B")
    assert judge(ev, 1, "B").to_dict() == without.to_dict()
    assert "cuped" not in without.details
    assert not any(key.startswith(("c1", "d1")) for key in ev.cells[0])


@pytest.mark.parametrize(
    ("records", "words", "status"),
    [
        (traffic(4, units=150, past=False), "no user has a history", "no_history"),
        (
            [r if r["experiment_id"] else {**r, "latency_ms": 100.0} for r in traffic(4, units=150)],
            "does not vary",
            "no_variance",
        ),
    ],
    ids=["no history", "constant history"],
)
def test_without_a_useful_history_the_result_is_unadjusted(
    make_store: StoreMaker, records: list[Record], words: str, status: str
) -> None:
    _, result = judged(make_store(records), MEAN)
    _, plain = judged(make_store(records), PLAIN)
    assert words in result.note
    assert result.details["cuped"] == {"status": status}
    assert (result.estimate, result.std_error, result.verdict) == (plain.estimate, plain.std_error, plain.verdict)


def test_a_covariate_that_moved_is_off_and_stays_off(make_store: StoreMaker) -> None:
    """B's users were slower before the experiment already. Later users are balanced, and many: it stays off."""
    store = make_store(traffic(5, moved=1.6))
    experiment = Experiment.from_dict(spec_of(MEAN, **STAGES))
    first = analyze(store, experiment)
    result = first.metric("m")
    assert "CUPED is off" in result.note
    assert result.details["cuped"] == {"status": "off"}
    _, plain = judged(make_store(traffic(5, moved=1.6)), PLAIN)
    assert (result.estimate, result.std_error) == (plain.estimate, plain.std_error)
    assert store.frozen("e", 1)["m"]["covariate_off"] == 1.0
    make_store.add(store, traffic(6, units=4000, since=30.0))
    later = analyze(store, experiment).metric("m")
    assert later.details["cuped"] == {"status": "off"}
    rows = store.engine.rows("select watermark_us, source from frozen where name = 'covariate_off'")
    assert len(rows) == 1
    assert "history differs between A and B" in rows[0]["source"]
    assert rows[0]["watermark_us"] % 3_600_000_000 == 0
    # Before the hour when it showed, the result is what it was then; and another revision starts anew.
    early = analyze(store, experiment, as_of_us=int(rows[0]["watermark_us"]) - 3_600_000_000)
    assert early.metric("m").details.get("cuped", {}).get("status") != "off"
    assert "covariate_off" not in store.frozen("e", 2).get("m", {})


def test_off_is_read_from_the_store_and_honoured_by_watermark(make_store: StoreMaker) -> None:
    store = make_store(traffic(1))
    experiment = Experiment.from_dict(spec_of(MEAN, **STAGES))
    on = analyze(store, experiment)
    assert on.metric("m").details["cuped"]["status"] == "ok"
    store.freeze("e", 1, "m", {"covariate_off": 1.0}, source="by hand", watermark_us=hours_us(35), file_id=1)
    assert analyze(store, experiment).metric("m").details["cuped"]["status"] == "off"
    assert analyze(store, experiment, as_of_us=hours_us(34)).metric("m").details["cuped"]["status"] == "ok"
    assert analyze(store, experiment).policy_sha256 != on.policy_sha256


def test_the_same_logs_give_the_same_decision(make_store: StoreMaker) -> None:
    """One file or three, looked at before or not: the same evidence, policy and result; and a second run the same id."""
    for records in (traffic(7, harm=0.2), traffic(5, moved=1.6)):
        experiment = Experiment.from_dict(spec_of(MEAN, **STAGES))
        once, often = make_store(records), make_store(records[::3], records[1::3], records[2::3])
        for hours in (5, 17.5, 30):
            analyze(often, experiment, as_of_us=hours_us(hours))
        one, other = analyze(once, experiment), analyze(often, experiment)
        assert (one.evidence_sha256, one.policy_sha256) == (other.evidence_sha256, other.policy_sha256)
        assert one.metric("m").to_dict() == other.metric("m").to_dict()
        assert len({decide(once, experiment, dry_run=True).decision_id for _ in range(2)}) == 1


def test_a_store_that_cannot_be_written_says_the_same(make_store: StoreMaker) -> None:
    store = make_store(traffic(5, moved=1.6))
    experiment = Experiment.from_dict(spec_of(MEAN, **STAGES))
    store.close()
    with Store(store.path, read_only=True) as reader:
        found = analyze(reader, experiment).metric("m")
        assert reader.frozen("e", 1) == {}
    assert found.details["cuped"] == {"status": "off"}


# -- the spec --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", PAST, ids=lambda m: m["name"])
def test_every_kind_but_the_quantile_takes_a_covariate(metric: Record) -> None:
    measure = Experiment.from_dict(spec_of(metric)).metrics[0].measure()
    assert measure.covariate == (metric["kind"] != "quantile")


def test_wrong_covariates_are_spec_errors() -> None:
    quantile = next(m for m in METRICS if m["kind"] == "quantile")
    with pytest.raises(SpecError, match="a quantile takes none"):
        Experiment.from_dict(spec_of({**quantile, "covariate": "pre"}))
    with pytest.raises(SpecError, match="'post' is not possible"):
        Experiment.from_dict(spec_of({**MEAN, "covariate": "post"}))
