"""Reads the baseline that a policy is replayed on: what every unit did, hour by hour, in whole numbers.

A decision reads sums over units, because an arm is fixed. Here the arms are drawn again and again, so rows of units have to
leave SQL (as numbers without names): once, at about a row a unit and hour. Everything else follows in numpy
(`resample_sums`, `resample_evidence`).

The baseline is the experiment's own control arm where it has calls, else all calls of the population before the experiment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, cast

import duckdb
import numpy as np
from numpy.typing import NDArray

from abtest.analysis.constants import freeze
from abtest.analysis.evidence import Stratum
from abtest.analysis.read import facts_of, scan_of
from abtest.analysis.resample_columns import Columns, MeasureColumns, Thresholds, thresholds_of
from abtest.analysis.tables import prepare
from abtest.analysis.times import to_us
from abtest.errors import NoDataError, SpecError
from abtest.spec import Experiment
from abtest.store.moments import Layout
from abtest.store.query import HOUR_US, Params, Query, Scan, fill, query
from abtest.store.rows import Tally
from abtest.store.store import Store

Ints = NDArray[np.int64]
Source = Literal["auto", "control", "before"]
Randomised = Literal["user", "session", "request"]
_COARSENESS: tuple[Randomised, ...] = ("request", "session", "user")


@dataclass(frozen=True)
class Rows:
    """Rows of units, ordered by unit, by the hour from which on they are known, and by the hour of the call.

    Attributes:
        unit: (n,) number of the unit.
        hour: (n,) hour of the call, counted from the baseline's first.
        seen: (n,) hour from which on it is known; later than `hour` for scores that come late and for `mature_after`.
        columns: (n,) whole numbers by name.
    """

    unit: Ints
    hour: Ints
    seen: Ints
    columns: Mapping[str, Ints]


@dataclass(frozen=True)
class Baseline:
    """Everything that is known about the baseline.

    Attributes:
        experiment: The policy.
        scan: How its logs are read; its arm is control.
        source: "control": calls of the control arm; "before": all calls from before the experiment.
        first_hour: The hour of the first call, since 1970.
        hours: Length of the log in hours.
        units: Number of units of analysis.
        cluster: (units,) what each of them is randomised together with.
        clusters: How many of those there are.
        randomised: What they are.
        calls: Columns calls, requests, first_us, last_us.
        tables: Rows of the metrics, one table for each way of being late.
        measures: Measure number -> its columns.
        values: Metric number -> rows of the histogram (columns bucket, n).
        past: Metric number -> (units,) numerators and denominators of the units' history (CUPED).
        frozen: metric -> constant -> value, from the baseline's own warm-up.
        frozen_us: metric -> the moment from which on they are known.
        limits: Thresholds of quantiles and distributions, with those under an injected harm.
        caps: Metric number -> frozen cap.
        cache: What the first stage of every run has in common.
    """

    experiment: Experiment
    scan: Scan
    source: str
    first_hour: int
    hours: int
    units: int
    cluster: Ints
    clusters: int
    randomised: Randomised
    calls: Rows
    tables: tuple[Rows, ...]
    measures: Mapping[int, MeasureColumns]
    values: Mapping[int, Rows]
    past: Mapping[int, tuple[Ints, Ints]]
    frozen: Mapping[str, Mapping[str, float]]
    frozen_us: Mapping[str, int]
    limits: Mapping[int, Thresholds]
    caps: Mapping[int, float]
    cache: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def end_us(self, hour: int) -> int:
        """Return the last microsecond of an hour of the baseline."""
        return (self.first_hour + hour + 1) * HOUR_US - 1


class _Untouched:
    """Stands for a store in which constants are frozen: nothing is known yet, and nothing is written."""

    read_only = False

    def __init__(self) -> None:
        self.known_us: dict[str, int] = {}

    def frozen(self, *_: Any, **__: Any) -> dict[str, dict[str, float]]:
        return {}

    def freeze(
        self,
        _e: str,
        _r: int,
        metric: str,
        _values: Mapping[str, float],
        *,
        source: str,
        watermark_us: int,
        file_id: int,
    ) -> None:
        del source, file_id
        self.known_us[metric] = max(watermark_us, self.known_us.get(metric, 0))


def read_baseline(
    store: Store,
    experiment: Experiment,
    *,
    source: Source = "auto",
    randomised: Randomised | None = None,
    multiples: Sequence[float] = (),
) -> Baseline:
    """Read the baseline of an experiment, at one row a unit and hour; nothing is written to the store.

    Args:
        store: An open store.
        experiment: The policy; its control names the arm that is read.
        source: "control", "before", or whichever has calls ("auto": control first).
        randomised: What is randomised; default: users, or the spec's unit where the logs carry no user.
        multiples: Harms (in margins) for which the thresholds of quantiles are counted too.

    Raises:
        NoDataError: no calls to replay on.
        SpecError: something finer than the unit is to be randomised, or an expression that does not fit its columns.
    """
    coarse = randomised or "user"
    if _COARSENESS.index(coarse) < _COARSENESS.index(experiment.unit):
        raise SpecError(
            f"a {experiment.unit} would be in both arms when a {coarse} is randomised", key="unit",
            hint=f"randomise a {experiment.unit} or something coarser",
        )  # fmt: skip
    try:
        scan, chosen = _scan(store, experiment, source)
        return _Reader(store, scan, coarse).read(experiment, chosen, tuple(multiples))
    except duckdb.Error as error:
        raise SpecError(
            f"an expression does not fit its columns: {str(error).splitlines()[0]}", key="metrics",
            hint="`abtest analyze` names the metric",
        ) from error  # fmt: skip


def _scan(store: Store, experiment: Experiment, source: Source) -> tuple[Scan, str]:
    """Return how the baseline is read, with `assigned` and `scored` kept where they are needed, and what it is."""
    newest = store.newest_us()
    if newest is None:
        raise NoDataError("the store is empty: there is nothing to replay", hint="`abtest ingest PATH...` first")
    whole = (Stratum(0, 0, None, 0, "", "ab"),)
    start = to_us(experiment.start) if experiment.start else None
    engine = store.engine
    if source != "before":
        scan = scan_of(experiment, whole, as_of_us=newest, max_file=store.last_file())
        scan = scan.at(facts=facts_of(engine, scan), wide=True)
        if not scan.facts.assignments and not engine.rows(*scan.arms_in_logs())[0]["n"] and scan.manifests:
            scan = scan.at(derive_arms=True)
        prepare(engine, scan)
        if _units(store, scan, "user"):
            return scan, "control"
        if source == "control":
            raise NoDataError(f"the logs hold no call of {experiment.control!r} in experiment {experiment.id!r}")
    as_of = newest if start is None else min(newest, start - 1)
    scan = scan_of(
        experiment.model_copy(update={"start": None, "end": None}), whole, as_of_us=as_of, max_file=store.last_file()
    )
    scan = scan.at(facts=replace(facts_of(engine, scan), assignments=True), wide=True)
    scan = Before(**{f.name: getattr(scan, f.name) for f in fields(scan)})
    prepare(engine, scan)
    if not _units(store, scan, "user"):
        raise NoDataError(
            f"the logs hold no call that experiment {experiment.id!r} could be replayed on",
            hint="population.where may leave everything out; calls of control, or from before `start`, are needed",
        )  # fmt: skip
    return scan, "before"


@dataclass(frozen=True)
class Before(Scan):
    """A pass over calls from before an experiment: everybody is assigned to its control, always."""

    def assigned(self) -> Query:
        """Return the query of what every unit was assigned."""
        sql = fill("calibrate_assigned", unit=self.unit_key, interaction=self.interaction())
        return query(sql, {**self.params(), "control": self.arms[0]})


def unit_query(scan: Scan, randomised: Randomised) -> Query:
    """Return the query that numbers the units of the baseline; kept as `calibrate_unit`."""
    params = Params(scan.params())
    key = {"user": "unit_id", "session": "session_id", "request": None}[randomised]
    together = Tally(f'i."{key}"', f'c."{key}"', "whole") if key else Tally("null", "null", "whole")
    wide = scan.at(extra=scan.extra | ({key} if key else set[str]()))
    sql = fill("calibrate_unit", calls=wide.calls(params, {"together": together}))
    return query(sql, {**params, "control": scan.arms[0]})


def past_query(metrics: Sequence[int]) -> str:
    """Return the query of the units' history for these metrics; it reads `history`."""
    names = "".join(f", cast(coalesce(h.{c}{j}, 0) as bigint) as {c}{j}" for j in metrics for c in "cd")
    return fill("calibrate_past", columns=names)


