"""What an analysis needs, turned into SQL: the files of `sql/` with their slots filled.

Values are parameters (`$experiment`); the slots hold quoted identifiers, columns numbered by metric (x0, y0, x1, ...) and
checked expressions. Only integers leave SQL: numerators and denominators are fixed-point BIGINT, products DECIMAL(38,0).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from abtest.errors import StoreError
from abtest.metrics.base import Measure
from abtest.metrics.expressions import Expression
from abtest.store.files import load_sql

HOUR_US = 3_600_000_000
RESOLUTION = 200
"""Buckets of a histogram per unit of ln(value): 0.5 % wide."""
MANIFEST_FIELDS = (
    "model",
    "prompt_name",
    "prompt_version",
    "prompt_sha256",
    "embedding_model_version",
    "index_id",
    "ruleset_version",
)

_SLOT = re.compile(r"\{\{ (\w+) \}\}")


def fill(name: str, **slots: str) -> str:
    """Return the text of `sql/<name>.sql` with every slot filled; a slot without a value is an error of ours."""
    text = load_sql(name)
    wanted = set(_SLOT.findall(text))
    if wanted != set(slots):
        raise StoreError(f"sql/{name}.sql has the slots {sorted(wanted)}, not {sorted(slots)}")
    return _SLOT.sub(lambda match: slots[match.group(1)], text)


@dataclass(frozen=True)
class Scan:
    """One pass over the logs for one experiment: who is in it, how stages are told apart, what is measured.

    Attributes:
        experiment: Value of `experiment_id` in the logs.
        arms: Control first.
        unit: What was randomised.
        measures: One per metric; columns are numbered in this order.
        where: Population filter.
        call_order: Which attempt stands for a request: "last", "first" or "sum".
        stage_starts_us: Start of each stage after the first.
        manifests: arm -> {field: value}, used to tell arms apart when `derive_arms`.
        derive_arms: Logs carry no variant at all.
        thresholds: metric index -> (control's threshold, treatment's threshold) of a quantile metric, once frozen.
        start_us, as_of_us, max_file: What part of the store counts.
    """

    experiment: str
    arms: tuple[str, ...]
    unit: Literal["user", "session", "request"]
    measures: tuple[Measure, ...]
    where: Expression | None = None
    call_order: Literal["last", "sum", "first"] = "last"
    stage_starts_us: tuple[int, ...] = ()
    manifests: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    derive_arms: bool = False
    start_us: int = 0
    as_of_us: int = 2**62
    max_file: int = 2**62
    grid_us: int = HOUR_US

    # -- exposure ------------------------------------------------------------------------------------------------

    def exposure(self) -> tuple[str, dict[str, Any]]:
        """Return the query of the request table and its parameters."""
        params: dict[str, Any] = {
            "experiment": self.experiment, "max_file": self.max_file, "start": self.start_us, "as_of": self.as_of_us,
            "grid": self.grid_us,
        }  # fmt: skip
        derived, or_manifest = "", ""
        if self.derive_arms:
            branches = [
                f"when {self._manifest_condition(arm, params)} then {_bind(params, 'arm', arm)}"
                for arm in self.manifests
            ]
            derived = " ".join(branches)
            or_manifest = " or " + " or ".join(f"({self._manifest_condition(arm, params)})" for arm in self.manifests)
        stage = "0"
        if self.stage_starts_us:
            steps = [
                f"when c.head_us >= {_bind(params, 'stage_start', at)} then {k}"
                for k, at in reversed(list(enumerate(self.stage_starts_us, start=1)))
            ]
            stage = f"case {' '.join(steps)} else 0 end"
        return fill(
            "exposure",
            unit=self._unit_key,
            manifest_arms=derived,
            or_manifest=or_manifest,
            where=f"({self.where.sql('i')})" if self.where else "true",
            columns=",\n    ".join(f'i."{c}"' for c in sorted({"model", *self._columns, *MANIFEST_FIELDS} - {"attempt", "interaction_id"})),
            call_order="asc" if self.call_order == "first" else "desc",
            head_time="min" if self.call_order == "first" else "max",
            manifest_columns="".join(f', c."{f}"' for f in MANIFEST_FIELDS),
            stage=stage,
            measures="".join(f",\n  {text}" for j, m in enumerate(self.measures) for text in self._row_measure(j, m)),
            score_sums="".join(self._score_sums(j, m, params) for j, m in enumerate(self.measures) if m.score),
        ), params  # fmt: skip

    @property
    def _unit_key(self) -> str:
        return {
            "user": 'i."unit_id"',
            "session": 'i."session_id"',
            "request": 'coalesce(i."request_id", i."interaction_id")',
        }[self.unit]

    @property
    def has_covariates(self) -> bool:
        """Return whether some metric needs the history of its units."""
        return any(m.covariate for m in self.measures)

    def history(self) -> tuple[str, dict[str, Any]]:
        """Return the query of the units' calls before their first exposure; it reads the request table."""
        params: dict[str, Any] = {"experiment": self.experiment, "max_file": self.max_file, "as_of": self.as_of_us}
        wanted = [(j, m) for j, m in enumerate(self.measures) if m.covariate]
        columns = frozenset().union(*(m.columns for _, m in wanted)) - {"attempt", "interaction_id"}
        return fill(
            "history",
            unit=self._unit_key,
            where=f"({self.where.sql('i')})" if self.where else "true",
            columns=_more(f'i."{c}"' for c in sorted(columns)),
            call_order="asc" if self.call_order == "first" else "desc",
            score_sums="".join(self._score_sums(j, m, params) for j, m in wanted if m.score),
            measures=_more(text for j, m in wanted for text in self._row_measure(j, m)),
            totals=_more(
                f"cast({_unit_total(f'{source}{j}', capped)} as bigint) as {name}{j}"
                for j, m in wanted
                for name, source, capped in (("c", "x", m.cap_at_one), ("d", "y", m.per_unit_total))
            ),
        ), params

    @cached_property
    def _columns(self) -> frozenset[str]:
        return frozenset().union(*(m.columns for m in self.measures)) if self.measures else frozenset()

    def _manifest_condition(self, arm: str, params: dict[str, Any]) -> str:
        fields = self.manifests[arm]
        return " and ".join(
            f'i."{name}" = {_bind(params, "manifest", value)}' for name, value in sorted(fields.items())
        )

    @staticmethod
    def _score_sums(j: int, measure: Measure, params: dict[str, Any]) -> str:
        match = f"name = {_bind(params, 'score', measure.score)}"
        if measure.scorer_kind:
            match += f" and scorer_kind = {_bind(params, 'scorer', measure.scorer_kind)}"
        return (
            f",\n    cast(sum(case when {match} then {_fixed('value', measure.scale)} else 0 end) as bigint) as sx{j}"
            f",\n    cast(sum(case when {match} then 1 else 0 end) as bigint) as sy{j}"
        )

    def _row_measure(self, j: int, m: Measure) -> list[str]:
        if m.score:
            return [f"coalesce(s.sx{j}, 0) as x{j}", f"coalesce(s.sy{j}, 0) as y{j}"]
        assert m.numerator is not None
        head = "" if m.per == "call" else "c.call_rank = 1 and "
        value = m.numerator.sql("c")
        request = "over (partition by c.unit_key, c.arm, c.request_key)"
        add_up = self.call_order == "sum" and m.per != "call"
        if m.quantile:
            known, total = _number(value), f"({value})"
            if add_up:
                total = f"sum(case when {known} then {value} end) {request}"
                known = f"{total} is not null"
            return [f"case when {head}{known} then cast({total} as double) end as v{j}"]
        if m.event:
            return [
                f"case when {head}({value}) then 1 else 0 end as x{j}",
                f"case when {head}({value}) is not null then 1 else 0 end as y{j}",
            ]
        if m.denominator is not None:
            below = m.denominator.sql("c")
            known = f"{'' if add_up else head}{_number(value)} and {_number(below)}"
            return [
                f"case when {known} then {_fixed(f'({value})', m.scale)} else 0 end as x{j}",
                f"case when {known} then {_fixed(f'({below})', m.scale)} else 0 end as y{j}",
            ]
        known = _number(value)
        count = f"case when {head}{known} then 1 else 0 end"
        if add_up:
            count = f"case when c.call_rank = 1 then max(case when {known} then 1 else 0 end) {request} else 0 end"
        return [
            f"case when {'' if add_up else head}{known} then {_fixed(f'({value})', m.scale)} else 0 end as x{j}",
            f"{count} as y{j}",
        ]

    # -- unit steps and what is summed over them -----------------------------------------------------------------

    def unit_metric(self, thresholds: Mapping[int, tuple[float, float]]) -> tuple[str, dict[str, Any]]:
        """Return the query of the unit-step table; quantile metrics need their frozen thresholds (control, treatment)."""
        params: dict[str, Any] = {}
        control = _bind(params, "arm", self.arms[0])
        arms = ", ".join([control, *(_bind(params, "arm", arm) for arm in self.arms[1:])])
        hourly, running, steps = [], [], []
        for j, m in enumerate(self.measures):
            if m.quantile:
                if j not in thresholds:
                    continue
                low, high = (_bind(params, f"threshold{j}_", t) for t in thresholds[j])
                x = f"case when v{j} > (case when arm = {control} then {low} else {high} end) then 1 else 0 end"
                y = f"case when v{j} is null then 0 else 1 end"
            else:
                x, y = f"x{j}", f"y{j}"
            for name, source in (("x", x), ("y", y)):
                hourly.append(f"cast(sum({source}) as bigint) as {name}{j}")
                over = "over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row)"
                running.append(f"{name}{j} as d{name}{j}, cast(sum({name}{j}) {over} as bigint) as c{name}{j}")
                capped = m.cap_at_one if name == "x" else m.per_unit_total
                after, before = f"c{name}{j}", f"c{name}{j} - d{name}{j}"
                if capped:
                    after, before = f"least({after}, 1)", f"least({before}, 1)"
                steps.append(f"cast({after} as bigint) as a{name}{j}, cast({before} as bigint) as b{name}{j}")
            if m.covariate:  # known before the unit came, so all of it arrives with the first visit to a cell
                steps += [
                    f"cast(coalesce({c}{j}, 0) as bigint) as a{c}{j}, "
                    f"cast(case when visit = 1 then 0 else coalesce({c}{j}, 0) end as bigint) as b{c}{j}"
                    for c in "cd"
                ]
        return fill(
            "unit_metric", arms=arms, hourly_sums=_more(hourly), running_sums=_more(running), after_before=_more(steps),
            join_history="\nleft join history on past_unit = unit_id" if self.has_covariates else "",
        ), params  # fmt: skip

    def active(self, thresholds: Mapping[int, tuple[float, float]]) -> list[int]:
        """Return the metrics that have columns in the unit-step table."""
        return [j for j, m in enumerate(self.measures) if not m.quantile or j in thresholds]

    def letters(self, metric: int) -> str:
        """Return the unit columns of a metric: numerator x and denominator y, and their history c and d for a covariate."""
        return "xycd" if self.measures[metric].covariate else "xy"

    def cell_sums(self, metrics: Sequence[int]) -> str:
        """Return the query of sums per cell and hour."""
        return fill("cell_sums", sums=_more(
            f"cast(sum(a{c}{j} - b{c}{j}) as decimal(38,0)) as {c}{j}" for j in metrics for c in self.letters(j)
        ))  # fmt: skip

    def pair_moments(self, metrics: Sequence[int]) -> str:
        """Return the query of products per pair of cells and hour: 4 a metric, 16 with a covariate."""
        products = [(f"{c}{j}", f"{d}{j}") for j in metrics for c in self.letters(j) for d in self.letters(j)]
        own = [_total(f"{_wide('a' + c)} * a{d} - {_wide('b' + c)} * b{d}", f"{c[0]}{d}") for c, d in products]
        cross = [_total(f"{_wide('p.' + c)} * (q.a{d} - q.b{d})", f"{c[0]}{d}") for c, d in products]
        closed = [f"cast(sum(a{c}{j} - b{c}{j}) as bigint) as {c}{j}" for j in metrics for c in self.letters(j)]
        return fill("pair_moments", closed_sums=_more(closed), own_products=_more(own), cross_products=_more(cross))

    @staticmethod
    def first_event(metrics: Sequence[int], *, absence: Sequence[int] = ()) -> str:
        """Return the query of first events and event-free denominators per cell and hour.

        For the metrics in `absence` the bad event is that the good one did not happen (a format that is not valid).
        """
        at = "bucket * 1000 + stage"

        def happened(j: int, table: str = "") -> str:
            x = f"{table}ax{j} - {table}bx{j}"
            return f"{table}ay{j} - {table}by{j} > {x}" if j in absence else f"{x} > 0"

        firsts = [f"min(case when {happened(j)} then {at} end) as f{j}" for j in metrics]
        here = "u.bucket * 1000 + u.stage"
        counts = [
            f"cast(sum(case when f.f{j} = {here} and {happened(j, 'u.')} then 1 else 0 end) as bigint) as event{j},\n"
            f"  cast(sum(case when f.f{j} is null or {here} <= f.f{j} then u.ay{j} - u.by{j} else 0 end) as bigint) as risk{j}"
            for j in metrics
        ]
        return fill("first_event", firsts=_more(firsts), counts=_more(counts))

    def warm_up_moments(self) -> str:
        """Return the query of unit-level sums and products over the warm-up, for metrics that are not quantiles."""
        metrics = [j for j, m in enumerate(self.measures) if not m.quantile]
        sums = []
        for j in metrics:
            m = self.measures[j]
            for c, capped in (("x", m.cap_at_one), ("y", m.per_unit_total)):
                sums.append(f"cast({_unit_total(f'{c}{j}', capped)} as bigint) as {c}{j}")
        products = [f"cast(coalesce(sum({c}{j}), 0) as decimal(38,0)) as {c}{j}" for j in metrics for c in "xy"]
        products += [
            _total(f"{_wide(c + str(j))} * {d}{j}", f"{c}{d}{j}")
            for j in metrics
            for c, d in (("x", "x"), ("x", "y"), ("y", "y"))
        ]
        return fill("warm_up_moments", hourly_sums=_more(sums), products=_more(products))

    def arms_in_logs(self) -> tuple[str, dict[str, Any]]:
        """Return the query that counts rows of the logs which name an arm."""
        sql, params = self.named("arms_in_logs")
        return sql, {**params, "experiment": self.experiment, "max_file": self.max_file, "as_of": self.as_of_us}

    def named(self, name: str) -> tuple[str, dict[str, Any]]:
        """Return a query whose only slot is the list of arms."""
        params: dict[str, Any] = {}
        return fill(name, arms=", ".join(_bind(params, "arm", arm) for arm in self.arms)), params


