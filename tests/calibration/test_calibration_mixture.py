"""Error rates and speed of the mixtures in the score clock, and the traps of STATISTICS 2."""

import math

import numpy as np
import pytest
from calibration_shapes import SHAPES, scores
from calibration_tools import at_most, brownian, first_crossing, report, size, standard_error

from abtest.stats import horizon, mixture

pytestmark = pytest.mark.calibration

ALPHA = 0.05
DRIFT = 1.959964 + 0.841621  # of the score, a unit of v, when v = 1 is the two-sided fixed sample at 80 % power
LOOKS = np.arange(1, 161) / 40.0  # 160 looks to four times the fixed sample


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.kind)
def test_anytime_two_sided_informed(shape):
    runs, seed = size(400, 3000), 101
    n_fixed = shape.fixed_sample()
    v_star = n_fixed / 4 * sum(shape.variances)
    drift, rho = mixture.informed_tuning(shape.effect, n_fixed / 2, v_star)
    found = {}
    for name, effect in (("null", 0.0), ("mde", 1.0)):
        s, v, _, n = scores(np.random.default_rng(seed), shape, runs, 160, 4.0, effect)
        crossed = mixture.log_e_informed(s, v, drift, rho) >= -math.log(ALPHA)
        found[name] = first_crossing(crossed, n / n_fixed)
    stop_se = float(np.std(np.minimum(found["mde"][2], 4)) / math.sqrt(runs))
    report(f"anytime two-sided informed, {shape.name}", seed, runs, false_alarm=found["null"][0],
           stop=found["mde"][1], power=found["mde"][0], stop_se=stop_se)  # fmt: skip
    assert found["null"][0] <= at_most(ALPHA, runs)
    assert found["mde"][1] <= 1.05 + 2 * stop_se


def test_anytime_two_sided_informed_without_noise_of_few_runs():
    runs, seed = size(4000, 40_000), 111
    rng = np.random.default_rng(seed)
    rates: list[tuple[float, float]] = []
    for drift in (0.0, DRIFT):
        log_e = mixture.log_e_informed(brownian(rng, runs, LOOKS, drift), LOOKS, DRIFT, DRIFT / 3)
        rates.append(first_crossing(log_e >= -math.log(ALPHA), LOOKS)[:2])
    report("anytime two-sided informed (Brownian)", seed, runs, false_alarm=rates[0][0], power=rates[1][0],
           stop=rates[1][1])  # fmt: skip
    assert rates[0][0] <= at_most(ALPHA, runs)
    assert rates[1][1] <= 1.05 + size(0.02, 0.0)


def test_anytime_one_sided_harm():
    runs, seed = size(4000, 40_000), 102
    rng = np.random.default_rng(seed)
    rates = {}
    for name, drift in (("null", 0.0), ("harm", DRIFT), ("better", -DRIFT), ("twice better", -2 * DRIFT)):
        s = brownian(rng, runs, LOOKS, drift)
        ours = mixture.log_e_informed(s, LOOKS, DRIFT, DRIFT / 3, alternative="larger") >= -math.log(ALPHA)
        a = 1 + (DRIFT / 3) ** 2 * LOOKS
        wrong = -0.5 * np.log(a) + ((DRIFT / 3 * s) ** 2 + 2 * DRIFT * s - DRIFT**2 * LOOKS) / (2 * a)
        rates[name] = first_crossing(ours, LOOKS), first_crossing(wrong >= -math.log(ALPHA), LOOKS)
    report("anytime one-sided harm, truncated informed (Brownian)", seed, runs, false_alarm=rates["null"][0][0],
           better=rates["better"][0][0], twice=rates["twice better"][0][0], stop=rates["harm"][0][1])  # fmt: skip
    report("TRAP one-sided informed prior without truncation", seed, runs, wrong=rates["better"][1][0],
           twice=rates["twice better"][1][0], right=rates["better"][0][0])  # fmt: skip
    assert rates["null"][0][0] <= at_most(ALPHA, runs)
    assert rates["better"][0][0] <= at_most(ALPHA, runs)
    assert rates["twice better"][0][0] <= at_most(ALPHA, runs)
    assert rates["harm"][0][1] <= 0.90
    assert rates["better"][1][0] > 0.2
    assert rates["twice better"][1][0] > 0.95


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.kind)
def test_anytime_one_sided_harm_on_data(shape):
    runs, seed = size(400, 3000), 103
    n_fixed = shape.fixed_sample()
    drift, rho = mixture.informed_tuning(shape.effect, n_fixed / 2, n_fixed / 4 * sum(shape.variances))
    found = {}
    for effect in (0.0, 1.0, -1.0):
        s, v, _, n = scores(np.random.default_rng(seed), shape, runs, 160, 4.0, effect)
        crossed = mixture.log_e_informed(s, v, drift, rho, alternative="larger") >= -math.log(ALPHA)
        found[effect] = first_crossing(crossed, n / n_fixed)
    report(f"anytime one-sided harm, {shape.name}", seed, runs, false_alarm=found[0.0][0], better=found[-1.0][0],
           stop=found[1.0][1], power=found[1.0][0])  # fmt: skip
    assert found[0.0][0] <= at_most(ALPHA, runs)
    assert found[-1.0][0] <= at_most(ALPHA, runs)
    assert found[1.0][1] <= 0.90 + size(0.1, 0.02)


