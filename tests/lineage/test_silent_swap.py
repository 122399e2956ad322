"""The watch on the baseline: how rarely it cries without a reason, and how soon it finds one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lineage_logs import BEGIN, DAY, HOUR, V12, V13, add, calls

from abtest.lineage import silent_swap as watch
from abtest.lineage.drift import BASELINE_HOURS, baseline_of, next_shift, shifts, split, split_range
from abtest.lineage.findings import release_findings
from abtest.lineage.signals import Hourly, Signal, signals_of, usual_signals
from abtest.lineage.silent_swap import silent_swap
from abtest.spec import Experiment
from abtest.store.store import Store

FULL = os.environ.get("ABTEST_CALIBRATE") == "full"
SEED = 20261123
DAYS, HORIZON = 5.0, 40
"""Declared days between false alarms, and how long each run is watched; a run without an alarm counts with its horizon."""


def cells(
    rng: np.random.Generator,
    hours: int,
    units: int,
    rate: np.ndarray[Any, Any],
    calls_a_unit: int = 1,
    spread: float = 0.0,
) -> Hourly:
    """Return a series: units an hour (Poisson), each with calls_a_unit calls, its own rate of mean `rate` and ICC `spread`."""
    n = rng.poisson(units, hours)
    hour = np.repeat(np.arange(hours), n)
    p = rate[hour]
    if spread:
        size = 1.0 / spread - 1.0
        p = rng.beta(p * size, (1.0 - p) * size)
    events = rng.binomial(calls_a_unit, p)
    keys, count = np.unique(np.stack([hour, events]), axis=1, return_counts=True)
    table = np.stack([keys[0], np.full(keys.shape[1], calls_a_unit), keys[1], count])
    totals = np.bincount(hour, minlength=hours) * calls_a_unit
    return Hourly(
        0, (usual_signals()[0],), (table,), totals[None], np.bincount(hour, events, hours).astype(np.int64)[None]
    )


def flat(rate: float, hours: int) -> np.ndarray[Any, Any]:
    return np.full(hours, rate)


def rhythm(rate: float, hours: int) -> np.ndarray[Any, Any]:
    """Return a rate that swings by half over the day."""
    return rate * (1.0 + 0.5 * np.sin(2 * np.pi * np.arange(hours) / 24.0))


QUIET: Mapping[str, dict[str, Any]] = {
    "3 % of 40 units an hour": {"units": 40, "rate": flat, "p": 0.03},
    "0.3 % of 40 units an hour": {"units": 40, "rate": flat, "p": 0.003},
    "none at all": {"units": 40, "rate": flat, "p": 0.0},
    "half of 10 units an hour": {"units": 10, "rate": flat, "p": 0.5},
    "5 %, units with 5 calls of ICC 0.2": {"units": 20, "rate": flat, "p": 0.05, "calls_a_unit": 5, "spread": 0.2},
    "10 %, a daily rhythm of +-50 %": {"units": 40, "rate": rhythm, "p": 0.1},
}


def run_lengths(name: str, runs: int) -> np.ndarray[Any, Any]:
    """Return the days until the first false alarm of each run, cut at the horizon."""
    case = dict(QUIET[name])
    rate, p = case.pop("rate"), case.pop("p")
    rng = np.random.default_rng([SEED, sorted(QUIET).index(name)])
    hours = BASELINE_HOURS + HORIZON * 24
    found = np.full(runs, float(HORIZON))
    for k in range(runs):
        shift = next_shift(cells(rng, hours, rate=rate(p, hours), **case), 0, 0, days=DAYS)
        if shift is not None:
            found[k] = (shift.hour - BASELINE_HOURS + 1) / 24.0
    return found


@pytest.mark.parametrize("name", sorted(QUIET))
def test_false_alarms_come_more_rarely_than_declared(name: str):
    """Mean run length, cut at 40 days, against the declared 5 (which makes it an underestimate); 3 standard errors."""
    lengths = run_lengths(name, 1000 if FULL else 12)
    error = float(lengths.std() / np.sqrt(lengths.size))
    print(
        f"{name}: mean {lengths.mean():.1f} +- {error:.1f} days of {HORIZON}, alarms in {np.mean(lengths < HORIZON):.1%}"
    )
    assert lengths.mean() - 3 * error >= DAYS


@pytest.mark.parametrize(
    ("before", "after", "most_hours"), [(0.004, 0.031, 24), (0.03, 0.06, 48), (0.1, 0.05, 72), (0.0, 0.02, 24)]
)
def test_changes_are_found_and_placed(before: float, after: float, most_hours: int):
    rng = np.random.default_rng(SEED)
    delays: list[float] = []
    places: list[float] = []
    runs = 60 if FULL else 12
    for _ in range(runs):
        begin = BASELINE_HOURS + int(rng.integers(24, 120))
        hours = begin + 144
        series = cells(rng, hours, 60, np.where(np.arange(hours) < begin, before, after))
        shift = next_shift(series, 0, 0, days=3650.0)
        if shift is None:
            continue
        assert shift.hour >= begin
        delays.append(shift.hour - begin + 1)
        places.append(abs(shift.begin - begin))
        assert (shift.after > shift.before) is (after > before)
    print(
        f"{before} to {after}: found {len(delays)} of {runs}, median {np.median(delays):.0f} hours, placed to {np.median(places):.0f}"
    )
    assert len(delays) >= 0.95 * runs
    assert np.median(delays) <= most_hours
    assert np.median(places) <= 6


def test_the_watch_begins_anew_after_an_alarm():
    rng = np.random.default_rng(SEED)
    hours = 600
    at = np.arange(hours)
    series = cells(rng, hours, 80, np.where(at < 150, 0.02, np.where(at < 400, 0.12, 0.02)))
    found = shifts(series, days=365.0)
    assert len(found) == 2
    assert abs(found[0].begin - 150) <= 3
    assert abs(found[1].begin - 400) <= 3
    assert found[1].after < found[1].before


def test_too_few_units_are_not_watched():
    rng = np.random.default_rng(1)
    series = cells(rng, 300, 1, flat(0.5, 300))
    assert baseline_of(series.cells[0], 0, BASELINE_HOURS) is None
    assert next_shift(series, 0, 0, days=10) is None
    assert next_shift(cells(rng, BASELINE_HOURS, 90, flat(0.5, BASELINE_HOURS)), 0, 0, days=10) is None


def test_the_band_holds_the_mean_and_the_rhythm():
    rng = np.random.default_rng(1)
    plain = baseline_of(cells(rng, 72, 100, flat(0.1, 72)).cells[0], 0, 72)
    swings = baseline_of(cells(rng, 72, 100, rhythm(0.1, 72)).cells[0], 0, 72)
    assert plain is not None
    assert swings is not None
    assert plain.lower < 0.1 < plain.upper
    assert plain.upper - plain.lower < 0.03
    assert swings.lower < 0.05 + 0.01
    assert swings.upper > 0.15 - 0.01
    silent = baseline_of(cells(rng, 72, 100, flat(0.0, 72)).cells[0], 0, 72)
    assert silent is not None
    assert 0.0 < silent.upper < 0.01


def test_the_split_is_the_likeliest():
    calls_, events = np.array([10] * 10), np.array([0, 0, 0, 0, 5, 6, 5, 4, 6, 5])
    assert split(calls_, events, 0.01) == 4
    best, low, high = split_range(calls_, events, 0.01)
    assert low <= best == 4 <= high
    assert split(np.zeros(5, dtype=np.int64), np.zeros(5, dtype=np.int64), 0.1) == 0


# -- through the store -----------------------------------------------------------------------------------------------------


def experiment(**more: Any) -> Experiment:
    return Experiment.model_validate({
        "id": "swap", "control": "baseline", "treatments": ["candidate"],
        "metrics": [
            {"name": "format_errors", "kind": "proportion", "event": "NOT format_ok", "better": "lower", "guardrail": {"margin": {"points": 0.01}}},
            {"name": "latency", "kind": "quantile", "value": "latency_ms", "q": 0.5, "better": "lower"},
            {"name": "judged", "kind": "mean", "score": "helpful", "better": "higher"},
        ], **more,
    })  # fmt: skip


def logged(
    store: Store, *, worse: float, slower: float = 1.0, who: str = "baseline", swap: bool = False, rows: int = 24_000
) -> None:
    """Add ten days of calls; on day 7 one arm's answers get worse."""
    rng = np.random.default_rng(SEED)
    ts = np.sort(rng.integers(BEGIN, BEGIN + 10 * DAY, rows))
    arm = np.where(rng.random(rows) < 0.3, "candidate", "baseline")
    late = (ts >= BEGIN + 7 * DAY) & (arm == who)
    bad = rng.random(rows) < np.where(late, worse, 0.01)
    latency = np.exp(rng.normal(6, 0.5, rows)) * np.where(late, slower, 1.0)
    manifests = [
        {**(V13 if a == "candidate" else V12), **({"model_version": "gpt-4o-2024-11-20"} if swap and x else {})}
        for a, x in zip(arm, late, strict=True)
    ]
    add(store, calls(
        manifests, ts.tolist(), surface=["support"] * rows, experiment_id=["swap"] * rows, variant=arm.tolist(),
        unit_id=[f"{a}{k}" for a, k in zip(arm, rng.integers(0, 9000, rows), strict=True)],
        format_ok=(~bad).tolist(), latency_ms=latency.tolist(),
    ))  # fmt: skip


