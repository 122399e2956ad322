"""The paired comparison from the records themselves, row by row, in numpy: what the SQL and the exact moments must agree with."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from shadow_logs import CANDIDATE, CONTROL

Record = Mapping[str, Any]
Value = tuple[float, float]
"""Numerator and denominator of one answer, or of one arm's answers to one request."""


@dataclass
class Units:
    """Per unit: the candidate's numerator and denominator, then control's; shape (units,) each."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    d: np.ndarray
    pairs: int

    def comparison(self) -> dict[str, float]:
        """Return values, plug-in standard errors with and without pairing, and what pairing was worth."""
        r_t, r_c = self.a.sum() / self.b.sum(), self.c.sum() / self.d.sum()
        psi_t, psi_c = (self.a - r_t * self.b) / self.b.sum(), (self.c - r_c * self.d) / self.d.sum()
        paired, apart = ((psi_t - psi_c) ** 2).sum(), (psi_t**2).sum() + (psi_c**2).sum()
        return {
            "control": r_c, "treatment": r_t, "estimate": r_t - r_c, "se": math.sqrt(paired), "se_apart": math.sqrt(apart),
            "gain": apart / paired, "correlation": (psi_t * psi_c).sum() / math.sqrt((psi_t**2).sum() * (psi_c**2).sum()),
        }  # fmt: skip

    def score(self, harm: float, sign: int, *, relative: bool) -> tuple[float, float]:
        """Return S and v at a harm: every unit's contribution, summed, and summed squared."""
        y_t, y_c = self.b.sum(), self.d.sum()
        r_c, w = self.c.sum() / y_c, 2 * y_t * y_c / (y_t + y_c)
        c, shift = (1 + sign * harm, 0.0) if relative else (1.0, sign * harm)
        d = w / y_t * (self.a - (c * r_c + shift) * self.b) - c * w / y_c * (self.c - r_c * self.d)
        return float(sign * d.sum()), float((d * d).sum())


def answers_of(records: Sequence[Record], arm: str, *, order: str = "last") -> dict[str, list[list[Record]]]:
    """Return request -> answers of an arm -> attempts, the one that stands for the answer first."""
    found: dict[str, dict[Any, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for r in records:
        if r.get("type", "interaction") == "interaction" and r["variant"] == arm:
            found[r["request_id"]][r.get("repeat", 0), r["exposed"]].append(r)

    def key(r: Record) -> Any:
        return (r["ts"], r.get("attempt") or 0, r["interaction_id"])

    return {
        request: [sorted(rows, key=key, reverse=order != "first") for _, rows in sorted(answers.items())]
        for request, answers in found.items()
    }


def units_of(
    records: Sequence[Record], measure: Callable[[list[Record]], Value | None], *, form: str, order: str = "last", turns: str = "first"
) -> Units:  # fmt: skip
    """Return the sums by unit of one metric.

    Args:
        records: The log.
        measure: Answer (its attempts) -> numerator and denominator, or None when it cannot tell.
        form: "mean": an arm's value of a request is Σx / Σy; "sum": Σx and Σy over the number of answers; "unit": "sum" with one a unit.
        order: Which attempt stands for an answer.
        turns: Which turns count.
    """
    control, candidate = answers_of(records, CONTROL, order=order), answers_of(records, CANDIDATE, order=order)
    totals: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(4))
    pairs = 0
    for request, seen in control.items():
        if request not in candidate or not any(r["exposed"] for answer in seen for r in answer):
            continue
        rows = [r for answer in (*seen, *candidate[request]) for r in answer]
        if turns == "first" and max(r.get("turn", 1) for r in rows) > 1:
            continue
        unit = next(r["unit_id"] for answer in seen for r in answer)
        sides = [_side([measure(answer) for answer in side], form) for side in (candidate[request], seen)]
        totals[unit] += 0.0
        if sides[0] is None or sides[1] is None:
            continue
        pairs += 1
        totals[unit] += np.array([*sides[0], *sides[1]])
    table = np.array([totals[u] for u in sorted(totals)])
    if form == "unit":
        table[:, [1, 3]] = np.minimum(table[:, [1, 3]], 1)
    return Units(*table.T, pairs)


def _side(values: list[Value | None], form: str) -> Value | None:
    known = [v for v in values if v is not None]
    if not known:
        return None
    x, y = sum(v[0] for v in known), sum(v[1] for v in known)
    if form == "mean":
        return (x / y, 1.0) if y else None
    return x / len(values), (1.0 if form == "unit" else y / len(values))
