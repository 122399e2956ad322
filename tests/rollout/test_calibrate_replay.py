"""A replay is what the product would have said: pseudo-arms written as logs, loaded and analysed, give the same numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from calibrate_tools import METRICS, MORE, spec_of, unit_numbers, with_allocation, write_pseudo_logs

from abtest.analysis.analyze import analyze_evidence
from abtest.analysis.evidence import Evidence
from abtest.analysis.read import read
from abtest.analysis.resample import Baseline, read_baseline
from abtest.analysis.resample_evidence import evidence_at, exact_dot, strata_at
from abtest.analysis.resample_harm import Harm, Run, harmed_run, places, plain_run
from abtest.analysis.resample_sums import Ramp, Screen
from abtest.rollout.calibrate_run import Looks, Replay, concluded
from abtest.store.store import Store

LADDER = Ramp((0, 60, 130), (0.1, 0.25, 0.5))


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Return the folder of a healthy log of 2,000 users, ten days."""
    from abtest.simulate import simulate, write

    folder = tmp_path_factory.mktemp("replay")
    write(simulate("healthy", users=2000, seed=5), folder)
    with Store(folder / "abtest.duckdb") as store:
        store.ingest(folder / "logs")
    return folder


def rows_of(evidence: Evidence) -> dict[str, Any]:
    """Return the tables of an evidence, in one order."""

    def ordered(rows: Any) -> list[Any]:
        return sorted(tuple(sorted(row.items())) for row in rows)

    tables = ("cells", "pairs", "first_events", "units", "arm_units", "assignment", "contamination")
    named = {name: ordered(getattr(evidence, name)) for name in tables}
    return {**named, **{f"histogram {j}": ordered(rows) for j, rows in evidence.histograms.items()}}


def test_a_replay_is_the_products_own_analysis(many, tmp_path):
    """Every kind of metric, three stages, returning users, late scores, retries: the integers equal, the numbers to 1e-9."""
    experiment = spec_of(metrics=METRICS + MORE)
    with Store(many / "abtest.duckdb") as store:
        baseline = read_baseline(store, experiment)
        numbers = unit_numbers(store)
    run = plain_run(baseline, 7, 3)
    write_pseudo_logs(many / "logs", tmp_path / "pseudo.jsonl", run, LADDER, numbers)
    real = with_allocation(experiment, baseline, LADDER)
    hour = baseline.hours - 1
    ours = evidence_at(run, LADDER, hour)
    with Store(tmp_path / "abtest.duckdb") as store:
        store.ingest(tmp_path / "pseudo.jsonl")
        for metric, values in baseline.frozen.items():
            store.freeze(real.id, real.revision, metric, values, source="test", watermark_us=0, file_id=0)
        theirs = read(store, real, as_of_us=baseline.end_us(hour))
    assert rows_of(ours).keys() == rows_of(theirs).keys()
    for name, rows in rows_of(theirs).items():
        assert rows_of(ours)[name] == rows, name
    a, b = analyze_evidence(ours), analyze_evidence(theirs)
    compared = 0
    for mine, other in zip(a.metrics, b.metrics, strict=True):
        assert (mine.metric, mine.verdict, mine.status, mine.method) == (
            other.metric,
            other.verdict,
            other.status,
            other.method,
        )
        for key, value in other.to_dict().items():
            if isinstance(value, float):
                assert math.isclose(mine.to_dict()[key], value, rel_tol=1e-9, abs_tol=1e-12), (mine.metric, key)
                compared += 1
    assert compared > 100
    assert [(c.name, c.status) for c in a.checks] == [(c.name, c.status) for c in b.checks]
    assert concluded(ours).summary == concluded(theirs).summary


def test_the_screen_has_the_judges_sums(many):
    """At the last look the fast sums in doubles are the exact ones, for every metric, with and without a harm."""
    experiment = spec_of(metrics=METRICS + MORE)
    with Store(many / "abtest.duckdb") as store:
        baseline = read_baseline(store, experiment, multiples=(2,))
    plain = plain_run(baseline, 1, 0)
    hour = baseline.hours + 30  # late scores have all arrived
    for harm in (None, *(Harm(j, 2) for j, m in enumerate(experiment.metrics) if m.guardrail)):
        run = plain if harm is None else harmed_run(plain, harm, 1, 0)
        assert run is not None
        screen = Screen(run, LADDER, np.array([hour]), strata_at(baseline, LADDER))
        evidence = evidence_at(run, LADDER, hour)
        for k in baseline.measures:
            fast, exact = screen.sums(k), evidence.pair_sums(k, "candidate")
            for name in ("units", "y", "yy"):
                np.testing.assert_allclose(getattr(fast, name)[..., -1], getattr(exact, name)[..., -1], rtol=1e-12)
            shift = float(np.asarray(fast.centre) - np.asarray(exact.centre))
            x = fast.x + shift * fast.y  # the two centres differ
            np.testing.assert_allclose(x[..., -1], exact.x[..., -1], rtol=1e-8, atol=1e-6)
            xx = fast.xx + shift * (fast.xy + fast.yx) + shift * shift * fast.yy
            np.testing.assert_allclose(xx[..., -1], exact.xx[..., -1], rtol=1e-8, atol=1e-6)


