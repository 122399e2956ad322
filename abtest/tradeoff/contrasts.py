"""The contrasts of a tradeoff, each with its variance: quality, cost per success, saving a task, latency against its budget."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from abtest.metrics.base import Margin, MetricSpec
from abtest.stats.score import pair_sums, stratified_score
from abtest.tradeoff.moments import BASELINE, TECHNIQUE, Gradient, Sides, added, ratio_gradient

MIN_UNITS, MIN_SUCCESSES = 30, 20
"""Below so many units a side, or successes, nothing is claimed (STATISTICS §2)."""
MOST_OF_ONE = 0.05
"""Share of a side's cost that one unit may have: with a few whales intervals are too short (measured: docs/tradeoff.md)."""


@dataclass(frozen=True)
class Contrast:
    """A number, the variance of its estimate, and the units behind it; `problem` says why there is none."""

    value: float | None
    variance: float | None = None
    units: float = 0.0
    problem: str = ""

    @property
    def error(self) -> float | None:
        """Return the standard error, None where it is not known."""
        return None if self.variance is None else math.sqrt(self.variance)


@dataclass(frozen=True)
class Money:
    """The economics of baseline (a) and technique (b) per task, in USD, with equal success.

    Attributes:
        baseline: c_B, cost of a task of the baseline.
        equal: c_T · p_B / p_T, what the technique costs to bring the successes that one task of the baseline brings.
        covariance: Var(baseline), Cov, Var(equal); None where a side has no success.
        units: Units behind it (see `effective_units`).
        problem: Why nothing may be claimed.
    """

    baseline: float = 0.0
    equal: float = 0.0
    covariance: tuple[float, float, float] | None = None
    units: float = 0.0
    problem: str = ""

    def saving(self, scale_baseline: float = 1.0, scale_technique: float = 1.0) -> Contrast:
        """Return saving a task; the scales multiply what the calls of each side cost (another price)."""
        a, b = scale_baseline, scale_technique
        if self.covariance is None:
            return Contrast(None, problem=self.problem)
        if self.problem:
            return Contrast(a * self.baseline - b * self.equal, problem=self.problem)
        vaa, vab, vbb = self.covariance
        variance = max(a * a * vaa - 2 * a * b * vab + b * b * vbb, 0.0)
        return Contrast(a * self.baseline - b * self.equal, variance, self.units)


def effective_units(sides: Sides, *, paired: bool) -> float:
    """Return the units of the comparison: pairs, or what an equal split of as much information would have."""
    n0, n1 = sides.units
    if paired:
        return float(sides.both)
    return 4.0 * n0 * n1 / (n0 + n1) if n0 and n1 else 0.0


def enough(sides: Sides, *, paired: bool) -> str:
    """Return why nothing may be claimed from so few units; empty when there are enough."""
    least = sides.both if paired else min(sides.units)
    return "" if least >= MIN_UNITS else f"{least} units on the smaller side, {MIN_UNITS} are needed"


def whales(sides: Sides, side: int, cost: str) -> str:
    """Return why the mean cost of a side is open: one unit makes up too much of it; empty when none does."""
    most = sides.largest_share(side, cost)
    if most <= MOST_OF_ONE:
        return ""
    return f"one unit makes up {most:.0%} of the cost, which leaves its mean open; {MOST_OF_ONE:.0%} is the most"


def money(sides: Sides, *, paired: bool, cost: str = "cost") -> Money:
    """Return the economics; `cost` names the column ("flat": without cache discount)."""
    few = min(sides.totals[BASELINE, "solved"], sides.totals[TECHNIQUE, "solved"])
    if not few:
        return Money(problem="no task with a known cost succeeded on one side")
    problem = enough(sides, paired=paired)
    if not problem and few < MIN_SUCCESSES:
        problem = f"{few} successful tasks on one side, {MIN_SUCCESSES} are needed"
    problem = problem or whales(sides, BASELINE, cost) or whales(sides, TECHNIQUE, cost)
    tasks, solved = sides.total(BASELINE, "tasks"), sides.total(BASELINE, "solved")
    rate = solved / tasks
    per_success = sides.total(TECHNIQUE, cost) / sides.total(TECHNIQUE, "solved")
    own = ratio_gradient(sides, BASELINE, cost, "tasks")
    other = added(
        ratio_gradient(sides, TECHNIQUE, cost, "solved", rate),
        ratio_gradient(sides, BASELINE, "solved", "tasks", per_success),
    )
    covariance = tuple(float(sides.covariance(a, b)) for a, b in ((own, own), (own, other), (other, other)))
    return Money(
        float(sides.total(BASELINE, cost) / tasks), float(rate * per_success), (covariance[0], covariance[1], covariance[2]),
        effective_units(sides, paired=paired), problem,
    )  # fmt: skip


