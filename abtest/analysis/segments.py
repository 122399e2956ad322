"""Judges every level of a segment key: exploratory results with BH over levels and metrics, and whether effects differ.

Nothing here decides. A level that a guardrail lists is judged as a guardrail besides (`guarded_results`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scipy import special

from abtest.analysis.evidence import Evidence, Levels
from abtest.analysis.judge import judge, judge_all
from abtest.metrics.segments import split_level
from abtest.results import Check, MetricResult, SegmentAnalysis, finite
from abtest.stats.multiplicity import adjust

INTERACTION = "segment_interaction"
"""Name of the check on whether an effect differs between levels."""
_UNTESTED = ("insufficient", "no_data", "no_share", "unsupported")
"""Levels that are no test at all, because of how many units they have: they are not counted among the tests."""


def guarded_results(evidence: Evidence) -> list[MetricResult]:
    """Return the results of the levels that are guardrails; a level that nobody was in has the status no_data."""
    experiment = evidence.experiment
    found: list[MetricResult] = []
    for treatment in experiment.treatments:
        for j, metric in enumerate(experiment.metrics):
            for name in metric.guardrail.segments if metric.guardrail else ():
                key, level = split_level(name)
                levels = evidence.segments.get(key)
                mine = levels.evidence.get(level) if levels else None
                found.append(judge(mine or _nobody(evidence, name), j, treatment))
    return found


def _nobody(evidence: Evidence, name: str) -> Evidence:
    return replace(
        evidence, segment=name, cells=(), pairs=(), first_events=(), history=(), arm_units=(), histograms={}, looks=(), segments={}
    )  # fmt: skip


def segment_results(evidence: Evidence) -> tuple[SegmentAnalysis, ...]:
    """Return what there is to see in every segment key that was read as a whole."""
    return tuple(_segment(evidence, levels) for levels in evidence.segments.values() if levels.complete)


def _segment(evidence: Evidence, levels: Levels) -> SegmentAnalysis:
    experiment = evidence.experiment
    results: list[MetricResult] = []
    checks: list[Check] = []
    for treatment in experiment.treatments:
        for j in range(len(experiment.metrics)):
            mine = judge_all(list(levels.evidence.values()), j, treatment)
            checks.append(interaction(mine))
            results += mine
    return SegmentAnalysis(
        key=levels.key, by=levels.by, levels=tuple(levels.evidence), levels_found=levels.found, shared_units=levels.shared_units,
        results=tuple(_explored(results, float(experiment.alpha))), interactions=tuple(_together(checks, float(experiment.alpha))),
    )  # fmt: skip


def _explored(results: Sequence[MetricResult], alpha: float) -> list[MetricResult]:
    """Return results that decide nothing: BH on anytime p-values at the watermark says which differences are worth a look.

    A p-value that is not known because there are too few units is no test (units do not depend on the effect); one that is not
    known because nothing varied is a test that found nothing.
    """
    tested = [r for r in results if r.status not in _UNTESTED]
    adjusted = adjust([r.pvalue for r in tested], method="bh", alpha=alpha)
    verdicts = {id(r): (yes, p) for r, yes, p in zip(tested, adjusted.rejected, adjusted.adjusted, strict=True)}
    out: list[MetricResult] = []
    for r in results:
        rejected, pvalue = verdicts.get(id(r), (False, None))
        details = {**r.details, "bh_rejected": rejected, "bh_pvalue": pvalue, "bh_tests": len(tested)}
        worse = rejected and not r.superior
        verdict = "unknown" if r.status != "ok" else "harm" if worse else "inconclusive"
        out.append(
            replace(
                r,
                role="info",
                action=None,
                verdict=verdict,
                superior=rejected and r.superior,
                stages=(),
                details=details,
            )
        )
    return out


def interaction(results: Sequence[MetricResult]) -> Check:
    """Return whether an effect differs between levels: Cochran's Q on the levels' differences, with clustered errors.

    Q = sum of (d - mean)²/se² with the mean weighted by 1/se², chi-squared with levels - 1 degrees of freedom under "the same
    difference everywhere" [Cochran 1954]. Fixed-horizon: right for one look. Levels must be independent, which users who were in
    several of them are not.

    Args:
        results: The levels of one metric and treatment.
    """
    first = results[0]
    data = {"metric": first.metric, "treatment": first.treatment}
    if first.kind in ("quantile", "distribution"):
        return Check(
            INTERACTION,
            "unsupported",
            detail="thresholds are those of all traffic, levels differ in them anyway",
            data=data,
        )
    known = [(r.estimate, r.std_error) for r in results if r.status == "ok"]
    pairs = [(d, e) for d, e in known if d is not None and e is not None and e > 0]
    if len(pairs) < 2:
        return Check(INTERACTION, "insufficient", detail="fewer than two levels with enough units", data=data)
    weights = [1 / (e * e) for _, e in pairs]
    mean = sum(w * d for w, (d, _) in zip(weights, pairs, strict=True)) / sum(weights)
    q = sum(w * (d - mean) ** 2 for w, (d, _) in zip(weights, pairs, strict=True))
    pvalue = finite(float(special.chdtrc(len(pairs) - 1, q)))
    return Check(INTERACTION, "ok", pvalue, "", {**data, "q": q, "degrees": len(pairs) - 1, "levels": len(pairs)})


def _together(checks: Sequence[Check], alpha: float) -> list[Check]:
    """Return the checks with BH over the metrics of the key; where it rejects, a warning."""
    done = [c for c in checks if c.pvalue is not None]
    adjusted = adjust([c.pvalue for c in done], method="bh", alpha=alpha)
    verdicts = {id(c): (yes, p) for c, yes, p in zip(done, adjusted.rejected, adjusted.adjusted, strict=True)}
    out: list[Check] = []
    for check in checks:
        if id(check) not in verdicts:
            out.append(check)
            continue
        differs, pvalue = verdicts[id(check)]
        words = "differs between levels" if differs else "is not shown to differ between levels"
        detail = f"the effect on {check.data['metric']} {words} (fixed-horizon test, {check.data['levels']} levels)"
        data = {**check.data, "bh_pvalue": pvalue}
        out.append(Check(check.name, "warning" if differs else "ok", check.pvalue, detail, data))
    return out
