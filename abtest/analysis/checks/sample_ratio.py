"""Sample ratio: do the arms get the units that the split says? Sequential, so it can be looked at every minute (STATISTICS §7)."""

from __future__ import annotations

from abtest.analysis.evidence import Evidence, Stratum
from abtest.results import Check, Estimate
from abtest.stats.srm import sequential_srm

NAME = "sample_ratio"
BLOCKING = True


def run(evidence: Evidence) -> Check:
    """Test every stage on the units that it saw first; the budget is split over stages."""
    return ratio_check(evidence, NAME, "new_units", "failed")


def ratio_check(evidence: Evidence, name: str, column: str, alarm: str) -> Check:
    """Test one kind of unit counts against the configured shares, stage by stage."""
    known = [s for s in evidence.strata if s.share is not None]
    if not known:
        return Check(name, "no_share", detail="the split is not known: give [[allocation]] or a ramp")
    planned = max(len(known), sum(1 for s in evidence.experiment.ramp if s.share is not None))
    alpha = evidence.experiment.budget.sample_ratio / planned
    tested = [
        (s, counts, sequential_srm(counts, _shares(evidence, s), alpha))
        for s in known
        if sum(counts := _counts(evidence, s, column))
    ]
    if not tested:
        return Check(name, "no_data", detail="no units yet")
    # The stage that says most: by evidence against the split.
    stratum, counts, worst = max(tested, key=lambda t: (bool(t[2].details["alarm"]), t[2].log_e_value or 0.0))
    pvalue = min(1.0, planned * min(float(t[2].pvalue if t[2].pvalue is not None else 1.0) for t in tested))
    failed = bool(worst.details["alarm"])
    return Check(name, alarm if failed else "ok", pvalue, _sentence(evidence, stratum, counts, worst, column, failed), {
        "stages": [
            {"index": s.ramp_index, "label": s.label, "share": s.share, "units": dict(zip(evidence.experiment.arm_names, c, strict=True)),
             "pvalue": t.pvalue, "alarm": bool(t.details["alarm"])}
            for s, c, t in tested
        ],
    })  # fmt: skip


def _shares(evidence: Evidence, stratum: Stratum) -> list[float]:
    share = float(stratum.share or 0.0)
    n = len(evidence.experiment.treatments)
    return [1.0 - n * share, *([share] * n)]


def _counts(evidence: Evidence, stratum: Stratum, column: str) -> list[int]:
    found = {r["arm"]: int(r[column]) for r in evidence.assignment if r["stage"] == stratum.index}
    return [found.get(arm, 0) for arm in evidence.experiment.arm_names]


def _sentence(
    evidence: Evidence, stratum: Stratum, counts: list[int], worst: Estimate, column: str, failed: bool
) -> str:
    names = evidence.experiment.arm_names
    deviations: list[float] = [d or 0.0 for d in worst.details["deviations"]]
    # The arm that is off most; of two that are off alike, the one that is short: units are lost more often than found.
    arm = max(range(len(names)), key=lambda i: (round(abs(deviations[i]), 9), deviations[i] < 0))
    expected = worst.details["expected"][arm]
    kind = "new" if column == "new_units" else "returning"
    if not failed:
        return f"{kind} units fit the split in every stage"
    off = counts[arm] / expected - 1 if expected else 0.0
    return (
        f"{stratum.label}: {counts[arm]} {kind} units in {names[arm]}, {expected:.0f} expected ({off * 100:+.0f} %): "
        "units are lost or assigned unevenly"
    )
