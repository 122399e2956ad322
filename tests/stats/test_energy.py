"""Energy distance and MMD: against brute force, invariances, level."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abtest.errors import InvalidInputError
from abtest.stats.energy import energy_distance_histogram, two_sample_permutation

points = st.lists(st.tuples(st.integers(-50, 50), st.integers(-50, 50)), min_size=2, max_size=12)


def brute(x, y):
    def mean(a, b):
        return np.mean([np.linalg.norm(np.subtract(p, q)) for p in a for q in b])

    return 2 * mean(x, y) - mean(x, x) - mean(y, y)


@settings(max_examples=40, deadline=None)
@given(points, points)
def test_energy_distance_by_brute_force(x, y):
    found = two_sample_permutation(np.array(x, float), np.array(y, float), permutations=19)
    if found.status == "ok":
        assert found.value == pytest.approx(brute(x, y), abs=1e-7)
        assert 0.05 <= found.pvalue <= 1.0
        back = two_sample_permutation(np.array(y, float), np.array(x, float), permutations=19)
        assert back.value == pytest.approx(found.value, abs=1e-9)


def test_shift_rotation_and_scale():
    generator = np.random.default_rng(1)
    x, y = generator.normal(size=(60, 2)), generator.normal(0.5, 1.0, size=(50, 2))
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    plain = two_sample_permutation(x, y)
    moved = two_sample_permutation(3.0 * x @ turn + 1e6, 3.0 * y @ turn + 1e6)
    assert moved.value == pytest.approx(3.0 * plain.value, rel=1e-6)
    assert moved.pvalue == plain.pvalue
    mmd, moved = (two_sample_permutation(a * 2, b * 2, kernel="mmd") for a, b in ((x, y), (x @ turn, y @ turn)))
    assert mmd.value == pytest.approx(moved.value, rel=1e-9)


@pytest.mark.parametrize("kernel", ["energy", "mmd"])
def test_finds_a_difference_in_spread_with_equal_means(kernel):
    generator = np.random.default_rng(2)
    found = two_sample_permutation(generator.normal(size=300), generator.normal(scale=1.6, size=300), kernel=kernel)
    assert found.pvalue <= 0.005


@pytest.mark.calibration
def test_level_with_and_without_clusters():
    """300 runs, seed 3, ten rows a user, ICC 0.5, no difference, nominal 5 %: clusters hold it, rows do not."""
    generator = np.random.default_rng(3)
    alarms = np.zeros(2)
    keys = np.repeat(np.arange(16), 10)
    for run in range(300):
        rows = np.repeat(generator.normal(size=16), 10) + generator.normal(size=160)
        x, y = rows[:80], rows[80:]
        for k, clusters in enumerate(((keys[:80], keys[80:]), None)):
            found = two_sample_permutation(x, y, clusters=clusters, permutations=99, seed=run)
            alarms[k] += found.pvalue <= 0.05
    assert alarms[0] / 300 <= 0.09
    assert alarms[1] / 300 >= 0.2


def test_histogram_version_is_the_same_distance():
    generator = np.random.default_rng(4)
    a, b = generator.integers(0, 12, 200), generator.integers(1, 13, 150)
    values = np.arange(13.0)
    counts = [np.bincount(v, minlength=13) for v in (a, b)]
    found = energy_distance_histogram(values, *counts)
    assert found.value == pytest.approx(two_sample_permutation(a, b, permutations=1).value, abs=1e-9)
    assert found.pvalue < 0.05
    assert energy_distance_histogram(values, counts[0], counts[0]).pvalue == 1.0


def test_same_seed_same_answer():
    x, y = np.arange(20.0), np.arange(20.0) ** 1.1
    assert two_sample_permutation(x, y, seed=5) == two_sample_permutation(x, y, seed=5)


def test_what_cannot_be_tested_has_a_status():
    assert two_sample_permutation([1.0], [1.0, 2.0]).status == "insufficient"
    assert two_sample_permutation([1.0, 1.0], [1.0, 1.0]).status == "zero_variance"
    alone = ([0, 0, 0], [1, 1, 1])
    assert two_sample_permutation([1.0, 2.0, 3.0], [2.0, 3.0, 4.0], clusters=alone).status == "insufficient"
    assert energy_distance_histogram([1.0, 2.0], [1, 0], [5, 5]).status == "insufficient"
    assert energy_distance_histogram([1.0, 2.0], [3, 0], [5, 0]).status == "zero_variance"


@pytest.mark.parametrize(
    "call",
    [
        lambda: two_sample_permutation([1.0, np.nan], [1.0, 2.0]),
        lambda: two_sample_permutation([1.0, 2.0], [1.0, 2.0], permutations=0),
        lambda: two_sample_permutation([1.0, 2.0], [1.0, 2.0], kernel="cosine"),
        lambda: two_sample_permutation(np.ones((3, 2)), np.ones((3, 3))),
        lambda: two_sample_permutation([1.0, 2.0], [1.0, 3.0], clusters=([1, 2], [2, 3])),
        lambda: two_sample_permutation([1.0, 2.0], [1.0, 3.0], clusters=([1], [2, 3])),
        lambda: energy_distance_histogram([2.0, 1.0], [1, 1], [1, 1]),
        lambda: energy_distance_histogram([1.0, 2.0], [1.0, 1.0], [1, 1]),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(InvalidInputError):
        call()
