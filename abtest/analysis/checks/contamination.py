"""Contamination: units that saw two arms within one stage. They are left out of the evidence; many of them are a fault."""

from __future__ import annotations

from abtest.analysis.evidence import Evidence
from abtest.results import Check

NAME = "contamination"
BLOCKING = True
_ENOUGH = 100
"""Units of a stage from which on its own share counts."""


def run(evidence: Evidence) -> Check:
    """Compare the share of contaminated units with what the spec allows (1 % by default)."""
    units = sum(int(r["units"]) for r in evidence.contamination)
    both = sum(int(r["contaminated"]) for r in evidence.contamination)
    if not units:
        return Check(NAME, "no_data", detail="no units yet")
    limit = evidence.experiment.population.max_contamination
    data = {"units": units, "contaminated": both, "share": both / units, "limit": limit}
    # A long first stage must not hide what happens in the one that runs: each stage of some size is held to the limit.
    for row in sorted(evidence.contamination, key=lambda r: -int(r["contaminated"]) / int(r["units"])):
        n, k = int(row["units"]), int(row["contaminated"])
        if k / n > limit and (n >= _ENOUGH or both / units > limit):
            label = evidence.strata[row["stage"]].label
            text = (
                f"{label}: {k} of {n} units ({k / n * 100:.1f} %) saw more than one arm, {limit * 100:g} % are allowed"
            )
            return Check(NAME, "failed", None, text, data)
    text = (
        f"{both} of {units} units saw more than one arm within a stage; they are left out"
        if both
        else "every unit saw one arm"
    )
    return Check(NAME, "ok", None, text, data)
