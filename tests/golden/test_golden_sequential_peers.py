"""Sequential methods against numbers that the peers computed (each case carries its peer, version and call)."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from abtest.stats import beta_binomial, betting, mixture, rate_ratio, srm

CASES = Path(__file__).parent / "cases"


def load(peer, starts=""):
    cases = json.loads((CASES / f"sequential_{peer}.json").read_text())
    chosen = [case for case in cases if case["id"].startswith(starts)]
    assert chosen, f"no case of {peer} starts with {starts}"
    return [pytest.param(case["inputs"], case["outputs"], case["rtol"], id=case["id"]) for case in chosen]


def close(actual, expected, rtol, atol=0.0):
    np.testing.assert_allclose(np.asarray(actual, float), np.asarray(expected, float), rtol=rtol, atol=atol)


# --- confseq 0.0.11 --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("inputs", "outputs", "rtol"), load("confseq", "cs_normal_bound"))
def test_confseq_normal_mixture_boundary(inputs, outputs, rtol):
    one_sided = inputs["one_sided"]
    rho2 = mixture.tuning(inputs["v_opt"], inputs["alpha"], one_sided=one_sided)
    close(mixture.boundary(inputs["v"], rho2, inputs["alpha"], one_sided=one_sided), outputs["bound"], rtol)


@pytest.mark.parametrize(("inputs", "outputs", "rtol"), load("confseq", "cs_bern_ci"))
def test_confseq_bernoulli_interval(inputs, outputs, rtol):
    interval = beta_binomial.bernoulli_interval(
        inputs["successes"], inputs["trials"], 0.05, trials_star=inputs["t_opt"]
    )
    close(interval, outputs["ci"], rtol)


@pytest.mark.parametrize(("inputs", "outputs", "rtol"), load("confseq", "cs_betabin"))
def test_confseq_beta_binomial_boundary(inputs, outputs, rtol):
    g, h = inputs["g"], inputs["h"]
    r = beta_binomial.beta_binomial_tuning(100, 0.05, g, h)
    close(beta_binomial.beta_binomial_boundary(inputs["v"], 0.05, r, g, h), outputs["bound"], rtol)


@pytest.mark.parametrize(("inputs", "outputs", "rtol"), load("confseq", "cs_betmart"))
def test_confseq_hedged_wealth(inputs, outputs, rtol):
    wealth = np.exp(betting.hedged_log_wealth(inputs["x"], inputs["m"], 0.05))
    close([wealth[-1], wealth.max()], [outputs["final"], outputs["max"]], rtol)
    close(wealth[[9, 49, 99]], outputs["at"], rtol)


@pytest.mark.parametrize(("inputs", "outputs", "rtol"), load("confseq", "cs_hedged"))
def test_confseq_hedged_interval(inputs, outputs, rtol):
    lower, upper = betting.hedged_interval(inputs["x"], 0.05)
    close(lower[[9, 49, 149]], outputs["l"], rtol, atol=0.001)
    close(upper[[9, 49, 149]], outputs["u"], rtol, atol=0.001)


@pytest.mark.parametrize(("inputs", "outputs", "rtol"), load("confseq", "cs_qab"))
def test_confseq_quantile_ab(inputs, outputs, rtol):
    log_e = beta_binomial.log_e_quantile_ab(inputs["a"], inputs["b"], inputs["q"], n_star=400)
    close(mixture.anytime_pvalue(log_e), outputs["p"], rtol)


@pytest.mark.parametrize(("inputs", "outputs", "rtol"), load("confseq", "cs_conjmix_eb"))
def test_confseq_defect_alpha_is_halved_once_only(inputs, outputs, rtol):
    # PEER DEFECT: the peer halves alpha twice. Ours spends exactly alpha/2 a side: the two-sided interval at alpha is
    # the pair of one-sided ones at alpha/2, and it is inside the peer's, which spends alpha/4 a side.
    values, counts = np.unique(inputs["x"], return_counts=True)
    plan = {"lower": 0.0, "upper": 1.0, "n_star": 150, "variance": 0.03}
    both = betting.betting_interval(values, counts, 0.05, **plan)
    low = betting.betting_interval(values, counts, 0.025, alternative="larger", **plan)
    high = betting.betting_interval(values, counts, 0.025, alternative="smaller", **plan)
    close(both, (low[0], high[1]), 1e-12)
    assert outputs["l"][-1] < both[0] < both[1] < outputs["u"][-1]


# --- savvi 0.3.1 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("inputs", "outputs", "rtol"), load("savvi", "sv_srm"))
def test_savvi_sequential_srm(inputs, outputs, rtol):
    looks = np.cumsum(inputs["counts"], axis=0)
    log_e = srm.log_e_srm_path(looks, inputs["theta_0"], concentration=inputs["k"])
    close(np.exp(log_e), outputs["odds"], rtol)
    close(mixture.anytime_pvalue(log_e), outputs["p_each"], rtol)
    close(mixture.anytime_pvalue(np.maximum.accumulate(log_e)), outputs["p_running_min"], rtol)


@pytest.mark.parametrize(("inputs", "outputs", "rtol"), load("savvi", "sv_mult"))
def test_savvi_multinomial_confidence_sequence(inputs, outputs, rtol):
    interval = srm.multinomial_confidence_sequence(inputs["counts"], [0.5, 0.5], 0.05, concentration=inputs["k"])
    close(interval, outputs["ci"], rtol)
    close(math.exp(srm.log_e_srm(inputs["counts"], [0.5, 0.5], concentration=inputs["k"])), outputs["odds"], rtol)


def test_savvi_defect_no_overflow_at_a_million_units():
    # PEER DEFECT: odds on the linear scale are infinite after one 2:1 batch of 300,000 units.
    assert srm.log_e_srm([200_000, 100_000], [0.5, 0.5]) == pytest.approx(16_500, rel=0.05)
    assert math.isfinite(srm.log_e_srm([1_000_000, 2_000_000], [0.5, 0.5]))


# --- ville 0.1.0 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("inputs", "outputs", "rtol"), load("ville", "vl_bern"))
def test_ville_bernoulli_sequence(inputs, outputs, rtol):
    at = np.asarray(outputs["n"])
    lower, upper = beta_binomial.beta_binomial_interval(np.cumsum(inputs["x"])[at - 1], at, 0.05)
    close(lower, outputs["lower"], rtol)
    close(upper, outputs["upper"], rtol)


@pytest.mark.parametrize(("inputs", "outputs", "rtol"), load("ville", "vl_betting"))
def test_ville_betting_sequence(inputs, outputs, rtol):
    at = np.asarray(outputs["n"]) - 1
    lower, upper = betting.hedged_interval(inputs["x"], 0.05, breaks=9_999)  # the peer's grid has 10,000 points
    close(lower[at], outputs["lower"], rtol)
    close(upper[at], outputs["upper"], rtol)


@pytest.mark.parametrize(("inputs", "outputs", "rtol"), load("ville", "vl_ab"))
def test_ville_ab_betting(inputs, outputs, rtol):
    y, treated = np.asarray(inputs["y"]), np.asarray(inputs["treated"])
    seen = np.arange(y.size)
    center = np.where(seen > 0, np.concatenate([[0.0], np.cumsum(y)[:-1]]) / np.maximum(seen, 1), 0.5)
    score = np.empty(y.size)
    for i in range(y.size):  # the peer's center moves with every unit
        both = betting.randomised_scores([y[i]], 0.5, float(center[i]))
        score[i] = both[0][0] if treated[i] else both[1][0]
    at = np.asarray(outputs["n"]) - 1
    lower, upper = betting.hedged_interval((score + 2) / 4, 0.05, breaks=19_999)
    close(4 * lower[at] - 2, outputs["lower"], rtol)
    close(4 * upper[at] - 2, outputs["upper"], rtol)


@pytest.mark.parametrize(("inputs", "outputs", "rtol"), load("ville", "vl_quantile"))
def test_ville_quantile_sequence(inputs, outputs, rtol):
    # The peer takes the one-sided normal mixture with the largest variance n/4; our own ranks are tighter.
    x = np.asarray(inputs["x"])
    rho2 = mixture.tuning(500 / 4, 0.025, one_sided=True)
    for n, low, high in zip(outputs["n"], outputs["lower"], outputs["upper"], strict=True):
        u = float(mixture.boundary(n / 4, rho2, 0.025, one_sided=True))
        values = np.sort(x[:n])
        close(values[math.ceil(0.95 * n - u) - 1], low, rtol)
        above = math.floor(0.95 * n + u) + 1
        assert (values[above - 1] if above <= n else math.inf) == float(high)
        ranks = beta_binomial.quantile_ranks(n, 0.95, 0.05, n_star=500)
        assert ranks[0] >= math.ceil(0.95 * n - u)
        assert ranks[1] <= above


# --- avlm, drconfseq -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("inputs", "outputs", "rtol"), load("rpact_avlm", "avlm_trad"))
def test_avlm_radius(inputs, outputs, rtol):
    n, rho2 = inputs["n"], 1 / inputs["g"]
    close(mixture.t_radius(n, rho2, n - inputs["coefs"], inputs["alpha"]), outputs["t_radius"][0], rtol)
    close(mixture.boundary(n, rho2, inputs["alpha"]) / math.sqrt(n), outputs["z_radius"][0], rtol)


@pytest.mark.parametrize(("inputs", "outputs", "rtol"), load("rpact_avlm", "avlm_logG"))
def test_avlm_log_g(inputs, outputs, rtol):
    score = math.sqrt(inputs["t2"] * inputs["n"])
    log_e = mixture.log_e_t(score, inputs["n"], 1 / inputs["g"], inputs["nu"])
    close(log_e, outputs["log_G"][0], rtol)
    close(mixture.anytime_pvalue(log_e), outputs["p"][0], rtol)


@pytest.mark.parametrize(("inputs", "outputs", "rtol"), load("rpact_avlm", "drcs"))
def test_drconfseq_margin(inputs, outputs, rtol):
    t = np.asarray(inputs["t"])
    lower, upper = mixture.confidence_sequence(0.0, 1 / t, t, inputs["rho2"], 0.05)
    close(upper, outputs["margin"], rtol)
    close(lower, -upper, rtol)


# --- gbstats 0.8.0, tea-tasting 1.14.0 -------------------------------------------------------------------------------


def _variance(total, squares, n):
    return (squares - total**2 / n) / (n - 1)


def _gbstats_moments(arm, case):
    """Return (n, mean, variance) of one arm, from the peer's sums."""
    n = arm["n"]
    if "ratio" in case:
        (m, mm), (d, dd), md = arm["m"], arm["d"], arm["md"]
        ratio, mean_d = m / d, d / n
        spread = _variance(m, mm, n) - 2 * ratio * (md - m * d / n) / (n - 1) + ratio**2 * _variance(d, dd, n)
        return n, ratio, spread / mean_d**2
    if "prop" in case:
        rate = arm["sum"] / n
        return n, rate, rate * (1 - rate)
    return n, arm["sum"] / n, _variance(arm["sum"], arm["sum_squares"], n)


