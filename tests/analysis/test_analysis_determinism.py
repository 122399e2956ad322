"""The same logs give the same evidence, bit for bit: in any order, any files, any number of threads, and again later."""

from __future__ import annotations

import random
from typing import Any

import pytest
from analysis_logs import (
    MEAN,
    METRICS,
    PROPORTION,
    SCORE,
    Case,
    assign,
    call,
    hours_us,
    random_case,
    score,
    spec_of,
    us,
)
from analysis_store import StoreMaker

from abtest.analysis.analyze import analyze
from abtest.analysis.read import Evidence, read
from abtest.spec import Experiment

SEEDS = (0, 25, 33)
ROWS = (
    "cells",
    "pairs",
    "first_events",
    "histograms",
    "population",
    "arms",
    "stages",
    "assignment",
    "contamination",
    "manifests",
)
QUANTILE = {"name": "q", "kind": "quantile", "value": "latency_ms", "q": 0.5, "better": "lower"}


def some_case(seed: int) -> Case:
    """Return a random case with every second of its metrics: all kinds, and half of the time."""
    case = random_case(seed)
    case.spec = {**case.spec, "metrics": METRICS[::2]}
    return case


def direct(case: Case) -> Case:
    """Keep the scores that name their interaction: what another key means may change when more calls come."""
    case.records = [r for r in case.records if r.get("type") != "score" or "interaction_id" in r]
    return case


def evidence(maker: StoreMaker, case: Case, *files: list[Any], as_of: int | None = None, threads: int = 2) -> Evidence:
    store = maker()
    store.connection.execute(f"SET threads = {threads}")
    for records in files or (case.records,):
        maker.add(store, records)
    return read(store, Experiment.from_dict(case.spec), as_of_us=as_of or case.end_us)


def same(a: Evidence, b: Evidence) -> None:
    for name in ROWS:  # first the parts, because a difference of hashes explains nothing
        left, right = getattr(a, name), getattr(b, name)
        if isinstance(left, list):
            left, right = (sorted(rows, key=lambda r: [str(v) for v in r.values()]) for rows in (left, right))
        assert left == right, name
    assert a.sha256() == b.sha256()


@pytest.mark.parametrize("seed", SEEDS)
def test_order_files_and_threads_do_not_matter(make_store: StoreMaker, seed: int) -> None:
    case = direct(some_case(seed))
    one = evidence(make_store, case, threads=1)
    shuffled = random.Random(seed).sample(case.records, len(case.records))
    cut = len(shuffled) // 3
    same(one, evidence(make_store, case, shuffled[cut:], shuffled[:cut], threads=4))
    same(one, evidence(make_store, case, *[shuffled[i::5] for i in range(5)], threads=2))


def test_loading_again_changes_nothing(make_store: StoreMaker) -> None:
    case = direct(some_case(2))
    experiment = Experiment.from_dict(case.spec)
    store = make_store(case.records)
    one = read(store, experiment, as_of_us=case.end_us)
    for again in (case.records, case.records[::-1], case.records[10:40]):
        report = store.ingest(make_store.write(again), source="native")
        assert report.inserted == 0
    same(one, read(store, experiment, as_of_us=case.end_us))
    same(one, read(store, experiment, as_of_us=case.end_us))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("hours", [7.3, 20.0])
def test_as_of_is_a_store_with_only_earlier_events(make_store: StoreMaker, seed: int, hours: float) -> None:
    case, moment = direct(some_case(seed)), hours_us(hours)
    earlier = [r for r in case.records if us(r.get("updated_at", r["ts"])) <= moment]
    assert 0 < len(earlier) < len(case.records)
    same(evidence(make_store, case, as_of=moment), evidence(make_store, case, earlier, as_of=moment))


@pytest.mark.parametrize("seed", SEEDS)
def test_replay_sees_the_store_before_the_later_load(make_store: StoreMaker, seed: int) -> None:
    """Any kind of score, and rows that come late with old times."""
    case = some_case(seed)
    experiment, half = Experiment.from_dict(case.spec), len(case.records) // 2
    store = make_store(case.records[:half])
    before, file = read(store, experiment, as_of_us=case.end_us), store.last_file()
    make_store.add(store, case.records[half:])
    after = read(store, experiment, as_of_us=case.end_us)
    assert after.sha256() != before.sha256()
    same(before, read(store, experiment, as_of_us=case.end_us, max_file=file))


