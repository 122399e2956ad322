"""`plan`: days that come true, what they are made of, what is refused, planning without logs, and the command."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import pytest
from calibrate_tools import METRICS, RAMP, clustered_spec, clustered_store, spec_of

import abtest as ab
from abtest.analysis.resample import read_baseline
from abtest.analysis.resample_harm import Harm, harmed_run, plain_run
from abtest.charts import to_svg
from abtest.errors import NoDataError, SpecError, UsageError
from abtest.rollout.calibrate_run import Looks, Replay
from abtest.rollout.plan import plan
from abtest.rollout.plan_assume import Assumptions
from abtest.rollout.plan_needs import Asked, power_curve
from abtest.rollout.plan_noise import assumed, days_until, grown
from abtest.rollout.rules import FINDING_CODES
from abtest.stats.planning import anytime_factor
from abtest.store.store import Store
from tests.cli.runner import call

FULL = os.environ.get("ABTEST_CALIBRATE") == "full"


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    from abtest.simulate import simulate, write

    folder = tmp_path_factory.mktemp("planned")
    write(simulate("healthy", users=20_000 if FULL else 3000, seed=3), folder)
    with Store(folder / "abtest.duckdb") as store:
        store.ingest(folder / "logs")
    return folder


@pytest.fixture(scope="module")
def made(healthy):
    with Store(healthy / "abtest.duckdb") as store:
        return plan(store, spec_of())


@pytest.mark.calibration
def test_the_planned_days_come_true(healthy):
    """Replayed without harm: the first promotion comes by the planned day in about 80 % of runs, half of them by the typical day.

    Planned for the traffic of the control arm alone, which is what is replayed. Agreement within a factor of 1.6 on the median.
    """
    experiment = spec_of(ramp=[RAMP[0], RAMP[2]])
    with Store(healthy / "abtest.duckdb") as store:
        baseline = read_baseline(store, experiment)
        calls = int(baseline.calls.columns["calls"].sum())
        planned = plan(store, experiment)
    first = planned.stages[0]
    assert first.days is not None
    assert first.typical is not None
    scale = planned.traffic["calls_per_day"] * planned.traffic["log_days"] / calls
    assert 1 < scale < 1.3  # the control arm sees nine tenths of the traffic
    runs, days = 200 if FULL else 20, []
    for r in range(runs):
        path = Replay(plain_run(baseline, 21, r), Looks(3, (0.1, 0.5))).path()
        days.append(path.promoted[0] / 24 if path.promoted else np.inf)
    median = float(np.median(days))
    assert first.typical * scale / 1.6 < median < first.typical * scale * 1.6
    in_time = np.mean(np.array(days) <= first.days * scale)
    assert 0.65 <= in_time <= 0.97


@pytest.mark.calibration
def test_the_planned_detection_comes_true(healthy):
    """Replayed with a harm of two margins: 80 % of runs find it within the planned days, by a factor of 2."""
    experiment = spec_of(ramp=[{"stage": "ab", "share": 0.3}])
    with Store(healthy / "abtest.duckdb") as store:
        baseline = read_baseline(store, experiment, multiples=(2,))
        planned = plan(store, experiment)
    scale = planned.traffic["calls_per_day"] * planned.traffic["log_days"] / int(baseline.calls.columns["calls"].sum())
    for j, metric in enumerate(experiment.metrics):
        need = next(n for n in planned.stages[0].needs if (n.metric, n.question) == (metric.name, "harm"))
        days = []
        for r in range(100 if FULL else 12):
            harmed = harmed_run(plain_run(baseline, 33, r), Harm(j, 2.0), 33, r)
            assert harmed is not None
            path = Replay(harmed, Looks(2, (0.3,)), j).path()
            days.append(np.inf if path.detected is None else path.detected / 24)
        found = float(np.quantile(days, 0.8, method="inverted_cdf"))
        assert need.days * scale / 2 < found < need.days * scale * 2, (metric.name, need.days * scale, found)


def test_a_plan_answers_every_question_of_every_stage(made):
    assert made.source == "logs"
    assert [s.label for s in made.stages] == ["canary 10 %", "canary 25 %", "A/B 50 %"]
    for stage in made.stages:
        assert {(n.metric, n.question) for n in stage.needs} == {
            (m["name"], q) for m in METRICS for q in ("harm", "safe")
        }
        assert stage.days is not None
        assert stage.typical <= stage.days
        assert stage.ends == pytest.approx(stage.starts + stage.days)
    first, second, _ = made.stages
    assert first.starts == 0
    assert second.starts == first.ends
    assert made.days == made.stages[-1].ends
    need = {n.question: n for n in first.needs if n.metric == "refusal_rate"}
    assert need["safe"].power == pytest.approx(1 - 0.2 / (3 + 1))  # Spotify: beta over one more than the guardrails
    assert (need["safe"].alpha, need["harm"].alpha) == (
        0.05,
        0.01 / 2 / 2,
    )  # two halting guardrails, half of it for first events
    assert need["safe"].distance == 0.03
    assert first.waits_for.startswith(max(first.needs, key=lambda n: n.days if n.question == "safe" else 0).metric)
    assert made.metrics[0]["design_effect"] > 0.9


def test_what_is_proposed_makes_the_stage_shorter(made):
    first = made.stages[0]
    assert [s["what"].split(" of ")[0] for s in first.shorten][:2] == ["a share", "twice the margin"]
    assert all(s["days"] < first.days for s in first.shorten)


def test_more_noise_a_smaller_margin_or_a_smaller_share_take_longer(healthy):
    def days(**changes: Any) -> float:
        with Store(healthy / "abtest.duckdb") as store:
            found = plan(store, spec_of(metrics=METRICS[:1], **changes)).stages[0].days
        assert found is not None
        return found

    wide = {**METRICS[0], "guardrail": {"margin": {"points": 0.06}}}
    usual = days()
    assert days(ramp=[{"stage": "canary", "share": 0.05}, *RAMP[1:]]) > 1.7 * usual
    with Store(healthy / "abtest.duckdb") as store:
        wider = plan(store, spec_of(metrics=[wide])).stages[0].days
        fixed = plan(store, spec_of(metrics=METRICS[:1], sequential={"method": "fixed"})).stages[0].days
    assert wider < usual
    assert fixed < usual
    assert days(ramp=[{**RAMP[0], "min_hours": 24 * 30}, *RAMP[1:]]) == pytest.approx(30)


def test_clusters_count(tmp_path):
    """Ten calls a user, intra-class correlation 0.3: the design effect is 1 + 9 · 0.3, and the plan takes so much longer."""
    db = clustered_store(tmp_path)
    proportion = {"name": "refused", "kind": "proportion", "event": "refused", "better": "lower",
                  "guardrail": {"margin": {"points": 0.1}}}  # fmt: skip
    with Store(db) as store:
        found = plan(store, clustered_spec(metrics=[proportion]))
        rows = plan(store, clustered_spec(metrics=[proportion], unit="request"), randomised="request")
    assert found.metrics[0]["design_effect"] == pytest.approx(1 + 9 * 0.3, rel=0.2)
    assert rows.metrics[0]["design_effect"] == pytest.approx(1, rel=0.01)
    safe = [next(n for n in p.stages[0].needs if n.question == "safe").days for p in (found, rows)]
    assert safe[0] > 2 * safe[1]


@pytest.mark.parametrize(("sides", "alpha"), [(1, 0.05), (2, 0.05), (1, 0.0025)])
def test_the_curve_of_power_is_that_of_the_planning_factors(sides, alpha):
    """Golden: `stats.planning.anytime_factor`, which is tested against STATISTICS §11 (1.40 one-sided, 1.65 two-sided)."""
    times, reached = power_curve(alpha, sides)
    for power in (0.8, 0.9):
        ours = float(np.interp(power, reached, times))
        assert ours == pytest.approx(anytime_factor(alpha=alpha, sides=sides, power=power), rel=0.03)
    assert (np.diff(reached) >= 0).all()


def test_needed_information_and_power_are_inverse():
    question = Asked(0, "safe", 0.05, 1, 0.9, 0.02)
    for fixed in (False, True):
        needed = question.needed(0.9, fixed=fixed)
        assert question.power_at(needed, fixed=fixed) == pytest.approx(0.9, abs=1e-6)
    # Textbook: one-sided fixed test, (z_0.95 + z_0.9)² / d².
    assert question.needed(0.9, fixed=True) == pytest.approx((1.644854 + 1.281552) ** 2 / 0.02**2, rel=1e-5)
    nothing = Asked(0, "safe", 0.05, 1, 0.9, None)
    assert nothing.needed(0.9, fixed=False) is None
    assert nothing.power_at(1e9, fixed=False) == 0.0


def test_a_log_goes_on_at_the_pace_of_its_last_half():
    values = np.r_[np.full(24, 10.0), np.full(24, 2.0)].cumsum()
    assert grown(values, 1) == 240
    assert grown(values, 2) == 288
    assert grown(values, 4) == pytest.approx(288 + 48 * 2)
    assert days_until(values, 288 + 24 * 2) == pytest.approx(3)
    assert days_until(values, 240) == pytest.approx(1)
    assert days_until(np.zeros(5), 1) is None
    assert days_until(values, 0) == 0


def test_the_floor_of_rare_events_is_planned_with():
    """Without an event in the log the plug-in variance is nearly zero; the level at the margin is what counts."""
    noise = assumed(0.001, 0.001, 0.001, None, proportion=True, y_per_hour=100)
    bare, floored = (noise.information(0.5, 1.0, worst)[-1] for worst in (None, 0.011))
    assert floored < bare / 4


def test_without_logs_everything_that_is_missing_is_listed_at_once():
    with pytest.raises(UsageError) as error:
        plan(None, spec_of())
    for word in (
        "--units-per-day",
        "refusal_rate.baseline",
        "cost.baseline",
        "cost.variance",
        "format_validity.baseline",
    ):
        assert word in str(error.value)
    with pytest.raises(UsageError, match="correlation"):
        plan(None, spec_of(), assume=Assumptions(1000, 5))


def test_planned_from_assumptions_it_is_the_textbook_sample():
    """One guardrail on a mean, independent units, a fixed test: (z_0.95 + z_0.9)² σ² / (q(1-q) d² a day)."""
    metric = {"name": "cost", "kind": "mean", "value": "cost_usd", "better": "lower", "guardrail": {"margin": {"absolute": 0.1}},
              "frozen": {"baseline": 1.0, "variance": 4.0}}  # fmt: skip
    fixed = spec_of(metrics=[metric], ramp=[{"stage": "ab", "share": 0.5}], sequential={"method": "fixed"})
    found = plan(None, fixed, assume=Assumptions(units_per_day=1000))
    need = {n.question: n.days for n in found.stages[0].needs}
    assert need["safe"] == pytest.approx((1.644854 + 1.281552) ** 2 * 4 / (0.25 * 0.1**2 * 1000), rel=1e-4)
    # The whole decision is this one question, with the power of the plan instead of 1 - 0.2/2.
    assert found.stages[0].days == pytest.approx((1.644854 + 0.841621) ** 2 * 4 / (0.25 * 0.1**2 * 1000), rel=1e-3)
    assert found.source == "assumptions"
    assert not any(s.extrapolated for s in found.stages)
    anytime = plan(None, spec_of(metrics=[metric], ramp=[{"stage": "ab", "share": 0.5}]), assume=Assumptions(1000))
    assert anytime.stages[0].days / found.stages[0].days == pytest.approx(1.40 * 7.849 / 6.183, rel=0.05)


def test_every_kind_can_be_assumed():
    metrics = [
        *METRICS,
        {"name": "latency_p99", "kind": "quantile", "value": "latency_ms", "q": 0.99, "better": "lower",
         "guardrail": {"margin": {"relative": 0.4}}},
        {"name": "length", "kind": "distribution", "value": "response_chars", "better": "lower", "guardrail": {"margin": {"points": 0.1}}},
        {"name": "turns", "kind": "count", "better": "higher", "guardrail": {"margin": {"relative": 0.2}}},
        {"name": "help", "kind": "mean", "score": "help", "better": "higher", "success": {"mde": {"absolute": 0.02}}},
    ]  # fmt: skip
    given = Assumptions(2000, 5, 0.1, {
        "refusal_rate": {"baseline": 0.02}, "format_validity": {"baseline": 0.99}, "cost": {"baseline": 0.01, "variance": 1e-4},
        "latency_p99": {"beyond": 0.004}, "turns": {"baseline": 5, "variance": 9}, "help": {"baseline": 0.6, "variance": 0.08},
    })  # fmt: skip
    found = plan(None, spec_of(metrics=metrics), assume=given)
    assert found.days is not None
    ab_stage = found.stages[-1]
    assert {n.metric for n in ab_stage.needs if n.question == "better"} == {"help"}
    assert all(n.days is not None for n in ab_stage.needs)
    with pytest.raises(UsageError, match="beyond"):
        plan(
            None,
            spec_of(metrics=metrics),
            assume=Assumptions(2000, 5, 0.1, {**given.metrics, "latency_p99": {"beyond": 0.02}}),
        )


def repeated_store(folder: Any, *, spread: float) -> Any:
    """Return a store of 60 shadowed requests, each answered three times by the baseline, with noise of its own."""
    rng = np.random.default_rng(2)
    lines = []
    for r in range(60):
        for arm, exposed, repeats in (("baseline", True, 3), ("candidate", False, 1)):
            for k in range(repeats):
                lines.append(json.dumps({
                    "type": "interaction", "interaction_id": f"{arm}-{r}-{k}", "ts": f"2026-11-01T{r // 6:02d}:{r % 6}{k}:00Z",
                    "model": arm, "unit_id": f"u{r}", "request_id": f"r{r}", "experiment_id": "support-bot-sonnet-swap", "variant": arm,
                    "exposed": exposed and k == 0, "repeat": k, "cost_usd": round(1 + spread * float(rng.standard_normal()), 6),
                    "surface": "support", "refused": False, "format_ok": True,
                }))  # fmt: skip
    (folder / "shadow.jsonl").write_text("\n".join(lines))
    store = Store(folder / "abtest.duckdb")
    store.ingest(folder / "shadow.jsonl")
    return store


def test_a_shadow_gate_below_the_noise_floor_is_refused(tmp_path):
    """Answers to one request differ by 0.5 around 1: 100 pairs resolve 0.2 of it, not the margin of 0.1; 1,000 do."""
    metric = {"name": "cost", "kind": "mean", "value": "cost_usd", "better": "lower", "guardrail": {"margin": {"relative": 0.1}},
              "frozen": {"baseline": 1.0, "variance": 0.25}}  # fmt: skip
    ramp = [{"stage": "shadow"}, {"stage": "ab", "share": 0.5}]
    with repeated_store(tmp_path, spread=0.5) as store:
        before = store.connection.execute("select count(*) from frozen").fetchone()
        few = plan(store, spec_of(metrics=[metric], ramp=ramp, shadow={"pairs": 100}))
        many = plan(store, spec_of(metrics=[metric], ramp=ramp, shadow={"pairs": 1000}))
        assert store.connection.execute("select count(*) from frozen").fetchone() == before
    assert few.refused
    assert few.exit_code == 10
    finding = few.findings[0]
    assert (finding.code, finding.severity, finding.metric) == ("below_noise_floor", "error", "cost")
    assert few.noise_floor[0]["floor"] > few.noise_floor[0]["margin"]
    assert not many.refused
    assert many.noise_floor[0]["resolved"]


def test_what_the_plan_warns_of(healthy):
    slow = spec_of(
        ramp=[
            {"stage": "canary", "share": 0.001, "max_days": 5},
            {"stage": "canary", "share": 0.4},
            {"stage": "ab", "share": 0.5},
        ]
    )
    with Store(healthy / "abtest.duckdb") as store:
        found = plan(store, slow)
    codes = {f.code for f in found.findings}
    assert codes & {"not_decidable", "past_max_days"}
    assert codes <= set(FINDING_CODES)
    assert {"not_planned", "extrapolated", "no_bake", "noise_floor_unknown", "past_max_days", "not_decidable"} <= set(
        FINDING_CODES
    )


def test_it_is_shown_as_text_html_polars_and_a_picture(made):
    text = repr(made)
    for word in ("canary 10 %", "refusal_rate", "safe, if nothing changes", "typical days"):
        assert word in text
    assert "<table" in made._repr_html_()
    assert made.to_polars().height == 18
    svg = to_svg(made.plot())
    assert svg.startswith("<svg")
    assert "decided when its curve is below" in svg
    data = made.to_dict()
    assert data["schema"] == "abtest.plan/1"
    json.dumps(data, allow_nan=False)


def test_bad_arguments_are_refused(healthy, tmp_path):
    with Store(healthy / "abtest.duckdb") as store:
        with pytest.raises(UsageError, match="power"):
            plan(store, spec_of(), power=0.4)
        with pytest.raises(SpecError, match="exactly one"):
            plan(store, spec_of(treatments=["a", "b"], ramp=None))
    with Store(tmp_path / "empty.duckdb") as store, pytest.raises(NoDataError):
        plan(store, spec_of())


def test_the_command(healthy, capsys, tmp_path):
    spec = healthy / "experiment.toml"
    result = call(capsys, "plan", spec, "--db", healthy / "abtest.duckdb", "--json", "--picture", tmp_path / "plan.svg")
    assert result.code == 0
    assert result.json["schema"] == "abtest.plan/1"
    assert (tmp_path / "plan.svg").read_text().startswith("<svg")
    text = call(capsys, "plan", spec, "--db", healthy / "abtest.duckdb")
    assert "canary 1 %" in text.out
    missing = call(capsys, "plan", spec, "--db", tmp_path / "none.duckdb")
    assert missing.code == 2
    assert "--units-per-day" in missing.err
    wrong = call(capsys, "plan", spec, "--db", healthy / "abtest.duckdb", "--assume", "refusal_rate=0.02")
    assert wrong.code == 2
    assert "METRIC.NAME=NUMBER" in wrong.err


def test_it_is_a_public_name():
    assert ab.plan is plan