def level(sides: Sides, side: int, x: str, y: str) -> Contrast:
    """Return one side's ratio X / Y."""
    n = sides.units[side]
    if not sides.totals[side, y]:
        return Contrast(None, problem="no task can tell")
    value = float(sides.total(side, x) / sides.total(side, y))
    if n < MIN_UNITS:
        return Contrast(value, problem=f"{n} units, {MIN_UNITS} are needed")
    if x in ("cost", "flat") and (problem := whales(sides, side, x)):
        return Contrast(value, problem=problem)
    return Contrast(value, sides.variance(ratio_gradient(sides, side, x, y)), float(n))


def difference(sides: Sides, x: str, y: str, *, paired: bool, factor: Fraction = Fraction(1)) -> Contrast:
    """Return technique - factor · baseline of a ratio X / Y."""
    if not sides.totals[BASELINE, y] or not sides.totals[TECHNIQUE, y]:
        return Contrast(None, problem="no task of one side can tell")
    gradient: Gradient = added(ratio_gradient(sides, TECHNIQUE, x, y), ratio_gradient(sides, BASELINE, x, y, -factor))
    rates = [sides.total(side, x) / sides.total(side, y) for side in (TECHNIQUE, BASELINE)]
    value = float(rates[0] - factor * rates[1])
    if problem := enough(sides, paired=paired):
        return Contrast(value, problem=problem)
    return Contrast(value, sides.variance(gradient), effective_units(sides, paired=paired))


def quality_slack(
    sides: Sides,
    metric: MetricSpec,
    j: int,
    margin: Margin,
    *,
    paired: bool,
    share: float | None = None,
) -> Contrast:
    """Return how far the technique is from the edge of the margin, in the metric's unit: positive is not inferior.

    Relative margins are the exact contrast r_T - (1 ± m) r_B. For proportions the variance is at least what it would be at the edge of
    the margin, because a few pairs without a difference have a plug-in variance of zero (STATISTICS §3: such a candidate was
    called safe in up to 48 % of runs); randomised sides take the largest of plug-in, design and floor as everywhere.
    """
    x, y = f"x{j}", f"y{j}"
    relative = margin.kind == "relative"
    factor = 1 + metric.sign * Fraction(margin.value) if relative else Fraction(1)
    edge = 0.0 if relative else margin.value
    found = difference(sides, x, y, paired=paired, factor=factor)
    if found.value is None or found.variance is None:
        return found
    slack = edge - metric.sign * found.value
    if not paired:
        return Contrast(slack, max(found.variance, _randomised_variance(sides, metric, j, margin, share)), found.units)
    if metric.kind != "proportion":
        return Contrast(slack, found.variance, found.units)
    control = float(sides.level(BASELINE, x, y) or 0)
    least = min(margin.value * (control if relative else 1.0), 1.0)
    pairs = float(sides.total(BASELINE, y))
    return Contrast(slack, max(found.variance, least * (1 - least) / pairs), found.units)


def _randomised_variance(sides: Sides, metric: MetricSpec, j: int, margin: Margin, share: float | None) -> float:
    cells = {
        (side, 0): {
            "units": [sides.units[side]],
            "x": [sides.totals[side, f"x{j}"]],
            "y": [sides.totals[side, f"y{j}"]],
        }
        for side in (0, 1)
    }
    pairs = {
        (side, 0, side, 0): {
            a + b: [sides.products.get(((side, f"{a}{j}"), (side, f"{b}{j}")), 0)] for a in "xy" for b in "xy"
        }
        for side in (0, 1)
    }
    sums = pair_sums(cells, pairs, stages=1, looks=1, x_scale=sides.scales[f"x{j}"], y_scale=sides.scales[f"y{j}"])
    score = stratified_score(sums, [share], better=metric.better, proportion=metric.kind == "proportion")
    kind = "relative" if margin.kind == "relative" else "absolute"
    contrast = score.contrast(margin.value, kind)
    weight = float(contrast.weight[-1])
    return float(contrast.v[-1]) / (weight * weight) if weight > 0 else 0.0


def budget_slack(sides: Sides, j: int, budget: float, q: float | None) -> Contrast:
    """Return how far the technique is inside its latency budget: share of tasks still free to exceed it (quantile), or units (mean)."""
    found = level(sides, TECHNIQUE, f"x{j}", f"y{j}")
    if found.value is None or found.variance is None:
        return found
    if q is None:
        return Contrast(budget - found.value, found.variance, found.units)
    floor = q * (1 - q) / float(sides.total(TECHNIQUE, f"y{j}"))
    return Contrast((1 - q) - found.value, max(found.variance, floor), found.units)
