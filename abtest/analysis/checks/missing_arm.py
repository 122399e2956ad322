"""Missing arm: an arm that should have units and has none at all."""

from __future__ import annotations

from abtest.analysis.evidence import Evidence
from abtest.results import Check

NAME = "missing_arm"
BLOCKING = True
_EXPECTED = 10.0
"""Units an arm should have had before its absence says anything (without any: probability e^-10)."""


def run(evidence: Evidence) -> Check:
    """Compare each arm's units with what the split lets one expect."""
    seen = {str(r["arm"]): int(r["units"]) for r in evidence.arms}
    total = sum(seen.get(a, 0) for a in evidence.experiment.arm_names)
    if not total:
        return Check(NAME, "no_data", detail="no units yet")
    missing = [a for a in evidence.experiment.arm_names if not seen.get(a) and _expected(evidence, a) >= _EXPECTED]
    if not missing:
        return Check(NAME, "ok", None, "every arm has units", {"units": seen})
    others = sorted(set(seen) - set(evidence.experiment.arm_names))
    hint = f"; the logs also name {', '.join(others[:5])}" if others else ""
    return Check(
        NAME,
        "failed",
        None,
        f"no unit of {' and '.join(missing)} in the logs{hint}",
        {"missing": missing, "units": seen},
    )


def _expected(evidence: Evidence, arm: str) -> float:
    """Return the units that the other arms' units let one expect of this one, over all stages."""
    n = len(evidence.experiment.treatments)
    expected = 0.0
    for stratum in evidence.strata:
        others = sum(int(r["units"]) for r in evidence.stages if r["stage"] == stratum.index and r["arm"] != arm)
        share = stratum.share if stratum.share is not None else 1.0 / (n + 1)
        own = 1.0 - n * share if arm == evidence.experiment.control else share
        expected += others * own / (1.0 - own)
    return expected
