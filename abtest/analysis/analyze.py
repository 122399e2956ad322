"""The whole analysis of an experiment: read once, judge every metric for every treatment, run the checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from abtest.analysis.checks import run_checks
from abtest.analysis.judge import judge
from abtest.analysis.read import Evidence, read
from abtest.analysis.times import to_text
from abtest.results import Analysis, Arm
from abtest.spec import Experiment
from abtest.store.store import Store


def analyze(
    store: Store,
    experiment: Experiment,
    *,
    as_of_us: int | None = None,
    max_file: int | None = None,
    history: Sequence[tuple[int, float]] = (),
    progress: Callable[[str], None] | None = None,
) -> Analysis:
    """Analyse an experiment: every metric, interval and check, at the newest event or at `as_of_us`.

    Args:
        store: An open store. Frozen constants are written to it once, unless it is read-only.
        experiment: What is asked; any number of treatments.
        as_of_us: Cut by event time, microseconds since 1970.
        max_file: Ignore what was loaded after this file (replay).
        history: Changes of the split that abtest itself made.
        progress: Called with a word before each slow step.
    """
    evidence = read(store, experiment, as_of_us=as_of_us, max_file=max_file, history=history, progress=progress)
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
        metrics=tuple(judge(evidence, j, t) for t in experiment.treatments for j in range(len(experiment.metrics))),
        checks=run_checks(evidence),
        alpha=float(experiment.alpha),
        halt_budget=float(experiment.budget.halt),
        evidence_sha256=evidence.sha256(),
        policy_sha256=experiment.policy_sha256(evidence.frozen),
        notes=tuple(_notes(evidence)),
    )


def _notes(evidence: Evidence) -> list[str]:
    """Say which adjustments were applied, and why."""
    experiment = evidence.experiment
    notes = [f"unit: {experiment.unit}; every variance is clustered by it"]
    if len(evidence.strata) > 1:
        notes.append(f"{len(evidence.strata)} stages of the ramp are compared stage by stage, never pooled")
    if experiment.sequential.method == "anytime":
        halting = sum(1 for m in experiment.guardrails if m.guardrail and m.guardrail.action == "halt")
        notes.append(
            f"intervals and tests are anytime-valid (looking as often as one likes is safe): {experiment.alpha:g} for intervals and "
            f"for calling a guardrail safe, {experiment.budget.halt:g} for halting, split over {max(halting, 1)} guardrails"
        )
    else:
        notes.append("fixed-horizon tests: valid for one decision at a declared time")
    if evidence.scan.derive_arms:
        notes.append("logs carry no variant: arms were told apart by what they ran ([arms.*])")
    return notes
