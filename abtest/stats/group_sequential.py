"""Group sequential designs: a few planned looks, boundaries from error spending, futility, power, and inference.

All boundaries are on the z-scale. A design with `sides=1` tests one direction at level `alpha`; with `sides=2` it is
symmetric and `alpha` is the total of both sides. Sources: Jennison and Turnbull (2000); Lan and DeMets (1983); Hwang,
Shih and DeCani (1990); Pampallona, Tsiatis and Kim (2001) for beta spending.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from abtest.errors import InvalidInputError
from abtest.results import Estimate, ToDict
from abtest.stats.multiplicity import check_level
from abtest.stats.proportions import bisect
from abtest.stats.recursion import START, Walk, check_times, crossings

Floats = NDArray[np.float64]
Spending = Literal["obrien_fleming", "pocock", "hsd", "power"]
Classic = Literal["obrien_fleming", "pocock"]

_FARTHEST = 37.5  # the normal tail is zero in double precision beyond


def spend(
    times: ArrayLike, alpha: float, spending: Spending = "obrien_fleming", parameter: float | None = None
) -> Floats:
    """Return the error spent by each information time (cumulative).

    * "obrien_fleming": 2 - 2 Φ(z_{alpha/2} / √t) [Lan, DeMets 1983];
    * "pocock": alpha log(1 + (e - 1) t);
    * "hsd": alpha (1 - e^{-g t}) / (1 - e^{-g}), default g = -4 [Hwang, Shih, DeCani 1990];
    * "power": alpha t^φ, default φ = 2 [Kim, DeMets 1987].

    Args:
        times: Shares of the planned information; shares above 1 have spent everything; shape (looks,).
        alpha: The error to spend.
        spending: Name of the function.
        parameter: g of "hsd" or φ of "power".
    """
    check_level(alpha)
    t = np.minimum(check_times(times), 1.0)
    if spending == "obrien_fleming":
        return np.asarray(2.0 * ndtr(ndtri(alpha / 2.0) / np.sqrt(t)), dtype=np.float64)
    if spending == "pocock":
        return alpha * np.log1p((math.e - 1.0) * t)
    if spending == "hsd":
        gamma = -4.0 if parameter is None else parameter
        return alpha * t if gamma == 0.0 else alpha * np.expm1(-gamma * t) / math.expm1(-gamma)
    if spending == "power":
        phi = 2.0 if parameter is None else parameter
        if phi <= 0.0:
            raise InvalidInputError("the exponent of power spending must be positive")
        return alpha * t**phi
    raise InvalidInputError(f"unknown spending function {spending!r}", hint="obrien_fleming, pocock, hsd, power")


def _upper_for(walk: Walk, time: float, target: float, start: float = -_FARTHEST) -> float:
    """Return z with P(inside until now, above z at `time`) = target; inf when nothing is to be spent."""
    if target <= 0.0 or not walk.nodes.size:
        return math.inf
    if walk.time == 0.0:
        return float(-ndtri(target))  # the first look is a plain normal tail, exact down to 1e-300
    # On the log scale, so that tiny amounts are solved to full relative accuracy too.
    goal = math.log(target)
    return bisect(lambda z: math.log(max(walk.above(time, z), 1e-320)) - goal, start, _FARTHEST)


def _lower_for(walk: Walk, time: float, target: float, drift: float, highest: float) -> float:
    """Return z <= highest with P(inside until now, below z at `time`) = target; -inf when nothing is to be spent."""
    if target <= 0.0 or not walk.nodes.size:
        return -math.inf
    return bisect(lambda z: target - walk.below(time, z, drift), -_FARTHEST, min(highest, _FARTHEST))


@dataclass(frozen=True)
class Design(ToDict):
    """A group sequential design.

    Attributes:
        times: Shares of the planned information at the looks.
        upper: Efficacy bounds on the z-scale, one a look; inf where a look spends nothing.
        futility: Futility bounds, one a look but the last; None without futility. For `sides=2` there are none.
        alpha: Total type I error.
        sides: 1 or 2.
        spent: Type I error spent by each look (cumulative).
        drift: Mean of the z-score at full information under which the planned power is reached; None when not planned.
        power: Planned power; None when not planned.
        inflation: Largest sample over the fixed-horizon one; None when not planned.
        binding: Whether the futility bounds must be obeyed for alpha to hold.
    """

    times: tuple[float, ...]
    upper: tuple[float, ...]
    futility: tuple[float, ...] | None
    alpha: float
    sides: int
    spent: tuple[float, ...]
    drift: float | None = None
    power: float | None = None
    inflation: float | None = None
    binding: bool = False


def _check_sides(sides: int) -> None:
    if sides not in (1, 2):
        raise InvalidInputError(f"sides must be 1 or 2, not {sides}")


def boundaries(times: ArrayLike, cumulative: ArrayLike, *, sides: int = 1) -> Floats:
    """Return z-scale bounds c_k with P_0(first cross at k) = spent_k - spent_{k-1}.

    Args:
        times: Information of the looks, any unit, ascending; looks may be unequal and unplanned; shape (looks,).
        cumulative: Error spent by each look, ascending; shape (looks,).
        sides: 1, or 2 for symmetric bounds that share the error.

    Returns:
        Shape (looks,); inf where a look spends nothing.
    """
    t = check_times(times)
    _check_sides(sides)
    spent = np.asarray(cumulative, dtype=np.float64)
    steps = np.diff(spent, prepend=0.0)
    if spent.shape != t.shape or np.any(steps < 0.0) or spent[-1] >= 1.0:
        raise InvalidInputError("spent error must be one ascending number below 1 per look")
    bounds = np.empty(t.size)
    walk = START
    for k, time in enumerate(t):
        bounds[k] = _upper_for(walk, time, steps[k] / sides, 0.0 if sides == 2 else -_FARTHEST)
        if k + 1 < t.size:
            reach = min(float(bounds[k]), _FARTHEST)
            lower = -bounds[k] if sides == 2 else -np.inf
            walk = walk.advance(time, lower, bounds[k], next_time=t[k + 1], reach=abs(reach))
    return bounds


def spending_design(
    times: ArrayLike,
    *,
    alpha: float = 0.05,
    sides: int = 2,
    spending: Spending = "obrien_fleming",
    parameter: float | None = None,
    power: float | None = None,
) -> Design:
    """Return an error-spending design; looks may be unequal, their number need not be known beforehand.

    Each side spends `alpha / sides` by the named function.

    Args:
        times: Shares of the planned information, ascending, the last usually 1; shape (looks,).
        alpha: Total type I error.
        sides: 1 or 2.
        spending: See `spend`.
        parameter: Its parameter.
        power: When given, also plan for this power: `drift` and `inflation`.
    """
    _check_sides(sides)
    t = check_times(times)
    spent = sides * spend(t, alpha / sides, spending, parameter)
    return _planned(t, boundaries(t, spent, sides=sides), alpha, sides, spent, power)


def _planned(t: Floats, upper: Floats, alpha: float, sides: int, spent: Floats, power: float | None) -> Design:
    drift = inflation = None
    if power is not None:
        check_level(power, "power")
        drift = _drift_for(lambda d: _reject_probability(t, upper, None, d), power, t[-1])
        inflation = (drift / _fixed_drift(alpha, sides, power)) ** 2 * float(t[-1])
    return Design(_tuple(t), _tuple(upper), None, alpha, sides, _tuple(spent), drift, power, inflation)


def _tuple(values: Floats) -> tuple[float, ...]:
    return tuple(float(v) for v in values)


def _fixed_drift(alpha: float, sides: int, power: float) -> float:
    return float(-ndtri(alpha / sides) + ndtri(power))


def _reject_probability(t: Floats, upper: Floats, lower: Floats | None, drift: float) -> float:
    """Return the probability to cross the upper bound; the other side of a symmetric design is not counted as power."""
    return float(crossings(t, upper, lower, drift=drift).upper.sum())


def _drift_for(probability: Callable[[float], float], power: float, horizon: float) -> float:
    top = 12.0 / math.sqrt(horizon)
    if power <= probability(0.0):
        raise InvalidInputError(f"a power of {power} is not above the error level")
    from scipy.optimize import brentq

    return float(np.asarray(brentq(lambda d: probability(d) - power, 0.0, top, xtol=1e-12)))


def classical_design(
    looks: int, *, alpha: float = 0.05, sides: int = 2, kind: Classic = "obrien_fleming", power: float | None = None
) -> Design:
    """Return the classical design with equal looks: z_k = C √(K / k) (O'Brien-Fleming) or z_k = C (Pocock).

    Sources: O'Brien and Fleming (1979); Pocock (1977); Jennison and Turnbull (2000), tables 2.1 to 2.4.
    """
    check_level(alpha)
    _check_sides(sides)
    if looks < 1:
        raise InvalidInputError("a design needs at least one look")
    if kind not in ("obrien_fleming", "pocock"):
        raise InvalidInputError(f"unknown design {kind!r}", hint="obrien_fleming or pocock")
    t = np.arange(1, looks + 1) / looks
    shape = 1.0 / np.sqrt(t) if kind == "obrien_fleming" else np.ones(looks)

    def excess(constant: float) -> float:
        both = crossings(t, constant * shape, -constant * shape if sides == 2 else None)
        return float((both.upper + both.lower).sum()) - alpha

    from scipy.optimize import brentq

    constant = float(np.asarray(brentq(excess, 0.0, 12.0, xtol=1e-13)))
    upper = constant * shape
    both = crossings(t, upper, -upper if sides == 2 else None)
    return _planned(t, upper, alpha, sides, np.cumsum(both.upper + both.lower), power)


def futility_design(
    times: ArrayLike,
    *,
    alpha: float = 0.025,
    power: float = 0.8,
    spending: Spending = "obrien_fleming",
    parameter: float | None = None,
    beta_spending: Spending = "obrien_fleming",
    beta_parameter: float | None = None,
    binding: bool = False,
) -> Design:
    """Return a one-sided design that may also stop for futility, by spending the type II error.

    Non-binding (default): the efficacy bounds are those without futility, so alpha holds when a futility stop is
    ignored. The lower bounds spend beta under the drift at which the two bounds meet at the last look.

    Args:
        times: Shares of the planned information, ascending; shape (looks,).
        alpha: One-sided type I error.
        power: 1 - beta.
        spending: How alpha is spent.
        parameter: Its parameter.
        beta_spending: How beta is spent.
        beta_parameter: Its parameter.
        binding: Give back the alpha that futility saves; alpha then holds only if futility is obeyed.
    """
    check_level(power, "power")
    t = check_times(times)
    spent = spend(t, alpha, spending, parameter)
    beta = np.diff(spend(t, 1.0 - power, beta_spending, beta_parameter), prepend=0.0)
    plain = boundaries(t, spent)

    def bounds(drift: float) -> tuple[Floats, Floats]:
        return _futility_bounds(t, np.diff(spent, prepend=0.0), beta, drift, None if binding else plain)

    def excess(drift: float) -> float:
        upper, lower = bounds(drift)
        return _reject_probability(t, upper, lower, drift) - power

    from scipy.optimize import brentq

    fixed = _fixed_drift(alpha, 1, power) / math.sqrt(t[-1])
    drift = float(np.asarray(brentq(excess, 0.8 * fixed, 4.0 * fixed, xtol=1e-10)))
    upper, lower = bounds(drift)
    inflation = (drift / fixed) ** 2
    return Design(
        _tuple(t), _tuple(upper), _tuple(lower[:-1]), alpha, 1, _tuple(spent), drift, power, inflation, binding
    )


def _futility_bounds(
    t: Floats, alpha_steps: Floats, beta_steps: Floats, drift: float, fixed_upper: Floats | None
) -> tuple[Floats, Floats]:
    """Return efficacy and futility bounds; the last futility bound is -inf, so that power is counted once."""
    upper, lower = np.empty(t.size), np.full(t.size, -np.inf)
    null, alternative = START, START
    for k, time in enumerate(t):
        upper[k] = _upper_for(null, time, alpha_steps[k]) if fixed_upper is None else fixed_upper[k]
        if k + 1 == t.size:
            break
        lower[k] = _lower_for(alternative, time, beta_steps[k], drift, float(upper[k]))
        ahead = float(t[k + 1])
        alternative = alternative.advance(time, lower[k], upper[k], drift=drift, next_time=ahead)
        if fixed_upper is None:
            reach = min(abs(float(upper[k])), _FARTHEST)
            null = null.advance(time, lower[k], upper[k], next_time=ahead, reach=reach)
    return upper, lower


@dataclass(frozen=True)
class Operating(ToDict):
    """How a design behaves at a drift.

    Attributes:
        reject: Probability to stop for efficacy (the upper bound) at each look.
        other: Probability to stop at the lower bound at each look (futility, or the other side of a symmetric design).
        power: Sum of `reject`.
        mean_information: Mean information at the stop, in the unit of the design's times.
    """

    reject: tuple[float, ...]
    other: tuple[float, ...]
    power: float
    mean_information: float


def operating(design: Design, drift: float) -> Operating:
    """Return stopping probabilities, power and mean information when the z-score at time 1 has mean `drift`."""
    t, upper = np.array(design.times), np.array(design.upper)
    lower = None
    if design.sides == 2:
        lower = -upper
    elif design.futility is not None:
        lower = np.append(np.array(design.futility), -np.inf)
    both = crossings(t, upper, lower, drift=drift)
    stops = both.upper + both.lower
    rest = max(1.0 - float(stops[:-1].sum()), 0.0)
    mean = float(stops[:-1] @ t[:-1]) + rest * float(t[-1])
    return Operating(_tuple(both.upper), _tuple(both.lower), float(both.upper.sum()), mean)


def stagewise(
    information: ArrayLike,
    upper: ArrayLike,
    z: float,
    *,
    lower: ArrayLike | None = None,
    alpha: float = 0.05,
    alternative: str = "two-sided",
) -> Estimate:
    """Return p-value, interval and median-unbiased estimate after a group sequential test, by stage-wise ordering.

    An outcome is more extreme the earlier it crossed the upper bound; at one look, the larger its z. With the look k of
    the stop, p(θ) = Σ_{j<k} P_θ(cross up at j) + P_θ(reach k, Z_k ≥ z); the bounds solve p(θ) = alpha / 2 and
    1 - alpha / 2, the estimate p(θ) = 1/2. It needs no knowledge of looks that were not taken.

    Args:
        information: 1 / se² of the effect at the looks taken, the last being the stop; shape (k,).
        upper: Upper bounds at the looks before the stop (a bound for the last look is ignored); shape (k,) or (k - 1,).
        z: The z-score at the stop.
        lower: Lower bounds at those looks; None for none. Leave non-binding futility out.
        alpha: Error level.
        alternative: "two-sided", "larger" or "smaller".

    Source: Tsiatis, Rosner and Mehta (1984); Jennison and Turnbull (2000), section 8.4.
    """
    check_level(alpha)
    info = check_times(information)
    looks = info.size
    high = np.append(np.asarray(upper, dtype=np.float64)[: looks - 1], z)
    low = np.full(looks, -np.inf)
    if lower is not None:
        low[: looks - 1] = np.asarray(lower, dtype=np.float64)[: looks - 1]
    if high.size != looks or not math.isfinite(z):
        raise InvalidInputError("one upper bound is needed for every look before the stop, and a finite z")

    from scipy.optimize import brentq

    # In units of the information at the stop the drift is of the size of a z-score.
    scaled = info / info[-1]

    def above(drift: float) -> float:
        return float(crossings(scaled, high, low, drift=drift).upper.sum())

    def solve(target: float) -> float | None:
        # The probability rises with the drift; 40 standard errors either side hold every bound there is.
        low, high = z - 40.0, z + 40.0
        if above(low) > target or above(high) < target:
            return None
        root = float(np.asarray(brentq(lambda d: above(d) - target, low, high, xtol=1e-10)))
        return root / math.sqrt(float(info[-1]))

    one = min(max(above(0.0), 0.0), 1.0)
    pvalue = {"larger": one, "smaller": 1.0 - one}.get(alternative, min(1.0, 2.0 * min(one, 1.0 - one)))
    side = alpha / 2.0 if alternative == "two-sided" else alpha
    estimate = solve(0.5)
    return Estimate(
        estimate,
        1.0 / math.sqrt(float(info[-1])),
        None if alternative == "smaller" else solve(side),
        None if alternative == "larger" else solve(1.0 - side),
        pvalue,
        None,
        alpha,
        "stagewise",
        alternative,
        details={"look": looks, "z": z, "naive": z / math.sqrt(float(info[-1]))},
    )
