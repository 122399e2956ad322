"""Contamination: units that saw two arms within one stage. They are left out of the evidence; many of them are a fault."""

from __future__ import annotations

from abtest.analysis.read import Evidence
from abtest.results import Check

NAME = "contamination"
BLOCKING = True


def run(evidence: Evidence) -> Check:
    """Compare the share of contaminated units with what the spec allows (1 % by default)."""
    units = sum(int(r["units"]) for r in evidence.contamination)
    both = sum(int(r["contaminated"]) for r in evidence.contamination)
    if not units:
        return Check(NAME, "no_data", detail="no units yet")
    share, limit = both / units, evidence.experiment.population.max_contamination
    data = {"units": units, "contaminated": both, "share": share, "limit": limit}
    if share > limit:
        text = f"{both} of {units} units ({share * 100:.1f} %) saw more than one arm within a stage, {limit * 100:g} % are allowed"
        return Check(NAME, "failed", None, text, data)
    text = (
        f"{both} of {units} units saw more than one arm within a stage; they are left out"
        if both
        else "every unit saw one arm"
    )
    return Check(NAME, "ok", None, text, data)
