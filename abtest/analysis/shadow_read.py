"""Reads the evidence of the shadow stage: pairs of answers, added up by unit; only integers, and nothing is judged here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb

from abtest.analysis.evidence import strata_of
from abtest.analysis.read import as_logged, manifests_differ, scan_of
from abtest.analysis.shadow_constants import freeze, limits_of, shadow_name
from abtest.analysis.shadow_plan import Item, Plan, plan_of
from abtest.analysis.shadow_score import Flags, PairSums, design_effect
from abtest.analysis.times import to_us
from abtest.errors import SpecError, UnsupportedByEngine
from abtest.metrics.quantile import QuantileMetric
from abtest.spec import Experiment, canonical_sha256
from abtest.store.engines.base import Engine
from abtest.store.moments import in_order
from abtest.store.query import Query, Scan, fill, query
from abtest.store.shadow import ShadowQueries, common_of
from abtest.store.store import Store

Row = Mapping[str, Any]
_NO_END = 2**62


@dataclass(frozen=True)
class ShadowEvidence:
    """Everything that a shadow decision may look at: integers, and the frozen constants.

    Attributes:
        experiment: The spec.
        plan: What was measured.
        as_of_us, max_file: The watermark.
        common: What every average of several answers was multiplied by.
        frozen: metric -> name -> constant.
        moments: Sums and products over units, one row; None without pairs.
        facts: What became of the requests that both answered, and how their answers differ.
        near: How many requests there are that might have been pairs.
        values: Place of a quantile -> histogram by arm.
        firsts: Place of a metric -> units by the difference of their first pair, of units after the warm-up.
        agreement, sessions: One row each.
        noise: Spread of repeated answers.
        labels: Place of a judge's score -> units by label and score.
        manifests: What the answers ran, by arm, the most frequent first.
    """

    experiment: Experiment
    plan: Plan
    as_of_us: int | None
    max_file: int
    common: int = 1
    frozen: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    moments: Row | None = None
    facts: Row = field(default_factory=dict)
    near: Row = field(default_factory=dict)
    values: Mapping[int, Sequence[Row]] = field(default_factory=dict)
    firsts: Mapping[int, Sequence[Row]] = field(default_factory=dict)
    agreement: Row = field(default_factory=dict)
    sessions: Row = field(default_factory=dict)
    noise: Sequence[Row] = ()
    labels: Mapping[int, Sequence[Row]] = field(default_factory=dict)
    manifests: Sequence[Row] = ()

    @property
    def pairs(self) -> int:
        """Return how many pairs count."""
        return int(self.facts.get("pairs", 0))

    @property
    def units(self) -> int:
        """Return how many units they belong to."""
        return int(self.moments["units"]) if self.moments else 0

    def sums(self, at: int) -> PairSums | None:
        """Return the exact sums of a measure; None when it was not added up."""
        m = self.plan.measures[at]
        if self.moments is None or not m.active:
            return None
        return PairSums.of(self.moments, at, m.x_scale * self.common, m.y_scale * self.common or 1)

    def flags(self, at: int) -> Flags | None:
        """Return how pairs of a yes-or-no measure differ; None for other measures."""
        sums = self.sums(at)
        if sums is None or not self.plan.measures[at].flag:
            return None
        rise, fall = (int(self.facts[f"{name}{at}"]) / self.common for name in ("rise", "fall"))
        return Flags(
            int(self.facts[f"known{at}"]),
            rise,
            fall,
            float(sums.total("c") / sums.total("d")) if sums.sums["d"] else 0.0,
            design_effect(sums),
        )

    def sha256(self) -> str:
        """Return the hash of the evidence."""
        return canonical_sha256({
            "as_of_us": self.as_of_us, "common": self.common, "moments": self.moments, "facts": self.facts, "near": self.near,
            "values": {str(k): list(v) for k, v in self.values.items()}, "firsts": {str(k): list(v) for k, v in self.firsts.items()},
            "agreement": self.agreement, "manifests": list(self.manifests), "sessions": self.sessions, "noise": list(self.noise),
            "labels": {str(k): list(v) for k, v in self.labels.items()},
        })  # fmt: skip


def read_shadow(
    store: Store,
    experiment: Experiment,
    *,
    as_of_us: int | None = None,
    max_file: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> ShadowEvidence:
    """Read the pairs of an experiment with one treatment at a watermark.

    Args:
        store: An open store; frozen constants are written to it once, unless it is read-only.
        experiment: What is asked.
        as_of_us: Cut by event time; default: the newest event in the store.
        max_file: Ignore what was loaded later (replay); default: everything.
        progress: Called with a word before each slow step.

    Raises:
        SpecError: more than one treatment, or an expression that does not fit its columns.
        UnsupportedByEngine: numbers of a metric of the spec are too large to be added up exactly.
    """
    if len(experiment.treatments) != 1:
        raise SpecError(
            f"shadow takes exactly one treatment, this spec has {len(experiment.treatments)}", key="treatments",
            hint="write a spec for each candidate",
        )  # fmt: skip
    max_file = store.last_file() if max_file is None else max_file
    as_of_us = store.newest_us() if as_of_us is None else as_of_us
    engine = store.engine
    cut = as_of_us if as_of_us is not None else 0
    scores = in_order(engine.rows(*_scores(cut, max_file)))
    plan = plan_of(experiment, scores)
    if as_of_us is None:
        return ShadowEvidence(experiment, plan, None, max_file)

    def reading(what: Plan) -> ShadowEvidence:
        return _Reader(store, experiment, what, cut, max_file, progress or (lambda _: None)).read()

    try:
        try:
            return reading(plan)
        except UnsupportedByEngine:
            return reading(plan_of(experiment, scores, only=True))
    except duckdb.Error as error:
        raise SpecError(
            f"an expression does not fit its columns: {str(error).splitlines()[0]}", key="metrics",
            hint="`abtest analyze` names the metric",
        ) from error  # fmt: skip


def _scores(as_of_us: int, max_file: int) -> Query:
    return query(fill("shadow_scores"), {"as_of": as_of_us, "max_file": max_file})


class _Reader:
    """One reading: keeps its tables on the engine, one after the other."""

    def __init__(
        self, store: Store, experiment: Experiment, plan: Plan, as_of_us: int, max_file: int, say: Callable[[str], None]
    ) -> None:
        self.store, self.engine, self.experiment, self.plan, self.say = store, store.engine, experiment, plan, say
        self.scan = _scan_of(self.engine, experiment, plan, as_of_us, max_file)
        name = shadow_name(experiment)
        self.frozen = store.frozen(name, experiment.revision, as_of_us=as_of_us, max_file=max_file)
        self.common, self.max_file = 1, max_file

    def read(self) -> ShadowEvidence:
        """Return the evidence; constants that are missing are frozen on the way."""
        scan, plan = self.scan, self.plan
        blank = ShadowEvidence(self.experiment, plan, scan.as_of_us, scan.max_file)
        queries = self._queries(plan)
        self.say("pairs")
        if scan.facts.assignments:
            self.engine.keep("assigned", *scan.assigned())
        if any(m.measure.score for m in plan.measures):
            self.engine.keep("scored", *queries.scan.score_table())
        self.engine.keep("shadow_wanted", *queries.wanted())
        known = limits_of(plan, self.frozen)
        plan = plan.with_limits(known)
        queries = self._pairs(plan)
        counted = self._counted(blank, plan, queries)
        if not counted.pairs:
            return replace(counted, frozen=self.frozen)
        self.frozen = freeze(self, queries, plan)
        found = limits_of(plan, self.frozen)
        if found != known:
            plan = plan.with_limits(found)
            queries = self._pairs(plan)
            counted = self._counted(blank, plan, queries)
            self.frozen = freeze(self, queries, plan)
        return self._evidence(counted, queries)

    def _counted(self, blank: ShadowEvidence, plan: Plan, queries: ShadowQueries) -> ShadowEvidence:
        """Return the counts of pairs, and how much repeated answers differ; all of it in units of `common`."""
        noise = queries.noise(self.common)
        return replace(
            blank, plan=plan, common=self.common, facts=self._row(queries.facts(self.common)), near=self._row(queries.near()),
            noise=self._rows(noise) if noise else (),
        )  # fmt: skip

    def _evidence(self, blank: ShadowEvidence, queries: ShadowQueries) -> ShadowEvidence:
        """Add to the counts of pairs what is measured on them."""
        self.say("moments")
        self.engine.keep("shadow_text", *queries.text())
        facts, plan, after = blank.facts, blank.plan, self._warm_until()
        betting = self.experiment.shadow.method == "betting" and after is not None
        bets = [i.at for i in plan.items if betting and can_bet(plan, i)]
        judged = [(i.judge, i.human) for i in plan.items if i.judge is not None and i.human is not None]
        quantiles = [i.at for i in plan.items if isinstance(i.spec, QuantileMetric)]
        return replace(
            blank, frozen=self.frozen, moments=self._row(queries.moments()),
            values={at: self._rows(queries.values(at, _NO_END)) for at in quantiles},
            firsts={at: self._rows(queries.first_pairs(at, after or 0)) for at in bets},
            agreement=self._row(queries.agreement()),
            manifests=sorted(self._rows(queries.manifests()), key=lambda r: (r["arm"], -int(r["calls"]))),
            sessions=self._row(queries.sessions(int(facts["first_seen_us"]), int(facts["last_seen_us"]))),
            labels={judge: self._rows(queries.labels(judge, human)) for judge, human in judged},
        )  # fmt: skip

    # -- what constants are frozen of ----------------------------------------------------------------------------

    def cutoff(self, queries: ShadowQueries, units: int) -> int | None:
        """Return the moment at which the n-th unit had its first pair; None when there are fewer."""
        found = self._row(queries.cutoff(units))["cutoff_us"]
        return None if found is None else int(found)

    def warm_up(self, queries: ShadowQueries, until_us: int) -> Row:
        """Return sums and products over the pairs that were complete by a moment."""
        self.engine.keep("shadow_warm", *queries.units(self.common, until_us))
        return self._row(queries.moments("shadow_warm"))

    def histogram(self, queries: ShadowQueries, j: int, until_us: int) -> list[dict[str, Any]]:
        """Return the histogram of a quantile's value over the pairs that were complete by a moment."""
        return self._rows(queries.values(j, until_us))

    def _warm_until(self) -> int | None:
        """Return the moment at which the warm-up ended; None while it runs."""
        end = self.frozen.get("", {}).get("warm_up_until")
        return None if end is None else int(end)

    # -- parts ---------------------------------------------------------------------------------------------------

    def _queries(self, plan: Plan) -> ShadowQueries:
        differ = manifests_differ(self.experiment)
        everything = self.experiment.shadow.turns == "all"
        return ShadowQueries(self.scan, plan.measures, by_manifest=differ, all_turns=everything)

    def _pairs(self, plan: Plan) -> ShadowQueries:
        queries = self._queries(plan)
        self.engine.keep("shadow_answer", *queries.answers())
        self.engine.keep("shadow_side", *queries.sides())
        self.common = common_of(int(row["n"]) for row in self.engine.rows(*queries.counts()))
        self.engine.keep("shadow_pair", *queries.pairs(self.common))
        self.engine.keep("shadow_unit", *queries.units(self.common, _NO_END))
        return queries

    def _rows(self, query_: Query) -> list[dict[str, Any]]:
        return in_order(self.engine.rows(*query_))

    def _row(self, query_: Query) -> dict[str, Any]:
        return dict(self.engine.rows(*query_)[0])


def _scan_of(engine: Engine, experiment: Experiment, plan: Plan, as_of_us: int, max_file: int) -> Scan:
    scan = scan_of(experiment, strata_of(experiment, as_of_us, ()), as_of_us=as_of_us, max_file=max_file)
    start = to_us(experiment.start) if experiment.start else 0
    scan = scan.at(start_us=start, stage_starts_us=(), measures=tuple(m.measure for m in plan.measures))
    return as_logged(engine, scan, by_manifest=manifests_differ(experiment))


def can_bet(plan: Plan, item: Item) -> bool:
    """Return whether a metric's values have bounds and one value an answer, so that one can bet on its differences."""
    measure = plan.measures[item.at]
    bounded = measure.flag or getattr(item.spec, "bounds", None) is not None
    relative = item.spec.guardrail is not None and item.spec.guardrail.margin.kind == "relative"
    return measure.form == "mean" and bounded and not measure.measure.quantile and not relative
