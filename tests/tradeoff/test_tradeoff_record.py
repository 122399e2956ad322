"""What is kept, what it says about a release, and the command line."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from tradeoff_logs import LARGE, SMALL, Truth, logs, spec

import abtest as ab
from abtest.charts import to_svg
from abtest.cli.main import run
from abtest.rollout.rules import FINDING_CODES
from abtest.tradeoff import findings, latest, record, tradeoff
from abtest.tradeoff_spec import TradeoffSpec, example

WORSE = Truth("small", 0.70)


def release(**changes):
    data = {
        "id": "tuned", "control": "large_prompt", "treatments": ["small_tuned"],
        "metrics": [{"use": "refusal_rate", "guardrail": True}],
    }  # fmt: skip
    return ab.Experiment.from_dict({**data, **changes})


def toml_of(data: dict, path: Path) -> Path:
    """Write a spec as TOML: JSON values are TOML values, tables are inline."""

    def value(v):
        if isinstance(v, dict):
            return "{ " + ", ".join(f"{json.dumps(k)} = {value(x)}" for k, x in v.items()) + " }"
        return "[" + ", ".join(map(value, v)) + "]" if isinstance(v, list) else json.dumps(v)

    path.write_text("".join(f"{k} = {value(v)}\n" for k, v in data.items()).replace('"2026-01-01"', "2026-01-01"))
    return path


def test_a_dominated_technique_is_a_finding(make_store):
    store = make_store(logs({"large_prompt": LARGE, "small_tuned": WORSE}, users=300, paired=True))
    asked = TradeoffSpec.from_dict(spec())
    assert findings(store, release()) == []
    found = tradeoff(store, asked)
    assert latest(store, "tuned") == []  # asking alone records nothing
    record(store, found)
    assert latest(store, "tuned") == [json.loads(json.dumps(found.to_dict()))]
    (finding,) = findings(store, release())
    assert (finding.code, finding.severity) == ("tradeoff_dominated", "error")
    assert finding.message.startswith("small_tuned is dominated by large_prompt, says tradeoff tuned")
    assert finding.code in FINDING_CODES
    # Another release, another baseline, an earlier watermark, an earlier load: it says nothing about these.
    assert findings(store, release(treatments=["other"])) == []
    assert findings(store, release(control="other")) == []
    assert findings(store, release(id="another")) == []
    assert findings(store, release(), max_file=0) == []
    assert findings(store, release(), as_of_us=0) == []
    decision = ab.decide(store, release(), findings=findings(store, release()), dry_run=True)
    assert decision.decision == "hold"
    assert any(f.code == "tradeoff_dominated" for f in decision.findings)


def test_the_newest_record_of_an_id_counts(make_store):
    store = make_store(logs({"large_prompt": LARGE, "small_tuned": WORSE}, users=300, paired=True))
    record(store, tradeoff(store, TradeoffSpec.from_dict(spec())))
    wide = {"metric": "solved", "margin": {"points": 0.2}}
    record(store, tradeoff(store, TradeoffSpec.from_dict(spec(quality=wide, volume={"tasks_a_month": 47_500}))))
    (kept,) = latest(store, "tuned")
    assert kept["comparisons"][0]["verdict"] == "undecided"
    (finding,) = findings(store, release())
    assert (finding.code, finding.severity) == ("tradeoff_open", "info")


def test_the_command(make_store, tmp_path, capsys):
    store = make_store(logs({"large_prompt": LARGE, "small_tuned": SMALL}, users=100, paired=True))
    store.close()
    file = toml_of(spec(), tmp_path / "tradeoff.toml")
    assert TradeoffSpec.from_toml(file) == TradeoffSpec.from_dict(spec())
    picture = tmp_path / "cost.svg"
    assert run(["tradeoff", str(file), "--db", str(store.path), "--record", "--picture", str(picture)]) == 0
    out = capsys.readouterr().out
    assert out.startswith(("NOT YET DECIDABLE: ", "FINE-TUNE: "))
    for words in ("paired, live", "Break-even, tasks a month", "what would turn the verdict", "p holds"):
        assert words in out
    assert picture.read_text().startswith("<svg")
    assert run(["tradeoff", str(file), "--db", str(store.path), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["schema"], data["baseline"]) == ("abtest.tradeoff/1", "large_prompt")
    with ab.Store(store.path) as again:
        assert len(latest(again, "tuned")) == 1


def test_the_example_is_a_spec_with_comments(tmp_path, capsys):
    assert run(["tradeoff", "--example"]) == 0
    text = capsys.readouterr().out
    assert tomllib.loads(text) == tomllib.loads(example())
    path = tmp_path / "example.toml"
    path.write_text(text)
    assert TradeoffSpec.from_toml(path).techniques == ["small_tuned"]
    assert text.count("<--") > 5
    # What is commented out works, too.
    rest = re.sub(r"(?m)^# (?=\[|\w+ = )", "", text)
    full = TradeoffSpec.from_dict(tomllib.loads(rest))
    assert full.comparison.shares == {"large_prompt": 0.5, "small_tuned": 0.5}
    assert full.population.failed_calls == "free"
    assert [s.key for s in full.segments] == ["surface"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "a tradeoff file is needed"),
        (["missing.toml"], 2, "no such file"),
        (["."], 2, "this is a folder"),
    ],
)
def test_wrong_calls(arguments, code, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(["tradeoff", *arguments]) == code
    assert words in capsys.readouterr().err


def test_nothing_to_show_is_40(make_store, tmp_path, capsys):
    file = toml_of(spec(), tmp_path / "tradeoff.toml")
    assert run(["tradeoff", str(file), "--db", str(tmp_path / "none.duckdb")]) == 40
    store = make_store([])
    store.close()
    assert run(["tradeoff", str(file), "--db", str(store.path), "--json"]) == 40
    captured = capsys.readouterr()
    assert json.loads(captured.out)["code"] == "no_data"
    store = make_store([{**r, "experiment_id": "other"} for r in logs({"large_prompt": LARGE}, users=5)])
    store.close()
    assert run(["tradeoff", str(file), "--db", str(store.path)]) == 40
    assert "no call has experiment_id 'tuned'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"baseline": "larg_prompt"}, "baseline", "did you mean 'large_prompt'?"),
        ({"quality": {"metric": "sloved", "margin": {"points": 0.1}}}, "quality.metric", "did you mean 'solved'?"),
        ({"quality": {"metric": "solved", "margin": 0.1}}, "quality.margin", "needs a unit"),
        ({"quality": {"metric": "latency_p95", "margin": {"relative": 0.1}}}, "quality.metric", "a quantile is no quality"),
        ({"quality": {"metric": "solved", "margin": {"absolute": 0.1}}}, "quality.margin", "takes points or relative"),
        ({"success": {"metric": "refusal_rate"}}, "success.metric", "does not say which tasks succeeded"),
        ({"latency": {"metric": "solved", "budget": 3}}, "latency.metric", "less is better"),
        ({"latency": None}, "metrics.latency_p95.kind", "a quantile belongs to [latency]"),
        ({"costs": {"smal_tuned": {}}}, "costs", "did you mean 'small_tuned'?"),
        ({"costs": {"small_tuned": {"trainning": 3}}}, "costs.small_tuned.trainning", "did you mean 'training'?"),
        ({"costs": {"small_tuned": {"training": -3}}}, "costs.small_tuned.training", "greater than or equal to 0"),
        ({"comparison": {"shares": {"nobody": 0.5}}}, "comparison.shares", "no such arm"),
        ({"arms": {"large_prompt": {}}}, "arms", "at least 2"),
        ({"arms": {"large_prompt": {}, "small_tuned": {"technique": "finetune"}}}, "arms.small_tuned.technique", "did you mean 'fine_tune'?"),
        ({"alpah": 0.1}, "alpah", "did you mean 'alpha'?"),
        ({"population": {"where": "surfce = 'x'"}}, "population.where", "did you mean 'surface'?"),
        ({"errors": {"by": "1 +"}}, "errors.by", "no expression"),
        ({"horizon": {"months": 0}}, "horizon.months", "greater than 0"),
        ({"start": "2026-11-02T00:00:00Z", "end": "2026-11-01T00:00:00Z"}, "end", "after start"),
    ],
)  # fmt: skip
def test_a_wrong_spec_names_the_key(changes, key, words):
    with pytest.raises(ab.AbtestError) as caught:
        TradeoffSpec.from_dict(spec(**changes))
    assert caught.value.exit_code == 2
    assert caught.value.key == key
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        ({"name": "n", "kind": "count", "better": "lower"}, "not compared task by task"),
        ({"name": "n", "kind": "mean", "value": "latency_ms", "better": "lower", "per": "call"}, "a task is a request"),
        ({"use": "error_rate", "guardrail": True}, "quality, latency and cost decide here"),
        (
            {"name": "n", "kind": "mean", "value": "latency_ms", "better": "lower", "covariate": "pre"},
            "for experiment files",
        ),
    ],
)
def test_metrics_that_a_task_cannot_carry(metric, words):
    with pytest.raises(ab.AbtestError, match=words):
        TradeoffSpec.from_dict(spec(metrics=[*spec()["metrics"], metric]))


def test_an_expression_that_does_not_fit_its_column_is_a_spec_error(make_store):
    store = make_store(logs({"large_prompt": LARGE, "small_tuned": SMALL}, users=5))
    metrics = [*spec()["metrics"], {"name": "odd", "kind": "proportion", "event": "surface > 3", "better": "lower"}]
    with pytest.raises(ab.AbtestError, match="does not fit its columns") as caught:
        tradeoff(store, TradeoffSpec.from_dict(spec(metrics=metrics)))
    assert caught.value.exit_code == 2


def test_the_module_is_the_function():
    import abtest.tradeoff as module

    assert ab.tradeoff is module
    assert callable(ab.tradeoff)
    assert module.findings is findings


@pytest.mark.parametrize("status", ["ok", "unbounded", "never", "always", "below", "unknown"])
@pytest.mark.parametrize("now", [None, 5e4])
def test_every_case_can_be_drawn(status, now):
    from abtest.charts.tradeoff import cost_over_volume

    bounds = {"ok": (4e4, 3e4, 6e4), "unbounded": (4e4, 3e4, None), "below": (None, 3e4, None)}.get(status, (None,) * 3)
    comparison = {
        "technique": "<b>", "baseline": {"name": "a", "cost_per_task": {"value": 0.02}, "fixed_a_month": 0.0},
        "facts": {"fixed_a_month": 700.0}, "saving": {"value": 0.01, "lower": None if status == "unknown" else 0.005, "upper": 0.015},
        "break_even": {"status": status, **dict(zip(("value", "lower", "upper"), bounds, strict=True))},
    }  # fmt: skip
    svg = to_svg(cost_over_volume(comparison, tasks_a_month=now))
    assert ("now 50,000" in svg) == (now is not None)
    assert svg.startswith("<svg")
    assert "<b>" not in svg
    assert ("break-even 40,000" in svg) == (bounds[0] is not None)
