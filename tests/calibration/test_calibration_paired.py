"""Pairs and judges: McNemar's e-process on rows tests another question, and uncentred scores waste the labels."""

import math

import numpy as np
import pytest
from calibration_tools import at_most, brownian, first_crossing, report, size
from scipy import special

from abtest.stats import betting, mixture, paired, ppi

pytestmark = pytest.mark.calibration

ALPHA = 0.05


def test_trap_mcnemar_on_rows():
    # 500 users of 10 pairs, 40 % discordant; the change helps half of the users and hurts the others as much: the mean
    # effect is zero, which is what a release is judged by, but "no request changes" is false.
    runs, seed, users, rows = size(1000, 4000), 601, 500, 10
    rng = np.random.default_rng(seed)
    tilt = np.where(rng.random((runs, users)) < 0.5, 0.2, -0.2)
    discordant = rng.binomial(rows, 0.4, size=(runs, users))
    worse = rng.binomial(discordant, 0.5 + tilt)
    b, c = np.cumsum(discordant - worse, axis=1), np.cumsum(worse, axis=1)
    log_e = special.betaln(1 + c, 1 + b) - special.betaln(1, 1) + (b + c) * math.log(2)
    assert paired.mcnemar_e_process(int(b[0, -1]), int(c[0, -1])).log_e_value == pytest.approx(log_e[0, -1])
    wrong = float((log_e >= -math.log(ALPHA)).any(axis=1).mean())
    cells = np.arange(-rows, rows + 1) / rows
    bets = betting.bet_grid(users, 0.4 / rows + 0.16**2, ALPHA, 1.0)
    gain = np.log1p(np.multiply.outer(cells, bets.lambdas))[2 * worse - discordant + rows]
    right = float((bets.log_e(np.cumsum(gain, axis=1)) >= -math.log(ALPHA)).any(axis=1).mean())
    report("TRAP McNemar's e-process on rows (ours: bets on users)", seed, runs, wrong=wrong, right=right)
    assert wrong > 1.3 * ALPHA
    assert right <= at_most(ALPHA, runs)


def test_trap_uncentred_scores_of_a_judge():
    # A judge on every row, a human label on 5 %: the stop of a one-arm sequence for "the mean is 0.69" (truth 0.70).
    runs, seed, n = size(20_000, 200_000), 602, 20_000
    rng = np.random.default_rng(seed)
    y = 0.7 + 0.1 * rng.normal(size=runs)
    f = y + 0.06 * rng.normal(size=runs)
    labelled = rng.random(runs) < 0.05
    constants = {"centred": ppi.freeze_centring(y[:2000], f[:2000]), "uncentred": ppi.Centring(0.0, 0.0, 0.0)}
    spread = {
        k: float(ppi.centred_scores(y[2000:], labelled[2000:], 0.05, f[2000:], c).var()) for k, c in constants.items()
    }
    stops = {}
    paths = 500
    for name, variance in spread.items():
        # In the clock of rows: a score with this variance a row and a drift of 0.01, each tuned at its own fixed sample.
        times = np.linspace(n / 200, n, 200)
        s = brownian(np.random.default_rng(seed), paths, times * variance, 0.01 / variance)
        rho2 = mixture.tuning(7.849 * variance**2 / 0.01**2, ALPHA)
        _, stops[name], _ = first_crossing(
            mixture.log_e_two_sided(s, times * variance, rho2) >= -math.log(ALPHA), times
        )
    report("mean stop in rows, judge with 5 % labels (wrong: uncentred; it ends at 20,000)", seed, paths,
           wrong=stops["uncentred"], right=stops["centred"])  # fmt: skip
    assert spread["uncentred"] > 8 * spread["centred"]
    assert stops["uncentred"] > 1.5 * stops["centred"]
