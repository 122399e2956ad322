"""Returning units: do the arms' users come back equally? A difference is an effect or a loss of logs: worth saying."""

from __future__ import annotations

from abtest.analysis.checks.sample_ratio import ratio_check
from abtest.analysis.evidence import Evidence
from abtest.results import Check

NAME = "returning_ratio"
BLOCKING = False


def run(evidence: Evidence) -> Check:
    """Test the units that an earlier stage had seen already; a warning, because the release itself may cause it."""
    return ratio_check(evidence, NAME, "returning_units", "warning")
