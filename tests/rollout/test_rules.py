"""What stands beside the precedence: findings from elsewhere, slow signals, stale logs, waiting times, judges."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abtest.errors import SpecError
from abtest.results import Check, Finding
from abtest.rollout.decide import decide
from abtest.rollout.rules import CHECK_CODES, FINDING_CODES, Facts, conclude
from abtest.rollout.rules_clock import duration_words, latest
from abtest.spec import Experiment
from abtest.store.store import Store
from tests.rollout.release_cases import (
    AB,
    BAKED,
    CANARY,
    COST_SAFE,
    FAILED,
    LOGGED,
    SAFE,
    SPEC,
    analysis,
    calls,
    decided,
    ingest,
    metric,
)

HALTED = replace(BAKED, latched="HALT at canary 5 %: refusals")


def found(code: str, severity: str) -> Finding:
    return Finding(code, severity, None, "said by another part")  # type: ignore[arg-type]


def slow(name: str, after: str) -> dict:
    return {**SPEC, "metrics": [{**m, "mature_after": after} if m["name"] == name else m for m in SPEC["metrics"]]}


# -- findings from elsewhere -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("severity", ["error", "critical"])
def test_an_error_found_elsewhere_holds_with_30_and_its_own_code(severity):
    outcome = decided(SAFE, COST_SAFE, extra=(found("mixed_versions", severity),))
    assert (outcome.decision, outcome.reason, outcome.exit_code) == ("hold", "mixed_versions", 30)
    assert "said by another part" in outcome.summary
    shipping = metric("help", "safe", superior=True, pvalue=0.001)
    assert decided(SAFE, COST_SAFE, shipping, stage=AB, extra=(found("mixed_versions", severity),)).exit_code == 30


@pytest.mark.parametrize("severity", ["warning", "info"])
def test_a_warning_found_elsewhere_is_reported_and_decides_nothing(severity):
    outcome = decided(SAFE, COST_SAFE, extra=(found("unresolved_rows", severity),))
    assert outcome.decision == "promote"
    assert "unresolved_rows" in {f.code for f in outcome.findings}


def test_a_check_that_failed_is_named_before_an_error_found_elsewhere():
    outcome = decided(SAFE, COST_SAFE, checks=(FAILED,), extra=(found("mixed_versions", "error"),))
    assert outcome.reason == "sample_ratio_mismatch"
    assert {"sample_ratio_mismatch", "mixed_versions"} <= {f.code for f in outcome.findings}


def test_a_halt_that_does_not_work_stays_a_halt():
    outcome = decided(SAFE, COST_SAFE, facts=HALTED, extra=(found("halt_not_effective", "critical"),))
    assert (outcome.decision, outcome.exit_code) == ("halt", 20)
    assert outcome.findings[0].code == "halt_not_effective"


def test_staleness_that_watch_found_holds_with_40():
    outcome = decided(SAFE, COST_SAFE, extra=(found("stale", "error"),))
    assert (outcome.decision, outcome.reason, outcome.exit_code) == ("hold", "stale", 40)
    assert [f.code for f in outcome.findings].count("stale") == 1


def test_a_latched_halt_is_louder_than_all_that_holds():
    for facts, extra, checks in (
        (HALTED, (), (FAILED,)),
        (HALTED, (found("mixed_versions", "error"),), ()),
        (replace(HALTED, stage_hours=0.0), (found("stale", "error"),), ()),
    ):
        outcome = decided(SAFE, COST_SAFE, facts=facts, extra=extra, checks=checks)
        assert (outcome.decision, outcome.reason, outcome.exit_code) == ("halt", "latched", 20)


def test_findings_come_loudest_first():
    order = ["critical", "error", "warning", "info"]
    outcome = decided(
        SAFE, metric("cost", "harm"), extra=(found("stale", "error"), found("mixed_versions", "critical"))
    )
    ranks = [order.index(f.severity) for f in outcome.findings]
    assert ranks == sorted(ranks)
    assert len(set(ranks)) == 4


# -- slow signals ------------------------------------------------------------------------------------------------------

YOUNG = metric("cost", "unknown", status="no_data", note="every row is too young")
SPOKEN = ({"n_treatment": 500, "treatment_value": None},)


def test_a_slow_guardrail_without_mature_data_holds_and_says_until_when():
    outcome = decided(SAFE, YOUNG, spec=slow("cost", "36h"))
    assert (outcome.decision, outcome.reason, outcome.exit_code) == ("hold", "maturing", 10)
    assert outcome.eta_hours == pytest.approx(6)
    assert "6.0 hours" in outcome.summary
    codes = {f.code: f.severity for f in outcome.findings if f.metric == "cost"}
    assert codes == {"maturing": "info"}


def test_silence_that_does_not_end_is_missing_data():
    outcome = decided(SAFE, YOUNG, spec=slow("cost", "24h"))  # the stage is 30 hours old
    assert (outcome.reason, outcome.exit_code) == ("no_data", 40)
    assert decided(SAFE, YOUNG).reason == "no_data"


def test_a_slow_guardrail_must_have_spoken_in_this_stage():
    """Safe by the stages before says nothing of what this stage's users will complain about."""
    before = metric("cost", "safe", stages=SPOKEN)
    assert decided(SAFE, before, spec=slow("cost", "36h")).reason == "maturing"
    now = metric("cost", "safe", stages=({"n_treatment": 500, "treatment_value": 0.01},))
    assert decided(SAFE, now, spec=slow("cost", "36h")).decision == "promote"
    assert decided(SAFE, before).decision == "promote"  # not a slow signal


