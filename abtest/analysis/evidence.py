"""The evidence of one experiment: integers out of SQL, and views of them; what a decision may look at, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

from abtest.analysis.tables import named_histograms
from abtest.analysis.times import to_us
from abtest.results import Stage
from abtest.spec import Experiment, canonical_sha256
from abtest.stats.score import PairSums, pair_sums
from abtest.stats.score_cuped import CovariateSums, covariate_sums
from abtest.store.moments import LOOK, in_order
from abtest.store.query import MANIFEST_FIELDS, Scan

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
    """Everything that a decision may look at: integers from SQL, and the frozen constants.

    Attributes:
        looks: The stages that have data, in order: a look is the end of a stage, the last one the watermark.
        cells, pairs: Sums and products; a row belongs to the look of its (second) stage.
        first_events: Units with their first event, and the denominators at risk, by hour.
        histograms: metric -> rows of its histogram.
        history: Sums and products of the units' history by the hour of their arrival.
        units: Units and calls by arm and stage, as they were seen.
        arm_units: Distinct units by arm.
        calls: Calls by what became of them and what they ran.
        growth: The same over time, where it was asked for; no part of what is decided on.
        segment: The level that this is the evidence of ("surface=support"); None: all traffic.
        segments: The same by segment key and level, as far as it was read.
    """

    experiment: Experiment
    scan: Scan
    strata: tuple[Stratum, ...]
    as_of_us: int | None
    max_file: int
    frozen: Mapping[str, Mapping[str, float]]
    active: tuple[int, ...]
    looks: tuple[int, ...] = ()
    cells: Sequence[Row] = ()
    pairs: Sequence[Row] = ()
    first_events: Sequence[Row] = ()
    histograms: Mapping[int, Sequence[Row]] = field(default_factory=dict)
    history: Sequence[Row] = ()
    units: Sequence[Row] = ()
    arm_units: Sequence[Row] = ()
    calls: Sequence[Row] = ()
    assignment: Sequence[Row] = ()
    contamination: Sequence[Row] = ()
    growth: Growth | None = None
    segment: str | None = None
    segments: Mapping[str, Levels] = field(default_factory=dict)

    # -- what happened to every call -----------------------------------------------------------------------------

    @cached_property
    def population(self) -> dict[str, Any]:
        """Return how many calls there are, and how many of them do not count, by reason."""
        named = set(self.experiment.arm_names)
        out = dict.fromkeys(("calls", "no_unit", "no_arm", "other_arm", "not_randomised"), 0)
        for row in self.calls:
            n = int(row["calls"])
            out["calls"] += n
            out["not_randomised"] += n if row["not_randomised"] else 0
            if row["no_unit"] or row["arm"] not in named:
                out["no_unit" if row["no_unit"] else "no_arm" if row["arm"] is None else "other_arm"] += n
        return {**out, **_first_and_last(self.calls)}

    @cached_property
    def manifests(self) -> list[dict[str, Any]]:
        """Return the calls of each arm by what they ran, the most frequent first."""
        named = set(self.experiment.arm_names)
        groups: dict[tuple[Any, ...], list[Row]] = {}
        for row in self.calls:
            if not row["no_unit"] and row["arm"] in named:
                groups.setdefault((row["arm"], *(row[f] for f in MANIFEST_FIELDS)), []).append(row)
        rows = [
            {
                **dict(zip(("arm", *MANIFEST_FIELDS), key, strict=True)),
                "calls": sum(int(r["calls"]) for r in group),
                **_first_and_last(group),
            }
            for key, group in groups.items()
        ]
        return sorted(rows, key=lambda r: (r["arm"], -r["calls"], [r[f] or "" for f in MANIFEST_FIELDS]))

    @cached_property
    def arms(self) -> list[dict[str, Any]]:
        """Return units and calls of every arm in the logs, in the spec or not."""
        units = {row["arm"]: int(row["units"]) for row in self.arm_units}
        return [
            {
                "arm": arm,
                "units": units[arm],
                "interactions": sum(int(r["calls"]) for r in rows),
                **_first_and_last(rows),
            }
            for arm in sorted(units)
            if (rows := [r for r in self.units if r["arm"] == arm])
        ]

    @cached_property
    def stages(self) -> list[Row]:
        """Return units of every stage and arm of the spec, with the first and the last call."""
        return [row for row in self.units if row["arm"] in self.experiment.arm_names]

    def units_of(self, arm: str) -> int:
        """Return how many distinct units of an arm are evidence."""
        return next((int(row["evidence_units"]) for row in self.arm_units if row["arm"] == arm), 0)

    # -- sums ----------------------------------------------------------------------------------------------------

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
            "stages": len(self.strata), "looks": len(self.looks),
            "x_scale": 1 if measure.event or measure.quantile else measure.scale, "y_scale": measure.denominator_scale,
        }  # fmt: skip

    def _tables(
        self, metric: int, treatment: str, letters: str
    ) -> tuple[dict[tuple[int, int], dict[str, list[int]]], dict[tuple[int, int, int, int], dict[str, list[int]]]]:
        """Return cumulative sums per cell and products per pair of cells of a metric's unit columns."""
        arms = {self.experiment.control: 0, treatment: 1}
        at = {look: i for i, look in enumerate(self.looks)}
        cells: dict[tuple[int, int], dict[str, list[int]]] = {}
        for row in self.cells:
            if row["arm"] in arms:
                cell = cells.setdefault(
                    (arms[row["arm"]], row["stage"]), {n: [0] * len(at) for n in ("units", *letters)}
                )
                for name in cell:
                    cell[name][at[row["look"]]] += row["units"] if name == "units" else row[f"{name}{metric}"]
        pairs: dict[tuple[int, int, int, int], dict[str, list[int]]] = {}
        for row in self.pairs:
            if row["arm_a"] in arms and row["arm_b"] in arms:
                key = (arms[row["arm_a"]], row["stage_a"], arms[row["arm_b"]], row["stage_b"])
                pair = pairs.setdefault(key, {a + b: [0] * len(at) for a in letters for b in letters})
                for name in pair:
                    pair[name][at[row["look"]]] += row[f"{name}{metric}"]
        return cumulative(cells), cumulative(pairs)

    def sha256(self) -> str:
        """Return the hash of everything above, independent of row order and of how often it was read."""
        names = (
            "cells",
            "pairs",
            "first_events",
            "history",
            "units",
            "arm_units",
            "calls",
            "assignment",
            "contamination",
        )
        guarded = {
            key: {level: evidence.sha256() for level, evidence in levels.evidence.items() if level in levels.guarded}
            for key, levels in self.segments.items() if levels.guarded
        }  # fmt: skip
        return canonical_sha256({
            **({"segments": guarded} if guarded else {}),
            "rows": {name: [dict(row) for row in in_order(getattr(self, name))] for name in names},
            "histograms": {name: [dict(row) for row in in_order(h)] for name, h in named_histograms(self.histograms).items()},
            "strata": [[s.index, s.since_us, s.share, s.ramp_index] for s in self.strata],
            "as_of_us": self.as_of_us,
        })  # fmt: skip


