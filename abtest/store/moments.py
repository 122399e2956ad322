"""From unit totals to what leaves SQL: sums by cell, products by pair of cells, first events, histograms.

A `Layout` names the columns: metrics that read the same thing off a row (the denominators of p50, p95 and p99, say) share
one column, so that nothing is added up or multiplied twice. Rows that leave SQL carry the names of the metrics again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from abtest.store.query import HOUR_US, RESOLUTION, Params, Query, Scan, fill, query, score_sums, tallies_of
from abtest.store.rows import RowMeasure, Tally

Row = Mapping[str, Any]
COUNTS = {"requests", "calls"}
"""Columns that every table of units has, whatever is measured."""
LOOK = 10_000_000
"""A look over time is named stage * LOOK + bucket."""


class Layout:
    """The columns of a scan's unit totals and cells.

    Args:
        scan: What is measured.
        metrics: The metrics that have columns; default: all that can be added up.
        events: Metrics whose first events are wanted.
        absence: Those of them whose bad event is that the good one did not happen.
        same: Columns that say the same as the number of requests or calls, and which of the two.

    Attributes:
        contaminated_units: Whether `contaminated` has rows; without, nothing is compared with it.
    """

    contaminated_units = True

    def __init__(
        self, scan: Scan, metrics: Sequence[int] | None = None, *, events: Sequence[int] = (), absence: Sequence[int] = (),
        same: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.scan = scan
        self.metrics = tuple(scan.active if metrics is None else metrics)
        self.events = tuple(events)
        self.absence = frozenset(absence)
        self.params = scan.params()
        self.rows: dict[int, RowMeasure] = {j: scan.row(j, self.params) for j in self.metrics}
        names = tallies_of(self.rows.values())
        self._same = same
        self._names = {tally: (same or {}).get(name, name) for name, tally in names.items()}
        self.tallies = {name: tally for name, tally in names.items() if name not in (same or {})}

    def of(self, scan: Scan) -> Layout:
        """Return the same columns for another part of the logs."""
        made = self.sharing(scan, self._same)
        made.contaminated_units = self.contaminated_units
        return made

    def sharing(self, scan: Scan, same: Mapping[str, str] | None) -> Layout:
        """Return the layout of the same metrics and events where these columns say the same as a count."""
        return Layout(scan, self.metrics, events=self.events, absence=tuple(self.absence), same=same)

    # -- columns -------------------------------------------------------------------------------------------------

    def _name(self, tally: Tally) -> str:
        return self._names[tally]

    @cached_property
    def unit_columns(self) -> dict[str, str]:
        """Return the columns of a cell row: expression over the unit totals by name."""
        columns: dict[str, str] = {}
        for j in self.metrics:
            measure, row = self.scan.measures[j], self.rows[j]
            for tally, capped in ((row.x, measure.cap_at_one), (row.y, measure.per_unit_total)):
                name = self._name(tally)
                columns[f"{name}c" if capped else name] = f"least(u.{name}, 1)" if capped else f"u.{name}"
        return columns

    def column(self, letter: str, j: int) -> str:
        """Return the cell's column of a metric: numerator x, denominator y, and their history c and d."""
        if letter in "cd":
            return f"{letter}{j}"
        measure, row = self.scan.measures[j], self.rows[j]
        tally, capped = (row.x, measure.cap_at_one) if letter == "x" else (row.y, measure.per_unit_total)
        return self._name(tally) + ("c" if capped else "")

    def letters(self, j: int) -> str:
        """Return the unit columns of a metric: x and y, and their history c and d for a covariate."""
        return "xycd" if self.scan.measures[j].covariate else "xy"

    @cached_property
    def sums(self) -> dict[str, str]:
        """Return which column holds each metric's sums: "x0" -> column."""
        return {f"{a}{j}": self.column(a, j) for j in self.metrics for a in self.letters(j)}

    @cached_property
    def products(self) -> dict[str, tuple[str, str]]:
        """Return which columns are multiplied for each metric: "xy0" -> pair of columns."""
        return {
            f"{a}{b}{j}": (self.column(a, j), self.column(b, j))
            for j in self.metrics for a in self.letters(j) for b in self.letters(j)
        }  # fmt: skip

    def expand(self, rows: Sequence[Row], *, products: bool = False) -> list[dict[str, Any]]:
        """Return rows with the metrics' names instead of the shared columns'; the order of rows is their keys'."""
        names = {n: "_".join(pair) for n, pair in self.products.items()} if products else self.sums
        shared = {*names.values()} - COUNTS
        out = [
            {**{k: v for k, v in row.items() if k not in shared}, **{n: row[c] for n, c in names.items()}}
            for row in rows
        ]
        return in_order(out)

    # -- unit totals and cells -----------------------------------------------------------------------------------

    def unit_total(self, segment: str | None = None) -> Query:
        """Return the query of unit totals."""
        scan, params = self.scan, Params(self.params)
        totals = [f"{t.total(name)} as {name}" for name, t in self.tallies.items()]
        totals += [f"min(case when {self._event(j)} then head_us end) as f{j}" for j in self.events]
        keys = [", segment"] if segment is not None else []
        keys += [", stage"] if scan.stage_starts_us else []
        keys += [", not_randomised"] if scan.facts.assignments else []
        calls = scan.calls(params, self.tallies, segment=segment)
        return query(fill(
            "unit_total", stage="stage" if scan.stage_starts_us else "0",
            not_randomised="not_randomised" if scan.facts.assignments else "1 = 0",
            segment="" if segment is None else ", segment", totals=more(totals), calls=calls, keys="".join(keys),
        ), params)  # fmt: skip

    def _event(self, j: int) -> str:
        """Return the condition that a row is a bad event."""
        seen = {"requests": "head is not null", "calls": "1 = 1"}
        names = (self._name(t) for t in (self.rows[j].x, self.rows[j].y))
        x, y = (seen.get(name, f"{name} is not null") for name in names)
        return f"{y} and not ({x})" if j in self.absence else x

    def _clean(self, alias: str) -> str:
        if not self.contaminated_units:
            return ""
        same = f"d.unit_id = {alias}.unit_id and d.stage = {alias}.stage"
        return f"\n  and not exists (select 1 from contaminated d where {same})"

    def contaminated(self) -> Query:
        """Return the query of units in several arms."""
        params = Params()
        return query(fill("contaminated", arms=params.bind_all("arm", self.scan.arms)), params)

    def cell(self, *, totals: str = "unit_total", segment: bool = False) -> Query:
        """Return the query of the rows of evidence."""
        params = Params()
        columns = [f"{text} as {name}" for name, text in self.unit_columns.items() if name not in COUNTS]
        columns += [f"u.f{j}" for j in self.events]
        columns += [
            f"coalesce(h.{c}{j}, 0) as {c}{j}" for j in self.metrics if self.scan.measures[j].covariate for c in "cd"
        ]
        if segment:
            columns.insert(0, "u.segment")
        joins = "\nleft join history h on h.past_unit = u.unit_id" if self.scan.has_covariates else ""
        return query(
            fill(
                "cell",
                clean=self._clean("u"),
                columns=more(columns),
                totals=totals,
                joins=joins,
                arms=params.bind_all("arm", self.scan.arms),
            ),
            params,
        )

    # -- sums and products ---------------------------------------------------------------------------------------

    def cell_sums(self, *, cells: str = "cell", segment: bool = False) -> str:
        """Return the query of sums by cell."""
        sums = [f"cast(sum({c}) as decimal(38,0)) as {c}" for c in sorted({*self.sums.values()} - COUNTS)]
        extra = ", segment" if segment else ""
        return fill(
            "cell_sums", look="stage", segment=extra, units="count(*)", sums=more(sums), cells=cells, keys=extra
        )

    def pair_moments(self, *, cells: str = "cell", segment: bool = False) -> str:
        """Return the query of products by pair of cells: 4 a metric, 16 with a covariate; equal ones once."""
        pairs = sorted(set(self.products.values()))
        own = [total(f"{wide(a)} * {b}", f"{a}_{b}") for a, b in pairs]
        across = ""
        if self.scan.stage_starts_us:
            cross = [total(f"{wide('p.' + a)} * q.{b}", f"{a}_{b}") for a, b in pairs]
            across = fill(
                "pair_across", look="q.stage", segment=", q.segment" if segment else "", cross_products=more(cross), earlier=cells,
                cells=cells, same_segment=" and p.segment = q.segment" if segment else "", keys=", q.segment" if segment else "",
            )  # fmt: skip
        extra = ", segment" if segment else ""
        return fill(
            "pair_moments", look="stage", segment=extra, own_products=more(own), cells=cells, keys=extra, across=across
        )

    # -- over time -----------------------------------------------------------------------------------------------

    def unit_step(self, grid_us: int) -> Query:
        """Return the query of unit steps: what each unit had accumulated after and before every stretch of time."""
        scan, params = self.scan, Params(self.params)
        totals = [f"{t.total(name)} as {name}" for name, t in self.tallies.items()]
        over = (
            "over (partition by unit_id, arm, stage order by bucket rows between unbounded preceding and current row)"
        )
        running = [f"{n} as d{n}, cast(sum({n}) {over} as bigint) as s{n}" for n in self.tallies]
        steps: list[str] = []
        for name, text in self.unit_columns.items():
            t = name.removesuffix("c")
            after, before = f"s{t}", f"s{t} - d{t}"
            if text.startswith("least"):
                after, before = f"least({after}, 1)", f"least({before}, 1)"
            steps.append(f"cast({after} as bigint) as a{name}, cast({before} as bigint) as b{name}")
        for j in self.metrics:
            if scan.measures[
                j
            ].covariate:  # known before the unit came: all of it arrives with the first visit to a cell
                steps += [
                    f"cast(coalesce({c}{j}, 0) as bigint) as a{c}{j}, "
                    f"cast(case when visit = 1 then 0 else coalesce({c}{j}, 0) end as bigint) as b{c}{j}"
                    for c in "cd"
                ]
        calls = scan.calls(params, self.tallies)
        params["grid"] = grid_us
        joins = "\nleft join history on past_unit = unit_id" if scan.has_covariates else ""
        return query(
            fill(
                "unit_step", totals=more(totals), calls=calls, arms=params.bind_all("arm", scan.arms), clean=self._clean("r"),
                running_sums=more(running), after_before=more(steps), joins=joins,
            ),
            params,
        )  # fmt: skip

    def step_sums(self) -> str:
        """Return the query of what every stretch of time added to the sums by cell; it reads `unit_step`."""
        sums = [f"cast(sum(a{c} - b{c}) as decimal(38,0)) as {c}" for c in sorted(set(self.sums.values()))]
        return fill(
            "cell_sums", look=f"stage * {LOOK} + bucket", segment="", units="cast(sum(new_in_cell) as bigint)", sums=more(sums),
            cells="unit_step", keys=", bucket",
        )  # fmt: skip

    def step_moments(self) -> str:
        """Return the query of what every stretch of time added to the products by pair of cells.

        An earlier stage is closed when a later one runs, so its final sum multiplies what the later cell gained.
        """
        pairs = sorted(set(self.products.values()))
        own = [total(f"{wide('a' + a)} * a{b} - {wide('b' + a)} * b{b}", f"{a}_{b}") for a, b in pairs]
        across = ""
        if self.scan.stage_starts_us:
            cross = [total(f"{wide('p.' + a)} * (q.a{b} - q.b{b})", f"{a}_{b}") for a, b in pairs]
            closed = ", ".join(f"cast(sum(a{c} - b{c}) as bigint) as {c}" for c in sorted(set(self.sums.values())))
            across = fill(
                "pair_across", look=f"q.stage * {LOOK} + q.bucket", segment="", cross_products=more(cross), cells="unit_step",
                earlier=f"(select unit_id, arm, stage, {closed} from unit_step group by unit_id, arm, stage)",
                same_segment="", keys=", q.bucket",
            )  # fmt: skip
        return fill(
            "pair_moments", look=f"stage * {LOOK} + bucket", segment="", own_products=more(own), cells="unit_step", keys=", bucket",
            across=across,
        )  # fmt: skip

    # -- events --------------------------------------------------------------------------------------------------

    def first_seen(self) -> str:
        """Return the query of the units' first events, as hour * 1000 + stage; kept as `first_seen`."""
        hour = f"cast(floor(f{{j}} / {HOUR_US}) as bigint) * 1000 + stage"
        firsts = [f"min({hour.format(j=j)}) as f{j}" for j in self.events]
        return fill("first_seen", firsts=more(firsts), any_event=" or ".join(f"f{j} is not null" for j in self.events))

    def first_event(self) -> Query:
        """Return the query that counts units by the hour of their first event."""
        branches = [
            f"  select c.arm, c.stage, c.f{j} as at_us, {j} as metric from cell c\n"
            f"  join (select unit_id, min(f{j}) as first_us from cell where f{j} is not null group by unit_id) g"
            f" on g.unit_id = c.unit_id and g.first_us = c.f{j}"
            for j in self.events
        ]
        counts = [f"cast(sum(case when metric = {j} then 1 else 0 end) as bigint) as event{j}" for j in self.events]
        return query(
            fill("first_event", counts=more(counts), events="\n  union all\n".join(branches)), {"grid": HOUR_US}
        )

    def at_risk(self) -> Query:
        """Return the query of what event-free units contributed to the denominators, by hour."""
        scan, params = self.scan, Params(self.params)
        here = f"cast(floor(r.head_us / {HOUR_US}) as bigint) * 1000 + r.stage"
        columns, counts, tallies = [], [], dict[str, Tally]()
        for j in self.events:
            tally = self.rows[j].y
            tallies[f"y{j}"] = tally
            columns.append(f"case when f.f{j} is null or {here} <= f.f{j} then r.y{j} end as y{j}")
            counts.append(f"{tally.total(f'y{j}')} as risk{j}")
        calls = scan.calls(params, tallies)
        params["grid"] = HOUR_US
        return query(
            fill(
                "at_risk",
                clean=self._clean("r"),
                counts=more(counts),
                columns=more(columns),
                calls=calls,
                arms=params.bind_all("arm", scan.arms),
            ),
            params,
        )

    # -- values --------------------------------------------------------------------------------------------------

    def histogram(self, j: int, segment: str | None = None) -> Query:
        """Return the query of the histogram of a quantile's value."""
        scan, params = self.scan, Params(self.scan.params())
        value = scan.row(j, params).value
        assert value is not None
        calls = scan.calls(params, {"value": value}, segment=segment)
        params["resolution"] = RESOLUTION
        more_keys = "" if segment is None else ", r.segment"
        bucket = "coalesce(cast(floor(ln(case when r.value > 0 then r.value end) * $resolution) as bigint), -1000000)"
        return query(fill(
            "histogram", clean=self._clean("r"), segment=more_keys, calls=calls, arms=params.bind_all("arm", scan.arms), keys=f"r.arm, r.stage{more_keys}, {bucket}"
        ), params)  # fmt: skip

    def unit_counts(self) -> str:
        """Return the query of units and calls per arm and stage, as they were seen."""
        seen = (
            "(select unit_id, arm, stage, sum(calls) as calls, min(first_us) as first_us, max(last_us) as last_us\n"
            "  from unit_total group by unit_id, arm, stage)"
        )
        return fill("unit_counts", seen=seen if self.scan.facts.assignments else "unit_total")

    def arm_units(self) -> str:
        """Return the query of distinct units per arm; with one row a unit and arm nothing needs to be told apart."""
        several = bool(self.scan.stage_starts_us)
        seen = (
            "(select distinct arm, unit_id from unit_total)" if several or self.scan.facts.assignments else "unit_total"
        )
        return fill("arm_units", seen=seen, kept="(select distinct arm, unit_id from cell)" if several else "cell")

    def named(self, name: str) -> Query:
        """Return a query whose only slot is the list of arms."""
        params = Params()
        return query(fill(name, arms=params.bind_all("arm", self.scan.arms)), params)

    # -- warm-up -------------------------------------------------------------------------------------------------

    def warm_up_cutoff(self, until_us: int) -> Query:
        """Return the query of the moments at which control's units were first seen, up to a moment."""
        params = self._of_control(until_us)
        return query(fill("warm_up_cutoff", calls=self.scan.calls(params, {}, until_us=until_us)), params)

    def warm_up_histogram(self, j: int, until_us: int) -> Query:
        """Return the query of the histogram of a metric's value over control's calls up to a moment."""
        params = self._of_control(until_us)
        value = self.scan.row(j, params).value
        assert value is not None
        params["resolution"] = RESOLUTION
        return query(
            fill("warm_up_histogram", calls=self.scan.calls(params, {"value": value}, until_us=until_us)), params
        )

    def warm_up_moments(self, until_us: int) -> Query:
        """Return the query of unit-level sums and products over control's calls up to a moment."""
        params = self._of_control(until_us)
        totals: list[str] = []
        for j in self.metrics:
            for letter, tally in zip("xy", (self.rows[j].x, self.rows[j].y), strict=True):
                text, name = tally.total(self._name(tally)), self.column(letter, j)
                column = f"least({text}, 1) as {name}" if name.endswith("c") else f"{text} as {name}"
                if column not in totals:
                    totals.append(column)
        products = [
            f"cast(coalesce(sum({c}), 0) as decimal(38,0)) as {n}" for n, c in self.sums.items() if n[0] in "xy"
        ]
        products += [
            total(f"{wide(a)} * {b}", name) for name, (a, b) in self.products.items() if name[:2] in ("xx", "xy", "yy")
        ]
        calls = self.scan.calls(params, self.tallies, until_us=until_us)
        return query(fill("warm_up_moments", totals=more(totals), calls=calls, products=more(products)), params)

    def _of_control(self, until_us: int) -> Params:
        return Params({**self.params, "control": self.scan.arms[0], "as_of": min(until_us, self.scan.as_of_us)})

    # -- history -------------------------------------------------------------------------------------------------

    def history(self) -> Query:
        """Return the query of the units' calls before they met the experiment; it reads unit_total, kept as `history`."""
        scan = self.scan
        params = scan.params()
        wanted = [j for j in self.metrics if scan.measures[j].covariate]
        rows = {j: scan.at(wide=True).row(j, params, any_age=True) for j in wanted}
        own = {"attempt", "interaction_id", "ts_us", "experiment_id", "variant"}
        columns = frozenset[str]().union(*(scan.measures[j].columns for j in wanted)) - own
        measures = [
            f"{t.attempt} as {c}{j}" for j in wanted for c, t in (("x", rows[j].x), ("y", rows[j].y))
        ]  # fmt: skip
        totals: list[str] = []
        for j in wanted:
            m = scan.measures[j]
            for name, c, t, capped in (("c", "x", rows[j].x, m.cap_at_one), ("d", "y", rows[j].y, m.per_unit_total)):
                text = t.total(f"{c}{j}")
                totals.append(f"{f'least({text}, 1)' if capped else text} as {name}{j}")
        scored, scores = "", ""
        sums = "".join(score_sums(j, scan.measures[j], params) for j in wanted if scan.measures[j].score)
        if sums:
            scored = "\n" + fill("history_scored", score_target=scan.score_target(), score_sums=sums)
            scores = "\n  left join scored s on s.interaction_id = c.interaction_id"
        order = "asc" if scan.call_order == "first" else "desc"
        rank = f"row_number() over (partition by p.unit_key, p.request_key order by p.ts_us {order}, coalesce(p.attempt, 0) {order}, p.interaction_id {order})"
        return query(fill(
            "history", unit=scan.unit_key, interaction=scan.at(source=None).interaction(),
            where=f"({scan.where.sql('i')})" if scan.where else "true", columns=more(f'i."{c}"' for c in sorted(columns)), scored=scored, scores=scores,
            call_rank=rank if scan.facts.repeated else "1", measures=more(measures), totals=more(totals),
        ), params)  # fmt: skip

    def history_moments(self) -> Query:
        """Return the query of the history's sums and products by the hour in which units arrived."""
        wanted = [j for j in self.metrics if self.scan.measures[j].covariate]
        sums = [f"cast(sum({c}{j}) as decimal(38,0)) as {c}{j}" for j in wanted for c in "cd"]
        nothing = [f"cast(0 as decimal(38,0)) as {c}{j}" for j in wanted for c in "cd"]
        pairs = [(f"{a}{j}", f"{b}{j}", f"{a}{b}{j}") for j in wanted for a in "cd" for b in "cd"]
        own = [total(f"{wide(a)} * {b}", name) for a, b, name in pairs]
        cross = [total(f"{wide('p.' + a)} * q.{b}", name) for a, b, name in pairs]
        return fill("history_moments", own_products=more([*sums, *own]), cross_products=more([*nothing, *cross])), {
            "grid": HOUR_US
        }


def in_order(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return rows sorted by their values, whatever order the engine gave them; NULL comes first."""
    return sorted((dict(row) for row in rows), key=lambda row: tuple((v is not None, v) for v in row.values()))


def more(parts: Any) -> str:
    """Return further columns, each on a line, with the comma in front."""
    return "".join(f",\n  {part}" for part in parts)


def wide(column: str) -> str:
    """Return a column in the type that holds products of two BIGINT."""
    return f"cast({column} as decimal(38,0))"


def total(product: str, name: str) -> str:
    """Return an exact sum of products; a sum over no rows is zero, not NULL."""
    return f"cast(coalesce(sum({product}), 0) as decimal(38,0)) as {name}"
