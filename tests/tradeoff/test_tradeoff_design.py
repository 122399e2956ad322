"""Which design is found, what it means, and what stands beside: segments, error categories, turns."""

from __future__ import annotations

import pytest
from tradeoff_logs import LARGE, SMALL, START, Truth, logs, spec

TWO = {"large_prompt": LARGE, "small_tuned": SMALL}


def test_paired_split_shadow_and_offline_are_told_apart(ask):
    split = ask(logs(TWO, users=80), spec())
    assert split.design == "randomised"
    assert "reactions included" in split.confidence
    live = ask(logs(TWO, users=80, paired=True), spec())
    assert live.design == "paired, live"
    shadow = ask(logs(TWO, users=80, paired=True, shadow=True), spec())
    assert shadow.design == "paired, shadow"
    assert "cannot show how users react" in shadow.confidence
    offline = [{**r, "exposed": False} for r in logs(TWO, users=80, paired=True)]
    assert ask(offline, spec()).design == "paired, offline"


def test_pairs_say_more_than_a_split_of_as_many_tasks(ask):
    pairs = ask(logs(TWO, users=200, paired=True), spec()).comparisons[0]
    split = ask(logs(TWO, users=400), spec()).comparisons[0]
    assert pairs.facts.tasks == split.facts.tasks
    assert pairs.quality.std_error < 0.95 * split.quality.std_error


def test_later_turns_of_a_shadow_do_not_count(ask):
    records = logs(TWO, users=60, rows=4, paired=True, shadow=True, turns=2)
    one = ask(records, spec()).comparisons[0]
    assert one.facts.tasks == 240
    assert one.facts.units == 60
    alone = ask([r for r in records if r["turn"] == 1], spec()).comparisons[0]
    assert one.saving == alone.saving
    assert one.quality == alone.quality


def test_a_silent_leg_need_not_know_the_user(ask):
    records = logs(TWO, users=60, paired=True, shadow=True)
    known = ask(records, spec()).comparisons[0]
    for r in records:
        if r["variant"] == "small_tuned":
            r["unit_id"] = None
    assert ask(records, spec()).comparisons[0].saving == known.saving


def test_users_who_met_both_are_no_comparison(ask):
    records = logs(TWO, users=200)
    for r in records:
        r["unit_id"] = f"user{int(r['unit_id'][4:]) // 2}"
    found = ask(records, spec())
    assert (found.design, found.verdict, found.choice) == ("crossed", "not_yet_decidable", None)
    assert "not a fair comparison" in found.reason
    assert next(c for c in found.checks if c.name == "contamination").status == "failed"
    assert found.comparisons[0].flips == ()


def test_a_few_who_met_both_are_left_out(ask):
    records = logs(TWO, users=400)
    clean = ask(records, spec()).comparisons[0]
    stray = [
        {**r, "interaction_id": f"stray-{i}", "request_id": f"stray-{i}", "variant": "small_tuned"}
        for i, r in enumerate(records[:2])
    ]
    found = ask([*records, *stray], spec())
    assert found.design == "randomised"
    assert found.comparisons[0].baseline.units == clean.baseline.units - 1
    assert found.comparisons[0].facts.units == clean.facts.units


def test_versions_alone_are_no_comparison_unless_the_team_says_so(ask):
    records = [{**r, "variant": None} for r in logs(TWO, users=700)]
    arms = {"large_prompt": {"model": "large"}, "small_tuned": {"model": "small", "technique": "fine_tune"}}
    found = ask(records, spec(arms=arms))
    assert (found.design, found.verdict) == ("observational", "not_yet_decidable")
    assert found.comparisons[0].facts.tasks == 1400
    wide = {"metric": "solved", "margin": {"points": 0.1}}
    said = ask(records, spec(arms=arms, quality=wide, comparison={"design": "randomised"}))
    assert (said.design, said.verdict) == ("randomised", "fine_tune")


def test_a_split_that_is_off_decides_nothing(ask):
    records = logs(TWO, users=1500, rows=2)
    lost = [r for r in records if r["variant"] == "large_prompt" or int(r["unit_id"][4:]) % 4 == 1]
    shares = {
        "comparison": {"shares": {"large_prompt": 0.5, "small_tuned": 0.5}},
        "quality": {"metric": "solved", "margin": {"points": 0.1}},
    }
    good, bad = ask(records, spec(**shares)), ask(lost, spec(**shares))
    assert next(c for c in good.checks if c.name == "sample_ratio").status == "ok"
    assert next(c for c in bad.checks if c.name == "sample_ratio").status == "failed"
    assert (good.verdict, bad.verdict) == ("fine_tune", "not_yet_decidable")
    assert "the split is not what it should be" in bad.reason