def test_a_slow_guardrail_that_shows_harm_is_not_waited_for():
    harm = metric("cost", "harm", action="halt", stages=SPOKEN)
    assert decided(SAFE, harm, spec=slow("cost", "36h")).decision == "halt"


def test_baking_and_maturing_wait_for_the_later_of_both():
    outcome = decided(SAFE, YOUNG, facts=Facts(12, 500), spec=slow("cost", "36h"))
    assert (outcome.reason, outcome.eta_hours) == ("baking", pytest.approx(24))
    assert {"baking", "maturing"} <= {f.code for f in outcome.findings}


def test_a_slow_signal_from_the_logs(tmp_path):
    """One hour after the start nothing is two hours old; later it is, and the same spec decides."""
    guard = {**LOGGED["metrics"][0], "mature_after": "2h"}
    spec = Experiment.from_dict({**LOGGED, "metrics": [guard]})
    with Store(tmp_path / "abtest.duckdb") as store:
        ingest(store, tmp_path, calls("a", 60), calls("b", 60))
        first = decide(store, spec)
        ingest(store, tmp_path, calls("a", 300, first=60), calls("b", 300, first=60), name="more")
        second = decide(store, spec)
    assert (first.reason, first.exit_code) == ("maturing", 10), first.summary
    assert first.next["eta_hours"] == pytest.approx(2 - 59 / 60, abs=0.01)
    assert second.reason in ("inconclusive", "all_safe", "insufficient"), second.summary


# -- waiting -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("facts", "hours"), [
    (Facts(18, 500), 6.0), (Facts(50, 50), 50.0), (Facts(12, 60), 12.0), (Facts(12, 20), 48.0), (Facts(0.0, 60), None),
])  # fmt: skip
def test_baking_says_when_it_is_over(facts, hours):
    outcome = decided(SAFE, COST_SAFE, facts=facts)
    assert outcome.reason == "baking"
    assert outcome.eta_hours == (None if hours is None else pytest.approx(hours))
    assert ("more)" in outcome.summary) == (hours is not None)


def test_waiting_words():
    assert latest([1.0, 3.0]) == 3.0
    assert latest([1.0, None]) is None
    assert latest([]) is None
    assert [duration_words(h) for h in (0.0, 0.5, 6.0, 100.0)] == ["1 minute", "30 minutes", "6.0 hours", "4 days"]


def test_a_release_that_is_decided_waits_for_nothing():
    for outcome in (decided(SAFE, COST_SAFE), decided(metric("refusals", "harm"), COST_SAFE)):
        assert outcome.eta_hours is None


def test_needs_name_every_guardrail_that_is_open():
    outcome = decided(metric("refusals", "inconclusive"), metric("cost", "unknown", note="too few"))
    assert len(outcome.needs) == 2
    assert any("too few" in need for need in outcome.needs)


# -- nothing passes by chance ------------------------------------------------------------------------------------------

EXPERIMENT = Experiment.from_dict({**SPEC, "freshness": {"max_age": "6h"}})
TROUBLES = (
    "harm",
    "open",
    "silent",
    "harm_hold",
    "open_hold",
    "failed",
    "error",
    "stale",
    "latched",
    "young",
    "few",
    "empty",
)


