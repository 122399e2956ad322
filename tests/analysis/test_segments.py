"""Levels of a segment: sums equal to plain loops, results that decide nothing, guardrails that do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from analysis_logs import Case, Record, call, hours_us, random_case, spec_of
from analysis_oracle import Oracle
from analysis_store import StoreMaker

from abtest.analysis.analyze import analyze, analyze_evidence
from abtest.analysis.evidence import Evidence
from abtest.analysis.judge import judge, judge_all
from abtest.analysis.read import read
from abtest.analysis.segments import interaction
from abtest.display.segments import segment_table, worst_first
from abtest.errors import SpecError
from abtest.report import Entry, markdown
from abtest.report.assemble import build
from abtest.report.model import Pictures
from abtest.results import MetricResult
from abtest.rollout.decide import decide_with_analysis
from abtest.rollout.rules import Facts, conclude
from abtest.spec import Experiment

SEGMENTS: list[Record] = [
    {"by": "surface"},
    {"by": "attributes ->> 'tier'", "max_levels": 1},
    {"name": "busy", "by": "CASE WHEN turn > 1 THEN 'later' ELSE environment END"},
]
IN_PYTHON: dict[str, Callable[[Record], Any]] = {
    "surface": lambda r: r.get("surface"),
    "tier": lambda r: (r.get("attributes") or {}).get("tier"),
    "busy": lambda r: "later" if (r.get("turn") or 0) > 1 else r.get("environment"),
}


def read_case(maker: StoreMaker, seed: int, segments: list[Record]) -> tuple[Case, Evidence, Oracle]:
    case = random_case(seed)
    as_of = case.end_us if seed % 2 == 0 else hours_us(9 + seed / 3)
    store = maker(case.records)
    spec = {**case.spec, "segments": segments}
    return (
        case,
        read(store, Experiment.from_dict(spec), as_of_us=as_of, segments="all"),
        Oracle(spec, case.records, as_of),
    )


def level_of(key: str, record: Record, shown: set[str]) -> str:
    value = IN_PYTHON[key](record)
    level = "(none)" if value is None else str(value)
    return level if level in shown else "(other)"


@pytest.mark.parametrize("seed", [0, 5, 11, 22])
def test_levels_are_what_plain_loops_add_up(make_store: StoreMaker, seed: int) -> None:
    _, whole, oracle = read_case(make_store, seed, SEGMENTS)
    last = max(whole.looks, default=0)
    assert max(len(levels.evidence) for levels in whole.segments.values()) > 1
    for key, levels in whole.segments.items():
        for level, ev in levels.evidence.items():
            mine = copy.copy(oracle)
            mine.clean = [c for c in oracle.clean if level_of(key, c.record, set(levels.evidence)) == level]
            for j in range(len(whole.experiment.metrics)):
                assert sums_of(ev, j) == mine.cells(j, last), (key, level, j)
                assert pairs_of(ev, j) == {(*p, *q): v for (p, q), v in mine.pairs(j, last).items() if any(v)}
            for j, rows in ev.histograms.items():
                assert {(r["arm"], r["stage"], r["value_bucket"]): r["n"] for r in rows} == dict(mine.histogram(j))
            for arm in whole.experiment.arm_names:
                assert ev.units_of(arm) == len({c.unit for c in mine.clean if c.arm == arm})
        seen: dict[Any, set[str]] = {}
        for c in oracle.clean:
            seen.setdefault(c.unit, set()).add(level_of(key, c.record, set(levels.evidence)))
        assert levels.shared_units == sum(len(s) > 1 for s in seen.values())


def sums_of(ev: Evidence, j: int) -> dict[Any, tuple[int, int, int]]:
    out: dict[Any, list[int]] = {}
    for row in ev.cells:
        sums = out.setdefault((row["arm"], row["stage"]), [0, 0, 0])
        for i, name in enumerate(("units", f"x{j}", f"y{j}")):
            sums[i] += row[name]
    return {k: (v[0], v[1], v[2]) for k, v in out.items()}


def pairs_of(ev: Evidence, j: int) -> dict[Any, tuple[int, ...]]:
    names = [f"{n}{j}" for n in ("xx", "xy", "yx", "yy")]
    found = {(r["arm_a"], r["stage_a"], r["arm_b"], r["stage_b"]): tuple(r[n] for n in names) for r in ev.pairs}
    return {k: v for k, v in found.items() if any(v)}


@pytest.mark.parametrize("seed", [6, 25])
def test_levels_add_up_to_the_whole(make_store: StoreMaker, seed: int) -> None:
    """Every number of a row is in exactly one level; units may be in several, so they add up to no less."""
    _, whole, _ = read_case(make_store, seed, SEGMENTS)
    experiment = whole.experiment
    capped = [m.measure().per_unit_total for m in experiment.metrics]
    for levels in whole.segments.values():
        parts = levels.evidence.values()
        for column in ("requests", "calls"):
            assert sum(r[column] for e in parts for r in e.cells) == sum(r[column] for r in whole.cells)
        for j in range(len(experiment.metrics)):
            if not capped[j]:
                for name in (f"x{j}", f"y{j}"):
                    assert sum(r[name] for e in parts for r in e.cells) == sum(r[name] for r in whole.cells)
        units = sum(r["units"] for e in parts for r in e.cells)
        assert units >= sum(r["units"] for r in whole.cells)


def test_rare_levels_are_one_by_units_then_name(make_store: StoreMaker) -> None:
    users = {"b": 5, "c": 5, "a": 5, "rare": 1, "rarer": 1}
    records = [
        call(f"{s}{n}{arm}", f"u{s}{n}{arm}", arm, refused=False, surface=s)
        for s, count in users.items() for n in range(count) for arm in "AB"
    ]  # fmt: skip
    # One user in both rare levels is one unit of (other).
    records.append(call("again", "urare0A", "A", refused=True, surface="rarer"))
    store = make_store(records)
    spec = spec_of(segments=[{"by": "surface", "max_levels": 2}])
    levels = read(store, Experiment.from_dict(spec), segments="all").segments["surface"]
    assert list(levels.evidence) == ["a", "b", "(other)"]
    assert (levels.found, levels.shared_units) == (5, 0)
    other = sums_of(levels.evidence["(other)"], 0)
    assert other["A", 0] == (7, 1, 8)
    assert pairs_of(levels.evidence["(other)"], 0)["A", 0, "A", 0] == (1, 2, 2, 10)
    guarded = {**spec["metrics"][0], "guardrail": {"margin": {"points": 0.05}, "segments": ["surface=rare"]}}
    spec = {**spec, "metrics": [guarded]}
    found = read(store, Experiment.from_dict(spec), segments="all").segments["surface"].evidence
    assert list(found) == ["a", "rare", "(other)"]


def uneven(users: int = 240, calls: int = 3, seed: int = 1) -> list[Record]:
    """B refuses more in one small surface; everywhere else the arms are alike."""
    rng = np.random.default_rng(seed)
    records: list[Record] = []
    for arm in "AB":
        for n in range(users):
            surface = ("support", "search", "chat", "mail")[n % 4]
            rate = 0.85 if (arm, surface) == ("B", "support") else 0.1
            for c in range(calls):
                key = f"{arm}{n}c{c}"
                hours = float(rng.uniform(0, 20))
                latency = float(rng.lognormal(6, 0.5))
                records.append(
                    call(
                        key,
                        f"{arm}{n}",
                        arm,
                        hours,
                        refused=bool(rng.random() < rate),
                        surface=surface,
                        latency_ms=latency,
                    )
                )
    return records


GUARDRAIL: Record = {
    "name": "refusals", "kind": "proportion", "event": "refused", "better": "lower",
    "guardrail": {"margin": {"points": 0.25}, "action": "halt"},
}  # fmt: skip
LATENCY: Record = {"name": "latency", "kind": "mean", "value": "latency_ms", "better": "lower"}


def guarded(*levels: str, **more: Any) -> Record:
    return {**GUARDRAIL, "guardrail": {**GUARDRAIL["guardrail"], "segments": list(levels), **more}}


def spec_with(*metrics: Record, segments: tuple[str, ...] = ("surface",), **more: Any) -> Experiment:
    return Experiment.from_dict(
        spec_of(
            *metrics,
            segments=[{"by": s} for s in segments],
            warm_up_units=60,
            ramp=[{"stage": "ab", "share": 0.5}],
            **more,
        )
    )


def test_a_segment_guardrail_halts_and_names_its_level(make_store: StoreMaker) -> None:
    store = make_store(uneven())
    without, _ = decide_with_analysis(store, spec_with(GUARDRAIL, segments=()), dry_run=True)
    assert without.decision != "halt"
    unlisted, analysis = decide_with_analysis(store, spec_with(GUARDRAIL), dry_run=True, segments="all")
    assert unlisted.decision == without.decision
    worst = next(r for r in analysis.segments[0].results if r.segment == "surface=support")
    assert (worst.verdict, worst.role, worst.action) == ("harm", "info", None)
    assert worst.details["bh_rejected"] is True

    decision, analysis = decide_with_analysis(store, spec_with(guarded("surface=support")), dry_run=True)
    assert (decision.decision, decision.reason, decision.exit_code) == ("halt", "harm", 20)
    assert "refusals (surface=support)" in decision.summary
    harm = next(f for f in decision.findings if f.code == "harm")
    assert "surface=support" in harm.message
    assert [m.segment for m in analysis.metrics] == [None, "surface=support"]
    assert analysis.segments == ()
    held, _ = decide_with_analysis(store, spec_with(guarded("surface=support", action="hold")), dry_run=True)
    assert held.decision == "hold"
    assert any(f.code == "harm_hold" and "surface=support" in f.message for f in held.findings)


def test_looking_at_everything_changes_no_decision(make_store: StoreMaker) -> None:
    """`decide` reads the levels that are guardrails, `report` all of them: the evidence is the same, and so is the id."""
    store = make_store(uneven())
    experiment = spec_with(guarded("surface=search"), LATENCY)
    few, _ = decide_with_analysis(store, experiment, dry_run=True)
    everything, analysis = decide_with_analysis(store, experiment, dry_run=True, segments="all")
    assert few.decision_id == everything.decision_id
    assert few.metrics == everything.metrics
    assert len(analysis.segments[0].levels) == 4
    plain, _ = decide_with_analysis(store, spec_with(GUARDRAIL, LATENCY), dry_run=True, segments="all")
    none, _ = decide_with_analysis(store, spec_with(GUARDRAIL, LATENCY, segments=()), dry_run=True)
    assert plain.decision_id == none.decision_id  # a segment that is only looked at is no part of the policy


def test_a_guarded_level_that_nobody_was_in_is_no_pass(make_store: StoreMaker) -> None:
    store = make_store(uneven(users=80))
    decision, analysis = decide_with_analysis(store, spec_with(guarded("surface=billing")), dry_run=True)
    assert analysis.metrics[1].status == "no_data"
    assert (decision.reason, decision.exit_code) == ("no_data", 40)
    assert "surface=billing" in decision.summary
    empty = make_store([])
    nothing = analyze(empty, spec_with(guarded("surface=billing")))
    assert [m.status for m in nothing.metrics] == ["no_data", "no_data"]


def test_the_budget_is_split_over_the_levels() -> None:
    experiment = spec_with(guarded("surface=a", "surface=b"), {**GUARDRAIL, "name": "other"})
    first, second = experiment.metrics
    assert experiment.halt_alpha(first) == pytest.approx(0.01 / 4)
    assert experiment.halt_alpha(first) * 3 + experiment.halt_alpha(second) == pytest.approx(0.01)


def test_results_of_levels_never_decide(make_store: StoreMaker) -> None:
    store = make_store(uneven())
    experiment = spec_with(GUARDRAIL)
    analysis = analyze(store, experiment, series=False)
    harmful = [r for r in analysis.segments[0].results if r.verdict == "harm"]
    assert harmful
    mixed = replace(analysis, metrics=(*analysis.metrics, *harmful, replace(harmful[0], role="success")))
    facts = Facts(stage_hours=100.0, stage_units=1000)
    assert conclude(experiment, mixed, facts) == conclude(experiment, analysis, facts)


def test_levels_judged_together_are_the_levels_judged_alone(make_store: StoreMaker) -> None:
    store = make_store(uneven(users=320))
    allocation = [{"at": "2026-11-01T00:00:00Z", "share": 0.3}, {"at": "2026-11-01T12:00:00Z", "share": 0.5}]
    shape = {"name": "shape", "kind": "distribution", "value": "latency_ms", "better": "lower"}
    p80 = {"name": "p80", "kind": "quantile", "value": "latency_ms", "q": 0.8, "better": "lower"}
    relative = {**LATENCY, "name": "relative", "guardrail": {"margin": {"relative": 0.1}, "action": "hold"}}
    spec = spec_of(
        GUARDRAIL, LATENCY, relative, shape, p80, segments=[{"by": "surface"}], warm_up_units=60, allocation=allocation
    )
    ev = read(store, Experiment.from_dict(spec), segments="all")
    assert len(ev.looks) == 2
    levels = list(ev.segments["surface"].evidence.values())
    for j in range(len(spec["metrics"])):
        together = judge_all(levels, j, "B")
        assert {r.status for r in together} == {"ok"}
        for one, each in zip(together, levels, strict=True):
            assert close(one, judge(each, j, "B"))


def close(a: MetricResult, b: MetricResult) -> bool:
    left, right = a.to_dict(), b.to_dict()
    for name, value in left.items():
        if isinstance(value, float):
            assert value == pytest.approx(right[name], rel=1e-9, abs=1e-12), name
        elif name not in ("details", "stages"):
            assert value == right[name], name
    return True


def test_interaction_is_cochrans_q(make_store: StoreMaker) -> None:
    def result(estimate: float | None, error: float | None, status: str = "ok") -> MetricResult:
        return MetricResult(
            "m", "mean", "info", "lower", "", "A", "B", estimate=estimate, std_error=error, status=status
        )  # type: ignore[arg-type]

    # Weights 1, 4, 4: mean 0.5·..., by hand: (0·1 + 1·4 + 2·4)/9 = 12/9; Q = 1·(4/3)² + 4·(1/3)² + 4·(2/3)² = 4.
    check = interaction([result(0.0, 1.0), result(1.0, 0.5), result(2.0, 0.5), result(None, None, "insufficient")])
    assert check.data["q"] == pytest.approx(4.0)
    assert (check.data["degrees"], check.data["levels"]) == (2, 3)
    assert check.pvalue == pytest.approx(0.1353352832, rel=1e-9)  # exp(-2)
    assert interaction([result(0.0, 1.0), result(1.0, None)]).status == "insufficient"

    analysis = analyze(make_store(uneven()), spec_with(GUARDRAIL, LATENCY), series=False)
    by_metric = {c.data["metric"]: c for c in analysis.segments[0].interactions}
    assert by_metric["refusals"].status == "warning"
    assert "differs between levels" in by_metric["refusals"].detail
    assert by_metric["latency"].status == "ok"


def test_false_discoveries_are_held_over_all_levels(make_store: StoreMaker) -> None:
    """No effect anywhere: forty levels of two metrics, and BH calls (almost) none of them."""
    rng = np.random.default_rng(3)
    records = [
        call(f"{arm}{n}c{c}", f"{arm}{n}", arm, float(rng.uniform(0, 9)), refused=bool(rng.random() < 0.3), surface=f"s{n % 20}",
             latency_ms=float(rng.lognormal(6, 0.5)))
        for arm in "AB" for n in range(800) for c in range(2)
    ]  # fmt: skip
    analysis = analyze(make_store(records), spec_with(GUARDRAIL, LATENCY), series=False)
    segment = analysis.segments[0]
    assert len(segment.results) == 40
    assert {r.details["bh_tests"] for r in segment.results} == {40}
    assert not any(r.details["bh_rejected"] for r in segment.results)
    assert all(r.role == "info" and r.verdict in ("inconclusive", "unknown") for r in segment.results)


def test_the_table_has_the_worst_first(make_store: StoreMaker) -> None:
    analysis = analyze(make_store(uneven()), spec_with(GUARDRAIL, LATENCY), series=False)
    segment = analysis.segments[0].to_dict()
    assert worst_first(segment["results"])[0]["segment"] == "surface=support"
    text = segment_table(segment, limit=3).to_text()
    assert text.splitlines()[0] == "by surface: 4 levels"
    assert "support" in text.splitlines()[4]
    assert "5 more rows are in the JSON." in text


def test_the_report_has_a_section_for_them(make_store: StoreMaker) -> None:
    analysis = analyze(make_store(uneven()), spec_with(GUARDRAIL, LATENCY), series=False)
    model = build([Entry(analysis)])
    text = markdown.render(model)
    assert "### For whom is it worse? Segments" in text
    assert "| support | refusals |" in text
    assert "the effect on refusals differs between levels" in text
    (part,) = [p for p in model.chapters[0].parts if p.key == "segments"]
    picture = next(b for b in part.blocks if isinstance(b, Pictures))
    assert "refusals (support)" in picture.items[0].svg
    plain = build([Entry(replace(analysis, segments=()))])
    assert "For whom" not in markdown.render(plain)


def test_metrics_of_analysis_keep_their_contract(make_store: StoreMaker) -> None:
    store = make_store(uneven(users=80))
    ev = read(store, spec_with(GUARDRAIL), segments="all")
    data = analyze_evidence(ev).to_dict()
    assert [m["segment"] for m in data["metrics"]] == [None]
    (segment,) = data["segments"]
    assert set(segment) == {"key", "by", "levels", "levels_found", "shared_units", "results", "interactions"}
    assert {r["segment"] for r in segment["results"]} == {f"surface={level}" for level in segment["levels"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segments": [{"by": "surfac"}]}, "no log column"),
        ({"segments": [{"by": "turn + 1"}]}, "give it a name"),
        ({"segments": [{"by": "1", "name": "one"}]}, "reads no column"),
        ({"segments": [{"by": "surface"}, {"by": "model", "name": "surface"}]}, "twice"),
        ({"segments": [{"by": "read_text('x')", "name": "x"}]}, "not allowed"),
        ({"segments": [{"by": "surface", "max_levels": 0}]}, "greater than"),
        ({"metrics": [guarded("model=m")], "segments": [{"by": "surface"}]}, "no [[segments]] is called 'model'"),
        ({"metrics": [guarded("surface")], "segments": [{"by": "surface"}]}, "segments"),
        ({"metrics": [guarded("surface=a", "surface=a")], "segments": [{"by": "surface"}]}, "twice"),
    ],
)
def test_what_is_no_segment(change: Record, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        Experiment.from_dict({**spec_of(), **change})
    assert message in str(caught.value) or message in str(caught.value.key)


def test_an_expression_that_does_not_fit_its_column_names_the_segment(make_store: StoreMaker) -> None:
    store = make_store(uneven(users=40))
    spec = spec_of(segments=[{"name": "odd", "by": "surface + 1"}])
    with pytest.raises(SpecError) as caught:
        read(store, Experiment.from_dict(spec), segments="all")
    assert caught.value.key == "segments.odd"
