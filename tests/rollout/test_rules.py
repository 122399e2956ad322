"""The precedence of RELEASES §2: the first rule that matches decides, all findings are reported."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from abtest.results import Analysis, Arm, Check, MetricResult, Stage
from abtest.rollout.rules import CHECK_CODES, FINDING_CODES, Facts, conclude
from abtest.spec import Experiment

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


def decided(*metrics: MetricResult, facts: Facts = BAKED, spec: dict[str, Any] = SPEC, **more: Any):
    outcome = conclude(Experiment.from_dict(spec), analysis(*metrics, **more), facts)
    assert outcome.reason in FINDING_CODES
    assert {f.code for f in outcome.findings} <= set(FINDING_CODES)
    return outcome


SAFE, COST = metric("refusals", "safe"), metric("cost", "safe")
FAILED = Check("sample_ratio", "failed", 1e-9, "units are lost")


def test_harm_halts_even_when_the_sample_ratio_is_off_and_both_are_reported():
    outcome = decided(metric("refusals", "harm"), COST, checks=(FAILED,))
    assert (outcome.decision, outcome.reason, outcome.exit_code) == ("halt", "harm", 20)
    assert {"harm", "sample_ratio_mismatch"} <= {f.code for f in outcome.findings}
    assert outcome.findings[0].severity in ("critical", "error")


def test_harm_halts_before_baking_is_over():
    assert decided(metric("refusals", "harm"), COST, facts=Facts(1, 5)).decision == "halt"


@pytest.mark.parametrize("name", ["sample_ratio", "contamination", "missing_arm", "mixed_versions", "randomised"])
def test_what_cannot_be_trusted_holds_with_30(name):
    outcome = decided(SAFE, COST, checks=(Check(name, "failed", None, "x"),))
    assert (outcome.decision, outcome.reason, outcome.exit_code) == ("hold", CHECK_CODES[name], 30)


@pytest.mark.parametrize("name", ["returning_ratio", "unresolved_rows"])
def test_warnings_are_reported_and_decide_nothing(name):
    outcome = decided(SAFE, COST, checks=(Check(name, "warning", None, "x"),))
    assert outcome.decision == "promote"
    assert CHECK_CODES[name] in {f.code for f in outcome.findings}


def test_no_data_holds_with_40():
    assert decided(SAFE, metric("cost", "unknown", status="no_data", note="NULL")).exit_code == 40
    assert decided(SAFE, COST, units=0).reason == "no_data"


def test_stale_data_holds_with_40():
    spec = {**SPEC, "freshness": {"max_age": "6h"}}
    old, young = replace(BAKED, age_seconds=7 * 3600.0), replace(BAKED, age_seconds=3600.0)
    assert (decided(SAFE, COST, facts=old, spec=spec).reason, decided(SAFE, COST, facts=old, spec=spec).exit_code) == (
        "stale",
        40,
    )
    assert decided(SAFE, COST, facts=young, spec=spec).decision == "promote"
    assert decided(SAFE, COST, facts=old).decision == "promote"  # nobody asked for freshness


@pytest.mark.parametrize("facts", [Facts(23, 500), Facts(30, 99)])
def test_baking_needs_time_and_units(facts):
    outcome = decided(SAFE, COST, facts=facts)
    assert (outcome.decision, outcome.reason, outcome.exit_code) == ("hold", "baking", 10)


def test_undecided_holds_and_says_on_what():
    outcome = decided(metric("refusals", "inconclusive"), COST)
    assert (outcome.reason, outcome.exit_code) == ("inconclusive", 10)
    assert "refusals" in outcome.summary
    assert decided(SAFE, metric("cost", "unknown")).reason == "insufficient"


@pytest.mark.parametrize(("rule", "decision"), [("hold", "hold"), ("halt", "halt"), ("promote_if_harmless", "promote")])
def test_at_max_days_the_policy_decides(rule, decision):
    spec = {**SPEC, "policy": {"on_timeout": rule}}
    late = Facts(stage_hours=73, stage_units=500)
    outcome = decided(metric("refusals", "inconclusive"), COST, facts=late, spec=spec)
    assert outcome.decision == decision
    assert "timeout" in {f.code for f in outcome.findings}
    assert decided(metric("refusals", "inconclusive"), COST, spec=spec).decision == "hold"  # not yet
    # What cannot be computed is not harmless.
    assert decided(metric("refusals", "unknown"), COST, facts=late, spec=spec).decision != "promote"


def test_harm_on_a_hold_guardrail_holds():
    outcome = decided(SAFE, metric("cost", "harm"))
    assert (outcome.decision, outcome.reason, outcome.exit_code) == ("hold", "harm_hold", 10)


def test_all_safe_promotes_and_names_the_next_stage():
    outcome = decided(SAFE, COST)
    assert (outcome.decision, outcome.exit_code) == ("promote", 0)
    assert "A/B 50 %" in outcome.summary


def test_the_ab_stage_ships_only_what_is_better():
    better = metric("help", "safe", superior=True, pvalue=0.001)
    worse = metric("help", "harm", superior=False, pvalue=0.001)
    same = metric("help", "inconclusive", superior=False, pvalue=0.6)
    assert (decided(SAFE, COST, better, stage=AB).decision, decided(SAFE, COST, better, stage=AB).exit_code) == (
        "ship",
        0,
    )
    assert decided(SAFE, COST, same, stage=AB).reason == "not_superior"
    assert decided(SAFE, COST, worse, stage=AB).reason == "deterioration"
    assert decided(metric("refusals", "inconclusive"), COST, better, stage=AB).decision == "hold"
    # Two success metrics: Holm over both.
    close = metric("help", "safe", superior=True, pvalue=0.04)
    assert decided(SAFE, COST, close, stage=AB).decision == "ship"
    assert decided(SAFE, COST, close, metric("help", "inconclusive", pvalue=0.9), stage=AB).decision == "hold"


def test_nothing_is_safe_without_a_guardrail():
    assert decided(metric("help", "safe", superior=True, pvalue=0.001)).reason == "no_guardrails"


def test_a_latched_halt_stands_whatever_the_evidence_says():
    outcome = decided(SAFE, COST, facts=replace(BAKED, latched="HALT at canary 5 %: refusals"))
    assert (outcome.decision, outcome.reason, outcome.exit_code) == ("halt", "latched", 20)


def test_an_override_wins_and_hides_nothing():
    told = {"decision": "promote", "actor": "kim", "reason": "known", "expires": "2999-01-01T00:00:00Z"}
    outcome = decided(metric("refusals", "harm"), COST, facts=replace(BAKED, override=told))
    assert (outcome.decision, outcome.reason, outcome.exit_code) == ("promote", "override", 0)
    assert {"harm", "override"} <= {f.code for f in outcome.findings}
    assert "HALT" in outcome.summary