def _units(store: Store, scan: Scan, randomised: Randomised) -> int:
    store.engine.keep("calibrate_unit", *unit_query(scan, randomised))
    return int(store.engine.rows("select count(*) as n from calibrate_unit")[0]["n"])


@dataclass
class _Reader:
    store: Store
    scan: Scan
    randomised: Randomised
    first_hour: int = 0
    untouched: _Untouched = field(default_factory=_Untouched)

    def read(self, experiment: Experiment, source: str, multiples: tuple[float, ...]) -> Baseline:
        units = _units(self.store, self.scan, self.randomised)
        cluster = self._numbers("select cluster_no from calibrate_unit order by unit_no", {})["cluster_no"]
        frozen, limits, caps = freeze(cast("Store", self.untouched), self.store.engine, experiment, self.scan)
        scan = self.scan.at(limits=limits, caps=caps)
        calls = self._rows(*Columns(scan, {}).hours(None), first=True)
        values = {
            j: self._rows(*Columns(scan, {}).values(j))
            for j, m in enumerate(scan.measures)
            if m.quantile and not m.part and j in limits
        }
        thresholds = thresholds_of(experiment, scan, frozen, values, multiples)
        self._keep_arrivals(scan)
        columns = Columns(scan, thresholds)
        tables: list[Rows] = []
        measures: dict[int, MeasureColumns] = {}
        for delay, members in columns.groups():
            tables.append(self._rows(*columns.hours(delay, members)))
            measures.update({k: columns.names(k, len(tables) - 1) for k in members})
        return Baseline(
            experiment=experiment, scan=scan, source=source, first_hour=self.first_hour,
            hours=int(calls.hour.max()) + 1, units=units, cluster=cluster, clusters=int(cluster.max()) + 1,
            randomised=self.randomised, calls=calls, tables=tuple(tables), measures=measures, values=values,
            past=self._past(scan, units), frozen=frozen, frozen_us=self.untouched.known_us, limits=thresholds, caps=caps,
        )  # fmt: skip

    def _numbers(self, sql: str, params: Mapping[str, Any]) -> dict[str, Ints]:
        con = self.store.connection
        found = (con.execute(sql, dict(params)) if params else con.execute(sql)).fetchnumpy()
        return {name: np.ascontiguousarray(np.ma.getdata(column), dtype=np.int64) for name, column in found.items()}

    def _rows(self, sql: str, params: Mapping[str, Any], *, first: bool = False) -> Rows:
        found = self._numbers(sql, {**params, "control": self.scan.arms[0]} if "$control" in sql else params)
        unit, hour, seen = (found.pop(name) for name in ("unit_no", "bucket", "seen"))
        if first:
            self.first_hour = int(hour.min())
        return Rows(unit, hour - self.first_hour, np.maximum(seen, hour) - self.first_hour, found)

    def _keep_arrivals(self, scan: Scan) -> None:
        """Replace the kept scores by scores that say when they came."""
        if not scan.scored or not scan.facts.scores:
            return
        self.store.engine.keep("calibrate_scored", *scan.score_table())
        self.store.engine.keep("scored", *Columns(scan, {}).arrivals())

    def _past(self, scan: Scan, units: int) -> dict[int, tuple[Ints, Ints]]:
        wanted = [j for j in scan.active if scan.measures[j].covariate]
        if not wanted:
            return {}
        layout = Layout(scan, wanted)
        engine = self.store.engine
        engine.keep("unit_total", *layout.unit_total())
        engine.keep("history", *layout.history())
        found = self._numbers(past_query(wanted), {})
        out: dict[int, tuple[Ints, Ints]] = {}
        for j in wanted:
            both = np.zeros((2, units), dtype=np.int64)
            both[:, found["unit_no"]] = found[f"c{j}"], found[f"d{j}"]
            out[j] = (both[0], both[1])
        return out
