"""One replay of a policy: from look to look, until it halts, ends the ramp, or the log is over.

The screen names the looks at which something may be decided; there the product's own analysis and rules decide, on integers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from abtest.analysis.analyze import analyze_evidence
from abtest.analysis.evidence import Evidence
from abtest.analysis.judge import harm_alpha, judge
from abtest.analysis.rare import rare_events
from abtest.analysis.resample import Baseline, Ints
from abtest.analysis.resample_evidence import evidence_at, first_events_of, strata_at
from abtest.analysis.resample_harm import Run
from abtest.analysis.resample_sums import SLACK, Ramp, Screen, Screened
from abtest.results import DecisionName
from abtest.rollout.facts import facts_of
from abtest.rollout.rules import Outcome, conclude
from abtest.spec import RampStage

Bools = NDArray[np.bool_]
HOURS_A_DAY = 24


@dataclass(frozen=True)
class Looks:
    """When somebody looks, and what widens the ramp.

    Attributes:
        every: Hours between looks.
        shares: The ramp's shares; without a ramp one half.
        calendar: Hours in which the stages begin, whatever the policy says; None: a promotion begins the next stage.
    """

    every: int
    shares: tuple[float, ...]
    calendar: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Path:
    """What happened in one replay.

    Attributes:
        ended: The last word: halt, ship, promote (past the last stage), or hold (the log was over before).
        hours: Hours from the first exposure to that.
        stage: The stage in which it ended.
        reason: The rule that decided ("harm", "timeout", ...); empty for hold.
        metric: The metric that was proven harmful, where one was.
        promoted: Hours at which the policy said promote or ship.
        detected: Hours until the watched metric's harm was proven; None: never.
        exposed: Units that had been in the treatment by then (or by the end).
    """

    ended: DecisionName
    hours: float
    stage: int
    reason: str = ""
    metric: str | None = None
    promoted: tuple[float, ...] = ()
    detected: float | None = None
    exposed: int = 0


@dataclass
class Replay:
    """A policy on one re-randomisation.

    Args:
        run: The pseudo-arms.
        looks: When somebody looks.
        watched: Metric number whose harm is to be detected; None: a run without harm.
        known: Screens of metrics that the harm does not touch, shared by the runs with the same arms.
    """

    run: Run
    looks: Looks
    watched: int | None = None
    known: dict[tuple[tuple[int, ...], int], Screened] = field(default_factory=dict)

    def path(self) -> Path:
        """Return what happens."""
        ramp, promoted = Ramp((0,), self.looks.shares[:1]), list[float]()
        while True:
            stage = _Stage(self, ramp)
            found = stage.walk()
            promoted += stage.promoted
            last = ramp.stages == len(self.looks.shares)
            if found is not None and found.ended == "promote" and not last and self.looks.calendar is None:
                ramp = Ramp((*ramp.starts, int(found.hours)), self.looks.shares[: ramp.stages + 1])
                continue
            if found is None and self.looks.calendar is not None and not last:
                ramp = Ramp(self.looks.calendar[: ramp.stages + 1], self.looks.shares[: ramp.stages + 1])
                continue
            if found is None:
                hours = self.run.baseline.hours
                return Path(
                    "hold", float(hours), ramp.stages - 1, promoted=tuple(promoted), exposed=stage.exposed(hours - 1)
                )
            return Path(
                found.ended, found.hours, ramp.stages - 1, found.reason, found.metric, tuple(promoted), found.detected,
                found.exposed,
            )  # fmt: skip


@dataclass
class _Stage:
    """The looks of the stage that runs."""

    replay: Replay
    ramp: Ramp
    promoted: list[float] = field(default_factory=list)

    @cached_property
    def baseline(self) -> Baseline:
        return self.replay.run.baseline

    @cached_property
    def hours(self) -> Ints:
        """Return the hours at whose end somebody looks."""
        calendar, k = self.replay.looks.calendar, self.ramp.stages
        end = calendar[k] if calendar is not None and k < len(calendar) else self.baseline.hours
        hours = np.arange(self.ramp.starts[-1], min(end, self.baseline.hours))
        return hours[(hours + 1) % self.replay.looks.every == 0]

    @cached_property
    def screen(self) -> Screen:
        return Screen(self.replay.run, self.ramp, self.hours, strata_at(self.baseline, self.ramp))

    def metric(self, j: int) -> Screened:
        """Return the screen of a metric; those that no harm touches are known from other runs with the same arms."""
        harm = self.replay.run.harm
        if harm is not None and harm.metric == j:
            return self.screen.metric(j)
        key = (self.ramp.starts, j)
        if key not in self.replay.known:
            self.replay.known[key] = self.screen.metric(j)
        return self.replay.known[key]

    def walk(self) -> Path | None:
        """Return the decision that ends the stage; None when none does."""
        if not len(self.hours):
            return None
        for i, full in self._looks():
            hour = int(self.hours[i])
            proven = next((j for j in self._suspects(i) if self._harmful(j, hour)), None)
            if proven is not None:
                return self._harmed(proven, hour)
            if not full:
                continue
            outcome = self.decide(hour)
            if outcome.decision == "halt":
                return self._path("halt", hour, outcome)
            if outcome.decision in ("promote", "ship"):
                self.promoted.append(float(hour + 1))
                if outcome.decision == "ship" or self.replay.looks.calendar is None:
                    return self._path(outcome.decision, hour, outcome)
        return None

    def decide(self, hour: int, metrics: list[int] | None = None) -> Outcome:
        """Return what the product decides at the end of an hour."""
        evidence = evidence_at(self.replay.run, self.ramp, hour, metrics)
        return concluded(evidence)

    # -- candidates ----------------------------------------------------------------------------------------------

    @cached_property
    def _watch(self) -> list[int]:
        """Return the metrics whose harm ends the run: guardrails that halt, and the one that is watched."""
        metrics = self.baseline.experiment.metrics
        halting = [j for j, m in enumerate(metrics) if m.guardrail and m.guardrail.action == "halt"]
        return sorted({*halting, *([] if self.replay.watched is None else [self.replay.watched])})

    def _looks(self) -> Iterator[tuple[int, bool]]:
        """Yield the looks at which something may be decided, and whether it may be more than harm."""
        suspect = np.logical_or.reduce([self.metric(j).harm | self.metric(j).rare for j in self._watch] or [self._none])
        full = self._may_promote()
        for i in np.flatnonzero(suspect | full).tolist():
            done = bool(self.promoted) and self.replay.looks.calendar is not None
            if suspect[i] or not done:
                yield i, bool(full[i]) and not done

    @property
    def _none(self) -> Bools:
        return np.zeros(len(self.hours), dtype=bool)

    def _may_promote(self) -> Bools:
        """Return the looks at which the rules may say promote, ship, or that time is over."""
        experiment = self.baseline.experiment
        stage, strata = self._planned, self.screen.strata
        guardrails = [j for j, m in enumerate(experiment.metrics) if m.guardrail]
        success = [j for j, m in enumerate(experiment.metrics) if m.role == "success"]
        first, units = self._clock
        ends = np.array([self.baseline.end_us(int(h)) for h in self.hours])
        lasted = (ends - first) / 3.6e9 if first is not None else np.zeros(len(ends))
        baked = np.ones(len(ends), dtype=bool)
        if stage is not None:
            baked = (lasted >= stage.min_hours) & (units >= stage.min_units)
        late = self._none
        if stage is not None and stage.max_days is not None and experiment.policy.on_timeout != "hold":
            late = lasted >= stage.max_days * HOURS_A_DAY
        if not late.any() and not baked.any():
            return late
        safe = np.logical_and.reduce([baked, *(self.metric(j).safe for j in guardrails)])
        if strata[-1].kind == "ab" and success:
            safe &= np.logical_or.reduce([self.metric(j).better for j in success])
        return (safe & bool(guardrails or success)) | (baked & late)

    @property
    def _planned(self) -> RampStage | None:
        live = [s for s in self.baseline.experiment.ramp if s.share is not None]
        return live[self.ramp.stages - 1] if live else None

    @cached_property
    def _clock(self) -> tuple[int | None, Ints]:
        """Return when the treatment was first seen in this stage, and the smaller arm's units by look."""
        calls, k = self.baseline.calls, self.ramp.stages - 1
        treated = self.replay.run.treated(self.ramp.shares[-1])
        at = np.flatnonzero((calls.hour >= self.ramp.starts[-1]) & treated[calls.unit])
        first = int(calls.columns["first_us"][at].min()) if len(at) else None
        return first, self.screen.units[:, k, k:].min(axis=0).astype(np.int64)

    def _suspects(self, i: int) -> Iterator[int]:
        for j in self._watch:
            found = self.metric(j)
            if found.harm[i] or (found.rare[i] and self._rare(j, int(self.hours[i]))):
                yield j

    # -- harm ----------------------------------------------------------------------------------------------------

    @cached_property
    def _events(self) -> dict[int, list[Mapping[str, object]]]:
        return {}

    def _rare(self, j: int, hour: int) -> bool:
        """Return whether first events reach their level at the end of an hour, so that a judgement is worth its time."""
        run, columns = self.replay.run, self.baseline.measures[j]
        late = self.baseline.tables[columns.table]
        if bool((late.seen > late.hour).any()):
            rows = first_events_of(run, self.ramp, hour, j)
        else:  # what is known at once is known at every later look, too
            if j not in self._events:
                self._events[j] = list(first_events_of(run, self.ramp, int(self.hours[-1]), j))
            until = self.baseline.first_hour + hour
            rows = [row for row in self._events[j] if int(str(row["bucket"])) <= until]
        experiment = self.baseline.experiment
        lent = Evidence(experiment, self.baseline.scan, tuple(self.screen.strata), None, 0, {}, (), first_events=rows)
        found = rare_events(lent, j, experiment.treatments[0])
        level = harm_alpha(lent, experiment.metrics[j], shared=True)
        return found is not None and found.log_e >= -math.log(level) - SLACK

    def _harmful(self, j: int, hour: int) -> bool:
        evidence = evidence_at(self.replay.run, self.ramp, hour, [j])
        return judge(evidence, j, self.baseline.experiment.treatments[0]).verdict == "harm"

    def _harmed(self, j: int, hour: int) -> Path:
        spec = self.baseline.experiment.metrics[j]
        if spec.guardrail is not None and spec.guardrail.action == "halt":
            return self._path("halt", hour, self.decide(hour, [j]), j)
        return self._path("hold", hour, None, j)

    def _path(self, ended: DecisionName, hour: int, outcome: Outcome | None, j: int | None = None) -> Path:
        detected = float(hour + 1) if j is not None and j == self.replay.watched else None
        name = None if j is None else self.baseline.experiment.metrics[j].name
        reason = outcome.reason if outcome else "harm_hold"
        assert outcome is None or outcome.decision == ended
        return Path(
            ended, float(hour + 1), self.ramp.stages - 1, reason, name, detected=detected, exposed=self.exposed(hour)
        )

    def exposed(self, hour: int) -> int:
        """Return how many of what is randomised had met the treatment by the end of an hour."""
        calls = self.baseline.calls
        at = np.flatnonzero(calls.hour <= hour)
        stage = np.searchsorted(self.ramp.starts, calls.hour[at], side="right") - 1
        shares = np.array(self.ramp.shares)[stage]
        met = calls.unit[at][self.replay.run.place[calls.unit[at]] < shares]
        return len(np.unique(self.baseline.cluster[met]))


def concluded(evidence: Evidence) -> Outcome:
    """Return what the product decides on this evidence: its analysis, its rules, a ledger without entries."""
    experiment = evidence.experiment
    facts = facts_of(experiment, evidence, (), now_us=evidence.as_of_us or 0, judge_age=False)
    return conclude(experiment, analyze_evidence(evidence), facts)
