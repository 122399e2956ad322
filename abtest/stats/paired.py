"""Paired comparisons: the same request answered by both arms (shadow mode, evals, pairwise judges).

The unit is the user or conversation: average repeats and requests of one unit first. Tests on single rows (McNemar,
sign, Wilcoxon) take rows as independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import bdtr, betaincinv, betaln, chdtrc, ndtri

from abtest.errors import InvalidInputError
from abtest.results import Estimate
from abtest.stats.means import Distribution, Reference, check_alternative, tail_pvalue, wald_interval
from abtest.stats.moments import TOO_LARGE, Columns, Moments, level, too_large
from abtest.stats.multiplicity import check_level
from abtest.stats.proportions import bisect, wilson_interval


def paired_mean(
    differences: Moments,
    columns: Columns | None = None,
    *,
    alpha: float = 0.05,
    alternative: str = "two-sided",
    distribution: Distribution = "t",
    null: float = 0.0,
) -> Estimate:
    """Return the mean of paired differences (treatment minus control), one row a unit.

    A denominator column (the unit's number of pairs) makes it the mean over pairs with errors clustered by unit.

    Args:
        differences: Moments over units of the difference, or of its sum and number of pairs.
        columns: Which columns; default: the mean of column 0.
        alpha: Error level of the interval.
        alternative: "two-sided", "larger" or "smaller".
        distribution: "t" with n - 1 degrees of freedom, or "z".
        null: Mean difference under the null.
    """
    check_level(alpha)
    check_alternative(alternative)
    found = level(differences, columns)
    if found is None:
        return Estimate.unknown("insufficient", method="paired", alpha=alpha, note="fewer than two pairs")
    value = found.value + found.tail
    if not math.isfinite(found.se2) or not math.isfinite(value):
        return Estimate.unknown("unsupported", method="paired", alpha=alpha, note="numbers beyond the range of floats")
    se = math.sqrt(found.se2)
    if se == 0.0 or not math.isfinite((value - null) / se):
        return Estimate(value, alpha=alpha, method="paired", alternative=alternative, status="zero_variance")
    reference = Reference(float(found.n - 1) if distribution == "t" else None)
    lower, upper = wald_interval(value, se, reference, alternative, alpha)
    z = (value - null) / se
    return Estimate(
        value,
        se,
        lower,
        upper,
        tail_pvalue(z, reference, alternative),
        None,
        alpha,
        "paired",
        alternative,
        details={"statistic": z, "df": reference.df, "n": found.n, "null": null},
    )


def _check_table(both: int, only_control: int, only_treatment: int, neither: int) -> int:
    if min(both, only_control, only_treatment, neither) < 0:
        raise InvalidInputError("a count of pairs is negative")
    return both + only_control + only_treatment + neither


def mcnemar(
    only_control: int,
    only_treatment: int,
    *,
    exact: bool = True,
    continuity: bool = True,
    alternative: str = "two-sided",
    alpha: float = 0.05,
) -> Estimate:
    """Return McNemar's test that the two arms have the same share of events on the same requests.

    Exact: the discordant pairs are binomial with one half. Asymptotic: (|b - c| - 1)² / (b + c), chi-square. The value
    is the share of discordant pairs where only the treatment has the event; for the difference see `newcombe_paired`.

    Args:
        only_control: Pairs with the event in control alone.
        only_treatment: Pairs with the event in treatment alone.
        exact: Binomial, or chi-square (two-sided only).
        continuity: Correction of the chi-square.
        alternative: "two-sided", "larger" (more events in treatment) or "smaller".
        alpha: Carried into the result.

    Source: McNemar (1947).
    """
    check_level(alpha)
    check_alternative(alternative)
    _check_table(0, only_control, only_treatment, 0)
    name = "mcnemar_exact" if exact else "mcnemar"
    n = only_control + only_treatment
    if n == 0:
        return Estimate.unknown("zero_variance", method=name, alpha=alpha, note="no pair differs")
    if exact:
        low, high = float(bdtr(only_treatment, n, 0.5)), float(bdtr(only_control, n, 0.5))
        pvalue = {"larger": high, "smaller": low}.get(alternative, min(1.0, 2.0 * min(low, high)))
        statistic = float(min(only_control, only_treatment))
    else:
        if alternative != "two-sided":
            raise InvalidInputError("the chi-square version is two-sided", hint="use exact=True for one side")
        statistic = max(abs(only_control - only_treatment) - (1.0 if continuity else 0.0), 0.0) ** 2 / n
        pvalue = float(chdtrc(1, statistic))
    return Estimate(
        only_treatment / n,
        pvalue=pvalue,
        alpha=alpha,
        method=name,
        alternative=alternative,
        details={"statistic": statistic, "discordant": n},
    )


def newcombe_paired(
    both: int, only_control: int, only_treatment: int, neither: int, *, alpha: float = 0.05
) -> Estimate:
    """Return the difference of two paired proportions (treatment minus control) with Newcombe's interval.

    Combines the two Wilson intervals with the correlation of the pairs, corrected for continuity when positive. Sound
    with no discordant pairs; the p-value is McNemar's exact one. Source: Newcombe (1998), paired method 10.

    Args:
        both: Pairs with the event in both arms.
        only_control: Pairs with the event in control alone.
        only_treatment: Pairs with the event in treatment alone.
        neither: Pairs without the event.
        alpha: Error level, two-sided.
    """
    check_level(alpha)
    n = _check_table(both, only_control, only_treatment, neither)
    if n == 0:
        return Estimate.unknown("no_data", method="newcombe_paired", alpha=alpha, note="no pairs")
    with_t, with_c = both + only_treatment, both + only_control
    one, zero = wilson_interval(with_t, n, alpha), wilson_interval(with_c, n, alpha)
    assert one is not None
    assert zero is not None
    p1, p0 = with_t / n, with_c / n
    product = float(with_t) * (n - with_t) * with_c * (n - with_c)
    cross = float(both) * neither - float(only_control) * only_treatment
    if cross > 0.0:
        cross = max(cross - n / 2.0, 0.0)
    phi = cross / math.sqrt(product) if product > 0.0 else 0.0
    value = (only_treatment - only_control) / n

    def width(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2.0 * phi * a * b + b * b, 0.0))

    lower = value - width(p1 - one[0], zero[1] - p0)
    upper = value + width(one[1] - p1, p0 - zero[0])
    pvalue = mcnemar(only_control, only_treatment, alpha=alpha).pvalue
    return Estimate(value, None, lower, upper, pvalue, None, alpha, "newcombe_paired", details={"phi": phi, "n": n})


def sign_test(
    wins: int,
    losses: int,
    *,
    ties: int = 0,
    alpha: float = 0.05,
    alternative: str = "two-sided",
    interval: str = "wilson",
) -> Estimate:
    """Return the share of wins of the treatment among decided pairs, against one half; ties are left out and counted.

    Args:
        wins: Pairs a judge gave to the treatment.
        losses: Pairs it gave to control.
        ties: Undecided pairs.
        alpha: Error level of the interval, which is two-sided.
        alternative: "two-sided", "larger" or "smaller".
        interval: "wilson" (score) or "exact" (Clopper and Pearson).

    The p-value is the exact binomial one.
    """
    check_level(alpha)
    check_alternative(alternative)
    _check_table(ties, losses, wins, 0)
    if interval not in ("wilson", "exact"):
        raise InvalidInputError(f"unknown interval {interval!r}", hint="wilson or exact")
    n = wins + losses
    if n == 0:
        return Estimate.unknown("no_data", method="sign", alpha=alpha, note="no decided pair")
    low, high = float(bdtr(wins, n, 0.5)), float(bdtr(losses, n, 0.5))
    pvalue = {"larger": high, "smaller": low}.get(alternative, min(1.0, 2.0 * min(low, high)))
    if interval == "wilson":
        lower, upper = wilson_interval(wins, n, alpha) or (None, None)
    else:
        lower = 0.0 if wins == 0 else float(betaincinv(wins, losses + 1, alpha / 2.0))
        upper = 1.0 if losses == 0 else float(betaincinv(wins + 1, losses, 1.0 - alpha / 2.0))
    details = {"wins": wins, "losses": losses, "ties": ties}
    return Estimate(wins / n, None, lower, upper, pvalue, None, alpha, "sign", alternative, details=details)


def wilcoxon(
    differences: ArrayLike, *, method: str = "auto", alpha: float = 0.05, alternative: str = "two-sided"
) -> Estimate:
    """Return Wilcoxon's signed-rank test of paired differences; the value is their median.

    Assumes independent pairs and a symmetric distribution under the null. Through scipy.stats; Wilcoxon (1945).

    Args:
        differences: Treatment minus control, one a pair; shape (n,).
        method: "exact", "asymptotic", or "auto": exact up to 50 pairs without ties or zeros.
        alpha: Carried into the result.
        alternative: "two-sided", "larger" or "smaller".
    """
    check_level(alpha)
    check_alternative(alternative)
    d = np.asarray(differences, dtype=np.float64).ravel()
    if not np.all(np.isfinite(d)):
        raise InvalidInputError("a difference is NaN or infinite", hint="drop or count missing values before")
    if d.size == 0:
        return Estimate.unknown("no_data", method="wilcoxon", alpha=alpha, note="no pairs")
    if too_large(d):
        return Estimate.unknown("unsupported", method="wilcoxon", alpha=alpha, note=TOO_LARGE)
    value = float(np.median(d))
    size = np.abs(d)
    if not np.any(size):
        return Estimate(value, alpha=alpha, method="wilcoxon", status="zero_variance", note="no pair differs")
    from scipy import stats

    tied = bool(np.any(size == 0.0)) or np.unique(size).size < size.size
    side = {"two-sided": "two-sided", "larger": "greater", "smaller": "less"}[alternative]
    if method not in ("auto", "exact", "asymptotic"):
        raise InvalidInputError(f"unknown method {method!r}", hint="auto, exact or asymptotic")
    if method == "auto":
        method = "exact" if d.size <= 50 and not tied else "asymptotic"
    found = np.asarray(stats.wilcoxon(d, alternative=side, method=method), dtype=np.float64)
    statistic, pvalue = float(found[0]), float(found[1])
    details = {"statistic": statistic, "exact": method == "exact"}
    return Estimate(value, pvalue=pvalue, alpha=alpha, method="wilcoxon", alternative=alternative, details=details)


def mcnemar_e_process(only_control: int, only_treatment: int, *, alpha: float = 0.05, prior: float = 1.0) -> Estimate:
    """Return the e-process for "no request changes": log B(a+b, a+c) - log B(a, a) + (b + c) log 2.

    It may be looked at after every pair. It tests the sharp null on rows only: when users differ in effect with mean
    zero it raises 6 to 12 % false alarms at a nominal 5 %. For the mean effect use the user means of the differences.

    Args:
        only_control: Pairs so far with the event in control alone.
        only_treatment: Pairs so far with the event in treatment alone.
        alpha: Error level for the interval of the share of discordant pairs that are the treatment's.
        prior: Parameter a of the symmetric beta mixture.

    Source: beta-binomial mixture, Robbins (1970).
    """
    check_level(alpha)
    _check_table(0, only_control, only_treatment, 0)
    if not prior > 0.0:
        raise InvalidInputError("the prior of the mixture must be positive")
    n = only_control + only_treatment
    note = 'tests only the sharp null "no request changes"'
    mixture = float(betaln(prior + only_treatment, prior + only_control) - betaln(prior, prior))
    log_e = mixture + n * math.log(2.0)

    def log_e_at(p: float) -> float:
        return mixture - only_treatment * math.log(p) - only_control * math.log1p(-p)

    lower, upper = _sequence_bounds(log_e_at, only_treatment, n, -math.log(alpha))
    return Estimate(
        only_treatment / n if n else None,
        None,
        lower,
        upper,
        min(1.0, math.exp(-log_e)),
        log_e,
        alpha,
        "mcnemar_e_process",
        status="ok" if n else "no_data",
        note=note,
        details={"discordant": n},
    )


def _sequence_bounds(log_e_at: Callable[[float], float], events: int, n: int, threshold: float) -> tuple[float, float]:
    if n == 0:
        return 0.0, 1.0
    centre, tiny = events / n, 1e-300
    lower = 0.0 if events == 0 else bisect(lambda p: log_e_at(max(p, tiny)) - threshold, 0.0, centre)
    upper = 1.0 if events == n else bisect(lambda p: threshold - log_e_at(min(p, 1.0 - 1e-16)), centre, 1.0)
    return lower, upper


def noise_floor(
    values: ArrayLike, prompts: ArrayLike, pairs: int, *, alpha: float = 0.05, power: float = 0.8
) -> Estimate:
    """Return the smallest paired difference that `pairs` single answers can tell from the model's own noise.

    Repeated answers of one model to one prompt give the within-prompt variance s_w²; two answers differ by 2 s_w² even
    when nothing changed, so the floor is (z_{1-alpha/2} + z_power) √(2 s_w² / pairs). A gate below it is to be refused.

    Args:
        values: Scores of repeated answers; shape (n,).
        prompts: The prompt of each answer; shape (n,).
        pairs: Pairs the shadow run will have.
        alpha: Two-sided error level of the gate.
        power: Wanted power.

    Returns:
        `value` is the floor; details hold the within-prompt variance. "insufficient" without a repeated prompt.
    """
    check_level(alpha)
    check_level(power, "power")
    x, keys = np.asarray(values, dtype=np.float64).ravel(), np.asarray(prompts).ravel()
    if x.size != keys.size or pairs < 1 or not np.all(np.isfinite(x)):
        raise InvalidInputError("values and prompts must have the same length, values be finite, and pairs at least 1")
    if x.size == 0:
        return Estimate.unknown("no_data", method="noise_floor", alpha=alpha, note="no answers")
    if too_large(x):
        return Estimate.unknown("unsupported", method="noise_floor", alpha=alpha, note=TOO_LARGE)
    _, index = np.unique(keys, return_inverse=True)
    sizes = np.bincount(index)
    centred = x - (np.bincount(index, weights=x) / sizes)[index]
    df = int(x.size - sizes.size)
    if df < 1:
        return Estimate.unknown("insufficient", method="noise_floor", alpha=alpha, note="no prompt was repeated")
    variance = float(centred @ centred) / df
    value = float(ndtri(1.0 - alpha / 2.0) + ndtri(power)) * math.sqrt(2.0 * variance / pairs)
    return Estimate(value, alpha=alpha, method="noise_floor", details={"within_variance": variance, "df": df})
