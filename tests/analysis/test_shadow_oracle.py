"""Every kind of metric on pairs against brute force over the records, to 1e-9."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from shadow_logs import CANDIDATE, CONTROL, Record, call, ingest, score, spec
from shadow_oracle import units_of

from abtest.analysis.shadow_judge import judge_item
from abtest.analysis.shadow_read import read_shadow
from abtest.analysis.shadow_results import ShadowMetric
from abtest.analysis.shadow_score import paired_score

LIMIT = 450.0
METRICS: list[dict[str, Any]] = [
    {"name": "refused_rate", "kind": "proportion", "event": "refused", "better": "lower", "guardrail": {"margin": {"points": 0.05}}},
    {"name": "valid", "kind": "proportion", "event": "format_ok", "better": "higher", "guardrail": {"margin": {"relative": 0.05}}},
    {"name": "slow_calls", "kind": "proportion", "event": "latency_ms > 600", "per": "call", "better": "lower"},
    {"name": "ever_refused", "kind": "proportion", "event": "refused", "per": "unit", "better": "lower"},
    {"name": "latency", "kind": "mean", "value": "latency_ms", "better": "lower", "guardrail": {"margin": {"relative": 0.1}}},
    {"name": "tokens_a_user", "kind": "mean", "value": "output_tokens", "per": "unit", "better": "lower"},
    {"name": "cost_per_success", "kind": "ratio", "numerator": "cost_usd", "denominator": "CASE WHEN format_ok THEN 1 ELSE 0 END",
     "better": "lower", "guardrail": {"margin": {"relative": 0.2}}},
    {"name": "p60", "kind": "quantile", "value": "latency_ms", "q": 0.6, "better": "lower", "frozen": {"threshold": LIMIT},
     "guardrail": {"margin": {"relative": 0.2}}},
    {"name": "refusals", "kind": "count", "event": "refused", "better": "lower"},
    {"name": "helpful", "kind": "mean", "score": "helpful", "better": "higher", "guardrail": {"margin": {"absolute": 0.1}, "action": "hold"}},
    {"name": "solved", "kind": "proportion", "score": "solved", "better": "higher"},
]  # fmt: skip


def log(seed: int, users: int = 45) -> list[Record]:
    """Return a log with everything that may go wrong: repeats, retries, NULLs, later turns, legs without a unit, lone answers."""
    rng = np.random.default_rng(seed)
    rows: list[Record] = []
    for u in range(users):
        own = rng.normal()
        for k in range(int(rng.integers(1, 6))):
            request, hard, seconds = f"q{u}.{k}", rng.normal(), 300.0 * u + 20 * k
            turn = None if rng.random() < 0.85 else 2
            for arm in (CONTROL, CANDIDATE):
                if rng.random() < 0.1 and k:
                    continue  # nobody answered
                repeats = int(rng.choice([1, 1, 1, 2, 3]))
                for nth in range(repeats):
                    for attempt in range(int(rng.choice([1, 1, 1, 2]))):
                        ident = f"{request}:{arm}:{nth}:{attempt}"
                        rows.append(call(
                            request, arm, ident=ident, seconds=seconds + attempt + 3 * nth, turn=turn, repeat=nth or None,
                            exposed=arm == CONTROL and nth == 0, attempt=attempt or None, unit_id=f"u{u}" if arm == CONTROL or u % 3 else None,
                            latency_ms=None if rng.random() < 0.1 else round(float(np.exp(6 + 0.4 * own + 0.4 * hard + 0.2 * rng.normal())), 4),
                            refused=None if rng.random() < 0.1 else bool(rng.random() < 0.2), output_tokens=int(rng.integers(5, 400)),
                            cost_usd=None if rng.random() < 0.1 else round(float(rng.exponential(0.01)), 8),
                            format_ok=None if rng.random() < 0.05 else bool(rng.random() < 0.8),
                        ))  # fmt: skip
                        for number in range(int(rng.choice([0, 1, 1, 2]))):
                            rows.append(
                                score(
                                    ident, "helpful", round(float(rng.random()), 5), number=number, seconds=seconds + 60
                                )
                            )
                            rows.append(
                                score(ident, "solved", float(rng.random() < 0.6), number=number, seconds=seconds + 60)
                            )
    return rows


def head(name: str) -> Callable[[list[Record]], Any]:
    return lambda answer: answer[0].get(name)


def measures(scores: dict[str, list[tuple[str, float]]]) -> dict[str, tuple[str, Callable[[list[Record]], Any]]]:
    """Return, by metric, its form and what it reads off an answer: the first attempt in the list stands for it."""

    def flag(read: Callable[[list[Record]], Any]) -> Callable[[list[Record]], Any]:
        return lambda answer: None if read(answer) is None else (float(read(answer)), 1.0)

    def number(name: str) -> Callable[[list[Record]], Any]:
        return lambda answer: None if answer[0].get(name) is None else (answer[0][name], 1.0)

    def by_call(answer: list[Record]) -> Any:
        known = [r["latency_ms"] for r in answer if "latency_ms" in r]
        return (float(sum(v > 600 for v in known)), float(len(known))) if known else None

    def ratio(answer: list[Record]) -> Any:
        r = answer[0]
        return None if r.get("cost_usd") is None else (r["cost_usd"], float(bool(r.get("format_ok"))))

    def above(answer: list[Record]) -> Any:
        value = answer[0].get("latency_ms")
        limit = LIMIT if answer[0]["variant"] == CONTROL else LIMIT * 1.2
        return None if value is None else (float(value > limit), 1.0)

    def scored(name: str) -> Callable[[list[Record]], Any]:
        def read(answer: list[Record]) -> Any:
            values = [v for r in answer for n, v in scores.get(r["interaction_id"], []) if n == name]
            return (sum(values), float(len(values))) if values else None

        return read

    def solved(answer: list[Record]) -> Any:
        found = scored("solved")(answer)
        return None if found is None else (float(found[0] / found[1] >= 0.5), 1.0)

    return {
        "refused_rate": ("mean", flag(head("refused"))), "valid": ("mean", flag(head("format_ok"))), "slow_calls": ("sum", by_call),
        "latency": ("mean", number("latency_ms")), "tokens_a_user": ("unit", number("output_tokens")), "cost_per_success": ("sum", ratio),
        "p60": ("mean", above), "refusals": ("unit", flag(head("refused"))), "helpful": ("mean", scored("helpful")),
        "solved": ("mean", solved),
    }  # fmt: skip


@pytest.fixture(scope="module", params=["last", "first"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what was judged, the evidence, and the log, shuffled over two files."""
    records, order = log(11), request.param
    shuffled = [records[i] for i in np.random.default_rng(5).permutation(len(records))]
    half = len(shuffled) // 2
    with ingest(tmp_path_factory.mktemp("oracle"), shuffled[:half], shuffled[half:]) as store:
        evidence = read_shadow(store, spec(*METRICS, population={"per_request": order}))
    return {i.spec.name: judge_item(evidence, i) for i in evidence.plan.items}, evidence, records, order


