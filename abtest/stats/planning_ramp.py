"""What each stage of a ramp can decide, and after how many days.

A stage with N new units and treatment share q adds N q (1 - q) to the information, because stages are compared within
themselves; a canary at 1 % therefore tells almost nothing about small effects, however long it runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import ndtri

from abtest.errors import InvalidInputError
from abtest.results import ToDict
from abtest.stats.multiplicity import check_level
from abtest.stats.planning import check_effect, check_positive, check_sides


@dataclass(frozen=True)
class RampStage(ToDict):
    """A planned stage: treatment share, length in days, new units a day in both arms together."""

    share: float
    days: float
    units_per_day: float


@dataclass(frozen=True)
class StagePlan(ToDict):
    """What a stage of the ramp can decide.

    Attributes:
        share: Treatment share.
        units_treatment: New treatment units during the stage.
        information: Share of the needed information at the end of the stage, all stages so far together.
        detectable_effect: Smallest effect found with the wanted power at the end of the stage; None without data.
        decidable_after_days: Days from the start of the ramp at which the wanted effect becomes decidable, if in this
            stage; None otherwise.
        days_at_this_traffic: Days from the stage's start at its traffic, with what is there already; None if never.
    """

    share: float
    units_treatment: float
    information: float
    detectable_effect: float | None
    decidable_after_days: float | None
    days_at_this_traffic: float | None


def ramp_plan(
    stages: Sequence[RampStage],
    effect: float,
    variance: float,
    *,
    factor: float = 1.0,
    alpha: float = 0.05,
    power: float = 0.8,
    sides: int = 2,
) -> tuple[StagePlan, ...]:
    """Return what a ramp can decide and when, stage by stage.

    Each stage adds N q (1 - q) to the information, since stages are compared within themselves; needed are
    factor · (z_{1-alpha/sides} + z_power)² · variance / effect².

    Args:
        stages: The ramp, in order; shadow stages (share 0) add nothing.
        effect: Effect to find, or the distance from the expected value to the margin.
        variance: Variance of one unit, clustering included.
        factor: 1 for a fixed horizon, `anytime_factor(...)` for always-valid tests, an inflation factor otherwise.
        alpha: Error level.
        power: Wanted power.
        sides: 1 for guardrails, 2 for success metrics.
    """
    check_level(alpha)
    check_level(power, "power")
    check_sides(sides)
    d = check_effect(effect)
    z2 = float(-ndtri(alpha / sides) + ndtri(power)) ** 2 * check_positive("the factor", factor)
    needed = z2 * check_positive("the variance", variance) / (d * d)
    done = elapsed = 0.0
    plans: list[StagePlan] = []
    for stage in stages:
        if not 0.0 <= stage.share < 1.0 or min(stage.days, stage.units_per_day) < 0.0:
            raise InvalidInputError("a stage needs a share in [0, 1), and days and units not below zero")
        rate = stage.units_per_day * stage.share * (1.0 - stage.share)
        wait = 0.0 if done >= needed else ((needed - done) / rate if rate > 0.0 else None)
        here = done < needed <= done + rate * stage.days
        done += rate * stage.days
        plans.append(
            StagePlan(
                stage.share,
                stage.units_per_day * stage.days * stage.share,
                done / needed,
                math.sqrt(z2 * variance / done) if done > 0.0 else None,
                elapsed + wait if here and wait is not None else None,
                wait,
            )
        )
        elapsed += stage.days
    return tuple(plans)
