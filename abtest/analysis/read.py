"""Reads the evidence of one experiment: one pass over the logs, then integer sums; nothing is judged here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import duckdb

from abtest.analysis.constants import freeze
from abtest.analysis.covariate import freeze_moved
from abtest.analysis.times import to_us
from abtest.errors import SpecError
from abtest.results import Stage
from abtest.spec import Experiment, canonical_sha256
from abtest.stats.score import PairSums, pair_sums
from abtest.stats.score_cuped import CovariateSums, covariate_sums
from abtest.store.engines.duckdb import DuckDBEngine
from abtest.store.query import RESOLUTION, Scan, fill, manifest_query
from abtest.store.store import Store

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Stratum:
    """A stretch of time with one split of traffic. `ramp_index` is the stage's key in the spec's ramp."""

    index: int
    since_us: int
    share: float | None
    ramp_index: int
    label: str
    kind: str

    def stage(self, since: str | None) -> Stage:
        """Return it as people and JSON see it."""
        return Stage(index=self.ramp_index, label=self.label, share=self.share, kind=self.kind, since=since)


@dataclass(frozen=True)
class Evidence:
    """Everything that a decision may look at: integers from SQL, and the frozen constants."""

    experiment: Experiment
    scan: Scan
    strata: tuple[Stratum, ...]
    as_of_us: int | None
    max_file: int
    frozen: Mapping[str, Mapping[str, float]]
    active: tuple[int, ...]
    buckets: tuple[int, ...] = ()
    cells: Sequence[Row] = ()
    pairs: Sequence[Row] = ()
    first_events: Sequence[Row] = ()
    histograms: Mapping[int, Sequence[Row]] = field(default_factory=dict)
    population: Row = field(default_factory=dict)
    arms: Sequence[Row] = ()
    stages: Sequence[Row] = ()
    assignment: Sequence[Row] = ()
    contamination: Sequence[Row] = ()
    manifests: Sequence[Row] = ()

    @property
    def looks_us(self) -> list[int]:
        """Return the end of every hour with data, the last one cut at the watermark."""
        end = self.as_of_us if self.as_of_us is not None else 0
        return [min((b + 1) * self.scan.grid_us, end) for b in self.buckets]

    @property
    def stratum(self) -> Stratum:
        """Return the stretch that runs at the watermark."""
        return self.strata[-1]

    def pair_share(self, stratum: Stratum) -> float | None:
        """Return the treatment's share of the traffic of control and itself."""
        if stratum.share is None:
            return None
        rest = 1.0 - stratum.share * len(self.experiment.treatments)
        return stratum.share / (stratum.share + rest)

    def pair_sums(self, metric: int, treatment: str) -> PairSums:
        """Return cumulative pair moments of one metric, control against one treatment, at every look."""
        cells, pairs = self._tables(metric, treatment, "xy")
        return pair_sums(cells, pairs, **self._sizes(metric))

    def covariate_sums(self, metric: int, treatment: str) -> CovariateSums:
        """Return the same with the units' history, for a metric with a covariate."""
        cells, pairs = self._tables(metric, treatment, "xycd")
        return covariate_sums(cells, pairs, **self._sizes(metric))

    def _sizes(self, metric: int) -> dict[str, int]:
        measure = self.scan.measures[metric]
        return {
            "stages": len(self.strata), "looks": len(self.buckets),
            "x_scale": 1 if measure.event or measure.quantile else measure.scale, "y_scale": measure.denominator_scale,
        }  # fmt: skip

    def _tables(
        self, metric: int, treatment: str, letters: str
    ) -> tuple[dict[tuple[int, int], dict[str, list[int]]], dict[tuple[int, int, int, int], dict[str, list[int]]]]:
        """Return cumulative sums per cell and products per pair of cells of a metric's unit columns."""
        names = [a + b for a in letters for b in letters]
        arms = {self.experiment.control: 0, treatment: 1}
        at = {bucket: i for i, bucket in enumerate(self.buckets)}
        looks = len(self.buckets)
        cells: dict[tuple[int, int], dict[str, list[int]]] = {}
        for row in self.cells:
            if row["arm"] in arms:
                cell = cells.setdefault((arms[row["arm"]], row["stage"]), {n: [0] * looks for n in ("units", *letters)})
                i = at[row["bucket"]]
                cell["units"][i] = row["units"]
                for letter in letters:
                    cell[letter][i] = row[f"{letter}{metric}"]
        pairs: dict[tuple[int, int, int, int], dict[str, list[int]]] = {}
        for row in self.pairs:
            if row["arm_a"] in arms and row["arm_b"] in arms:
                key = (arms[row["arm_a"]], row["stage_a"], arms[row["arm_b"]], row["stage_b"])
                pair = pairs.setdefault(key, {n: [0] * looks for n in names})
                i = at[row["bucket"]]
                for name in names:
                    pair[name][i] = row[f"{name}{metric}"]
        return (
            {k: {n: list(accumulate(v)) for n, v in c.items()} for k, c in cells.items()},
            {k: {n: list(accumulate(v)) for n, v in p.items()} for k, p in pairs.items()},
        )

    def units_over_time(self, arm: str) -> list[int]:
        """Return the number of distinct units of an arm at every look."""
        at = {bucket: i for i, bucket in enumerate(self.buckets)}
        new = [0] * len(self.buckets)
        for row in self.cells:
            if row["arm"] == arm:
                new[at[row["bucket"]]] += row["new_units"]
        return list(accumulate(new))

    def sha256(self) -> str:
        """Return the hash of everything above, independent of row order and of how often it was read."""
        rows = {
            name: sorted((dict(row) for row in getattr(self, name)), key=lambda r: [str(v) for v in r.values()])
            for name in ("cells", "pairs", "first_events", "arms", "stages", "assignment", "contamination", "manifests")
        }
        return canonical_sha256({
            "rows": rows,
            "histograms": {str(j): [dict(r) for r in h] for j, h in self.histograms.items()},
            "population": dict(self.population),
            "strata": [[s.index, s.since_us, s.share, s.ramp_index] for s in self.strata],
            "as_of_us": self.as_of_us,
        })  # fmt: skip


