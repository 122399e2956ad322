"""Reads what a tradeoff is decided on: one row a request and technique, then integer sums over units. Nothing is judged here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import duckdb

from abtest.analysis.read import as_logged
from abtest.analysis.tables import prepare
from abtest.analysis.times import to_us
from abtest.errors import SpecError
from abtest.metrics.base import MONEY_SCALE, Measure, MetricSpec
from abtest.metrics.expressions import parse
from abtest.metrics.quantile import QuantileMetric
from abtest.store.engines.base import Engine
from abtest.store.query import Params, Query, Scan, fill, query
from abtest.store.rows import fixed, number
from abtest.store.store import Store
from abtest.tradeoff.moments import Sides
from abtest.tradeoff_spec import TradeoffSpec

_RAW = frozenset({"interaction_id", "ts_us", "attempt", "turn", "exposed", "input_tokens", "cached_input_tokens"})
_SPARE = frozenset({"repeat", "is_error"})
MONEY = ("tasks", "cost", "solved", "flat")
"""Columns of the economics: tasks whose cost and outcome are known, and of those the cost, the successes, the cost without cache."""


Mode = Literal["paired", "split", "all"]


@dataclass(frozen=True)
class Task:
    """A column of a comparison: what a task adds to it, and when it can be told.

    Attributes:
        name: Its name.
        value: Expression over a request row (alias `{a}`).
        known: Condition over the same.
        scale: Fixed point.
        values: Texts in it, by the name of their parameter.
    """

    name: str
    value: str
    known: str
    scale: int = 1
    values: Mapping[str, str] = field(default_factory=dict)

    def sql(self, params: Params, *, paired: bool) -> str:
        """Return the expression of a task; in pairs both sides must be known."""
        params.update(self.values)
        known = self.known.format(a="r") + (f" and {self.known.format(a='o')}" if paired else "")
        return f"case when {known} then {self.value.format(a='r')} else 0 end"


Groups = Mapping[tuple[str, ...], Sequence[Task]]
"""Columns that are multiplied with each other -> what they hold."""


class Reader:
    """Reads one spec's logs; the requests are kept as a temporary table and added up as often as somebody asks.

    Args:
        store: An open store; nothing is written to it.
        spec: What is asked.
        as_of_us: Cut by event time.
        max_file: Ignore what was loaded after this file.

    Raises:
        SpecError: an expression that does not fit its columns.
    """

    def __init__(self, store: Store, spec: TradeoffSpec, *, as_of_us: int, max_file: int) -> None:
        self.engine: Engine = store.engine
        self.spec = spec
        self.metrics: list[MetricSpec] = list(spec.metrics)
        self.measures: list[Measure] = [*(m.measure() for m in self.metrics), _format_measure()]
        asked = _scan(spec, self.measures, as_of_us, max_file)
        self.scan = as_logged(self.engine, asked, by_manifest=bool(asked.manifests))
        self.params = self.scan.params()
        self.arms = self.params.bind_all("arm", spec.arms)
        try:
            self._keep()
        except duckdb.Error as error:
            raise SpecError(
                f"an expression does not fit its columns: {str(error).splitlines()[0]}", key="metrics"
            ) from error

    # -- requests ------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        prepare(self.engine, self.scan)
        self.engine.keep("tradeoff_request", *self.request())
        self.engine.keep("tradeoff_crossed", *self.query("tradeoff_crossed", arms=self.arms))

    def request(self) -> Query:
        """Return the query of the requests."""
        scored = bool(self.scan.scored) and self.scan.facts.scores
        columns = [
            "c.unit_key as unit_id", "c.arm", "c.request_key", "c.exposed", "c.turn", "c.head_us",
            "case when c.call_rank = 1 then 1 end as head", 'c."input_tokens"', 'c."cached_input_tokens"',
            f"{_money(self.spec.cost().sql('c'))} as cost", f"{_money(self.spec.cost(cached=False).sql('c'))} as flat",
            f"cast({self.spec.category().sql('c')} as varchar) as category",
        ]  # fmt: skip
        totals: list[str] = []
        for j, measure in enumerate(self.measures):
            row = self.scan.row(j, self.params)
            for letter, tally in (("x", row.x), ("y", row.y)):
                text = tally.attempt
                if measure.score and not self.scan.facts.scores:
                    text = (
                        "cast(null as bigint)"
                        if letter == "x" or not measure.absent_is_zero
                        else "case when c.call_rank = 1 then 1 end"
                    )
                columns.append(f"{text} as {letter}{j}")
                totals.append(f"{tally.total(f'{letter}{j}')} as {letter}{j}")
        for k in range(len(self.spec.segments)):
            columns.append(f"c.segment{k}")
            totals.append(f"max(case when head is not null then segment{k} end) as segment{k}")
        calls = fill(
            "attempts", columns=", ".join(columns), calls=self._calls(), call_order="desc", head_time="max",
            scores="\nleft join scored s on s.interaction_id = c.interaction_id" if scored else "",
        )  # fmt: skip
        return query(fill("tradeoff_request", totals="".join(f",\n  {t}" for t in totals), calls=calls), self.params)

    def _calls(self) -> str:
        scan = self.scan
        read = {*_RAW, *_SPARE, "model"}.union(*(m.columns for m in self.measures))
        read |= self.spec.cost().columns | self.spec.category().columns
        columns = [f'i."{c}"' for c in sorted(read)]
        columns += [f"{self.spec.level_sql(s)} as segment{k}" for k, s in enumerate(self.spec.segments)]
        belongs = ["i.experiment_id = $experiment"]
        if scan.facts.assignments:
            belongs.append("a.variant is not null")
        if scan.derive_arms:
            belongs.append("1 = 1")  # the arm's manifest decides
        return fill(
            "tradeoff_call", unit=scan.unit_key, arm=scan.arm(self.params), interaction=scan.interaction(), joins=scan.assigned_join,
            columns="".join(f", {c}" for c in columns), belongs=f"({' or '.join(belongs)})",
            where=f"({scan.where.sql('i')})" if scan.where else "true",
        )  # fmt: skip

    def query(self, name: str, **slots: str) -> Query:
        """Return one of the small queries."""
        return query(fill(name, **slots), {**self.params, "today": self.spec.baseline})

    def rows(self, name: str, **slots: str) -> list[dict[str, Any]]:
        """Return its rows."""
        return self.engine.rows(*self.query(name, **slots))

    def design(self) -> dict[str, dict[str, Any]]:
        """Return arm -> how it was logged (sql/tradeoff_design.sql)."""
        return {str(row["arm"]): row for row in self.rows("tradeoff_design", arms=self.arms)}

    # -- sums ----------------------------------------------------------------------------------------------------

    def sides(
        self, technique: str, groups: Groups, *, mode: Mode, first_turns: bool = False, segment: int | None = None
    ) -> dict[str | None, Sides]:
        """Return the sums of baseline and technique by level of a segment (None: all).

        Args:
            technique: The arm.
            groups: The columns.
            mode: "paired": only requests that both answered, where both sides can tell; "split": live requests of units that met
                one technique; "all": every request.
            first_turns: Leave later turns of conversations out.
            segment: Number of the segment; None: all together.
        """
        units, moments = self.side_queries(technique, groups, mode, first_turns, segment)
        self.engine.keep("tradeoff_unit", *units)
        rows = self.engine.rows(*moments)
        levels: dict[str | None, list[dict[str, Any]]] = {}
        for row in rows:
            levels.setdefault(row.get("segment"), []).append(row)
        scales = {task.name: task.scale for tasks in groups.values() for task in tasks}
        return {level: Sides.of(found, list(groups), scales) for level, found in (levels or {None: []}).items()}

    def side_queries(
        self, technique: str, groups: Groups, mode: Mode, first_turns: bool, segment: int | None
    ) -> tuple[Query, Query]:
        """Return the queries of `sides`: the table of units, and the moments that are taken of it."""
        params = Params(today=self.spec.baseline, technique=technique)
        tasks = [task for group in groups.values() for task in group]
        other, unit, kept, pairs = "", "r.unit_id", "", mode == "paired"
        if pairs:
            other = "\njoin tradeoff_request o on o.request_key = r.request_key and o.arm in ($today, $technique) and o.arm <> r.arm"
            unit = "case when r.arm = $today then r.unit_id else o.unit_id end"  # a silent leg may not know the user
        elif mode == "split":
            kept = "\n  and r.exposed = 1 and not exists (select 1 from tradeoff_crossed d where d.unit_id = r.unit_id)"
        if first_turns:
            kept += "\n  and r.turn = 1"
        level = "" if segment is None else ", segment"
        text = fill(
            "tradeoff_task", unit=unit, other=other, kept=kept, segment="" if segment is None else f", r.segment{segment} as segment",
            columns="".join(f",\n  {task.sql(params, paired=pairs)} as {task.name}" for task in tasks),
        )  # fmt: skip
        sums = "".join(f",\n  cast(coalesce(sum({t.name}), 0) as bigint) as {t.name}" for t in tasks)
        units = query(fill("tradeoff_unit", segment=level, sums=sums, tasks=text), params)
        products = "".join(
            f",\n  cast(coalesce(sum(cast(p.{a} as decimal(38,0)) * q.{b}), 0) as decimal(38,0)) as {a}__{b}"
            for group in groups for a in group for b in group
        )  # fmt: skip
        totals = "".join(
            f",\n  cast(coalesce(sum(p.{t.name}), 0) as decimal(38,0)) as sum_{t.name}, max(p.{t.name}) as max_{t.name}"
            for t in tasks
        )
        moments = fill(
            "tradeoff_moment", segment="" if segment is None else ", p.segment", sums=totals, products=products,
            same_segment="" if segment is None else " and q.segment = p.segment", keys="" if segment is None else ", p.segment",
        )  # fmt: skip
        return units, (moments, {})


def money_tasks(success: int) -> list[Task]:
    """Return the columns of the economics; `success` is the number of the metric that tells successes."""
    known = f"{{a}}.cost is not null and {{a}}.y{success} = 1"
    return [
        Task("tasks", "1", known),
        Task("cost", "{a}.cost", known, MONEY_SCALE),
        Task("solved", f"{{a}}.x{success}", known),
        # A call that was logged with its cost has no other one: without a discount it costs the same.
        Task("flat", "coalesce({a}.flat, {a}.cost)", known, MONEY_SCALE),
    ]


def metric_tasks(j: int, measure: Measure) -> list[Task]:
    """Return numerator and denominator of metric number `j`."""
    known = f"{{a}}.y{j} <> 0"
    x_scale = 1 if measure.event or measure.quantile else measure.scale
    return [
        Task(f"x{j}", f"{{a}}.x{j}", known, x_scale),
        Task(f"y{j}", f"{{a}}.y{j}", known, measure.denominator_scale),
    ]


def _format_measure() -> Measure:
    return Measure(numerator=parse("format_ok", key="format_ok", want="boolean"), event=True)


def _money(value: str) -> str:
    """Return a cost in fixed point, NULL where it is not known."""
    return f"case when {number(f'({value})')} then {fixed(value, MONEY_SCALE)} end"


def _scan(spec: TradeoffSpec, measures: Sequence[Measure], as_of_us: int, max_file: int) -> Scan:
    limits = {
        j: (spec.latency.budget, spec.latency.budget)
        for j, m in enumerate(spec.metrics)
        if isinstance(m, QuantileMetric) and spec.latency and m.name == spec.latency.metric
    }
    extra = frozenset[str]().union(*(s.expression().columns for s in spec.segments))
    return Scan(
        experiment=spec.logged_as, arms=(spec.baseline, *spec.techniques), unit=spec.unit, measures=tuple(measures),
        where=spec.where(), call_order="sum", manifests={arm: m.declared for arm, m in spec.arms.items() if m.declared},
        limits=limits, start_us=to_us(spec.start) if spec.start else 0, wide=True, max_file=max_file,
        as_of_us=min(as_of_us, to_us(spec.end)) if spec.end else as_of_us,
        extra=frozenset({*_RAW, *_SPARE} - {"ts_us"}) | extra | spec.cost().columns | spec.category().columns,
    )  # fmt: skip