def _gbstats_cuped(inputs):
    control, treatment = inputs["control"], inputs["treatment"]

    def cross(arm):
        return (arm["pp"] - arm["post"][0] * arm["pre"][0] / arm["n"]) / (arm["n"] - 1)

    # The peer's theta: from both arms thrown together, the difference between the arms included.
    arms = (control, treatment)
    both = {k: [sum(a[k][i] for a in arms) for i in (0, 1)] for k in ("post", "pre")}
    both.update({k: sum(a[k] for a in arms) for k in ("n", "pp")})
    theta = cross(both) / _variance(*both["pre"], both["n"])
    point, variance = 0.0, 0.0
    for sign, arm in ((-1, control), (1, treatment)):
        n = arm["n"]
        point += sign * (arm["post"][0] - theta * arm["pre"][0]) / n
        spread = _variance(*arm["post"], n) + theta**2 * _variance(*arm["pre"], n) - 2 * theta * cross(arm)
        variance += spread / n
    return point, variance, control["n"] + treatment["n"]


def _gbstats_effect(case, inputs):
    control, treatment = inputs["control"], inputs["treatment"]
    if "cuped" in case:
        return _gbstats_cuped(inputs)
    if "quantile" in case:
        # Half the width of each arm's 95 % interval is z standard errors; the peer multiplies by (n-1)/n.
        arms = (control, treatment)
        halves = [((a["quantile_upper"] - a["quantile_lower"]) / (2 * 1.959963984540054)) ** 2 for a in arms]
        variance = sum(half * (a["n"] - 1) / a["n"] for half, a in zip(halves, arms, strict=True))
        return treatment["quantile_hat"] - control["quantile_hat"], variance, control["n"] + treatment["n"]
    (n_c, m_c, v_c), (n_t, m_t, v_t) = (_gbstats_moments(a, case) for a in (control, treatment))
    if "relative" in case:
        return m_t / m_c - 1, v_t / n_t / m_c**2 + v_c / n_c * m_t**2 / m_c**4, n_c + n_t
    return m_t - m_c, v_t / n_t + v_c / n_c, n_c + n_t