@pytest.mark.parametrize("one_sided", [False, True])
def test_plain_mixture(one_sided):
    runs, seed = size(4000, 40_000), 104
    rng = np.random.default_rng(seed)
    test = mixture.log_e_one_sided if one_sided else mixture.log_e_two_sided
    rho2 = mixture.tuning(1.0, ALPHA, one_sided=one_sided)
    s = brownian(rng, runs, LOOKS)
    null = first_crossing(test(s, LOOKS, rho2) >= -math.log(ALPHA), LOOKS)[0]
    s = brownian(rng, runs, LOOKS, DRIFT)
    power, stop, _ = first_crossing(test(s, LOOKS, rho2) >= -math.log(ALPHA), LOOKS)
    edge = test(s, LOOKS, rho2) >= -math.log(ALPHA)
    at_n = edge[:, LOOKS <= 1.0].any(axis=1).mean()
    report(f"anytime plain mixture, {'one' if one_sided else 'two'}-sided (Brownian)", seed, runs, false_alarm=null,
           stop=stop, power=power, power_at_n=at_n)  # fmt: skip
    assert null <= at_most(ALPHA, runs)


@pytest.mark.parametrize("one_sided", [False, True])
def test_horizon(one_sided):
    runs, seed = size(4000, 20_000), 105
    rng = np.random.default_rng(seed)
    times = np.arange(1, 51) / 50 * 1.25
    rho2 = mixture.tuning(1.0, ALPHA, one_sided=one_sided)
    plan = horizon.calibrate_horizon(1.25, rho2, ALPHA, looks=50, one_sided=one_sided)
    test = mixture.log_e_one_sided if one_sided else mixture.log_e_two_sided
    paths = brownian(rng, runs, times)
    null = first_crossing(test(paths, times, rho2) >= plan.log_threshold, times)[0]
    power, stop, _ = first_crossing(test(brownian(rng, runs, times, DRIFT), times, rho2) >= plan.log_threshold, times)
    # Going on past the horizon at the anytime threshold, as `Horizon.judge` does, up to 4 n.
    more = np.concatenate([times, np.arange(51, 161) / 40])
    threshold = np.where(more <= 1.25, plan.log_threshold, -math.log(ALPHA))
    beyond = first_crossing(test(brownian(rng, runs, more), more, rho2) >= threshold, more)[0]
    often = np.arange(1, 401) / 400 * 1.25
    looked = first_crossing(test(brownian(rng, runs, often), often, rho2) >= plan.log_threshold, often)[0]
    report(f"horizon 1.25 n, 50 looks, {'one' if one_sided else 'two'}-sided (Brownian)", seed, runs,
           false_alarm=null, power=power, stop=stop, threshold=plan.log_threshold, beyond=beyond)  # fmt: skip
    report(f"TRAP horizon of 50 looks looked at 400 times, {'one' if one_sided else 'two'}-sided", seed, runs,
           wrong=looked, right=null)  # fmt: skip
    assert null <= ALPHA + 2 * standard_error(ALPHA, runs)
    assert power >= 0.78 - size(0.02, 0.0)
    assert stop <= 0.76 + size(0.01, 0.0)
    assert looked > null


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: s.kind)
def test_horizon_on_data(shape):
    runs, seed = size(600, 4000), 106
    n_fixed = shape.fixed_sample()
    v_star = n_fixed / 4 * sum(shape.variances)
    rho2 = mixture.tuning(v_star, ALPHA)
    plan = horizon.calibrate_horizon(1.25 * v_star, rho2, ALPHA, looks=50)
    found = {}
    for effect in (0.0, 1.0):
        s, v, _, n = scores(np.random.default_rng(seed), shape, runs, 50, 1.25, effect)
        found[effect] = first_crossing(mixture.log_e_two_sided(s, v, rho2) >= plan.log_threshold, n / n_fixed)
    report(f"horizon 1.25 n, 50 looks, {shape.name}", seed, runs, false_alarm=found[0.0][0], power=found[1.0][0],
           stop=found[1.0][1])  # fmt: skip
    assert found[0.0][0] <= at_most(ALPHA, runs)


