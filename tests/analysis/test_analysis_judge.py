"""What is said about a metric follows from the units: numbers against dense matrices, verdicts against what was put in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from analysis_logs import Record, at, call, random_case, spec_of
from analysis_oracle import Oracle
from analysis_store import StoreMaker
from score_oracle import Units, dense_score

from abtest.analysis.analyze import analyze_evidence
from abtest.analysis.judge import judge
from abtest.analysis.read import Evidence, read
from abtest.results import MetricResult
from abtest.spec import Experiment

METRICS: list[Record] = [
    {"name": "refusal", "kind": "proportion", "event": "refused", "better": "lower", "guardrail": {"margin": {"points": 0.02}}},
    {"name": "valid", "kind": "proportion", "event": "NOT refused", "better": "higher", "guardrail": {"margin": {"points": 0.02}}},
    {"name": "latency", "kind": "mean", "value": "latency_ms", "better": "lower", "guardrail": {"margin": {"relative": 0.1}}},
    {"name": "speed", "kind": "mean", "value": "0 - latency_ms", "better": "higher", "guardrail": {"margin": {"absolute": 10.0}}},
    {"name": "ratio", "kind": "ratio", "numerator": "latency_ms", "denominator": "output_tokens", "better": "lower"},
    {"name": "median", "kind": "quantile", "value": "latency_ms", "q": 0.5, "better": "lower", "guardrail": {"margin": {"relative": 0.1}}},
    {"name": "help", "kind": "mean", "value": "output_tokens", "better": "higher", "success": {"mde": {"relative": 0.05}}},
]  # fmt: skip
INDEX = {m["name"]: j for j, m in enumerate(METRICS)}


def traffic(seed: int, *, harm: float = 0.0, units: int = 900) -> list[Record]:
    """Two stages, nested hashes, returning users with a level of their own; `harm` is the relative harm of B everywhere."""
    rng = np.random.default_rng(seed)
    records = []
    for u in range(units):
        h, own = rng.random(), rng.normal(0, 0.2)
        for n, hours in enumerate(np.sort(rng.uniform(0, 40, int(rng.integers(1, 4))))):
            arm = "B" if h < (0.2 if hours < 20 else 0.5) else "A"
            worse = 1 + harm * (arm == "B")
            records.append(call(
                f"c{u}-{n}", f"u{u}", arm, float(hours), latency_ms=round(float(100 * worse * np.exp(own + rng.normal(0, 0.2))), 3),
                refused=bool(rng.random() < 0.04 * (1 + 8 * harm * (arm == "B"))), output_tokens=int(rng.integers(40, 60) / worse),
            ))  # fmt: skip
    return records


def of(maker: StoreMaker, records: list[Record], **fields: Any) -> tuple[Evidence, dict[str, MetricResult]]:
    rows = [{"at": at(0), "share": 0.2}, {"at": at(20), "share": 0.5}]
    ev = read(maker(records), Experiment.from_dict(spec_of(*METRICS, allocation=rows, **fields)))
    return ev, {m["name"]: judge(ev, j, "B") for m, j in zip(METRICS, range(len(METRICS)), strict=True)}


def test_numbers_are_those_of_the_units(make_store: StoreMaker) -> None:
    records = traffic(1, harm=0.05)
    ev, results = of(make_store, records)
    oracle = Oracle(
        spec_of(PLAIN, allocation=[{"at": at(0), "share": 0.2}, {"at": at(20), "share": 0.5}]),
        records,
        ev.as_of_us or 0,
    )
    rows = [("AB".index(a), k, u, x / 10**6, y) for (u, a, k), (x, y) in oracle.unit_sums(0, ev.looks[-1]).items()]
    answer = dense_score(Units(*(np.array(c) for c in zip(*rows, strict=True)), stages=2), np.array([0.2, 0.5]))
    found = results["latency"]
    assert found.status == "ok"
    assert found.estimate == pytest.approx(answer.score / answer.weight, rel=1e-9)
    assert found.std_error == pytest.approx(answer.v**0.5 / answer.weight, rel=1e-9)
    assert found.treatment_value is not None
    assert found.control_value is not None
    assert found.treatment_value - found.control_value == pytest.approx(found.estimate, rel=1e-9)
    assert found.n_treatment == len({r["unit_id"] for r in records if r["variant"] == "B"})
    assert found.n_control == len({r["unit_id"] for r in records if r["variant"] == "A"})


PLAIN = {"name": "latency", "kind": "mean", "value": "latency_ms", "better": "lower"}


def test_harm_is_found_and_a_good_release_is_safe(make_store: StoreMaker) -> None:
    _, bad = of(make_store, traffic(2, harm=0.5))
    guarded = ("refusal", "valid", "latency", "speed", "median")
    assert {n: bad[n].verdict for n in guarded} == dict.fromkeys(guarded, "harm")
    assert bad["help"].verdict == "harm"
    assert bad["help"].superior is False
    _, good = of(make_store, traffic(3, units=2500))
    assert {good[n].verdict for n in guarded} <= {"safe", "inconclusive"}
    assert good["latency"].verdict == good["median"].verdict == "safe"
    assert good["help"].superior is False


def test_the_mirror_of_a_metric_has_the_mirrored_answer(make_store: StoreMaker) -> None:
    """Refusals that are to be low and valid answers that are to be high are one thing."""
    _, results = of(make_store, traffic(4, harm=0.1))
    low, high = results["refusal"], results["valid"]
    assert high.estimate == pytest.approx(-(low.estimate or 0), rel=1e-9)
    assert (high.ci_lower, high.ci_upper) == pytest.approx((-(low.ci_upper or 0), -(low.ci_lower or 0)), rel=1e-6)
    for name in ("harm_lower", "harm_upper", "harm_log_e_value", "log_e_value"):
        assert getattr(high, name) == pytest.approx(getattr(low, name), rel=1e-3), name
    assert high.details["rate_ratio"] == low.details["rate_ratio"]
    assert results["speed"].estimate == pytest.approx(-(results["latency"].estimate or 0), rel=1e-9)


@pytest.mark.parametrize("method", ["anytime", "fixed"])
def test_every_interval_holds_its_estimate_and_every_number_is_finite(make_store: StoreMaker, method: str) -> None:
    ev, results = of(make_store, traffic(5), sequential={"method": method})
    for r in results.values():
        assert r.status == "ok", r
        assert r.ci_lower is not None
        assert r.ci_upper is not None
        assert r.estimate is not None
        assert r.ci_lower <= r.estimate <= r.ci_upper
        assert 0 <= (r.pvalue or 0.0) <= 1
        if r.role == "guardrail":
            assert r.harm_lower is not None
            assert r.harm_upper is not None
            assert r.harm_lower <= r.harm_upper
        assert (r.verdict == "harm") <= (
            r.harm_lower is not None and r.harm_lower > (r.margin or 0)
        ) or r.method == "rate_ratio"
    assert analyze_evidence(ev).to_dict()["schema"] == "abtest.analysis/1"


def test_the_last_point_of_the_series_is_the_result(make_store: StoreMaker) -> None:
    rows = [{"at": at(0), "share": 0.2}, {"at": at(20), "share": 0.5}]
    experiment = Experiment.from_dict(spec_of(*METRICS, allocation=rows))
    ev = read(make_store(traffic(6)), experiment, series=True)
    results = {r.metric: r for r in analyze_evidence(ev).metrics}
    assert results["latency"] == replace(judge(ev, INDEX["latency"], "B"), series=results["latency"].series)
    for name in ("refusal", "valid", "latency", "speed", "ratio", "help"):
        r = results[name]
        assert 30 < len(r.series) <= 72
        last = r.series[-1]
        assert (last.estimate, last.ci_lower, last.ci_upper) == (r.estimate, r.ci_lower, r.ci_upper)
        assert (last.n_control, last.n_treatment) == (r.n_control, r.n_treatment)
        assert [p.at for p in r.series] == sorted(p.at for p in r.series)


def test_zero_events_in_control_do_not_silence_the_exact_test(make_store: StoreMaker) -> None:
    """0 % against 15 %: no variance in control, and yet harm (peers give p = 1 here)."""
    records = [call(f"c{n}", f"u{n}", "AB"[n % 2], n / 40, refused=n % 2 == 1 and n % 7 == 0) for n in range(600)]
    metric = METRICS[0]
    ev = read(make_store(records), Experiment.from_dict(spec_of(metric, allocation=[{"at": at(0), "share": 0.5}])))
    result = judge(ev, 0, "B")
    assert result.verdict == "harm"
    assert result.details["rate_ratio"]["first_events_control"] == 0
    assert result.details["rate_ratio"]["log_e_value"] > 5


def test_without_a_share_the_exact_test_says_so(make_store: StoreMaker) -> None:
    ev = read(make_store(traffic(7, units=200)), Experiment.from_dict(spec_of(METRICS[0])))
    assert judge(ev, 0, "B").details["rate_ratio"]["status"] == "no_share"


@pytest.mark.parametrize("seed", [25, 33])
def test_any_log_has_an_answer(make_store: StoreMaker, seed: int) -> None:
    """Random logs, every metric: no warning, no number that is not finite, no claim without status ok."""
    case = random_case(seed)
    ev = read(make_store(case.records), Experiment.from_dict(case.spec), as_of_us=case.end_us)
    for metric in analyze_evidence(ev).metrics:
        if metric.status != "ok":
            assert metric.verdict in ("unknown", "harm")
            assert metric.verdict != "harm" or metric.method == "rate_ratio"
            assert metric.superior is None
        for name, value in metric.to_dict().items():
            assert not isinstance(value, float) or np.isfinite(value), name


def test_only_whole_numbers_leave_sql(make_store: StoreMaker) -> None:
    case = random_case(25)
    ev = read(make_store(case.records), Experiment.from_dict(case.spec), as_of_us=case.end_us)
    tables = [
        ev.cells,
        ev.pairs,
        ev.first_events,
        ev.arms,
        ev.stages,
        ev.assignment,
        ev.contamination,
        ev.manifests,
        *ev.histograms.values(),
    ]
    for rows in [*tables, [ev.population]]:
        assert {type(v) for row in rows for v in row.values()} <= {int, str, type(None)}
