"""When first events prove harm: the planning of the exact rate-ratio test (STATISTICS §4).

An event falls in the treatment with probability θ = q r/(q r + 1 - q), r the ratio of the two arms' rates. The mixture over a
grid of ratios grows by about max_j [θ log(θ_j/q) + (1 - θ) log((1 - θ_j)/(1 - q))] an event, less the weight of that ratio, and
varies by θ(1 - θ)·log²(odds) around it. A halt takes, besides, an estimate past the margin by a standard error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from abtest.analysis.rare import PAST_MARGIN_Z
from abtest.stats.rate_ratio import DEFAULT_RATIOS


@dataclass(frozen=True)
class Growth:
    """How log E grows with every first event: its mean, its standard deviation, and the cost of the grid."""

    mean: float
    deviation: float
    cost: float

    def events(self, log_threshold: float, power: float, before: float = 0.0) -> float:
        """Return the first events after which log E has reached its threshold with a power.

        Args:
            log_threshold: log(1/alpha).
            power: Wanted probability.
            before: Mean of log E from earlier stages.
        """
        wanted = max(log_threshold + self.cost - before, 0.0)
        z = float(ndtri(power)) * self.deviation
        root = (z + math.sqrt(z * z + 4 * self.mean * wanted)) / (2 * self.mean)
        return root * root


def growth(bad: float, size: float, share: float) -> Growth | None:
    """Return the growth when control's rate of bad events is `bad` and the treatment's is higher by `size`; None for none.

    Args:
        bad: Control's rate; with zero the largest ratio of the grid is bet on.
        size: What is added to it.
        share: The treatment's.
    """
    largest = float(DEFAULT_RATIOS[-1])
    ratio = min((bad + size) / bad, largest) if bad > 0 else largest
    hit = share * ratio / (share * ratio + 1 - share)
    bets = share * DEFAULT_RATIOS / (share * DEFAULT_RATIOS + 1 - share)
    means = hit * np.log(bets / share) + (1 - hit) * np.log((1 - bets) / (1 - share))
    best = int(np.argmax(means))
    if means[best] <= 0:
        return None
    odds = math.log(bets[best] * (1 - share) / ((1 - bets[best]) * share))
    # Neighbours of the best ratio win nearly as often, so the mixture loses less than the weight of one.
    near = float(np.sum(means >= 0.8 * means[best]))
    return Growth(float(means[best]), math.sqrt(hit * (1 - hit)) * abs(odds), math.log(len(DEFAULT_RATIOS) / near))


def needed_for_margin(distance: float, power: float) -> float:
    """Return the information with which the estimate lies past the margin by `PAST_MARGIN_Z` standard errors with a power."""
    return float((PAST_MARGIN_Z + ndtri(power)) / distance) ** 2
