"""Planning for a declared horizon, and what a covariate changes (several guardrails: `multiplicity.planned_power`).

The factors multiply the fixed-horizon sample of `planning.sample_size`, like `planning.anytime_factor`; `planning_ramp`
turns a sample into days at a stage's traffic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from abtest.errors import InvalidInputError
from abtest.results import ToDict
from abtest.stats.horizon import calibrate_horizon
from abtest.stats.mixture import boundary, tuning
from abtest.stats.multiplicity import check_level
from abtest.stats.planning import check_positive, check_sides
from abtest.stats.recursion import crossings


@dataclass(frozen=True)
class HorizonPlan(ToDict):
    """A declared horizon in fixed-horizon samples: its power, the mean stop at the effect, and the threshold.

    Attributes:
        horizon: Largest sample, as a multiple of the two-sided fixed-horizon sample at 80 % power.
        looks: Number of looks, equally spaced.
        power: Probability to stop by the horizon when the effect is as planned.
        mean_stop: Mean sample when the effect is as planned, in the same unit; the horizon counts where nothing was found.
        log_threshold: What replaces log(1/alpha) for the mixture's log e-value.
    """

    horizon: float
    looks: int
    power: float
    mean_stop: float
    log_threshold: float


def horizon_plan(horizon: float = 1.25, *, looks: int = 50, alpha: float = 0.05, sides: int = 2) -> HorizonPlan:
    """Return what a declared horizon gives: the mixture tuned at the fixed-horizon sample, its threshold calibrated.

    Computed by the crossing recursion (STATISTICS §2, horizon mode, and §8) for an effect that a two-sided fixed-horizon
    test finds with power 80 %.

    Args:
        horizon: Largest sample in fixed-horizon samples.
        looks: Declared number of looks, equally spaced.
        alpha: Error level over all of them.
        sides: 1 (harm only) or 2.

    Raises:
        InvalidInputError: numbers out of range.
    """
    check_level(alpha)
    check_sides(sides)
    check_positive("the horizon", horizon)
    if looks < 1:
        raise InvalidInputError("at least one look is needed")
    one_sided = sides == 1
    rho2 = tuning(1.0, alpha, one_sided=one_sided)
    threshold = calibrate_horizon(horizon, rho2, alpha, looks=looks, one_sided=one_sided).log_threshold
    times = np.linspace(horizon / looks, horizon, looks)
    z = boundary(times, rho2, alpha, one_sided=one_sided, log_threshold=threshold) / np.sqrt(times)
    drift = float(-ndtri(alpha / 2.0) + ndtri(0.8))
    found = crossings(times, z, None if one_sided else -z, drift=drift)
    stopped = found.upper if one_sided else found.upper + found.lower
    mean = float((stopped * times).sum() + (1.0 - stopped.sum()) * horizon)
    return HorizonPlan(horizon, looks, float(found.upper.sum()), mean, float(threshold))


def cuped_variance(variance: float, correlation: float) -> float:
    """Return the variance that is left with a covariate of this correlation: variance * (1 - correlation^2).

    Source: Deng, Xu, Kohavi and Walker (2013).
    """
    if not -1.0 <= correlation <= 1.0:
        raise InvalidInputError("a correlation lies in [-1, 1]")
    return check_positive("the variance", variance) * (1.0 - correlation**2)
