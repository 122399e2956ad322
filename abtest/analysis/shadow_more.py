"""What else pairs of answers tell: agreement, McNemar, the noise floor, how traffic was mirrored, and what a judge is worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import special

from abtest.analysis.judge import MIN_UNITS
from abtest.analysis.shadow_plan import Item
from abtest.analysis.shadow_read import ShadowEvidence
from abtest.analysis.shadow_score import paired_score
from abtest.metrics.distribution import DistributionMetric
from abtest.results import Estimate, finite
from abtest.stats.paired import mcnemar, mcnemar_e_process
from abtest.stats.ppi import ppi_difference, ppi_mean

Row = Mapping[str, Any]
_FIELDS = ("refused", "format_ok", "is_error", "finish_reason", "response")
PARTLY = 0.05
"""Share of the mirrored sessions with several requests of which only a part was mirrored; above it, sampling was by request."""
_POWER = 0.8


def agreement(evidence: ShadowEvidence) -> dict[str, Any]:
    """Return, by field, in how many of the pairs that can tell both answers say the same; `response` needs kept texts."""
    found: dict[str, Any] = {}
    for name in _FIELDS:
        known = int(evidence.agreement.get(f"{name}_known", 0))
        same = int(evidence.agreement.get(f"{name}_same", 0))
        found[name] = {"pairs": known, "same": same, "rate": same / known if known else None}
    found["embedding_similarity"] = _similarity(evidence)
    return found


def _similarity(evidence: ShadowEvidence) -> dict[str, Any] | None:
    """Return the mean similarity of the answers as it was logged, with an interval clustered by unit; None where there is none."""
    for at in evidence.plan.similarity:
        sums = evidence.sums(at)
        if sums is None or sums.sums["b"] == 0:
            continue
        y, mean = sums.total("b"), sums.total("a") / sums.total("b")
        form = {"a": 1 / y, "b": -mean / y}
        se = math.sqrt(float(sums.form(form, form)))
        z = float(special.ndtri(1 - float(evidence.experiment.alpha) / 2))
        enough = sums.units >= MIN_UNITS
        return {
            "pairs": int(evidence.facts[f"known{at}"]), "mean": float(mean), "std_error": se if enough else None,
            "lower": float(mean) - z * se if enough else None, "upper": float(mean) + z * se if enough else None,
        }  # fmt: skip
    return None


def mcnemar_tables(evidence: ShadowEvidence) -> list[dict[str, Any]]:
    """Return, for refusals and every other yes-or-no metric, the table of pairs with McNemar's test and its e-process."""
    tables: list[dict[str, Any]] = []
    for item in evidence.plan.items:
        m = evidence.plan.measures[item.at]
        if not m.flag or m.measure.quantile or item.excluded or not int(evidence.facts.get(f"known{item.at}", 0)):
            continue
        both, only_t, only_c, neither = (
            int(evidence.facts[f"{n}{item.at}"]) for n in ("both", "treated", "only", "neither")
        )
        alpha = float(evidence.experiment.alpha)
        exact, sequential = mcnemar(only_c, only_t, alpha=alpha), mcnemar_e_process(only_c, only_t, alpha=alpha)
        tables.append({
            "metric": item.spec.name, "both": both, "only_control": only_c, "only_treatment": only_t, "neither": neither,
            "pvalue": exact.pvalue, "log_e_value": finite(sequential.log_e_value), "anytime_pvalue": finite(sequential.pvalue),
            "status": exact.status, "note": sequential.note,
        })  # fmt: skip
    return tables


# -- the models' own noise ---------------------------------------------------------------------------------------


def noise_floor(evidence: ShadowEvidence) -> dict[str, Any]:
    """Return, by metric, what repeated answers tell: the smallest difference that the pairs can tell from the models' noise.

    Two answers of one model to one request differ with variance 2 s² when nothing changed. With N pairs (those that are planned, or
    those there are when these are more) the floor is (z_{1 - alpha/2} + z_power) √((s_C² m_C + s_T² m_T) / N), m the mean of one over the
    number of answers an arm gave; an arm without repeats is taken to be as noisy as the other.
    """
    pairs = max(evidence.experiment.shadow.pairs or 0, evidence.pairs)
    alpha = float(evidence.experiment.alpha)
    z = float(special.ndtri(1 - alpha / 2) + special.ndtri(_POWER))
    averaged = [_mean_inverse(evidence, name) for name in ("inverse_c", "inverse_t")]
    metrics: list[dict[str, Any]] = []
    for item in evidence.plan.items:
        m = evidence.plan.measures[item.at]
        if m.form != "mean" or isinstance(item.spec, DistributionMetric) or m.measure.quantile or item.excluded:
            continue
        rows = [r for r in evidence.noise if int(r["metric"]) == item.at]
        within = {arm: _within(rows, arm, m.x_scale * evidence.common) for arm in _arms(evidence)}
        known = [v for v, _, _ in within.values() if v is not None]
        if not known:
            continue
        control, treatment = (v if v is not None else max(known) for v, _, _ in within.values())
        variance = control * averaged[0] + treatment * averaged[1]
        metrics.append({
            "metric": item.spec.name, "within_variance_control": within[_arms(evidence)[0]][0],
            "within_variance_treatment": within[_arms(evidence)[1]][0], "requests": sum(n for _, n, _ in within.values()),
            "df": sum(d for _, _, d in within.values()), "pairs": pairs, "floor": z * math.sqrt(variance / pairs) if pairs else None,
        })  # fmt: skip
    return {"power": _POWER, "alpha": alpha, "metrics": metrics}


