"""A kept state and what is new give the evidence that everything gives: equal to the last integer, whatever came late."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from analysis_logs import Case, random_case
from analysis_store import StoreMaker

from abtest.analysis import increment
from abtest.analysis import read as reading
from abtest.analysis.increment import tables_of
from abtest.analysis.read import layout_of, read
from abtest.spec import Experiment
from abtest.store import ledger, state
from abtest.store.moments import in_order

CASES = [*((seed, "time") for seed in (0, 1, 5, 11, 22, 25, 33, 36)), *((seed, "any") for seed in (2, 20, 27, 36))]


@pytest.fixture(autouse=True)
def always_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "WORTH_IT", 0)


@pytest.fixture
def advanced(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Say for every analysis that had a state whether it was enough."""
    seen: list[bool] = []

    def advance(*args: Any) -> Any:
        found = increment.advance(*args)
        seen.append(found is not None)
        return found

    monkeypatch.setattr(reading, "advance", advance)
    return seen


def pieces(case: Case, seed: int, order: str) -> list[list[dict[str, Any]]]:
    """Cut the records into loads: in the order of time with some of them late, or in any order."""
    rng = random.Random(seed)
    records = list(case.records)
    if order == "time":
        records.sort(key=lambda r: r["ts"])
        for _ in range(len(records) // 10):  # late ones
            record = records.pop(rng.randrange(len(records)))
            records.insert(rng.randrange(len(records) + 1), record)
    else:
        rng.shuffle(records)
    cuts = sorted(rng.sample(range(1, len(records)), 4))
    return [records[a:b] for a, b in zip([0, *cuts], [*cuts, len(records)], strict=True)]


@pytest.mark.parametrize(("seed", "order"), CASES)
def test_a_state_and_what_is_new_equal_everything(
    make_store: StoreMaker, advanced: list[bool], seed: int, order: str
) -> None:
    case = random_case(seed)
    experiment = Experiment.from_dict(case.spec)
    store = make_store()
    for piece in pieces(case, seed, order):
        make_store.add(store, piece)
        found = read(store, experiment)
        frozen = store.frozen(experiment.id, experiment.revision)
        state_row = store.connection.execute("select count(*) from scan_state").fetchone()
        again = read(store, experiment)  # nothing new: from the state alone
        state.drop(store)
        whole = read(store, experiment)
        for name, rows in tables_of(whole).items():
            assert in_order(tables_of(found)[name]) == in_order(rows), name
            assert in_order(tables_of(again)[name]) == in_order(rows), name
        assert found.sha256() == again.sha256() == whole.sha256()
        assert found.looks == whole.looks
        assert state_row == (1,)
        assert frozen == store.frozen(experiment.id, experiment.revision)
    store.close()
    assert any(advanced) or order == "any"  # constants that are frozen late make everything be read


def calls_of_three_days() -> tuple[dict[str, Any], list[list[dict[str, Any]]]]:
    """Return a spec with two stages, and the calls of each day."""
    rng = random.Random(5)
    spec = {
        "id": "e", "control": "A", "treatments": ["B"],
        "allocation": [{"at": "2026-11-01T00:00:00Z", "share": 0.3}, {"at": "2026-11-02T12:00:00Z", "share": 0.5}],
        "metrics": [
            {"name": "cost", "kind": "mean", "value": "cost_usd", "better": "lower"},
            {"name": "refused", "kind": "proportion", "event": "refused", "better": "lower", "guardrail": {"margin": {"points": 0.05}}},
        ],
    }  # fmt: skip
    place = {f"u{n}": rng.random() for n in range(150)}
    days = []
    for day in (1, 2, 3):
        moments = sorted((rng.randrange(86_400), user) for user in place for _ in range(rng.randrange(3)))
        days.append([
            {
                "interaction_id": f"{day}-{i}", "ts": f"2026-11-0{day}T{s // 3600:02}:{s // 60 % 60:02}:{s % 60:02}Z", "model": "m",
                "unit_id": user, "experiment_id": "e", "cost_usd": rng.random() / 100, "refused": rng.random() < 0.1,
                "variant": "B" if place[user] < (0.3 if day == 1 or (day == 2 and s < 43_200) else 0.5) else "A",
            }
            for i, (s, user) in enumerate(moments)
        ])  # fmt: skip
    return spec, days


def test_a_large_experiment_shows_what_earlier_analyses_found(
    make_store: StoreMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "SERIES_CALLS", 0)
    spec, days = calls_of_three_days()
    experiment, store, moments = Experiment.from_dict(spec), make_store(), []
    for day in days:
        make_store.add(store, day)
        moments.append(store.newest_us())
        found = read(store, experiment, series=True)
    assert found.growth is not None
    assert found.growth.ends_us == moments
    for i, moment in enumerate(moments):
        then = read(store, experiment, as_of_us=moment)
        assert [units[i] for units in found.growth.units.values()] == [then.units_of(arm) for arm in ("A", "B")]
        for j in range(2):
            grown, whole = found.growth.evidence.pair_sums(j, "B").look(i), then.pair_sums(j, "B").look(-1)
            for name in ("units", "y"):
                np.testing.assert_array_equal(
                    getattr(grown, name)[:, : len(then.strata)], getattr(whole, name)[:, : len(then.strata)]
                )
            np.testing.assert_allclose(_spread(grown, len(then.strata)), _spread(whole, len(then.strata)), rtol=1e-9)


def _spread(sums: Any, stages: int) -> Any:
    """Return what does not depend on the centre: the variance of x about its own ratio, by pair of cells."""
    ratio = (sums.x.sum() / sums.y.sum()) if sums.y.sum() else 0.0
    form = sums.xx - ratio * (sums.xy + sums.yx) + ratio**2 * sums.yy
    return form[:, :stages, :, :stages]


def test_a_forgotten_or_pruned_row_makes_everything_be_read(make_store: StoreMaker) -> None:
    spec, days = calls_of_three_days()
    experiment, store = Experiment.from_dict(spec), make_store(days[0])
    read(store, experiment)
    asked = layout_of(experiment, (found := read(store, experiment)).strata, found.scan)
    assert state.load(store, "e", 1, asked) is not None
    ledger.append(store.connection, "forget", "e", 1, {"unit": "hash"})
    assert state.load(store, "e", 1, asked) is None


def guardrail(spec: dict[str, Any], **change: Any) -> dict[str, Any]:
    """Change the second metric; a None takes its key away."""
    metric = {k: v for k, v in {**spec["metrics"][1], **change}.items() if v is not None}
    return {**spec, "metrics": [spec["metrics"][0], metric]}


MEDIAN = {"name": "median", "kind": "quantile", "value": "latency_ms", "q": 0.5, "better": "lower"}
CHANGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "another value": lambda spec: {**spec, "metrics": [{**spec["metrics"][0], "value": "cost_usd * 2"}, spec["metrics"][1]]},
    "a mean of units": lambda spec: {**spec, "metrics": [{**spec["metrics"][0], "per": "unit"}, spec["metrics"][1]]},
    "a unit counts once": lambda spec: guardrail(spec, per="unit"),
    "better turned": lambda spec: guardrail(spec, better="higher"),
    "no guardrail": lambda spec: guardrail(spec, guardrail=None),
    "a metric in front": lambda spec: {**spec, "metrics": [MEDIAN, *spec["metrics"]]},
    "metrics turned": lambda spec: {**spec, "metrics": spec["metrics"][::-1]},
}  # fmt: skip


@pytest.mark.parametrize("news", [False, True])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("back", [False, True])
def test_another_question_is_not_answered_from_the_state(
    make_store: StoreMaker, change: str, news: bool, back: bool
) -> None:
    """The policy may be edited in the middle of a revision: what was kept for the old one must not answer the new one."""
    spec, days = calls_of_three_days()
    for day in days:
        for row in day:
            row["latency_ms"] = 1000 * row["cost_usd"]
    before, after = (CHANGES[change](spec), spec) if back else (spec, CHANGES[change](spec))
    store = make_store(days[0], days[1])
    read(store, Experiment.from_dict(before))
    if news:
        make_store.add(store, days[2])
    found = read(store, Experiment.from_dict(after))
    state.drop(store)
    assert found.sha256() == read(store, Experiment.from_dict(after)).sha256()
