"""ppi-python 0.2.3: mean with labels alone and with plain PPI."""

import pytest
from golden_fixed import close, load

from abtest.stats.ppi import ppi_mean


@pytest.mark.parametrize("case", load("ppi"))
def test_mean(case):
    x, expected = case["inputs"], case["outputs"]
    found = ppi_mean(x["Y"], x["Yhat"], x["Yhat_unlabeled"], weight=x["lam"])
    close(found.value, expected["point"], case["rtol"])
    close([found.lower, found.upper], expected["ci"], case["rtol"])


def test_estimated_weight_is_tighter_than_both_ends():
    x = load("ppi")[0].values[0]["inputs"]
    widths = [ppi_mean(x["Y"], x["Yhat"], x["Yhat_unlabeled"], weight=w).std_error for w in (0.0, None, 1.0)]
    assert widths[1] < min(widths[0], widths[2])