def _arms(evidence: ShadowEvidence) -> tuple[str, str]:
    return evidence.experiment.control, evidence.experiment.treatments[0]


def _mean_inverse(evidence: ShadowEvidence, name: str) -> float:
    return int(evidence.facts[name]) / (evidence.common * evidence.pairs) if evidence.pairs else 1.0


def _within(rows: Sequence[Row], arm: str, scale: int) -> tuple[float | None, int, int]:
    """Return the variance within a request, how many requests were repeated, and its degrees of freedom."""
    mine = [r for r in rows if r["arm"] == arm]
    df = sum(int(r["requests"]) * (int(r["answers"]) - 1) for r in mine)
    total = sum(int(r["spread"]) / int(r["answers"]) for r in mine)
    return (total / df / scale**2 if df else None), sum(int(r["requests"]) for r in mine), df


def below_floor(evidence: ShadowEvidence, item: Item, floor: float | None) -> tuple[float, float] | None:
    """Return (margin, floor), in the metric's unit, of a guardrail whose margin so many pairs cannot tell from noise."""
    if item.spec.guardrail is None or not item.listed or floor is None:
        return None
    margin = item.spec.guardrail.margin
    size = margin.value
    if margin.kind == "relative":
        sums = evidence.sums(item.at)
        score = None if sums is None else paired_score(sums, 1)
        if score is None:
            return None
        size *= abs(score.control)
    return (size, floor) if size < floor else None


# -- sampling ----------------------------------------------------------------------------------------------------


def sampled(evidence: ShadowEvidence) -> dict[str, Any]:
    """Return how traffic was mirrored: the share of sessions, and whether whole sessions were taken or single requests."""
    s = {k: int(v) for k, v in evidence.sessions.items()}
    sessions, several, partly = s.get("sessions", 0), s.get("several", 0), s.get("partly", 0)
    by = None if not several else "request" if partly > PARTLY * several else "session"
    facts = evidence.facts
    return {
        "sessions": sessions, "sessions_mirrored": s.get("mirrored", 0), "share": s["mirrored"] / sessions if sessions else None,
        "sessions_with_several": several, "sessions_partly": partly, "by": by,
        "requests": s.get("requests", 0), "requests_mirrored": s.get("mirrored_requests", 0),
        "matched": int(facts.get("matched", 0)), "no_unit": int(facts.get("no_unit", 0)),
        "later_turns": int(facts.get("later_turns", 0)), "turns": evidence.experiment.shadow.turns,
        "repeated": int(facts.get("repeated", 0)), "candidate_seen": int(facts.get("treatment_seen", 0)),
    }  # fmt: skip


# -- judge and people --------------------------------------------------------------------------------------------


def judged_by_model(evidence: ShadowEvidence, item: Item) -> bool:
    """Return whether a metric stands on what a judge model said."""
    return item.judge is not None and int(evidence.facts.get(f"known{item.judge}", 0)) > 0


def calibrations(evidence: ShadowEvidence) -> dict[str, Any]:
    """Return, by metric that a judge scored and people labelled in part, what people would say (PPI++ over units)."""
    out: dict[str, Any] = {}
    for item in evidence.plan.items:
        if item.judge is None or not evidence.labels.get(item.judge):
            continue
        scale = evidence.plan.measures[item.judge].x_scale * evidence.common
        found = ppi_of(evidence.labels[item.judge], scale, float(evidence.experiment.alpha))
        if found is not None:
            out[item.spec.name] = found
    return out


def ppi_of(rows: Sequence[Row], scale: int, alpha: float) -> dict[str, Any] | None:
    """Return PPI++ of each arm, of their difference, and of the units' own differences, from units by label and score.

    Args:
        rows: arm ("control", "treatment", "difference"), label (None without one), judged, units; whole multiples of 1/scale.
        scale: Fixed-point scale.
        alpha: Error level; the intervals are for one look.

    Returns:
        None where nobody has labelled anything.
    """
    if all(r["label"] is None for r in rows):
        return None
    arms = {arm: _ppi(rows, arm, scale, alpha) for arm in ("control", "treatment", "difference")}
    apart = ppi_difference(arms["control"], arms["treatment"], alpha=alpha)
    labelled = [int(arms[a].details.get("n_labelled", 0)) for a in ("control", "treatment")]
    return {
        "control": _numbers(arms["control"]), "treatment": _numbers(arms["treatment"]), "difference": _numbers(apart),
        "paired_difference": _numbers(arms["difference"]), "labelled_units": min(labelled), "enough": min(labelled) >= MIN_UNITS,
    }  # fmt: skip


def _ppi(rows: Sequence[Row], arm: str, scale: int, alpha: float) -> Estimate:
    mine = [r for r in rows if r["arm"] == arm]
    with_label = [r for r in mine if r["label"] is not None]
    without = [r for r in mine if r["label"] is None]

    def spread(some: Sequence[Row], name: str) -> Any:
        values = np.array([int(r[name]) for r in some], dtype=float) / scale
        return np.repeat(values, [int(r["units"]) for r in some])

    labels, judged, rest = spread(with_label, "label"), spread(with_label, "judged"), spread(without, "judged")
    return ppi_mean(labels, judged, rest, alpha=alpha)


def _numbers(estimate: Estimate) -> dict[str, Any]:
    keep = ("value", "std_error", "lower", "upper", "pvalue", "status", "note")
    numbers = {k: getattr(estimate, k) for k in keep}
    return {**numbers, **{k: v for k, v in estimate.details.items() if k != "statistic"}}
