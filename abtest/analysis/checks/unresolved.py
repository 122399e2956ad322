"""Unresolved rows: calls of the experiment that carry no unit, no arm, or an arm the spec does not name."""

from __future__ import annotations

from abtest.analysis.evidence import Evidence
from abtest.results import Check

NAME = "unresolved_rows"
BLOCKING = False
_LIMIT = 0.01


def run(evidence: Evidence) -> Check:
    """Count them; above 1 % it is a warning, because what is missing may not be missing at random."""
    calls = int(evidence.population.get("calls", 0))
    if not calls:
        return Check(NAME, "no_data", detail="no rows of this experiment")
    data = {k: int(evidence.population[k]) for k in ("no_unit", "no_arm", "other_arm")} | {"calls": calls}
    lost = data["no_unit"] + data["no_arm"] + data["other_arm"]
    if not lost:
        return Check(NAME, "ok", None, "every call has a unit and an arm", data)
    text = (
        f"{lost} of {calls} calls do not count: {data['no_unit']} without a unit, {data['no_arm']} without an arm, "
        f"{data['other_arm']} in an arm that the spec does not name"
    )
    return Check(NAME, "warning" if lost / calls > _LIMIT else "ok", None, text, data)
