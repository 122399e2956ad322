"""Not randomised: exposures whose assignment came from a default, an error, a stale or a disabled flag."""

from __future__ import annotations

from abtest.analysis.evidence import Evidence
from abtest.results import Check

NAME = "randomised"
BLOCKING = True
_LIMIT = 0.01


def run(evidence: Evidence) -> Check:
    """Such calls are left out; above 1 % the comparison is not trusted."""
    calls = int(evidence.population.get("calls", 0))
    if not calls:
        return Check(NAME, "no_data", detail="no rows of this experiment")
    count = int(evidence.population["not_randomised"])
    data = {"calls": calls, "not_randomised": count}
    if count / calls > _LIMIT:
        text = f"{count} of {calls} calls were not randomised (flag reason default, error, stale or disabled)"
        return Check(NAME, "failed", None, text, data)
    return Check(
        NAME,
        "ok",
        None,
        f"{count} calls were not randomised; they are left out" if count else "every assignment was randomised",
        data,
    )