def strata_of(experiment: Experiment, as_of_us: int, history: Sequence[tuple[int, float]] = ()) -> tuple[Stratum, ...]:
    """Return the stretches of constant split that began by `as_of_us`.

    The split is known from the spec's `[[allocation]]`, else from what abtest itself wrote (`history`), else it is the first
    live stage of the ramp from the start on; without any of these the share is unknown.
    """
    rows = [(to_us(a.at), float(a.share)) for a in experiment.allocation] or list(history)
    begun = [row for row in rows if row[0] <= as_of_us] or rows[:1]
    live = [(i, s) for i, s in enumerate(experiment.ramp) if s.share is not None]
    if not begun:
        start = to_us(experiment.start) if experiment.start else 0
        if not live:
            return (Stratum(0, start, None, 0, "A/B", "ab"),)
        index, first = live[0]
        return (Stratum(0, start, first.share, index, first.label, first.stage),)
    strata: list[Stratum] = []
    for k, (at, share) in enumerate(begun):
        match = next(((i, s) for i, s in live if s.share is not None and abs(s.share - share) < 1e-12), None)
        if match:
            strata.append(Stratum(k, at, share, match[0], match[1].label, match[1].stage))
        else:
            strata.append(
                Stratum(
                    k,
                    at,
                    share,
                    k,
                    f"{'A/B' if not live else 'canary'} {share * 100:g} %",
                    "ab" if not live else "canary",
                )
            )
    return tuple(strata)


def scan_of(
    experiment: Experiment, strata: Sequence[Stratum], *, as_of_us: int, max_file: int, derive_arms: bool
) -> Scan:
    """Return what the experiment asks of the logs."""
    starts = [s.since_us for s in strata]
    begin = max(to_us(experiment.start) if experiment.start else 0, starts[0])
    return Scan(
        experiment=experiment.id,
        arms=tuple(experiment.arm_names),
        unit=experiment.unit,
        measures=tuple(m.measure() for m in experiment.metrics),
        where=experiment.where_expression(),
        call_order=experiment.population.per_request,
        stage_starts_us=tuple(starts[1:]),
        manifests={arm: m.declared for arm, m in experiment.arms.items() if m.declared},
        derive_arms=derive_arms,
        start_us=begin,
        as_of_us=min(as_of_us, to_us(experiment.end)) if experiment.end else as_of_us,
        max_file=max_file,
    )


