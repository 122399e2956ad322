"""The experiment file: what it accepts, what it says when it does not."""

from __future__ import annotations

import copy
import json
import tomllib
from typing import Any

import pytest

from abtest.errors import SpecError
from abtest.spec import Experiment, json_schema

BASE: dict[str, Any] = tomllib.loads("""
id = "x"
control = "a"
treatments = ["b"]
[[metrics]]
name = "refusals"
kind = "proportion"
event = "refused"
better = "lower"
guardrail = { margin = { points = 0.01 }, action = "halt" }
""")


def changed(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(BASE), **changes}


def test_the_design_page_example_is_valid():
    metrics = [
        {"name": "latency_p99", "kind": "quantile", "value": "latency_ms", "q": 0.99, "better": "lower",
         "guardrail": {"margin": {"relative": 0.4}, "action": "halt"}},
        {"name": "cost_per_success", "kind": "ratio", "numerator": "cost_usd",
         "denominator": "CASE WHEN NOT is_error AND format_ok THEN 1 ELSE 0 END", "better": "lower",
         "guardrail": {"margin": {"relative": 0.1}, "action": "hold"}},
        {"name": "helpfulness", "kind": "mean", "score": "helpfulness", "bounds": [0, 1], "better": "higher",
         "success": {"mde": {"absolute": 0.02}}},
        {"name": "slow", "kind": "proportion", "event": "latency_ms > 2000 AND NOT is_error", "better": "lower"},
        {"name": "requests", "kind": "count", "better": "higher"},
    ]  # fmt: skip
    experiment = Experiment.from_dict(changed(metrics=BASE["metrics"] + metrics))
    assert [m.role for m in experiment.metrics] == ["guardrail", "guardrail", "guardrail", "success", "info", "info"]


@pytest.mark.parametrize(("changes", "key", "words"), [
    ({"contrl": "a"}, "contrl", "did you mean 'control'"),
    ({"alpha": 0.7}, "alpha", "less than 0.5"),
    ({"unit": "users"}, "unit", "did you mean 'user'"),
    ({"metrics": []}, "metrics", "at least 1"),
    ({"budget": {"halts": 0.01}}, "budget.halts", "did you mean 'halt'"),
    ({"arms": {"bb": {"model": "m"}}}, None, "did you mean 'b'"),
    ({"arms": {"b": {"modell": "m"}}}, "arms.b.modell", "did you mean 'model'"),
    ({"ramp": [{"stage": "canary"}]}, "ramp[0]", "needs share"),
    ({"ramp": [{"stage": "canary", "share": 0.5}, {"stage": "ab", "share": 0.1}]}, None, "must grow"),
    ({"ramp": [{"stage": "canary", "share": 0.5}, {"stage": "shadow"}]}, None, "comes first"),
    ({"allocation": [{"at": "2026-11-01T00:00:00", "share": 0.1}]}, "allocation[0].at", "timezone"),
    ({"allocation": [{"at": "2026-11-02T00:00:00Z", "share": 0.1}, {"at": "2026-11-01T00:00:00Z", "share": 0.2}]}, None, "order"),
    ({"treatments": ["b", "b"]}, None, "twice"),
    ({"treatments": ["b", "c", "d"], "allocation": [{"at": "2026-11-02T00:00:00Z", "share": 0.4}]}, None, "nothing for control"),
    ({"population": {"where": "surfce = 'x'"}}, "population.where", "did you mean 'surface'"),
    ({"sequential": {"method": "peek"}}, "sequential.method", "not possible"),
    ({"start": "2026-11-02T00:00:00Z", "end": "2026-11-01T00:00:00Z"}, None, "after start"),
])  # fmt: skip
def test_errors_name_key_and_remedy(changes, key, words):
    with pytest.raises(SpecError) as caught:
        Experiment.from_dict(changed(**changes), file="e.toml")
    error = caught.value
    assert error.file == "e.toml"
    assert error.exit_code == 2
    if key is not None:
        assert error.key == key
    assert words in str(error)


