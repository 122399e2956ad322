"""Scores and feedback from the log to the number: every kind, late, corrected, lost and found, ambiguous; in any order."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest
from governance_tools import Writer, ambiguous, call, empty, micros, moment, rows, score, targets
from hypothesis import given, settings
from hypothesis import strategies as st

from abtest.analysis.analyze import analyze
from abtest.spec import Experiment
from abtest.store.store import Store
from tests.cli.runner import call as run

KINDS = [
    {"name": "thumbs", "scorer_kind": "user", "value": 1},
    {"name": "thumbs", "scorer_kind": "user", "value": 0, "scorer_id": "other-user"},
    {"name": "regenerate", "scorer_kind": "user", "value": 1},
    {"name": "abandoned", "scorer_kind": "user", "value": 1},
    {"name": "quality", "scorer_kind": "human", "value": 0.75, "label": "good", "scorer_id": "kim", "label_probability": 0.1},
    {"name": "quality", "scorer_kind": "human", "label": "unclear", "scorer_id": "lee"},
    {"name": "helpful", "scorer_kind": "judge", "value": 0.5, "scorer_id": "judge-4@v2", "explanation": "fine"},
    {"name": "helpful", "scorer_kind": "judge", "value": None, "error_type": "parse_error", "scorer_id": "judge-4@v2"},
    {"name": "format", "scorer_kind": "code", "value": 1},
]  # fmt: skip


def test_every_kind_of_feedback_is_stored_and_finds_its_call(tmp_path: Path) -> None:
    con, write = empty(), Writer(tmp_path)
    lines = [score(f"s{k}", interaction_id="i1", **kind) for k, kind in enumerate(KINDS)]
    report = write.load(con, call(), *lines)
    assert (report.inserted, report.quarantined) == (1 + len(KINDS), 0)
    assert report.scores == {"resolved": len(KINDS), "ambiguous": 0, "waiting": 0}
    # A judge that failed is a row with its error, not a missing row and not a zero.
    assert rows(con, "SELECT score_id, value, error_type FROM score WHERE error_type IS NOT NULL") == [
        ("s7", None, "parse_error")
    ]


def test_a_score_without_content_or_target_is_quarantined(tmp_path: Path) -> None:
    con, write = empty(), Writer(tmp_path)
    empty_one = score("a", interaction_id="i1")
    del empty_one["value"]
    report = write.load(
        con, call(), empty_one, score("b"), score("c", request_id="r"), score("d", interaction_id="i1", value="1")
    )
    assert (report.inserted, report.quarantined) == (1, 4)


SPEC = """
id = "e"
control = "x"
treatments = ["y"]
[[metrics]]
name = "helpful"
kind = "mean"
score = "helpful"
bounds = [0, 1]
better = "higher"
guardrail = { margin = { absolute = 0.1 }, action = "hold" }
"""


def values(db: Path, spec: Path, **options: Any) -> dict[str, float | None]:
    """Return the mean of the score in each arm, as an analysis sees it."""
    with Store(db) as store:
        (metric,) = analyze(store, Experiment.from_toml(spec), **options).metrics
    return {"x": metric.control_value, "y": metric.treatment_value}


def test_the_numbers_follow_the_latest_correction_and_history_stays(tmp_path: Path) -> None:
    db, spec, write = tmp_path / "s.duckdb", tmp_path / "e.toml", Writer(tmp_path)
    spec.write_text(SPEC)
    units = [(f"u{k}", "xy"[k % 2]) for k in range(80)]
    calls = [call(f"i-{u}", k, unit_id=u, experiment_id="e", variant=v) for k, (u, v) in enumerate(units)]
    first = [score(f"s-{u}", 1000, interaction_id=f"i-{u}", value=0 if int(u[1:]) % 8 == 0 else 1) for u, _ in units]
    better = [{**s, "value": 1, "updated_at": moment(2000)} for s in first if s["value"] == 0]
    worse = [{**s, "value": 0.5, "updated_at": moment(3000)} for s in better]
    failed = [
        score(f"f-{u}", 1500, interaction_id=f"i-{u}", value=None, error_type="timeout", scorer_kind="judge")
        for u, _ in units
    ]
    for order in ([first, better, worse, failed, calls], [worse, calls, failed, first, better]):
        with Store(db) as store:
            for records in order:
                store.ingest(write(*records))
            assert store.engine.rows("SELECT count(*) AS n FROM score")[0]["n"] == 80 + 10 + 10 + 80
        assert values(db, spec) == {"x": pytest.approx(35 / 40), "y": 1.0}
        # An earlier look sees what was said by then, not what was corrected later.
        assert values(db, spec, as_of_us=micros(1600)) == {"x": pytest.approx(30 / 40), "y": 1.0}
        assert values(db, spec, as_of_us=micros(2500)) == {"x": 1.0, "y": 1.0}
        db.unlink()


def test_orphans_wait_and_are_found_by_a_later_load(tmp_path: Path) -> None:
    con, write = empty(), Writer(tmp_path)
    waiting = [
        score("by-id", interaction_id="i1"), score("by-request", request_id="r", variant="x"),
        score("by-span", trace_id="t", span_id="s"), score("by-trace", trace_id="t"),
        score("by-response", provider_response_id="p"),
    ]  # fmt: skip
    report = write.load(con, *waiting)
    assert report.scores == {"resolved": 0, "ambiguous": 0, "waiting": 5}
    write.load(con, call("other", trace_id="elsewhere"))
    assert targets(con) == {}
    full = call("i1", request_id="r", variant="x", trace_id="t", span_id="s", provider_response_id="p")
    assert write.load(con, full).scores == {"resolved": 5, "ambiguous": 0, "waiting": 0}
    assert set(targets(con).values()) == {"i1"}
    assert targets(con, 2) == {}


def test_a_target_changes_when_a_later_call_makes_it_ambiguous_or_surer(tmp_path: Path) -> None:
    con, write = empty(), Writer(tmp_path)
    write.load(con, call("i1", trace_id="t"), score("a", trace_id="t"), score("b", trace_id="t", span_id="s2"))
    assert targets(con) == {"a": "i1", "b": "i1"}
    # A second generation in the trace: for one score a guess, for the other the surer key.
    report = write.load(con, call("i2", trace_id="t", span_id="s2"))
    assert report.scores == {"resolved": 0, "ambiguous": 1, "waiting": 1}
    assert (targets(con), ambiguous(con)) == ({"b": "i2"}, {"a"})
    assert targets(con, 1) == {"a": "i1", "b": "i1"}


def test_ambiguous_scores_are_shown_and_not_lost(tmp_path: Path, capsys: Any) -> None:
    db, write = tmp_path / "s.duckdb", Writer(tmp_path)
    path = write(
        call("i1", trace_id="t"), call("i2", trace_id="t"), score("who?", trace_id="t"), b"not json",
        call("i3", request_id="r", variant="x", unit_id="u1"), call("i4", request_id="r", variant="x", unit_id="u2"),
        score("which?", request_id="r", variant="x"),
    )  # fmt: skip
    first = run(capsys, "ingest", path, "--db", db)
    assert "2 scores fit several calls and wait" in first.out
    listed = run(capsys, "quarantine", "list", "--db", db, "--json").json
    assert (listed["total"], listed["ambiguous"]) == (3, 2)
    reasons = [(r["quarantine_id"], r["score_id"], r["reason"], r["detail"]) for r in listed["rows"]]
    assert reasons[1:] == [
        (None, "which?", "ambiguous_target", "2 calls fit by request_id and variant: i3, i4"),
        (None, "who?", "ambiguous_target", "2 calls fit by trace_id: i1, i2"),
    ]
    assert listed["rows"][1]["path"] == str(path)
    assert "2 scores that fit several calls" in run(capsys, "quarantine", "list", "--db", db).out
    shown = run(capsys, "quarantine", "show", "who?", "--db", db)
    assert shown.code == 0
    assert "2 calls fit by trace_id: i1, i2" in shown.out
    assert run(capsys, "quarantine", "show", "nobody", "--db", db).code == 2
    as_json = run(capsys, "quarantine", "show", "who?", "--db", db, "--json").json["rows"][0]
    assert (as_json["reason"], as_json["score_id"], as_json["value"]) == ("ambiguous_target", "who?", 1.0)
    # The log names the call after all.
    better = write(score("who?", trace_id="t", interaction_id="i2", updated_at=moment(90)))
    run(capsys, "ingest", better, "--db", db)
    with Store(db) as store:
        assert (targets(store.connection), ambiguous(store.connection)) == ({"who?": "i2"}, {"which?"})
        assert store.engine.rows("SELECT count(*) AS n FROM score WHERE score_id = 'who?'") == [{"n": 2}]


def test_two_rows_of_one_call_are_no_choice(tmp_path: Path) -> None:
    """A trace with a gateway's and an SDK's row has one generation; until they are known as one, the score waits."""
    con, write = empty(), Writer(tmp_path)
    write.load(con, call("i1", trace_id="t", provider_response_id="p", unit_id="u"), score("a", trace_id="t"))
    gateway = {"id": "p", "litellm_call_id": "g1", "trace_id": "t", "call_type": "acompletion", "status": "success",
               "model": "m", "startTime": 1793527200.5, "endTime": 1793527201.0, "response_time": 0.5, "metadata": {},
               "model_parameters": {}, "request_tags": [], "response": {"id": "p", "choices": []}}  # fmt: skip
    report = write.load(con, gateway)
    assert (report.by_table["interaction"], report.twins) == (1, 1)
    assert (targets(con), ambiguous(con)) == ({"a": "i1"}, set())


@st.composite
def feedback(draw: st.DrawFn) -> tuple[list[dict[str, Any]], int]:
    rng = random.Random(draw(st.integers(0, 10**9)))
    some = rng.choice
    pool = [None, "1", "2"]
    records: list[dict[str, Any]] = []
    for k in range(draw(st.integers(1, 8))):
        fields = {
            "request_id": some(pool), "variant": some([None, "x", "y"]), "trace_id": some(pool), "span_id": some(pool),
            "provider_response_id": some(pool), "unit_id": some(pool), "exposed": some([True, True, False]),
            "operation": some([None, "chat", "embeddings"]),
        }  # fmt: skip
        records.append(call(f"i{k}", k, **fields))
    for k in range(draw(st.integers(1, 8))):
        keys = {
            "interaction_id": some([None, None, "i0", "i1", "i9"]), "request_id": some(pool), "variant": some(["x", "y"]),
            "trace_id": some(pool), "span_id": some(pool), "provider_response_id": some(pool),
        }  # fmt: skip
        if not (keys["interaction_id"] or keys["request_id"] or keys["trace_id"] or keys["provider_response_id"]):
            keys["trace_id"] = "1"
        records.append(score(f"s{k}", 60, **keys))
        if some([True, False]):
            records.append({**records[-1], "value": 0, "updated_at": moment(90), "interaction_id": some(["i0", "i2"])})
    return records, rng.randrange(10**9)


@settings(max_examples=20)
@given(feedback())
def test_any_order_and_any_split_gives_the_same_targets(given_records: tuple[list[dict[str, Any]], int]) -> None:
    import tempfile

    records, seed = given_records
    rng = random.Random(seed)
    ends = []
    for splits in (0, 1, 3):
        con = empty()
        with tempfile.TemporaryDirectory() as folder:
            write = Writer(Path(folder))
            order = rng.sample(records, len(records)) if splits else records
            cuts = sorted(rng.randrange(len(order) + 1) for _ in range(splits))
            history = []
            for a, b in itertools.pairwise([0, *cuts, len(order)]):
                if order[a:b]:
                    write.load(con, *order[a:b], source="native")
                    history.append(targets(con))
        ends.append((targets(con), ambiguous(con)))
        assert not set(targets(con)) & ambiguous(con)
        for file_id, state in enumerate(history, start=1):
            assert targets(con, file_id) == state
        con.close()
    assert ends[0] == ends[1] == ends[2], json.dumps(records, indent=1)
