"""What the simulations of this folder measure is what the product does: rows of a simulation, written as logs, ingested and
analysed, give the same score, clock, first events and verdict at the last look."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from score_paths import RAMP, alike, path_sums, rho2_of, traffic, warm_up
from studies_harm import EVENT
from studies_rare import listen

from abtest.analysis.analyze import analyze_evidence
from abtest.analysis.read import read
from abtest.spec import Experiment
from abtest.stats.mixture import log_e_one_sided
from abtest.stats.score import stratified_score
from abtest.store.store import Store

START = datetime(2026, 11, 2, tzinfo=UTC)


def spec(shares, hours):
    stages = [{"stage": "canary", "share": q} for q in shares]
    since = [{"at": (START + timedelta(hours=k * hours)).isoformat(), "share": q} for k, q in enumerate(shares)]
    metric = {"name": "refusal_rate", "kind": "proportion", "event": "refused", "better": "lower",
              "guardrail": {"margin": {"points": 0.01}, "action": "halt"}}  # fmt: skip
    return Experiment.model_validate({
        "id": "paths", "unit": "user", "control": "a", "treatments": ["b"], "metrics": [metric],
        "ramp": stages, "allocation": [{**row, "at": datetime.fromisoformat(row["at"])} for row in since],
    })  # fmt: skip


def logs(t, x, path):
    hours = t.looks
    with path.open("w") as out:
        for i in range(t.rows):
            row = {
                "type": "interaction", "experiment_id": "paths", "interaction_id": f"i{i}", "request_id": f"r{i}",
                "ts": (START + timedelta(hours=float(t.time[i]) * hours)).isoformat(), "model": "m", "operation": "chat",
                "unit_id": f"u{t.unit[i]}", "variant": "ab"[t.arm[i]], "refused": bool(x[i]),
            }  # fmt: skip
            out.write(json.dumps(row) + "\n")


@pytest.mark.parametrize("shares", [(0.1,), RAMP], ids=["one stage", "ramp"])
def test_the_product_sees_what_the_simulation_sees(shares, tmp_path):
    rng = np.random.default_rng(8)
    hours = 96 // len(shares)
    t = traffic(rng, 2500, 6000, shares, hours)
    x = (alike(rng, t, 0.2) < 0.02 + 0.04 * t.time + 0.03 * (t.arm == 1)).astype(float)
    logs(t, x, tmp_path / "logs.jsonl")
    experiment = spec(shares, hours)
    with Store(tmp_path / "abtest.duckdb") as store:
        assert store.ingest(tmp_path / "logs.jsonl").inserted == t.rows
        evidence = read(store, experiment)
        metric = analyze_evidence(evidence).metrics[0]
        frozen = warm_up(t, x)
    assert evidence.frozen["refusal_rate"] == pytest.approx(frozen)
    score = stratified_score(path_sums(t, x), shares, proportion=True)
    plain = score.contrast(0.0)
    assert metric.estimate == pytest.approx(plain.score[-1] / plain.weight[-1])
    said = listen(t, x)
    assert metric.details["rate_ratio"]["log_e_value"] == pytest.approx(said.log_e[-1])
    assert (metric.verdict == "harm") == said.halt(0.01)[-1]
    tested = score.contrast(0.01)
    theirs = stratified_score(evidence.pair_sums(0, "b"), shares, proportion=True).contrast(0.01)
    np.testing.assert_allclose(theirs.score[-1], tested.score[-1], rtol=1e-6)
    np.testing.assert_allclose(theirs.v[-1], tested.v[-1], rtol=1e-6)
    # The bound by inversion and the test at the margin say the same.
    alpha = 0.005
    log_e = log_e_one_sided(tested.score, tested.v, rho2_of(EVENT, frozen, alpha, shares))[-1]
    assert (metric.harm_lower > 0.01) == (log_e >= -math.log(alpha))
    safe = log_e_one_sided(-tested.score, tested.v, rho2_of(EVENT, frozen, 0.05, shares))[-1]
    assert (metric.harm_upper < 0.01) == (safe >= math.log(20))
