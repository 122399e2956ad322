"""The clocks of a stage: is it baked, are slow signals in, is its time over, do the logs still flow; and when will that be?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from abtest.analysis.judge import MIN_UNITS
from abtest.results import Analysis, Finding, MetricResult
from abtest.rollout.eta import eta_hours
from abtest.rollout.rules_findings import label_of
from abtest.spec import Experiment, RampStage

if TYPE_CHECKING:
    from abtest.rollout.rules import Facts


@dataclass(frozen=True)
class Wait:
    """Something that time alone will bring: in words, and the hours until it is there (None: cannot be said)."""

    words: str
    hours: float | None


@dataclass(frozen=True)
class Staleness:
    """The newest row is too old; `halts`: older even than the policy holds still for."""

    words: str
    halts: bool


def current_stage(experiment: Experiment, analysis: Analysis) -> RampStage | None:
    """Return the ramp's entry for the stage that runs, if the spec has one."""
    index = analysis.stage.index
    if index < len(experiment.ramp) and experiment.ramp[index].share == analysis.stage.share:
        return experiment.ramp[index]
    return None


def baking(experiment: Experiment, analysis: Analysis, facts: Facts) -> Wait | None:
    """Return what the stage still needs before anything is called safe: time and units, as the ramp says."""
    stage = current_stage(experiment, analysis)
    if stage is None:
        return None
    missing: list[str] = []
    hours: list[float | None] = []
    if facts.stage_hours < stage.min_hours:
        missing.append(f"{facts.stage_hours:.0f} of {stage.min_hours:g} hours")
        hours.append(stage.min_hours - facts.stage_hours)
    if facts.stage_units < stage.min_units:
        missing.append(f"{facts.stage_units} of {stage.min_units} units in the smaller arm")
        pace = facts.stage_units / facts.stage_hours if facts.stage_hours > 0 else 0.0
        hours.append((stage.min_units - facts.stage_units) / pace if pace > 0 else None)
    if not missing:
        return None
    left = latest(hours)
    more = "" if left is None else f" (about {duration_words(left)} more)"
    return Wait(f"the stage has {' and '.join(missing)}{more}", left)


def maturing(experiment: Experiment, analysis: Analysis, facts: Facts) -> dict[tuple[str, str | None], Wait]:
    """Return the slow guardrails (`mature_after`) of which nothing in this stage is old enough yet, by metric and segment.

    Their silence is no missing data: it ends when the stage's first calls are old enough, and says so.
    """
    slow = {m.name: m for m in experiment.guardrails if m.mature_us is not None}
    waiting: dict[tuple[str, str | None], Wait] = {}
    for m in analysis.metrics:
        spec = slow.get(m.metric)
        if m.role != "guardrail" or spec is None or _speaks_of_this_stage(m):
            continue
        left = (spec.mature_us or 0) / 3.6e9 - facts.stage_hours
        if left > 0:
            words = f"{label_of(m)} counts calls from {spec.mature_after} on, the first of this stage in {duration_words(left)}"
            waiting[m.metric, m.segment] = Wait(words, left)
    return waiting


def has_stopped(m: MetricResult) -> bool:
    """Return whether a metric's values were logged in earlier stages and are not in this one, though its calls are.

    What was safe at 1 % says nothing of a stage in which nobody looked: missing data is never a pass.
    """
    if not m.stages or _speaks_of_this_stage(m):
        return False
    return min(m.stages[-1].get("n_control", 0), m.stages[-1].get("n_treatment", 0)) >= MIN_UNITS


def _speaks_of_this_stage(m: MetricResult) -> bool:
    return bool(m.stages) and m.stages[-1].get("treatment_value") is not None


def over_time(experiment: Experiment, analysis: Analysis, facts: Facts) -> RampStage | None:
    """Return the stage when its `max_days` have passed."""
    stage = current_stage(experiment, analysis)
    over = stage is not None and stage.max_days is not None and facts.stage_hours >= stage.max_days * 24
    return stage if over else None


def stale(experiment: Experiment, facts: Facts, extra: tuple[Finding, ...]) -> Staleness | None:
    """Return why the data are stale: judged here against `[freshness]`, or found by `watch`, which knows the clock."""
    age, fresh = facts.age_seconds, experiment.freshness
    found = next((f for f in extra if f.code == "stale"), None)
    too_old = fresh is not None and age is not None and age > fresh.seconds
    if found is None and not too_old:
        return None
    limit = experiment.policy.halt_age
    halts = limit is not None and age is not None and age > limit
    words = found.message if found else ""
    if too_old and fresh is not None and age is not None:
        words = f"the newest row is {duration_words(age / 3600)} old, {fresh.max_age} are allowed"
    if halts:
        words = f"{words}; on_stale = halt after {experiment.policy.on_stale_after}"
    return Staleness(words, halts)


def decidable(analysis: Analysis, facts: Facts) -> float | None:
    """Return the hours until every guardrail is decided at this stage's pace; None when that cannot be said."""
    return eta_hours(analysis, facts.stage_hours)


def latest(hours: list[float | None]) -> float | None:
    """Return the last of several waits; None when one of them cannot be said, or there is none."""
    known = [h for h in hours if h is not None]
    return max(known) if known and len(known) == len(hours) else None


def duration_words(hours: float) -> str:
    """Return a time as people say it: 40 minutes, 5.5 hours, 3 days."""
    if hours < 1:
        minutes = max(round(hours * 60), 1)
        return f"{minutes} minute{'s' if minutes > 1 else ''}"
    return f"{hours:.1f} hours" if hours < 72 else f"{hours / 24:.0f} days"
