"""What is decided, why, and what would turn it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import stats
from tradeoff_logs import LARGE, PRICES, SMALL, Truth, logs, spec

import abtest as ab

WORSE = Truth("small", 0.70)
SLOW = Truth("small", 0.90, latency=4000)
TWO = {"large_prompt": LARGE, "small_tuned": SMALL}


def test_a_good_small_model_wins(ask):
    found = ask(logs(TWO, users=600, paired=True), spec())
    one = found.comparison("small_tuned")
    assert (found.verdict, found.choice, one.verdict) == ("fine_tune", "small_tuned", "switch")
    assert all(leg.pvalue_holds <= 0.05 for leg in one.legs)
    assert one.pvalue_switch == max(leg.pvalue_holds for leg in one.legs)
    assert [leg.name for leg in one.legs] == ["quality", "cost", "latency"]
    assert one.break_even.status == "ok"
    assert one.break_even.lower < one.break_even.value < one.break_even.upper < found.tasks_a_month
    # 1,500 + 500 of labels for each of two trainings in twelve months, and hosting.
    assert one.facts.fixed_a_month == pytest.approx(2 * 2000 / 12 + 400)
    assert one.break_even.value == pytest.approx(one.facts.fixed_a_month / one.saving.value)
    assert one.saving_a_month.value == pytest.approx(500_000 * one.saving.value - one.facts.fixed_a_month)
    assert one.payback_months == pytest.approx(2000 / (500_000 * one.saving.value - 400))
    assert found.reason.startswith("small_tuned instead of large_prompt: ")


@pytest.mark.parametrize(
    ("truth", "changes", "words"),
    [
        (WORSE, {}, "solved is worse by more than its margin (5 pp)"),
        (SMALL, {"volume": {"tasks_a_month": 20_000}}, "it is not cheaper at 20,000 tasks a month"),
        (SLOW, {}, "latency_p95 is over the budget of 2000"),
    ],
    ids=["quality", "cost", "latency"],
)
def test_one_leg_that_fails_is_enough_to_stay(ask, truth, changes, words):
    found = ask(logs({**TWO, "small_tuned": truth}, users=600, paired=True), spec(**changes))
    assert (found.verdict, found.choice) == ("prompt", "large_prompt")
    assert found.comparisons[0].verdict == "keep"
    assert found.reason.startswith(f"stay with large_prompt: small_tuned: {words}")
    if "cheaper" in words:
        assert "(break-even: 4" in found.reason
    assert found.comparisons[0].pvalue_keep <= 0.05


def test_too_little_is_not_decided_and_says_how_much_would_do(ask):
    few = ask(logs(TWO, users=150, paired=True, seed=2), spec())
    assert few.verdict == "not_yet_decidable"
    assert few.choice is None
    assert few.needs_tasks is not None
    assert "whether solved stays within its margin" in few.reason
    # With what it asked for (and a bit of luck against us) it is decided.
    users = 150 + math.ceil(1.3 * few.needs_tasks / 4)
    assert ask(logs(TWO, users=users, paired=True, seed=2), spec()).verdict == "fine_tune"


def test_fewer_than_thirty_units_claim_nothing(ask):
    found = ask(logs(TWO, users=20, rows=50, paired=True), spec())
    one = found.comparisons[0]
    assert found.verdict == "not_yet_decidable"
    assert {leg.status for leg in one.legs} == {"insufficient"}
    assert all(leg.pvalue_holds is None and leg.lower is None for leg in one.legs)
    assert (one.break_even.status, one.break_even.value) == ("unknown", None)


def test_prompt_caching_turns_the_verdict(ask):
    """The same logs, 95 % of the large model's input cached: with the discount it is the cheaper one, without it is not."""
    arms = {"large_prompt": Truth("large", 0.9, tokens=4000, cached=0.95, output=20), "small_tuned": SMALL}
    records = logs(arms, users=600, paired=True)
    own = spec(volume={"tasks_a_month": 100_000}, costs={"small_tuned": {"hosting_a_month": 1000.0}})
    with_discount = ask(records, own)
    flat = [{**PRICES[0], "cached_input": PRICES[0]["input"]}, PRICES[1]]
    without = ask(records, {**own, "prices": {"model": flat}})
    assert (with_discount.verdict, without.verdict) == ("prompt", "fine_tune")
    one = with_discount.comparisons[0]
    assert one.without_cache == "switch"
    assert one.baseline.cached_share == pytest.approx(0.95, abs=0.01)
    assert "prompt caching: switch if cached tokens cost what others do" in with_discount.hinges_on
    assert without.comparisons[0].without_cache == "switch"
    # Input of the large model costs up to 90 % less.
    assert without.comparisons[0].baseline.cost_per_task.value / one.baseline.cost_per_task.value > 5


