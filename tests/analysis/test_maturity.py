"""Delayed outcomes: a call counts when it is old enough; and what results say about their rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from analysis_logs import HOUR_US, Record, call, hours_us, score, spec_of, us
from analysis_store import StoreMaker

from abtest.analysis.analyze import analyze
from abtest.analysis.evidence import Evidence
from abtest.analysis.judge import judge
from abtest.analysis.read import read
from abtest.rollout.decide import decide
from abtest.spec import Experiment

CLICK: Record = {
    "name": "click", "kind": "proportion", "score": "click", "scorer_kind": "user", "absent": "no", "better": "higher",
    "guardrail": {"margin": {"points": 0.1}, "action": "hold"},
}  # fmt: skip
METRICS: list[Record] = [
    CLICK,
    {"name": "rated", "kind": "mean", "score": "stars", "better": "higher"},
    {"name": "latency", "kind": "mean", "value": "latency_ms", "better": "lower", "per": "call"},
    {"name": "users", "kind": "proportion", "event": "refused", "better": "lower", "per": "unit"},
    {"name": "cut", "kind": "count", "event": "refused", "better": "lower"},
    {"name": "p50", "kind": "quantile", "value": "latency_ms", "q": 0.5, "better": "lower", "frozen": {"threshold": 400.0}},
    {"name": "cost", "kind": "ratio", "numerator": "latency_ms", "denominator": "input_tokens", "better": "lower"},
]  # fmt: skip


def logs(seed: int = 0, users: int = 40, delay: float = 6.0) -> list[Record]:
    """Return two days of calls, some retried, whose clicks and ratings come up to `delay` hours later."""
    rng = np.random.default_rng(seed)
    records: list[Record] = []
    for n in range(users):
        arm = "AB"[n % 2]
        for r in range(4):
            hours = float(np.round(rng.uniform(0, 48), 3))
            for attempt in range(int(rng.choice([1, 1, 2]))):
                key, moment = f"u{n}r{r}a{attempt}", hours + attempt * float(rng.choice([0.01, 8.0]))
                records.append(
                    call(key, f"u{n}", arm, moment, request_id=f"u{n}r{r}", attempt=attempt, refused=bool(rng.random() < 0.3),
                         latency_ms=float(rng.lognormal(6, 0.5)), input_tokens=int(rng.integers(1, 99)))
                )  # fmt: skip
                later = moment + float(rng.uniform(0, delay))
                if rng.random() < 0.4:
                    records.append(score(f"c{key}", key, 1.0, later, name="click", scorer_kind="user"))
                if rng.random() < 0.5:
                    records.append(score(f"s{key}", key, float(rng.uniform(0, 5)), later, name="stars"))
    return records


def sums(ev: Evidence, j: int) -> dict[Any, tuple[int, int, int]]:
    return {(r["arm"], r["stage"]): (r["units"], r[f"x{j}"], r[f"y{j}"]) for r in ev.cells}


def heads_of(records: list[Record], until_us: int) -> dict[str, int]:
    """Return request -> the moment of the attempt that stands for it, as of a moment."""
    heads: dict[str, int] = {}
    for r in records:
        if "request_id" in r and us(r["ts"]) <= until_us:
            heads[r["request_id"]] = max(heads.get(r["request_id"], 0), us(r["ts"]))
    return heads


@pytest.mark.parametrize(("as_of", "window"), [(30.0, 6.0), (47.0, 0.5), (60.0, 24.0), (20.0, 30.0)])
def test_young_calls_are_as_if_they_were_not_there(make_store: StoreMaker, as_of: float, window: float) -> None:
    """The same sums as without maturity on logs from which the young requests (or calls) are taken out."""
    records, cut = logs(), hours_us(as_of)
    old = cut - int(window * HOUR_US)
    spec = spec_of(*[{**m, "mature_after": f"{window:g}h"} for m in METRICS])
    waiting = read(make_store(records), Experiment.from_dict(spec), as_of_us=cut)
    heads = heads_of(records, cut)
    whole = [r for r in records if "request_id" not in r or heads.get(r["request_id"], cut + 1) <= old]
    calls = [r for r in records if "request_id" not in r or us(r["ts"]) <= old]
    plain = Experiment.from_dict(spec_of(*METRICS))
    by_request, by_call = read(make_store(whole), plain, as_of_us=cut), read(make_store(calls), plain, as_of_us=cut)
    for j, metric in enumerate(METRICS):
        kept = by_call if metric.get("per") == "call" else by_request
        found, wanted = sums(waiting, j), sums(kept, j)
        for cell, (_, x, y) in found.items():
            assert (x, y) == wanted.get(cell, (0, 0, 0))[1:], metric["name"]
    histogram = {(r["arm"], r["value_bucket"]): r["n"] for r in waiting.histograms[5]}
    assert histogram == {(r["arm"], r["value_bucket"]): r["n"] for r in by_request.histograms[5]}


def test_first_events_and_the_rows_at_risk_wait_too(make_store: StoreMaker) -> None:
    event = {
        "name": "refused", "kind": "proportion", "event": "refused", "better": "lower", "per": "request",
        "guardrail": {"margin": {"points": 0.05}},
    }  # fmt: skip
    records, cut = logs(3), hours_us(40.0)
    ramp = {"ramp": [{"stage": "ab", "share": 0.5}]}
    waiting = read(
        make_store(records), Experiment.from_dict(spec_of({**event, "mature_after": "12h"}, **ramp)), as_of_us=cut
    )
    heads = heads_of(records, cut)
    whole = [r for r in records if "request_id" not in r or heads.get(r["request_id"], cut + 1) <= cut - 12 * HOUR_US]
    plain = read(make_store(whole), Experiment.from_dict(spec_of(event, **ramp)), as_of_us=cut)
    assert plain.first_events

    def table(ev: Evidence) -> dict[Any, tuple[int, int]]:
        rows = {(r["arm"], r["stage"], r["bucket"]): (r["event0"], r["risk0"]) for r in ev.first_events}
        return {k: v for k, v in rows.items() if any(v)}

    assert table(waiting) == table(plain)


def test_late_clicks_do_not_bias_fresh_calls(make_store: StoreMaker) -> None:
    """Clicks come within six hours: counted at once the rate is too low; of mature calls it is what it will be."""
    records, cut = logs(1, users=150), hours_us(24.0)
    store = make_store(records)
    at_once = judge(read(store, Experiment.from_dict(spec_of(CLICK)), as_of_us=cut), 0, "B")
    waiting = read(store, Experiment.from_dict(spec_of({**CLICK, "mature_after": "6h"})), as_of_us=cut)
    mature = judge(waiting, 0, "B")
    heads = heads_of(records, cut)
    old = {request for request, moment in heads.items() if moment <= cut - 6 * HOUR_US}
    # By the end of the log every click of these calls has come.
    clicked = {
        str(r["interaction_id"]).split("a")[0] for r in records if r.get("name") == "click" and us(r["ts"]) <= cut
    }
    for arm, value in ((0, mature.control_value), (1, mature.treatment_value)):
        mine = {r for r in old if int(r[1:].split("r")[0]) % 2 == arm}
        assert value == pytest.approx(len(mine & clicked) / len(mine), rel=1e-12)
    assert at_once.control_value is not None
    assert mature.control_value is not None
    assert at_once.control_value < mature.control_value
    young = len(heads) - len(old)
    assert mature.details["immature"] == {"after": "6h", "rows": young, "share": young / len(heads)}
    assert f"{young:,} of {len(heads):,} rows" in mature.note
    assert mature.rows_missing == 0


def test_constants_are_frozen_when_the_warm_up_is_mature(make_store: StoreMaker) -> None:
    """Whoever looks first, and when, changes no constant: the warm-up must be as old as the metric waits for."""
    records = logs(2, users=200)
    spec = Experiment.from_dict(spec_of({**METRICS[2], "mature_after": "10h"}, warm_up_units=60))
    early, late = make_store(records), make_store(records)
    looks = [read(early, spec, as_of_us=hours_us(h)) for h in (9.0, 14.0, 18.0, 40.0)]
    assert "latency" not in looks[0].frozen
    first = next(ev.frozen["latency"] for ev in looks if "latency" in ev.frozen)
    assert read(late, spec, as_of_us=hours_us(40.0)).frozen["latency"] == first
    again = read(late, spec, as_of_us=hours_us(9.0))  # a replay of the early look does not know them yet
    assert "latency" not in again.frozen
    assert again.sha256() == looks[0].sha256()


def test_no_state_is_kept_of_what_changes_without_news(make_store: StoreMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abtest.store.state.WORTH_IT", 1)
    store = make_store(logs())
    for metric, kept in (({**METRICS[2], "mature_after": "1h"}, 0), (METRICS[2], 1)):
        read(store, Experiment.from_dict(spec_of(metric)))
        assert store.connection.execute("select count(*) from scan_state").fetchall() == [(kept,)]


def test_clicks_that_nobody_logged_are_no_pass(make_store: StoreMaker) -> None:
    """B23: 0 of 400 against 0 of 400 clicks may mean that nothing records clicks."""
    records = [call(f"{arm}{n}", f"{arm}{n}", arm, 0.01 * n, refused=False) for arm in "AB" for n in range(400)]
    spec = Experiment.from_dict(
        spec_of({**CLICK, "better": "lower"}, warm_up_units=60, ramp=[{"stage": "ab", "share": 0.5}])
    )
    decision = decide(make_store(records), spec, dry_run=True)
    (metric,) = decision.metrics
    assert (metric.status, metric.verdict) == ("no_data", "unknown")
    assert (metric.estimate, metric.control_value) == (None, None)
    assert "it never happened, or it is not logged" in metric.note
    assert (decision.reason, decision.exit_code) == ("no_data", 40)
    records.append(score("s", "A1", 1.0, 1.0, name="click", scorer_kind="user"))
    assert decide(make_store(records), spec, dry_run=True).metrics[0].status == "ok"


def test_notes_say_what_the_rows_were(make_store: StoreMaker) -> None:
    rng = np.random.default_rng(5)
    records = [
        call(f"{arm}{n}", f"{arm}{n}", arm, 0.01 * n, latency_ms=float(1000 + n), cost_usd=None if n % 50 == 0 else 0.01,
             refused=None if n % 10 or (arm == "B" and n % 20) else bool(rng.random() < 0.5))
        for arm in "AB" for n in range(200)
    ]  # fmt: skip
    records = [{k: v for k, v in r.items() if v is not None} for r in records]
    metrics = [
        {"name": "refusals", "kind": "proportion", "event": "refused", "better": "lower"},
        {"name": "capped", "kind": "mean", "value": "latency_ms", "better": "lower", "cap": 1180},
        {"use": "cost_per_request"},
    ]
    analysis = analyze(make_store(records), Experiment.from_dict(spec_of(*metrics, warm_up_units=60)), series=False)
    refusals, capped, cost = analysis.metrics
    assert "only 30 of 400 requests can tell" in refusals.note
    assert "10 % of" not in capped.note
    assert capped.details["cap"] == {"value": 1180.0, "rows_touched": 38}
    assert "38 rows above the cap of 1180 count as 1180" in capped.note
    assert "8 of 400 rows have no cost" in cost.note
    assert any(note.startswith("cost_per_request: catalogue metric") for note in analysis.notes)
    assert any("there is no price book" in note for note in analysis.notes)


@pytest.mark.parametrize("text", ["24", "h", "-1h", "1w", "1e3s", "9" * 12 + "s"])
def test_what_is_no_duration(text: str) -> None:
    from abtest.errors import SpecError

    with pytest.raises(SpecError) as caught:
        Experiment.from_dict(spec_of({**CLICK, "mature_after": text}))
    assert "mature_after" in str(caught.value.key)
