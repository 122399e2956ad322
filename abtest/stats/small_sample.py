"""The mixture t-test: the normal mixture when the variance is estimated from few units.

Source: Lindon, Ham, Tingley, Bojinov (arXiv 2210.08589). All names are also in `abtest.stats.mixture`.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from abtest.errors import InvalidInputError
from abtest.stats.numerics import Array, check_alpha, check_score, check_tunings, check_variance, mean_log


def satterthwaite(
    variance_treatment: npt.ArrayLike,
    n_treatment: npt.ArrayLike,
    variance_control: npt.ArrayLike,
    n_control: npt.ArrayLike,
) -> Array:
    """Return the Welch-Satterthwaite degrees of freedom of a difference of two means.

    (a + b)^2 / (a^2/(n_T - 1) + b^2/(n_C - 1)) with a = s_T^2/n_T, b = s_C^2/n_C. With a 99:1 split it is close to the
    small arm's n - 1, where n_T + n_C - 2 would give 8.9 % false alarms at a nominal 5 %.
    The variances are those of single units; both zero, or an arm of fewer than two units, gives 0: no answer.
    """
    n_t, n_c = np.asarray(n_treatment, dtype=np.float64), np.asarray(n_control, dtype=np.float64)
    s_t, s_c = np.asarray(variance_treatment, dtype=np.float64), np.asarray(variance_control, dtype=np.float64)
    enough = (n_t > 1) & (n_c > 1) & (s_t + s_c > 0)
    n_t, n_c = np.where(enough, n_t, 2.0), np.where(enough, n_c, 2.0)
    # Only the ratio of the two parts matters: dividing by the larger keeps tiny and huge variances inside the floats.
    a, b = s_t / n_t, s_c / n_c
    top = np.where(enough, np.maximum(a, b), 1.0)
    a, b = np.where(enough, a / top, 1.0), np.where(enough, b / top, 1.0)
    return np.where(enough, (a + b) ** 2 / (a**2 / (n_t - 1) + b**2 / (n_c - 1)), 0.0)


def log_e_t(score: npt.ArrayLike, v: npt.ArrayLike, rho2: npt.ArrayLike, df: npt.ArrayLike) -> Array:
    """Return log E of the two-sided mixture t-test: log(r)/2 + (df+1)/2 [log(1+t^2/df) - log(1+r t^2/df)].

    t = S/sqrt(v), r = 1/(1 + rho2*v) (g/(g+n) in the source, rho2 = 1/g, v = n). It tends to `log_e_two_sided` as df
    grows, and is smaller before: it pays for the estimated variance. Use it from 30 units an arm to a few hundred;
    below 30 units in an arm no normal-theory claim is safe. df: `satterthwaite` (or n minus the fitted coefficients).
    v == 0 or df <= 0 gives 0.

    Source: Lindon et al. 2210.08589, theorem 1.
    """
    s, clock = check_score(score, v)
    nu = np.asarray(df, dtype=np.float64)
    started = (clock > 0) & (nu > 0)
    clock, nu = np.where(started, clock, 1.0), np.where(started, nu, 1.0)
    with np.errstate(over="ignore"):
        ratio = np.minimum((s / np.sqrt(clock)) ** 2 / nu, 1e300)  # t^2/df; log E is bounded in it
    logs: list[Array] = []
    for one in check_tunings(rho2, "rho2"):
        r = 1.0 / (1.0 + one * clock)
        logs.append(0.5 * np.log(r) + 0.5 * (nu + 1.0) * (np.log1p(ratio) - np.log1p(r * ratio)))
    return np.where(started, mean_log(logs), 0.0)


def t_radius(v: npt.ArrayLike, rho2: float, df: npt.ArrayLike, alpha: float) -> Array:
    """Return the multiplier of the standard error that makes `log_e_t` an interval: D +- t_radius * se.

    sqrt(df (1-q)/(q-r)), q = (r alpha^2)^(1/(df+1)), r = 1/(1 + rho2*v); infinity where q <= r (too few units for any
    bound at this alpha), where v == 0 and where df <= 0.
    """
    clock, nu = check_variance(v), np.asarray(df, dtype=np.float64)
    tunings = check_tunings(rho2, "rho2")
    if tunings.size != 1:
        raise InvalidInputError("t_radius takes one tuning")
    log_r = -np.log1p(tunings[0] * clock)
    safe = np.where(nu > 0, nu, 1.0)
    log_q = (log_r + 2.0 * math.log(check_alpha(alpha))) / (safe + 1.0)
    gap = np.exp(log_q) - np.exp(log_r)
    known = (gap > 0) & (clock > 0) & (nu > 0)
    return np.where(known, np.sqrt(safe * -np.expm1(log_q) / np.where(known, gap, 1.0)), np.inf)
