"""Every command as a user calls it: exit codes, JSON contracts, sentences."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from abtest.cli.main import build
from tests.cli.runner import call, spawn

ANALYSIS_METRIC = {
    "metric", "kind", "role", "better", "unit", "control", "treatment", "control_value", "treatment_value", "method", "n_control",
    "n_treatment", "estimate", "std_error", "ci_lower", "ci_upper", "relative_estimate", "relative_ci_lower", "relative_ci_upper",
    "pvalue", "log_e_value", "alpha", "margin", "harm_lower", "harm_upper", "verdict", "status", "note", "segment", "stages", "series",
}  # fmt: skip
DECISION = {
    "schema", "experiment", "revision", "stage", "decision", "reason", "summary", "findings", "metrics", "as_of", "decision_id",
    "policy_sha256", "previous_decision_id", "dry_run", "actions", "next",
}  # fmt: skip


def weights(flags: Path) -> dict[str, int]:
    flag = json.loads(flags.read_text())["flags"]["support-model"]
    return {pair[0]: pair[1] for pair in flag["targeting"]["fractional"] if isinstance(pair, list)}


def test_a_regression_is_halted_named_and_acted_upon(simulated, capsys):
    logs = simulated("refusal-regression")
    before = json.loads(logs.flags.read_text())
    result = call(capsys, "decide", logs.spec, "--db", logs.db, "--json")
    assert result.code == 20
    data = result.json
    assert set(data) >= DECISION
    assert data["schema"] == "abtest.decision/1"
    assert (data["decision"], data["reason"]) == ("halt", "harm")
    assert data["summary"].startswith("HALT at canary 20 %: refusal_rate +")
    assert "past its margin of +1 pp" in data["summary"]
    harmed = [f["metric"] for f in data["findings"] if f["code"] == "harm"]
    assert harmed == ["refusal_rate"]
    assert set(data["stage"]) >= {"index", "label", "share"}
    assert set(data["next"]) == {"eta_hours", "needs", "stage_hours", "stage_units"}
    assert data["actions"][0]["status"] == "done"
    assert weights(logs.flags) == {"candidate": 0, "baseline": 100}
    after = json.loads(logs.flags.read_text())
    assert after["flags"]["support-model"]["state"] == "ENABLED"
    assert after["flags"]["support-model"]["metadata"]["abtest.decision_id"] == data["decision_id"]
    assert before["$schema"] == after["$schema"]


def test_deciding_again_changes_nothing(simulated, capsys):
    logs = simulated("refusal-regression")
    first = call(capsys, "decide", logs.spec, "--db", logs.db, "--json").json
    flag, length = logs.flags.read_bytes(), call(capsys, "verify", "--db", logs.db, "--json").json["entries"]
    second = call(capsys, "decide", logs.spec, "--db", logs.db, "--json").json
    assert second["decision_id"] == first["decision_id"]
    assert second["actions"][0]["status"] == "already_done"
    assert logs.flags.read_bytes() == flag
    assert call(capsys, "verify", "--db", logs.db, "--json").json["entries"] == length


def test_dry_run_touches_nothing(simulated, capsys):
    logs = simulated("refusal-regression")
    flag = logs.flags.read_bytes()
    result = call(capsys, "decide", logs.spec, "--db", logs.db, "--dry-run", "--json")
    assert result.code == 20
    assert result.json["dry_run"] is True
    assert result.json["actions"][0]["status"] == "dry_run"
    assert logs.flags.read_bytes() == flag
    assert call(capsys, "verify", "--db", logs.db, "--json").json["entries"] == 0


def test_exit_zero_reports_only(simulated, capsys):
    logs = simulated("refusal-regression")
    assert call(capsys, "decide", logs.spec, "--db", logs.db, "--exit-zero").code == 0


def test_a_halt_latches_until_an_override_or_a_new_revision(simulated, capsys):
    logs = simulated("refusal-regression")
    halted = call(capsys, "decide", logs.spec, "--db", logs.db, "--json").json
    # A watermark from before there was evidence: the evidence alone would hold, the halt stands all the same.
    early = call(capsys, "decide", logs.spec, "--db", logs.db, "--as-of", "2026-11-10T06:00:00Z", "--json")
    assert (early.code, early.json["reason"]) == (20, "latched")
    done = call(
        capsys, "override", logs.spec, "--db", logs.db, "--decision", "hold", "--reason", "looking into it", "--actor", "kim",
        "--expires", "2999-01-01T00:00:00Z", "--json",
    )  # fmt: skip
    assert done.code == 0
    overridden = call(capsys, "decide", logs.spec, "--db", logs.db, "--json")
    assert (overridden.code, overridden.json["decision"], overridden.json["reason"]) == (10, "hold", "override")
    # An override never hides what the evidence says.
    assert "harm" in {f["code"] for f in overridden.json["findings"]}
    assert "kim" in overridden.json["summary"]
    assert overridden.json["decision_id"] != halted["decision_id"]
    text = logs.spec.read_text().replace("revision = 1", "revision = 2")
    logs.spec.write_text(text)
    fresh = call(capsys, "decide", logs.spec, "--db", logs.db, "--as-of", "2026-11-10T06:00:00Z", "--dry-run", "--json")
    assert fresh.json["reason"] != "latched"


def test_analysis_contract(simulated, capsys):
    logs = simulated("healthy")
    result = call(capsys, "analyze", logs.spec, "--db", logs.db, "--json")
    data = result.json
    assert result.code == 0
    assert data["schema"] == "abtest.analysis/1"
    assert set(data) >= {"experiment", "revision", "stage", "as_of", "control", "arms", "metrics", "checks"}
    assert [a["name"] for a in data["arms"]] == ["baseline", "candidate"]
    for metric in data["metrics"]:
        assert set(metric) >= ANALYSIS_METRIC
        assert metric["verdict"] in {"safe", "harm", "inconclusive", "unknown"}
        assert metric["status"] in {
            "ok",
            "insufficient",
            "no_data",
            "no_share",
            "zero_variance",
            "zero_baseline",
            "unsupported",
        }
        if metric["status"] == "ok":
            assert metric["ci_lower"] < metric["estimate"] < metric["ci_upper"]
            assert 30 < len(metric["series"]) <= 72  # hours, quarters of a day, days or weeks: enough for a picture
            moments = [point["at"] for point in metric["series"]]
            assert moments == sorted(set(moments))
            last = metric["series"][-1]
            assert last["at"] == data["as_of"]
            assert (last["n_control"], last["n_treatment"]) == (metric["n_control"], metric["n_treatment"])
            if metric["kind"] != "quantile":
                for name in ("estimate", "ci_lower", "ci_upper", "harm_lower", "harm_upper"):
                    assert last[name] == metric[name], name
            else:
                assert last["estimate"] == metric["details"]["exceedance_estimate"]
    for check in data["checks"]:
        assert set(check) >= {"name", "status", "pvalue", "detail"}


def test_analyze_before_the_experiment_has_no_data(simulated, capsys):
    logs = simulated("healthy")
    result = call(capsys, "analyze", logs.spec, "--db", logs.db, "--as-of", "2026-01-01", "--json")
    assert result.code == 40
    assert all(m["status"] == "no_data" and m["estimate"] is None for m in result.json["metrics"])


def test_decide_without_rows_holds_with_40(simulated, capsys):
    logs = simulated("healthy")
    logs.spec.write_text(logs.spec.read_text().replace('id = "support-bot-sonnet-swap"', 'id = "another"'))
    result = call(capsys, "decide", logs.spec, "--db", logs.db, "--as-of", "2026-11-09", "--json")
    assert (result.code, result.json["decision"], result.json["reason"]) == (40, "hold", "no_data")


@pytest.mark.parametrize(("scenario", "reason"), [
    ("contaminated", "contaminated"), ("mixed-versions", "mixed_versions"), ("no-control", "missing_arm"),
    ("sample-ratio-mismatch", "sample_ratio_mismatch"),
])  # fmt: skip
def test_what_cannot_be_trusted_holds_with_30(simulated, capsys, scenario, reason):
    logs = simulated(scenario, users=20_000 if scenario == "sample-ratio-mismatch" else 5000)
    result = call(capsys, "decide", logs.spec, "--db", logs.db, "--json")
    assert (result.code, result.json["decision"], result.json["reason"]) == (30, "hold", reason), result.json["summary"]


@pytest.mark.parametrize(("scenario", "metric"), [
    ("rare-refusals", "refusal_rate"), ("latency-regression", "latency_p99"), ("cost-regression", "cost_per_request"),
])  # fmt: skip
def test_each_regression_is_named(simulated, capsys, scenario, metric):
    logs = simulated(scenario, users=20_000)
    result = call(capsys, "decide", logs.spec, "--db", logs.db, "--json")
    assert result.code == 20, result.json["summary"]
    assert {f["metric"] for f in result.json["findings"] if f["code"] == "harm"} == {metric}
    assert metric in result.json["summary"]


def test_a_healthy_canary_is_promoted_and_a_better_one_ships(simulated, capsys):
    healthy = simulated("healthy", users=20_000)
    result = call(capsys, "decide", healthy.spec, "--db", healthy.db, "--json")
    assert (result.code, result.json["decision"]) == (0, "promote"), result.json["summary"]
    assert result.json["actions"] == []
    better = simulated("better", users=20_000)
    result = call(capsys, "decide", better.spec, "--db", better.db, "--json")
    assert (result.code, result.json["decision"], result.json["reason"]) == (0, "ship", "superior"), result.json[
        "summary"
    ]


def test_several_specs_the_highest_code_counts(simulated, capsys):
    bad, good = simulated("refusal-regression"), simulated("refusal-regression", seed=2)
    text = good.spec.read_text().replace('id = "support-bot-sonnet-swap"', 'id = "unknown-one"')
    good.spec.write_text(text)
    result = call(capsys, "decide", bad.spec, good.spec, "--db", bad.db, "--dry-run", "--json")
    assert result.json["schema"] == "abtest.decisions/1"
    codes = [d["exit_code"] for d in result.json["decisions"]]
    assert result.code == max(codes)


def test_status_and_report(simulated, capsys, tmp_path):
    logs = simulated("refusal-regression")
    assert call(capsys, "status", "--db", logs.db).code == 40
    call(capsys, "decide", logs.spec, "--db", logs.db)
    status = call(capsys, "status", "--db", logs.db, "--json")
    assert status.code == 0
    assert status.json["experiments"][0]["decision"] == "halt"
    out = tmp_path / "report"
    # Without a spec: every experiment that was decided in the store.
    written = call(capsys, "report", "--db", logs.db, "--out", out, "--json")
    assert written.code == 0
    page = (out / "report.html").read_text()
    assert "refusal_rate" in page
    assert "<script" not in page
    data = json.loads((out / "report.json").read_text())
    assert data["schema"] == "abtest.report/1"
    assert "HALT" in (out / "report.md").read_text()
    first = {p.name: p.read_bytes() for p in out.iterdir()}
    call(capsys, "report", "--db", logs.db, "--out", out)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == first


def test_ingest_twice_inserts_nothing(simulated, capsys, tmp_path):
    logs = simulated("healthy")
    again = call(capsys, "ingest", logs.folder / "logs", "--db", logs.db, "--json").json
    assert again["inserted"] == 0
    assert again["skipped_files"] == again["files"] > 0
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"interaction_id": "x"}\nnot json\n')
    result = call(capsys, "ingest", bad, "--source", "native", "--db", logs.db, "--json")
    assert result.code == 0
    assert result.json["quarantined"] == 2
    listed = call(capsys, "quarantine", "list", "--db", logs.db, "--json").json
    assert [r["line"] for r in listed["rows"]] == [1, 2]
    shown = call(capsys, "quarantine", "show", listed["rows"][1]["quarantine_id"], "--db", logs.db)
    assert "not json" in shown.out


def test_init_writes_a_file_that_is_valid(capsys, tmp_path):
    target = tmp_path / "new"
    assert call(capsys, "init", target).code == 0
    schema = json.loads((target / "abtest.schema.json").read_text())
    assert "metrics" in schema["properties"]
    from abtest.spec import Experiment

    assert Experiment.from_toml(target / "experiment.toml").guardrails
    again = call(capsys, "init", target)
    assert again.code == 2
    assert "is there already" in again.err


def test_simulate(capsys, tmp_path):
    result = call(capsys, "simulate", "--out", tmp_path / "s", "--users", 200, "--json")
    assert result.code == 0
    assert Path(result.json["experiment"]).is_file()
    wrong = call(capsys, "simulate", "--out", tmp_path / "t", "--scenario", "helthy")
    assert wrong.code == 2
    assert "healthy" in wrong.err


def test_demo_small(capsys, tmp_path):
    out = tmp_path / "demo"
    result = call(capsys, "demo", "--out", out, "--users", 3000)
    assert result.code == 0
    assert "HALT" in result.out
    assert (out / "report" / "report.html").is_file()
    assert weights(out / "demo-refusals" / "flags.json")["candidate"] == 0
    assert len(result.out.strip().splitlines()[-3:]) == 3
    assert call(capsys, "demo", "--out", out, "--users", 1000).code == 0  # replaces its own folder
    other = tmp_path / "mine"
    other.mkdir()
    (other / "precious.txt").write_text("x")
    refused = call(capsys, "demo", "--out", other)
    assert refused.code == 2
    assert (other / "precious.txt").read_text() == "x"


def test_every_command_has_help_with_an_example():
    app = build()
    for command in app.registered_commands:
        assert command.callback is not None
        assert "Example: abtest" in (command.callback.__doc__ or ""), command.callback


def test_module_runs_as_a_process(tmp_path):
    result = spawn("--version", cwd=tmp_path)
    assert result.code == 0
    assert result.out.startswith("abtest 0.")
    assert spawn("status", cwd=tmp_path).code == 40
    assert list(tmp_path.iterdir()) == []


def test_store_and_flag_paths_are_relative_to_the_spec(simulated, capsys, tmp_path, monkeypatch):
    logs = simulated("refusal-regression")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    shutil.copy(logs.db, elsewhere / "abtest.duckdb")
    assert call(capsys, "decide", logs.spec).code == 20
    assert weights(logs.flags)["candidate"] == 0
    assert sorted(p.name for p in elsewhere.iterdir()) == ["abtest.duckdb"]
