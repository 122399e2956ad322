"""Mixed versions: an arm must run one thing. Two prompts or models inside an arm make its average mean nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abtest.analysis.read import Evidence
from abtest.results import Check
from abtest.store.query import MANIFEST_FIELDS

NAME = "mixed_versions"
BLOCKING = True
_LIMIT = 0.01


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
        usual = {f: rows[0][f] for f in MANIFEST_FIELDS}
        others = [(r, differing) for r in rows if (differing := _differing(r, {**usual, **declared}))]
        count = sum(int(r["calls"]) for r, _ in others)
        arms[arm] = {"calls": calls, "other_version": count, "share": count / calls}
        if count / calls > _LIMIT:
            row, field = others[0][0], others[0][1]
            expected = {**usual, **declared}[field]
            wrong.append(f"{arm}: {count} of {calls} calls ran {field} {row[field]!r} instead of {expected!r}")
    if wrong:
        return Check(NAME, "failed", None, "; ".join(wrong), {"arms": arms})
    return Check(NAME, "ok", None, "each arm runs one version", {"arms": arms})


def _differing(row: Mapping[str, Any], expected: Mapping[str, Any]) -> str | None:
    """Return the first field that says something else; what a log does not carry is unknown, not different."""
    return next((f for f in MANIFEST_FIELDS if row[f] is not None and expected.get(f) is not None and row[f] != expected[f]), None)
