"""What to do with a release, from its analysis: the precedence of RELEASES §2. Pure: no store, no clock, no actuator.

The first rule that matches decides; all findings are reported whatever decided:

0. an override, which hides nothing · 1. harm past the margin of a `halt` guardrail, even when the data cannot be trusted ·
2. not trustworthy: a check that failed, or an error found elsewhere (versions, indexes) · 3. stale · 4. no data ·
5. the stage is not baked, or a slow guardrail has no mature data in it · 6. a guardrail is not decided; at `max_days`
`on_timeout` · 7. harm on a `hold` guardrail · 8. all safe: promote; at A/B ship what is also better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from abtest.analysis.checks import blocking
from abtest.results import Analysis, Check, DecisionName, Finding, MetricResult, Severity, Stage
from abtest.rollout.rules_clock import (
    Staleness,
    Wait,
    baking,
    decidable,
    has_stopped,
    latest,
    maturing,
    over_time,
    stale,
)
from abtest.rollout.rules_clock import current_stage as current_stage  # noqa: PLC0414 - asked for here by its neighbours
from abtest.rollout.rules_findings import (
    CHECK_CODES,
    check_findings,
    effect_words,
    harm_in_margins,
    harm_words,
    label_of,
    metric_findings,
    unsure_words,
)
from abtest.spec import Experiment, RampStage
from abtest.spec_policy import halts_by_judge
from abtest.stats.multiplicity import ship_rule

EXIT = {"promote": 0, "ship": 0, "hold": 10, "halt": 20}
NOT_TRUSTWORTHY, NO_DATA = 30, 40

FINDING_CODES = (
    "harm", "harm_hold", "safe", "inconclusive", "insufficient", "no_data", "cannot_compute", "superior", "not_superior",
    "deterioration", "baking", "maturing", "timeout", "stale", "latched", "override", "no_guardrails", "all_safe",
    "halt_not_effective", "halt_confirmed",
    "below_noise_floor", "uncalibrated_judge", "sampled_by_request", "off_policy_turns", "candidate_seen",
    "prompt_content_changed", "silent_swap", "response_model_changed", "fingerprint_changed", "unregistered_version",
    "retired_running", "never_ran", "mixed_manifests", "version_churn", "baseline_drift",
    "index_mixed", "index_query_mismatch", "index_queries_mixed", "index_dims", "index_unknown", "index_stale", "index_missing",
    "index_orphaned", "embedding_changed", "embedding_unstable", "embedding_switched", "query_drift", "index_worse",
    "index_not_proven", "index_safe", "tradeoff_dominated", "tradeoff_open",
    "false_halts", "halts_at_margin", "false_promotes", "conservative", "few_runs", "unit_too_fine", "fixed_looks", "share_unknown", "harm_missed",
    "not_replayed", "never_promoted", "randomised", "not_planned", "not_decidable", "past_max_days", "extrapolated", "no_bake",
    "noise_floor_unknown",
    *CHECK_CODES.values(),
)  # fmt: skip
"""The closed list of finding codes and reasons."""

_NO_MATTER_OF_TRUST = frozenset({"stale", "halt_not_effective", "tradeoff_dominated"})
"""Errors found elsewhere that have a rule of their own: logs that stopped (rule 3), a halt that does not work (it stays a halt), a release that is not worth it."""


@dataclass(frozen=True)
class Facts:
    """What the rules know besides the analysis.

    Attributes:
        stage_hours: Hours since the treatment's first exposure in the current stage.
        stage_units: Units of the smaller arm in the current stage.
        age_seconds: Age of the newest row by the clock; None where staleness is not judged.
        latched: Summary of the halt that still stands.
        override: A human decision in force: decision, reason, actor, expires.
    """

    stage_hours: float = 0.0
    stage_units: int = 0
    age_seconds: float | None = None
    latched: str | None = None
    override: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Outcome:
    """The decision before it is recorded; `eta_hours`: until what is waited for is there, where that can be said."""

    decision: DecisionName
    reason: str
    summary: str
    exit_code: int
    findings: tuple[Finding, ...]
    needs: tuple[str, ...] = ()
    eta_hours: float | None = None


def conclude(experiment: Experiment, analysis: Analysis, facts: Facts, extra: Sequence[Finding] = ()) -> Outcome:
    """Return the decision: the first rule that matches decides, all findings are reported.

    The results of a segment's levels are none of its business, except levels that are guardrails themselves.

    Args:
        experiment: What is asked.
        analysis: The evidence, judged.
        facts: What else is known: clocks, a halt or an override that stands.
        extra: Findings from elsewhere. A warning is reported; an error holds the release as not trustworthy.
    """
    deciding = tuple(m for m in analysis.metrics if m.segment is None or m.role == "guardrail")
    analysis, doubts = _without_judges_that_halt(experiment, replace(analysis, metrics=deciding))
    case = _Case.of(experiment, analysis, facts, (*extra, *doubts))
    outcome = case.by_evidence()
    findings = case.findings(outcome)
    if facts.latched and outcome.decision != "halt":
        findings.append(Finding("latched", "error", None, f"an earlier halt stands: {facts.latched}"))
        summary = f"HALT stands at {analysis.stage.label}: {facts.latched}"
        outcome = Outcome("halt", "latched", summary, EXIT["halt"], (), ("a new revision of the spec, or an override",))
    if facts.override:
        outcome = _overridden(facts.override, outcome, findings)
    order: dict[Severity, int] = {"critical": 0, "error": 1, "warning": 2, "info": 3}
    return replace(outcome, findings=tuple(sorted(findings, key=lambda f: order[f.severity])))


def next_stage(experiment: Experiment, stage: Stage) -> RampStage | None:
    """Return the stage after the current one; None at the end of the ramp."""
    share = stage.share or 0.0
    return next((s for s in experiment.ramp if s.share is not None and s.share > share), None)


@dataclass(frozen=True)
class _Case:
    """Everything that the rules look at, worked out once."""

    experiment: Experiment
    analysis: Analysis
    facts: Facts
    extra: tuple[Finding, ...]
    broken: tuple[Check, ...]
    errors: tuple[Finding, ...]
    stale: Staleness | None
    baking: Wait | None
    maturing: Mapping[tuple[str, str | None], Wait]
    over: RampStage | None

    @classmethod
    def of(cls, experiment: Experiment, analysis: Analysis, facts: Facts, extra: tuple[Finding, ...]) -> _Case:
        return cls(
            experiment, analysis, facts, extra,
            broken=tuple(c for c in analysis.checks if c.status == "failed" and c.name in blocking()),
            errors=tuple(f for f in extra if f.severity in ("error", "critical") and f.code not in _NO_MATTER_OF_TRUST),
            stale=stale(experiment, facts, extra), baking=baking(experiment, analysis, facts),
            maturing=maturing(experiment, analysis, facts), over=over_time(experiment, analysis, facts),
        )  # fmt: skip

    # -- what there is -------------------------------------------------------------------------------------------

    @property
    def label(self) -> str:
        return self.analysis.stage.label

    @property
    def at_ab(self) -> bool:
        return self.analysis.stage.kind == "ab"

    @property
    def guardrails(self) -> list[MetricResult]:
        return [m for m in self.analysis.metrics if m.role == "guardrail"]

    @property
    def success(self) -> list[MetricResult]:
        return [m for m in self.analysis.metrics if m.role == "success"]

    def harmed(self, action: str) -> list[MetricResult]:
        """Return the guardrails whose harm is proven, the worst first."""
        harmed = [m for m in self.guardrails if m.verdict == "harm" and m.action == action]
        return sorted(harmed, key=harm_in_margins, reverse=True)

    @property
    def nothing_to_judge(self) -> bool:
        return not self.guardrails and not (self.at_ab and self.success)

    def waits(self, m: MetricResult) -> bool:
        """Return whether a guardrail is silent only because its calls are too young."""
        return m.verdict == "unknown" and (m.metric, m.segment) in self.maturing

    def findings(self, outcome: Outcome) -> list[Finding]:
        """Return all there is to say, whichever rule decided."""
        speaking = tuple(m for m in self.analysis.metrics if not self.waits(m))
        found = [
            *metric_findings(replace(self.analysis, metrics=speaking)), *check_findings(self.analysis), *self.extra,
            *(Finding("maturing", "info", name, wait.words) for (name, _), wait in self.maturing.items()),
        ]  # fmt: skip
        if self.stale and not any(f.code == "stale" for f in self.extra):
            found.append(Finding("stale", "error", None, self.stale.words))
        if self.baking:
            found.append(Finding("baking", "info", None, self.baking.words))
        if self.nothing_to_judge:
            found.append(
                Finding("no_guardrails", "warning", None, "no metric has a guardrail: nothing can be called safe")
            )
        if self.over is not None and (outcome.decision == "hold" or outcome.reason == "timeout"):
            words = f"{self.label} has run for its {self.over.max_days:g} days without a verdict"
            found.append(Finding("timeout", "warning", None, words))
        return found

    # -- the rules, in order -------------------------------------------------------------------------------------

    def by_evidence(self) -> Outcome:
        return (
            self._harm() or self._not_trustworthy() or self._stale() or self._no_data() or self._baking()
            or self._undecided() or self._harm_on_hold() or self._dominated() or self._safe()
        )  # fmt: skip

    def _harm(self) -> Outcome | None:
        harmed = self.harmed("halt")
        if not harmed:
            return None
        more = f", and {', '.join(label_of(m) for m in harmed[1:])} too" if len(harmed) > 1 else ""
        return _outcome("halt", "harm", f"HALT at {self.label}: {harm_words(harmed[0])}{more}")

    def _not_trustworthy(self) -> Outcome | None:
        if self.broken:
            check = self.broken[0]
            summary = f"HOLD at {self.label}: the comparison cannot be trusted, {check.detail}"
            code, need = CHECK_CODES.get(check.name, check.name), "the cause found and mended, then a new revision"
        elif self.errors:
            code, need = self.errors[0].code, "the cause found and mended"
            summary = f"HOLD at {self.label}: {self.errors[0].message}"
        else:
            return None
        return _outcome("hold", code, summary, need, exit_code=NOT_TRUSTWORTHY)

    def _stale(self) -> Outcome | None:
        if self.stale is None:
            return None
        if self.stale.halts:
            return _outcome("halt", "stale", f"HALT at {self.label}: nobody can see the release, {self.stale.words}")
        summary = f"HOLD at {self.label}: {self.stale.words}"
        return _outcome("hold", "stale", summary, "new rows in the logs", exit_code=NO_DATA)

    def _no_data(self) -> Outcome | None:
        silent = [m for m in self.guardrails if m.status == "no_data" and not self.waits(m)]
        stopped = [m for m in self.guardrails if has_stopped(m) and (m.metric, m.segment) not in self.maturing]
        if silent:
            what = f"{label_of(silent[0])}: {silent[0].note}"
        elif not any(arm.units for arm in self.analysis.arms):
            what = f"the logs hold no call of experiment {self.experiment.id!r}"
        elif not self.facts.stage_units:
            what = "no call in this stage yet"
        elif stopped:
            what = f"{label_of(stopped[0])} had values in the stages before and has none in this one"
        else:
            return None
        summary = f"HOLD at {self.label}: no data, {what}"
        return _outcome("hold", "no_data", summary, "rows that carry these values", exit_code=NO_DATA)

    def _baking(self) -> Outcome | None:
        waits = [*([self.baking] if self.baking else []), *self.maturing.values()]
        if not waits:
            return None
        summary = f"HOLD at {self.label}: {'; '.join(w.words for w in waits)}"
        reason = "baking" if self.baking else "maturing"
        return _outcome("hold", reason, summary, *(w.words for w in waits), eta=latest([w.hours for w in waits]))

    def _undecided(self) -> Outcome | None:
        if self.nothing_to_judge:
            summary = f"HOLD at {self.label}: no metric has a guardrail"
            return _outcome("hold", "no_guardrails", summary, "a guardrail in the spec")
        unsure = [m for m in self.guardrails if m.verdict in ("inconclusive", "unknown")]
        if not unsure:
            return None
        late = self._timeout()
        if late:
            return late
        worst = max(unsure, key=_distance_to_safe)
        reason = "insufficient" if worst.verdict == "unknown" else "inconclusive"
        more = f", and {len(unsure) - 1} more" if len(unsure) > 1 else ""
        eta = decidable(self.analysis, self.facts)
        summary = f"HOLD at {self.label}: {unsure_words(worst)}{more}"
        return _outcome("hold", reason, summary, *(unsure_words(m) for m in unsure), eta=eta)

    def _timeout(self) -> Outcome | None:
        """Return what the policy says when the stage's time is over; harm that is proven, or cannot be computed, is not harmless."""
        if self.over is None:
            return None
        rule, days = self.experiment.policy.on_timeout, f"{self.over.max_days:g} days"
        if rule == "halt":
            return _outcome("halt", "timeout", f"HALT at {self.label}: no verdict within {days}")
        harmless = all(m.status == "ok" and m.verdict != "harm" for m in self.guardrails)
        if rule != "promote_if_harmless" or not harmless:
            return None
        summary = f"PROMOTE from {self.label}: no harm was shown within {days} (on_timeout = promote_if_harmless)"
        return _outcome("promote", "timeout", summary)

    def _harm_on_hold(self) -> Outcome | None:
        harmed = self.harmed("hold")
        if not harmed:
            return None
        summary = f"HOLD at {self.label}: {harm_words(harmed[0])}"
        return _outcome("hold", "harm_hold", summary, *(f"{label_of(m)} back below its margin" for m in harmed))

    def _dominated(self) -> Outcome | None:
        """Return the hold of a release that a recorded tradeoff rules out."""
        found = next((f for f in self.extra if f.code == "tradeoff_dominated"), None)
        if found is None:
            return None
        return _outcome(
            "hold", found.code, f"HOLD at {self.label}: {found.message}", "a tradeoff that speaks for the release"
        )

    def _safe(self) -> Outcome:
        if self.at_ab and self.success:
            return self._ship()
        following, many = next_stage(self.experiment, self.analysis.stage), len(self.guardrails)
        goal = f"to {following.label}" if following else "to all traffic"
        who = "the guardrail is" if many == 1 else f"all {many} guardrails are"
        return _outcome("promote", "all_safe", f"PROMOTE from {self.label} {goal}: {who} safe")

    def _ship(self) -> Outcome:
        """Apply the ship rule (STATISTICS §9); checks and guardrails have held by now, and it looks again."""
        rule = ship_rule(
            [m.pvalue for m in self.success], [_points_the_good_way(m) for m in self.success],
            [m.verdict for m in self.guardrails], quality_ok=not self.broken, alpha=float(self.experiment.alpha),
        )  # fmt: skip
        worse = [m for m in self.success if m.verdict == "harm"]
        if worse or not rule.no_deterioration:
            worst = effect_words((worse or self.success)[0])
            return _outcome("hold", "deterioration", f"HOLD at {self.label}: {worst} is worse than control")
        if rule.ship:
            better = next(m for m, hit in zip(self.success, rule.superior, strict=True) if hit)
            safe = ", and every guardrail is safe" if self.guardrails else ""
            return _outcome("ship", "superior", f"SHIP at {self.label}: {effect_words(better)} is better{safe}")
        late = self._timeout()
        if late:
            return late
        first = self.success[0]
        known = f"{effect_words(first)} is not shown to be better yet" if first.status == "ok" else unsure_words(first)
        summary = f"HOLD at {self.label}: safe, but {known}"
        return _outcome("hold", "not_superior", summary, f"more data on {label_of(first)}")


