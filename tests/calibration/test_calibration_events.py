"""Rate ratios, sample ratios, bets, drift: exact methods, and the traps of STATISTICS 4, 5 and 7."""

import math

import numpy as np
import pytest
from calibration_tools import at_most, report, size
from scipy import special

from abtest.stats import beta_binomial, betting, edetector, mixture, rate_ratio, srm

pytestmark = pytest.mark.calibration


def median_stop(hit, last):
    return float(np.median(np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, last + 1)))


# --- rate ratio ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("p_t", "p_c"), [(0.05, 0.005), (0.05, 0.0), (0.005, 0.005), (0.05, 0.05)])
def test_rate_ratio_on_requests(p_t, p_c):
    runs, seed, alpha, requests = size(600, 5000), 201, 0.01, 4000
    rng = np.random.default_rng(seed)
    hits, stops = [], []
    for _ in range(runs // 100):
        treated = rng.random((100, requests)) < 0.1
        event = rng.random((100, requests)) < np.where(treated, p_t, p_c)
        path = rate_ratio.log_e_rate_ratio_path(event & treated, event & ~treated, 0.1)
        hit = path >= -math.log(alpha)
        hits.append(hit.any(axis=1))
        stops.append(np.where(hits[-1], hit.argmax(axis=1) + 1, requests + 1))
    rate, median = float(np.mean(hits)), float(np.median(stops))
    numbers = {"false_alarm": rate} if p_t == p_c else {"power": rate, "median_requests": median}
    report(f"rate ratio, requests 90/10, alpha 1 %, {p_c:.1%} -> {p_t:.1%}", seed, runs, **numbers)
    if p_t == p_c:
        assert rate <= at_most(alpha, runs)
    else:
        assert median <= (600 if p_c == 0 else 950)
        assert rate > 0.98
        assert p_c > 0 or rate == 1.0


def sticky_events(rng, runs, units, shares, heavy=0.02):
    """Units with very different habits, seen in every stage of a nested ramp, without any effect.

    Returns counts by stage, shape (runs, stages), of treatment and control events counted in three ways: every event,
    once a unit and stage, once a unit.
    """
    stages = len(shares)
    every, staged, first = (np.zeros((2, runs, stages)) for _ in range(3))
    for run in range(runs):
        hashes = rng.random(units)
        rate = np.where(rng.random(units) < heavy, 3.0, 0.004)
        events = rng.poisson(rate[:, None] * np.ones(stages))
        treated = hashes[:, None] < np.asarray(shares)
        seen = np.cumsum(events > 0, axis=1) > 0
        new = (events > 0) & ~np.concatenate([np.zeros((units, 1), bool), seen[:, :-1]], axis=1)
        for i, arm in enumerate((treated, ~treated)):
            every[i, run] = (events * arm).sum(axis=0)
            staged[i, run] = ((events > 0) & arm).sum(axis=0)
            first[i, run] = (new & arm).sum(axis=0)
    return every, staged, first


def test_trap_every_event_of_a_sticky_unit():
    runs, seed, alpha = size(400, 4000), 202, 0.05
    shares = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5)
    counted = sticky_events(np.random.default_rng(seed), runs, 1000, shares)
    rates = [
        float((rate_ratio.log_e_rate_ratio_path(x[0], x[1], shares) >= -math.log(alpha)).any(axis=1).mean())
        for x in counted
    ]
    report("TRAP every event of sticky units in the rate ratio, 6 stages", seed, runs, wrong=rates[0], right=rates[2],
           per_unit_and_stage=rates[1])  # fmt: skip
    assert rates[0] > 2 * alpha
    assert rates[2] <= at_most(alpha, runs)


def test_points_margin_at_small_counts():
    # Control at its declared ceiling of 1 %, margin 1 point, 50/50, alpha 1 %: at the margin, and at three points more.
    runs, seed, alpha, n = size(400, 4000), 203, 0.01, 4000
    rng = np.random.default_rng(seed)
    rates = {}
    for name, p_t in (("at the margin", 0.02), ("past it", 0.04)):
        treated = rng.random((runs, n)) < 0.5
        event = rng.random((runs, n)) < np.where(treated, p_t, 0.01)

        def batches(x):
            return x.reshape(runs, 80, 50).sum(axis=2).astype(float)

        path = rate_ratio.log_e_points_margin(
            batches(event & treated), batches(event & ~treated), batches(~treated), 0.5, 0.01, 0.01
        )
        rates[name] = float((path >= -math.log(alpha)).any(axis=1).mean())
    report("points margin, independent units, alpha 1 %", seed, runs, false_alarm=rates["at the margin"],
           power=rates["past it"])  # fmt: skip
    assert rates["at the margin"] <= at_most(alpha, runs)
    assert rates["past it"] > 0.5


# --- sample ratio ----------------------------------------------------------------------------------------------------