@pytest.mark.parametrize("case", [None, ("refusal_rate", 4), ("cost", 2), ("format_validity", 4)])
def test_the_screen_misses_no_decision(many, case):
    """Judged in full at every look of every stage, the same run ends at the same hour with the same decision."""
    experiment = spec_of()
    with Store(many / "abtest.duckdb") as store:
        baseline = read_baseline(store, experiment, multiples=(2, 4))
    looks = Looks(6, (0.1, 0.25, 0.5))
    run = plain_run(baseline, 3, 1)
    watched = None
    if case:
        watched = [m.name for m in experiment.metrics].index(case[0])
        run = harmed_run(run, Harm(watched, case[1]), 3, 1)
    path = Replay(run, looks, watched).path()
    assert (path.ended, path.hours) == slow_path(run, looks, watched)
    if case and case[0] != "format_validity":
        assert path.ended == "halt"
        assert path.metric == case[0]


def slow_path(run: Run, looks: Looks, watched: int | None) -> tuple[str, float]:
    """Return how a run ends and when, deciding at every single look."""
    ramp, hour = Ramp((0,), looks.shares[:1]), looks.every - 1
    while hour < run.baseline.hours:
        evidence = evidence_at(run, ramp, hour)
        analysis = analyze_evidence(evidence)
        outcome = concluded(evidence)
        if outcome.decision == "halt":
            return "halt", float(hour + 1)
        if watched is not None and analysis.metrics[watched].verdict == "harm":
            return "hold", float(hour + 1)
        if outcome.decision in ("promote", "ship"):
            if ramp.stages == len(looks.shares) or outcome.decision == "ship":
                return outcome.decision, float(hour + 1)
            ramp = Ramp((*ramp.starts, hour + 1), looks.shares[: ramp.stages + 1])
        hour += looks.every
    return "hold", float(run.baseline.hours)


def test_places_are_even_nested_and_different_in_every_run(many):
    with Store(many / "abtest.duckdb") as store:
        baseline = read_baseline(store, spec_of())
    first, again, other = places(baseline, 1, 0), places(baseline, 1, 0), places(baseline, 1, 1)
    assert (first == again).all()
    counts = np.histogram(first, bins=10, range=(0, 1))[0]
    assert abs(counts - baseline.units / 10).max() < 4 * math.sqrt(baseline.units / 10)
    assert abs(np.corrcoef(first, other)[0, 1]) < 4 / math.sqrt(baseline.units)
    run = plain_run(baseline, 1, 0)
    assert (run.treated(0.1) <= run.treated(0.5)).all()


@pytest.mark.parametrize("multiple", [1, 2])
def test_an_injected_harm_has_the_size_it_says(many, multiple):
    """Over many runs the estimate of a harmed metric is the margin times the multiple, whatever the kind."""
    experiment = spec_of(metrics=METRICS + MORE)
    with Store(many / "abtest.duckdb") as store:
        baseline = read_baseline(store, experiment, multiples=(multiple,))
    ramp, hour = Ramp((0,), (0.5,)), baseline.hours - 1
    for j, spec in enumerate(experiment.metrics):
        if not spec.guardrail or spec.kind == "distribution":
            continue
        gained = []
        for r in range(5):
            plain = plain_run(baseline, 11, r)
            harmed = harmed_run(plain, Harm(j, multiple), 11, r)
            assert harmed is not None
            gained.append(harm_of(harmed, ramp, hour, j) - harm_of(plain, ramp, hour, j))
        wanted = multiple * spec.guardrail.margin.value
        assert np.mean(gained) == pytest.approx(wanted, rel=0.12), spec.name


def harm_of(run: Run, ramp: Ramp, hour: int, j: int) -> float:
    result = analyze_evidence(evidence_at(run, ramp, hour, [j])).metrics[j]
    value = result.relative_estimate if result.margin_kind == "relative" else result.estimate
    assert value is not None
    return value if result.better == "lower" else -value


def test_exact_products_beyond_the_range_of_a_bigint():
    rng = np.random.default_rng(1)
    a, b = (rng.integers(-(1 << 41), 1 << 41, 5000) for _ in range(2))
    assert exact_dot(a, b) == sum(int(x) * int(y) for x, y in zip(a.tolist(), b.tolist(), strict=True))
    assert exact_dot(a[:0], b[:0]) == 0


def test_nothing_is_written_and_nothing_frozen(many):
    with Store(many / "abtest.duckdb") as store:
        before = store.connection.execute("select count(*) from frozen").fetchone()
        baseline: Baseline = read_baseline(store, spec_of())
        assert store.connection.execute("select count(*) from frozen").fetchone() == before
    assert baseline.frozen["cost"]["baseline"] > 0
