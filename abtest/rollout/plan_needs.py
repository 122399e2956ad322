"""What has to be known for each decision of a stage, and after how many days it is.

A question (harm of two margins found? safe when nothing changes? better by the smallest effect worth finding?) is answered with a
probability that grows with t = I d² / (z_{1-alpha/2} + z_0.8)²: I the information (one over the variance of the difference), d
the distance from the truth to what is tested, t = 1 the sample of a two-sided fixed test with power 0.8. For always-valid tests the
curve comes from the crossing recursion (0.8 at t = 1.40 one-sided, 1.65 two-sided; STATISTICS §11). Stages add their
information, as in `stats.planning_ramp`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from abtest.analysis.constants import MIN_TAIL
from abtest.analysis.judge import MIN_UNITS
from abtest.analysis.rare import takes_rate_ratio
from abtest.metrics.base import MetricSpec
from abtest.metrics.distribution import GRID, DistributionMetric
from abtest.metrics.quantile import QuantileMetric
from abtest.rollout.plan_noise import Noise, Traffic, days_until, grown
from abtest.rollout.plan_rare import growth, needed_for_margin
from abtest.spec import Experiment
from abtest.stats.mixture import boundary, tuning
from abtest.stats.recursion import crossings

Question = Literal["harm", "safe", "better"]
Floats = NDArray[np.float64]
POWER = 0.8
_LOOKS, _SPAN = 240, (0.03, 12.0)
"""Looks of the curves of power, and the times between which they lie."""
HARM = 2.0
"""The harm whose detection is planned, in margins."""


@dataclass(frozen=True)
class Asked:
    """One question about one metric.

    Attributes:
        metric: Its number.
        question: harm, safe or better.
        alpha, sides, power: Of its test.
        distance: From the truth to the null hypothesis, in the metric's unit; None where the two are the same or unknown.
        contrast, worst, louder: See `Noise.information`.
        bad, size: Control's rate of bad events, and what the harm adds to it, where first events are tested too; else None.
    """

    metric: int
    question: Question
    alpha: float
    sides: int
    power: float
    distance: float | None
    contrast: float = 1.0
    worst: float | None = None
    louder: float = 1.0
    bad: float | None = None
    size: float = 0.0

    def needed(self, power: float, *, fixed: bool) -> float | None:
        """Return the information it needs for a power; None where no amount is enough."""
        if self.distance is None or self.distance <= 0:
            return None
        unit = (self._two / self.distance) ** 2
        if fixed:
            return unit * (float(-ndtri(self.alpha / self.sides) + ndtri(power)) / self._two) ** 2
        times, reached = power_curve(self.alpha, self.sides)
        return unit * float(np.interp(power, reached, times)) if power <= reached[-1] else None

    def power_at(self, information: float, *, fixed: bool) -> float:
        """Return the probability that it is answered by the time that there is so much information."""
        if self.distance is None or self.distance <= 0:
            return 0.0
        if fixed:
            return float(ndtr(self.distance * information**0.5 + ndtri(self.alpha / self.sides)))
        times, reached = power_curve(self.alpha, self.sides)
        return float(np.interp(information * (self.distance / self._two) ** 2, times, reached))

    @property
    def _two(self) -> float:
        return float(-ndtri(self.alpha / 2) + ndtri(POWER))


@cache
def power_curve(alpha: float, sides: int) -> tuple[Floats, Floats]:
    """Return times (in two-sided fixed samples of power 0.8) and the power of the always-valid test by then.

    The mixture is tuned as the product's: where a fixed test with these sides has power 0.8. Crossings by `stats.recursion`.
    """
    own, two = (float(-ndtri(a) + ndtri(POWER)) for a in (alpha / sides, alpha / 2))
    times = np.geomspace(*_SPAN, _LOOKS)
    edge = boundary(
        times, tuning((own / two) ** 2, alpha, one_sided=sides == 1), alpha, one_sided=sides == 1
    ) / np.sqrt(times)
    reached = np.cumsum(crossings(times, edge, -edge if sides == 2 else None, drift=two).upper)
    return np.r_[0.0, times], np.maximum.accumulate(np.r_[0.0, reached])


def asked(experiment: Experiment, noise: Mapping[int, Noise], power: float) -> list[Asked]:
    """Return every question of the release: of each guardrail harm and safety, of each success metric whether it is better.

    With G guardrails beside it everything must be right at once: each safety and each success has power 1 - beta/(G + 1)
    [arXiv 2402.11609].
    """
    guardrails = sum(1 for m in experiment.metrics if m.guardrail)
    shared = 1 - (1 - power) / (guardrails + 1)
    success = sum(1 for m in experiment.metrics if m.role == "success")
    out: list[Asked] = []
    for j, spec in enumerate(experiment.metrics):
        if j not in noise:
            continue
        if spec.guardrail:
            out += _guardrail(experiment, j, spec, noise[j], power, shared)
        elif spec.success:
            margin = spec.success.mde
            size = margin.value * (abs(noise[j].level) if margin.kind == "relative" else 1.0)
            alpha = float(experiment.alpha) / max(success, 1)
            out.append(Asked(j, "better", alpha, 2, shared, size))
    return out


def _guardrail(
    experiment: Experiment, j: int, spec: MetricSpec, noise: Noise, power: float, shared: float
) -> Iterator[Asked]:
    assert spec.guardrail is not None
    level, alpha = experiment.halt_alpha(spec), float(experiment.alpha)
    exact = takes_rate_ratio(spec) and any(s.share is not None for s in experiment.ramp)
    if exact:
        level /= 2
    margin = spec.guardrail.margin
    if isinstance(spec, QuantileMetric):
        gone = spec.sign * (noise.level - noise.moved)
        found = None if noise.harmed is None else spec.sign * (noise.harmed - noise.level)
        louder = 1.0 if noise.harmed is None else _spread(noise.harmed) / max(_spread(noise.moved), 1e-12)
        yield Asked(j, "harm", level, 1, power, found, louder=louder)
        yield Asked(j, "safe", alpha, 1, shared, gone)
        return
    if isinstance(spec, DistributionMetric):
        yield Asked(j, "harm", level / (2 * len(GRID)), 1, power, margin.value)
        yield Asked(j, "safe", alpha, 1, shared, margin.value)
        return
    relative = margin.kind == "relative"
    size = margin.value * (abs(noise.level) if relative else 1.0)
    contrast = 1 + spec.sign * margin.value if relative else 1.0
    bad = noise.level if spec.sign > 0 else 1 - noise.level
    worst = min(bad + size, 1.0) if margin.kind == "points" else None
    if spec.kind == "proportion":
        harmed = min(bad + HARM * size, 1.0)
        louder = max(_spread(harmed) / _spread(bad), 1.0) if _spread(bad) > 0 else 1.0
    else:
        louder = (1 + spec.sign * HARM * margin.value) ** 2 if relative else 1.0
    rare = {"bad": bad, "size": HARM * size} if noise.events is not None and exact else {}
    yield Asked(j, "harm", level, 1, power, (HARM - 1) * size, contrast, worst, louder, **rare)
    yield Asked(j, "safe", alpha, 1, shared, size, contrast, worst)


def _spread(rate: float) -> float:
    return rate * (1 - rate)


@dataclass(frozen=True)
class Calendar:
    """How information comes at one share of the treatment: everything that turns a question into days.

    Attributes:
        experiment: The policy.
        share: The treatment's.
        traffic: How units come.
        noise: The metrics.
        before: Information that earlier stages left, by metric and question.
        rows: Denominators in the smaller arm that earlier stages left, by metric; None in the first stage.
    """

    experiment: Experiment
    share: float
    traffic: Traffic
    noise: Mapping[int, Noise]
    before: Mapping[tuple[int, str], float]
    rows: Mapping[int, float] | None = None

    @property
    def fixed(self) -> bool:
        """Return whether the tests hold for one look only."""
        return self.experiment.sequential.method == "fixed"

    def days(self, question: Asked, power: float | None = None) -> float | None:
        """Return the days in this stage until a question is answered with a power (default: its own); None when it never is."""
        needed = question.needed(question.power if power is None else power, fixed=self.fixed)
        if needed is None:
            return None
        found, enough = self._when(question, needed), self.enough(question.metric)
        days = None if found is None or enough is None else max(found, enough)
        events = self._by_events(question)
        return days if events is None else events if days is None else min(days, events)

    def _when(self, question: Asked, needed: float) -> float | None:
        left = needed - self.before.get((question.metric, question.question), 0.0)
        return days_until(self.information(question), left, self.traffic.scale)

    def _by_events(self, question: Asked) -> float | None:
        """Return the days until first events prove a harm; None where they are not tested, or never do."""
        events = self.noise[question.metric].events
        if question.bad is None or events is None or question.distance is None:
            return None
        found = growth(question.bad, question.size, self.share)
        if found is None:
            return None
        before = self.before.get((question.metric, "events"), 0.0)
        wanted = found.events(-math.log(question.alpha), question.power, before)
        enough = self._when(question, needed_for_margin(question.distance, question.power))
        reached = days_until(events, wanted, self._event_scale(question))
        return None if reached is None or enough is None else max(reached, enough)

    def _event_scale(self, question: Asked) -> float:
        """Return first events under the harm over those in the log."""
        ratio = (question.bad + question.size) / question.bad if question.bad else 1.0
        return self.traffic.scale * (1 - self.share + self.share * ratio)

    def events_gained(self, question: Asked, days: float) -> float:
        """Return the mean of log E from first events after so many days of a harm, earlier stages included."""
        events, before = self.noise[question.metric].events, self.before.get((question.metric, "events"), 0.0)
        found = None if question.bad is None or events is None else growth(question.bad, question.size, self.share)
        if found is None or events is None:
            return before
        return before + found.mean * self._event_scale(question) * grown(events, days)

    def together(self, questions: Sequence[Asked], power: float, horizon: float) -> float | None:
        """Return the days until all of them are answered with a power; None when that takes longer than the horizon.

        Failures add up at most (1 - Σ(1 - power of each)), however the metrics hang together.
        """
        enough = [self.enough(q.metric) for q in questions]
        if any(e is None for e in enough):
            return None
        low, high = max((e for e in enough if e is not None), default=0.0), horizon

        def failing(days: float) -> float:
            return sum(1 - q.power_at(self.gained(q, days), fixed=self.fixed) for q in questions)

        if low > high or failing(high) > 1 - power:
            return None
        if failing(low) <= 1 - power:
            return low
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if failing(middle) <= 1 - power else (middle, high)
        return high

    def information(self, question: Asked) -> Floats:
        """Return (H,) the information by hour of the log."""
        noise = calmer = self.noise[question.metric]
        if self.experiment.metrics[question.metric].covariate and noise.reduction and question.worst is None:
            calmer = noise.calmer(noise.reduction)
        return calmer.information(self.share, question.contrast, question.worst, question.louder)

    def gained(self, question: Asked, days: float) -> float:
        """Return the information after so many days, that of earlier stages included."""
        before = self.before.get((question.metric, question.question), 0.0)
        return before + self.traffic.scale * grown(self.information(question), days)

    def detectable(self, question: Asked, days: float, power: float | None = None) -> float | None:
        """Return the distance that is resolved with a power (default: its own) after so many days; None without information."""
        needed = question.needed(question.power if power is None else power, fixed=self.fixed)
        gained = self.gained(question, days)
        if needed is None or question.distance is None or gained <= 0:
            return None
        return question.distance * float(np.sqrt(needed / gained))

    def enough(self, j: int) -> float | None:
        """Return the days until the judge says anything: units in both arms, calls beyond a quantile; stages add up."""
        spec, smaller = self.experiment.metrics[j], min(self.share, 1 - self.share)
        units = MIN_UNITS / smaller if self.rows is None else 0.0
        days = [days_until(self.traffic.units, units, self.traffic.scale)]
        if isinstance(spec, (QuantileMetric, DistributionMetric)):
            tail = min(spec.q, 1 - spec.q) if isinstance(spec, QuantileMetric) else min(GRID)
            wanted = MIN_TAIL / tail - (self.rows or {}).get(j, 0.0)
            days.append(days_until(self.noise[j].y, wanted / smaller, self.traffic.scale))
        known = [d for d in days if d is not None]
        return max(known) if len(known) == len(days) else None

    def rows_after(self, days: float) -> dict[int, float]:
        """Return the denominators in the smaller arm after so many days, earlier stages included."""
        smaller = min(self.share, 1 - self.share)
        return {
            j: (self.rows or {}).get(j, 0.0) + smaller * self.traffic.scale * grown(n.y, days) for j, n in self.noise.items()
        }  # fmt: skip
