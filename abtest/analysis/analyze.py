"""The whole analysis of an experiment: read once, judge every metric for every treatment, run the checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from abtest.analysis.checks import run_checks
from abtest.analysis.evidence import Evidence
from abtest.analysis.judge import judge
from abtest.analysis.read import read
from abtest.analysis.segment_read import Which
from abtest.analysis.segments import guarded_results, segment_results
from abtest.analysis.series import series_of
from abtest.analysis.times import to_text
from abtest.results import Analysis, Arm, MetricResult
from abtest.spec import Experiment
from abtest.store.store import Store


def analyze(
    store: Store,
    experiment: Experiment,
    *,
    as_of_us: int | None = None,
    max_file: int | None = None,
    history: Sequence[tuple[int, float]] = (),
    series: bool = True,
    segments: Which = "all",
    progress: Callable[[str], None] | None = None,
) -> Analysis:
    """Analyse an experiment: every metric, interval and check, at the newest event or at `as_of_us`.

    Args:
        store: An open store. Frozen constants are written to it once, unless it is read-only.
        experiment: What is asked; any number of treatments.
        as_of_us: Cut by event time, microseconds since 1970.
        max_file: Ignore what was loaded after this file (replay).
        history: Changes of the split that abtest itself made.
        series: Say how every metric's interval grew, too; this costs more than all the rest.
        segments: "all": every level of every segment key; "guardrails": only the levels that can stop the release.
        progress: Called with a word before each slow step.
    """
    evidence = read(
        store, experiment, as_of_us=as_of_us, max_file=max_file, history=history, series=series, segments=segments,
        progress=progress,
    )  # fmt: skip
    return analyze_evidence(evidence)


def analyze_evidence(evidence: Evidence) -> Analysis:
    """Judge evidence that was read already."""
    experiment = evidence.experiment
    seen = {str(r["arm"]): r for r in evidence.arms}
    stratum = evidence.stratum
    first = min((int(r["first_us"]) for r in evidence.stages if r["stage"] == stratum.index), default=None)
    return Analysis(
        experiment=experiment.id,
        revision=experiment.revision,
        stage=stratum.stage(to_text(stratum.since_us or first)),
        as_of=to_text(evidence.as_of_us),
        control=experiment.control,
        arms=tuple(
            Arm(a, int(seen[a]["units"]) if a in seen else 0, int(seen[a]["interactions"]) if a in seen else 0)
            for a in experiment.arm_names
        ),
        metrics=(
            *(_result(evidence, j, t) for t in experiment.treatments for j in range(len(experiment.metrics))),
            *guarded_results(evidence),
        ),
        checks=run_checks(evidence),
        alpha=float(experiment.alpha),
        halt_budget=float(experiment.budget.halt),
        evidence_sha256=evidence.sha256(),
        policy_sha256=experiment.policy_sha256(evidence.frozen),
        notes=tuple(_notes(evidence)),
        segments=segment_results(evidence),
    )


def _result(evidence: Evidence, j: int, treatment: str) -> MetricResult:
    result = judge(evidence, j, treatment)
    return replace(result, series=series_of(evidence.growth, result, j)) if evidence.growth else result


def _notes(evidence: Evidence) -> list[str]:
    """Say which adjustments were applied, and why."""
    experiment = evidence.experiment
    notes = [f"unit: {experiment.unit}; every variance is clustered by it"]
    if len(evidence.strata) > 1:
        notes.append(f"{len(evidence.strata)} stages of the ramp are compared stage by stage, never pooled")
    if experiment.sequential.method == "anytime":
        halting = sum(m.guardrail.tests for m in experiment.guardrails if m.guardrail and m.guardrail.action == "halt")
        notes.append(
            f"intervals and tests are anytime-valid (looking as often as one likes is safe): {experiment.alpha:g} for intervals and "
            f"for calling a guardrail safe, {experiment.budget.halt:g} for halting, split over {max(halting, 1)} guardrails"
        )
    else:
        notes.append("fixed-horizon tests: valid for one decision at a declared time")
    if evidence.scan.derive_arms:
        notes.append("logs carry no variant: arms were told apart by what they ran ([arms.*])")
    notes += experiment.default_notes
    if evidence.segments:
        keys = ", ".join(evidence.segments)
        notes.append(
            f"levels of {keys}: only those that a guardrail lists decide; in a level the rate-ratio test on first events is not made"
        )
    return notes
