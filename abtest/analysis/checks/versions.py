"""Mixed versions: an arm must run one thing. Two prompts or models inside an arm make its average mean nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from abtest.analysis.evidence import Evidence
from abtest.results import Check
from abtest.store.query import MANIFEST_FIELDS

NAME = "mixed_versions"
BLOCKING = True
_LIMIT = 0.01
_CHANGES_WITH_THE_RAMP = {"ruleset_version"}
"""The flag's own version grows with every step of the ramp; only an arm that declares it is held to it."""


def run(evidence: Evidence) -> Check:
    """Compare every call's manifest with what the arm declares, else with the arm's most frequent one; unknown fields pass."""
    if not evidence.manifests:
        return Check(NAME, "no_data", detail="no rows yet")
    wrong: list[str] = []
    arms: dict[str, Any] = {}
    for arm in evidence.experiment.arm_names:
        rows = [r for r in evidence.manifests if r["arm"] == arm]
        calls = sum(int(r["calls"]) for r in rows)
        if not calls:
            continue
        declared = evidence.experiment.arms[arm].declared if arm in evidence.experiment.arms else {}
        expected = {
            f: declared.get(f) or _usual(rows, f)
            for f in MANIFEST_FIELDS
            if f not in _CHANGES_WITH_THE_RAMP or f in declared
        }
        others = [(r, differing) for r in rows if (differing := _differing(r, expected))]
        count = sum(int(r["calls"]) for r, _ in others)
        arms[arm] = {"calls": calls, "other_version": count, "share": count / calls}
        if count / calls > _LIMIT:
            row, field = others[0][0], others[0][1]
            wrong.append(f"{arm}: {count} of {calls} calls ran {field} {row[field]!r} instead of {expected[field]!r}")
    if wrong:
        return Check(NAME, "failed", None, "; ".join(wrong), {"arms": arms})
    return Check(NAME, "ok", None, "each arm runs one version", {"arms": arms})


def _usual(rows: Sequence[Mapping[str, Any]], field: str) -> Any:
    """Return the most frequent known value of a field."""
    counts: Counter[Any] = Counter()
    for row in rows:
        if row[field] is not None:
            counts[row[field]] += int(row["calls"])
    return min(counts, key=lambda value: (-counts[value], str(value))) if counts else None


def _differing(row: Mapping[str, Any], expected: Mapping[str, Any]) -> str | None:
    """Return the first field that says something else; what a log does not carry is unknown, not different."""
    return next(
        (f for f, value in expected.items() if row[f] is not None and value is not None and row[f] != value), None
    )