@pytest.mark.parametrize("name", [m["name"] for m in METRICS if m["name"] != "ever_refused"])
def test_values_errors_and_gain_are_those_of_the_records(case: Any, name: str) -> None:
    judged, evidence, records, order = case
    scores: dict[str, list[tuple[str, float]]] = {}
    for r in records:
        if r.get("type") == "score":
            scores.setdefault(r["interaction_id"], []).append((r["name"], r["value"]))
    form, measure = measures(scores)[name]
    units = units_of(records, measure, form=form, order=order)
    want, got = units.comparison(), judged[name]
    assert got.pairs == units.pairs > 60
    exceedance = name == "p60"
    value = {k: got.details[f"exceedance_{k}"] for k in ("control", "treatment")} if exceedance else {
        "control": got.control_value, "treatment": got.treatment_value
    }  # fmt: skip
    assert value == pytest.approx({k: want[k] for k in ("control", "treatment")}, rel=1e-9)
    assert got.paired["estimate"] == pytest.approx(want["estimate"], abs=1e-9 * abs(want["control"]))
    assert got.paired["std_error"] == pytest.approx(want["se"], rel=1e-9)
    assert got.unpaired["std_error"] == pytest.approx(want["se_apart"], rel=1e-9)
    assert (got.gain, got.correlation) == pytest.approx((want["gain"], want["correlation"]), rel=1e-8)
    item = next(i for i in evidence.plan.items if i.spec.name == name)
    for kind in ("absolute", "relative"):
        for sign in (1, -1):
            _same_score(evidence, item, units, kind, sign)


def _same_score(evidence: Any, item: Any, units: Any, kind: Any, sign: int) -> None:
    """S and v at harms near and far, without the floor of a proportion."""
    curve = paired_score(evidence.sums(item.at), sign).curve(kind)
    for harm in (0.0, curve.estimate, curve.estimate + 3 * curve.std_error, 0.3):
        s, v = curve.at(harm)
        want_s, want_v = units.score(harm, sign, relative=kind == "relative")
        assert s == pytest.approx(want_s, abs=1e-9 * math.sqrt(want_v))
        assert v == pytest.approx(want_v, rel=1e-9)


def test_a_user_that_refused_ever_counts_once(case: Any) -> None:
    judged, _, records, order = case
    units = units_of(records, measures({})["refusals"][1], form="unit", order=order)
    known = (units.b > 0) & (units.d > 0)
    want = np.minimum(units.a, 1)[known].mean(), np.minimum(units.c, 1)[known].mean()
    got: ShadowMetric = judged["ever_refused"]
    assert (got.treatment_value, got.control_value) == pytest.approx(want, rel=1e-9)


def test_a_bound_is_where_the_evidence_reaches_its_level(case: Any) -> None:
    """The one-sided mixture at both bounds of harm, from the units themselves."""
    from abtest.analysis.shadow_constants import tuning_of
    from abtest.stats.mixture import log_e_one_sided

    judged, evidence, records, order = case
    units = units_of(records, measures({})["latency"][1], form="mean", order=order)
    item = next(i for i in evidence.plan.items if i.spec.name == "latency")
    got = judged["latency"]
    for alpha, harm, sign in ((got.harm_alpha, got.harm_lower, 1), (0.05, got.harm_upper, -1)):
        rho2 = tuning_of(item.spec, evidence.frozen["latency"], alpha, one_sided=True, flag=False)
        s, v = units.score(harm, 1, relative=True)
        assert float(log_e_one_sided(sign * s, v, rho2)) == pytest.approx(-math.log(alpha), rel=1e-9)
