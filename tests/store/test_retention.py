"""What is pruned or forgotten is gone from every table and from the bytes of the file, and does not come back."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from governance_tools import (
    Con,
    Writer,
    ambiguous,
    assignment,
    call,
    calls,
    check,
    empty,
    litellm,
    members,
    merged,
    micros,
    moment,
    rows,
    score,
    stored,
    targets,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from abtest.errors import UsageError
from abtest.store import keepout, ledger, retention
from abtest.store.load import load
from abtest.store.load_report import TABLES
from abtest.store.privacy import KEY_VARIABLE, Privacy
from abtest.store.snapshot import compact
from abtest.store.store import Store
from tests.cli.runner import call as run

HOUR = 3600.0
UNIT = "user-4711@example.com"


def everything(con: Con) -> str:
    """Return all rows of all tables as text."""
    names = [r[0] for r in rows(con, "SELECT table_name FROM duckdb_tables() WHERE NOT temporary")]
    found = []
    for name in names:
        for row in rows(con, f'SELECT * FROM "{name}"'):
            found += [
                bytes(v).decode("utf-8", "replace") if isinstance(v, (bytes, bytearray)) else repr(v) for v in row
            ]
    return "\n".join(found)


def history(write: Writer) -> list[Path]:
    """Old and new calls with all that hangs on them, at hours 0 to 9."""
    lines: list[Any] = []
    for k in range(10):
        at = k * HOUR
        lines += [
            call(
                f"i{k}",
                at,
                unit_id=f"u{k % 3}",
                prompt_text=f"prompt-{k}",
                trace_id=f"t{k}",
                provider_response_id=f"p{k}",
            ),
            assignment(f"u{k % 3}", at),
            score(f"s{k}", at + 60, interaction_id=f"i{k}"),
            call(f"bad{k}", at, latency=5),
        ]
    return [write(*lines), write(*(litellm(f"g{k}", f"p{k}", k * HOUR + 1) for k in range(10)))]


# -- prune -------------------------------------------------------------------------------------------------------------


def test_prune_takes_everything_before_a_time_and_nothing_after(tmp_path: Path) -> None:
    con, write = empty(), Writer(tmp_path)
    paths = history(write)
    check(con, load(con, paths, keep_text=True))
    before = micros(5 * HOUR)
    counted = retention.prune(con, before, dry_run=True)
    assert stored(con) == 40
    removed = retention.prune(con, before)
    assert removed == counted
    assert removed.rows == {
        "interaction": 10, "interaction_text": 10, "assignment": 5, "score": 5, "quarantine": 5, "merged_interaction": 5,
    }  # fmt: skip
    for table in TABLES:
        assert rows(con, f"SELECT count(*) FROM {table} WHERE ts_us < {before}") == [(0,)]
    assert stored(con) == 20
    assert calls(con) == [f"i{k}" for k in range(5, 10)]
    assert targets(con) == {f"s{k}": f"i{k}" for k in range(5, 10)}
    assert rows(con, "SELECT count(*) FROM score_target") == [(5,)]
    assert members(con) == {(f"i{k}", (f"g{k}", f"i{k}")) for k in range(5, 10)}
    # Again: nothing more, and the ledger of decisions tells of both.
    assert retention.prune(con, before).total == 0
    assert [e.kind for e in ledger.entries(con)] == ["prune", "prune"]
    assert ledger.entries(con)[0].body["rows"]["interaction"] == 10
    assert ledger.verify(con) == 2


def test_pruned_rows_do_not_come_back(tmp_path: Path) -> None:
    con, write = empty(), Writer(tmp_path)
    paths = history(write)
    load(con, paths)
    retention.prune(con, micros(5 * HOUR))
    assert load(con, paths).skipped_files == 2  # the ledger of files stays
    copy = tmp_path / "again.jsonl"
    copy.write_bytes(b"\n" + paths[0].read_bytes())
    report = check(con, load(con, [copy], source="native"))
    assert (report.inserted, report.duplicates, report.ignored) == (0, 15, 15)
    assert report.kept_out == {"pruned": 15, "forgotten": 0}
    assert report.to_dict()["kept_out"] == {"pruned": 15, "forgotten": 0}
    late = check(
        con,
        load(
            con, [write(call("late", 2 * HOUR), call("new", 9 * HOUR), score("s-new", 9 * HOUR, interaction_id="i1"))]
        ),
    )
    assert (late.inserted, late.ignored, late.by_table["interaction"]) == (2, 1, 1)
    assert rows(con, "SELECT min(ts_us) >= $1 FROM interaction", micros(5 * HOUR)) == [(True,)]
    # The watermark only goes up.
    retention.prune(con, micros(1 * HOUR))
    assert keepout.watermark(con) == micros(5 * HOUR)


def test_a_correction_keeps_its_score_and_a_score_goes_with_its_call(tmp_path: Path) -> None:
    con, write = empty(), Writer(tmp_path)
    write.load(
        con, call("old", 0), call("new", 3 * HOUR), score("late", 4 * HOUR, interaction_id="old"),
        score("kept", 0, interaction_id="new"), score("kept", 0, interaction_id="new", updated_at=moment(3 * HOUR), value=0),
    )  # fmt: skip
    retention.prune(con, micros(HOUR))
    assert rows(con, "SELECT score_id, value FROM score") == [("kept", 0.0)]
    assert targets(con) == {"kept": "new"}


def test_prune_says_which_assignments_are_still_in_force(tmp_path: Path) -> None:
    con, write = empty(), Writer(tmp_path)
    write.load(con, assignment("u1", 0), assignment("u2", 0), assignment("u3", 0), call("i1", 2 * HOUR, unit_id="u1"),
               call("i2", 2 * HOUR, unit_id="u2", experiment_id="e", variant="x"))  # fmt: skip
    assert retention.prune(con, micros(HOUR), dry_run=True).in_use == 1


def test_a_pair_cut_in_two_by_the_time_is_found_anew(tmp_path: Path) -> None:
    con, write = empty(), Writer(tmp_path)
    load(con, [write(call("s1", 0, provider_response_id="p", unit_id="u"))])
    load(con, [write(litellm("g1", "p", 100))])
    # A third row would have been the second-best partner of the gateway's row.
    load(con, [write(call("s2", 300, provider_response_id="p", unit_id="u"))])
    assert members(con) == {("s1", ("g1", "s1"))}
    retention.prune(con, micros(50))
    assert members(con) == {("s2", ("g1", "s2"))}
    assert calls(con) == ["s2"]


# -- forget ------------------------------------------------------------------------------------------------------------


def personal(write: Writer) -> list[Path]:
    gateway = write(litellm("g1", "p1", 1), litellm("g2", "p2", 2))
    own = write(
        call("i1", 0, unit_id=UNIT, provider_response_id="p1", prompt_text="mine", trace_id="t1", request_id="r1", variant="x"),
        call("i2", 0, unit_id="other", provider_response_id="p2", prompt_text="not mine", trace_id="t2"),
        call("i3", 5, session_id=UNIT),
        call("i1", 0, unit_id=UNIT, latency_ms=4),
        assignment(UNIT), assignment("other"),
        score("s1", interaction_id="i1", explanation=f"{UNIT} liked it"), score("s2", interaction_id="i2"),
        score("s3", provider_response_id="p1"), score("s4", trace_id="t1", span_id="unknown"),
        score("s5", interaction_id="i1", wrong=1),
        call("i9", unit_id=UNIT, latency=1), f'{{"broken": "{UNIT}'.encode(), call("i8", unit_id="other", latency=1),
    )  # fmt: skip
    return [gateway, own]


def test_forget_takes_everything_of_one_unit_and_nothing_else(tmp_path: Path) -> None:
    con, write = empty(), Writer(tmp_path)
    check(con, load(con, personal(write), keep_text=True))
    con.execute("CREATE TABLE scan_units_0123456789abcdef AS SELECT unit_id, 1 AS x0 FROM interaction")
    assert UNIT in everything(con)
    counted = retention.forget(con, UNIT, dry_run=True)
    assert "i1" in calls(con)
    removed = retention.forget(con, UNIT)
    assert removed == counted
    assert removed.rows == {
        "interaction": 3, "interaction_text": 2, "assignment": 1, "score": 3, "quarantine": 4, "merged_interaction": 1,
    }  # fmt: skip
    left = everything(con)
    assert UNIT not in left
    assert "mine" in left  # "not mine" is
    assert rows(con, "SELECT interaction_id FROM interaction ORDER BY 1") == [("g2",), ("i2",)]
    assert rows(con, "SELECT prompt_text FROM interaction_text WHERE prompt_text IS NOT NULL") == [("not mine",)]
    assert (calls(con), targets(con), ambiguous(con)) == (["i2"], {"s2": "i2"}, set())
    assert rows(con, "SELECT count(*) FROM quarantine") == [(1,)]
    (entry,) = ledger.entries(con)
    assert (entry.kind, entry.body["rows"]["interaction"]) == ("forget", 3)
    salted = keepout.salt(con)
    assert salted is not None
    assert entry.body["unit_hash"] == keepout.forgotten_hash(salted, "unit", UNIT)
    assert ledger.verify(con) == 1
    assert retention.forget(con, UNIT).total == 0
    assert retention.forget(con, "nobody").total == 0
    with pytest.raises(UsageError, match="empty id"):
        retention.forget(con, "")


def test_a_forgotten_unit_stays_out(tmp_path: Path) -> None:
    con, write = empty(), Writer(tmp_path)
    paths = personal(write)
    load(con, paths, keep_text=True)
    retention.forget(con, UNIT)
    assert load(con, paths).skipped_files == 2
    for path in paths:
        copy = tmp_path / f"again-{path.name}"
        copy.write_bytes(b"\n" + path.read_bytes())
        report = check(con, load(con, [copy], keep_text=True))
        assert report.inserted == 0, path
        assert report.kept_out["forgotten"] > 0
    later = write(
        call("i7", 900, unit_id=UNIT, prompt_text="again"), call("i6", 900, unit_id="other"), assignment(UNIT, 900)
    )
    report = check(con, load(con, [later], keep_text=True))
    assert (report.inserted, report.ignored) == (1, 2)
    assert UNIT not in everything(con).replace("again-", "")
    assert rows(con, "SELECT interaction_id FROM interaction ORDER BY 1") == [("g2",), ("i2",), ("i6",)]


def test_forget_where_ids_are_hashed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    db, write, key = tmp_path / "s.duckdb", Writer(tmp_path), "0123456789abcdef"
    hashed = hmac.new(key.encode(), UNIT.encode(), hashlib.sha256).hexdigest()
    with Store(db) as store:
        store.ingest(*personal(write), transform=Privacy(key=key.encode()))
        assert hashed in everything(store.connection)
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert run(capsys, "forget", "--unit", UNIT, "--db", db).code == 2
    monkeypatch.setenv(KEY_VARIABLE, "another-key-of-16-letters")
    assert "another ABTEST_UNIT_KEY" in run(capsys, "forget", "--unit", UNIT, "--db", db).err
    monkeypatch.setenv(KEY_VARIABLE, key)
    result = run(capsys, "forget", "--unit", UNIT, "--db", db, "--json")
    assert (result.code, result.json["schema"], result.json["rows"]["interaction"]) == (0, "abtest.forget/1", 3)
    assert hashed.encode() not in db.read_bytes()


def test_the_bytes_are_gone_from_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db, write = tmp_path / "s.duckdb", Writer(tmp_path)
    with Store(db) as store:
        store.ingest(*personal(write), keep_text=True)
    assert UNIT.encode() in db.read_bytes()
    db.chmod(0o600)
    preview = run(capsys, "forget", "--unit", UNIT, "--db", db, "--dry-run", "--json").json
    assert (preview["dry_run"], UNIT.encode() in db.read_bytes()) == (True, True)
    said = run(capsys, "forget", "--unit", UNIT, "--db", db)
    assert (said.code, "14 rows are gone" in said.out) == (0, True), said.out
    assert [p.name for p in tmp_path.iterdir() if "duckdb" in p.name] == ["s.duckdb"]
    assert UNIT.encode() not in db.read_bytes()
    assert b"not mine" in db.read_bytes()
    assert db.stat().st_mode & 0o777 == 0o600
    with Store(db) as store:
        assert ledger.verify(store.connection) == 1
        assert store.ingest(write(call("new", 99, unit_id="x"))).inserted == 1
    assert run(capsys, "verify", "--db", db).code == 0


def test_prune_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db, write = tmp_path / "s.duckdb", Writer(tmp_path)
    with Store(db) as store:
        store.ingest(*history(write), keep_text=True)
    preview = run(capsys, "prune", "--before", moment(5 * HOUR), "--db", db, "--dry-run", "--json").json
    assert preview == {
        "schema": "abtest.prune/1", "dry_run": True, "assignments_in_use": 3, "rows": {
            "interaction": 10, "interaction_text": 10, "assignment": 5, "score": 5, "quarantine": 5, "merged_interaction": 5,
        },
    }  # fmt: skip
    assert b"prompt-1" in db.read_bytes()
    done = run(capsys, "prune", "--before", moment(5 * HOUR), "--db", db)
    assert (done.code, "40 rows are gone" in done.out, "3 of the assignments" in done.err) == (0, True, True)
    assert b"prompt-1" not in db.read_bytes()
    assert b"prompt-7" in db.read_bytes()
    # A date is its beginning: nothing of that day goes.
    assert run(capsys, "prune", "--before", "2026-11-01", "--db", db, "--json").json["rows"]["interaction"] == 0
    assert "--before" in run(capsys, "prune", "--before", "2026-11-01T10:00:00", "--db", db).err
    assert run(capsys, "prune", "--before", "yesterday-ish", "--db", db).code == 2
    assert run(capsys, "prune", "--db", db).code == 2
    assert run(capsys, "forget", "--unit", "x", "--db", tmp_path / "none.duckdb").code == 40


def test_a_failure_in_the_middle_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    con, write = empty(), Writer(tmp_path)
    load(con, personal(write))
    before = everything(con)
    monkeypatch.setattr(ledger, "append", lambda *a, **k: 1 / 0)
    for action in (lambda: retention.forget(con, UNIT), lambda: retention.prune(con, micros(9 * HOUR))):
        with pytest.raises(ZeroDivisionError):
            action()
        assert everything(con) == before


def test_compact_keeps_the_store_as_it_is(tmp_path: Path) -> None:
    db, write = tmp_path / "s.duckdb", Writer(tmp_path)
    with Store(db) as store:
        store.ingest(*history(write), keep_text=True)
        before = everything(store.connection)
        compact(store.connection, db)
    with Store(db) as store:
        assert everything(store.connection) == before
        assert not rows(store.connection, "SELECT 1 FROM duckdb_tables() WHERE NOT has_primary_key AND temporary")


# -- after a removal the derived rows are those of the rows that stay -------------------------------------------------------


@st.composite
def removals(draw: st.DrawFn) -> tuple[int, str | None]:
    return draw(st.integers(0, 10**9)), draw(st.sampled_from([None, "u1", "u2"]))


@settings(max_examples=15)
@given(removals())
def test_what_stays_is_as_if_the_rest_had_never_been(case: tuple[int, str | None]) -> None:
    seed, unit = case
    rng = random.Random(seed)
    own = [
        call(f"i{k}", rng.randrange(20) * 60, provider_response_id=f"p{rng.randrange(4)}", unit_id=rng.choice(["u1", "u2", "u3"]),
             variant=rng.choice([None, "x", "y"]), experiment_id="e")
        for k in range(8)
    ]  # fmt: skip
    gateway = [litellm(f"g{k}", f"p{rng.randrange(4)}", rng.randrange(20) * 60 + 1) for k in range(6)]
    with tempfile.TemporaryDirectory() as folder:
        write = Writer(Path(folder))
        con = empty()
        load(con, [write(*own), write(*gateway)])
        load(con, [write(call("later", 30, provider_response_id="p1", unit_id="u3"))])
        if unit is None:
            retention.prune(con, micros(600))
        else:
            retention.forget(con, unit)
        left = {r[0] for r in rows(con, "SELECT interaction_id FROM interaction")}
        fresh = empty()
        load(fresh, [write(*(c for c in own if c["interaction_id"] in left)), write(*(g for g in gateway if g["litellm_call_id"] in left)),
                     write(*([call("later", 30, provider_response_id="p1", unit_id="u3")] if "later" in left else []))])  # fmt: skip
    assert (members(con), merged(con), calls(con)) == (members(fresh), merged(fresh), calls(fresh))
    assert set(rows(con, "SELECT * FROM twin_conflict")) == set(rows(fresh, "SELECT * FROM twin_conflict"))
    json.dumps(retention.prune(con, micros(10**6)).rows)
    assert (stored(con), members(con)) == (0, set())
