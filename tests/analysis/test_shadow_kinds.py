"""Kinds and methods with rules of their own: shapes, quantiles, fixed horizon, requests as units, bets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special, stats
from shadow_logs import CANDIDATE, CONTROL, LATENCY, REFUSAL, Record, call, ingest, simple, spec

from abtest.analysis.shadow_judge import judge_item
from abtest.analysis.shadow_read import ShadowEvidence, read_shadow
from abtest.analysis.shadow_results import ShadowMetric
from abtest.errors import UnsupportedByEngine
from abtest.metrics.distribution import GRID
from abtest.stats.betting import bet_grid

SHAPE = {
    "name": "length", "kind": "distribution", "value": "output_tokens", "better": "lower", "guardrail": {"margin": {"points": 0.15}},
}  # fmt: skip


def judged(
    tmp_path: Path, records: list[Record], *metrics: Any, **keys: Any
) -> tuple[dict[str, ShadowMetric], ShadowEvidence]:
    with ingest(tmp_path, records) as store:
        evidence = read_shadow(store, spec(*metrics, **keys))
    return {i.spec.name: judge_item(evidence, i) for i in evidence.plan.items}, evidence


def lengths(shift: float, users: int = 500) -> list[Record]:
    """Return answers with 200 tokens or so; the candidate's are longer by `shift`."""
    rng = np.random.default_rng(21)
    rows: list[Record] = []
    for n in range(users):
        hard = rng.normal()
        for arm, more in ((CONTROL, 0.0), (CANDIDATE, shift)):
            tokens = int(max(200 + 60 * hard + 10 * rng.normal() + more, 1))
            rows.append(call(f"r{n}", arm, unit_id=f"u{n}", seconds=60 * n + (arm == CANDIDATE), output_tokens=tokens))
    return rows


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, "safe"), (60.0, "harm")])
def test_a_shape_is_judged_by_the_share_that_moved_most(tmp_path: Path, shift: float, verdict: str) -> None:
    rows = lengths(shift)
    got, evidence = judged(tmp_path, rows, SHAPE)
    m = got["length"]
    assert (m.verdict, m.status) == (verdict, "ok")
    tokens = {arm: np.array([r["output_tokens"] for r in rows if r["variant"] == arm]) for arm in (CONTROL, CANDIDATE)}
    moved = {
        f"p{round(q * 100)}": float((tokens[CANDIDATE] > limit).mean() - (tokens[CONTROL] > limit).mean())
        for q in GRID for limit in [evidence.frozen["length"][f"threshold_{round(q * 100)}"]]
    }  # fmt: skip
    assert m.details["shifts"] == pytest.approx(moved, abs=1e-12)
    assert m.estimate == pytest.approx(max(map(abs, moved.values())), abs=1e-12)
    assert (m.harm_lower or 0.0) <= (m.estimate or 0.0) <= (m.harm_upper or 1.0)


@pytest.mark.parametrize(("effect", "verdict"), [(0.0, "safe"), (0.6, "harm")])
def test_a_quantile_is_judged_past_its_margin(tmp_path: Path, effect: float, verdict: str) -> None:
    metric = {
        "name": "p80",
        "kind": "quantile",
        "value": "latency_ms",
        "q": 0.8,
        "better": "lower",
        "guardrail": {"margin": {"relative": 0.3}},
    }
    rows = simple(22, users=300, effect=effect)
    got, _ = judged(tmp_path, rows, metric)
    m = got["p80"]
    assert (m.verdict, m.status, m.method) == (verdict, "ok", "paired_exceedance")
    ms = {arm: [r["latency_ms"] for r in rows if r["variant"] == arm] for arm in (CONTROL, CANDIDATE)}
    assert m.control_value == pytest.approx(np.quantile(ms[CONTROL], 0.8), rel=0.01)
    assert m.treatment_value == pytest.approx(np.quantile(ms[CANDIDATE], 0.8), rel=0.01)
    assert m.harm_lower is not None
    assert m.harm_upper is not None
    assert m.harm_lower < (m.relative_estimate or 0.0) < m.harm_upper


def test_a_tail_needs_its_answers(tmp_path: Path) -> None:
    metric = {
        "name": "p99",
        "kind": "quantile",
        "value": "latency_ms",
        "q": 0.99,
        "better": "lower",
        "guardrail": {"margin": {"relative": 0.3}},
    }
    m = judged(tmp_path, simple(23, users=100), metric)[0]["p99"]
    assert (m.status, m.verdict) == ("insufficient", "unknown")
    assert "20 of its answers" in m.note