def test_srm_looked_at_daily():
    runs, seed, days = size(5000, 50_000), 204, 30
    rng = np.random.default_rng(seed)
    total = 2000 * np.arange(1, days + 1)

    def paths(p):
        x = np.cumsum(rng.binomial(2000, p, size=(runs, days)), axis=1)
        return np.stack([x, total - x], axis=-1)

    null, fault = paths(0.5), paths(0.51)
    ours = srm.log_e_srm_path(null, [1, 1]) >= math.log(100)
    chi = special.chdtrc(1, (null[..., 0] - total / 2) ** 2 / (total / 4)) < 0.05
    found = srm.log_e_srm_path(fault, [1, 1]) >= math.log(100)
    rates = float(ours.any(axis=1).mean()), float(chi.any(axis=1).mean())
    median = median_stop(found, days)
    report("sample ratio, 30 daily looks, alpha 1 %", seed, runs, false_alarm=rates[0],
           power=float(found.any(axis=1).mean()), median_day=median)  # fmt: skip
    report("TRAP chi-square at 5 % looked at daily", seed, runs, wrong=rates[1], right=rates[0])
    assert rates[0] <= at_most(0.01, runs)
    assert rates[1] > 0.25
    assert median <= 16
    one = srm.sequential_srm(null[0, -1], [1, 1], 0.01)
    assert one.log_e_value == pytest.approx(float(srm.log_e_srm_path(null[0, -1], [1, 1])))


# --- betting ---------------------------------------------------------------------------------------------------------

SHARE = 0.5


def bet_paths(rng, runs, n, p_t, p_c, bets, center):
    """log E after each of 160 batches of randomised 0/1 outcomes of independent units."""
    treated = rng.binomial(n, SHARE, size=(runs, 160))
    hits_t, hits_c = rng.binomial(treated, p_t), rng.binomial(n - treated, p_c)
    wealth = betting.log_wealth_randomised(
        [0.0, 1.0],
        np.stack([treated - hits_t, hits_t], axis=-1),
        np.stack([n - treated - hits_c, hits_c], axis=-1),
        bets,
        share=SHARE,
        center=center,
    )
    return bets.log_e(np.cumsum(wealth, axis=1))


@pytest.mark.parametrize("alternative", ["two-sided", "larger"])
def test_bet_grid(alternative):
    runs, seed, alpha = size(2000, 10_000), 205, 0.05
    rng = np.random.default_rng(seed)
    center = 0.055
    variance = (0.05 * 0.95 + 0.06 * 0.94) * 2
    n_fixed = 2 * 7.849 * (0.05 * 0.95 + 0.06 * 0.94) / 0.01**2  # units in both arms together
    bets = betting.bet_grid(n_fixed, variance, alpha, betting.randomised_bound(0, 1, SHARE, center),
                            alternative=alternative)  # fmt: skip
    batch = int(n_fixed * 4 / 160)
    null = bet_paths(rng, runs, batch, 0.05, 0.05, bets, center) >= -math.log(alpha)
    mde = bet_paths(rng, runs, batch, 0.06, 0.05, bets, center) >= -math.log(alpha)
    rate = float(null.any(axis=1).mean())
    stop = float(np.mean(np.where(mde.any(axis=1), mde.argmax(axis=1) + 1, 160)) / 40)
    report(f"bets on users, {alternative}, 5 -> 6 %", seed, runs, false_alarm=rate, stop=stop)
    assert rate <= at_most(alpha, runs)
    assert stop <= 1.2


def test_trap_bets_on_sticky_rows():
    # 800 users of 10 rows each, intra-class correlation 0.2, sticky 50/50, no effect; the bets are tuned to the rows.
    runs, seed, alpha, users, rows = size(500, 5000), 206, 0.05, 800, 10
    rng = np.random.default_rng(seed)
    p, icc = 0.2, 0.2
    a, b = p * (1 / icc - 1), (1 - p) * (1 / icc - 1)
    bound = betting.randomised_bound(0, 1, SHARE, p)
    on_rows = betting.bet_grid(users * rows, 4 * p * (1 - p), alpha, bound)
    on_users = betting.bet_grid(users, 4 * p * (1 - p) * (icc + (1 - icc) / rows), alpha, bound)
    alarms = np.zeros((2, runs), bool)
    cells = np.arange(rows + 1) / rows
    for run in range(runs):
        treated = rng.random(users) < SHARE
        hits = rng.binomial(rows, rng.beta(a, b, users))
        sign = np.where(treated, 1, -1) / SHARE
        # Rows: every row of a user bets with the same sign. Users: one bet on the user's mean.
        steps = hits[:, None] * np.log1p(np.outer(sign * (1 - p), on_rows.lambdas))
        steps += (rows - hits)[:, None] * np.log1p(np.outer(sign * -p, on_rows.lambdas))
        alarms[0, run] = (on_rows.log_e(np.cumsum(steps, axis=0)) >= -math.log(alpha)).any()
        counts = np.zeros((2, users, rows + 1))
        counts[np.where(treated, 0, 1), np.arange(users), hits] = 1
        wealth = betting.log_wealth_randomised(cells, counts[0], counts[1], on_users, share=SHARE, center=p)
        alarms[1, run] = (on_users.log_e(np.cumsum(wealth, axis=0)) >= -math.log(alpha)).any()
    rates = [float(x) for x in alarms.mean(axis=1)]
    report("TRAP bets on sticky rows, 10 a user, ICC 0.2", seed, runs, wrong=rates[0], right=rates[1])
    assert rates[0] > 1.5 * alpha
    assert rates[1] <= at_most(alpha, runs)


