"""The decision on one technique: quality, cost and latency must all hold (intersection-union), each at alpha, undivided.

A switch needs every leg proven, so its p-value is the largest of theirs and no leg has to share alpha [Berger 1982]. Keeping the
baseline needs one leg proven to fail: the smallest p-value times the number of legs. Over several techniques both are adjusted by Holm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from abtest.stats.multiplicity import holm
from abtest.tradeoff.contrasts import MIN_UNITS, Contrast, Money
from abtest.tradeoff.economics import Inputs
from abtest.tradeoff.legs import Clock, Leg
from abtest.tradeoff.results import ArmVerdict


@dataclass(frozen=True)
class Case:
    """What one technique is judged by.

    Attributes:
        money: The economics out of the logs; `flat` the same without cache discount.
        quality: Margin -> slack.
        latency: Slack within the budget; None when there is none.
        inputs: The rest.
        clock: How much may be claimed.
        units: Units of the smaller side.
        doubt: Why the comparison itself decides nothing; empty when it may.
    """

    money: Money
    flat: Money
    quality: Callable[[float], Contrast]
    latency: Contrast | None
    inputs: Inputs
    clock: Clock
    units: int
    doubt: str = ""

    def slacks(self, inputs: Inputs, money: Money) -> dict[str, Contrast]:
        """Return how far each leg is from its edge under these inputs."""
        found = {"quality": self.quality(inputs.margin), "cost": inputs.slack(money)}
        return found if self.latency is None else {**found, "latency": self.latency}

    def legs(self) -> tuple[Leg, ...]:
        """Return the tests of all legs."""
        slacks = self.slacks(self.inputs, self.money)
        return tuple(self.clock.leg(name, slack, _HOLDS[name]) for name, slack in slacks.items())


_HOLDS = {
    "quality": "quality is not worse by more than the margin",
    "cost": "it costs less, fixed costs included",
    "latency": "latency is within its budget",
}


def pvalue_switch(pvalues: Sequence[tuple[float, float] | None]) -> float | None:
    """Return the p-value of "some leg does not hold" from each leg's two; None when one cannot be computed."""
    known = [p[0] for p in pvalues if p is not None]
    return max(known) if len(known) == len(pvalues) else None


def pvalue_keep(pvalues: Sequence[tuple[float, float] | None]) -> float | None:
    """Return the p-value of "all legs hold"; None when none can be computed."""
    known = [p[1] for p in pvalues if p is not None]
    return min(1.0, len(pvalues) * min(known)) if known else None


def _of(legs: Sequence[Leg]) -> list[tuple[float, float] | None]:
    return [
        None if leg.pvalue_holds is None or leg.pvalue_fails is None else (leg.pvalue_holds, leg.pvalue_fails)
        for leg in legs
    ]


@dataclass(frozen=True)
class Ruling:
    """The verdict on one technique with its adjusted p-values; `factors` is what Holm multiplied with."""

    verdict: ArmVerdict
    switch: float | None
    keep: float | None
    factors: tuple[float, float]
    legs: tuple[Leg, ...]


def rule(cases: Sequence[Case], alpha: float) -> list[Ruling]:
    """Return the rulings on all techniques, adjusted together."""
    all_legs = [case.legs() for case in cases]
    raw = [(pvalue_switch(_of(legs)), pvalue_keep(_of(legs))) for legs in all_legs]
    switch, keep = holm([p for p, _ in raw], alpha), holm([p for _, p in raw], alpha)
    rulings: list[Ruling] = []
    for i, (case, legs) in enumerate(zip(cases, all_legs, strict=True)):
        pair = (switch.adjusted[i], keep.adjusted[i])
        factors = tuple(_factor(p, adjusted, len(cases)) for p, adjusted in zip(raw[i], pair, strict=True))
        verdict = _verdict(pair[0], pair[1], alpha, trusted=not case.doubt)
        rulings.append(Ruling(verdict, pair[0], pair[1], (factors[0], factors[1]), legs))
    return rulings


def _factor(raw: float | None, adjusted: float | None, techniques: int) -> float:
    return adjusted / raw if raw and adjusted and adjusted < 1 else float(techniques)


def _verdict(switch: float | None, keep: float | None, alpha: float, *, trusted: bool) -> ArmVerdict:
    if not trusted:
        return "undecided"
    if switch is not None and switch <= alpha:
        return "switch"
    return "keep" if keep is not None and keep <= alpha else "undecided"


def verdict_at(case: Case, factors: tuple[float, float], inputs: Inputs, money: Money | None = None) -> ArmVerdict:
    """Return the verdict under other inputs, adjusted by the same factors."""
    pvalues = [case.clock.pvalues(slack) for slack in case.slacks(inputs, money or case.money).values()]
    switch, keep = pvalue_switch(pvalues), pvalue_keep(pvalues)
    return _verdict(
        None if switch is None else switch * factors[0], None if keep is None else keep * factors[1], case.clock.alpha,
        trusted=not case.doubt,
    )  # fmt: skip


def further_tasks(case: Case, ruling: Ruling, tasks: int) -> int | None:
    """Return how many more tasks of each side would decide it, today's estimates taken as true (power 0.8); None: not known."""
    if ruling.verdict != "undecided" or case.doubt or not tasks:
        return None
    alpha, legs = case.clock.alpha, ruling.legs
    if any(leg.status == "insufficient" for leg in legs):
        return math.ceil(tasks * (MIN_UNITS / case.units - 1)) + 1 if 0 < case.units < MIN_UNITS else None
    slacks = case.slacks(case.inputs, case.money)
    failing = [slack for slack in slacks.values() if slack.value is not None and slack.value < 0]
    if failing:
        level = alpha / ruling.factors[1] / len(slacks)
        known = [n for slack in failing if (n := case.clock.needs(slack, level)) is not None]
        factor = min(known, default=None)
    else:
        needs = [case.clock.needs(slack, alpha / ruling.factors[0]) for slack in slacks.values()]
        factor = None if None in needs else max(n for n in needs if n is not None)
    return None if factor is None else max(math.ceil(tasks * (factor - 1)), 1)


def without_cache(case: Case, ruling: Ruling) -> ArmVerdict:
    """Return the verdict if cached tokens cost what others do."""
    return verdict_at(case, ruling.factors, case.inputs, case.flat)
