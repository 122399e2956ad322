"""How long a release takes: days a stage, from the team's own variance, clustering and traffic (STATISTICS §11).

The plan answers, for every stage of the ramp and every metric: after how many days is a harm of two margins found, a candidate
that changes nothing called safe, an improvement of the MDE proven; which of them is waited for longest, and what would help.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from abtest.analysis.resample import Baseline, Randomised, Source, read_baseline
from abtest.errors import SpecError, UsageError
from abtest.results import Finding
from abtest.rollout.plan_assume import Assumptions, from_assumptions
from abtest.rollout.plan_needs import HARM, POWER, Asked, Calendar, asked
from abtest.rollout.plan_noise import HOURS, Noise, Traffic, days_until, noise_of, traffic_of
from abtest.rollout.plan_results import QUESTIONS, Need, Plan, PlannedStage, days_text
from abtest.rollout.plan_shadow import noise_floors
from abtest.spec import Experiment, RampStage
from abtest.store.store import Store

HORIZON = 365.0
"""Days after which a decision counts as never coming."""
_WORTH_IT = 0.05
"""Part of the variance that history must explain before CUPED is proposed."""
_SHORTER = 0.95
"""A proposal is worth saying when it takes this part of the days or less."""
_HALF = 0.5
TYPICAL = 0.5
_POINTS = 16
"""Points of a curve a stage."""
_BAKED = 12.0
"""Hours that a stage should last at least, so that it sees more than one time of the day."""


def plan(
    store: Store | None,
    experiment: Experiment,
    *,
    power: float = POWER,
    assume: Assumptions | None = None,
    source: Source = "auto",
    randomised: Randomised | None = None,
    progress: Callable[[str], None] | None = None,
) -> Plan:
    """Plan a release; nothing is written to the store.

    Args:
        store: An open store with logs of the baseline; None: everything is assumed.
        experiment: The policy.
        power: Probability that a release that changes nothing (or improves by its MDE) is decided by the planned day.
        assume: What is assumed where there are no logs; given, logs are not read.
        source: What the baseline is, see `calibrate`.
        randomised: What is randomised; default: users.
        progress: Called with a word before each slow step.

    Raises:
        NoDataError: no logs, and nothing is assumed.
        UsageError: a power outside 0.5 to 1, an assumption that is missing (the message lists all of them).
        SpecError: several treatments.
    """
    if len(experiment.treatments) != 1:
        raise SpecError(
            f"plan takes exactly one treatment, this spec has {len(experiment.treatments)}", key="treatments",
            hint="a copy of the spec for each of them",
        )  # fmt: skip
    if not _HALF < power < 1:
        raise UsageError(f"a power of {power:g}", key="--power", hint="between 0.5 and 1, 0.8 is usual")
    say = progress or (lambda _: None)
    say("logs")
    baseline: Baseline | None = None
    if assume is not None or store is None:
        traffic, noise = from_assumptions(experiment, assume or Assumptions())
        frozen: Mapping[str, Any] = {}
    else:
        baseline = read_baseline(store, experiment, source=source, randomised=randomised, multiples=(HARM,))
        traffic = traffic_of(baseline, _scale(store, baseline))
        noise = {j: n for j in range(len(experiment.metrics)) if (n := noise_of(baseline, j)) is not None}
        frozen = baseline.frozen
    say("stages")
    questions = asked(experiment, noise, power)
    planner = _Planner(experiment, traffic, noise, questions, power, from_logs=baseline is not None)
    stages = planner.stages()
    floors, refused = noise_floors(store, experiment, {experiment.metrics[j].name: n.level for j, n in noise.items()})
    guardrails = sum(1 for m in experiment.metrics if m.guardrail)
    ends = stages[-1].ends if stages else None
    return Plan(
        experiment=experiment.id, revision=experiment.revision, policy_sha256=experiment.policy_sha256(frozen),
        source="logs" if baseline else "assumptions", traffic=traffic.to_dict(), metrics=_known(experiment, noise), power=power,
        power_each=1 - (1 - power) / (guardrails + 1), stages=stages, curves=planner.curves, days=ends, noise_floor=floors,
        findings=(*refused, *planner.findings(stages)), refused=any(f.severity == "error" for f in refused),
    )  # fmt: skip


def _scale(store: Store, baseline: Baseline) -> float:
    """Return all calls of the experiment's arms over those of the baseline: the control arm sees a part of the traffic."""
    if baseline.source != "control":
        return 1.0
    rows = store.engine.rows(*baseline.scan.at(limits={}, caps={}, measures=()).population())
    named = set(baseline.experiment.arm_names)
    calls = dict.fromkeys(named, 0)
    for row in rows:
        if row["arm"] in named and not row["no_unit"]:
            calls[row["arm"]] += int(row["calls"])
    control = calls[baseline.experiment.control]
    return sum(calls.values()) / control if control else 1.0


