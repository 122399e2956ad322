"""Scores find their interactions: by the surest key, now or when the interaction comes; never by a guess."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

from abtest.store.load import load

Con = duckdb.DuckDBPyConnection
Write = Callable[..., Path]
Call = Callable[..., dict[str, Any]]


def score(score_id: str, **fields: Any) -> dict[str, Any]:
    base = {"type": "score", "ts": "2026-11-01T10:00:00Z", "name": "n", "scorer_kind": "judge", "value": 1}
    return {**base, "score_id": score_id, **fields}


def targets(con: Con) -> dict[str, str]:
    return dict(con.execute("SELECT score_id, interaction_id FROM score_target").fetchall())


def test_every_key(con: Con, fixtures: Path) -> None:
    report = load(con, [fixtures / "native"])
    assert targets(con) == {
        "by-id": "i1",
        "by-request": "i2",
        "by-span": "i1",
        "by-response": "i2",
        "by-trace": "i2",
    }
    assert report.scores == {"resolved": 5, "ambiguous": 1, "waiting": 2}


def test_otel_scores_join_by_response_id_though_they_hang_on_the_parent(con: Con, fixtures: Path) -> None:
    report = load(con, [fixtures / "otel" / "latest-logs.jsonl"])
    assert (report.scores["resolved"], report.scores["waiting"]) == (0, 4)
    report = load(con, [fixtures / "otel" / "latest-traces.jsonl"])
    assert (report.scores["resolved"], report.scores["waiting"]) == (4, 0)
    joined = con.execute(
        "SELECT count(*) FROM score s JOIN score_target USING (score_id) JOIN interaction i"
        " ON i.interaction_id = score_target.interaction_id AND i.provider_response_id = s.provider_response_id"
    ).fetchall()
    assert joined == [(4,)]
    assert con.execute("SELECT DISTINCT file_id FROM score_target").fetchall() == [(2,)]


def test_orphans_are_retried_at_every_load(con: Con, write: Write, call: Call) -> None:
    load(con, [write(score("a", interaction_id="i1"), score("b", trace_id="t", span_id="s"))])
    assert targets(con) == {}
    load(con, [write(call("other"))])
    assert targets(con) == {}
    report = load(con, [write(call("i1"))])
    assert (targets(con), report.scores) == ({"a": "i1"}, {"resolved": 1, "ambiguous": 0, "waiting": 1})
    load(con, [write(call("i2", trace_id="t", span_id="s"))])
    assert targets(con) == {"a": "i1", "b": "i2"}


def test_a_target_holds_until_a_second_call_fits_as_well(con: Con, write: Write, call: Call) -> None:
    """Which call a score means is a function of the rows, not of their order; a replay sees what was known."""
    load(con, [write(call("i1", trace_id="t"), score("a", trace_id="t"))])
    load(con, [write(call("i2", trace_id="t"), score("b", trace_id="t"))])
    held = "SELECT score_id, interaction_id FROM score_target WHERE file_id <= ? AND until_file > ?"
    assert [con.execute(held, [file, file]).fetchall() for file in (1, 2)] == [[("a", "i1")], []]
    assert con.execute("SELECT score_id FROM ambiguous_score ORDER BY 1").fetchall() == [("a",), ("b",)]


def test_embeddings_do_not_make_a_trace_ambiguous(con: Con, write: Write, call: Call) -> None:
    load(
        con,
        [write(call("i1", trace_id="t"), call("e", trace_id="t", operation="embeddings"), score("a", trace_id="t"))],
    )
    assert targets(con) == {"a": "i1"}


def test_a_score_that_names_its_interaction_does_not_settle_for_the_trace(con: Con, write: Write, call: Call) -> None:
    load(con, [write(call("i1", trace_id="t"), score("a", trace_id="t", interaction_id="later"))])
    assert targets(con) == {}
    load(con, [write(call("later", trace_id="t"))])
    assert targets(con) == {"a": "later"}


def test_attempts_of_a_request_are_one_target_unless_another_key_decides(con: Con, write: Write, call: Call) -> None:
    calls = [call(f"i{n}", request_id="r", variant="b", trace_id=f"t{n}", unit_id="u") for n in range(2)]
    lines = [*calls, score("a", request_id="r", variant="b"), score("b", request_id="r", variant="b", trace_id="t1")]
    report = load(con, [write(*lines)])
    assert targets(con) == {"a": "i0", "b": "i1"}
    assert report.scores == {"resolved": 2, "ambiguous": 0, "waiting": 0}


def test_a_request_of_two_units_is_ambiguous(con: Con, write: Write, call: Call) -> None:
    calls = [call(f"i{n}", request_id="r", variant="b", unit_id=f"u{n}") for n in range(2)]
    report = load(con, [write(*calls, score("a", request_id="r", variant="b"))])
    assert targets(con) == {}
    assert report.scores == {"resolved": 0, "ambiguous": 1, "waiting": 1}


def test_a_shadow_leg_does_not_take_the_score_of_two_seen_answers(con: Con, write: Write, call: Call) -> None:
    calls = [call(f"i{n}", trace_id="t", exposed=n < 2) for n in range(3)]
    report = load(con, [write(*calls, score("a", trace_id="t"))])
    assert targets(con) == {}
    assert report.scores == {"resolved": 0, "ambiguous": 1, "waiting": 1}


def test_corrections_are_kept_beside_what_they_correct(con: Con, write: Write, call: Call) -> None:
    first = score("a", interaction_id="i1")
    correction = score("a", interaction_id="i1", value=0, updated_at="2026-11-02T10:00:00Z")
    report = load(con, [write(call("i1"), first, correction, correction)])
    assert (report.by_table["score"], report.duplicates, report.conflicts) == (2, 1, 0)
    assert targets(con) == {"a": "i1"}
    assert con.execute("SELECT count(*) FROM score_target").fetchall() == [(1,)]
    again = load(con, [write(score("a", interaction_id="i1", value=0.5), {**correction, "value": 0.25})])
    assert (again.inserted, again.conflicts) == (0, 2)
    later = load(con, [write({**correction, "updated_at": "2026-11-03T10:00:00Z"})])
    assert later.inserted == 1


def test_waiting_is_told_even_when_nothing_is_new(con: Con, fixtures: Path) -> None:
    load(con, [fixtures / "native"])
    assert load(con, [fixtures / "native"]).scores == {"resolved": 0, "ambiguous": 0, "waiting": 2}