def test_a_fixed_horizon_is_the_normal_interval_and_says_so(tmp_path: Path) -> None:
    """Squares are around the harm that is tested: z = (D - h) / (sd(D - h) / √n), a little wider than the textbook's."""
    rows = simple(24, users=200, requests=1)
    metric = {**LATENCY, "guardrail": {"margin": {"absolute": 30.0}}}
    m = judged(tmp_path, rows, metric, sequential={"method": "fixed"})[0]["latency"]
    d = np.array([b["latency_ms"] - a["latency_ms"] for a, b in zip(rows[::2], rows[1::2], strict=True)])
    for bound, alpha in ((m.ci_lower, 0.025), (m.ci_upper, 0.025), (m.harm_upper, 0.05), (m.harm_lower, 0.01)):
        assert bound is not None
        z = (d - bound).sum() / np.sqrt(((d - bound) ** 2).sum())
        assert abs(z) == pytest.approx(float(special.ndtri(1 - alpha)), rel=1e-9)
    test = stats.ttest_1samp(d, 0.0)
    assert m.paired["pvalue"] == pytest.approx(test.pvalue, rel=1e-9)
    interval = test.confidence_interval(0.95)
    assert (m.paired["fixed_lower"], m.paired["fixed_upper"]) == pytest.approx((interval.low, interval.high), rel=1e-9)
    values = {arm: [r["latency_ms"] for r in rows if r["variant"] == arm] for arm in (CONTROL, CANDIDATE)}
    welch = stats.ttest_ind(values[CANDIDATE], values[CONTROL], equal_var=False)
    assert m.unpaired["pvalue"] == pytest.approx(welch.pvalue, rel=1e-9)
    assert "one decision at a declared time" in m.note
    assert m.paired["ci_lower"] is None


def test_a_request_can_be_the_unit(tmp_path: Path) -> None:
    rows = [{k: v for k, v in r.items() if k not in ("unit_id", "session_id")} for r in simple(25, users=60)]
    _, evidence = judged(tmp_path, rows, REFUSAL, unit="request")
    assert evidence.units == evidence.pairs == len(rows) / 2


def test_bets_are_the_product_over_first_pairs(tmp_path: Path) -> None:
    """log E at the margin, multiplied out unit by unit; users of the warm-up and later pairs of a user are no bets."""
    rows = simple(26, users=120, refusals=(0.1, 0.3))
    m, evidence = judged(tmp_path, rows, REFUSAL, shadow={"method": "betting"})
    got, frozen = m["refusal_rate"], evidence.frozen["refusal_rate"]
    first: dict[int, list[Record]] = {}
    for a, b in zip(rows[::2], rows[1::2], strict=True):
        first.setdefault(int(a["unit_id"][1:]), [a, b])
    g = np.array([float(b["refused"]) - float(a["refused"]) for u, (a, b) in sorted(first.items()) if u >= 30])
    variance = max(frozen["variance"], 0.05 * 0.95)
    z = float(special.ndtri(0.99) + special.ndtri(0.8))
    bets = bet_grid(variance * z * z / 0.05**2, variance, 0.01, 2.0, alternative="larger")
    wealth = np.array([np.prod(1 + bet * (g - 0.05)) for bet in bets.lambdas])
    assert got.harm_log_e_value == pytest.approx(np.log((np.exp(bets.log_weights) * wealth).sum()), rel=1e-9)
    assert got.method == "paired_betting"
    assert got.harm_lower is None or got.harm_lower < g.mean()


def test_answers_that_never_differ_prove_nothing_about_an_unbounded_mean(tmp_path: Path) -> None:
    """Equal in every pair so far: a rare large cost could still come, so there is no variance and no pass."""
    rows = [{**r, "cost_usd": 0.01} for r in simple(27, users=60)]
    cost = {
        "name": "cost",
        "kind": "mean",
        "value": "cost_usd",
        "better": "lower",
        "guardrail": {"margin": {"relative": 0.1}},
    }
    m = judged(tmp_path, rows, cost)[0]["cost"]
    assert (m.status, m.verdict, m.estimate) == ("zero_variance", "unknown", 0.0)
    assert m.harm_upper is None


def test_a_rare_event_that_nobody_has_seen_yet_is_no_pass(tmp_path: Path) -> None:
    """No refusal in 60 pairs: 1 point more is not ruled out, 40 points are."""
    rows = simple(28, users=60, requests=1, refusals=(0.0, 0.0))
    for points, verdict in ((0.01, "inconclusive"), (0.4, "safe")):
        folder = tmp_path / str(points)
        folder.mkdir()
        m = judged(folder, rows, {**REFUSAL, "guardrail": {"margin": {"points": points}}})[0]["refusal_rate"]
        assert (m.status, m.verdict) == ("ok", verdict)


def test_what_is_shown_besides_is_never_in_the_way(tmp_path: Path) -> None:
    """Absurd latencies that no metric of the spec reads; a metric that reads them says what is wrong."""
    rows = [{**r, "latency_ms": 1e15} for r in simple(29, users=40)]
    with ingest(tmp_path, rows) as store:
        evidence = read_shadow(store, spec(REFUSAL))
        assert evidence.pairs == len(rows) / 2
        assert [i.spec.name for i in evidence.plan.items] == ["refusal_rate"]
        assert "too large" in evidence.plan.left_out[0]
        with pytest.raises(UnsupportedByEngine, match="too large for exact arithmetic"):
            read_shadow(store, spec(REFUSAL, LATENCY))