def test_the_verdict_turns_where_sensitivity_says(ask):
    records = logs(TWO, users=600, paired=True)
    one = ask(records, spec()).comparisons[0]
    flips = {(f.input, f.factor > 1): f for f in one.flips}
    volume = flips["tasks a month", False]
    for factor, verdict in ((1.01, "switch"), (0.99, volume.verdict)):
        assert ask(records, spec(volume={"tasks_a_month": volume.at * factor})).comparisons[0].verdict == verdict
    margin = flips["quality margin", False]
    for factor, verdict in ((1.01, "switch"), (0.99, margin.verdict)):
        quality = {"metric": "solved", "margin": {"points": margin.at * factor}}
        assert ask(records, spec(quality=quality)).comparisons[0].verdict == verdict
    stability = flips["months until retraining", False]
    costs = dict(spec()["costs"]["small_tuned"])
    for factor, verdict in ((1.05, "switch"), (0.98, stability.verdict)):
        changed = {**costs, "months_until_retraining": stability.at * factor}
        assert ask(records, spec(costs={"small_tuned": changed})).comparisons[0].verdict == verdict


def test_hinges_are_the_flips_within_a_factor_of_two(ask):
    found = ask(logs(TWO, users=600, paired=True), spec())
    one = found.comparisons[0]
    near = [f for f in one.flips if 0.5 <= f.factor <= 2]
    assert len(one.hinges_on) == len(near)
    assert all(h.startswith(f.input) for h, f in zip(one.hinges_on, near, strict=True))
    assert [abs(math.log(f.factor)) for f in one.flips] == sorted(abs(math.log(f.factor)) for f in one.flips)


def test_several_techniques_share_alpha_by_holm(ask):
    arms = {**TWO, "many_shot": Truth("large", 0.9, tokens=8000), "rag": Truth("small", 0.895, tokens=3000)}
    techniques = {"large_prompt": "prompt", "small_tuned": "fine_tune", "many_shot": "many_shot", "rag": "rag"}
    found = ask(logs(arms, users=700, paired=True), spec(arms={a: {"technique": t} for a, t in techniques.items()}))
    verdicts = {c.technique: c.verdict for c in found.comparisons}
    assert verdicts["many_shot"] == "keep"
    assert found.comparison("many_shot").pvalue_keep <= 0.05
    winners = [c for c in found.comparisons if c.verdict == "switch"]
    assert {c.technique for c in winners} == {"small_tuned", "rag"}
    best = max(winners, key=lambda c: c.saving_a_month.value)
    assert found.choice == best.technique
    # Holm: the second smallest of three is doubled, the smallest trebled.
    raw = sorted(max(leg.pvalue_holds for leg in c.legs) for c in found.comparisons)
    adjusted = sorted(c.pvalue_switch for c in found.comparisons)
    assert adjusted[0] == pytest.approx(min(1, 3 * raw[0]))
    assert adjusted[1] == pytest.approx(min(1, max(adjusted[0], 2 * raw[1])))
    assert "adjusted by Holm over 3 techniques" in " ".join(found.notes)


def test_a_prompt_that_wins_is_a_prompt(ask):
    arms = {"large_prompt": LARGE, "small_tuned": Truth("small", 0.9)}
    own = spec(arms={"large_prompt": {"technique": "prompt"}, "small_tuned": {"technique": "many_shot"}}, costs=None)
    found = ask(logs(arms, users=700, paired=True), own)
    assert (found.verdict, found.choice) == ("prompt", "small_tuned")
    assert found.comparisons[0].break_even.status == "always"


def test_without_a_volume_nothing_is_switched(ask):
    records = logs(TWO, users=600, paired=True)
    for r in records:
        r["exposed"] = False
    found = ask(records, spec(volume=None))
    cost = found.comparisons[0].leg("cost")
    assert (found.tasks_a_month, found.volume_from, found.verdict) == (None, "not known", "not_yet_decidable")
    assert (cost.status, cost.pvalue_holds) == ("no_data", None)
    assert "give [volume] tasks_a_month" in found.reason
    assert found.comparisons[0].break_even.status == "ok"
    assert found.comparisons[0].saving_a_month.value is None


def test_the_volume_of_live_logs_stands_in(ask):
    found = ask(logs(TWO, users=800), spec(volume=None))
    days = (799 * 37 + 3 * 11) / 1440  # from the first request to the last
    assert found.volume_from == "the rate of the live logs"
    assert found.tasks_a_month == pytest.approx(3200 / days * 365.25 / 12, rel=1e-3)


def test_one_look_is_shorter_than_any_number_of_looks(ask):
    records = logs(TWO, users=600, paired=True)
    sequence, once = (ask(records, spec(sequential={"method": m})).comparisons[0] for m in ("anytime", "fixed"))
    assert once.saving.value == sequence.saving.value
    assert once.saving.upper - once.saving.value == pytest.approx(1.959964 * once.saving.std_error, rel=1e-6)
    assert sequence.saving.upper > once.saving.upper
    assert sequence.leg("quality").pvalue_holds > once.leg("quality").pvalue_holds
    with pytest.raises(ab.AbtestError, match="alpha"):
        ab.TradeoffSpec.from_dict(spec(alpha=0.7))


