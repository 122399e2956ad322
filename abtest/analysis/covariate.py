"""CUPED for one metric: adjusts its sums by the units' history, unless that history differs between the arms.

A history that differs at p < 0.001 in some hour of the log cannot be trusted to be a matter of chance: the adjustment is off for
good in this revision. What the logs say at full hours is written down as the frozen constant `covariate_off`, so that it
depends on the logs and not on when somebody looked; the hour that is not over yet counts for the result of the moment only.
Measured on logs without any difference, 24 looks each: off in 0.3 % (returning users, three stages), 0 % (lognormal history at
a 5 % share), 1 % (rare events, one user in twenty with a history, 5 % share) of 400 runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from abtest.results import finite
from abtest.stats.score import PairSums, stratified_score
from abtest.stats.score_cuped import Cuped, balance, cuped
from abtest.store.store import Store

if TYPE_CHECKING:
    from abtest.analysis.read import Evidence

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
    pvalue = finite(float(balance(sums, _shares(evidence))[-1]))
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
        spec = evidence.experiment.metrics[j]
        if not evidence.scan.measures[j].covariate or OFF in frozen.get(spec.name, {}):
            continue
        looks, treatment = _moved(evidence, j)
        if not looks:
            continue
        frozen[spec.name] = {**frozen.get(spec.name, {}), OFF: 1.0}
        over = [i for i in looks if (evidence.buckets[i] + 1) * evidence.scan.grid_us <= (evidence.as_of_us or 0)]
        if over and not store.read_only:
            store.freeze(
                evidence.experiment.id, evidence.experiment.revision, spec.name, {OFF: 1.0},
                source=f"history differs between {evidence.experiment.control} and {treatment}: p < {MOVED:g}",
                watermark_us=evidence.looks_us[over[0]], file_id=evidence.max_file,
            )  # fmt: skip
    return replace(evidence, frozen=frozen)


def _moved(evidence: Evidence, j: int) -> tuple[list[int], str]:
    """Return the looks at which the covariate differs between control and a treatment, and which treatment."""
    control = np.array(evidence.units_over_time(evidence.experiment.control))
    for treatment in evidence.experiment.treatments:
        enough = np.minimum(control, evidence.units_over_time(treatment)) >= _ENOUGH
        pvalue = balance(evidence.covariate_sums(j, treatment), _shares(evidence))
        looks = np.flatnonzero(enough & (np.nan_to_num(pvalue, nan=1.0) < MOVED))
        if looks.size:
            return [int(i) for i in looks], treatment
    return [], ""


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