@dataclass(frozen=True)
class Levels:
    """The evidence of every level of a segment key.

    Attributes:
        key: The key ("surface").
        by: Its expression.
        evidence: level -> its evidence, those with most units first.
        guarded: Levels that are guardrails.
        found: Levels there are in the logs, before rare ones were put together.
        shared_units: Units with calls in several levels; their results are not independent.
        complete: All levels were read, not just those that are guardrails.
    """

    key: str
    by: str
    evidence: Mapping[str, Evidence]
    guarded: frozenset[str] = frozenset()
    found: int = 0
    shared_units: int = 0
    complete: bool = False


@dataclass(frozen=True)
class Growth:
    """The evidence at every point, and how many units each arm had by then."""

    evidence: Evidence
    grid_us: int
    units: dict[str, list[int]]
    known_ends_us: tuple[int, ...] = ()

    @property
    def ends_us(self) -> list[int]:
        """Return the moment of every point: the end of its stretch, of its stage, or of the logs, whichever comes first."""
        if self.known_ends_us:
            return list(self.known_ends_us)
        starts = [s.since_us for s in self.evidence.strata]
        end = self.evidence.as_of_us or 0
        return [
            min((look % LOOK + 1) * self.grid_us, starts[k + 1] if (k := look // LOOK) + 1 < len(starts) else end, end)
            for look in self.evidence.looks
        ]


def shares_of(evidence: Evidence, sums: Sequence[PairSums]) -> list[float | None]:
    """Return the treatment's share of the two arms' traffic by stage.

    Where none is configured and several groups are compared, what was seen of all of them together stands in.
    """
    shares = [evidence.pair_share(s) for s in evidence.strata]
    if len(sums) == 1 or None not in shares:
        return shares
    units = sum(s.units[:, :, -1] for s in sums)
    seen = [float(t / (c + t)) if c > 0 and t > 0 else 0.5 for c, t in zip(*units, strict=True)]  # type: ignore[misc]
    return [q if share is None else share for share, q in zip(shares, seen, strict=True)]


def cumulative(sums: dict[Any, dict[str, list[int]]]) -> dict[Any, dict[str, list[int]]]:
    """Return what has come together by each look, from what each look added."""
    return {key: {name: list(accumulate(values)) for name, values in row.items()} for key, row in sums.items()}


def _first_and_last(rows: Sequence[Row]) -> dict[str, int | None]:
    return {
        "first_us": min((int(r["first_us"]) for r in rows), default=None),
        "last_us": max((int(r["last_us"]) for r in rows), default=None),
    }


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
