"""The queries of a small experiment, by the name of their snapshot, in an order in which an engine can run them.

Every slot of every file of `sql/` is filled here in each of the ways that the code knows: with and without each join, in one
stage and several, in doubles and whole numbers, for all units and some, with histories, segments, caps and scores.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

from abtest.analysis.read import scan_of, strata_of
from abtest.analysis.resample import Before, past_query, unit_query
from abtest.analysis.resample_columns import Columns, Thresholds
from abtest.analysis.segment_read import _merged
from abtest.lineage import seen, signals
from abtest.lineage.diff import text_query
from abtest.lineage.index_findings import arms_query
from abtest.lineage.index_versions import usage_query
from abtest.metrics.expressions import parse
from abtest.rollout import confirm
from abtest.spec import Experiment
from abtest.store import own_calls, state
from abtest.store.moments import Layout
from abtest.store.query import HOUR_US, Facts, Query, Scan, fill
from abtest.store.shadow import PairMeasure, ShadowQueries
from abtest.tradeoff.read import MONEY, Reader, metric_tasks, money_tasks
from abtest.tradeoff_spec import TradeoffSpec

METRICS: list[dict[str, Any]] = [
    {"name": "refusal_rate", "kind": "proportion", "event": "refused", "better": "lower",
     "guardrail": {"margin": {"points": 0.01}}},
    {"name": "valid", "kind": "proportion", "event": "format_ok AND NOT is_error", "better": "higher", "per": "unit"},
    {"name": "latency", "kind": "mean", "value": "latency_ms / 1000", "better": "lower", "per": "call"},
    {"name": "cost_per_success", "kind": "ratio", "numerator": "cost_usd",
     "denominator": "CASE WHEN attributes ->> 'outcome' = 'solved' THEN 1 ELSE 0 END", "better": "lower"},
    {"name": "requests", "kind": "count", "better": "lower"},
    {"name": "latency_p99", "kind": "quantile", "value": "latency_ms", "q": 0.99, "better": "lower",
     "guardrail": {"margin": {"relative": 0.4}}, "frozen": {"threshold": 900.0}},
    {"name": "helpfulness", "kind": "mean", "score": "helpfulness", "scorer_kind": "judge", "better": "higher"},
]  # fmt: skip
CAPPED: list[dict[str, Any]] = [
    {"name": "cost", "kind": "mean", "value": "cost_usd", "better": "lower", "cap": 0.5},
    {"name": "tokens", "kind": "mean", "value": "output_tokens", "better": "lower", "cap": {"quantile": 0.99}},
]
JUDGED: list[dict[str, Any]] = [
    {"name": "thumbs_down", "kind": "proportion", "score": "thumbs_down", "better": "lower", "absent": "no",
     "guardrail": {"margin": {"points": 0.01}}},
    {"name": "solved", "kind": "proportion", "score": "solved", "better": "higher", "per": "call"},
    {"name": "faithful", "kind": "mean", "score": "faithful", "better": "higher", "per": "call"},
]  # fmt: skip
SPEC: dict[str, Any] = {
    "id": "sonnet-swap", "control": "baseline", "treatments": ["candidate"], "unit": "session", "metrics": METRICS,
    "population": {"where": "surface = 'it''s \"support\"'"},
    "arms": {"baseline": {"model": "gpt"}, "candidate": {"model": "sonnet", "prompt_version": "v13"}},
    "allocation": [{"at": "2026-11-01T00:00:00Z", "share": 0.01}, {"at": "2026-11-02T00:00:00Z", "share": 0.5}],
}  # fmt: skip
COVARIATES = [m if m["kind"] == "quantile" else {**m, "covariate": "pre"} for m in METRICS]
"""The same metrics, each with CUPED where the kind knows it."""
LIMITS = {5: (900.0, 1260.0)}
NOTHING = Facts(assignments=False, scores=False, repeated=False, twins=False)
SEGMENT = "coalesce(i.\"surface\", '')"
AS_OF = 1_794_000_000_000_000


@dataclass(frozen=True)
class Sample:
    """A query, and the tables in which its result is kept for the samples that follow (none: its rows leave SQL)."""

    query: Query
    kept: tuple[str, ...] = field(default=())


def scan(*, facts: Facts | None = None, derive_arms: bool = False, **changes: Any) -> Scan:
    """Return the scan of the sample spec; keys that are None are left out of it."""
    data = {k: v for k, v in {**SPEC, **changes}.items() if v is not None}
    experiment = Experiment.from_dict(data)
    made = scan_of(experiment, strata_of(experiment, AS_OF, ()), as_of_us=AS_OF, max_file=7).at(derive_arms=derive_arms)
    limits = LIMITS if len(experiment.metrics) == len(METRICS) else {}
    return made.at(facts=facts or Facts(), limits=limits)


def _plain() -> Layout:
    """Return the layout of the sample spec, first events of both directions included."""
    return Layout(scan(), events=[0, 1], absence=[1])


def _small_tables(layout: Layout) -> Iterator[tuple[str, Sample]]:
    each = layout.scan
    yield "facts", Sample((fill("facts"), {"experiment": each.experiment, "max_file": 7, "as_of": AS_OF}))
    yield "newest", Sample((fill("newest"), {}))
    yield "arms_in_logs", Sample(each.arms_in_logs())
    others = [(scan(id=name, facts=NOTHING), since) for name, since in (("a", None), ("b", (3, AS_OF)), ("c", None))]
    columns = frozenset().union(*(other.needed for other, _ in others))
    yield "own_calls", Sample(own_calls.own_calls(others, columns), ("own_calls",))
    yield "own_calls_alone", Sample(own_calls.own_calls([(scan(), None)], scan().needed), ("own_calls_alone",))
    yield "own_sizes", Sample(own_calls.sizes_query([other for other, _ in others]))
    yield "assigned_of_some", Sample(each.at(units="some").assigned(), ("assigned",))
    yield "assigned", Sample(each.assigned(), ("assigned",))
    yield "scored_of_some", Sample(each.at(units="some").score_table(), ("scored",))
    yield "scored_without_twins", Sample(each.at(facts=Facts(twins=False)).score_table(), ("scored",))
    judged = scan(metrics=JUDGED, arms=None)
    yield "scored_events", Sample(judged.score_table(), ("scored",))
    yield "unit_total_score_events", Sample(Layout(judged, events=[0]).unit_total(), ("unit_total",))
    summed = scan(metrics=JUDGED, arms=None, population={"per_request": "sum"})
    yield "unit_total_score_events_sum", Sample(Layout(summed).unit_total(), ("unit_total",))
    yield "population_score_events", Sample(judged.population())
    yield "scored", Sample(each.score_table(), ("scored",))


def _scans(layout: Layout) -> Iterator[tuple[str, Sample]]:
    """Yield the pass over the logs, in every form."""
    bare = {"facts": NOTHING, "allocation": None, "arms": None, "population": {}}
    capped = scan(metrics=CAPPED, arms=None).at(caps={1: 800.0})
    forms = {
        "bare": scan(**bare),
        "bare_sum": scan(**{**bare, "population": {"per_request": "sum"}}),
        "with_assignments": scan(**{**bare, "facts": Facts(True, False, False, False)}),
        "with_scores": scan(**{**bare, "facts": Facts(False, True, False, False)}),
        "with_repeated": scan(**{**bare, "facts": Facts(False, False, True, False)}),
        "with_twins": scan(**{**bare, "facts": Facts(False, False, False, True)}),
        "sum": scan(population={"per_request": "sum"}, unit="request"),
        "sum_wide": scan(population={"per_request": "sum"}, unit="request").at(wide=True),
        "first_by_manifest": scan(
            facts=Facts(assignments=False), derive_arms=True, population={"per_request": "first"}, unit="user"
        ),
        "by_manifest_or_assignment": scan(derive_arms=True),
        "wide": scan().at(wide=True),
        "capped": capped,
        "capped_wide": capped.at(wide=True),
        "of_some": scan().at(units="some"),
        "without_some": scan().at(without="some"),
        "since": scan().at(since=(3, 17)),
    }
    for name, each in forms.items():
        yield f"unit_total_{name}", Sample(Layout(each).unit_total(), ("unit_total",))
    for name in ("bare", "sum", "sum_wide", "first_by_manifest", "capped", "of_some"):
        yield f"population_{name}", Sample(forms[name].population())
    yield "population", Sample(layout.scan.population())
    same = Layout(layout.scan, events=[0, 1], absence=[1], same={"t1": "requests", "t0": "calls"})
    yield "unit_total_same", Sample(same.unit_total(), ("unit_total",))
    yield "unit_total", Sample(layout.unit_total(), ("unit_total", "some", "old_totals"))


def _evidence(layout: Layout, suffix: str = "") -> Iterator[tuple[str, Sample]]:
    """Yield everything that follows from unit totals."""
    yield f"contaminated{suffix}", Sample(layout.contaminated(), ("contaminated",))
    yield f"cell{suffix}", Sample(layout.cell(), ("cell",))
    yield f"cell_sums{suffix}", Sample((layout.cell_sums(), {}))
    yield f"pair_moments{suffix}", Sample((layout.pair_moments(), {}))
    yield f"unit_step{suffix}", Sample(layout.unit_step(6 * HOUR_US), ("unit_step",))
    yield f"step_sums{suffix}", Sample((layout.step_sums(), {}))
    yield f"step_moments{suffix}", Sample((layout.step_moments(), {}))
    yield f"unit_counts{suffix}", Sample((layout.unit_counts(), {}))
    yield f"arm_units{suffix}", Sample((layout.arm_units(), {}))


def _counts(layout: Layout) -> Iterator[tuple[str, Sample]]:
    yield "contamination", Sample((fill("contamination"), {}))
    yield "assignment_counts", Sample(layout.named("assignment_counts"))
    yield "arrivals", Sample((fill("arrivals"), {"grid": 6 * HOUR_US}))
    yield "first_seen", Sample((layout.first_seen(), {}), ("first_seen",))
    yield "first_event", Sample(layout.first_event())
    yield "at_risk", Sample(layout.at_risk())
    yield "histogram", Sample(layout.histogram(5))
    yield "histogram_segment", Sample(layout.histogram(5, SEGMENT))
    clean = layout.of(layout.scan)
    clean.contaminated_units = False
    yield "cell_nothing_contaminated", Sample(clean.cell(), ("cell",))
    yield "histogram_nothing_contaminated", Sample(clean.histogram(5))


def _warm_up(layout: Layout) -> Iterator[tuple[str, Sample]]:
    capped = Layout(scan(metrics=CAPPED, arms=None).at(caps={1: 800.0}, wide=True))
    yield "warm_up_cutoff", Sample(layout.warm_up_cutoff(AS_OF - 1))
    yield "warm_up_histogram", Sample(layout.warm_up_histogram(5, AS_OF - 1))
    yield "warm_up_histogram_of_a_cap", Sample(capped.warm_up_histogram(1, AS_OF - 1))
    yield "warm_up_moments", Sample(Layout(scan().at(wide=True)).warm_up_moments(AS_OF - 1))
    yield "warm_up_moments_capped", Sample(capped.warm_up_moments(AS_OF - 1))


def _state(layout: Layout) -> Iterator[tuple[str, Sample]]:
    """Yield what brings kept unit totals up to date."""
    columns = [c for c in state.unit_columns(layout) if c != "t1"]
    old = state.State("old_totals", AS_OF - 1, 3, {"columns": columns, "same": {"t1": "requests"}})
    since = layout.of(layout.scan.at(since=(3, AS_OF - 1), units="touched"))
    yield "touched", Sample(state.touched(layout.scan, old), ("touched",))
    yield "unit_total_since_of_touched", Sample(since.unit_total(), ("unit_delta",))
    yield "unit_merge", Sample((state.merged(layout, old), {}), ("unit_merged",))
    yield "unit_recount", Sample(state.recount(layout, old), ("recounted",))
    eventless = Layout(scan())
    yield "unit_recount_without_events", Sample(state.recount(eventless, old))


def _history() -> Iterator[tuple[str, Sample]]:
    """Yield the histories of units (CUPED) and what follows from them; each form of history reads the unit totals."""
    summed = scan(metrics=COVARIATES, population={"per_request": "sum"}, unit="request")
    counted = scan(metrics=[COVARIATES[4]], population={"per_request": "first"}, unit="user", facts=NOTHING)
    yield "history_sum", Sample(Layout(summed).history(), ("history",))
    yield "history_without_columns", Sample(Layout(counted).history(), ("history",))
    past = Layout(scan(metrics=COVARIATES))
    yield "unit_total_covariate", Sample(past.unit_total(), ("unit_total",))
    yield "history", Sample(past.history(), ("history",))
    yield from _evidence(Layout(past.scan, [0, 3]), "_covariate")
    yield "cell_covariate_all", Sample(past.cell(), ("cell",))
    yield "history_moments", Sample(past.history_moments())


def _segments(layout: Layout) -> Iterator[tuple[str, Sample]]:
    layout = Layout(layout.scan)
    yield "unit_total_segment", Sample(layout.unit_total(SEGMENT), ("unit_total",))
    yield "cell_segment", Sample(layout.cell(segment=True), ("cell",))
    yield "segment_levels", Sample((fill("segment_levels"), {}))
    yield "segment_merged", Sample(_merged(layout, ["support", "search"]), ("unit_merged",))
    yield "cell_segment_merged", Sample(layout.cell(totals="unit_merged", segment=True), ("cell",))
    yield "cell_sums_segment", Sample((layout.cell_sums(segment=True), {}))
    yield "pair_moments_segment", Sample((layout.pair_moments(segment=True), {}))
    yield "segment_shared", Sample((fill("segment_shared"), {}))
    yield "segment_units", Sample((fill("segment_units"), {}))


class _Nowhere:
    """Stands for a store in which nothing was logged: what a reader asks of it is of no interest here."""

    read_only = True

    @property
    def engine(self) -> _Nowhere:
        return self

    def keep(self, *_: Any) -> None:
        pass

    def rows(self, sql: str, params: Any = None) -> list[dict[str, Any]]:
        return [{"n": 0} if "named" in sql else {"assignments": 1, "scores": 1, "repeated": 1, "twins": 1}]


def _tradeoff() -> Iterator[tuple[str, Sample]]:
    """Yield what `abtest tradeoff` asks: requests, how they were compared, sums of both sides, what stands beside."""
    keys = (
        "name",
        "kind",
        "event",
        "value",
        "better",
        "score",
        "scorer_kind",
        "absent",
        "numerator",
        "denominator",
        "q",
    )
    metrics = [
        {k: m[k] for k in keys if k in m}
        for m in (*METRICS, *JUDGED)
        if m["name"] not in ("requests", "valid", "solved")
    ]
    for metric in metrics:
        metric.pop("per", None)
    spec = TradeoffSpec.from_dict({
        "id": "sonnet-swap", "baseline": "baseline", "unit": "session",
        "arms": {"baseline": {"model": "gpt"}, "candidate": {"model": "sonnet", "technique": "fine_tune"}},
        "metrics": [{"name": "done", "kind": "proportion", "event": "format_ok AND NOT is_error", "better": "higher"}, *metrics],
        "quality": {"metric": "done", "margin": {"points": 0.02}}, "latency": {"metric": "latency_p99", "budget": 900.0},
        "population": {"where": "surface = 'support'", "failed_calls": "free"}, "segments": [{"by": "surface"}],
        "prices": {"model": [{"name": "gpt", "since": "2026-01-01", "input": 2.5, "cached_input": 1.25, "output": 10.0}]},
    })  # fmt: skip
    reader = Reader(_Nowhere(), spec, as_of_us=AS_OF, max_file=7)  # type: ignore[arg-type]
    yield "tradeoff_scored", Sample(reader.scan.score_table(), ("scored",))
    yield "tradeoff_request", Sample(reader.request(), ("tradeoff_request",))
    yield "tradeoff_crossed", Sample(reader.query("tradeoff_crossed", arms=reader.arms), ("tradeoff_crossed",))
    yield "tradeoff_design", Sample(reader.query("tradeoff_design", arms=reader.arms))
    told = {"told": "y0", "succeeded": "x0"}
    yield "tradeoff_category", Sample(reader.query("tradeoff_category", arms=reader.arms, **told))
    yield "tradeoff_turn", Sample(reader.query("tradeoff_turn", arms=reader.arms, told="y0", valid="x0"))
    columns = metric_tasks(0, reader.measures[0])
    groups = {MONEY: money_tasks(0), tuple(c.name for c in columns): columns}
    for name, mode, segment in (("paired", "paired", None), ("split", "split", None), ("all_segment", "all", 0)):
        units, moments = reader.side_queries("candidate", groups, mode, name == "paired", segment)  # type: ignore[arg-type]
        yield f"tradeoff_unit_{name}", Sample(units, ("tradeoff_unit",))
        yield f"tradeoff_moment_{name}", Sample(moments)


def _indexes(layout: Layout) -> Iterator[tuple[str, Sample]]:
    """Yield what index-drift and the findings about indexes read."""
    read = layout.scan.at(measures=(), extra=frozenset({"attributes"}))
    yield "index_arms", Sample(arms_query(read))
    bare = {"facts": NOTHING, "allocation": None, "arms": None, "population": {}}
    yield "index_arms_bare", Sample(arms_query(scan(**bare).at(measures=(), extra=frozenset({"attributes"}))))
    yield "index_usage", Sample(usage_query(twins=True, as_of_us=AS_OF, max_file=7, surface="support"))
    yield "index_usage_without_twins", Sample(usage_query(twins=False, as_of_us=AS_OF, max_file=7, surface=None))
    yield "index_checks", Sample((fill("index_checks"), {"experiment": "sonnet-swap", "as_of": AS_OF, "max_file": 7}))


def _shadow() -> Iterator[tuple[str, Sample]]:
    """Yield the path of the shadow stage: answers, pairs, units, and what leaves."""
    pairs = [PairMeasure(m) for m in scan().measures]
    pairs[5] = PairMeasure(pairs[5].measure, limits=LIMITS[5])
    measures = [*pairs, PairMeasure(pairs[6].measure, one_sided=True)]
    full = ShadowQueries(scan(), measures, by_manifest=True, all_turns=False)
    bare_scan = scan(facts=NOTHING, allocation=None, arms=None, population={"per_request": "first"})
    bare = ShadowQueries(bare_scan, measures[:3], by_manifest=False, all_turns=True)
    for name, each in (("_bare", bare), ("", full)):
        yield f"shadow_wanted{name}", Sample(each.wanted(), ("shadow_wanted",))
        if not name:
            yield "shadow_scored", Sample(each.scan.score_table(), ("scored",))
        yield f"shadow_answer{name}", Sample(each.answers(), ("shadow_answer",))
        yield f"shadow_side{name}", Sample(each.sides(), ("shadow_side",))
        yield f"shadow_counts{name}", Sample(each.counts())
        yield f"shadow_pair{name}", Sample(each.pairs(6), ("shadow_pair",))
        yield f"shadow_unit{name}", Sample(each.units(6, AS_OF), ("shadow_unit",))
        yield f"shadow_moments{name}", Sample(each.moments())
        yield f"shadow_facts{name}", Sample(each.facts(6))
        yield f"shadow_text{name}", Sample(each.text(), ("shadow_text",))
        yield f"shadow_sessions{name}", Sample(each.sessions(0, AS_OF))
        noise = each.noise(6)
        assert noise is not None
        yield f"shadow_noise{name}", Sample(noise)
    for name, sample in (
        ("cutoff", full.cutoff(30)), ("near", full.near()), ("agreement", full.agreement()), ("values", full.values(5, AS_OF)),
        ("first", full.first_pairs(0, 17)), ("labels", full.labels(6, 0)), ("manifest", full.manifests()),
        ("scores", (fill("shadow_scores"), {"as_of": AS_OF, "max_file": 7})),
    ):  # fmt: skip
        yield f"shadow_{name}", Sample(sample)


def _versions() -> Iterator[tuple[str, Sample]]:
    """Yield what `abtest versions` and its timeline read, of calls that are logged once and of doubled ones."""
    where = parse("surface = 'it''s'", key="where", want="boolean")
    everywhere = seen.Asked(AS_OF, 7, by=seen.PLACES, hours=True)
    narrow = seen.Asked(AS_OF, 7, AS_OF - HOUR_US, surface="support", experiment="sonnet-swap", where=where)
    yield "versions_count", Sample(seen.count_query(narrow, "interaction"))
    yield "versions_doubled", Sample(seen.doubled_query(3, 7), ("version_doubled",))
    yield "versions_count_merged", Sample(seen.count_query(everywhere, seen.merged_calls(), since=3, but_doubled=True))
    yield "versions_past", Sample(seen.past_query(narrow, 1, 2))
    yield "versions_past_hours", Sample(seen.past_query(everywhere, 1, 2))
    yield "versions_text", Sample(text_query({"prompt_name": "answer", "prompt_version": "v13"}))
    span = signals.Span(AS_OF - HOUR_US, AS_OF, 7, "support", "sonnet-swap", "baseline", where)
    read = [s if not s.level else replace(s, threshold=900.0) for s in signals.usual_signals()]
    calls = seen.merged_calls(("unit_id", "exposed", "operation", "surface", "is_error", "refused", "format_ok"))
    yield "versions_level", Sample(signals.level_query(read[3], span, "interaction"))
    yield (
        "versions_unit_hour_merged",
        Sample(signals.unit_hour_query(read[:1], signals.Span(0, AS_OF, 7), calls), ("version_unit_hour",)),
    )
    yield "versions_unit_hour", Sample(signals.unit_hour_query(read, span, "interaction"), ("version_unit_hour",))
    yield "versions_unit_cell", Sample(signals.unit_cell_query(3))
    yield "versions_hours", Sample(signals.hours_query(len(read)))
    yield "versions_series", Sample(signals.series_query(read[2], span, "interaction"))


def _calibrate() -> Iterator[tuple[str, Sample]]:
    """Yield what a policy is replayed on: rows of units, by hour."""
    whole = scan(allocation=None).at(wide=True)
    before = Before(**{f.name: getattr(whole, f.name) for f in fields(whole)})
    yield "calibrate_assigned", Sample(before.assigned(), ("assigned",))
    yield "calibrate_scored", Sample(whole.score_table(), ("scored", "calibrate_scored"))
    columns = Columns(whole, {5: Thresholds(900.0, 1260.0, {2.0: 700.0}, {2.0: 1.8})})
    yield "calibrate_arrival", Sample(columns.arrivals(), ("scored",))
    yield "calibrate_unit_session", Sample(unit_query(whole, "session"), ("calibrate_unit",))
    yield "calibrate_unit", Sample(unit_query(whole, "user"), ("calibrate_unit",))
    yield "calibrate_hour_calls", Sample(columns.hours(None))
    for k, (delay, members) in enumerate(columns.groups()):
        yield f"calibrate_hour_{k}", Sample(columns.hours(delay, members))
    late = scan(metrics=[{**METRICS[0], "mature_after": "6h"}], arms=None, allocation=None).at(wide=True)
    yield "calibrate_hour_mature", Sample(Columns(late, {}).hours((None, 6 * HOUR_US), [0]))
    yield "calibrate_value", Sample(columns.values(5))
    past = Layout(scan(metrics=COVARIATES, allocation=None))
    yield "calibrate_unit_total", Sample(past.unit_total(), ("unit_total",))
    yield "calibrate_history", Sample(past.history(), ("history",))
    yield "calibrate_past", Sample((past_query([0, 3]), {}))


def _confirm() -> Iterator[tuple[str, Sample]]:
    """Yield what is looked at after a halt: the calls since, by arms that were told since."""
    late = scan(allocation=None).at(measures=(), start_us=AS_OF - HOUR_US)
    yield "confirm_assigned", Sample(confirm.assigned_query(late), ("assigned",))
    yield "confirm", Sample(confirm.calls_query(late))


def samples() -> dict[str, Sample]:
    """Return every query of an analysis by name, in the order of a run."""
    plain = _plain()
    one_stage = Layout(scan(facts=NOTHING, allocation=None), [0, 1, 2])
    found: dict[str, Sample] = {}
    for group in (
        _small_tables(plain),
        _scans(plain),
        _evidence(plain),
        _counts(plain),
        _warm_up(plain),
        _state(plain),
    ):
        for name, sample in group:
            assert name not in found, name
            found[name] = sample
    found["unit_total_one_stage"] = Sample(one_stage.unit_total(), ("unit_total",))
    found.update(_evidence(one_stage, "_one_stage"))
    found.update(_history())
    found.update(_segments(plain))
    found.update(_tradeoff())
    found.update(_indexes(plain))
    found.update(_shadow())
    found.update(_versions())
    found.update(_calibrate())
    found.update(_confirm())
    return found


def queries() -> dict[str, Query]:
    """Return every query of an analysis: name -> (SQL, parameters)."""
    return {name: sample.query for name, sample in samples().items()}


def as_text(query: Query) -> str:
    """Return the query as its snapshot: parameters first, then the SQL."""
    sql, params = query
    head = "".join(f"-- ${name} = {json.dumps(value)}\n" for name, value in sorted(params.items()))
    return f"{head}{sql.rstrip()}\n"
