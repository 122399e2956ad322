"""Every line of RELEASES §2 as a test that fails when the behaviour is turned round; the number of the rule is in the name."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

import pytest

from abtest.analysis.read import read
from abtest.analysis.times import to_us
from abtest.errors import LedgerError, SpecError
from abtest.results import Check, Finding
from abtest.rollout.decide import decide, override
from abtest.rollout.facts import facts_of, latched
from abtest.rollout.rules import CHECK_CODES, Facts
from abtest.spec import Experiment
from abtest.store import ledger
from abtest.store.store import Store
from tests.rollout.release_cases import (
    AB,
    BAKED,
    COST,
    COST_SAFE,
    FAILED,
    LOGGED,
    SAFE,
    SPEC,
    START,
    calls,
    decide_on,
    decided,
    ingest,
    metric,
)

HARM = metric("refusals", "harm")
FRESH = {**SPEC, "freshness": {"max_age": "6h"}}
OLD = replace(BAKED, age_seconds=7 * 3600.0)
LATE = Facts(stage_hours=73, stage_units=500)
KIM = {"decision": "promote", "actor": "kim", "reason": "known", "expires": "2999-01-01T00:00:00Z"}


# -- 0. override -------------------------------------------------------------------------------------------------------


def test_0_an_override_decides_before_everything_and_hides_nothing():
    facts = replace(OLD, override=KIM, latched="HALT at canary 5 %: refusals")
    outcome = decided(HARM, COST_SAFE, facts=facts, spec=FRESH, checks=(FAILED,))
    assert (outcome.decision, outcome.reason, outcome.exit_code) == ("promote", "override", 0)
    assert {"harm", "sample_ratio_mismatch", "stale", "override"} <= {f.code for f in outcome.findings}
    assert "HALT" in outcome.summary
    assert all(word in outcome.summary for word in ("kim", "known", "2999-01-01"))


def test_0_an_override_expires(tmp_path):
    experiment = Experiment.from_dict(LOGGED)
    with Store(tmp_path / "abtest.duckdb") as store:
        ingest(store, tmp_path, calls("a", 5), calls("b", 5))
        made = override(store, experiment, "promote", reason="x", actor="kim", expires="2999-01-01T00:00:00Z")
        past, evidence = ledger.entries(store.connection), read(store, experiment)
        until = int(made.body["expires_us"])
        before = facts_of(experiment, evidence, past, now_us=until - 1, judge_age=False)
        after = facts_of(experiment, evidence, past, now_us=until, judge_age=False)
    assert before.override is not None
    assert before.override["actor"] == "kim"
    assert after.override is None


# -- 1. harm on a halt guardrail ---------------------------------------------------------------------------------------


def test_1_harm_halts_even_when_the_sample_ratio_is_off_and_both_are_reported():
    outcome = decided(HARM, COST_SAFE, checks=(FAILED,))
    assert (outcome.decision, outcome.reason, outcome.exit_code) == ("halt", "harm", 20)
    assert {"harm", "sample_ratio_mismatch"} <= {f.code for f in outcome.findings}


def test_1_harm_halts_whatever_else_there_is():
    error = Finding("mixed_versions", "critical", None, "two prompts")
    for facts in (Facts(1, 5), OLD, replace(OLD, stage_hours=1)):
        outcome = decided(HARM, metric("cost", "unknown", status="no_data"), facts=facts, spec=FRESH, extra=(error,))
        assert (outcome.decision, outcome.reason, outcome.exit_code) == ("halt", "harm", 20)
        assert {"harm", "mixed_versions", "no_data"} <= {f.code for f in outcome.findings}


def test_1_harm_several_times_the_margin_is_the_same_decision_said_louder():
    some, much = (decided(metric("refusals", "harm", harm_lower=lower), COST_SAFE) for lower in (0.02, 0.04))
    assert (some.decision, some.reason) == (much.decision, much.reason) == ("halt", "harm")
    severity = [next(f.severity for f in o.findings if f.code == "harm") for o in (some, much)]
    assert severity == ["error", "critical"]
    assert "4.0 times" in much.summary
    assert "times" not in some.summary


def test_1_the_worst_harm_is_named_first_and_the_others_too():
    cost = metric("cost", "harm", action="halt", harm_lower=0.9)
    outcome = decided(metric("refusals", "harm", harm_lower=0.011), cost)
    assert outcome.summary.index("cost") < outcome.summary.index("refusals")


# -- 2. not trustworthy ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sample_ratio", "contamination", "missing_arm", "mixed_versions", "randomised"])
def test_2_what_cannot_be_trusted_holds_with_30(name):
    outcome = decided(SAFE, COST_SAFE, checks=(Check(name, "failed", None, "x"),))
    assert (outcome.decision, outcome.reason, outcome.exit_code) == ("hold", CHECK_CODES[name], 30)


def test_2_comes_before_stale_and_missing_data():
    silent = metric("cost", "unknown", status="no_data")
    outcome = decided(SAFE, silent, checks=(FAILED,), facts=OLD, spec=FRESH)
    assert outcome.reason == "sample_ratio_mismatch"
    assert {"stale", "no_data"} <= {f.code for f in outcome.findings}


@pytest.mark.parametrize("name", ["returning_ratio", "unresolved_rows"])
def test_2_warnings_are_reported_and_decide_nothing(name):
    outcome = decided(SAFE, COST_SAFE, checks=(Check(name, "warning", None, "x"),))
    assert outcome.decision == "promote"
    assert CHECK_CODES[name] in {f.code for f in outcome.findings}


# -- 3. stale ----------------------------------------------------------------------------------------------------------


def test_3_stale_data_hold_with_40_where_freshness_is_asked_for():
    outcome = decided(SAFE, COST_SAFE, facts=OLD, spec=FRESH)
    assert (outcome.decision, outcome.reason, outcome.exit_code) == ("hold", "stale", 40)
    assert "7.0 hours old" in outcome.summary
    assert decided(SAFE, COST_SAFE, facts=replace(OLD, age_seconds=3600.0), spec=FRESH).decision == "promote"
    assert decided(SAFE, COST_SAFE, facts=OLD).decision == "promote"


def test_3_after_the_deadline_on_stale_decides():
    policy = {"on_stale": "halt", "on_stale_after": "8h"}
    early, late = (
        decided(SAFE, COST_SAFE, facts=replace(OLD, age_seconds=h * 3600.0), spec={**FRESH, "policy": policy})
        for h in (7, 9)
    )
    assert (early.decision, early.exit_code) == ("hold", 40)
    assert (late.decision, late.reason, late.exit_code) == ("halt", "stale", 20)
    held = decided(SAFE, COST_SAFE, facts=replace(OLD, age_seconds=9e6), spec=FRESH)
    assert (held.decision, held.exit_code) == ("hold", 40)


# -- 4. no data --------------------------------------------------------------------------------------------------------


def test_4_no_data_holds_with_40_also_before_baking_is_over():
    silent = metric("cost", "unknown", status="no_data", note="NULL")
    for facts in (BAKED, Facts(1, 5)):
        outcome = decided(SAFE, silent, facts=facts)
        assert (outcome.decision, outcome.reason, outcome.exit_code) == ("hold", "no_data", 40)
    assert decided(SAFE, COST_SAFE, units=0).reason == "no_data"


def test_4_a_metric_that_was_logged_and_is_no_more_never_passes(tmp_path):
    """Safe at 5 % by its costs; at 50 % nobody logs costs any more: what was safe then says nothing of now."""
    shares = [{"at": START, "share": 0.05}, {"at": START + timedelta(hours=60), "share": 0.5}]
    spec = {
        "allocation": shares,
        "ramp": [{"stage": "canary", "share": s["share"]} for s in shares],
        "metrics": [*LOGGED["metrics"], COST],
    }
    costs = {"cost_usd": lambda i: 0.01 + i % 9 / 1000}
    before = [*calls("a", 3000, **costs), *calls("b", 160, **costs)]
    now = {"first": 3000, "hour": 11}
    lost = decide_on(tmp_path, before, calls("a", 200, **now), calls("b", 200, **now), **spec)
    assert (lost.decision, lost.reason, lost.exit_code) == ("hold", "no_data", 40), lost.summary
    assert "cost had values in the stages before" in lost.summary
    (tmp_path / "kept").mkdir()
    kept = decide_on(
        tmp_path / "kept", before, calls("a", 200, **now, **costs), calls("b", 200, **now, **costs), **spec
    )
    assert kept.reason not in ("no_data", "stale"), kept.summary


def test_4_a_stage_without_a_call_promotes_nothing():
    outcome = decided(SAFE, COST_SAFE, facts=Facts(0, 0), spec={**SPEC, "ramp": [{"stage": "canary", "share": 0.05}]})
    assert (outcome.decision, outcome.reason, outcome.exit_code) == ("hold", "no_data", 40)


# -- 5. bake -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("facts", [Facts(23, 500), Facts(30, 99)], ids=["time", "units"])
def test_5_baking_needs_time_and_units(facts):
    outcome = decided(SAFE, COST_SAFE, facts=facts)
    assert (outcome.decision, outcome.reason, outcome.exit_code) == ("hold", "baking", 10)
    assert decided(SAFE, COST_SAFE, facts=Facts(24, 100)).decision == "promote"


# -- 6. not decided ----------------------------------------------------------------------------------------------------


def test_6_what_is_not_decided_holds_and_says_when_it_will_be():
    stages = ({"n_treatment": 500, "treatment_value": 0.03},)
    open_one = metric("refusals", "inconclusive", estimate=0.002, harm_upper=0.014, stages=stages)
    outcome = decided(open_one, COST_SAFE)
    assert (outcome.decision, outcome.reason, outcome.exit_code) == ("hold", "inconclusive", 10)
    assert "refusals" in outcome.summary
    # The bound is 1.5 times as far from the estimate as the margin: 2.25 times the data, 1.25 times 30 hours from now.
    assert outcome.eta_hours == pytest.approx(1.25 * 30)
    unknown = decided(SAFE, metric("cost", "unknown"))
    assert (unknown.reason, unknown.eta_hours) == ("insufficient", None)


@pytest.mark.parametrize(("rule", "decision"), [("hold", "hold"), ("halt", "halt"), ("promote_if_harmless", "promote")])
def test_6_at_max_days_on_timeout_decides(rule, decision):
    spec = {**SPEC, "policy": {"on_timeout": rule}}
    undecided = metric("refusals", "inconclusive")
    outcome = decided(undecided, COST_SAFE, facts=LATE, spec=spec)
    assert outcome.decision == decision
    assert "timeout" in {f.code for f in outcome.findings}
    early = decided(undecided, COST_SAFE, spec=spec)
    assert early.decision == "hold"
    assert "timeout" not in {f.code for f in early.findings}


def test_6_promote_if_harmless_takes_neither_harm_nor_what_cannot_be_computed():
    spec = {**SPEC, "policy": {"on_timeout": "promote_if_harmless"}}
    undecided = metric("refusals", "inconclusive")
    for other in (metric("cost", "harm"), metric("cost", "unknown"), metric("cost", "unknown", status="zero_variance")):
        assert decided(undecided, other, facts=LATE, spec=spec).decision == "hold"


# -- 7. harm on a hold guardrail ---------------------------------------------------------------------------------------


def test_7_harm_on_a_hold_guardrail_holds_and_recovery_releases_it(tmp_path):
    assert decided(SAFE, metric("cost", "harm")).reason == "harm_hold"
    # End to end: nothing of the first decision stays when the cost is back below its margin.
    guard = {"name": "refusals", "kind": "proportion", "event": "refused", "better": "lower",
             "guardrail": {"margin": {"points": 0.05}, "action": "hold"}}  # fmt: skip
    spec = Experiment.from_dict({**LOGGED, "metrics": [guard]})
    with Store(tmp_path / "abtest.duckdb") as store:
        ingest(store, tmp_path, calls("a", 150), calls("b", 150, refused=lambda i: i % 3 == 0))
        first = decide(store, spec)
        ingest(store, tmp_path, calls("a", 3000, first=150, hour=3), calls("b", 3000, first=150, hour=3), name="more")
        second = decide(store, spec)
    assert (first.decision, first.reason, first.exit_code) == ("hold", "harm_hold", 10)
    assert (second.decision, second.reason) == ("promote", "all_safe"), second.summary


# -- 8. safe -----------------------------------------------------------------------------------------------------------


def test_8_all_safe_promotes_to_the_next_stage():
    outcome = decided(SAFE, COST_SAFE)
    assert (outcome.decision, outcome.reason, outcome.exit_code) == ("promote", "all_safe", 0)
    assert "A/B 50 %" in outcome.summary


def test_8_the_ab_stage_ships_only_what_is_better_and_safe():
    better = metric("help", "safe", superior=True, pvalue=0.001)
    worse = metric("help", "harm", superior=False, pvalue=0.001, estimate=-0.03)
    same = metric("help", "inconclusive", superior=False, pvalue=0.6)
    shipped = decided(SAFE, COST_SAFE, better, stage=AB)
    assert (shipped.decision, shipped.reason, shipped.exit_code) == ("ship", "superior", 0)
    assert decided(SAFE, COST_SAFE, same, stage=AB).reason == "not_superior"
    assert decided(SAFE, COST_SAFE, worse, stage=AB).reason == "deterioration"
    assert decided(SAFE, COST_SAFE, better, worse, stage=AB).reason == "deterioration"
    assert decided(metric("refusals", "inconclusive"), COST_SAFE, better, stage=AB).decision == "hold"
    assert decided(SAFE, COST_SAFE, better).decision == "promote"  # at the canary the question is safety


def test_8_several_success_metrics_share_the_error():
    close, other = metric("help", "safe", superior=True, pvalue=0.04), metric("help", "inconclusive", pvalue=0.9)
    assert decided(SAFE, COST_SAFE, close, stage=AB).decision == "ship"
    assert decided(SAFE, COST_SAFE, close, other, stage=AB).decision == "hold"
    # A success metric that says nothing is one of the tests, and never a reason to ship.
    silent = metric("help", "unknown", pvalue=None, superior=None, estimate=None)
    assert decided(SAFE, COST_SAFE, close, silent, stage=AB).decision == "hold"
    assert decided(SAFE, COST_SAFE, silent, stage=AB).reason == "not_superior"


# -- what else §2 says -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status", ["insufficient", "no_data", "no_share", "zero_variance", "zero_baseline", "unsupported"]
)
def test_missing_data_and_what_cannot_be_computed_never_pass(status):
    outcome = decided(SAFE, metric("cost", "unknown", status=status, note="x"))
    assert outcome.decision == "hold"
    assert "safe" not in {f.code for f in outcome.findings if f.metric == "cost"}


def test_nothing_is_safe_without_a_guardrail():
    outcome = decided(metric("help", "safe", superior=True, pvalue=0.001))
    assert (outcome.decision, outcome.reason) == ("hold", "no_guardrails")


def test_a_halt_latches_until_a_new_revision_or_an_override(tmp_path):
    experiment, early = Experiment.from_dict(LOGGED), to_us(START) + 10 * 60_000_000
    with Store(tmp_path / "abtest.duckdb") as store:
        ingest(store, tmp_path, calls("a", 300), calls("b", 300, refused=lambda i: i % 3 == 0))
        assert decide(store, experiment).decision == "halt"
        # The evidence of this moment alone would hold.
        again = decide(store, experiment, as_of_us=early)
        assert (again.decision, again.reason, again.exit_code) == ("halt", "latched", 20)
        assert "latched" in {f.code for f in again.findings}
        # Evidence and the halt belong to (id, revision).
        revised = Experiment.from_dict({**LOGGED, "revision": 2})
        assert decide(store, revised, as_of_us=early, dry_run=True).decision == "hold"
        override(store, experiment, "hold", reason="looking", actor="kim", expires="2999-01-01T00:00:00Z")
        past = ledger.entries(store.connection, experiment="e", revision=1)
        assert latched(past) is None
        assert decide(store, experiment, as_of_us=early).decision == "hold"


def test_a_misnamed_metric_or_column_is_an_error_when_the_spec_is_loaded():
    wrong = [
        {**SPEC, "metrics": [{**SPEC["metrics"][0], "event": "refusd"}]},
        {**SPEC, "metrics": ["refusal_rte"]},
        {**SPEC, "metrics": [{**SPEC["metrics"][0], "gardrail": {"margin": {"points": 0.01}}}]},
    ]
    for spec in wrong:
        with pytest.raises(SpecError):
            Experiment.from_dict(spec)


def test_one_sentence_says_metric_estimate_interval_margin_and_stage(tmp_path):
    found = decide_on(tmp_path, calls("a", 400), calls("b", 400, refused=lambda i: i % 3 == 0))
    assert found.decision == "halt"
    assert found.summary.startswith("HALT at canary 50 %: refusals +33")
    assert found.summary.count("\n") == 0
    assert "[+" in found.summary
    assert "past its margin of +5 pp" in found.summary


def test_the_same_input_has_the_same_id_and_another_input_another(tmp_path):
    rows = calls("a", 400), calls("b", 400, refused=lambda i: i % 50 == 0)
    ids = []
    for folder, order in ((tmp_path / "one", rows), (tmp_path / "two", rows[::-1])):
        folder.mkdir()
        ids.append(decide_on(folder, *order).decision_id)
    assert ids[0] == ids[1]
    edited = Experiment.from_dict({**LOGGED, "alpha": 0.04})
    with Store(tmp_path / "one" / "abtest.duckdb") as store:
        assert decide(store, Experiment.from_dict(LOGGED)).decision_id == ids[0]
        # Editing the policy in the middle is allowed and visible.
        changed = decide(store, edited)
        entries = ledger.entries(store.connection, kind="decision")
        ingest(store, tmp_path, calls("b", 1, first=400, hour=9), name="one-more")
        assert decide(store, edited).decision_id not in {*ids, changed.decision_id}
    assert changed.decision_id != ids[0]
    assert len({e.body["policy_sha256"] for e in entries}) == 2


def test_the_ledger_is_append_only_and_names_the_entry_that_was_changed(tmp_path):
    decide_on(tmp_path, calls("a", 40), calls("b", 40))
    with Store(tmp_path / "abtest.duckdb") as store:
        con = store.connection
        assert ledger.verify(con) == 1
        body = json.loads(con.execute("select body from ledger").fetchone()[0])
        con.execute("update ledger set body = $b", {"b": json.dumps({**body, "decision": "promote"})})
        with pytest.raises(LedgerError, match="entry 1 "):
            ledger.verify(con)
        with pytest.raises(LedgerError):
            decide(store, Experiment.from_dict(LOGGED))