def manifest_query(scan: Scan) -> tuple[str, dict[str, Any]]:
    """Return the query that counts calls by arm and manifest."""
    params: dict[str, Any] = {}
    arms = ", ".join(_bind(params, "arm", arm) for arm in scan.arms)
    return fill("manifest", arms=arms, fields=", ".join(f'"{f}"' for f in MANIFEST_FIELDS)), params


def _bind(params: dict[str, Any], stem: str, value: Any) -> str:
    """Add a parameter under a free name and return its placeholder; the same value is bound once."""
    for name, bound in params.items():
        if name.startswith(stem) and type(bound) is type(value) and bound == value:
            return f"${name}"
    name = f"{stem}_{sum(n.startswith(stem) for n in params)}"
    params[name] = value
    return f"${name}"


def _more(parts: Any) -> str:
    """Return further columns, each on a line, with the comma in front."""
    return "".join(f",\n  {part}" for part in parts)


def _fixed(value: str, scale: int) -> str:
    """Return a number as fixed-point BIGINT, rounded half up the same way on every engine."""
    return f"cast(floor({value} * {scale} + 0.5) as bigint)"


def _number(value: str) -> str:
    """Return the condition that an expression is a finite number: NaN compares as the largest, NULL as unknown."""
    return f"abs({value}) < 1e308"


def _unit_total(column: str, capped: bool) -> str:
    """Return a unit's sum of a column, at most 1 where a unit counts once."""
    return f"least(sum({column}), 1)" if capped else f"sum({column})"


def _wide(column: str) -> str:
    return f"cast({column} as decimal(38,0))"


def _total(product: str, name: str) -> str:
    """Return an exact sum of products; a sum over no rows is zero, not NULL."""
    return f"cast(coalesce(sum({product}), 0) as decimal(38,0)) as {name}"
