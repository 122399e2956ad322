"""CUPED for one metric: adjusts its sums by the units' history, unless that history differs between the arms.

A history that differs at p < 0.001 in some hour of the log cannot be trusted to be a matter of chance: the adjustment is off for
good in this revision. What the logs say at full hours is written down as the frozen constant `covariate_off`, so that it
depends on the logs and not on when somebody looked; the hour that is not over yet counts for the result of the moment only.
Measured on logs without any difference, 24 looks each: off in 0.3 % (returning users, three stages), 0 % (lognormal history at
a 5 % share), 1 % (rare events, one user in twenty with a history, 5 % share) of 400 runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abtest.analysis.evidence import Evidence, cumulative
from abtest.results import finite
from abtest.stats.score import PairSums, pair_sums, stratified_score
from abtest.stats.score_cuped import Cuped, balance, cuped
from abtest.store.query import HOUR_US
from abtest.store.store import Store

Array = NDArray[np.float64]
OFF = "covariate_off"
"""Name of the frozen constant; its value is 1."""
MOVED = 0.001
"""Two-sided p-value below which a covariate counts as moved by more than chance (STATISTICS §3)."""
_ENOUGH = 30
"""Units in each arm from which on the normal distribution is a fair judge of that."""


@dataclass(frozen=True)
class Adjustment:
    """What a metric is judged by instead of its plain sums, and what is said about it."""

    sums: PairSums
    note: str
    details: Mapping[str, Any]


def adjust(evidence: Evidence, j: int, treatment: str) -> Adjustment | None:
    """Return the adjusted sums of a metric with `covariate = "pre"`; None for a metric without."""
    if not evidence.scan.measures[j].covariate:
        return None
    spec = evidence.experiment.metrics[j]
    if OFF in evidence.frozen.get(spec.name, {}):
        note = "CUPED is off: the arms' users differ in their history (p < 0.001), which the treatment cannot explain"
        return Adjustment(evidence.pair_sums(j, treatment), note, {"status": "off"})
    sums = evidence.covariate_sums(j, treatment)
    pvalue = finite(float(balance(sums.history, _shares(evidence))[-1]))
    found = cuped(sums)
    if not found.varies[-1]:
        known = bool(sums.history.y[..., -1].sum() > 0)
        why = "the users' history does not vary" if known else "no user has a history before the experiment"
        return Adjustment(
            sums.metric, f"CUPED: not adjusted, {why}", {"status": "no_variance" if known else "no_history"}
        )
    reduction = _reduction(evidence, j, sums.metric, found)
    share = 0 if reduction is None else round(100 * reduction)
    note = f"CUPED: variance reduced by {share} %" if share > 0 else "CUPED: variance not reduced"
    details = {
        "status": "ok", "theta": float(found.theta[-1]), "correlation": float(found.correlation[-1]),
        "variance_reduction": reduction, "balance_pvalue": pvalue,
    }  # fmt: skip
    return Adjustment(found.sums, note, details)


def freeze_moved(store: Store, evidence: Evidence) -> Evidence:
    """Return the evidence with `covariate_off` for every metric whose covariate moved, and write down what full hours show."""
    frozen = dict(evidence.frozen)
    for j in evidence.active:
        if not evidence.scan.measures[j].covariate:
            continue
        spec = evidence.experiment.metrics[j]
        if OFF in frozen.get(spec.name, {}):
            continue
        hours, treatment = _moved(evidence, j)
        if not hours:
            continue
        frozen[spec.name] = {**frozen.get(spec.name, {}), OFF: 1.0}
        over = [end for end in hours if end <= (evidence.as_of_us or 0)]
        if over and not store.read_only:
            store.freeze(
                evidence.experiment.id, evidence.experiment.revision, spec.name, {OFF: 1.0},
                source=f"history differs between {evidence.experiment.control} and {treatment}: p < {MOVED:g}",
                watermark_us=over[0], file_id=evidence.max_file,
            )  # fmt: skip
    return replace(evidence, frozen=frozen)


def _moved(evidence: Evidence, j: int) -> tuple[list[int], str]:
    """Return the ends of the hours after which the covariate differs between control and a treatment, and which treatment.

    A unit's history is known when it arrives, so the hours of arrival give the balance after every hour without a second scan.
    """
    hours = sorted({int(row["bucket"]) for row in evidence.history})
    for treatment in evidence.experiment.treatments:
        sums, units = history_sums(evidence, j, treatment, hours)
        pvalue = balance(sums, _shares(evidence))
        looks = np.flatnonzero((units >= _ENOUGH) & (np.nan_to_num(pvalue, nan=1.0) < MOVED))
        if looks.size:
            return [(hours[i] + 1) * HOUR_US for i in looks], treatment
    return [], ""


def history_sums(evidence: Evidence, j: int, treatment: str, hours: Sequence[int]) -> tuple[PairSums, Array]:
    """Return the sums of the units' history after every hour, and how many units the smaller arm had by then."""
    arms = {evidence.experiment.control: 0, treatment: 1}
    at = {hour: i for i, hour in enumerate(hours)}
    cells: dict[tuple[int, int], dict[str, list[int]]] = {}
    pairs: dict[tuple[int, int, int, int], dict[str, list[int]]] = {}
    for row in evidence.history:
        if row["arm_a"] not in arms or row["arm_b"] not in arms:
            continue
        a, b = (arms[row["arm_a"]], row["stage_a"]), (arms[row["arm_b"]], row["stage_b"])
        i = at[row["bucket"]]
        pair = pairs.setdefault((*a, *b), {n: [0] * len(at) for n in ("xx", "xy", "yx", "yy")})
        for name, column in (("xx", "cc"), ("xy", "cd"), ("yx", "dc"), ("yy", "dd")):
            pair[name][i] += row[f"{column}{j}"]
        if a == b:
            cell = cells.setdefault(a, {n: [0] * len(at) for n in ("units", "x", "y")})
            for name, column in (("units", "units"), ("x", f"c{j}"), ("y", f"d{j}")):
                cell[name][i] += row[column]
    cells, pairs = cumulative(cells), cumulative(pairs)
    units = np.zeros((2, len(at)))
    for (arm, _), cell in cells.items():
        units[arm] = np.maximum(units[arm], cell["units"])  # returning units stand in several stages
    measure = evidence.scan.measures[j]
    sums = pair_sums(
        cells, pairs, stages=len(evidence.strata), looks=len(at),
        x_scale=1 if measure.event else measure.scale, y_scale=measure.denominator_scale,
    )  # fmt: skip
    return sums, units.min(axis=0)


def _shares(evidence: Evidence) -> list[float | None]:
    return [evidence.pair_share(s) for s in evidence.strata]


def _reduction(evidence: Evidence, j: int, plain: PairSums, found: Cuped) -> float | None:
    """Return by how much the variance that is used fell: clusters, stages and the floor included, not just 1 - corr²."""
    spec = evidence.experiment.metrics[j]
    before, after = (
        float(
            stratified_score(s.look(-1), _shares(evidence), better=spec.better, proportion=spec.kind == "proportion")
            .contrast()
            .v[-1]
        )
        for s in (plain, found.sums)
    )
    return finite(1.0 - after / before) if before > 0 else None