@pytest.mark.parametrize(("changes", "words"), [
    ({"kind": "proportoin"}, "did you mean 'proportion'"),
    ({"event": "latency_ms"}, "a boolean is needed"),
    ({"better": "smaller"}, "known: higher, lower"),
    ({"guardrail": {"margin": {"absolute": 0.1}}}, "points or relative"),
    ({"guardrail": {"margin": {"points": 0.1, "relative": 0.1}}}, "exactly one"),
    ({"guardrail": {"margin": {"points": -0.1}}}, "greater than 0"),
    ({"guardrail": {"margin": {"pts": 0.1}}}, "did you mean 'points'"),
    ({"guardrail": {"margin": 0.1}}, "needs a unit"),
    ({"per": "users"}, "not possible"),
])  # fmt: skip
def test_metric_errors_name_the_metric(changes, words):
    with pytest.raises(SpecError) as caught:
        Experiment.from_dict(changed(metrics=[{**BASE["metrics"][0], **changes}]))
    assert (caught.value.key or "").startswith("metrics.refusals")
    assert words in str(caught.value)


def test_policy_hash_follows_what_decides():
    one = Experiment.from_dict(BASE)
    assert Experiment.from_dict(changed(description="words")).policy_sha256() == one.policy_sha256()
    assert Experiment.from_dict(changed(alpha=0.04)).policy_sha256() != one.policy_sha256()
    assert one.policy_sha256({"refusals": {"variance": 1.0}}) != one.policy_sha256()


def test_the_halt_budget_is_split_by_weight():
    metric = BASE["metrics"][0]
    heavy = {**metric, "name": "heavy", "guardrail": {"margin": {"points": 0.01}, "weight": 3}}
    hold = {**metric, "name": "hold", "guardrail": {"margin": {"points": 0.01}, "action": "hold"}}
    experiment = Experiment.from_dict(changed(metrics=[metric, heavy, hold], treatments=["b", "c"]))
    shares = [experiment.halt_alpha(m) for m in experiment.metrics[:2]]
    assert shares == pytest.approx([0.01 / 8, 0.01 * 3 / 8])
    assert sum(shares) * 2 == pytest.approx(0.01)


def test_a_dumped_spec_reads_back_the_same():
    experiment = Experiment.from_dict(changed(allocation=[{"at": "2026-11-02T00:00:00Z", "share": 0.1}]))
    data = json.loads(json.dumps(experiment.model_dump(mode="json", exclude_none=True, exclude_defaults=True)))
    assert Experiment.from_dict(data).policy_sha256() == experiment.policy_sha256()


def test_json_schema_knows_every_kind_and_refuses_extras():
    schema = json_schema()
    assert schema["additionalProperties"] is False
    names = set(schema["$defs"])
    assert {"ProportionMetric", "MeanMetric", "RatioMetric", "QuantileMetric", "CountMetric"} <= names
    json.dumps(schema, allow_nan=False)


def test_the_committed_schema_is_current():
    from pathlib import Path

    path = Path(__file__).parent.parent / "docs" / "abtest.schema.json"
    assert json.loads(path.read_text()) == json_schema(), (
        "run: python -m abtest.cli.main init and copy the schema to docs/"
    )


def test_the_schema_and_the_reader_agree():
    """What the editor underlines is what the reader refuses, for metrics of the catalogue, caps and prices."""
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(json_schema())
    own = {"name": "m", "kind": "mean", "value": "latency_ms", "better": "lower"}
    price = {"name": "m", "since": "2026-01-01", "input": 1, "output": 2}
    good = [
        {"metrics": [{"use": "refusal_rate"}]},
        {"metrics": [{"use": "refusal_rate", "guardrail": True}]},
        {"metrics": [{"use": "refusal_rate", "guardrail": {"action": "hold"}}]},
        {"metrics": [{"use": "judge_score", "score": "help", "success": True}]},
        {"metrics": [{**own, "cap": 1000}]},
        {"metrics": [{**own, "cap": {"quantile": 0.99}}]},
        {"prices": {"model": [price]}},
    ]
    bad = [
        {"metrics": [{"use": "refusal_rte"}]},
        {"metrics": [{"use": "refusal_rate", "guardrial": True}]},
        {"metrics": [{"use": "refusal_rate", "guardrail": {"margn": 1}}]},
        {"metrics": [{**own, "cap": 0}]},
        {"metrics": [{**own, "cap": {"quantle": 0.99}}]},
        {"metrics": [{"name": "m"}]},
        {"prices": {"model": [{**price, "input": -1}]}},
        {"prices": {"models": [price]}},
    ]
    for changes in good:
        assert validator.is_valid(changed(**changes)), list(validator.iter_errors(changed(**changes)))
        Experiment.from_dict(changed(**changes))
    for changes in bad:
        assert not validator.is_valid(changed(**changes)), changes
        with pytest.raises(SpecError):
            Experiment.from_dict(changed(**changes))
