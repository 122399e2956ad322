"""What the paired comparison says of one metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from abtest.results import MetricResult


@dataclass(frozen=True)
class ShadowMetric(MetricResult):
    """One metric, the candidate's answers against control's to the same requests.

    Attributes:
        pairs: Pairs in which both answers can tell.
        units: Units they belong to.
        paired: The paired comparison: estimate, std_error, ci_lower and ci_upper (anytime), fixed_lower, fixed_upper and pvalue
            (t, for one look at a declared time), df.
        unpaired: The same answers compared as if the arms had nothing to do with each other.
        correlation: Of the arms over units.
        gain: How many times fewer pairs are needed than answers of two separate groups: unpaired over paired variance.
        noise_floor: Smallest difference that the pairs can tell from the models' own noise; None without repeated answers.
        listed: Whether the spec has the metric; others are shown for information.
    """

    pairs: int = 0
    units: int = 0
    paired: Mapping[str, Any] = field(default_factory=dict)
    unpaired: Mapping[str, Any] = field(default_factory=dict)
    correlation: float | None = None
    gain: float | None = None
    noise_floor: float | None = None
    listed: bool = True
