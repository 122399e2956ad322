"""What the tests of decisions start from: a spec, results with a verdict, logs that are written, ingested and decided."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from abtest.results import Analysis, Arm, Check, Decision, Finding, MetricResult, Stage
from abtest.rollout.decide import decide
from abtest.rollout.rules import FINDING_CODES, Facts, Outcome, conclude
from abtest.spec import Experiment
from abtest.store.store import Store

SPEC: dict[str, Any] = {
    "id": "e", "control": "a", "treatments": ["b"],
    "metrics": [
        {"name": "refusals", "kind": "proportion", "event": "refused", "better": "lower", "guardrail": {"margin": {"points": 0.01}, "action": "halt"}},
        {"name": "cost", "kind": "mean", "value": "cost_usd", "better": "lower", "guardrail": {"margin": {"relative": 0.1}, "action": "hold"}},
        {"name": "help", "kind": "mean", "score": "help", "better": "higher", "success": {"mde": {"absolute": 0.02}}},
    ],
    "ramp": [{"stage": "canary", "share": 0.05, "min_hours": 24, "min_units": 100, "max_days": 3}, {"stage": "ab", "share": 0.5, "max_days": 7}],
}  # fmt: skip
CANARY = Stage(0, "canary 5 %", 0.05, "canary")
AB = Stage(1, "A/B 50 %", 0.5, "ab")
BAKED = Facts(stage_hours=30, stage_units=500)


def metric(name: str, verdict: str, **changes: Any) -> MetricResult:
    guardrail = {"refusals": (0.01, "points", "halt"), "cost": (0.1, "relative", "hold")}.get(name)
    bounds = {"safe": (-0.002, 0.004), "harm": (0.02, 0.5), "inconclusive": (0.0, 0.3), "unknown": (None, None)}[
        verdict
    ]
    base = MetricResult(
        metric=name, kind="mean" if name != "refusals" else "proportion", role="guardrail" if guardrail else "success",
        better="higher" if name == "help" else "lower", unit="", control="a", treatment="b", estimate=0.03, ci_lower=0.01, ci_upper=0.05,
        relative_estimate=0.3, relative_ci_lower=0.1, relative_ci_upper=0.5, harm_lower=bounds[0], harm_upper=bounds[1], verdict=verdict,  # type: ignore[arg-type]
        status="ok" if verdict != "unknown" else "insufficient", n_control=900, n_treatment=500, pvalue=0.5, superior=False,
    )  # fmt: skip
    if guardrail:
        base = replace(base, margin=guardrail[0], margin_kind=guardrail[1], action=guardrail[2])
    return replace(base, **changes)


def analysis(
    *metrics: MetricResult, stage: Stage = CANARY, checks: tuple[Check, ...] = (), units: int = 500
) -> Analysis:
    return Analysis(
        "e", 1, stage, "2026-11-20T00:00:00Z", "a", (Arm("a", units, units), Arm("b", units, units)), metrics, checks
    )


def decided(
    *metrics: MetricResult,
    facts: Facts = BAKED,
    spec: dict[str, Any] = SPEC,
    extra: tuple[Finding, ...] = (),
    **more: Any,
) -> Outcome:
    outcome = conclude(Experiment.from_dict(spec), analysis(*metrics, **more), facts, extra)
    assert outcome.reason in FINDING_CODES
    assert {f.code for f in outcome.findings} <= set(FINDING_CODES)
    return outcome


SAFE, COST_SAFE = metric("refusals", "safe"), metric("cost", "safe")
FAILED = Check("sample_ratio", "failed", 1e-9, "units are lost")


# -- logs ----------------------------------------------------------------------------------------------------------

START = datetime(2026, 11, 2, tzinfo=UTC)
LOGGED: dict[str, Any] = {
    "id": "e", "control": "a", "treatments": ["b"], "warm_up_units": 30, "start": START,
    "metrics": [{"name": "refusals", "kind": "proportion", "event": "refused", "better": "lower", "guardrail": {"margin": {"points": 0.05}}}],
    "allocation": [{"at": START, "share": 0.5}],
    "ramp": [{"stage": "canary", "share": 0.5}],
}  # fmt: skip
COST = {
    "name": "cost",
    "kind": "mean",
    "value": "cost_usd",
    "better": "lower",
    "guardrail": {"margin": {"relative": 0.2}},
}
ERRORS = {
    "name": "errors",
    "kind": "proportion",
    "event": "is_error",
    "better": "lower",
    "guardrail": {"margin": {"points": 0.01}},
}


def calls(arm: str, units: int, *, first: int = 0, hour: float = 0.0, **columns: Any) -> list[dict[str, Any]]:
    """Return one call a unit, a minute apart; a column may be a function of the unit's number."""
    return [
        {
            "type": "interaction", "experiment_id": "e", "interaction_id": f"{arm}{i}", "request_id": f"{arm}{i}",
            "ts": (START + timedelta(hours=hour, minutes=i)).isoformat(), "model": "m", "operation": "chat",
            "unit_id": f"{arm}{i}", "variant": arm, "refused": False,
            **{name: value(i) if callable(value) else value for name, value in columns.items()},
        }
        for i in range(first, first + units)
    ]  # fmt: skip


def ingest(store: Store, folder: Path, *rows: Iterable[Mapping[str, Any]], name: str = "logs") -> None:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for part in rows for row in part))
    assert store.ingest(path, source="native").quarantined == 0


def decide_on(folder: Path, *rows: Iterable[Mapping[str, Any]], **spec: Any) -> Decision:
    """Write logs, ingest them and decide."""
    with Store(folder / "abtest.duckdb") as store:
        ingest(store, folder, *rows)
        return decide(store, Experiment.from_dict({**LOGGED, **spec}))
