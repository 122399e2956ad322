"""Small logs whose right answer is known by heart: one rule each."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from analysis_logs import MEAN, PROPORTION, SCORE, Record, assign, at, call, hours_us, score, spec_of, us
from analysis_store import StoreMaker

from abtest.analysis.judge import judge
from abtest.analysis.read import Evidence, read
from abtest.errors import SpecError, UnsupportedByEngine
from abtest.spec import Experiment


def run(
    maker: StoreMaker, records: list[Record], *metrics: Record, as_of_us: int | None = None, **fields: Any
) -> Evidence:
    return read(maker(records), Experiment.from_dict(spec_of(*metrics, **fields)), as_of_us=as_of_us)


def sums(ev: Evidence, j: int = 0) -> dict[tuple[str, int], tuple[int, int]]:
    """Return (arm, stage) -> (x, y) at the end."""
    out: dict[tuple[str, int], tuple[int, int]] = {}
    for row in ev.cells:
        x, y = out.get((row["arm"], row["stage"]), (0, 0))
        out[row["arm"], row["stage"]] = x + row[f"x{j}"], y + row[f"y{j}"]
    return out


# -- numbers that are none -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_request", ["last", "sum"])
@pytest.mark.parametrize(
    ("value", "bad"),
    [
        ("latency_ms / output_tokens", {"latency_ms": 1.0, "output_tokens": 0}),
        ("latency_ms / output_tokens", {"latency_ms": 0.0, "output_tokens": 0}),
        ("output_tokens % input_tokens", {"output_tokens": 3, "input_tokens": 0}),
        ("latency_ms / (output_tokens - 5)", {"latency_ms": 1.0, "output_tokens": 5}),
        ("TRY_CAST(attributes ->> 'r' AS DOUBLE)", {"attributes": {"r": "nan"}}),
        ("TRY_CAST(attributes ->> 'r' AS DOUBLE)", {"attributes": {"r": "inf"}}),
        ("TRY_CAST(attributes ->> 'r' AS DOUBLE)", {"attributes": {"r": "-Infinity"}}),
        ("TRY_CAST(attributes ->> 'r' AS DOUBLE)", {"attributes": {"r": "three"}}),
        ("TRY_CAST(attributes ->> 'r' AS DOUBLE)", {"attributes": {"r": None}}),
        ("TRY_CAST(attributes ->> 'r' AS DOUBLE)", {}),
    ],
)
def test_a_value_that_is_no_number_is_unknown(
    make_store: StoreMaker, per_request: str, value: str, bad: Record
) -> None:
    """One bad row must neither count nor stop the analysis of everything else."""
    good = {"latency_ms": 6.0, "output_tokens": 7, "input_tokens": 4, "attributes": {"r": "2"}}
    records = [call("1", "u1", "A", **bad), call("2", "u2", "A", **good), call("3", "u3", "B", **good)]
    ratio = {"name": "r", "kind": "ratio", "numerator": value, "denominator": "1", "better": "lower"}
    below = {"name": "b", "kind": "ratio", "numerator": "1", "denominator": value, "better": "lower"}
    quantile = {
        "name": "q",
        "kind": "quantile",
        "value": value,
        "q": 0.5,
        "better": "lower",
        "frozen": {"threshold": 0.5},
    }
    event = {**PROPORTION, "event": f"{value} > 0"}
    metrics = [{**MEAN, "value": value}, ratio, below, quantile, event]
    ev = run(make_store, records, *metrics, population={"per_request": per_request})
    assert sums(ev, 0)["A", 0] == sums(ev, 0)["B", 0]
    assert sums(ev, 0)["B", 0][1] == 1
    for j in (1, 2, 3):
        assert sums(ev, j)["A", 0] == sums(ev, j)["B", 0]
    assert [(r["arm"], r["n"]) for r in ev.histograms[3]] == [("A", 1), ("B", 1)]
    assert sums(ev, 4)["B", 0] == (1, 1)


def test_sums_too_large_for_exact_arithmetic_say_so(make_store: StoreMaker) -> None:
    records = [call(str(i), f"u{i}", "AB"[i % 2], input_tokens=2**62) for i in range(4)]
    with pytest.raises(UnsupportedByEngine, match="too large"):
        run(make_store, records, {**MEAN, "value": "input_tokens"})


@pytest.mark.parametrize(
    "event",
    [
        "latency_ms > 'abc'",
        "refused + 1 > 0",
        "latency_ms IN ('a')",
        "model ->> 'x' = 'y'",
        "COALESCE(latency_ms, 'x') = 'x'",
    ],
)
def test_an_expression_that_does_not_fit_its_columns_is_a_spec_error(make_store: StoreMaker, event: str) -> None:
    records = [call("1", "u1", "A", latency_ms=1.0, refused=True), call("2", "u2", "B", latency_ms=2.0)]
    with pytest.raises(SpecError) as caught:
        run(make_store, records, MEAN, {**PROPORTION, "name": "odd", "event": event})
    assert caught.value.key is not None
    assert "odd" in caught.value.key


def test_a_filter_that_does_not_fit_its_columns_is_a_spec_error(make_store: StoreMaker) -> None:
    with pytest.raises(SpecError) as caught:
        run(make_store, [call("1", "u1", "A", latency_ms=1.0)], MEAN, population={"where": "latency_ms > 'abc'"})
    assert caught.value.key == "population.where"


# -- who and when --------------------------------------------------------------------------------------------------


def test_the_newest_event_of_any_kind_is_the_default_watermark(make_store: StoreMaker) -> None:
    """People score answers hours after the last call: the score counts, and its correction later still."""
    calls = [call("1", "u1", "A"), call("2", "u2", "B")]
    scored = [score("s1", "1", 1.0, 5)]
    ev = run(make_store, [*calls, *scored], SCORE)
    assert (ev.as_of_us, sums(ev)["A", 0]) == (hours_us(5), (10**6, 1))
    fixed = {**scored[0], "value": 0.25, "updated_at": at(9)}
    ev = run(make_store, [*calls, *scored, fixed], SCORE)
    assert (ev.as_of_us, sums(ev)["A", 0]) == (hours_us(9), (250_000, 1))
    assert run(make_store, [*calls, assign("u3", "B", 7)]).as_of_us == hours_us(7)


def test_an_expression_may_name_the_logged_user_when_sessions_are_the_unit(make_store: StoreMaker) -> None:
    records = [call("1", "u1", "A", session_id="s1"), call("2", "u2", "B", session_id="s2")]
    for unit in ("user", "session", "request"):
        ev = run(make_store, records, {**PROPORTION, "event": "unit_id = 'u1'"}, unit=unit)
        assert sums(ev) == {("A", 0): (1, 1), ("B", 0): (0, 1)}


def test_a_contaminated_unit_that_comes_back_clean_counts_there(make_store: StoreMaker) -> None:
    """In the later stage it is a unit of its arm, and a returning one: the earlier stage saw it."""
    records = [call("1", "u1", "A", 0.5), call("2", "u1", "B", 0.6), call("3", "u1", "B", 30), call("4", "u2", "A", 30)]
    ev = run(make_store, records, allocation=[{"at": at(0), "share": 0.1}, {"at": at(24), "share": 0.5}])
    assert [(r["stage"], r["units"], r["contaminated"]) for r in ev.contamination] == [(0, 1, 1), (1, 2, 0)]
    assert {(r["arm"], r["stage"]): r["units"] for r in ev.cells} == {("A", 1): 1, ("B", 1): 1}
    assert (ev.units_of("A"), ev.units_of("B")) == (1, 1)
    assert {(r["arm"], r["stage"]): (r["new_units"], r["returning_units"]) for r in ev.assignment} == {
        ("A", 1): (1, 0), ("B", 1): (0, 1),
    }  # fmt: skip


@pytest.mark.parametrize(("per_request", "stage", "value"), [("last", 1, 2), ("first", 0, 1), ("sum", 1, 3)])
def test_a_request_belongs_to_one_stage(make_store: StoreMaker, per_request: str, stage: int, value: int) -> None:
    """Its attempts lie on both sides of a change of the split."""
    records = [call(f"i{n}", "u1", "A", 0.4 + n / 5, request_id="r", latency_ms=1.0 + n) for n in range(2)]
    rows = [{"at": at(0), "share": 0.1}, {"at": at(0.5), "share": 0.5}]
    ev = run(make_store, records, MEAN, population={"per_request": per_request}, allocation=rows)
    assert sums(ev) == {("A", stage): (value * 10**6, 1)}


def test_a_request_with_a_call_that_was_not_randomised_is_left_out_whole(make_store: StoreMaker) -> None:
    records = [
        assign("u1", "A", 0, reason="split"), assign("u1", "A", 0.5, reason="default"),
        call("1", "u1", None, 0.4, request_id="r", refused=True), call("2", "u1", None, 0.6, request_id="r", refused=True),
        call("3", "u2", "B", 0.6, refused=False),
    ]  # fmt: skip
    ev = run(make_store, records)
    assert sums(ev) == {("B", 0): (0, 1)}
    assert ev.population["not_randomised"] == 2


def test_control_first_treatment_later_is_one_cluster(make_store: StoreMaker) -> None:
    """The product of its two cells is there, so that its influence is summed before it is squared."""
    records = [call("1", "u", "A", 1, latency_ms=3.0), call("2", "u", "B", 30, latency_ms=5.0)]
    ev = run(make_store, records, MEAN, allocation=[{"at": at(0), "share": 0.1}, {"at": at(24), "share": 0.5}])
    cross = next(r for r in ev.pairs if r["stage_a"] != r["stage_b"])
    assert (cross["arm_a"], cross["arm_b"], cross["xx0"], cross["yy0"]) == ("A", "B", 15 * 10**12, 1)


def test_rows_outside_the_population(make_store: StoreMaker) -> None:
    records = [
        call("1", "u1", "A"), call("2", "u2", "B", exposed=False), call("3", "u3", "B", operation="embeddings"),
        call("4", "u4", "B", 0.5, experiment_id="other"), call("5", "u5", None), call("6", None, "A"), call("7", "u7", "ghost"),
        {**call("8", "u8", "A"), "experiment_id": None},
    ]  # fmt: skip
    ev = run(make_store, [{k: v for k, v in r.items() if v is not None} for r in records])
    counted = {k: v for k, v in ev.population.items() if not k.endswith("_us")}
    assert counted == {"calls": 4, "no_unit": 1, "no_arm": 1, "other_arm": 1, "not_randomised": 0}
    assert list(sums(ev)) == [("A", 0)]


def test_first_event_counts_once_and_where_it_happened(make_store: StoreMaker) -> None:
    """Three bad events of one unit over two stages are one; its later requests are no longer at risk."""
    records = [
        call("1", "u", "A", 0.5, refused=False), call("2", "u", "A", 1.5, refused=True), call("3", "u", "A", 2.5, refused=True),
        call("4", "u", "B", 30, refused=True), call("5", "v", "B", 30, refused=False),
    ]  # fmt: skip
    guarded = {**PROPORTION, "guardrail": {"margin": {"points": 0.01}}}
    ev = run(make_store, records, guarded, allocation=[{"at": at(0), "share": 0.1}, {"at": at(24), "share": 0.5}])
    hour = hours_us(0) // 3_600_000_000
    rows = {(r["arm"], r["stage"], r["bucket"] - hour): (r["event0"], r["risk0"]) for r in ev.first_events}
    assert rows == {
        ("A", 0, 0): (0, 1),
        ("A", 0, 1): (1, 1),
        ("B", 1, 30): (0, 1),
    }  # an hour that counts nothing has no row


# -- scores ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "other"),
    [
        ("request", {"operation": "embeddings"}),
        ("request", {"exposed": False}),
        ("request", {}),
        ("trace", {"operation": "embeddings"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("first", [True, False])
def test_a_score_of_a_request_finds_the_answer_that_counts(
    make_store: StoreMaker, other: Record, first: bool, how: str
) -> None:
    """A request that also embedded its question, was mirrored, or was tried twice: the score belongs to its answer."""
    keys = ("a", "z") if first else ("z", "a")
    records = [
        call(keys[0], "u1", "A", 0.5, request_id="r", trace_id="t", **other),
        call(keys[1], "u1", "A", 0.5001, request_id="r", trace_id="t"), call("b", "u2", "B", 0.5),
    ]  # fmt: skip
    target = {"request_id": "r", "variant": "A"} if how == "request" else {"trace_id": "t"}
    scored = {**score("s", None, 0.5), **target}
    del scored["interaction_id"]
    assert sums(run(make_store, [*records, scored], SCORE))["A", 0] == (500_000, 1)


def test_every_scorer_counts_once_and_the_latest_word_holds(make_store: StoreMaker) -> None:
    """Two people and a judge; the judge was asked again and failed, which takes its first answer back."""
    records = [
        call("1", "u1", "A", 0.5), call("2", "u2", "B", 0.5),
        score("s1", "1", 1.0, 1, scorer_id="amy"), score("s2", "1", 0.0, 2, scorer_id="bob"), score("s3", "1", 0.5, 3, scorer_id="bob"),
        score("s4", "2", 1.0, 1, scorer_kind="judge", scorer_id="j1"),
        score("s5", "2", None, 2, scorer_kind="judge", scorer_id="j1", error_type="timeout"),
        score("s6", "2", 0.25, 2, scorer_kind="judge", scorer_id="j2"), score("s7", "2", 9.0, 2, name="other"),
    ]  # fmt: skip
    ev = run(
        make_store,
        [{k: v for k, v in r.items() if v is not None} for r in records],
        SCORE,
        {**SCORE, "name": "j", "scorer_kind": "judge"},
    )
    assert sums(ev, 0) == {("A", 0): (1_500_000, 2), ("B", 0): (250_000, 1)}
    assert sums(ev, 1) == {("A", 0): (0, 0), ("B", 0): (250_000, 1)}


# -- the store is empty, or almost -------------------------------------------------------------------------------


def test_an_empty_store_has_no_evidence(make_store: StoreMaker) -> None:
    ev = read(make_store(), Experiment.from_dict(spec_of(PROPORTION, MEAN)))
    assert (ev.as_of_us, ev.looks, ev.sha256() == ev.sha256()) == (None, (), True)
    assert judge(ev, 0, "B").status in ("no_data", "insufficient")
    assert judge(ev, 0, "B").verdict == "unknown"


@pytest.mark.parametrize(
    "records",
    [
        [call("1", "u1", "A", refused=True)],
        [call("1", "u1", "A", refused=True), call("2", "u2", "B", refused=False)],
        [call("1", "u1", None), call("2", None, "B")],
        [score("s", "nobody", 1.0), assign("u", "A")],
        [call(str(i), f"u{i}", "A", refused=False) for i in range(40)],
    ],
    ids=["one arm", "one unit an arm", "unresolved", "no calls", "control only"],
)
def test_too_little_is_never_an_answer(make_store: StoreMaker, records: list[Record]) -> None:
    cleaned = [{k: v for k, v in r.items() if v is not None} for r in records]
    guardrail = {"guardrail": {"margin": {"points": 0.01}}}
    ev = run(make_store, cleaned, {**PROPORTION, **guardrail}, MEAN, SCORE, allocation=[{"at": at(0), "share": 0.5}])
    for j in range(3):
        result = judge(ev, j, "B")
        assert result.status != "ok"
        assert result.verdict == "unknown"
        assert (result.pvalue, result.harm_upper, result.superior) == (None, None, None)


# -- frozen constants ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1e9])
def test_warm_up_is_the_first_units_of_control(make_store: StoreMaker, scale: float) -> None:
    """Baseline and clustered variance of exactly those units, up to the moment when the 30th arrived."""
    rng = np.random.default_rng(1)
    records, values = [], []
    for n in range(300):
        unit, moment = f"u{int(rng.integers(0, 90))}", float(np.round(rng.uniform(0, 20), 4))
        value = round(float(rng.normal(50, 9)) + scale, 3)
        records.append(
            call(
                f"i{n}",
                unit,
                "A" if int(unit[1:]) % 3 else "B",
                moment,
                latency_ms=value,
                refused=bool(value > scale + 55),
            )
        )
        values.append((us(records[-1]["ts"]), unit, value, records[-1]["variant"]))
    control = sorted(v for v in values if v[3] == "A")
    seen: list[str] = []
    for _, unit, *_ in control:
        if unit not in seen:
            seen.append(unit)
    cutoff = next(t for t, unit, *_ in control if unit == seen[29])
    warm = [(unit, value) for t, unit, value, _ in control if t <= cutoff]
    ev = run(
        make_store, records, MEAN, PROPORTION, {**MEAN, "name": "q", "kind": "quantile", "q": 0.5}, warm_up_units=30
    )
    units = {u: np.array([v for w, v in warm if w == u]) for u in seen[:30]}
    for name, of in (("m", lambda v: v), ("p", lambda v: v > scale + 55)):
        x, y = (
            np.array([of(v).sum() for v in units.values()], dtype=np.longdouble),
            np.array([len(v) for v in units.values()]),
        )
        baseline = x.sum() / y.sum()
        assert ev.frozen[name]["baseline"] == pytest.approx(float(baseline), rel=1e-12)
        assert ev.frozen[name]["variance"] == pytest.approx(float(((x - baseline * y) ** 2).sum() / y.sum()), rel=1e-6)
    assert ev.frozen["q"]["threshold"] == pytest.approx(float(np.median([v for _, v in warm])), rel=0.02)
    stored = (
        make_store.stores[-1]
        .connection.execute("select distinct metric, watermark_us from frozen order by metric")
        .fetchall()
    )
    assert stored == [("m", cutoff), ("p", cutoff), ("q", cutoff)]


def test_the_spec_freezes_before_the_logs_do(make_store: StoreMaker) -> None:
    records = [call(str(i), f"u{i}", "A", i / 40, latency_ms=float(i)) for i in range(40)]
    ev = run(make_store, records, {**MEAN, "frozen": {"variance": 4.0}}, warm_up_units=30)
    assert ev.frozen["m"]["variance"] == 4.0
    assert ev.frozen["m"]["baseline"] == pytest.approx(14.5)


def test_histogram_of_zero_and_of_nothing(make_store: StoreMaker) -> None:
    records = [call("1", "u1", "A", latency_ms=0.0), call("2", "u2", "B", latency_ms=math.e), call("3", "u3", "B")]
    ev = run(
        make_store,
        records,
        {
            "name": "q",
            "kind": "quantile",
            "value": "latency_ms",
            "q": 0.5,
            "better": "lower",
            "frozen": {"threshold": 1.0},
        },
    )
    assert [(r["arm"], r["value_bucket"], r["n"]) for r in ev.histograms[0]] == [("A", -1_000_000, 1), ("B", 200, 1)]
    assert sums(ev) == {("A", 0): (0, 1), ("B", 0): (1, 1)}
