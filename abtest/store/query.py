"""What an analysis needs, turned into SQL: the files of `sql/` with their slots filled.

Values are parameters (`$experiment`); the slots hold quoted identifiers, numbered columns and checked expressions. Only
integers leave SQL: numerators and denominators are fixed-point BIGINT, products DECIMAL(38,0).

The path: `calls` (a row a model call, never kept) -> `unit_total` (a row a unit, arm and stage) -> `cell` (what of it is
evidence) -> sums, products and counts. abtest/store/moments.py has what comes after `unit_total`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from abtest.errors import StoreError
from abtest.metrics.base import Measure
from abtest.metrics.expressions import Expression
from abtest.store.files import load_sql
from abtest.store.rows import RowMeasure, RowRules, Tally, fixed, row_measure

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
_ALWAYS = frozenset({"interaction_id", "ts_us", "unit_id", "session_id", "request_id", "experiment_id", "variant", "exposed",
                     "operation", "attempt", "file_id"})  # fmt: skip
_PLACEHOLDER = re.compile(r"\$(\w+)")
_QUOTED = re.compile(r"--[^\n]*|'(?:[^']|'')*'")
_SLOT = re.compile(r"\{\{ (\w+) \}\}")

Query = tuple[str, dict[str, Any]]


def fill(name: str, **slots: str) -> str:
    """Return the text of `sql/<name>.sql` with every slot filled; a slot without a value is an error of ours."""
    text = load_sql(name)
    wanted = set(_SLOT.findall(text))
    if wanted != set(slots):
        raise StoreError(f"sql/{name}.sql has the slots {sorted(wanted)}, not {sorted(slots)}")
    return _SLOT.sub(lambda match: slots[match.group(1)], text.rstrip("\n"))


def query(sql: str, params: Mapping[str, Any]) -> Query:
    """Return a query with those of the parameters that it names."""
    named = set(_PLACEHOLDER.findall(_QUOTED.sub("", sql)))
    return sql, {name: value for name, value in params.items() if name in named}


class Params(dict[str, Any]):
    """The parameters of one query."""

    def bind(self, stem: str, value: Any) -> str:
        """Add a value under a free name and return its placeholder; the same value is bound once."""
        for name, bound in self.items():
            if name.startswith(stem) and type(bound) is type(value) and bound == value:
                return f"${name}"
        name = f"{stem}_{sum(n.startswith(stem) for n in self)}"
        self[name] = value
        return f"${name}"

    def bind_all(self, stem: str, values: Iterable[Any]) -> str:
        """Return the placeholders of several values, with commas between them."""
        return ", ".join(self.bind(stem, value) for value in values)


@dataclass(frozen=True)
class Facts:
    """What the store holds; each False leaves a join out that would find nothing."""

    assignments: bool = True
    scores: bool = True
    repeated: bool = True
    twins: bool = True


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
        limits: metric index -> (control's threshold, treatment's threshold) of a quantile metric, once frozen.
        caps: metric index -> the frozen cap of its numerator.
        start_us, as_of_us, max_file: What part of the store counts.
        facts: What the store holds.
        wide: Add numbers in BIGINT instead of in doubles (slower; for huge numbers).
        units: Name of a kept table of unit_ids; only these are read.
        without: Name of a kept table of unit_ids; these are not read, nor are calls without a unit.
        nameless: Only calls without a unit are read.
        since: (file, as_of) of what was read before; only rows that are newer are read.
        extra: Further columns that somebody will ask for (segments).
        source: Name of a kept table that has the experiment's calls (own_calls.py); None: the store itself.
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
    limits: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    caps: Mapping[int, float] = field(default_factory=dict)
    start_us: int = 0
    as_of_us: int = 2**62
    max_file: int = 2**62
    facts: Facts = Facts()
    wide: bool = False
    units: str | None = None
    without: str | None = None
    nameless: bool = False
    since: tuple[int, int] | None = None
    extra: frozenset[str] = frozenset()
    source: str | None = None

    # -- metrics -------------------------------------------------------------------------------------------------

    @cached_property
    def active(self) -> tuple[int, ...]:
        """Return the metrics that can be added up: quantiles need their threshold, a cap its value."""
        return tuple(
            j
            for j, m in enumerate(self.measures)
            if (not m.quantile or j in self.limits) and (m.cap_quantile is None or j in self.caps)
        )

    @property
    def scored(self) -> list[int]:
        """Return the metrics that read scores."""
        return [j for j, m in enumerate(self.measures) if m.score]

    @property
    def waits(self) -> bool:
        """Return whether some metric counts a call only when it has reached an age."""
        return any(m.mature_us is not None for m in self.measures)

    @property
    def has_covariates(self) -> bool:
        """Return whether some metric needs the history of its units."""
        return any(m.covariate for m in self.measures)

    def row(self, j: int, params: Params, *, any_age: bool = False) -> RowMeasure:
        """Return what metric `j` reads off a row; `any_age`: off young calls too, whatever the metric waits for."""
        window = None if any_age else self.measures[j].mature_us
        rules = RowRules(
            add_up=self.call_order == "sum",
            limits={k: tuple(params.bind("limit", t) for t in pair) for k, pair in self.limits.items() if k == j},  # type: ignore[misc]
            caps={k: params.bind("cap", cap) for k, cap in self.all_caps.items() if k == j},
            control=params.bind("arm", self.arms[0]) if j in self.limits else "",
            arm=self.arm(params),
            wide=self.wide,
            mature={} if window is None else {j: params.bind("mature", self.as_of_us - window)},
        )
        return row_measure(j, self.measures[j], rules)

    @cached_property
    def all_caps(self) -> Mapping[int, float]:
        """Return the caps, the ones of the spec and the frozen ones."""
        return {**{j: m.cap for j, m in enumerate(self.measures) if m.cap is not None}, **self.caps}

    # -- the calls -----------------------------------------------------------------------------------------------

    def params(self) -> Params:
        """Return the parameters that every reading of calls has."""
        return Params(experiment=self.experiment, max_file=self.max_file, start=self.start_us, as_of=self.as_of_us)

    def calls(
        self, params: Params, tallies: Mapping[str, Tally], *, manifest: bool = False, segment: str | None = None,
        until_us: int | None = None,
    ) -> str:  # fmt: skip
        """Return the query of the calls: unit_id, arm, ts_us, head_us, head, stage, not_randomised and the tallies by name.

        Args:
            params: Gets the values.
            tallies: Column name -> what it holds.
            manifest: Add what each call ran.
            segment: Expression (over `i`) of the segment that a call belongs to.
            until_us: Leave later calls out.
        """
        scored = any(t.scored for t in tallies.values()) and self.facts.scores
        if not scored:
            tallies = {n: t if not t.scored else _without_scores(t) for n, t in tallies.items()}
        more = "" if until_us is None else f"\n  and i.ts_us <= {params.bind('until', until_us)}"
        repeated = "i.request_id is not null and i.request_id in (select request_id from repeated_request)"
        columns = [
            f"{self.unit_key} as unit_id", f"{self.arm(params)} as arm", "i.ts_us", "i.ts_us as head_us", "1 as head",
            f"{self._stage('i.ts_us', params)} as stage", f"{self._by_default} = 1 as not_randomised",
        ]  # fmt: skip
        if manifest:
            columns += [f'i."{f}"' for f in MANIFEST_FIELDS]
        if segment is not None:
            columns.append(f"{segment} as segment")
        single = self._select(
            params,
            [*columns, *(f"{t.single} as {n}" for n, t in tallies.items())],
            scored=scored,
            more=more + (f"\n  and not ({repeated})" if self.facts.repeated else ""),
        )
        if not self.facts.repeated:
            return single
        raw = sorted(
            {"interaction_id", "ts_us", "attempt", "model", *self._columns, *(MANIFEST_FIELDS if manifest else ())}
        )
        inner = [
            f"{self.unit_key} as unit_key", f"{self.arm(params)} as arm", "coalesce(i.request_id, i.interaction_id) as request_key",
            f"{self._by_default} as by_default", *(f'i."{c}"' for c in raw),
        ]  # fmt: skip
        if segment is not None:
            inner.append(f"{segment} as segment")
        outer = [
            "c.unit_key as unit_id", "c.arm", "c.ts_us", "c.head_us", "case when c.call_rank = 1 then 1 end as head",
            f"{self._stage('c.head_us', params)} as stage", "c.any_by_default = 1 as not_randomised",
        ]  # fmt: skip
        outer += [f'c."{f}"' for f in MANIFEST_FIELDS] if manifest else []
        outer += ["c.segment"] if segment is not None else []
        several = fill(
            "attempts",
            columns=", ".join([*outer, *(f"{t.attempt} as {n}" for n, t in tallies.items())]),
            calls=self._select(params, inner, scored=False, more=more + f"\n  and {repeated}"),
            call_order="asc" if self.call_order == "first" else "desc",
            head_time="min" if self.call_order == "first" else "max",
            scores="\nleft join scored s on s.interaction_id = c.interaction_id" if scored else "",
        )
        return f"{single}\nunion all\n{several}"

    def _select(self, params: Params, columns: Sequence[str], *, scored: bool, more: str) -> str:
        joins, belongs = self.assigned_join, ["i.experiment_id = $experiment"]
        if self.facts.assignments:
            belongs.append("a.variant is not null")
        if scored:
            joins += "\nleft join scored s on s.interaction_id = i.interaction_id"
        if self.derive_arms:
            belongs += [f"({self.manifest_condition(arm, params)})" for arm in self.manifests]
        if self.units is not None:
            more += f'\n  and {self.unit_key} in (select unit_id from "{self.units}")'
        if self.without is not None:
            more += f'\n  and {self.unit_key} not in (select unit_id from "{self.without}")'
        if self.nameless:
            more += f"\n  and {self.unit_key} is null"
        if self.since is not None:
            file, seen = (params.bind("since", value) for value in self.since)
            more += f"\n  and (i.file_id > {file} or i.ts_us > {seen})"
        return fill(
            "calls", columns=", ".join(columns), interaction=self.interaction(), joins=joins,
            belongs=belongs[0] if len(belongs) == 1 else f"({' or '.join(belongs)})",
            where=f"({self.where.sql('i')})" if self.where else "true", more=more,
        )  # fmt: skip

    def interaction(self) -> str:
        """Return the relation of the logged calls; a call that two sources logged is one row of what both say."""
        if self.source is not None:
            return f'"{self.source}"'
        if not self.facts.twins:
            return "interaction"
        columns = ", ".join(f'"{c}"' for c in sorted(self.needed))
        return (
            f"(\n  select {columns} from interaction x\n"
            "  where not exists (select 1 from twin w where w.interaction_id = x.interaction_id\n"
            "    and w.file_id <= $max_file and w.until_file > $max_file)\n"
            f"  union all\n  select {columns} from merged_interaction where file_id <= $max_file and until_file > $max_file\n)"
        )

    def score_target(self) -> str:
        """Return the relation of what each score belongs to; a score of a doubled call belongs to the merged one."""
        if not self.facts.twins:
            return "score_target"
        return (
            "(\n    select t.score_id, coalesce(w.merged_id, t.interaction_id) as interaction_id, t.file_id, t.until_file\n"
            "    from score_target t\n"
            "    left join twin w on w.interaction_id = t.interaction_id and w.file_id <= $max_file and w.until_file > $max_file\n  )"
        )

    @property
    def unit_key(self) -> str:
        """Return the expression of a row's unit."""
        return {
            "user": 'i."unit_id"',
            "session": 'i."session_id"',
            "request": 'coalesce(i."request_id", i."interaction_id")',
        }[self.unit]

    @property
    def assigned_join(self) -> str:
        """Return the join with what the unit was assigned at that moment; empty where nobody was."""
        if not self.facts.assignments:
            return ""
        return (
            f"\nleft join assigned a on a.unit_id = {self.unit_key} and a.from_us <= i.ts_us"
            " and (a.until_us is null or i.ts_us < a.until_us)"
        )

    def arm(self, params: Params) -> str:
        """Return the expression of a row's arm."""
        cases = ["when i.experiment_id = $experiment and i.variant is not null then i.variant"]
        if self.facts.assignments:
            cases.append("when a.variant is not null then a.variant")
        elif not self.derive_arms:
            return "i.variant"  # every row is of the experiment
        if self.derive_arms:
            cases += [
                f"when {self.manifest_condition(arm, params)} then {params.bind('arm', arm)}" for arm in self.manifests
            ]
        return f"case {' '.join(cases)} end"

    @property
    def _by_default(self) -> str:
        return "coalesce(a.by_default, 0)" if self.facts.assignments else "0"

    def _stage(self, moment: str, params: Params) -> str:
        steps = [
            f"when {moment} >= {params.bind('stage_start', at)} then {k}"
            for k, at in reversed(list(enumerate(self.stage_starts_us, start=1)))
        ]
        return f"case {' '.join(steps)} else 0 end" if steps else "0"

    @property
    def needed(self) -> frozenset[str]:
        """Return the columns of the log that are read."""
        return _ALWAYS | {"model"} | self._columns | set(MANIFEST_FIELDS)

    @cached_property
    def _columns(self) -> frozenset[str]:
        read = frozenset().union(*(m.columns for m in self.measures)) if self.measures else frozenset[str]()
        return read | self.extra | (self.where.columns if self.where else frozenset[str]())

    def manifest_condition(self, arm: str, params: Params) -> str:
        """Return the condition that a call ran what the spec says an arm runs."""
        fields = self.manifests[arm]
        return " and ".join(f'i."{name}" = {params.bind("manifest", value)}' for name, value in sorted(fields.items()))

    # -- before the calls ----------------------------------------------------------------------------------------

    def assigned(self) -> Query:
        """Return the query of what every unit was assigned; kept as `assigned`."""
        some = f' and unit_id in (select unit_id from "{self.units}")' if self.units is not None else ""
        params = {"experiment": self.experiment, "max_file": self.max_file, "as_of": self.as_of_us}
        return query(fill("assigned", some_units=some), params)

    def score_table(self) -> Query:
        """Return the query of the scores an interaction has; kept as `scored`."""
        params = Params(max_file=self.max_file, as_of=self.as_of_us)
        sums = "".join(score_sums(j, self.measures[j], params) for j in self.scored)
        names = params.bind_all("score", sorted({str(self.measures[j].score) for j in self.scored}))
        some = ""
        if self.source is not None:
            own = f'select interaction_id from "{self.source}" where experiment_id = {params.bind("experiment", self.experiment)}'
            some = f"\n    and t.interaction_id in ({own})"
        elif self.units is not None or self.nameless:
            which = (
                f"{self.unit_key} is null"
                if self.nameless
                else f'{self.unit_key} in (select unit_id from "{self.units}")'
            )
            calls = f"select i.interaction_id from {self.interaction()} i where {which}"
            some = f"\n    and t.interaction_id in ({calls})"
        return query(
            fill("scored", score_sums=sums, names=names, score_target=self.score_target(), some_units=some), params
        )

    def arms_in_logs(self) -> Query:
        """Return the query that counts rows of the logs which name an arm."""
        params = Params(experiment=self.experiment, max_file=self.max_file, as_of=self.as_of_us)
        return query(fill("arms_in_logs", arms=params.bind_all("arm", self.arms)), params)

    def population(self) -> Query:
        """Return the query of the calls by what became of them and what they ran.

        With it comes what a cheap look at every number tells: `largest_*`, the largest one to be added up (is a double
        exact?), and `requests_*` or `calls_*`, how many have the flag (all? then the count of requests or calls says it);
        and by metric `known_*`, rows that can tell, `young_*`, rows that are not mature, `touched_*`, rows above the cap.
        """
        params = self.params()
        tallies = tallies_of(self.row(j, params) for j in self.active)
        looks = [f"max(abs({n})) as largest_{n}" for n, t in tallies.items() if t.how == "real"]
        looks += [f"count({n}) as {t.per}_{n}" for n, t in tallies.items() if t.how == "flag"]
        looks += self._row_counts(params, tallies)
        calls = self.calls(params, tallies, manifest=True)
        fields = ", ".join(f'"{f}"' for f in MANIFEST_FIELDS)
        looks_text = "".join(f",\n  {look}" for look in looks)
        return query(fill("population", fields=fields, looks=looks_text, calls=calls), params)

    def _row_counts(self, params: Params, tallies: dict[str, Tally]) -> list[str]:
        """Return the columns that count a metric's rows; what they read besides is added to `tallies`."""
        names = {tally: name for name, tally in tallies.items()}
        counts: list[str] = []
        for j in self.active:
            measure, row = self.measures[j], self.row(j, params)
            if measure.part:
                continue
            told = names[row.y]
            known = f"case when {told} > 0 then 1 end" if measure.score and not measure.event else told
            counts.append(f"count({known}) as known_{j}")
            if measure.mature_us is not None:
                until = params.bind("mature", self.as_of_us - measure.mature_us)
                young = f"ts_us > {until}" if measure.per == "call" else f"head is not null and head_us > {until}"
                counts.append(f"count(case when {young} then 1 end) as young_{j}")
            if j in self.all_caps and row.value is not None:
                tallies[f"v{j}"] = row.value
                cap = params.bind("cap", self.all_caps[j])
                counts.append(f"count(case when v{j} > {cap} then 1 end) as touched_{j}")
        return counts

    def at(self, **changes: Any) -> Scan:
        """Return the scan with other settings."""
        return replace(self, **changes)


def tallies_of(rows: Iterable[RowMeasure]) -> dict[str, Tally]:
    """Return what is read off a row, by column: metrics that read the same share a column."""
    found: dict[Tally, str] = {}
    for row in rows:
        for tally in (row.x, row.y):
            found.setdefault(tally, f"t{len(found)}")
    return {name: tally for tally, name in found.items()}


def score_sums(j: int, measure: Measure, params: Params) -> str:
    """Return the columns of a metric's scores: sum and count."""
    match = f"name = {params.bind('score', measure.score)}"
    if measure.scorer_kind:
        match += f" and scorer_kind = {params.bind('scorer', measure.scorer_kind)}"
    return (
        f",\n    cast(sum(case when {match} then {fixed('value', measure.scale)} else 0 end) as bigint) as sx{j}"
        f",\n    cast(sum(case when {match} then 1 else 0 end) as bigint) as sy{j}"
    )


def _without_scores(tally: Tally) -> Tally:
    """Return what a row without any score says: the tables of scores are not joined."""
    texts = [re.sub(r"\bs\.s([xy])\d+\b", "cast(null as bigint)", text) for text in (tally.single, tally.attempt)]
    return Tally(texts[0], texts[1], tally.how, per=tally.per)