@pytest.fixture
def store(tmp_path: Path):
    with Store(tmp_path / "store.duckdb") as made:
        yield made


def test_a_baseline_that_got_worse_is_reported_and_nothing_else(store: Store):
    logged(store, worse=0.06)
    (found,) = release_findings(store, experiment())
    assert (found.code, found.severity, found.metric) == ("baseline_drift", "warning", "format_errors")
    assert "rose from 0.83 % to 6.9 %" in found.message
    assert "since about 9 Nov 2026, 0" in found.message
    assert silent_swap(store, experiment()) == [found]
    assert release_findings(store, experiment(), BEGIN + 7 * DAY) == []


def test_a_slower_baseline_is_found_by_its_high_values(store: Store):
    logged(store, worse=0.01, slower=1.5)
    (found,) = silent_swap(store, experiment())
    assert found.metric == "latency"
    assert "share of latency above" in found.message


def test_a_worse_candidate_is_no_news_of_the_baseline(store: Store):
    logged(store, worse=0.06, who="candidate")
    assert silent_swap(store, experiment()) == []


def test_the_deterministic_signal_comes_first(store: Store):
    logged(store, worse=0.06, swap=True)
    found = silent_swap(store, experiment())
    assert [f.code for f in found] == ["response_model_changed", "baseline_drift"]
    assert found[0].severity == "error"


def test_many_calls_are_left_to_the_timeline(store: Store, monkeypatch: pytest.MonkeyPatch):
    logged(store, worse=0.06)
    monkeypatch.setattr(watch.drift_findings, "__kwdefaults__", {"days": watch.DAYS, "most_calls": 1000})
    assert release_findings(store, experiment()) == []
    assert [f.code for f in silent_swap(store, experiment())] == ["baseline_drift"]


def test_a_young_or_empty_release_has_no_alarm(store: Store):
    assert silent_swap(store, experiment()) == []
    logged(store, worse=0.06)
    assert silent_swap(store, experiment(), BEGIN + 2 * DAY) == []
    assert silent_swap(store, experiment(), BEGIN - HOUR) == []


def test_signals_are_the_metrics_that_calls_tell():
    names = {s.name: s.level for s in signals_of(experiment())}
    assert names == {"format_errors": False, "latency": True}
    assert Signal("x", usual_signals()[3].expression, level=True, threshold=2.0).words == "share of x above 2"