@settings(max_examples=400)
@given(
    troubles=st.sets(st.sampled_from(TROUBLES), max_size=3), status=st.sampled_from(["insufficient", "zero_variance", "no_share"]),
    failed=st.sampled_from(["sample_ratio", "contamination", "missing_arm"]), ab=st.booleans(), better=st.booleans(),
    warned=st.booleans(), age=st.none() | st.floats(0, 21_600),
)  # fmt: skip
def test_only_what_is_safe_baked_fresh_and_trusted_goes_on(troubles, status, failed, ab, better, warned, age):
    first = "harm" if "harm" in troubles else "inconclusive" if "open" in troubles else "safe"
    refusals = (
        metric("refusals", first) if "silent" not in troubles else metric("refusals", "unknown", status="no_data")
    )
    second = "harm" if "harm_hold" in troubles else "unknown" if "open_hold" in troubles else "safe"
    cost = metric("cost", second, status=status if second == "unknown" else "ok")
    goal = {"superior": better, "pvalue": 1e-4 if better else 0.5}
    extra = [found("mixed_versions", "critical")] * ("error" in troubles) + [
        found("unresolved_rows", "warning")
    ] * warned
    facts = Facts(
        stage_hours=5.0 if "young" in troubles else 30.0,
        stage_units=0 if "empty" in troubles else 20 if "few" in troubles else 500,
        age_seconds=30_000.0 if "stale" in troubles else age,
        latched="HALT" if "latched" in troubles else None,
    )
    checks = (Check(failed, "failed", None, "x"),) if "failed" in troubles else ()
    case = analysis(refusals, cost, metric("help", "inconclusive", **goal), stage=AB if ab else CANARY, checks=checks)
    outcome = conclude(EXPERIMENT, case, facts, extra)

    harmed = "harm" in troubles and "silent" not in troubles
    if harmed:
        assert (outcome.decision, outcome.reason, outcome.exit_code) == ("halt", "harm", 20)
    elif "latched" in troubles:
        assert (outcome.decision, outcome.reason) == ("halt", "latched")
    elif troubles - ({"young", "few"} if ab else set()):  # the A/B stage of this spec asks for no baking
        assert outcome.decision == "hold", outcome.summary
        assert outcome.exit_code == (
            30 if troubles & {"failed", "error"} else 40 if troubles & {"stale", "silent", "empty"} else 10
        )
    elif ab:
        assert outcome.decision == ("ship" if better else "hold")
    else:
        assert outcome.decision == "promote"
    codes = {f.code for f in outcome.findings}
    assert codes <= set(FINDING_CODES)
    told = {
        "harm": harmed,
        "stale": "stale" in troubles,
        "harm_hold": "harm_hold" in troubles,
        "unresolved_rows": warned,
    }
    told |= {CHECK_CODES[failed]: "failed" in troubles, "mixed_versions": "error" in troubles}
    assert {code: code in codes for code in told} == told


# -- what the spec may ask ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "key"), [
    ({"policy": {"on_stale": "halt"}, "freshness": {"max_age": "1h"}}, "policy"),
    ({"policy": {"on_stale_after": "2h"}, "freshness": {"max_age": "1h"}}, "policy"),
    ({"policy": {"on_stale": "halt", "on_stale_after": "2h"}}, "policy.on_stale"),
    ({"policy": {"on_stale": "halt", "on_stale_after": "2h"}, "freshness": {"max_age": "3h"}}, "policy.on_stale_after"),
])  # fmt: skip
def test_a_halt_on_stale_logs_says_when(change, key):
    with pytest.raises(SpecError) as caught:
        Experiment.from_dict({**SPEC, **change})
    assert caught.value.key == key


def test_a_policy_that_asks_for_nothing_new_keeps_its_hash():
    """Hash of this spec as the version before `on_stale` made it: old decisions must stay replayable."""
    assert (
        Experiment.from_dict(SPEC).policy_sha256() == "dff49140467c3eed54d8318e8b51dd025161aec3c3b19f5946c55c0310035371"
    )
    asked = {"policy": {"on_stale": "halt", "on_stale_after": "2h"}, "freshness": {"max_age": "1h"}}
    without = Experiment.from_dict({**SPEC, "freshness": {"max_age": "1h"}})
    assert Experiment.from_dict({**SPEC, **asked}).policy_sha256() != without.policy_sha256()


def test_a_judge_may_hold_a_release_but_never_halt_it():
    judged = {"name": "helpful", "kind": "mean", "score": "helpful", "scorer_kind": "judge", "better": "higher"}
    margin = {"margin": {"absolute": 0.1}}
    for guardrail in (margin, {**margin, "action": "halt"}):
        with pytest.raises(SpecError) as caught:
            Experiment.from_dict({**SPEC, "metrics": [{**judged, "guardrail": guardrail}]})
        assert caught.value.key == "metrics.helpful.guardrail.action"
        assert "hold" in (caught.value.hint or "")
    Experiment.from_dict({**SPEC, "metrics": [{**judged, "guardrail": {**margin, "action": "hold"}}]})
    for kind in ("human", "user", "code"):
        Experiment.from_dict({**SPEC, "metrics": [{**judged, "scorer_kind": kind, "guardrail": margin}]})


def test_a_judge_that_a_shadow_stage_may_calibrate_holds_in_the_live_stages():
    judged = {
        **SPEC["metrics"][2],
        "success": None,
        "scorer_kind": "judge",
        "guardrail": {"margin": {"absolute": 0.02}},
    }
    spec = {**SPEC, "metrics": [*SPEC["metrics"][:2], judged], "ramp": [{"stage": "shadow"}, *SPEC["ramp"]]}
    margin = {"role": "guardrail", "margin": 0.02, "margin_kind": "absolute", "action": "halt"}
    outcome = decided(SAFE, COST_SAFE, metric("help", "harm", **margin), spec=spec)
    assert (outcome.decision, outcome.reason) == ("hold", "harm_hold")
    assert "uncalibrated_judge" in {f.code for f in outcome.findings}
    # The shadow stage has looked at the labels itself; and a score of people halts everywhere.
    shadow = decided(SAFE, COST_SAFE, metric("help", "harm", **margin), spec=spec, stage=replace(AB, kind="shadow"))
    assert shadow.decision == "halt"
    spec["metrics"][2] = {**judged, "scorer_kind": "human"}
    assert decided(SAFE, COST_SAFE, metric("help", "harm", **margin), spec=spec).decision == "halt"
