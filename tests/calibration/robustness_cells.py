"""Hard data without any effect, and every sequential method that a caller of `abtest.stats` would use on it.

A stress makes whole experiments at once: cumulative sums of both arms at every look, as the SQL would give them. The
normal-theory methods claim nothing below `MIN_UNITS` units in an arm, as their callers do; the exact ones always may.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from abtest.analysis.judge import MIN_UNITS
from abtest.stats import betting, horizon, mixture, rate_ratio, srm
from abtest.stats.score import PairSums, stratified_score

ALPHA = 0.05
LEVEL = -math.log(ALPHA)
HORIZON_LOOKS = 50
CELLS = np.arange(21) / 20.0  # values of the capped metric that the bets see, between 0 and 1
NORMAL_THEORY = ("two-sided", "harm", "better", "t", "horizon")
EXACT = ("rate ratio", "bets", "sample ratio")


@dataclass(frozen=True)
class Evidence:
    """Cumulative sums of `runs` experiments at every look, control first: shape (2, runs, looks).

    events: new first events of a look, (2, runs, looks). hits: new units a look by their capped value, (2, runs, looks,
    21); a unit is there once.
    """

    units: np.ndarray
    x: np.ndarray
    y: np.ndarray
    xx: np.ndarray
    xy: np.ndarray
    yy: np.ndarray
    events: np.ndarray
    hits: np.ndarray


@dataclass(frozen=True)
class Stress:
    """A kind of data. `make` is (rng, runs) -> Evidence; `chunk` runs fit in memory at once."""

    name: str
    seed: int
    share: float
    make: Callable[[np.random.Generator, int], Evidence]
    proportion: bool = False
    chunk: int = 100
    refuses: bool = False  # the arms never reach MIN_UNITS
    silent: bool = False  # nothing ever happens
    fractions: tuple[float, ...] = field(default=())  # planned looks of the horizon, where they are not equally spaced


# --- data ------------------------------------------------------------------------------------------------------------


def arrivals(treated, x, y, event, capped, looks):
    """Return Evidence of units that arrive in order, each with its final value; inputs are (runs, units)."""
    at = np.asarray(looks) - 1
    arms = (~treated, treated)

    def cumulative(values):
        return np.stack([np.cumsum(np.where(arm, values, 0.0), axis=1)[:, at] for arm in arms])

    events = np.diff(cumulative(event.astype(float)), prepend=0.0, axis=2)
    runs, units = x.shape
    window = np.searchsorted(at, np.arange(units))
    cell = np.rint(np.clip(capped, 0, 1) * 20).astype(int)
    where = ((treated * runs + np.arange(runs)[:, None]) * len(at) + window) * CELLS.size + cell
    hits = np.bincount(where.ravel(), minlength=2 * runs * len(at) * CELLS.size)
    return Evidence(
        cumulative(np.ones_like(x)), cumulative(x), cumulative(y), cumulative(x * x), cumulative(x * y),
        cumulative(y * y), events, hits.reshape(2, runs, len(at), CELLS.size),
    )  # fmt: skip


def stream(draw, share, looks, cap, cut):
    """Return a maker: `draw(rng, shape)` gives x or (x, y); an event is x above `cut`, bets see x/y up to `cap`."""

    def make(rng, runs):
        shape = (runs, int(looks[-1]))
        drawn = draw(rng, shape)
        x, y = drawn if isinstance(drawn, tuple) else (drawn, np.ones(shape))
        return arrivals(rng.random(shape) < share, x, y, x > cut, x / y / cap, looks)

    return make


def pareto(rng, shape):
    return 1.0 + rng.pareto(2.1, size=shape)


def lognormal(rng, shape):
    return np.exp(rng.normal(size=shape))


def zero_inflated(rng, shape):
    return np.where(rng.random(shape) < 0.03, np.exp(1.5 * rng.normal(size=shape)), 0.0)


def normal(rng, shape):
    return 1.0 + rng.normal(size=shape)


def bernoulli(p):
    return lambda rng, shape: (rng.random(shape) < p).astype(float)


def correlated(rng, shape):
    """Users of 1 to about 40 rows (10 on average), intra-class correlation 0.2, 10 % of the rows fail."""
    rows = rng.geometric(0.1, size=shape)
    return rng.binomial(rows, rng.beta(0.4, 3.6, size=shape)).astype(float), rows.astype(float)


def returning(rng, runs, users=600, days=30, share=0.5):
    """Users come on 30 % of the days; what they did so far is looked at daily. Their habits differ (ICC 0.2)."""
    treated = rng.random((runs, users)) < share
    risk = rng.beta(0.4, 3.6, size=(runs, users))
    x, y = np.zeros((runs, users)), np.zeros((runs, users))
    first, failed = np.full((runs, users), days), np.full((runs, users), days)
    first_value = np.zeros((runs, users))
    days_sums = []
    for day in range(days):
        rows = np.where(rng.random((runs, users)) < 0.3, 1 + rng.poisson(2.0, size=(runs, users)), 0)
        fails = rng.binomial(rows, risk)
        new = (first == days) & (rows > 0)
        first[new], first_value[new] = day, fails[new] / rows[new]
        failed[(failed == days) & (fails > 0)] = day
        x, y = x + fails, y + rows
        seen = (y > 0).astype(float)
        parts = (seen, x, y, x * x, x * y, y * y)
        days_sums.append([[np.where(arm, p, 0.0).sum(axis=1) for arm in (~treated, treated)] for p in parts])
    sums = np.moveaxis(np.array(days_sums), 0, -1)  # (6, 2, runs, days)
    events = np.stack([_daily(failed, arm, days) for arm in (~treated, treated)])
    hits = np.zeros((2, runs, days, CELLS.size))
    run, user = np.nonzero(first < days)
    cell = np.rint(first_value[run, user] * 20).astype(int)
    np.add.at(hits, (treated[run, user].astype(int), run, first[run, user], cell), 1.0)
    return Evidence(*sums, events, hits)


def _daily(day_of, arm, days):
    return np.stack([((day_of == day) & arm).sum(axis=1) for day in range(days)], axis=1).astype(float)


def equally(looks, last):
    return (np.arange(1, looks + 1) * (last // looks)).astype(int)


UNEVEN = np.array([120, 150, 1500, 1600, 4000, 4100])
EVERY = np.arange(2, 1501)
STRESSES = (
    Stress("heavy tail, Pareto 2.1", 301, 0.5, stream(pareto, 0.5, equally(80, 4000), 10, 4)),
    Stress("zero inflation, 97 % zeros", 302, 0.5, stream(zero_inflated, 0.5, equally(80, 4000), 10, 0)),
    Stress("rare events, 1 in 2,000", 303, 0.5, stream(bernoulli(5e-4), 0.5, equally(80, 8000), 1, 0), True),
    Stress("zero events", 304, 0.5, stream(bernoulli(0.0), 0.5, equally(80, 4000), 1, 0), True, silent=True),
    *(
        Stress(f"{n} units an arm, {name}", 305 + i, 0.5, stream(draw, 0.5, np.arange(2, 2 * n + 1), 4, cut),
               refuses=True, chunk=1000)
        for i, (n, name, draw, cut) in enumerate(
            (n, name, draw, cut)
            for n in (2, 5, 20)
            for name, draw, cut in (("normal", normal, 2), ("lognormal", lognormal, 3))
        )
    ),
    Stress("99:1, normal", 311, 0.01, stream(normal, 0.01, equally(80, 20_000), 4, 2), chunk=25),
    Stress("99:1, lognormal", 312, 0.01, stream(lognormal, 0.01, equally(80, 20_000), 10, 4), chunk=25),
    Stress("99:1, Pareto 2.1", 313, 0.01, stream(pareto, 0.01, equally(80, 20_000), 10, 4), chunk=25),
    Stress("99:1, events 2 %", 314, 0.01, stream(bernoulli(0.02), 0.01, equally(80, 20_000), 1, 0), True, 25),
    Stress("1:99, Pareto 2.1", 315, 0.99, stream(pareto, 0.99, equally(80, 20_000), 10, 4), chunk=25),
    Stress("correlated rows, 10 a user, ICC 0.2", 316, 0.5, stream(correlated, 0.5, equally(75, 1500), 1, 0), True),
    Stress("returning users, daily looks", 317, 0.5, returning, True),
    Stress("few uneven batches, lognormal", 318, 0.5, stream(lognormal, 0.5, UNEVEN, 10, 4),
           fractions=tuple(UNEVEN / UNEVEN[-1])),
    Stress("a look at every unit, lognormal", 319, 0.5, stream(lognormal, 0.5, EVERY, 10, 4), chunk=50),
    Stress("a look at every unit, events 5 %", 320, 0.5, stream(bernoulli(0.05), 0.5, EVERY, 1, 0), True, 50),
)  # fmt: skip


# --- methods ---------------------------------------------------------------------------------------------------------


def pair_sums_of(evidence):
    """Return PairSums of one stage with runs and looks side by side on the last axis."""

    def flat(a):
        return a.reshape(2, 1, -1)

    def pairs(a):
        out = np.zeros((2, 1, 2, 1, flat(a).shape[-1]))
        for arm in (0, 1):
            out[arm, 0, arm, 0] = flat(a)[arm, 0]
        return out

    e = evidence
    return PairSums(flat(e.units), flat(e.x), flat(e.y), pairs(e.xx), pairs(e.xy), pairs(e.xy), pairs(e.yy), 0.0)


def score_paths(evidence, share, proportion):
    """Return (S, v, plug-in z, degrees of freedom, enough units in both arms) of "no difference", each (runs, looks)."""
    shape = evidence.x.shape[1:]
    contrast = stratified_score(pair_sums_of(evidence), [share], proportion=proportion).contrast(running=False)
    v = np.maximum.accumulate(contrast.v.reshape(shape), axis=1)
    n, y = evidence.units, evidence.y
    ratio = np.divide(evidence.x, y, out=np.zeros_like(y), where=y > 0)
    spread = np.maximum(evidence.xx - 2 * ratio * evidence.xy + ratio**2 * evidence.yy, 0.0)
    unit_variance = spread / np.maximum(n - 1, 1) * (n / np.where(y > 0, y, 1.0)) ** 2
    df = mixture.satterthwaite(unit_variance[1], n[1], unit_variance[0], n[0])
    s, plug = contrast.score.reshape(shape), contrast.v_plug.reshape(shape)
    z = np.divide(s, np.sqrt(plug), out=np.zeros(shape), where=plug > 0)
    return s, v, z, df, (n >= MIN_UNITS).all(axis=0)


@dataclass(frozen=True)
class Plan:
    """What is frozen before the first look, from 200 experiments of the past."""

    v_star: float
    two_sided: np.ndarray
    one_sided: np.ndarray
    horizon: horizon.Horizon
    bets: betting.Bets | None
    center: float


def plan(stress):
    past = stress.make(np.random.default_rng(stress.seed + 10_000), 20 if stress.chunk < 100 else 200)
    _, v, *_ = score_paths(past, stress.share, stress.proportion)
    v_end = max(float(np.median(v[:, -1])), 1e-12)
    # Tuned at a quarter of the sample: what claims early is tried hardest.
    two, one = mixture.tuning(v_end / 4, ALPHA), mixture.tuning(v_end / 4, ALPHA, one_sided=True)
    looks = len(stress.fractions) or min(HORIZON_LOOKS, v.shape[1])
    declared = horizon.calibrate_horizon(v_end, two, ALPHA, looks=looks, fractions=stress.fractions or None)
    hits = past.hits.sum(axis=(0, 1, 2))
    center = float(hits @ CELLS / hits.sum())
    variance = float(hits @ (CELLS - center) ** 2 / hits.sum()) / (stress.share * (1 - stress.share))
    bets = None
    if variance > 0:
        bound = betting.randomised_bound(0.0, 1.0, stress.share, center)
        bets = betting.bet_grid(hits.sum() / past.x.shape[1] / 4, variance, ALPHA, bound)
    return Plan(v_end, two, one, declared, bets, center)


def horizon_threshold(declared, v):
    """Return the threshold of every look, as `Horizon.judge` chooses it."""
    inside = (np.arange(1, v.shape[1] + 1) <= declared.looks) & (v <= declared.v_max * (1 + 1e-9))
    return np.where(inside, declared.log_threshold, LEVEL)


def alarms(stress, frozen, evidence):
    """Return, by method, which experiments raised an alarm at any look; "raw ..." without the refusal below 30 units."""
    s, v, z, df, enough = score_paths(evidence, stress.share, stress.proportion)
    crossed = {
        "two-sided": mixture.log_e_two_sided(s, v, frozen.two_sided) >= LEVEL,
        "harm": mixture.log_e_one_sided(s, v, frozen.one_sided) >= LEVEL,
        "better": mixture.log_e_one_sided(-s, v, frozen.one_sided) >= LEVEL,
        "t": mixture.log_e_t(s, v, frozen.two_sided, df) >= LEVEL,
        "horizon": mixture.log_e_two_sided(s, v, frozen.two_sided) >= horizon_threshold(frozen.horizon, v),
    }
    out = {name: (hit & enough).any(axis=1) for name, hit in crossed.items()}
    out |= {f"raw {name}": hit.any(axis=1) for name, hit in crossed.items()}
    out["refused"] = ~enough.any(axis=1)
    out["peeked"] = (np.abs(z) >= 1.959964).any(axis=1)  # the fixed test read at every look: the wrong way
    path = rate_ratio.log_e_rate_ratio_path(evidence.events[1], evidence.events[0], stress.share)
    out["rate ratio"] = (path >= LEVEL).any(axis=1)
    units = np.moveaxis(evidence.units, 0, -1)
    ratio = srm.log_e_srm_path(units, [1 - stress.share, stress.share])
    out["sample ratio"] = (ratio >= LEVEL).any(axis=1)
    out["bets"] = np.zeros(len(s), dtype=bool)
    if frozen.bets is not None:
        wealth = betting.log_wealth_randomised(
            CELLS, evidence.hits[1], evidence.hits[0], frozen.bets, share=stress.share, center=frozen.center
        )
        out["bets"] = (frozen.bets.log_e(np.cumsum(wealth, axis=1)) >= LEVEL).any(axis=1)
    return out


def measure(stress, runs):
    """Return the rate of false alarms of every method over `runs` experiments."""
    frozen, rng = plan(stress), np.random.default_rng(stress.seed)
    parts, left = [], runs
    while left > 0:
        size = min(stress.chunk, left)
        parts.append(alarms(stress, frozen, stress.make(rng, size)))
        left -= size
    return {name: float(np.concatenate([p[name] for p in parts]).mean()) for name in parts[0]}