def test_a_technique_without_tasks_is_missing(ask):
    records = [r for r in logs(TWO, users=60) if r["variant"] == "large_prompt"]
    found = ask(records, spec())
    assert (found.design, found.verdict) == ("missing", "not_yet_decidable")
    assert next(c for c in found.checks if c.name == "missing_arm").status == "failed"
    assert found.comparisons[0].saving.value is None


def test_quality_of_scores_is_read_from_scores(ask):
    records = logs(TWO, users=120, paired=True)
    scores = [
        {"type": "score", "score_id": f"s-{r['interaction_id']}", "ts": START.isoformat(), "name": "solved", "scorer_kind": "judge",
         "value": 1.0 if r["format_ok"] else 0.0, "interaction_id": r["interaction_id"]}
        for r in records if not r["is_error"]
    ]  # fmt: skip
    logged = ask(records, spec()).comparisons[0]
    metrics = [{"name": "solved", "kind": "proportion", "score": "solved", "better": "higher"}, *spec()["metrics"][1:]]
    judged = ask([*records, *scores], spec(metrics=metrics)).comparisons[0]
    assert judged.quality == logged.quality
    assert judged.facts.cost_per_success == logged.facts.cost_per_success
    unseen = ask(records, spec(metrics=metrics)).comparisons[0]
    assert (unseen.quality.value, unseen.leg("quality").status) == (None, "no_data")


def test_repeated_answers_are_no_attempts(ask):
    records = logs(TWO, users=60, paired=True)
    again = [{**r, "interaction_id": f"{r['interaction_id']}-r", "repeat": 1} for r in records]
    assert ask([*records, *again], spec()).comparisons[0].saving == ask(records, spec()).comparisons[0].saving


def test_segments_stand_beside(ask):
    found = ask(logs(TWO, users=150, paired=True), spec(segments=[{"by": "surface"}])).comparisons[0]
    assert {m.segment for m in found.segments} == {"surface=search", "surface=support"}
    parts = {m.segment: m for m in found.segments}
    # Half of the tasks each: the levels' mean is the whole.
    assert sum(m.technique for m in parts.values()) / 2 == pytest.approx(
        next(m for m in found.metrics if m.metric == "solved").technique
    )
    assert all(m.difference.lower < m.difference.value < m.difference.upper for m in parts.values())


def prompts(**truths: Truth):
    arms = {"v1": Truth("large", 0.8), "v2": Truth("large", 0.8), **truths}
    techniques = {name: {"technique": "fine_tune" if name == "tuned" else "prompt"} for name in arms}
    return arms, spec(baseline="v1", arms=techniques, costs=None)


def test_the_ceiling_of_prompting(ask):
    arms, own = prompts()
    hit = ask(logs(arms, users=450, rows=6, paired=True), {**own, "sequential": {"method": "fixed"}}).ceiling
    assert (hit.status, hit.category) == ("hit", "format")
    assert set(hit.changes) == {"v2"}
    assert "prompting has hit its ceiling" in hit.note
    short = ask(logs(arms, users=60, paired=True), own).ceiling
    assert short.status == "suspected"
    arms, own = prompts(v2=Truth("large", 0.93))
    better = ask(logs(arms, users=200, paired=True), own).ceiling
    assert better.status == "no"
    assert better.changes["v2"].upper < 0
    assert ask(logs(TWO, users=60), spec()).ceiling.status == "one_prompt"


def test_variants_that_fail_in_different_ways_have_no_common_ceiling(ask):
    arms, own = prompts()
    records = logs(arms, users=100, paired=True)
    for r in records:
        if r["variant"] == "v2" and not r["is_error"] and r["format_ok"] is False:
            r["attributes"] = {"why": "refund policy"}
    by = "COALESCE(attributes ->> 'why', 'format')"
    found = ask(records, {**own, "errors": {"by": by}})
    assert found.ceiling.status == "no"
    assert {(e["arm"], e["category"]) for e in found.errors} == {("v1", "format"), ("v2", "refund policy")}
    assert sum(e["tasks"] for e in found.errors if e["arm"] == "v2") == sum(
        1 for r in records if r["variant"] == "v2" and r["format_ok"] is False
    )


def test_format_drifts_with_the_turns(ask):
    records = logs(TWO, users=200, rows=4, turns=4)
    for r in records:
        if r["variant"] == "small_tuned" and r["turn"] > 2 and int(r["unit_id"][4:]) % 4 == 1:
            r["format_ok"] = False if not r["is_error"] else None
    found = {d.arm: d for d in ask(records, spec()).drift}
    assert set(found) == {"large_prompt", "small_tuned"}
    assert found["small_tuned"].change.upper < 0
    assert found["large_prompt"].change.lower < 0 < found["large_prompt"].change.upper
    by_turn = {t["turn"]: t["valid"] / t["answers"] for t in found["small_tuned"].turns}
    assert set(by_turn) == {1, 2, 3, 4}
    assert by_turn[4] < by_turn[1] - 0.2
    assert ask(logs(TWO, users=60), spec()).drift == ()
