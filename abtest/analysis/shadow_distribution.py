"""The shape of a logged number on pairs: shares above control's p10 to p90, each a paired contrast; the largest one counts."""

from __future__ import annotations

import math
from dataclasses import replace

from abtest.analysis.shadow_bounds import Asked, Bounds, mixture_bounds
from abtest.analysis.shadow_plan import Item
from abtest.analysis.shadow_read import ShadowEvidence
from abtest.analysis.shadow_results import ShadowMetric
from abtest.analysis.shadow_score import paired_score
from abtest.metrics.distribution import GRID
from abtest.results import Status


def judge_distribution(
    evidence: ShadowEvidence, item: Item, result: ShadowMetric, problem: tuple[Status, str] | None
) -> ShadowMetric:
    """Return the result: the largest shift of a share, up or down.

    Harm: some share has moved past the margin, at the halt share split over ten one-sided tests. Safe: every share is shown to
    have moved less, each at alpha (intersection-union).
    """
    shifts: list[float] = []
    bounds: list[Bounds | None] = []
    tests = 2 * len(GRID)
    for n, at in enumerate((item.at, *item.parts)):
        name = item.spec.name if n == 0 else f"{item.spec.name} {n}"
        for sign in (1, -1):
            sums = evidence.sums(at)
            score = None if sums is None else paired_score(sums, sign, evidence.flags(at))
            if score is None:
                return replace(result, status="insufficient", note="a threshold of the shape is not frozen yet")
            asked = Asked(
                evidence.experiment, item.spec, evidence.frozen.get(name, {}), True, evidence.experiment.halt_alpha(item.spec) / tests
            )  # fmt: skip
            curve = score.curve("absolute")
            assert curve is not None
            shifts.append(curve.estimate)
            bounds.append(None if problem else mixture_bounds(asked, curve, curve))
    result = replace(
        result, control_value=None, treatment_value=None, relative_estimate=None, estimate=max(shifts), std_error=None,
        method="paired_exceedance", paired={}, unpaired={}, correlation=None, gain=None,
        details={**result.details, "shifts": {f"p{round(q * 100)}": shifts[2 * i] for i, q in enumerate(GRID)}},
    )  # fmt: skip
    known = [b for b in bounds if b is not None]
    if problem or len(known) < len(bounds):
        status, note = problem or ("insufficient", "constants are frozen when 30 units have pairs")
        return replace(result, status=status, note=note)
    lowers = [b.harm_lower for b in known if b.harm_lower is not None]
    uppers = [math.inf if b.harm_upper is None else b.harm_upper for b in known]
    top = max(uppers)
    log_e = max((b.harm_log_e for b in known if b.harm_log_e is not None), default=None)
    return replace(
        result, status="ok", harm_lower=max([0.0, *lowers]), harm_upper=top if math.isfinite(top) else None, ci_lower=max([0.0, *lowers]),
        ci_upper=top if math.isfinite(top) else None, harm_log_e_value=log_e,
    )  # fmt: skip
