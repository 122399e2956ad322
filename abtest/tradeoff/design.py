"""Finds how the techniques were compared, says what that means for confidence, and checks the comparison itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from abtest.results import Check
from abtest.stats.srm import sequential_srm
from abtest.tradeoff.read import Mode, Reader
from abtest.tradeoff_spec import TradeoffSpec

_DAYS_A_MONTH = 365.25 / 12
_DAY_US = 86_400_000_000
_LARGE_SHARE = 0.5
_SAMPLE_RATIO = 0.01

WORDS = {
    "paired, offline": "each request was answered by both, outside live traffic: the comparison is fair, and it speaks for these requests; "
    "live traffic may be another mix",
    "paired, shadow": "the same live requests were answered by both, and users saw one answer: the comparison is fair, and it cannot "
    "show how users react; only first turns count, later ones follow the answer that was seen",
    "paired, live": "each live request was answered by both, and users saw both",
    "randomised": "users met one technique each: differences hold for live traffic, reactions included, as far as the split was random",
    "observational": "nothing was split or paired (the versions tell the techniques apart): differences may come from who asked, or when",
    "crossed": "the same users met several techniques on different requests: neither paired nor split",
    "missing": "one side has no tasks",
}
"""What each design means for confidence."""
UNTRUSTED = {
    "observational": 'not a fair comparison: pair the requests or split the users (or say [comparison] design = "randomised")',
    "crossed": "not a fair comparison: users met both techniques on different requests",
    "missing": "one side has no tasks",
}


@dataclass(frozen=True)
class Found:
    """How one technique was compared: its design in words, how its tasks are read, and why it is not trusted."""

    name: str
    mode: Mode
    first_turns: bool
    untrusted: str = ""


def find(reader: Reader, rows: Mapping[str, Mapping[str, Any]], technique: str) -> Found:
    """Return the design of one technique from sql/tradeoff_design.sql."""
    spec = reader.spec
    base, own = rows.get(spec.baseline), rows.get(technique)
    if not base or not own:
        return Found("missing", "split", False, UNTRUSTED["missing"])
    wanted = spec.comparison.design
    paired = own["shared"] >= _LARGE_SHARE * min(int(own["requests"]), int(base["requests"]))
    if wanted == "paired" or (wanted == "auto" and paired):
        live = [int(r["exposed"]) > 0 for r in (base, own)]
        kind = "live" if all(live) else "shadow" if any(live) else "offline"
        return Found(f"paired, {kind}", "paired", kind == "shadow")
    crossed = max(int(r["crossed"]) / max(int(r["units"]), 1) for r in (base, own))
    if crossed > max(spec.comparison.max_contamination, 0.0):
        return Found("crossed", "split", False, f"{UNTRUSTED['crossed']} ({crossed:.1%} of the units)")
    if wanted == "auto" and reader.scan.derive_arms:
        return Found("observational", "split", False, UNTRUSTED["observational"])
    return Found("randomised", "split", False)


def checks(spec: TradeoffSpec, rows: Mapping[str, Mapping[str, Any]], found: Mapping[str, Found]) -> list[Check]:
    """Return what could be wrong with the comparison: missing arms, units in several, the sample ratio, unknown costs."""
    out: list[Check] = []
    missing = [arm for arm in spec.arms if arm not in rows]
    detail = f"no task of {', '.join(missing)}" if missing else "every technique has tasks"
    out.append(Check("missing_arm", "failed" if missing else "ok", detail=detail))
    if any(f.mode == "split" for f in found.values()):
        out.append(_crossed(spec, rows))
        out.append(_sample_ratio(spec, rows))
    unknown = {arm: _share(row["no_cost"], row["requests"]) for arm, row in rows.items()}
    worst = max(unknown.values(), default=0.0)
    spread = worst - min(unknown.values(), default=0.0)
    words = ", ".join(f"{arm} {share:.1%}" for arm, share in sorted(unknown.items()))
    status = "failed" if worst >= 1 else "warning" if worst > 0.05 or spread > 0.02 else "ok"
    out.append(Check("cost_known", status, detail=f"tasks without a known cost: {words}"))
    return out


def _crossed(spec: TradeoffSpec, rows: Mapping[str, Mapping[str, Any]]) -> Check:
    units = sum(int(r["units"]) for r in rows.values())
    crossed = max((int(r["crossed"]) for r in rows.values()), default=0)
    status = "failed" if units and crossed / units > spec.comparison.max_contamination else "ok"
    return Check("contamination", status, detail=f"{crossed:,} units met several techniques; they do not count")


def _sample_ratio(spec: TradeoffSpec, rows: Mapping[str, Mapping[str, Any]]) -> Check:
    shares = spec.comparison.shares
    if set(shares) != set(spec.arms) or any(arm not in rows for arm in shares):
        return Check("sample_ratio", "no_share", detail="give [comparison] shares for every arm to check the split")
    total = sum(shares.values())
    counts = [int(rows[arm]["units"]) - int(rows[arm]["crossed"]) for arm in shares]
    result = sequential_srm(counts, [s / total for s in shares.values()], _SAMPLE_RATIO)
    failed = bool(result.details.get("alarm"))
    seen = ", ".join(f"{arm} {n:,}" for arm, n in zip(shares, counts, strict=True))
    return Check("sample_ratio", "failed" if failed else "ok", result.pvalue, f"units: {seen}")


def monthly_tasks(rows: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return tasks a month at the rate of the live logs; None for less than a day, or without live requests."""
    live = sum(int(r["exposed"]) for r in rows.values())
    first, last = (f((int(r[k]) for r in rows.values()), default=0) for f, k in ((min, "first_us"), (max, "last_us")))
    if not live or last - first < _DAY_US:
        return None
    return live / ((last - first) / _DAY_US) * _DAYS_A_MONTH


def overall(found: Sequence[Found]) -> tuple[str, str]:
    """Return the design of all comparisons and what it means."""
    names = list(dict.fromkeys(f.name for f in found))
    return "; ".join(names), " ".join(WORDS[name] + "." for name in names)


def _share(part: Any, whole: Any) -> float:
    return int(part) / int(whole) if int(whole) else 0.0