def test_textbook_bets_are_slow():
    # Paired differences on [-1, 1] with a small effect: the grid against the hedged plug-in bets at the same alpha.
    # The plug-in bets shrink like 1/sqrt(t log t), so that they fall behind as the sample grows.
    runs, seed, alpha = size(40, 1000), 207, 0.05
    rng = np.random.default_rng(seed)
    sd, d = 0.25, 0.01
    n_fixed = int(np.ceil(7.849 * sd**2 / d**2))
    n = 4 * n_fixed
    bets = betting.bet_grid(n_fixed, sd**2, alpha, 1.0)
    stops = np.zeros((2, runs))
    for run in range(runs):
        x = np.clip(rng.normal(d, sd, n), -1, 1)
        grid = bets.log_e(np.cumsum(np.log1p(np.outer(x, bets.lambdas)), axis=0))
        hedged = betting.hedged_log_wealth((x + 1) / 2, 0.5, alpha)
        for i, path in enumerate((grid, hedged)):
            hit = path >= -math.log(alpha)
            stops[i, run] = (hit.argmax() + 1 if hit.any() else n) / n_fixed
    name = "mean stop of bets on paired differences, n = 4,906 (wrong: textbook hedged)"
    report(name, seed, runs, wrong=float(stops[1].mean()), right=float(stops[0].mean()))
    assert stops[0].mean() < 1.25
    assert stops[1].mean() > 1.35 * stops[0].mean()


# --- drift -----------------------------------------------------------------------------------------------------------


def test_average_run_length_of_the_detector():
    # Declared: one false alarm in 100 batches; series of up to 2,000 batches of 100 units at a 10 % baseline.
    runs, seed, declared, length, n = size(200, 2000), 208, 100, 2000, 100
    rng = np.random.default_rng(seed)
    bets = betting.bet_grid(10 * n, 0.09, 0.05, 1.0)
    lengths = []
    for p in (0.1, 0.15):
        hits = rng.binomial(n, p, size=(runs, length if p == 0.1 else 200))
        steps = edetector.log_increments([0.0, 1.0], np.stack([n - hits, hits], axis=-1), bets, baseline=0.1)
        alarm = edetector.shiryaev_roberts(steps, bets.log_weights) >= math.log(declared)
        lengths.append(float(np.mean(np.where(alarm.any(axis=1), alarm.argmax(axis=1) + 1, hits.shape[1]))))
    report("e-detector, declared run length 100 batches; batches to an alarm", seed, runs, run_length=lengths[0],
           delay=lengths[1])  # fmt: skip
    assert lengths[0] >= declared
    assert lengths[1] < 10


# --- one arm ---------------------------------------------------------------------------------------------------------


def test_one_arm_sequences_cover():
    runs, seed, alpha, n, p = size(1000, 10_000), 209, 0.05, 2000, 0.03
    rng = np.random.default_rng(seed)
    at = np.unique(np.geomspace(10, n, 100).astype(int))
    s = np.cumsum(rng.random((runs, n)) < p, axis=1)[:, at - 1]
    flat = (beta_binomial.log_e_beta_binomial(s, at, p) >= -math.log(alpha)).any(axis=1).mean()
    k = 1000 / float(mixture.tuning(1.0, alpha)) - 1
    tuned = beta_binomial.log_e_beta_binomial(s, at, p, prior=(k * p, k * (1 - p)))
    rate = float((tuned >= -math.log(alpha)).any(axis=1).mean())
    report("one-arm Beta-binomial sequence at 3 %", seed, runs, false_alarm=rate, flat_prior=float(flat))
    assert max(rate, flat) <= at_most(alpha, runs)


def test_trap_quantile_ranks_on_clustered_rows():
    # p99 of 20,000 rows; users of 10 rows, of which ICC 0.5 of the normal score is the user's; 40 looks.
    runs, seed, alpha, users, rows, q = size(200, 2000), 210, 0.05, 2000, 10, 0.99
    rng = np.random.default_rng(seed)
    cut = special.ndtri(q)
    n = rows * users // 40 * np.arange(1, 41)
    low, high = beta_binomial.quantile_ranks(n, q, alpha, n_star=n[-1] / 2)
    missed = np.zeros((2, runs))
    for i, icc in enumerate((0.5, 0.0)):
        for run in range(runs):
            x = math.sqrt(icc) * rng.normal(size=(users, 1)) + math.sqrt(1 - icc) * rng.normal(size=(users, rows))
            below = np.cumsum((x <= cut).ravel())[n - 1]
            missed[i, run] = ((below < low) | (below >= high)).any()
    rates = [float(x) for x in missed.mean(axis=1)]
    report("TRAP row-wise quantile sequence on clustered rows, p99, ICC 0.5", seed, runs, wrong=rates[0],
           right=rates[1])  # fmt: skip
    assert rates[1] <= at_most(alpha, runs)
    assert rates[0] > rates[1]