def early_and_late() -> tuple[list[Any], list[Any]]:
    """20 control units, too few to freeze anything, and 60 more an hour later."""
    early = [call(f"a{i}", f"u{i}", "A", i / 60, refused=i % 3 == 0, latency_ms=i + 1.0) for i in range(20)]
    late = [call(f"b{i}", f"v{i}", "AAB"[i % 3], 1 + i / 60, refused=i % 4 == 0, latency_ms=i + 1.0) for i in range(60)]
    return early, late


def test_constants_frozen_later_do_not_reach_back(make_store: StoreMaker) -> None:
    """A replay, and an as-of before the warm-up ended, know no constants: as it was then."""
    early, late = early_and_late()
    experiment = Experiment.from_dict(spec_of(PROPORTION, QUANTILE, warm_up_units=30))
    store = make_store(early)
    before = read(store, experiment)
    assert before.frozen == {}
    assert before.active == (0,)
    make_store.add(store, late)
    assert set(read(store, experiment).frozen) == {"p", "q"}
    for again in (
        read(store, experiment, as_of_us=before.as_of_us, max_file=1),
        read(store, experiment, as_of_us=before.as_of_us),
    ):
        assert again.frozen == {}
        same(before, again)
    fresh = make_store(early, late)
    assert read(fresh, experiment, as_of_us=before.as_of_us).frozen == {}


def test_frozen_constants_do_not_depend_on_when_somebody_looked(make_store: StoreMaker) -> None:
    early, late = early_and_late()
    experiment = Experiment.from_dict(spec_of(PROPORTION, MEAN, QUANTILE, warm_up_units=30))
    often = make_store(early, late)
    for hours in (0.5, 1.2, 1.4, 1.6):
        read(often, experiment, as_of_us=hours_us(hours))
    once = make_store(early + late)
    assert read(often, experiment).frozen == read(once, experiment).frozen
    assert analyze(often, experiment).policy_sha256 == analyze(once, experiment).policy_sha256


def test_arms_by_manifest_survive_a_later_load(make_store: StoreMaker) -> None:
    """Logs without variants: the arms of an old decision do not vanish when a later file names a variant."""
    calls = [{**call(f"a{i}", f"u{i}", None, i / 60), "model": "ma" if i % 2 else "mb"} for i in range(10)]
    experiment = Experiment.from_dict(spec_of(arms={"A": {"model": "ma"}, "B": {"model": "mb"}}))
    store = make_store(calls)
    before = read(store, experiment)
    assert {r["arm"]: r["units"] for r in before.arms} == {"A": 5, "B": 5}
    make_store.add(store, [assign("zz", "B", 50)])
    same(before, read(store, experiment, as_of_us=before.as_of_us, max_file=1))
    same(before, read(store, experiment, as_of_us=before.as_of_us))


def test_two_assignments_at_one_moment(make_store: StoreMaker) -> None:
    """The order of lines must not decide whether a unit was randomised."""
    records = [assign("u1", "B", reason=reason) for reason in ("split", "default")]
    experiment = Experiment.from_dict(spec_of())
    found = [read(make_store([call("1", "u1", None), *order]), experiment) for order in (records, records[::-1])]
    assert found[0].population["not_randomised"] == found[1].population["not_randomised"]
    same(*found)


def test_a_correction_at_the_moment_of_the_score_wins(make_store: StoreMaker) -> None:
    first = score("s1", "1", 0.0, 0.2)
    fixed = {**first, "value": 1.0, "updated_at": first["ts"]}
    experiment = Experiment.from_dict(spec_of(SCORE))
    for order in ([first, fixed], [fixed, first]):
        ev = read(make_store([call("1", "u1", "A"), *order]), experiment)
        assert ev.cells[0]["x0"] == 10**6


def test_a_correction_after_the_moment_is_not_known_yet(make_store: StoreMaker) -> None:
    first = score("s1", "1", 0.0, 1.0)
    fixed = {**first, "value": 1.0, "updated_at": call("", "", "", 20.0)["ts"]}
    store, experiment = make_store([call("1", "u1", "A"), first, fixed]), Experiment.from_dict(spec_of(SCORE))
    assert [read(store, experiment, as_of_us=hours_us(h)).cells[0]["x0"] for h in (2, 20)] == [0, 10**6]


def test_analysis_twice_is_the_same_to_the_last_digit(make_store: StoreMaker) -> None:
    case = some_case(33)
    store, experiment = make_store(case.records), Experiment.from_dict(case.spec)
    first = analyze(store, experiment, as_of_us=case.end_us).to_dict()
    assert analyze(store, experiment, as_of_us=case.end_us).to_dict() == first
