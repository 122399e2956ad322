import json
import math

import numpy as np
import pytest

from abtest.errors import InvalidInputError
from abtest.stats import betting, edetector

VALUES = np.array([0.0, 1.0])


def increments(rates, baseline=0.1, n=200, seed=1):
    rng = np.random.default_rng(seed)
    hits = rng.binomial(n, rates)
    bets = betting.bet_grid(5 * n, baseline * (1 - baseline), 0.05, 1.0)
    counts = np.stack([n - hits, hits], axis=-1)
    return edetector.log_increments(VALUES, counts, bets, baseline=baseline), bets


def test_recursion_by_hand():
    steps = np.log([[2.0], [0.5], [3.0]])
    # (0+1)*2 = 2; (2+1)*0.5 = 1.5; (1.5+1)*3 = 7.5
    np.testing.assert_allclose(np.exp(edetector.shiryaev_roberts(steps)), [2.0, 1.5, 7.5])
    pair = np.log([[2.0, 1.0], [0.5, 1.0]])
    np.testing.assert_allclose(np.exp(edetector.shiryaev_roberts(pair)), [1.5, 1.75])
    weighted = edetector.shiryaev_roberts(pair, np.log([0.9, 0.1]))
    np.testing.assert_allclose(np.exp(weighted), [1.9, 0.9 * 1.5 + 0.1 * 2])
    assert edetector.shiryaev_roberts(np.zeros((4, 7, 2))).shape == (4, 7)


def test_finds_a_change_and_keeps_quiet_without_one():
    changed = np.where(np.arange(120) < 60, 0.1, 0.2)
    steps, bets = increments(changed)
    found = edetector.detect(steps, days=365, batches_per_day=24, log_weights=bets.log_weights)
    assert found.alarm
    assert 60 <= found.batch < 75
    quiet, bets = increments(np.full(120, 0.1))
    none = edetector.detect(quiet, days=365, batches_per_day=24, log_weights=bets.log_weights)
    assert not none.alarm
    assert none.batch is None
    assert none.log_threshold == pytest.approx(math.log(365 * 24))
    assert json.dumps(none.to_dict())


def test_empty_series():
    assert not edetector.detect(np.zeros((0, 3)), days=10, batches_per_day=1).alarm
    assert edetector.detect(np.zeros((0, 3)), days=10, batches_per_day=1).to_dict()["log_m"] is None


def test_longer_run_length_alarms_later():
    steps, _ = increments(np.where(np.arange(120) < 30, 0.1, 0.15))
    early, late = (edetector.detect(steps, days=d, batches_per_day=1) for d in (10, 1e6))
    assert early.batch <= late.batch


@pytest.mark.parametrize(
    "call",
    [
        lambda: edetector.shiryaev_roberts([1.0]),
        lambda: edetector.shiryaev_roberts([[math.nan]]),
        lambda: edetector.shiryaev_roberts([[0.0, 0.0]], [0.0]),
        lambda: edetector.detect(np.zeros((2, 3, 4)), days=1, batches_per_day=1),
        lambda: edetector.detect(np.zeros((3, 4)), days=0.5, batches_per_day=1),
        lambda: edetector.log_increments(VALUES, [1, 2], betting.bet_grid(2, 0.1, 0.05, 1.0), baseline=0.1),
    ],
)
def test_bad_numbers_are_refused(call):
    with pytest.raises(InvalidInputError):
        call()
