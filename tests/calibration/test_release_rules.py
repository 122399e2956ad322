"""RELEASES §1's table with our rule: whole releases, looked at 48 times; sizes and results in docs/calibration_release.md."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import pytest
import release_rules
from release_rules import AT_MARGINS, GUARDRAILS, HARMS, NULLS, REGRESSIONS, Study, judged, runs_of, values_of
from score_paths import Rate, traffic

from abtest.analysis.analyze import analyze
from abtest.spec import Experiment
from abtest.store.store import Store

pytestmark = pytest.mark.calibration
HALT, SAFE = 0.01, 0.05
FULL = os.environ.get("ABTEST_CALIBRATE") == "full"


@cache
def measured(study: Study) -> list[dict[str, Any]]:
    return list(runs_of(study, study.full if FULL else study.reduced))


def share(study: Study, *names: str) -> Rate:
    """Return how often any of these rules halted."""
    runs = measured(study)
    return Rate(sum(any(run[name] is not None for name in names) for run in runs), len(runs))


@pytest.mark.parametrize("study", NULLS, ids=lambda s: s.name)
def test_identical_arms_are_halted_at_most_as_often_as_the_budget_says(study):
    for name in GUARDRAILS:
        assert share(study, f"{name}|ours").at_most(HALT), name
    together = share(study, *(f"{name}|ours" for name in GUARDRAILS))
    assert together.at_most(HALT), together


@pytest.mark.parametrize("study", NULLS, ids=lambda s: s.name)
def test_a_threshold_and_a_test_read_at_every_look_halt_good_releases(study):
    assert share(study, "refusal_relative|threshold").at_least(0.95)
    assert share(study, "latency_p99|threshold", "cost|threshold").at_least(0.5)
    assert share(study, *(f"{name}|fixed" for name in GUARDRAILS)).above(HALT)


@pytest.mark.parametrize("study", [s for s in HARMS if not s.what.startswith("p99")], ids=lambda s: s.name)
def test_a_large_regression_is_halted(study):
    name = REGRESSIONS[study.what][0]
    assert share(study, f"{name}|ours").at_least(0.99)
    looks = [run[f"{name}|ours"] for run in measured(study) if run[f"{name}|ours"] is not None]
    assert np.median(looks) <= 6


def test_a_slower_tail_is_found_as_its_calls_come_in():
    """A p99 has one call in a hundred to go by: 2.5 times at little traffic takes time, and more traffic finds it sooner."""
    few, many = (s for s in HARMS if s.what == "p99 +100 %")
    assert share(many, "latency_p99|ours").at_least(0.9)
    assert share(few, "latency_p99|ours").value <= share(many, "latency_p99|ours").value


@pytest.mark.parametrize("study", AT_MARGINS, ids=lambda s: s.name)
def test_harm_exactly_at_the_margin_is_promoted_at_most_alpha_over_the_whole_ramp(study):
    assert share(study, "safe").at_most(SAFE), share(study, "safe")


def test_what_is_simulated_is_what_the_product_decides(tmp_path):
    """The rows of one release, written as logs, ingested and analysed: the same verdicts of all four guardrails."""
    rng = np.random.default_rng(951)
    looks, start = release_rules.LOOKS, datetime(2026, 11, 2, tzinfo=UTC)
    t = traffic(rng, 1500, 9000, (0.3,), looks)
    values = values_of(rng, t, {"cost": 1.0, "refused": 0.04})
    with (tmp_path / "logs.jsonl").open("w") as out:
        for i in range(t.rows):
            at = start + timedelta(hours=float(t.time[i]) * looks)
            row = {
                "type": "interaction", "experiment_id": "release", "interaction_id": f"i{i}", "request_id": f"r{i}", "ts": at.isoformat(),
                "model": "m", "operation": "chat", "unit_id": f"u{t.unit[i]}", "variant": "ab"[t.arm[i]], "refused": bool(values["refused"][i]),
                "latency_ms": float(values["latency"][i]), "cost_usd": float(values["cost"][i]),
            }  # fmt: skip
            out.write(json.dumps(row) + "\n")
    asked = release_rules.experiment((0.3,))
    data = {**asked.model_dump(mode="json", exclude_none=True, exclude_defaults=True), "start": start}
    with Store(tmp_path / "abtest.duckdb") as store:
        assert store.ingest(tmp_path / "logs.jsonl", source="native").inserted == t.rows
        metrics = {m.metric: m for m in analyze(store, Experiment.from_dict(data), series=False).metrics}
    seen = set()
    for name in GUARDRAILS:
        said = judged(asked, name, t, release_rules.column_of(name, values))
        ours = "harm" if said.harm[-1] else "safe" if said.safe[-1] else "inconclusive"
        assert metrics[name].verdict == ours, (name, metrics[name].note)
        seen.add(ours)
    assert {"harm", "inconclusive"} <= seen
