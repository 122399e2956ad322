"""Our methods on the peers' data: index of the look that stops, None where none does.

A method that ends before the data do has its last look under "last".
"""

import math

import numpy as np

from abtest.analysis.judge import MIN_UNITS
from abtest.stats import betting, horizon, mixture, rate_ratio, srm
from abtest.stats.score import PairSums, stratified_score


def stops(crossed):
    """Return the first crossing of each experiment, None where there is none; `crossed` is (runs, looks)."""
    return [int(row.argmax()) if row.any() else None for row in crossed]


def _score(counts):
    """Return (S, v) of the stratified score with half the units in treatment; no clock below MIN_UNITS an arm."""
    runs, looks, _ = counts.shape
    n = np.stack([counts[..., 0], counts[..., 2]]).reshape(2, 1, -1).astype(float)
    x = np.stack([counts[..., 1], counts[..., 3]]).reshape(2, 1, -1).astype(float)

    def own(values):
        out = np.zeros((2, 1, 2, 1, runs * looks))
        for arm in (0, 1):
            out[arm, 0, arm, 0] = values[arm, 0]
        return out

    sums = PairSums(n, x, n, own(x), own(x), own(x), own(n), 0.0)
    contrast = stratified_score(sums, [0.5], proportion=True).contrast(running=False)
    enough = (n >= MIN_UNITS).all(axis=(0, 1))
    v = np.maximum.accumulate(np.where(enough, contrast.v, 0.0).reshape(runs, looks), axis=1)
    return contrast.score.reshape(runs, looks), v


def proportions(data):
    """The two-sided methods, tuned at the fixed sample with the rates that were planned (30 and 40 %)."""
    level, fixed = -math.log(data.alpha), data.unit
    v_star, weight = (0.21 + 0.24) / 2 * fixed / 4, fixed / 4
    rho2 = mixture.tuning(v_star, data.alpha)
    informed = mixture.informed_tuning(0.1, weight, v_star)
    looks = data.arrays["looks"]
    within = looks[looks <= 1.25 * fixed]
    plan = horizon.calibrate_horizon(
        v_star * within[-1] / fixed, rho2, data.alpha, looks=len(within), fractions=within / within[-1]
    )
    bound = betting.randomised_bound(0.0, 1.0, 0.5, 0.35)
    bets = betting.bet_grid(fixed, 4 * 0.35 * 0.65, data.alpha, bound)
    declared = f"horizon 1.25 n, {len(within)} looks, ends there"
    found = {declared: {"last": len(within) - 1}}
    for name in ("null", "effect"):
        counts = data.arrays[f"{name}_counts"]
        s, v = _score(counts)
        inside = looks <= within[-1]
        plain = mixture.log_e_two_sided(s, v, rho2)
        cells = np.diff(counts, axis=1, prepend=0)
        control = np.stack([cells[..., 0] - cells[..., 1], cells[..., 1]], axis=-1)
        treated = np.stack([cells[..., 2] - cells[..., 3], cells[..., 3]], axis=-1)
        wealth = betting.log_wealth_randomised([0.0, 1.0], treated, control, bets, share=0.5, center=0.35)
        crossed = {
            "normal mixture": plain >= level,
            "informed by the effect of interest": mixture.log_e_informed(s, v, *informed) >= level,
            declared: (plain >= np.where(v <= plan.v_max * (1 + 1e-9), plan.log_threshold, level)) & inside,
            "bets on a grid (exact)": bets.log_e(np.cumsum(wealth, axis=1)) >= level,
        }
        for label, hit in crossed.items():
            found.setdefault(label, {})[name] = stops(hit)
    return found


def events(data):
    """The rate ratio on every request."""
    out = {}
    for name in ("null", "effect", "zero"):
        new = np.diff(data.arrays[f"{name}_counts"], axis=1, prepend=0)
        path = rate_ratio.log_e_rate_ratio_path(new[..., 3], new[..., 1], data.arguments["share"])
        out[name] = stops(path >= -math.log(data.alpha))
    return {"rate ratio (exact)": out}


def sample_ratio(data):
    """The sequential sample-ratio test, without its practical floor."""
    return {
        "sequential sample ratio": {
            name: stops(srm.log_e_srm_path(data.arrays[f"{name}_units"], [1, 1]) >= -math.log(data.alpha))
            for name in ("null", "effect")
        }
    }