def test_it_is_json_table_and_picture(ask):
    found = ask(logs(TWO, users=600, paired=True), spec())
    data = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert data["schema"] == "abtest.tradeoff/1"
    assert data["comparisons"][0]["break_even"]["status"] == "ok"
    assert found.to_polars().height == 2
    assert found.to_polars()["verdict"].to_list() == ["baseline", found.comparisons[0].verdict]
    assert "NOT YET DECIDABLE" in repr(found) or "FINE-TUNE" in repr(found)
    assert found.plot().to_dict()["usermeta"]["abtest"]["description"].startswith("small_tuned pays above")


def test_names_out_of_logs_are_escaped(ask):
    records = logs(TWO, users=60, paired=True)
    for r in records:
        r["error_type"] = "<script>alert(1)</script>" if r["is_error"] else None
        if r["attempt"] == 0:
            r["is_error"], r["error_type"] = True, "<script>alert(1)</script>"
    html = ask(records, spec())._repr_html_()
    assert "&lt;script&gt;" in html
    assert "<script>" not in html


def test_one_user_with_most_of_the_cost_leaves_it_open(ask):
    records = logs(TWO, users=600, paired=True)
    for r in records:
        if r["unit_id"] == "user7" and r["variant"] == "large_prompt":
            r["input_tokens"] *= 100
    one = ask(records, spec()).comparisons[0]
    assert one.leg("cost").status == "insufficient"
    assert "one unit makes up" in one.leg("cost").note
    assert one.saving.value is not None
    assert (one.saving.lower, one.baseline.cost_per_success.lower) == (None, None)
    assert one.leg("quality").status == "ok"
    assert one.verdict == "undecided"


def test_a_mean_with_a_relative_margin_and_a_mean_budget(ask):
    """Quality by a score from 0 to 1, 4 % worse is acceptable; mean latency against its budget: both by brute force."""
    records = logs(TWO, users=150, paired=True)
    rng = np.random.default_rng(5)
    value = {r["interaction_id"]: float(rng.beta(8, 2)) for r in records if not r["is_error"]}
    scores = [
        {"type": "score", "score_id": f"s{i}", "ts": "2026-11-01T00:00:00Z", "name": "judge", "scorer_kind": "judge", "value": v,
         "interaction_id": i}
        for i, v in value.items()
    ]  # fmt: skip
    metrics = [
        *spec()["metrics"][:1], {"name": "good", "kind": "mean", "score": "judge", "better": "higher"},
        {"name": "wait", "kind": "mean", "value": "latency_ms", "better": "lower"},
    ]  # fmt: skip
    own = spec(
        metrics=metrics, quality={"metric": "good", "margin": {"relative": 0.04}}, success={"metric": "solved"},
        latency={"metric": "wait", "budget": 1000}, sequential={"method": "fixed"},
    )  # fmt: skip
    one = ask([*records, *scores], own).comparisons[0]
    sums = np.zeros((150, 2, 4))  # a user, an arm: score, answers, milliseconds of all attempts, tasks
    for r in records:
        row = sums[int(r["unit_id"][4:]), int(r["variant"] == "small_tuned")]
        row += (value.get(r["interaction_id"], 0.0), not r["is_error"], r["latency_ms"], not r["is_error"])
    (b, t) = sums.sum(axis=0)
    psi = (sums[:, 1, 0] - t[0] / t[1] * sums[:, 1, 1]) / t[1] - 0.96 * (
        sums[:, 0, 0] - b[0] / b[1] * sums[:, 0, 1]
    ) / b[1]
    quality = one.leg("quality")
    assert quality.slack == pytest.approx(t[0] / t[1] - 0.96 * b[0] / b[1], rel=1e-6)
    assert quality.std_error == pytest.approx(float(np.sqrt((psi**2).sum())), rel=1e-6)
    wait = (sums[:, 1, 2] - t[2] / t[3] * sums[:, 1, 3]) / t[3]
    latency = one.leg("latency")
    assert latency.slack == pytest.approx(1000 - t[2] / t[3], rel=1e-6)
    assert latency.std_error == pytest.approx(float(np.sqrt((wait**2).sum())), rel=1e-6)
    assert latency.pvalue_holds == pytest.approx(float(stats.norm.sf(latency.slack / latency.std_error)), rel=1e-6)


def test_an_earlier_watermark_sees_less(ask):
    records = logs(TWO, users=600, paired=True)
    cut = 300 * 37 * 60_000_000 + 1_793_491_200_000_000
    half, whole = ask(records, spec(), as_of_us=cut), ask(records, spec())
    assert half.as_of == "2026-11-08T17:00:00Z"
    assert 0.4 < half.comparisons[0].facts.tasks / whole.comparisons[0].facts.tasks < 0.6
    with pytest.raises(ab.AbtestError, match="no task of these techniques"):
        ask(records, spec(), max_file=0)


def test_the_answer_does_not_depend_on_the_order_of_lines(ask):
    records = logs(TWO, users=100, paired=True)
    assert ask(records, spec()).to_dict() == ask(records[::-1], spec()).to_dict()