GBSTATS = json.loads((CASES / "sequential_gbstats.json").read_text())


@pytest.mark.parametrize("case", [c for c in GBSTATS if c["id"].startswith("gb_seq")], ids=lambda c: c["id"])
def test_gbstats_sequential_interval(case):
    outputs, rtol = case["outputs"], case["rtol"]
    point, variance, units = _gbstats_effect(case["id"], case["inputs"])
    close([point, math.sqrt(variance)], [outputs["point"], outputs["uplift_stddev"]], rtol)
    # Their clock counts units, which is ours with a constant variance a unit: rho^2 = c/N*.
    rho2 = mixture.tuning(500 if case["id"].endswith("N500") else 5000, 0.05)
    close(mixture.confidence_sequence(point, variance, units, rho2, 0.05), outputs["ci"], rtol, atol=1e-12)
    log_e = mixture.log_e_two_sided(point / math.sqrt(variance) * math.sqrt(units), units, rho2)
    close(mixture.anytime_pvalue(log_e), outputs["p_value"], rtol)


@pytest.mark.parametrize("case", [c for c in GBSTATS if c["id"].startswith("gb_srm")], ids=lambda c: c["id"])
def test_gbstats_srm(case):
    users = case["inputs"]["users"]
    close(srm.chi_square_srm(users, case["inputs"]["weights"]).pvalue, case["outputs"]["p_value"], case["rtol"])


