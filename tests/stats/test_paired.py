"""Paired differences, McNemar, sign test, Wilcoxon, the e-process, the noise floor."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from abtest.errors import InvalidInputError
from abtest.stats.moments import Columns, Moments
from abtest.stats.paired import (
    mcnemar,
    mcnemar_e_process,
    newcombe_paired,
    noise_floor,
    paired_mean,
    sign_test,
    wilcoxon,
)

counts = st.integers(0, 300)


def test_paired_t_by_hand():
    d = np.array([0.1, 0.3, -0.2, 0.4, 0.5])
    found = paired_mean(Moments.from_arrays(d))
    t = d.mean() / (d.std(ddof=1) / np.sqrt(5))
    assert found.details["statistic"] == pytest.approx(t)
    assert found.details["df"] == 4.0
    assert paired_mean(Moments.from_arrays(-d)).lower == pytest.approx(-found.upper)
    edge = paired_mean(Moments.from_arrays(d), null=found.lower)
    assert edge.pvalue == pytest.approx(0.05)


def test_pairs_of_one_user_are_one_unit():
    generator = np.random.default_rng(1)
    effect = np.repeat(generator.normal(size=100), 8) + generator.normal(scale=0.5, size=800)
    sums = effect.reshape(100, 8).sum(axis=1)
    by_user = paired_mean(Moments.from_arrays(sums, np.full(100, 8.0)), Columns(0, 1))
    by_row = paired_mean(Moments.from_arrays(effect))
    assert by_user.value == pytest.approx(by_row.value)
    assert by_user.std_error > 2.0 * by_row.std_error


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=0, max_size=10))
def test_paired_mean_of_anything_finite(values):
    found = paired_mean(Moments.from_arrays(values))
    assert (found.pvalue is None) == (found.status != "ok")
    for v in (found.value, found.lower, found.upper, found.pvalue):
        assert v is None or math.isfinite(v)


@settings(max_examples=80, deadline=None)
@given(counts, counts, counts, counts)
def test_newcombe_paired_holds_its_estimate_and_flips_with_the_arms(a, b, c, d):
    found, back = newcombe_paired(a, b, c, d), newcombe_paired(a, c, b, d)
    if a + b + c + d == 0:
        assert found.status == "no_data"
        return
    assert -1.0 - 1e-12 <= found.lower <= found.value + 1e-12
    assert found.value - 1e-12 <= found.upper <= 1.0 + 1e-12
    assert (found.lower, found.upper) == pytest.approx((-back.upper, -back.lower), abs=1e-12)
    assert found.pvalue == back.pvalue


def test_newcombe_paired_published():
    """Newcombe (1998), table II, method 10, design a/e: 36, 12, 2, 0 of 50 pairs: 0.0569 to 0.3404."""
    found = newcombe_paired(36, 2, 12, 0)
    assert found.value == pytest.approx(0.2)
    assert (found.lower, found.upper) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_newcombe_paired_covers():
    """Exact coverage over the multinomial of 30 pairs, shares 0.6, 0.05, 0.15, 0.2: at least 93 %."""
    n, shares = 30, (0.6, 0.05, 0.15, 0.2)
    truth, covered, total = shares[2] - shares[1], 0.0, 0.0
    for b in range(8):
        for c in range(14):
            for a in range(n - b - c + 1):
                d = n - a - b - c
                log = math.lgamma(n + 1) - sum(math.lgamma(k + 1) for k in (a, b, c, d))
                p = math.exp(log + sum(k * math.log(s) for k, s in zip((a, b, c, d), shares, strict=True)))
                total += p
                if p > 1e-7:
                    found = newcombe_paired(a, b, c, d)
                    covered += p * (found.lower <= truth <= found.upper)
    assert total > 0.999
    assert covered >= 0.93


def test_mcnemar_sides_and_no_discordant_pair():
    assert mcnemar(2, 9, alternative="larger").pvalue == pytest.approx(float(binom.sf(8, 11, 0.5)))
    assert mcnemar(2, 9, alternative="smaller").pvalue == pytest.approx(float(binom.cdf(9, 11, 0.5)))
    found = mcnemar(0, 0)
    assert (found.status, found.pvalue) == ("zero_variance", None)
    assert mcnemar(0, 12).pvalue == pytest.approx(2 * 0.5**12)


def test_sign_test_extremes():
    found = sign_test(10, 0, ties=5, interval="exact")
    assert found.upper == 1.0
    assert found.lower == pytest.approx(0.025 ** (1 / 10))
    assert found.details["ties"] == 5
    assert sign_test(0, 10, interval="exact").lower == 0.0
    assert sign_test(0, 0, ties=4).status == "no_data"
    assert sign_test(3, 7).pvalue == sign_test(7, 3).pvalue


def test_wilcoxon_chooses_exact_only_without_ties():
    distinct = np.array([0.1, -0.2, 0.35, 0.4, 0.55, 0.61])
    assert wilcoxon(distinct).details["exact"]
    assert wilcoxon(distinct).value == pytest.approx(0.375)
    assert not wilcoxon(np.append(distinct, [0.1, 0.0])).details["exact"]
    assert wilcoxon([]).status == "no_data"
    assert wilcoxon([0.0, 0.0]).status == "zero_variance"
    larger, smaller = (wilcoxon(distinct, alternative=a).pvalue for a in ("larger", "smaller"))
    assert larger < smaller


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5000), st.integers(0, 5000))
def test_e_process_is_symmetric_and_its_sequence_agrees_with_it(b, c):
    found, back = mcnemar_e_process(b, c), mcnemar_e_process(c, b)
    assert found.log_e_value == pytest.approx(back.log_e_value, abs=1e-8)
    assert found.pvalue == pytest.approx(math.exp(-max(found.log_e_value, 0.0)))
    assert "sharp null" in found.note
    if b + c:
        outside = not found.lower <= 0.5 <= found.upper
        assert outside == (found.log_e_value > math.log(20.0))


def test_e_process_has_mean_one_under_the_null():
    n = 40
    mean = sum(binom.pmf(c, n, 0.5) * math.exp(mcnemar_e_process(n - c, c).log_e_value) for c in range(n + 1))
    assert mean == pytest.approx(1.0, abs=1e-10)
    assert mcnemar_e_process(0, 0).log_e_value == pytest.approx(0.0)
    assert mcnemar_e_process(0, 0).status == "no_data"


def test_noise_floor():
    generator = np.random.default_rng(2)
    prompts = np.repeat(np.arange(200), 3)
    values = np.repeat(generator.normal(size=200), 3) + generator.normal(scale=0.3, size=600)
    found = noise_floor(values, prompts, 500)
    assert found.details["within_variance"] == pytest.approx(0.09, rel=0.1)
    assert found.value == pytest.approx(2.8016 * math.sqrt(2 * found.details["within_variance"] / 500), rel=1e-4)
    assert noise_floor([1.0, 2.0], ["a", "b"], 10).status == "insufficient"
    assert noise_floor([], [], 10).status == "no_data"


@pytest.mark.parametrize(
    "call",
    [
        lambda: mcnemar(-1, 2),
        lambda: mcnemar(1, 2, exact=False, alternative="larger"),
        lambda: newcombe_paired(1, -1, 1, 1),
        lambda: sign_test(1, 2, interval="wald"),
        lambda: wilcoxon([1.0, math.nan]),
        lambda: wilcoxon([1.0, 2.0], method="normal"),
        lambda: mcnemar_e_process(1, 2, prior=0.0),
        lambda: noise_floor([1.0], ["a", "b"], 10),
        lambda: paired_mean(Moments.from_arrays([1.0, 2.0]), alternative="up"),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(InvalidInputError):
        call()
