"""Ranking metrics of a retrieval index, and the gate that asks whether a new index is worse than the old one.

Metrics are computed for many queries at once from *gains*: the relevance grade of what stands at each rank, 0 for a
document that is not relevant, was not judged, or stands there a second time, and 0 where nothing was retrieved. So a
query that was not answered scores 0; it is never left out. A query without any relevant document has no recall and no
nDCG: NaN, to be counted and shown beside the mean.

The gate takes the paired differences new - old of one metric, a query each, all within [-1, 1]. It bets
(`abtest.stats.betting`), so it is exact for every distribution and may be asked again after every further query.

Sources: Jarvelin and Kekalainen 2002 (nDCG, with linear gain as in trec_eval); Voorhees 1999 (reciprocal rank);
Waudby-Smith and Ramdas 2024 (bets); non-inferiority as in STATISTICS §5 of the design.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from abtest.errors import InvalidInputError
from abtest.results import Estimate, ToDict
from abtest.stats.betting import Bets, bet_grid
from abtest.stats.mixture import mixture_estimate, tuning
from abtest.stats.numerics import Array, anytime_pvalue, check_alpha

Ids = npt.NDArray[np.int64]

NOTHING = -1
"""The id of an empty place in a list of retrieved documents."""
_BISECTIONS = 60
_FIXED = 1e9  # differences are rounded to 1e-9 and counted, so that their order cannot matter
_FEWEST = 30  # below this the normal mixture says nothing


# --- metrics of one list a query ---------------------------------------------------------------------------------------


def recall_at_k(gains: npt.ArrayLike, relevant: npt.ArrayLike, k: int) -> Array:
    """Return the share of a query's relevant documents that stand among the first k.

    Args:
        gains: Grades in rank order; shape (..., Q, R).
        relevant: How many relevant documents each query has; shape (..., Q).
        k: Cut-off, at least 1; lists shorter than k are as if filled with documents that are not relevant.

    Returns:
        Shape (..., Q); NaN for a query without a relevant document.

    Raises:
        InvalidInputError: more relevant documents retrieved than there are, negative or missing grades.
    """
    top, count = _top(gains, k), np.asarray(relevant, dtype=np.float64)
    hits = np.sum(top > 0.0, axis=-1)
    if np.any(hits > count):
        raise InvalidInputError("a list holds more relevant documents than the query has", hint="remove duplicates")
    return np.divide(hits, count, out=np.full(np.shape(hits), np.nan), where=count > 0)


def ndcg_at_k(gains: npt.ArrayLike, grades: npt.ArrayLike, k: int, *, exponential: bool = False) -> Array:
    """Return the normalised discounted cumulative gain: DCG = sum_i gain_i / log2(i + 1) over that of the best order.

    Args:
        gains: Grades in rank order; shape (..., Q, R).
        grades: Grades of all documents judged for the query, in any order, filled with 0; shape (..., Q, M).
        k: Cut-off of both sums.
        exponential: Use the gain 2^grade - 1 instead of the grade itself (trec_eval and scikit-learn: the grade).

    Returns:
        Shape (..., Q); NaN for a query whose grades are all 0. Documents of one grade may stand in any order.

    Raises:
        InvalidInputError: negative or missing grades, k below 1.
    """
    top, best = _top(gains, k), -np.sort(-_grades(grades, "grades"), axis=-1)[..., :k]
    if exponential:
        top, best = np.exp2(top) - 1.0, np.exp2(best) - 1.0
    reached, ideal = _discounted(top), _discounted(best)
    if np.any(reached > ideal * (1.0 + 1e-9)):
        raise InvalidInputError("a list gains more than the best order of its grades", hint="give all judged grades")
    return np.divide(reached, ideal, out=np.full(np.shape(reached), np.nan), where=ideal > 0)


def reciprocal_rank(gains: npt.ArrayLike, k: int | None = None) -> Array:
    """Return 1 / (rank of the first relevant document), 0 when none was retrieved among the first k (None: all).

    The mean over queries is the MRR. Shape (..., Q, R) becomes (..., Q).
    """
    top = _grades(gains, "gains") if k is None else _top(gains, k)
    if top.shape[-1] == 0:
        return np.zeros(top.shape[:-1])
    hit = top > 0.0
    return np.where(hit.any(axis=-1), 1.0 / (np.argmax(hit, axis=-1) + 1.0), 0.0)


def overlap_at_k(first: npt.ArrayLike, second: npt.ArrayLike, k: int) -> Array:
    """Return how many documents the first k places of two lists share, over the longer list's number of documents.

    Order and grade do not count. 1: the same documents; 0: none in common, also when both lists are empty.

    Args:
        first: Document numbers in rank order, `NOTHING` (-1) in empty places; shape (..., Q, R).
        second: The same of the other index; shape (..., Q, R').
        k: Cut-off.
    """
    a, b = (np.asarray(ids, dtype=np.int64)[..., : _check_k(k)] for ids in (first, second))
    own_a, own_b = first_places(a), first_places(b)
    shared = np.sum(own_a & np.any((a[..., :, None] == b[..., None, :]) & own_b[..., None, :], axis=-1), axis=-1)
    longer = np.maximum(own_a.sum(axis=-1), own_b.sum(axis=-1))
    return np.divide(shared, longer, out=np.zeros(np.shape(shared)), where=longer > 0)


def first_places(ids: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return where a document stands for the first time in its list; a repeated one keeps its place and gains nothing.

    Args:
        ids: Document numbers in rank order, `NOTHING` (-1) in empty places; shape (..., Q, R).
    """
    array = np.asarray(ids, dtype=np.int64)
    earlier = np.tri(array.shape[-1], k=-1, dtype=bool)
    repeated = np.any((array[..., :, None] == array[..., None, :]) & earlier, axis=-1)
    return (array != NOTHING) & ~repeated


def _check_k(k: int) -> int:
    if k < 1:
        raise InvalidInputError(f"k must be at least 1, not {k}", hint="for example 10")
    return k


def _grades(values: npt.ArrayLike, name: str) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim < 1 or not (np.isfinite(array) & (array >= 0.0)).all():
        raise InvalidInputError(f"{name} must be grades of 0 or more, a list a query", hint="0 is not relevant")
    return array


def _top(gains: npt.ArrayLike, k: int) -> Array:
    return _grades(gains, "gains")[..., : _check_k(k)]


def _discounted(gains: Array) -> Array:
    return np.asarray(np.sum(gains / np.log2(np.arange(gains.shape[-1]) + 2.0), axis=-1), dtype=np.float64)


# --- the gate ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GatePlan(ToDict):
    """What is fixed before the first difference is seen; it decides how soon the gate speaks, never how often it errs.

    Attributes:
        queries: Queries planned (the size of the golden set).
        std: Planned standard deviation of a difference.
    """

    queries: float
    std: float = 0.2


@dataclass(frozen=True)
class GateResult(ToDict):
    """Is the new index worse by more than the margin? Bounds are of the mean difference new - old.

    Attributes:
        value: Mean difference; None without queries.
        n: Queries.
        margin: Largest loss that is accepted.
        safe_lower: One-sided anytime lower bound at `alpha`; above -margin: not worse than accepted.
        harm_upper: One-sided anytime upper bound at `alpha_halt`; below -margin: worse than accepted, proven.
        alpha: Error level of "safe".
        alpha_halt: Error level of "harm".
        safe_pvalue: Anytime p-value of the null "worse by the margin or more"; None without queries.
        harm_pvalue: Anytime p-value of the null "not worse than the margin"; None without queries.
        verdict: "safe", "harm", "inconclusive", or "unknown" without queries.
        method: "betting".
    """

    value: float | None
    n: int
    margin: float
    safe_lower: float | None
    harm_upper: float | None
    alpha: float
    alpha_halt: float
    safe_pvalue: float | None
    harm_pvalue: float | None
    verdict: str
    method: str = "betting"


def gate_bets(mean: float, plan: GatePlan, alpha: float) -> Bets:
    """Return the frozen bets on "the mean difference is above `mean`": half steps of the planned tuning, at most 0.9 of a stake.

    A difference can fall to -1, so a bet may be at most 0.9 / (1 + mean); the bets of every mean are fixed by the plan alone.

    Raises:
        InvalidInputError: a mean outside (-1, 1), a plan that is not positive, alpha not in (0, 1/2).
    """
    if not -1.0 < mean < 1.0:
        raise InvalidInputError("the tested mean difference must lie between -1 and 1")
    if not (plan.queries > 0 and plan.std > 0):
        raise InvalidInputError("queries and std of a plan must be positive")
    return bet_grid(plan.queries, plan.std**2, alpha, 1.0 + mean, alternative="larger")


def log_e_above(differences: npt.ArrayLike, mean: float, plan: GatePlan, alpha: float) -> Array:
    """Return log E of the null "the mean difference is at most `mean`" after each query, in the order given.

    Args:
        differences: new - old, within [-1, 1]; shape (..., n).
        mean: The tested mean.
        plan: What was planned.
        alpha: Error level the bets are tuned to (a valid e-process at every level).

    Returns:
        Shape (..., n), cumulative; its last value does not depend on the order.
    """
    d, bets = _differences(differences), gate_bets(mean, plan, alpha)
    wealth = np.cumsum(np.log1p(np.multiply.outer(d - mean, bets.lambdas)), axis=-2)
    return bets.log_e(wealth)


def paired_gate(
    differences: npt.ArrayLike,
    *,
    margin: float,
    alpha: float = 0.05,
    alpha_halt: float = 0.01,
    plan: GatePlan | None = None,
) -> GateResult:
    """Return whether a new index is not worse than the old one by more than the margin, from paired differences.

    Both sides are confidence sequences by betting: for each mean m the bets frozen for m, inverted by bisection (log E
    falls in m). "Safe" is wrong with probability at most `alpha` over all looks together, "harm" with at most
    `alpha_halt`, for independent queries of any distribution in [-1, 1].

    Args:
        differences: new - old of one metric, a query each, all within [-1, 1]; shape (n,).
        margin: Largest mean loss that is accepted, in (0, 1).
        alpha: Error level of "safe", one-sided.
        alpha_halt: Error level of "harm", one-sided.
        plan: What was planned; default: as many queries as there are, standard deviation 0.2. Give the planned number
            when the golden set grows and is looked at again and again: bets must not depend on what they bet on.

    Raises:
        InvalidInputError: differences outside [-1, 1], levels or margin out of range.
    """
    if not 0.0 < margin < 1.0:
        raise InvalidInputError(f"the margin must lie between 0 and 1, not {margin:g}", hint="for example 0.01")
    check_alpha(alpha, one_sided=True)
    check_alpha(alpha_halt, one_sided=True)
    d = _differences(differences)
    if d.ndim != 1:
        raise InvalidInputError("differences must be a list, one a query")
    if d.size == 0:
        return GateResult(None, 0, margin, None, None, alpha, alpha_halt, None, None, "unknown")
    plan = plan or GatePlan(float(d.size))
    values, counts = _counted(d)
    safe = _log_e(values, counts, -margin, plan, alpha)
    harm = _log_e(-values, counts, margin, plan, alpha_halt)
    lower = _lower_bound(values, counts, plan, alpha)
    upper = -_lower_bound(-values, counts, plan, alpha_halt)
    verdict = "harm" if harm >= -math.log(alpha_halt) else "safe" if safe >= -math.log(alpha) else "inconclusive"
    return GateResult(
        _mean(values, counts), d.size, margin, lower, upper, alpha, alpha_halt,
        float(anytime_pvalue(safe)), float(anytime_pvalue(harm)), verdict,
    )  # fmt: skip


def paired_difference(differences: npt.ArrayLike, *, alpha: float = 0.05, plan: GatePlan | None = None) -> Estimate:
    """Return the mean paired difference with its anytime interval by betting, and the normal mixture's beside it.

    Each side is `paired_gate`'s bound at alpha/2; the p-value is that of "no difference in the mean", from the mean of
    the two one-sided e-values. `details`: lower and upper of the normal mixture (asymptotic; None below 30 queries or
    without variation), wins, losses and ties of the new index.

    Args:
        differences: new - old of one metric, a query each, within [-1, 1]; shape (n,).
        alpha: Error level, two-sided.
        plan: See `paired_gate`.
    """
    check_alpha(alpha)
    d = _differences(differences)
    if d.size == 0:
        return Estimate.unknown("no_data", method="betting", alpha=alpha, note="no query in common")
    plan = plan or GatePlan(float(d.size))
    values, counts = _counted(d.ravel())
    sides = [_log_e(sign * values, counts, 0.0, plan, alpha / 2.0) for sign in (1.0, -1.0)]
    log_e = float(np.logaddexp(sides[0], sides[1])) - math.log(2.0)
    beside = _mixture(d, plan, alpha)
    return Estimate(
        _mean(values, counts),
        beside.std_error,
        _lower_bound(values, counts, plan, alpha / 2.0),
        -_lower_bound(-values, counts, plan, alpha / 2.0),
        float(anytime_pvalue(log_e)),
        log_e,
        alpha,
        "betting",
        details={
            "n": int(d.size), "wins": int((d > 0).sum()), "losses": int((d < 0).sum()), "ties": int((d == 0).sum()),
            "mixture_lower": beside.lower, "mixture_upper": beside.upper, "mixture_status": beside.status,
        },
    )  # fmt: skip


def _mixture(d: Array, plan: GatePlan, alpha: float) -> Estimate:
    if d.size < _FEWEST:
        return Estimate.unknown("insufficient", method="normal_mixture", alpha=alpha, note="fewer than 30 queries")
    variance = float(np.var(d, ddof=1))
    rho2 = tuning(plan.queries * plan.std**2, alpha)
    return mixture_estimate(float(d.mean()), math.sqrt(variance / d.size), d.size * variance, rho2, alpha)


def _differences(differences: npt.ArrayLike) -> Array:
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim < 1 or not (np.abs(d) <= 1.0).all():
        raise InvalidInputError("differences must be numbers within [-1, 1]", hint="leave undefined queries out before")
    return d


def _counted(d: Array) -> tuple[Array, Array]:
    found, counts = np.unique(np.rint(d * _FIXED).astype(np.int64), return_counts=True)
    return found / _FIXED, counts.astype(np.float64)


def _mean(values: Array, counts: Array) -> float:
    return math.fsum(values * counts) / float(counts.sum())


def _log_e(values: Array, counts: Array, mean: float, plan: GatePlan, alpha: float) -> float:
    bets = gate_bets(mean, plan, alpha)
    return float(bets.log_e(counts @ np.log1p(np.multiply.outer(values - mean, bets.lambdas))))


def _lower_bound(values: Array, counts: Array, plan: GatePlan, alpha: float) -> float:
    """Return the smallest mean that the bets do not reject; log E falls in the mean, so that bisection finds it."""
    target = -math.log(alpha)
    low, high = -1.0, _mean(values, counts)
    if high <= low:
        return low
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        rejected = low < middle < 1.0 and _log_e(values, counts, middle, plan, alpha) >= target
        low, high = (middle, high) if rejected else (low, middle)
    return low