def test_gbstats_defect_an_arm_without_weight_takes_no_degree_of_freedom():
    # PEER DEFECT: the peer keeps df = 2 and says 0.2147.
    three = srm.chi_square_srm([1000, 1080, 0], [0.5, 0.5, 0])
    assert three.pvalue == pytest.approx(0.0794, abs=5e-5)
    assert three.pvalue == srm.chi_square_srm([1000, 1080], [0.5, 0.5]).pvalue


def test_gbstats_defect_zero_events_in_control_is_evidence():
    # PEER DEFECT: 0/9000 against 50/1000 carries p = 1 there.
    estimate = rate_ratio.rate_ratio(50, 0, 0.1, 0.01)
    assert estimate.pvalue is not None
    assert estimate.pvalue < 1e-30
    assert estimate.value is None
    assert estimate.lower is not None
    assert estimate.lower > 10


@pytest.mark.parametrize(("inputs", "outputs", "rtol"), load("tea_tasting", "tt_srm_norm"))
def test_tea_tasting_srm(inputs, outputs, rtol):
    counts = [inputs["control"], inputs["treatment"]]
    close(srm.chi_square_srm(counts, [1.0, inputs["ratio"]]).pvalue, outputs["pvalue"], rtol)


@pytest.mark.parametrize(("inputs", "outputs", "rtol"), load("tea_tasting", "tt_srm_binom"))
def test_tea_tasting_exact_srm(inputs, outputs, rtol):
    share = inputs["ratio"] / (1 + inputs["ratio"])
    close(srm.binomial_srm(inputs["treatment"], inputs["control"], share).pvalue, outputs["pvalue"], rtol)


def test_every_copied_case_is_used():
    source = Path(__file__).read_text()
    for path in CASES.glob("sequential_*.json"):
        for case in json.loads(path.read_text()):
            starts = {case["id"][:length] for length in range(4, len(case["id"]) + 1)}
            assert any(f'"{start}"' in source for start in starts), case["id"]
