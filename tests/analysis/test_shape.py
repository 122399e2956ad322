"""The distribution-shape metric out of the store: longer answers, collapsed answers, no change, guardrails."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from analysis_logs import Record, call, spec_of
from analysis_store import StoreMaker

from abtest.analysis.analyze import analyze
from abtest.analysis.judge import judge
from abtest.analysis.read import read
from abtest.metrics.distribution import GRID, threshold_name
from abtest.rollout.decide import decide
from abtest.spec import Experiment

SHAPE: Record = {"name": "shape", "kind": "distribution", "value": "response_chars", "better": "lower"}


def logs(change: Any, users: int = 260, calls: int = 5, seed: int = 2) -> list[Record]:
    """Return logs in which `change` maps a length of control to one of the treatment."""
    rng = np.random.default_rng(seed)
    records: list[Record] = []
    for arm in "AB":
        for n in range(users):
            taste = rng.normal(0, 0.4)
            for c in range(calls):
                length = int(np.exp(6 + taste + rng.normal(0, 0.8)))
                length = int(change(length)) if arm == "B" else length
                records.append(
                    call(f"{arm}{n}c{c}", f"{arm}{n}", arm, float(rng.uniform(0, 20)), response_chars=length)
                )
    return records


def experiment(**keys: Any) -> Experiment:
    return Experiment.from_dict(spec_of({**SHAPE, **keys}, warm_up_units=60, ramp=[{"stage": "ab", "share": 0.5}]))


def test_shares_above_controls_quantiles_are_those_of_plain_counting(make_store: StoreMaker) -> None:
    records = logs(lambda n: n * 1.6)
    store = make_store(records)
    ev = read(store, experiment())
    result = judge(ev, 0, "B")
    frozen = ev.frozen["shape"]
    assert set(frozen) == {threshold_name(q) for q in GRID}
    for row in result.details["grid"]:
        threshold = frozen[threshold_name(row["quantile"])]
        assert row["threshold"] == threshold
        for arm, key in (("A", "control_above"), ("B", "treatment_above")):
            mine = [r["response_chars"] > threshold for r in records if r["variant"] == arm]
            assert row[key] == pytest.approx(sum(mine) / len(mine), rel=1e-12)
    gaps = [row["treatment_above"] - row["control_above"] for row in result.details["grid"]]
    assert result.estimate == pytest.approx(max(abs(g) for g in gaps), rel=1e-12)
    assert result.ci_lower is not None
    assert result.ci_upper is not None
    assert 0 < result.ci_lower < result.estimate < result.ci_upper
    assert (result.unit, result.method) == ("points", "distribution_exceedance")


def test_longer_answers_are_named(make_store: StoreMaker) -> None:
    result = analyze(make_store(logs(lambda n: n * 1.8)), experiment(), series=False).metric("shape")
    assert result.note.startswith("longer: ")
    assert "above control's" in result.note
    assert result.pvalue is not None
    assert result.pvalue < 0.001
    shorter = analyze(make_store(logs(lambda n: n / 1.8)), experiment(), series=False).metric("shape")
    assert shorter.note.startswith("shorter: ")


def test_the_same_distribution_is_safe_and_a_moved_one_is_harm(make_store: StoreMaker) -> None:
    guardrail = {"margin": {"points": 0.15}, "action": "halt"}
    same = decide(make_store(logs(lambda n: n)), experiment(guardrail=guardrail), dry_run=True)
    assert same.metrics[0].verdict == "safe"
    assert same.decision == "promote"
    moved = decide(make_store(logs(lambda n: n * 2.5)), experiment(guardrail=guardrail), dry_run=True)
    assert moved.metrics[0].verdict == "harm"
    assert moved.decision == "halt"
    assert "past its margin of +15 pp" in moved.summary


def test_a_collapse_onto_one_answer_is_said(make_store: StoreMaker) -> None:
    def collapse(n: int) -> int:
        return 420 if n % 3 else n

    result = analyze(make_store(logs(collapse)), experiment(), series=False).metric("shape")
    assert "mode collapse?" in result.note
    shape = result.details["shape"]
    assert shape["treatment"]["top_share"] > 0.5 > shape["control"]["top_share"]


def test_the_series_ends_in_the_decision(make_store: StoreMaker) -> None:
    guardrail = {"margin": {"points": 0.15}, "action": "halt"}
    result = analyze(make_store(logs(lambda n: n * 1.2)), experiment(guardrail=guardrail)).metric("shape")
    last = result.series[-1]
    assert len(result.series) > 5
    for name in ("estimate", "ci_lower", "ci_upper", "harm_lower", "harm_upper", "log_e_value"):
        assert getattr(last, name) == pytest.approx(getattr(result, name), rel=1e-9, abs=1e-12), name


def test_few_calls_are_no_answer(make_store: StoreMaker) -> None:
    result = analyze(make_store(logs(lambda n: n, users=65, calls=1)), experiment(), series=False).metric("shape")
    assert result.status == "insufficient"
    assert (result.estimate, result.pvalue, result.verdict) == (None, None, "unknown")
    nothing = [{k: v for k, v in r.items() if k != "response_chars"} for r in logs(lambda n: n)]
    assert analyze(make_store(nothing), experiment(), series=False).metric("shape").status == "no_data"


def test_answers_of_no_length_are_a_threshold_like_any_other(make_store: StoreMaker) -> None:
    """A tenth of control's answers is empty: its p10 is zero, and "longer than nothing" is a share."""
    records = logs(lambda n: n)
    for i, record in enumerate(records):
        if i % 5 == 0:
            record["response_chars"] = 0
    result = analyze(make_store(records), experiment(), series=False).metric("shape")
    assert result.status == "ok"
    assert result.details["grid"][0]["threshold"] == 0.0
    assert result.details["grid"][0]["control_above"] == pytest.approx(0.8, abs=0.01)


def test_fixed_horizon_says_so(make_store: StoreMaker) -> None:
    spec = spec_of(SHAPE, warm_up_units=60, sequential={"method": "fixed"}, ramp=[{"stage": "ab", "share": 0.5}])
    result = analyze(make_store(logs(lambda n: n * 1.5)), Experiment.from_dict(spec), series=False).metric("shape")
    assert result.method == "fixed_z"
    assert "fixed horizon" in result.note
    assert result.log_e_value is None
    assert result.pvalue is not None
    assert result.pvalue < 0.01