def read(
    store: Store,
    experiment: Experiment,
    *,
    as_of_us: int | None = None,
    max_file: int | None = None,
    history: Sequence[tuple[int, float]] = (),
    progress: Callable[[str], None] | None = None,
) -> Evidence:
    """Read the evidence of an experiment at a watermark.

    Args:
        store: An open store; frozen constants are written to it once, unless it is read-only.
        experiment: What is asked.
        as_of_us: Cut by event time; default: the newest event in the store.
        max_file: Ignore what was loaded later (replay); default: everything.
        history: Changes of the split that abtest itself made: (time, treatment's share).
        progress: Called with a word before each slow step.
    """
    say = progress or (lambda _: None)
    newest = store.newest_us()
    as_of_us = newest if as_of_us is None else as_of_us
    max_file = store.last_file() if max_file is None else max_file
    if as_of_us is None:
        strata = strata_of(experiment, 2**62, history)
        scan = scan_of(experiment, strata, as_of_us=0, max_file=max_file, derive_arms=False)
        return Evidence(experiment, scan, strata, None, max_file, {}, ())
    strata = strata_of(experiment, as_of_us, history)
    engine = store.engine
    scan = scan_of(experiment, strata, as_of_us=as_of_us, max_file=max_file, derive_arms=False)
    if _manifests_differ(experiment) and not engine.rows(*scan.arms_in_logs())[0]["n"]:
        scan = dataclasses.replace(scan, derive_arms=True)
    say("scan")
    try:
        engine.keep("request", *scan.exposure())
    except duckdb.Error as error:
        raise _misfit(engine, experiment, scan, error) from error
    frozen, thresholds = freeze(store, engine, experiment, scan)
    say("units")
    if scan.has_covariates:
        engine.keep("history", *scan.history())
    engine.keep("unit_step", *scan.unit_metric(thresholds))
    active = tuple(scan.active(thresholds))
    events = [j for j in active if experiment.metrics[j].kind == "proportion"]
    absence = [j for j in events if experiment.metrics[j].better == "higher"]
    say("moments")
    cells = engine.rows(scan.cell_sums(active))
    evidence = Evidence(
        experiment=experiment, scan=scan, strata=strata, as_of_us=as_of_us, max_file=max_file, frozen=frozen, active=active,
        buckets=tuple(sorted({row["bucket"] for row in cells})),
        cells=cells,
        pairs=engine.rows(scan.pair_moments(active)),
        first_events=engine.rows(scan.first_event(events, absence=absence)) if events else (),
        histograms={
            j: engine.rows(fill("histogram", value=f"v{j}"), {"resolution": RESOLUTION})
            for j, m in enumerate(scan.measures) if m.quantile
        },
        population=engine.rows(*scan.named("population_counts"))[0],
        arms=engine.rows(fill("arm_counts")),
        stages=engine.rows(*scan.named("stage_counts")),
        assignment=engine.rows(*scan.named("assignment_counts")),
        contamination=engine.rows(*scan.named("contamination")),
        manifests=engine.rows(*manifest_query(scan)),
    )  # fmt: skip
    return freeze_moved(store, evidence) if scan.has_covariates else evidence


def _misfit(engine: DuckDBEngine, experiment: Experiment, scan: Scan, error: duckdb.Error) -> SpecError:
    """Find the expression whose types do not fit its columns: the one that fails on its own."""
    for j, metric in enumerate(experiment.metrics):
        try:
            engine.keep("request", *dataclasses.replace(scan, measures=(scan.measures[j],), where=None).exposure())
        except duckdb.Error as own:
            return SpecError(
                f"the expression does not fit its columns: {str(own).splitlines()[0]}", key=f"metrics.{metric.name}"
            )
    return SpecError(f"the filter does not fit its columns: {str(error).splitlines()[0]}", key="population.where")


def _manifests_differ(experiment: Experiment) -> bool:
    declared = [tuple(sorted(m.declared.items())) for m in experiment.arms.values() if m.declared]
    return len(declared) == len(experiment.arm_names) == len(set(declared))