def _known(experiment: Experiment, noise: Mapping[int, Noise]) -> list[dict[str, Any]]:
    return [
        {
            "metric": m.name, "role": m.role, "level": noise[j].level if j in noise else None,
            "variance": noise[j].variance if j in noise else None,
            "design_effect": noise[j].design_effect if j in noise else None,
            "cuped_reduction": noise[j].reduction if j in noise else None,
        }
        for j, m in enumerate(experiment.metrics)
    ]  # fmt: skip


@dataclass
class _Planner:
    experiment: Experiment
    traffic: Traffic
    noise: Mapping[int, Noise]
    questions: Sequence[Asked]
    power: float
    from_logs: bool
    curves: list[dict[str, Any]] = field(default_factory=list)

    def stages(self) -> tuple[PlannedStage, ...]:
        live = [(i, s) for i, s in enumerate(self.experiment.ramp) if s.share is not None]
        if not live:
            live = [(0, RampStage(stage="ab", share=_HALF))]
        before: dict[tuple[int, str], float] = {}
        rows: dict[int, float] | None = None
        starts: float | None = 0.0
        out: list[PlannedStage] = []
        for index, stage in live:
            calendar = Calendar(
                self.experiment, float(stage.share or _HALF), self.traffic, self.noise, dict(before), rows
            )
            made = self._stage(index, stage, calendar, starts)
            out.append(made)
            self._draw(calendar, made)
            if made.days is not None:
                for q in self.questions:
                    before[q.metric, q.question] = calendar.gained(q, made.days)
                    if q.bad is not None:
                        before[q.metric, "events"] = calendar.events_gained(q, made.days)
                rows = calendar.rows_after(made.days)
            starts = made.ends
        return tuple(out)

    def _stage(self, index: int, stage: RampStage, calendar: Calendar, starts: float | None) -> PlannedStage:
        days = {q: _within(calendar.days(q)) for q in self.questions}
        waited = [q for q in self.questions if q.question == "safe" or (q.question == "better" and stage.stage == "ab")]
        smaller = min(calendar.share, 1 - calendar.share)
        units = (
            days_until(self.traffic.units, stage.min_units / smaller, self.traffic.scale) if stage.min_units else 0.0
        )
        bakes = None if units is None else _within(max(units, stage.min_hours / HOURS))
        slowest = max(waited, key=lambda q: HORIZON + 1 if (d := days[q]) is None else d, default=None)
        length, typical = (_latest(bakes, calendar.together(waited, p, HORIZON)) for p in (self.power, TYPICAL))
        late = slowest is not None and (length is None or bakes is None or length > bakes)
        end = length if length is not None else HORIZON
        return PlannedStage(
            index=index, label=stage.label, kind=stage.stage, share=calendar.share, days=length, typical=typical, starts=starts,
            ends=None if starts is None or length is None else starts + length, bakes=bakes,
            units_treatment=None if length is None else calendar.share * self.traffic.units_by(length),
            waits_for=self._words(slowest) if slowest and late else "",
            needs=tuple(self._need(q, days[q], calendar, end) for q in self.questions if q.question != "better" or stage.stage == "ab"),
            shorten=tuple(self._shorten(slowest, calendar, waited, length)) if slowest and late else (),
            extrapolated=self.from_logs and end > self.traffic.days,
        )  # fmt: skip

    def _draw(self, calendar: Calendar, stage: PlannedStage) -> None:
        """Add a stage to the curves."""
        if stage.starts is None:
            return
        length = HORIZON if stage.days is None else stage.days
        for q in self.questions:
            if q.question == "harm" or q.distance is None or q.distance <= 0:
                continue
            name: str = self.experiment.metrics[q.metric].name
            curve: dict[str, Any] | None = None
            for known in self.curves:
                curve = known if (known["metric"], known["question"]) == (name, q.question) else curve
            if curve is None:
                curve = {"metric": name, "question": q.question, "points": []}
                self.curves.append(curve)
            for k in range(1, _POINTS + 1):
                resolved = calendar.detectable(q, length * k / _POINTS, self.power)
                if resolved is not None and length > 0:
                    point = {
                        "day": stage.starts + length * k / _POINTS,
                        "stage": stage.index,
                        "resolves": resolved / q.distance,
                    }
                    curve["points"].append(point)

    def _words(self, question: Asked) -> str:
        return f"{self.experiment.metrics[question.metric].name}: {QUESTIONS[question.question]}"

    def _need(self, question: Asked, days: float | None, calendar: Calendar, end: float) -> Need:
        return Need(
            self.experiment.metrics[question.metric].name, question.question, question.alpha, question.power, days,
            calendar.detectable(question, end), question.distance,
        )  # fmt: skip

    def _shorten(
        self, slowest: Asked, calendar: Calendar, waited: Sequence[Asked], length: float | None
    ) -> list[dict[str, Any]]:
        """Return what would make the stage shorter, each with the days of the whole stage then."""
        spec, noise = self.experiment.metrics[slowest.metric], self.noise[slowest.metric]
        tried: list[tuple[str, Calendar, Sequence[Asked]]] = []
        if calendar.share < _HALF:
            larger = min(2 * calendar.share if calendar.share > 0.1 else 5 * calendar.share, _HALF)
            tried.append((f"a share of {larger:.0%}", replace(calendar, share=larger), waited))
        if spec.kind not in ("quantile", "distribution") and slowest.distance is not None:
            name = "MDE" if slowest.question == "better" else "margin"
            worst = slowest.worst
            if worst is not None:  # the level at a wider margin is further off, and so is the floor of the variance
                worst = min(max(worst + spec.sign * slowest.distance, 0.0), 1.0)
            wider = replace(slowest, distance=2 * slowest.distance, worst=worst)
            tried.append((f"twice the {name} of {spec.name}", calendar, [wider if q is slowest else q for q in waited]))
        if not spec.covariate and noise.reduction and noise.reduction >= _WORTH_IT and slowest.worst is None:
            calmer = {**self.noise, slowest.metric: noise.calmer(noise.reduction)}
            what = f'CUPED (covariate = "pre", {noise.reduction:.0%} of the variance as measured)'
            tried.append((what, replace(calendar, noise=calmer), waited))
        found = [(what, then.together(asked_, self.power, HORIZON)) for what, then, asked_ in tried]
        return [
            {"what": what, "days": days}
            for what, days in found
            if days is not None and (length is None or days < _SHORTER * length)
        ]

    def findings(self, stages: Sequence[PlannedStage]) -> list[Finding]:
        """Return what is worth saying about the plan."""
        found: list[Finding] = []
        for j, m in enumerate(self.experiment.metrics):
            if j not in self.noise and m.role != "info":
                text = f"{m.name} is not planned: there are too few values to know its noise"
                found.append(Finding("not_planned", "warning", m.name, text))
        for s, ramp in zip(stages, [r for r in self.experiment.ramp if r.share is not None] or [None], strict=False):
            if s.days is None:
                found.append(
                    Finding("not_decidable", "warning", None, f"{s.label} does not decide within a year: {s.waits_for}")
                )
            elif ramp is not None and ramp.max_days is not None and s.days > ramp.max_days:
                text = f"{s.label} needs {days_text(s.days)} days and has max_days = {ramp.max_days:g}: it will end by on_timeout"
                found.append(Finding("past_max_days", "warning", None, text))
            elif s.days * HOURS < _BAKED:
                text = f"{s.label} may end after {s.days * HOURS:.0f} hours, at one time of the day: min_hours = 24 is usual"
                found.append(Finding("no_bake", "info", None, text))
            elif s.extrapolated:
                text = (
                    f"{s.label} is longer than the log ({days_text(self.traffic.days)} days): its days are extrapolated"
                )
                found.append(Finding("extrapolated", "info", None, text))
        return found


def _within(days: float | None) -> float | None:
    return None if days is None or days > HORIZON else days


def _latest(*days: float | None) -> float | None:
    known = [d for d in days if d is not None]
    return max(known) if len(known) == len(days) else None
