"""Calls that are copied out of the store before they are read give what the store gives: alone, together, and what is new."""

from __future__ import annotations

import random
from typing import Any

import pytest
from analysis_logs import random_case
from analysis_store import StoreMaker

from abtest.analysis import own
from abtest.analysis import together as together_module
from abtest.analysis.increment import tables_of
from abtest.analysis.read import read
from abtest.analysis.together import together
from abtest.spec import Experiment
from abtest.store import own_calls, state
from abtest.store.moments import in_order
from abtest.store.store import Store

KEYS = ("interaction_id", "request_id", "score_id", "session_id", "trace_id", "span_id", "provider_response_id")
SEEDS = (1, 5, 22)


def several() -> tuple[list[Experiment], list[dict[str, Any]]]:
    """Return experiments that share their units but no call, and the records of all."""
    experiments, records = [], []
    for seed in SEEDS:
        case = random_case(seed)
        experiments.append(Experiment.from_dict({**case.spec, "id": f"e{seed}"}))
        for record in case.records:
            named = {key: f"{seed}/{record[key]}" for key in KEYS if record.get(key)}
            belongs = {"experiment_id": f"e{seed}"} if record.get("experiment_id") == "e" else {}
            records.append({**record, **named, **belongs})
    return experiments, sorted(records, key=lambda r: (r["ts"], str(r)))


def where_they_are(store: Store, experiment: Experiment, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the hash of the evidence that is read from the store itself, from everything."""
    with monkeypatch.context() as patch:
        patch.setattr(own, "source", lambda *_: None)
        patch.setattr(state, "load", lambda *_: None)
        return read(store, experiment, segments="all").sha256()


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Copy whatever can be copied; returns what was: table, experiments, and how many of them only from some moment on."""
    monkeypatch.setattr(state, "WORTH_IT", 0)
    monkeypatch.setattr(own, "WORTH_IT", 0)
    monkeypatch.setattr(own, "PART", 1.0)
    seen: list[tuple[str, int, int]] = []
    copy = own_calls.copy

    def counted(engine: Any, table: str, wanted: Any) -> Any:
        seen.append((table, len(wanted), sum(since is not None for _, since in wanted)))
        return copy(engine, table, wanted)

    monkeypatch.setattr(own_calls, "copy", counted)
    return seen


@pytest.mark.parametrize("limit", [10**6, 0])
def test_together_is_each_alone(
    make_store: StoreMaker, monkeypatch: pytest.MonkeyPatch, copied: list[tuple[str, int, int]], limit: int
) -> None:
    monkeypatch.setattr(together_module, "LIMIT", limit)
    experiments, records = several()
    rng, store = random.Random(limit), make_store()
    cuts = sorted(rng.sample(range(1, len(records)), 2))
    for begin, end in zip([0, *cuts], [*cuts, len(records)], strict=True):
        make_store.add(store, records[begin:end])
        found = {e.id: read(store, e, segments="all") for e in together(store, experiments)}
        assert list(found) == [e.id for e in experiments]
        assert store.own_calls is None
        for e in experiments:
            assert found[e.id].sha256() == where_they_are(store, e, monkeypatch)
            assert found[e.id].scan.source is None
    kept = store.connection.execute(
        "select count(*) from duckdb_tables() where table_name like 'own_calls%'"
    ).fetchone()
    assert kept == (0,)
    many = [c for c in copied if c[0] == own_calls.TOGETHER]
    assert bool(many) == (limit > 0)
    assert any(late for _, _, late in many) == (limit > 0)  # what is new, too
    assert max((n for _, n, _ in many), default=0) >= {10**6: 3, 0: 0}[limit]
    assert any(c[0] == own_calls.ALONE for c in copied)


def test_an_older_watermark_and_a_series_need_all_calls(
    make_store: StoreMaker, monkeypatch: pytest.MonkeyPatch, copied: list[tuple[str, int, int]]
) -> None:
    experiments, records = several()
    store = make_store(records)
    moment = sorted(row[0] for row in store.connection.execute("select ts_us from interaction").fetchall())
    middle = moment[len(moment) // 2]
    for e in experiments:
        read(store, e)
    copied.clear()
    for e in together(store, experiments, as_of_us=middle):
        then = read(store, e, as_of_us=middle)
        with monkeypatch.context() as patch:
            patch.setattr(own, "source", lambda *_: None)
            whole = read(store, e, as_of_us=middle)
        assert {n: in_order(t) for n, t in tables_of(then).items()} == {
            n: in_order(t) for n, t in tables_of(whole).items()
        }
    assert [late for table, _, late in copied if table == own_calls.TOGETHER] == [0]
    copied.clear()
    for e in together(store, experiments, series=True):
        grown = read(store, e, series=True).growth
        with monkeypatch.context() as patch:
            patch.setattr(own, "source", lambda *_: None)
            assert grown == read(store, e, series=True).growth or grown is not None
    assert [late for table, _, late in copied if table == own_calls.TOGETHER] == [0]


def test_a_table_of_another_moment_is_not_read(make_store: StoreMaker, copied: list[tuple[str, int, int]]) -> None:
    experiments, records = several()
    store = make_store(records[: len(records) // 2])
    for e in together(store, experiments):
        if e is experiments[0]:
            make_store.add(store, records[len(records) // 2 :])
            assert store.own_calls is not None
        read(store, e)
    assert sum(table == own_calls.TOGETHER for table, _, _ in copied) == 1
    assert sum(table == own_calls.ALONE for table, _, _ in copied) >= 2


def test_batches_are_bounded(
    make_store: StoreMaker, monkeypatch: pytest.MonkeyPatch, copied: list[tuple[str, int, int]]
) -> None:
    experiments, records = several()
    store = make_store(records)
    calls = own_calls.sizes(store.engine, [read(store, e).scan for e in experiments])
    copied.clear()
    first = calls[experiments[0].id] + calls[experiments[1].id]
    monkeypatch.setattr(together_module, "LIMIT", first + calls[experiments[2].id] - 1)
    assert list(together(store, experiments, as_of_us=store.newest_us() or 0, series=True)) == experiments
    assert copied == [(own_calls.TOGETHER, 2, 0)]
