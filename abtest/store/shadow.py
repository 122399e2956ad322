"""The queries of the shadow stage: the same request answered by both arms, from calls to sums over units.

The path: `shadow_wanted` (requests that the candidate answered unseen) -> `shadow_answer` (a row an answer) -> `shadow_side` (a row
a request and arm) -> `shadow_pair` (a row a pair) -> `shadow_unit` (a row a unit) -> sums, products and counts. Only integers
leave: an average over several answers is a multiple of 1 / (scale * common), `common` being a multiple of every count there is.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from abtest.metrics.base import Measure
from abtest.store.moments import more, total, wide
from abtest.store.query import MANIFEST_FIELDS, RESOLUTION, Params, Query, Scan, fill, query
from abtest.store.rows import RowMeasure

Form = Literal["mean", "sum", "unit"]
COLUMNS = frozenset({"turn", "repeat", "finish_reason", "refused", "format_ok", "is_error", *MANIFEST_FIELDS})
"""What is read of every call, besides what the metrics read."""
MAX_COMMON = 1_000_000
"""Beyond it an average of several answers is rounded down to a millionth of its fixed-point step."""
_REQUEST = "coalesce(i.request_id, i.interaction_id)"
LETTERS = "abcd"
"""Numerator and denominator of the candidate (a, b) and of control (c, d)."""


@dataclass(frozen=True)
class PairMeasure:
    """What is measured on both answers of a request.

    Attributes:
        measure: What is read off a call.
        limits: Thresholds of a quantile (control's, treatment's), once frozen.
        one_sided: It says something of the pair as a whole and stands on one of the answers (their similarity).
    """

    measure: Measure
    limits: tuple[float, float] | None = None
    one_sided: bool = False

    @property
    def form(self) -> Form:
        """Return how answers become one number: averaged, averaged beside a denominator, or added up by unit."""
        if self.measure.per_unit_total:
            return "unit"
        by_call = self.measure.per == "call" and self.measure.score is None
        return "sum" if self.measure.denominator is not None or by_call else "mean"

    @property
    def x_scale(self) -> int:
        """Return the fixed-point scale of a numerator, without `common`."""
        return 1 if self.measure.event or self.measure.quantile else self.measure.scale

    @property
    def y_scale(self) -> int:
        """Return the fixed-point scale of a denominator, without `common`; 0 where `common` is no part of it."""
        return self.measure.denominator_scale if self.form == "sum" else 0

    @property
    def flag(self) -> bool:
        """Return whether an answer has it or not."""
        return self.form == "mean" and (self.measure.event or self.measure.quantile)

    @property
    def active(self) -> bool:
        """Return whether it can be added up: a quantile needs its threshold."""
        return not self.measure.quantile or self.limits is not None


def common_of(counts: Iterable[int]) -> int:
    """Return a multiple of all the counts, or `MAX_COMMON` when there is none below it."""
    found = 1
    for n in counts:
        found = math.lcm(found, n)
        if found > MAX_COMMON:
            return 720_720  # a multiple of 1 to 16
    return found


class ShadowQueries:
    """The queries of one reading.

    Args:
        scan: Who is in the experiment and what part of the store counts; its measures are those of `measures`, in order.
        measures: What is measured.
        by_manifest: Unseen answers without the treatment's name are told by what they ran.
        all_turns: Later turns of a conversation count, too.
    """

    def __init__(self, scan: Scan, measures: Sequence[PairMeasure], *, by_manifest: bool, all_turns: bool) -> None:
        self.measures = tuple(measures)
        limits = {j: m.limits for j, m in enumerate(measures) if m.limits is not None}
        self.scan = scan.at(
            measures=tuple(m.measure for m in measures), limits=limits, stage_starts_us=(), extra=scan.extra | COLUMNS, wide=True
        )  # fmt: skip
        self.control, self.treatment = scan.arms
        self.by_manifest, self.all_turns = by_manifest, all_turns

    # -- calls and answers ---------------------------------------------------------------------------------------

    def _params(self) -> Params:
        params = self.scan.params()
        params["control"], params["treatment"] = self.control, self.treatment
        return params

    def _arm(self, params: Params) -> str:
        """Return the expression of a call's arm: nobody was assigned to an answer that nobody saw."""
        seen = self.scan.arm(params)
        own = "i.experiment_id = $experiment and i.variant is not null"
        cases = [f"when not i.exposed and {own} and i.variant = $treatment then $treatment"]
        if self.by_manifest:
            # A gateway's copy of a request carries the names of the one that was seen; what it ran tells it apart.
            cases += [
                f"when not i.exposed and ({self.scan.manifest_condition(arm, params)}) then {params.bind('arm', arm)}"
                for arm in (self.treatment, self.control)
            ]
            cases.append("when not i.exposed then cast(null as varchar)")
        else:
            # Without a manifest only a numbered repeat of control's answer is known to be one, and not such a copy.
            cases.append(f"when not i.exposed then case when {own} and i.repeat is not null then i.variant end")
        return f"case {' '.join(cases)} else {seen} end"

    def _calls(self, params: Params, columns: Iterable[str], more_conditions: str = "") -> str:
        scan = self.scan
        named = not (scan.facts.assignments or scan.derive_arms or self.by_manifest)
        where = f"({scan.where.sql('i')})" if scan.where else "true"
        keys = [
            f"{_REQUEST} as pair_key", f"{scan.unit_key} as unit_key", f"{self._arm(params)} as arm",
            "i.ts_us", "case when i.exposed then 0 else 1 end as silent", f"case when {where} then 1 else 0 end as in_population",
        ]  # fmt: skip
        return fill(
            "shadow_call", columns=", ".join([*keys, *columns]), interaction=scan.interaction(), joins=scan.assigned_join,
            belongs="\n  and i.experiment_id = $experiment" if named else "", more=more_conditions,
        )  # fmt: skip

    def wanted(self) -> Query:
        """Return the query of the requests that may be pairs; kept as `shadow_wanted`."""
        params = self._params()
        several = "i.request_id is not null and i.request_id in (select q.request_id from repeated_request q)"
        again = f"case when {several} then 1 else 0 end" if self.scan.facts.repeated else "0"
        columns = [f"{again} as several", "case when i.repeat is not null then 1 else 0 end as repeated"]
        calls = self._calls(params, columns)
        return query(fill("shadow_wanted", calls=calls, replayed=" or k.several = 1"), params)

    def answers(self) -> Query:
        """Return the query of the answers; it reads `shadow_wanted` and is kept as `shadow_answer`."""
        scan, params = self.scan, self._params()
        rows = {j: scan.row(j, params) for j, m in enumerate(self.measures) if m.active or m.measure.quantile}
        own = {"interaction_id", "ts_us"}
        raw = sorted({"attempt", "interaction_id", *COLUMNS, *self._raw()} - own)
        columns = [
            "i.interaction_id", "coalesce(i.repeat, 0) as nth",
            f"cast(coalesce(i.repeat, 0) as varchar) || case when i.exposed then '+' else '-' end || {_REQUEST} as request_key",
            *(f'i."{name}"' for name in raw),
        ]  # fmt: skip
        tallies, totals = self._tallies(rows)
        scored = any(m.measure.score for m in self.measures)
        last = scan.call_order != "first"
        return query(
            fill(
                "shadow_answer", totals=more(totals), tallies=more(tallies),
                call_order="desc" if last else "asc", head_time="max" if last else "min", calls=self._calls(params, columns),
                scores="\n  left join scored s on s.interaction_id = c.interaction_id" if scored else "",
            ),
            params,
        )  # fmt: skip

    def _raw(self) -> frozenset[str]:
        return frozenset[str]().union(*(m.measure.columns for m in self.measures))

    def _tallies(self, rows: dict[int, RowMeasure]) -> tuple[list[str], list[str]]:
        """Return the columns of a call and of an answer: x, y, for a ratio how many calls can tell, and a quantile's value."""
        tallies: list[str] = []
        totals: list[str] = []
        for j, row in rows.items():
            for letter, tally in (("x", row.x), ("y", row.y)):
                tallies.append(f"{tally.attempt} as {letter}{j}")
                totals.append(f"{tally.total(f'r.{letter}{j}')} as {letter}{j}")
            if self.measures[j].measure.denominator is not None:
                totals.append(f"count(r.x{j}) as k{j}")
            if self.measures[j].measure.quantile and row.value is not None:
                tallies.append(f"{row.value.attempt} as v{j}")
                totals.append(f"max(r.v{j}) as v{j}")
        return tallies, totals

    # -- pairs and units -----------------------------------------------------------------------------------------

    @property
    def active(self) -> list[int]:
        """Return the measures that are added up."""
        return [j for j, m in enumerate(self.measures) if m.active]

    def _side_columns(self, j: int) -> str:
        return "xyk" if self.measures[j].measure.denominator is not None else "xy"

    def sides(self) -> Query:
        """Return the query of requests by arm; it reads `shadow_answer` and is kept as `shadow_side`."""
        sums = [
            f"cast(sum(a.{c}{j}) as bigint) as {c}{j}"
            for j, m in enumerate(self.measures) if m.active for c in self._side_columns(j)
        ]  # fmt: skip
        return fill("shadow_side", totals=more(sums)), {}

    def counts(self) -> Query:
        """Return the query of how many answers (and scores) there are to be averaged."""
        parts = ["  select answers as n from shadow_side"]
        for j in self.active:
            if self.measures[j].form == "mean":
                parts += [f"  select y{j} as n from {t}" for t in ("shadow_answer", "shadow_side")]  # noqa: S608 - our names
        return fill("shadow_counts", counts="\n  union all\n".join(parts)), {}

    def pairs(self, common: int) -> Query:
        """Return the query of the pairs; it reads `shadow_side` and is kept as `shadow_pair`."""
        sides: list[str] = []
        values: list[str] = []
        for j in self.active:
            for side, suffix in (("t", "t"), ("c", "c")):
                x, y = self._value(j, side)
                sides += [f"{x} as x{suffix}{j}", f"{y} as y{suffix}{j}"]
            values += [f"p.{c}{s}{j}" for s in "tc" for c in "xy"]
            both = f"p.yt{j} is not null and p.yc{j} is not null"
            if self.measures[j].one_sided:
                values += [
                    f"coalesce(p.xt{j}, p.xc{j}) as a{j}", f"coalesce(p.yt{j}, p.yc{j}) as b{j}", f"0 as c{j}", f"0 as d{j}"
                ]  # fmt: skip
                continue
            values += [
                f"case when {both} then p.{name}{j} end as {letter}{j}"
                for letter, name in zip(LETTERS, ("xt", "yt", "xc", "yc"), strict=True)
            ]
        turns = "" if self.all_turns else " and p.turn = 1"
        params = {"control": self.control, "treatment": self.treatment, "common": common}
        return query(fill("shadow_pair", turns=turns, values=more(values), sides=more(sides)), params)

    def _value(self, j: int, side: str) -> tuple[str, str]:
        """Return the numerator and denominator of one arm's answers to a request, times `common`; NULL: it cannot tell."""
        m = self.measures[j]
        x, y = f"{side}.x{j}", f"{side}.y{j}"
        known = f"{side}.k{j} > 0" if m.measure.denominator is not None else f"{y} > 0"
        count = y if m.form == "mean" else f"{side}.answers"
        weight = f"cast(floor($common / nullif({count}, 0)) as bigint)"
        below = f"{y} * {weight}" if m.form == "sum" else "1"
        return f"case when {known} then {x} * {weight} end", f"case when {known} then {below} end"

    def units(self, common: int, until_us: int) -> Query:
        """Return the query of units with the pairs that were complete by a moment; kept as `shadow_unit` (or `shadow_warm`)."""
        totals: list[str] = []
        for j in self.active:
            m = self.measures[j]
            for letter in LETTERS:
                text = f"cast(coalesce(sum(p.{letter}{j}), 0) as bigint)"
                if m.form == "unit" and letter in "bd":
                    text = f"least({text}, 1)"
                elif m.measure.cap_at_one and letter in "ac":
                    text = f"least({text}, $common)"
                totals.append(f"{text} as {letter}{j}")
        return query(fill("shadow_unit", totals=more(totals)), {"common": common, "until": until_us})

    def moments(self, units: str = "shadow_unit") -> Query:
        """Return the query of sums and products over units: "a0", and "ab0" for the product of two of its letters."""
        columns: list[str] = []
        for j in self.active:
            columns += [f"cast(coalesce(sum(u.{c}{j}), 0) as decimal(38,0)) as {c}{j}" for c in LETTERS]
            columns += [
                total(f"{wide(f'u.{p}{j}')} * u.{q}{j}", f"{p}{q}{j}")
                for i, p in enumerate(LETTERS) for q in LETTERS[i:]
            ]  # fmt: skip
            columns.append(f"coalesce(sum(case when u.b{j} > 0 then 1 else 0 end), 0) as n{j}")
        return fill("shadow_moments", products=more(columns), units=units), {}

    def cutoff(self, units: int) -> Query:
        """Return the query of the moment at which the n-th unit had its first pair."""
        return fill("shadow_cutoff"), {"units": units}

    # -- counts --------------------------------------------------------------------------------------------------

    def facts(self, common: int) -> Query:
        """Return the query of what became of the pairs; by metric: pairs that can tell, and how they differ."""
        columns: list[str] = []

        def count(condition: str, name: str) -> None:
            columns.append(f"coalesce(sum(case when p.counted = 1 and {condition} then 1 else 0 end), 0) as {name}")

        for j in self.active:
            count(f"p.b{j} is not null", f"known{j}")
            count(f"p.yt{j} is not null", f"told_t{j}")
            count(f"p.yc{j} is not null", f"told_c{j}")
            if not self.measures[j].flag:
                continue
            for name, p, q in (("rise", "a", "c"), ("fall", "c", "a")):
                condition = f"p.counted = 1 and p.{p}{j} > p.{q}{j}"
                columns.append(
                    f"cast(coalesce(sum(case when {condition} then p.{p}{j} - p.{q}{j} else 0 end), 0) as decimal(38,0)) as {name}{j}"
                )
            yes, no = f"2 * p.{{}}{j} >= $common", f"2 * p.{{}}{j} < $common"
            for name, t, c in (("both", yes, yes), ("treated", yes, no), ("only", no, yes), ("neither", no, no)):
                count(f"{t.format('a')} and {c.format('c')}", f"{name}{j}")
        return query(fill("shadow_facts", tables=more(columns)), {"common": common})

    def near(self) -> Query:
        """Return the query of the requests that nearly are pairs."""
        return query(fill("shadow_near"), {"control": self.control, "treatment": self.treatment})

    def values(self, j: int, until_us: int) -> Query:
        """Return the query of the histogram of a quantile's value over the pairs that were complete by a moment."""
        params = {"control": self.control, "treatment": self.treatment, "resolution": RESOLUTION, "until": until_us}
        return query(fill("shadow_values", metric=str(j)), params)

    def first_pairs(self, j: int, after_us: int) -> Query:
        """Return the query of units by the difference of their first pair, of units that came after a moment."""
        return query(fill("shadow_first", metric=str(j)), {"until": after_us})

    def text(self) -> Query:
        """Return the query of the kept texts of the answers; kept as `shadow_text`."""
        joins = "\nleft join twin w on w.interaction_id = x.interaction_id and w.file_id <= $max_file and w.until_file > $max_file"
        twins = self.scan.facts.twins
        call = "coalesce(w.merged_id, x.interaction_id)" if twins else "x.interaction_id"
        return query(fill("shadow_text", call=call, joins=joins if twins else ""), {"max_file": self.scan.max_file})

    def agreement(self) -> Query:
        """Return the query of how often both answers say the same; it reads `shadow_text`."""
        return query(fill("shadow_agreement"), {"control": self.control, "treatment": self.treatment})

    def noise(self, common: int) -> Query | None:
        """Return the query of the spread of repeated answers, for the metrics that are averages of answers."""
        params = Params(common=common)
        groups = [
            fill(
                "shadow_repeats", metric=str(j), known=f"a.y{j} > 0",
                value=f"a.x{j} * cast(floor($common / nullif(a.y{j}, 0)) as bigint)",
            )
            for j in self.active if self.measures[j].form == "mean" and not self.measures[j].one_sided
        ]  # fmt: skip
        return query(fill("shadow_noise", groups="\n  union all\n".join(groups)), params) if groups else None

    def labels(self, judge: int, human: int) -> Query:
        """Return the query of units by human label and judge's score, by arm, and of the differences between the arms."""
        values = {
            "control": (f"p.xc{human}", f"p.xc{judge}"), "treatment": (f"p.xt{human}", f"p.xt{judge}"),
            "difference": (f"p.xt{human} - p.xc{human}", f"p.xt{judge} - p.xc{judge}"),
        }  # fmt: skip
        rows = "\n    union all\n".join(
            fill("shadow_label_rows", arm=f"'{arm}'", human=h, judge=g) for arm, (h, g) in values.items()
        )
        return fill("shadow_labels", rows=rows), {}

    def manifests(self) -> Query:
        """Return the query of what the answers of the pairs ran."""
        fields = ", ".join(f'a."{name}"' for name in MANIFEST_FIELDS)
        return query(fill("shadow_manifest", fields=fields), {"control": self.control, "treatment": self.treatment})

    def sessions(self, first_us: int, last_us: int) -> Query:
        """Return the query of control's sessions while requests were mirrored."""
        params = self._params()
        params["first"], params["last"] = first_us, last_us
        calls = self._calls(params, ["coalesce(i.session_id, i.unit_id) as session_key"])
        return query(fill("shadow_sessions", calls=calls), params)
