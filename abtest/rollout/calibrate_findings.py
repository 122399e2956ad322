"""What a calibration is worth saying about: errors above what was promised, their likely cause, what the log cannot tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from abtest.analysis.resample import Baseline
from abtest.results import Finding
from abtest.rollout.calibrate_results import HarmStudy, Share, percent
from abtest.rollout.calibrate_run import Looks

ALIKE = 1.2
"""Design effect from which on units that are randomised together count as alike."""
SOON_ENOUGH = 0.8
"""Share of runs in which a harm of two margins should be found."""


@dataclass(frozen=True)
class Replayed:
    """What the findings are made of."""

    baseline: Baseline
    looks: Looks
    false_halts: Share
    harms: Sequence[HarmStudy]
    stages: Sequence[Mapping[str, object]]
    runs: int


def findings_of(replayed: Replayed) -> tuple[Finding, ...]:
    """Return the findings, the worst first."""
    found = [*_halts(replayed), *_promotes(replayed), *_allowed(replayed), *_missed(replayed), *_log(replayed)]
    order = {"critical": 0, "error": 1, "warning": 2, "info": 3}
    return tuple(sorted(found, key=lambda f: order[f.severity]))


def _halts(r: Replayed) -> list[Finding]:
    nominal = float(r.baseline.experiment.budget.halt)
    share = r.false_halts
    causes = causes_of(r.baseline, r.looks)
    if share.lower is None or share.upper is None:
        return []
    if share.lower > nominal:
        why = "; ".join(f.message for f in causes) or "no cause is known: look at the metrics that halt"
        text = f"false halts are above the {percent(nominal)} % that the policy promises ({share.words()}): {why}"
        return [Finding("false_halts", "error", None, text), *causes]
    if share.upper < nominal:
        text = f"the policy halts less often by mistake than the {percent(nominal)} % it may ({share.words()})"
        return [Finding("conservative", "info", None, text), *causes]
    return [*causes, *_too_few(r, nominal)]


def _too_few(r: Replayed, nominal: float) -> list[Finding]:
    """Say so where the interval is too wide to tell a policy that keeps its promise from one that breaks it."""
    if r.false_halts.upper is None or r.false_halts.upper <= 5 * nominal:
        return []
    text = f"{r.runs} runs cannot tell {percent(nominal)} % from {percent(r.false_halts.upper)} %: give more `--runs`"
    return [Finding("few_runs", "info", None, text)]


def causes_of(baseline: Baseline, looks: Looks) -> list[Finding]:
    """Return what in the policy may break its promise: a unit that is too fine, fixed tests looked at often, an unknown share."""
    experiment = baseline.experiment
    found: list[Finding] = []
    if baseline.randomised != experiment.unit:
        alike = max(((design_effect(baseline, j), j) for j in guarded(baseline)), default=None)
        if alike and alike[0][0] >= ALIKE:
            (effect, correlation), j = alike
            name, what = experiment.metrics[j].name, baseline.randomised
            text = (
                f"the unit is too fine: {experiment.unit}s of one {what} are alike (intra-class correlation {correlation:.2f} in "
                f'{name}), so variances are {effect:.1f} times what the policy believes; write unit = "{what}"'
            )
            found.append(Finding("unit_too_fine", "warning", name, text))
    many = len(range(0, baseline.hours, looks.every))
    if experiment.sequential.method == "fixed" and many > 1:
        text = f'fixed-horizon tests hold for one look, and there are {many}; write method = "anytime"'
        found.append(Finding("fixed_looks", "warning", None, text))
    if not any(s.share is not None for s in experiment.ramp):
        text = (
            "the spec has no ramp: the share is not known to the policy, so the exact test of rare events does not run"
        )
        found.append(Finding("share_unknown", "warning", None, text))
    return found


def guarded(baseline: Baseline) -> list[int]:
    """Return the guardrails that are read."""
    return [j for j, m in enumerate(baseline.experiment.metrics) if m.guardrail and j in baseline.measures]


def design_effect(baseline: Baseline, j: int) -> tuple[float, float]:
    """Return by how much the variance of a ratio grows when its units are randomised in clusters, and the correlation in them.

    Σ_c (Σ_u e)² / Σ_u e² with e = x - r·y, and ICC = (effect - 1) / (Σn²/Σn - 1), n the units of a cluster [Kish 1965].
    """
    columns = baseline.measures[j]
    rows = baseline.tables[columns.table]
    x, y = (
        np.bincount(rows.unit, weights=rows.columns[name], minlength=baseline.units) for name in (columns.x, columns.y)
    )
    x = np.minimum(x, 1) if columns.cap_x else x
    y = np.minimum(y, 1) if columns.cap_y else y
    if not y.sum():
        return 1.0, 0.0
    e = x - x.sum() / y.sum() * y
    own = float((e * e).sum())
    together = np.bincount(baseline.cluster, weights=e, minlength=baseline.clusters)
    size = np.bincount(baseline.cluster, minlength=baseline.clusters).astype(float)
    effect = float((together * together).sum()) / own if own > 0 else 1.0
    spread = float((size * size).sum() / size.sum()) - 1
    return effect, (effect - 1) / spread if spread > 0 else 0.0


def _promotes(r: Replayed) -> list[Finding]:
    alpha = float(r.baseline.experiment.alpha)
    return [
        Finding(
            "false_promotes", "error", h.metric,
            f"{h.metric} at {h.multiple:g} x its margin was promoted in {h.promoted.words()}, {percent(alpha)} % are allowed",
        )
        for h in r.harms
        if h.multiple >= 1 and h.promoted.lower is not None and h.promoted.lower > alpha
    ]  # fmt: skip


def _allowed(r: Replayed) -> list[Finding]:
    """Say where candidates are halted that do no more harm than their margin allows."""
    nominal = float(r.baseline.experiment.budget.halt)
    found: list[Finding] = []
    for h in r.harms:
        if h.multiple > 1 or h.action != "halt" or h.detected.lower is None or h.detected.lower <= nominal:
            continue
        text = (
            f"a candidate at {h.multiple:g} x the margin of {h.metric}, which is allowed, is halted in {h.detected.words()}: the exact test of "
            "rare events asks for more events than in control and an estimate past the margin, not for proof of harm past it"
        )
        found.append(Finding("halts_at_margin", "warning", h.metric, text))
    return found


def _missed(r: Replayed) -> list[Finding]:
    return [
        Finding(
            "harm_missed", "warning", h.metric,
            f"a harm of {h.multiple:g} margins on {h.metric} is found in {h.detected.words()} within this log: "
            "a wider margin, a larger first share or more traffic would find it",
        )
        for h in r.harms
        if h.multiple == 2 and h.detected.share is not None and h.detected.share < SOON_ENOUGH
    ]  # fmt: skip


def _log(r: Replayed) -> list[Finding]:
    """Say what the log is too short for, and which metrics it cannot judge."""
    baseline, found = r.baseline, list[Finding]()
    for j, metric in enumerate(baseline.experiment.metrics):
        if metric.guardrail and j not in baseline.measures:
            text = f"{metric.name} could not be replayed: the baseline has too few values to freeze its constants"
            found.append(Finding("not_replayed", "warning", metric.name, text))
    first = r.stages[0]["label"]
    if len(r.stages) > 1 and not r.stages[1]["entered"]:
        text = (
            f"no run left {first} within the {baseline.hours / 24:.1f} days of this log: later stages were not replayed; "
            "`abtest plan` says how long it takes, --widen calendar goes on regardless"
        )
        found.append(Finding("never_promoted", "warning", None, text))
    if baseline.randomised == baseline.experiment.unit or not guarded(baseline):
        return found
    text = f"{baseline.randomised}s were put into arms, though the spec's unit is the {baseline.experiment.unit}: --randomised changes that"
    return [*found, Finding("randomised", "info", None, text)]
