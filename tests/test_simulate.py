"""The simulator: what it writes is valid, and what it says is true is true of what it writes."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
import math
import subprocess
import sys
import tomllib
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pydantic import TypeAdapter

from abtest.errors import UsageError
from abtest.records import Assignment, Interaction, Score
from abtest.simulate import SCENARIOS, model, simulate, write
from abtest.simulate.draw import Simulation

EXITS = {"promote": {0}, "ship": {0}, "halt": {20}, "hold": {10, 30}}
RECORD = {"interaction": TypeAdapter(Interaction), "assignment": TypeAdapter(Assignment), "score": TypeAdapter(Score)}


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def validated(folder):
    """Every log line through the strict records, file by file."""
    for path in sorted((folder / "logs").iterdir()):
        for line in path.read_bytes().splitlines():
            yield path, RECORD[json.loads(line)["type"]].validate_json(line)


@pytest.fixture(scope="module")
def healthy():
    return simulate(users=20_000, seed=3)


def last_attempts(sim: Simulation, arm: int | None = None):
    calls = sim.calls
    rows = calls["final"] & (calls["arm"] >= 0)
    return rows if arm is None else rows & (calls["arm"] == arm)


# --- the files ---


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_row_is_a_valid_record_in_its_day_and_in_order(name, tmp_path):
    sim = simulate(name, users=250, days=4, seed=5)
    written = write(sim, tmp_path)
    assert set(written) == {p for p in tmp_path.rglob("*") if p.is_file()}
    interactions, scores, seen = {}, [], []
    for path, record in validated(tmp_path):
        assert path.name == f"{record.ts.astimezone(UTC):%Y-%m-%d}.jsonl"
        seen.append(record.ts)
        if isinstance(record, Interaction):
            assert record.interaction_id not in interactions
            interactions[record.interaction_id] = record
        else:
            scores.append(record)
    assert seen == sorted(seen)
    assert seen[0] >= datetime(2026, 11, 16, tzinfo=UTC)
    assert seen[-1] < datetime(2026, 11, 20, tzinfo=UTC)
    assert len(interactions) == len(sim.calls["ts"])
    assert len(scores) == len(sim.scores["ts"]) > 0
    assert len({s.score_id for s in scores}) == len(scores)
    by_request = defaultdict(list)
    for row in interactions.values():
        by_request[row.request_id, row.variant].append(row)
    for score in scores:
        if score.scorer_kind == "judge":
            target = interactions[score.interaction_id]
            assert (score.value is None) == (score.error_type == "judge_parse_error")
        else:
            (target,) = by_request[score.request_id, score.variant]  # never ambiguous
        assert score.ts > target.ts
        assert target.experiment_id is not None
        assert not target.is_error


def test_the_lines_say_what_the_columns_say(tmp_path):
    sim = simulate("mixed-versions", users=400, days=4, seed=2)
    write(sim, tmp_path)
    rows = [r for _, r in validated(tmp_path) if isinstance(r, Interaction)]
    calls = sim.calls
    for name in ("latency_ms", "cost_usd", "turn", "attempt", "is_error"):
        assert [getattr(r, name) for r in rows] == calls[name].tolist(), name
    for name in ("refused", "format_ok"):
        assert [-1 if (v := getattr(r, name)) is None else int(v) for r in rows] == calls[name].tolist(), name
    for name in ("input_tokens", "output_tokens", "reasoning_tokens"):
        assert [-1 if (v := getattr(r, name)) is None else v for r in rows] == calls[name].tolist(), name
    assert [None if math.isnan(x) else x for x in calls["ttft_ms"].tolist()] == [r.ttft_ms for r in rows]
    arms = {None: -1, "baseline": 0, "candidate": 1}
    assert [arms[r.variant] for r in rows] == calls["arm"].tolist()
    users = [-1 if r.unit_id is None else int(r.unit_id.removeprefix("user-")) for r in rows]
    assert users == calls["user"].tolist()
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert [(r.ts - epoch) // timedelta(microseconds=1) for r in rows] == calls["ts"].tolist()


def test_manifests_of_the_arms_and_of_calls_outside_the_experiment(tmp_path):
    write(simulate("mixed-versions", users=1500, days=4, seed=2), tmp_path)
    versions = defaultdict(set)
    for _, row in validated(tmp_path):
        if isinstance(row, Interaction):
            versions[row.variant].add((row.surface, row.experiment_id, row.model, row.prompt_version, row.environment))
            assert len(row.prompt_sha256) == 64
    where = ("support", "support-bot-sonnet-swap")
    assert versions["baseline"] == {(*where, "gpt-4o-2024-08-06", "v12", "prod")}
    assert versions["candidate"] == {(*where, "claude-sonnet-4-5", v, "prod") for v in ("v12", "v13")}
    assert versions[None] == {("search", None, "gpt-4o-mini-2024-07-18", "v3", "prod")}


@pytest.mark.parametrize("options", [{}, {"gzip": True}, {"files_per_day": 3}])
def test_same_arguments_same_bytes(options, tmp_path):
    for folder in ("a", "b"):
        write(simulate("contaminated", users=200, days=3, seed=9), tmp_path / folder, **options)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    write(simulate("contaminated", users=200, days=3, seed=10), tmp_path / "c", **options)
    assert contents(tmp_path / "c") != contents(tmp_path / "a")


def test_splitting_and_packing_change_the_files_but_not_the_rows(tmp_path):
    sim = simulate(users=200, days=2.5, seed=1)
    plain = write(sim, tmp_path / "day")
    parts = [p for p in write(sim, tmp_path / "parts", files_per_day=7) if p.suffix == ".jsonl"]
    packed = [p for p in write(sim, tmp_path / "gz", gzip=True) if p.suffix == ".gz"]
    whole = b"".join(p.read_bytes() for p in plain if p.suffix == ".jsonl")
    assert b"".join(p.read_bytes() for p in parts) == whole
    assert b"".join(gzip.decompress(p.read_bytes()) for p in packed) == whole
    names = [p.name for p in parts]
    assert names == sorted(names)
    assert names[0].startswith("2026-11-17-0")
    assert names[-1] == "2026-11-19-06.jsonl"
    assert [p.name for p in packed] == ["2026-11-17.jsonl.gz", "2026-11-18.jsonl.gz", "2026-11-19.jsonl.gz"]


def test_ids_of_different_runs_do_not_meet():
    runs = {simulate(n, users=50, days=d, seed=s).run for n in SCENARIOS for d in (2, 3) for s in (0, 1)}
    assert len(runs) == 4 * len(SCENARIOS)


@pytest.mark.parametrize("name", SCENARIOS)
def test_experiment_flag_and_truth_files_agree(name, tmp_path):
    sim = simulate(name, users=60, days=8, seed=0)
    write(sim, tmp_path)
    spec = tomllib.loads((tmp_path / "experiment.toml").read_text())
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert (spec["id"], spec["unit"], spec["control"], spec["treatments"]) == (
        "support-bot-sonnet-swap",
        "user",
        "baseline",
        ["candidate"],
    )
    assert truth["scenario"] == name
    assert truth["metrics"].keys() == {m["name"] for m in spec["metrics"]}
    for metric in spec["metrics"]:
        row = truth["metrics"][metric["name"]]
        assert metric["better"] == row["better"]
        margin = {row["margin_kind"]: row["margin"]}
        assert metric["guardrail"]["margin"] == margin if "guardrail" in metric else row["margin"] is None
    assert [r.get("share") for r in spec["ramp"]] == [None, 0.01, 0.05, 0.2, 0.5]
    stages = [(r["at"], r["share"]) for r in spec["allocation"]]
    assert [(datetime.fromisoformat(s["at"]), s["share"]) for s in truth["parameters"]["stages"]] == stages
    assert stages[0][0] == datetime(2026, 11, 12, tzinfo=UTC)
    assert stages == sorted(stages)
    assert (tmp_path / "flags.json").exists() == ("halt" in spec) == SCENARIOS[name].flag
    if SCENARIOS[name].flag:
        assert spec["halt"]["flag"] == {"file": "flags.json", "key": "support-model", "format": "flagd"}
        flag = json.loads((tmp_path / "flags.json").read_text())["flags"]["support-model"]
        share = round(100 * stages[-1][1])
        assert flag["targeting"]["fractional"][1:] == [["candidate", share], ["baseline", 100 - share]]
        assert flag["state"] == "ENABLED"
        assert flag["variants"].keys() == {"baseline", "candidate"}
        assert flag["defaultVariant"] == "baseline"


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda s: s.name)
def test_what_a_scenario_expects_follows_from_its_truth(scenario):
    truth = simulate(scenario, users=20).truth
    expected = truth["expected"]
    assert expected["exit_code"] in EXITS[expected["decision"]]
    harmed = [name for name, row in truth["metrics"].items() if row["harm_past_margin"]]
    moved = [name for name, row in truth["metrics"].items() if row["sign"]]
    if expected["exit_code"] == 20 or scenario.name == "format-regression":
        assert harmed == moved == [scenario.metric] == [expected["harmed_metric"]]
    else:
        assert harmed == []
        assert moved == ([scenario.metric] if scenario.metric else [])
        assert expected["harmed_metric"] is None


# --- the truth ---


def clustered(x, user, users):
    """Mean of the rows and its standard error with users as clusters."""
    value = x.mean()
    return value, math.sqrt(np.square(np.bincount(user, x - value, minlength=users)).sum()) / len(x)


def observed(sim: Simulation, metric: str, truth: float):
    """Rows whose mean estimates the second value, NaN where unknown; for the p99, exceedances of the true one."""
    calls = sim.calls
    if metric == "latency_p99":
        return (calls["latency_ms"] > truth).astype(float), 0.01
    if metric == "helpfulness":
        values = np.full(len(calls["ts"]), np.nan)
        judge = sim.scores["name"] == 0
        values[sim.scores["call"][judge]] = sim.scores["value"][judge]
        return values, truth
    column = {"refusal_rate": "refused", "format_validity": "format_ok", "error_rate": "is_error"}.get(metric)
    values = calls[column or "cost_usd"].astype(float)
    return np.where(values < 0, np.nan, values), truth


@pytest.mark.parametrize(
    "name",
    [name for name in SCENARIOS if name not in {"no-control", "sample-ratio-mismatch"}],
)
def test_the_truth_is_true_of_the_data(name):
    sim = simulate(name, users=60_000, seed=21)
    checked = 0
    for metric, row in sim.truth["metrics"].items():
        for stage, arm in itertools.product(row["stages"], ("control", "treatment")):
            values, expected = observed(sim, metric, stage[arm])
            rows = last_attempts(sim, int(arm == "treatment")) & (sim.calls["stage"] == stage["index"])
            rows &= ~np.isnan(values)
            if rows.sum() < 3000:
                continue  # the normal approximation of rare events needs more
            value, error = clustered(values[rows], sim.calls["user"][rows], sim.users)
            assert abs(value - expected) <= 4 * error, (metric, stage, arm, value, error)
            checked += 1
    assert checked >= 24


def test_formulas_against_a_plain_monte_carlo():
    rng = np.random.default_rng(7)
    n = 2_000_000
    user = np.exp(model.LATENCY_USER * rng.standard_normal(n))
    body = model.LATENCY_MEDIAN * np.exp(model.LATENCY_SIGMA * rng.standard_normal(n))
    tail = model.TAIL_START * (1 + rng.pareto(model.TAIL_INDEX, n))
    latency = user * np.where(rng.random(n) < model.TAIL_WEIGHT, tail, body)
    for q in (0.5, 0.95, 0.99, 0.999):
        above = (latency > model.latency_quantile(q)).mean()
        assert above == pytest.approx(1 - q, abs=4 * math.sqrt(q * (1 - q) / n))
    z = rng.standard_normal(n)
    for p in (0.0, 0.003, 0.02, 0.62, 1.0):
        values = model.logit_normal(np.full(n, p), 0.9, z)
        assert values.mean() == pytest.approx(p, abs=4 * values.std() / math.sqrt(n) + 1e-7)
    assert model.tail_factor(0.0) == pytest.approx(1.0, abs=1e-12)
    assert model.latency_quantile(0.99, model.tail_factor(0.8)) == pytest.approx(1.8 * model.latency_quantile(0.99))


def test_mean_cost_against_a_plain_monte_carlo():
    rng = np.random.default_rng(8)
    n = 2_000_000
    turn = rng.geometric(model.SINGLE_TURN, n)  # a request's turn, by the memoryless length of its session
    inputs = model.INPUT_MEDIAN * np.exp(model.INPUT_SIGMA * rng.standard_normal(n))
    inputs *= 1 + model.INPUT_PER_TURN * (turn - 1)
    size = model.OUTPUT_SIGMA * rng.standard_normal(n) + model.OUTPUT_USER * rng.standard_normal(n)
    answer = np.minimum(model.OUTPUT_MEDIAN * np.exp(size), model.OUTPUT_CAP)
    thinking = np.minimum(model.THINK_START * (1 + rng.pareto(model.THINK_INDEX, n)), model.THINK_CAP)
    outputs = answer + thinking * (rng.random(n) < model.THINKS)
    cost = (model.INPUT_PRICE * inputs + model.OUTPUT_PRICE * outputs) * (rng.random(n) >= model.ERROR_RATE)
    assert 4 * cost.std() / math.sqrt(n) < model.ERROR_RATE * cost.mean()  # sharp enough to see the errors
    assert model.mean_cost() == pytest.approx(cost.mean(), abs=4 * cost.std() / math.sqrt(n))


def test_latency_regression_is_in_the_tail_not_in_the_median():
    sim = simulate("latency-regression", users=60_000, seed=4)
    p50, p99 = (
        [np.quantile(sim.calls["latency_ms"][last_attempts(sim, arm)], q) for arm in (0, 1)] for q in (0.5, 0.99)
    )
    assert p50[1] / p50[0] == pytest.approx(1.0, abs=0.03)
    assert 1.5 < p99[1] / p99[0] < 2.1


def test_overall_refusal_truth_is_comparable_between_arms_although_pooled_rates_are_not():
    sim = simulate("drifting-null", users=60_000, seed=2)
    row = sim.truth["metrics"]["refusal_rate"]
    assert row["effect"] == 0
    first, last = row["stages"][0], row["stages"][-1]
    assert first["control"] < 0.03
    assert last["control"] > 0.06
    pooled = [np.mean(sim.calls["refused"][last_attempts(sim, arm)] == 1) for arm in (0, 1)]
    assert pooled[1] - pooled[0] > 0.01  # the trap this scenario is for


def test_rare_refusals_has_none_in_control():
    sim = simulate("rare-refusals", users=5000, seed=1)
    assert (sim.calls["refused"][sim.calls["arm"] == 0] == 1).sum() == 0
    assert (sim.calls["refused"][sim.calls["arm"] == 1] == 1).sum() > 20
    assert sim.truth["metrics"]["refusal_rate"]["relative_effect"] is None


# --- who is where ---


def test_assignment_is_sticky_nested_and_has_the_right_shares(healthy):
    sim, calls = healthy, healthy.calls
    rows = calls["arm"] >= 0
    shares = np.array(sim.clock.shares)
    expected = sim.hashes[calls["user"][rows]] < shares[calls["stage"][rows]]
    assert np.array_equal(calls["arm"][rows] == 1, expected)
    edges = np.array(sim.clock.edges) * 1_000_000
    assert np.array_equal(np.searchsorted(edges, calls["ts"][rows], side="right") - 1, calls["stage"][rows])
    for stage, share in enumerate(shares):
        users, at = np.unique(calls["user"][rows & (calls["stage"] == stage)], return_index=True)
        arm = calls["arm"][rows & (calls["stage"] == stage)][at]
        assert abs(arm.mean() - share) < 4 * math.sqrt(share * (1 - share) / len(users))


def test_retries_do_not_cross_into_an_earlier_stage():
    dense = simulate(users=20_000, days=0.02, seed=3)  # half an hour: many retries near the borders
    calls, edges = dense.calls, np.array(dense.clock.edges) * 1_000_000
    rows = calls["arm"] >= 0
    assert np.array_equal(np.searchsorted(edges, calls["ts"][rows], side="right") - 1, calls["stage"][rows])
    assert calls["ts"].min() >= edges[0]


def seen_in_both(sim: Simulation, stage: int):
    rows = (sim.calls["stage"] == stage) & (sim.calls["arm"] >= 0)
    arms = [set(sim.calls["user"][rows & (sim.calls["arm"] == arm)].tolist()) for arm in (0, 1)]
    return len(arms[0] & arms[1]) / len(arms[0] | arms[1])


@pytest.mark.parametrize("name", SCENARIOS)
def test_only_contaminated_has_users_in_both_arms_of_a_stage(name):
    sim = simulate(name, users=8000, seed=6)
    mixed = [seen_in_both(sim, stage) for stage in range(len(sim.clock.shares))]
    assert mixed == pytest.approx([0.05] * 3, abs=0.012) if name == "contaminated" else not any(mixed)


def first_arms(sim: Simulation, stage: int):
    """Arms of the first rows of the users who are new in `stage`."""
    rows = sim.calls["arm"] >= 0
    _, at = np.unique(sim.calls["user"][rows], return_index=True)
    return sim.calls["arm"][rows][at][sim.calls["stage"][rows][at] == stage]


def test_sample_ratio_mismatch_is_in_the_new_users(healthy):
    lossy = simulate("sample-ratio-mismatch", users=20_000, seed=3)
    for stage in (1, 2):
        new, all_new = (first_arms(sim, stage) for sim in (lossy, healthy))
        assert abs((new == 1).sum() / (all_new == 1).sum() - 0.75) < 4 * math.sqrt(0.75 * 0.25 / (all_new == 1).sum())
        assert (new == 0).sum() == (all_new == 0).sum()
    z = [(np.mean(arm) - 0.2) / math.sqrt(0.16 / len(arm)) for arm in (first_arms(sim, 2) for sim in (lossy, healthy))]
    assert z[0] < -6
    assert abs(z[1]) < 4
    assert set(np.unique(lossy.calls["user"][lossy.calls["arm"] == 0])) == set(
        np.unique(healthy.calls["user"][healthy.calls["arm"] == 0])
    )


def test_mixed_versions_and_missing_control():
    mixed = simulate("mixed-versions", users=8000, seed=1).calls
    candidate = mixed["kind"][mixed["arm"] == 1]
    assert np.mean(candidate == 2) == pytest.approx(0.3, abs=0.04)
    assert set(mixed["kind"][mixed["arm"] == 0].tolist()) == {0}
    alone = simulate("no-control", users=8000, seed=1).calls
    assert set(alone["arm"].tolist()) == {-1, 1}


# --- what traffic looks like ---


def test_users_return_and_differ(healthy):
    calls = healthy.calls
    rows = last_attempts(healthy)
    per_user = np.bincount(calls["user"][rows], minlength=healthy.users)
    assert per_user.min() >= 1
    assert per_user.mean() == pytest.approx(5.0, abs=0.15)
    assert per_user.var() > 1.5 * per_user.mean()
    days = np.unique(np.stack([calls["user"][rows], calls["ts"][rows] // 86_400_000_000]), axis=1)
    assert days.shape[1] / healthy.users > 2.5  # users come on several days
    assert calls["turn"][rows].max() > 3
    assert np.mean(calls["turn"][rows] > 1) == pytest.approx(1 / 3, abs=0.02)
    order = np.lexsort((calls["ts"], calls["session"]))
    order = order[rows[order]]
    same = np.diff(calls["session"][order]) == 0
    assert set(np.diff(calls["turn"][order])[same].tolist()) == {1}


def test_rows_of_a_user_are_alike(healthy):
    scores = observed(healthy, "helpfulness", 0.0)[0]
    columns = {
        "refused": np.where(healthy.calls["refused"] < 0, np.nan, healthy.calls["refused"]),
        "latency": np.log(healthy.calls["latency_ms"]),
        "cost": np.log(np.maximum(healthy.calls["cost_usd"], 1e-4)),
        "helpfulness": scores,
    }
    for name, values in columns.items():
        rows = last_attempts(healthy, 0) & ~np.isnan(values)
        _, error = clustered(values[rows], healthy.calls["user"][rows], healthy.users)
        naive = values[rows].std() / math.sqrt(rows.sum())
        assert error > 1.04 * naive, name


def test_tails_are_heavy(healthy):
    rows = last_attempts(healthy)
    latency, cost = healthy.calls["latency_ms"][rows], healthy.calls["cost_usd"][rows]
    assert np.quantile(latency, 0.999) > 8 * np.median(latency)
    assert np.quantile(cost, 0.999) > 8 * np.median(cost)
    known = ~np.isnan(healthy.calls["ttft_ms"])
    assert (healthy.calls["ttft_ms"][known] <= healthy.calls["latency_ms"][known]).all()
    used = rows & (healthy.calls["output_tokens"] > 0)
    calls = healthy.calls
    price = calls["input_tokens"] * model.INPUT_PRICE + calls["output_tokens"] * model.OUTPUT_PRICE
    assert np.abs(price - calls["cost_usd"])[used].max() < 1e-6  # cost follows from the tokens


def test_retries_precede_the_attempt_that_counts(healthy):
    calls = healthy.calls
    order = np.lexsort((calls["ts"], calls["request"]))
    request, attempt, final = (calls[n][order] for n in ("request", "attempt", "final"))
    same = np.diff(request) == 0
    assert 0.02 < same.mean() < 0.06
    assert (np.diff(attempt)[same] == 1).all()
    assert (np.diff(calls["stage"][order])[same] == 0).all()
    assert np.array_equal(final, np.append(~same, True))
    assert attempt.max() == 3
    assert calls["is_error"][~calls["final"]].all()
    assert (calls["cost_usd"][~calls["final"]] == 0).all()
    assert np.mean(calls["is_error"][calls["final"]]) == pytest.approx(0.005, abs=0.001)


def test_an_error_has_no_answer_to_judge(healthy):
    calls = healthy.calls
    error = calls["is_error"]
    for name in ("refused", "format_ok", "output_tokens"):
        assert (calls[name][error] == -1).all()
        assert (calls[name][~error] >= 0).all()


def test_scores_come_late(healthy):
    scores, calls = healthy.scores, healthy.calls
    judge = scores["name"] == 0
    delay = (scores["ts"] - calls["ts"][scores["call"]])[judge] / 60e6
    assert delay.min() >= 2
    assert 600 < delay.max() < 12 * 60 + 10
    assert np.mean(delay > 60) > 0.3
    answered = last_attempts(healthy) & ~calls["is_error"] & (calls["ts"] < (healthy.clock.end - 46_800) * 1_000_000)
    judged = np.zeros(len(answered), dtype=bool)
    judged[scores["call"][judge]] = True
    assert judged[answered].mean() == pytest.approx(0.3, abs=0.01)
    failed = np.isnan(scores["value"][judge])
    assert failed.mean() == pytest.approx(0.01, abs=0.004)
    values = scores["value"][judge][~failed]
    assert values.min() >= 0
    assert values.max() <= 1
    assert set(scores["value"][~judge].tolist()) == {0.0, 1.0}


def test_a_few_calls_are_outside_the_experiment(healthy):
    outside = healthy.calls["arm"] == -1
    assert np.mean(outside) == pytest.approx(0.02, abs=0.005)
    assert (healthy.calls["user"][outside] == -1).any()
    assert (healthy.calls["user"][~outside] >= 0).all()
    assert not outside[healthy.scores["call"]].any()


# --- arguments ---


def test_unknown_scenario_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'refusal-regression'") as caught:
        simulate("refusal-regresion")
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match=r"known: .*healthy"):
        simulate("qqqq")


@pytest.mark.parametrize(
    "bad", [{"users": 0}, {"days": 0}, {"days": math.nan}, {"days": math.inf}, {"days": -1}, {"seed": -1}]
)
def test_sizes_that_make_no_logs(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        simulate(**{"users": 10, **bad})


@pytest.mark.parametrize(
    "change",
    [
        {"stages": 5},
        {"refusal": (0.5, 0.98), "refusal_points": 0.04},
        {"format_points": 0.02},
        {"helpfulness": 0.4},
        {"contaminated": 1.5},
        {"old_prompt": math.nan},
        {"latency_p99": -0.1},
        {"cost": -1.0},
        {"cost": math.nan},
    ],
)
def test_effects_that_no_logs_could_have(change):
    with pytest.raises(UsageError):
        dataclasses.replace(SCENARIOS["healthy"], **change)


def test_a_scenario_of_your_own():
    own = dataclasses.replace(SCENARIOS["healthy"], name="own", refusal=(0.02, 0.08), refusal_points=0.01, stages=2)
    sim = simulate(own, users=100)
    assert sim.clock.shares == (0.01, 0.05)
    assert sim.truth["scenario"] == "own"
    assert sim.truth["metrics"]["refusal_rate"]["effect"] == pytest.approx(0.01)


def test_logs_of_another_run_are_not_mixed_in(tmp_path):
    write(simulate(users=20, days=5), tmp_path)
    write(simulate("better", users=20, days=5), tmp_path)  # same days: replaced
    with pytest.raises(UsageError, match="holds other logs"):
        write(simulate(users=20, days=2), tmp_path)
    with pytest.raises(UsageError, match="files_per_day"):
        write(simulate(users=20, days=2), tmp_path / "new", files_per_day=0)


def test_importing_it_loads_nothing_heavy():
    code = "import sys, abtest.simulate; print(*sorted({'duckdb', 'polars', 'pydantic', 'scipy'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


def test_very_small_runs_still_write(tmp_path):
    write(simulate("no-control", users=1, days=0.01), tmp_path)
    assert json.loads((tmp_path / "truth.json").read_text())["parameters"]["users"] == 1