# -- parts -------------------------------------------------------------------------------------------------------


def _without_judges_that_halt(experiment: Experiment, analysis: Analysis) -> tuple[Analysis, list[Finding]]:
    """Return the analysis with judges' scores that hold where they were to halt, and what is to be said of their harm.

    Only the shadow stage knows what a judge is worth, and has seen to it: nobody labels the answers of a live stage.
    """
    judges = (
        {m.name for m in experiment.guardrails if halts_by_judge(m)} if analysis.stage.kind != "shadow" else set[str]()
    )
    metrics = tuple(replace(m, action="hold") if m.metric in judges else m for m in analysis.metrics)
    doubts = [
        Finding(
            "uncalibrated_judge",
            "warning",
            m.metric,
            f"{label_of(m)} is what a judge model says: it holds, it does not halt",
        )
        for m in metrics
        if m.metric in judges and m.verdict == "harm"
    ]
    return replace(analysis, metrics=metrics), doubts


def _overridden(override: Mapping[str, Any], outcome: Outcome, findings: list[Finding]) -> Outcome:
    decision: DecisionName = override["decision"]
    message = f"{override['actor']} overrides until {override['expires']}: {override['reason']}"
    findings.append(Finding("override", "warning", None, f"{message}; the evidence says: {outcome.summary}"))
    summary = f"{decision.upper()} by override: {message}; the evidence says: {outcome.summary}"
    return Outcome(decision, "override", summary, EXIT[decision], ())


def _outcome(
    decision: DecisionName, reason: str, summary: str, *needs: str, exit_code: int | None = None, eta: float | None = None
) -> Outcome:  # fmt: skip
    return Outcome(decision, reason, summary, EXIT[decision] if exit_code is None else exit_code, (), needs, eta)


def _distance_to_safe(m: MetricResult) -> float:
    if m.status != "ok" or m.harm_upper is None or not m.margin:
        return float("inf")
    return m.harm_upper / m.margin


def _points_the_good_way(m: MetricResult) -> bool:
    return m.estimate is not None and (m.estimate < 0) == (m.better == "lower")