def test_trap_the_clock_must_not_run_backwards():
    # 1,000 units with noise 1, then noise 20: Var(D) jumps up and R = tau^2/V runs the test twice.
    runs, seed = size(4000, 40_000), 107
    rng = np.random.default_rng(seed)
    n = np.unique(np.concatenate([np.geomspace(20, 1000, 100), np.geomspace(1001, 400_000, 200)]).astype(int))
    v = np.where(n <= 1000, n, 1000 + 400.0 * (n - 1000))
    s = brownian(rng, runs, v)
    spread = v / n.astype(float) ** 2  # Var(D) of the plain mean
    tau2 = float(mixture.tuning(100.0, ALPHA))  # both phases end at Var(D) = 1/1000, well past the tuning
    # In the mean's own "clock" R = tau^2/V: the same formula with v replaced by 1/V.
    wrong = mixture.log_e_two_sided(s / np.sqrt(v) / np.sqrt(spread), 1 / spread, tau2) >= -math.log(ALPHA)
    right = mixture.log_e_two_sided(s, v, tau2) >= -math.log(ALPHA)
    rates = [float(x.any(axis=1).mean()) for x in (wrong, right)]
    report("TRAP R = tau^2/Var(D) while the noise grows", seed, runs, wrong=rates[0], right=rates[1])
    assert rates[0] > ALPHA
    assert rates[1] <= ALPHA


def test_trap_one_tuning_for_a_whole_ramp():
    # Stages of equal traffic at 1, 5, 20 and 50 %; harm that reaches z = 4.5 at the end of the first one; alpha 1 %.
    runs, seed, alpha = size(4000, 40_000), 108, 0.01
    rng = np.random.default_rng(seed)
    ends = np.cumsum([q * (1 - q) for q in (0.01, 0.05, 0.2, 0.5)])
    first = ends[0] * np.arange(1, 25) / 24  # hourly looks of one day
    s = brownian(rng, runs, first, 4.5 / math.sqrt(ends[0]))
    one = mixture.log_e_one_sided(s, first, mixture.tuning(ends[-1], alpha, one_sided=True)) >= -math.log(alpha)
    rho2 = mixture.tuning(ends, alpha, one_sided=True)
    mean = mixture.log_e_one_sided(s, first, rho2) >= -math.log(alpha)
    times = np.concatenate([np.linspace(a, b, 25)[1:] for a, b in zip([0, *ends[:-1]], ends, strict=True)])
    null = mixture.log_e_one_sided(brownian(rng, runs, times), times, rho2) >= -math.log(alpha)
    rates = [float(x.any(axis=1).mean()) for x in (one, mean, null)]
    report("TRAP one tuning for a whole ramp: z = 4.5 harm at the end of the 1 % stage is found", seed, runs,
           wrong=rates[0], right=rates[1], false_alarm=rates[2])  # fmt: skip
    assert rates[0] < 0.05
    assert rates[1] >= 0.80
    assert rates[2] <= at_most(alpha, runs)


def test_trap_degrees_of_freedom_of_a_small_arm():
    # 99:1 split, looks while the small arm has 3 to 30 units; the t-version with n - 2 and with Satterthwaite's df.
    runs, seed = size(3000, 30_000), 109
    rng = np.random.default_rng(seed)
    small = np.arange(3, 31)
    t = rng.normal(size=(runs, 30))
    sums, squares = np.cumsum(t, axis=1)[:, 2:], np.cumsum(t * t, axis=1)[:, 2:]
    var_t = (squares - sums**2 / small) / (small - 1)
    big = 99 * small
    steps = np.diff(np.concatenate([[0], big]))
    mean_c = np.cumsum(rng.normal(size=(runs, small.size)) * np.sqrt(steps), axis=1) / big
    var_c = 1 + rng.normal(size=(runs, small.size)) * np.sqrt(2 / (big - 1))
    weight = small * big / (small + big)
    se2 = var_t / small + var_c / big
    v = np.broadcast_to(weight, se2.shape)
    score = (sums / small - mean_c) / np.sqrt(se2) * np.sqrt(v)  # t in the clock of the planned variance
    rho2 = mixture.tuning(weight[-1], ALPHA)
    wrong = mixture.log_e_t(score, v, rho2, small + big - 2) >= -math.log(ALPHA)
    right = mixture.log_e_t(score, v, rho2, mixture.satterthwaite(var_t, small, var_c, big)) >= -math.log(ALPHA)
    rates = [float(x.any(axis=1).mean()) for x in (wrong, right)]
    report("TRAP mixture t-test at 99:1 with n - 2 degrees of freedom", seed, runs, wrong=rates[0], right=rates[1])
    assert rates[0] > ALPHA
    assert rates[1] <= at_most(ALPHA, runs)


def test_estimate_after_stopping_is_shrunken():
    runs, seed = size(4000, 40_000), 110
    rng = np.random.default_rng(seed)
    s = brownian(rng, runs, LOOKS, DRIFT)
    rho2 = mixture.tuning(1.0, ALPHA)
    crossed = mixture.log_e_two_sided(s, LOOKS, rho2) >= -math.log(ALPHA)
    hit = crossed.any(axis=1)
    at = crossed.argmax(axis=1)[hit]
    v = LOOKS[at]
    d = s[hit, at] / v
    plain = float(d.mean() / DRIFT)
    shrunken = float(mixture.shrunken(d, 1 / v, v, rho2).mean() / DRIFT)
    report("estimate at the stop, as a multiple of the truth", seed, runs, wrong=plain, right=shrunken)
    assert plain > 1.2
    assert abs(shrunken - 1) < 0.12
