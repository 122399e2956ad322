"""Rejected lines are tried again with the rules of today: what passes leaves the quarantine in the same transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pytest
from governance_tools import Con, Writer, call, empty, litellm, rows, score, stored, targets

from abtest.errors import StoreError, UsageError
from abtest.ingest import Format, Ignored, Item, Reject
from abtest.ingest.base import parse_object, reject
from abtest.ingest.native import Native
from abtest.ingest.validate import from_fields
from abtest.store import load_merge
from abtest.store import retry as retry_module
from abtest.store.load import load
from abtest.store.privacy import Privacy
from abtest.store.retry import retry
from abtest.store.store import Store
from tests.cli.runner import call as run


def quarantined(con: Con) -> list[tuple[Any, ...]]:
    return rows(con, "SELECT line, reason, detail FROM quarantine ORDER BY quarantine_id")


class Lenient(Native):
    """The native format of a later version, which knows the key `tokens`, and lines of several records."""

    def read(self, line: bytes, number: int, offset: int) -> Sequence[Item]:
        value = parse_object(line)
        if isinstance(value, str):
            return (reject(line, number, offset, value),)
        if "many" in value:
            return [item for each in value["many"] for item in self.read(json.dumps(each).encode(), number, offset)]
        if value.get("skip"):
            return (Ignored(),)
        if "tokens" in value:
            value["output_tokens"] = value.pop("tokens")
        found = from_fields(value.get("type", "interaction"), value)
        return (reject(line, number, offset, found) if isinstance(found, str) else found,)


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on the native format is the lenient one."""
    monkeypatch.setattr(retry_module, "formats", lambda: {"native": Lenient()})


def bad(con: Con, write: Writer) -> None:
    report = write.load(
        con, call("good"), call("i1", tokens=5), b"not json", call("i2", tokens=7, unit_id=4), call("i3", tokens=9, skip=True),
        score("s1", interaction_id="i1"),
    )  # fmt: skip
    assert (report.inserted, report.quarantined) == (2, 4)


def test_nothing_changes_while_the_rules_are_the_same(tmp_path: Path) -> None:
    con, write = empty(), Writer(tmp_path)
    bad(con, write)
    before = rows(con, "SELECT * FROM quarantine ORDER BY ALL")
    done = retry(con)
    assert (done.tried, done.taken, done.kept, done.inserted) == (4, 0, 4, 0)
    assert rows(con, "SELECT * FROM quarantine ORDER BY ALL") == before
    assert rows(con, "SELECT count(*) FROM file_ledger") == [(1,)]


@pytest.mark.usefixtures("newer")
def test_what_passes_today_is_taken_in_and_leaves_the_quarantine(tmp_path: Path) -> None:
    con, write = empty(), Writer(tmp_path)
    bad(con, write)
    monkey = retry(con, number=2)  # "not json" is still none
    assert (monkey.tried, monkey.kept) == (1, 1)
    done = retry(con)
    assert (done.tried, done.taken, done.kept, done.inserted, done.ignored) == (4, 2, 2, 1, 1)
    assert done.to_dict()["reasons"] == {"bad_value": 1, "json": 1}
    assert rows(con, "SELECT interaction_id, output_tokens, file_id FROM interaction ORDER BY 1") == [
        ("good", None, 1), ("i1", 5, 2),
    ]  # fmt: skip
    # The orphan finds its call; what stays has the reason of today.
    assert targets(con) == {"s1": "i1"}
    assert [(line, reason) for line, reason, _ in quarantined(con)] == [(3, "json"), (4, "bad_value")]
    assert rows(con, "SELECT path, source, records, inserted, ignored FROM file_ledger WHERE file_id = 2") == [
        ("(quarantine retry)", "native", 2, 1, 1)
    ]
    assert stored(con) == rows(con, "SELECT sum(inserted) FROM file_ledger")[0][0]
    again = retry(con)
    assert (again.tried, again.taken, again.inserted) == (2, 0, 0)
    assert rows(con, "SELECT count(*) FROM file_ledger") == [(2,)]


@pytest.mark.usefixtures("newer")
def test_a_line_of_several_records_settles_record_by_record(tmp_path: Path) -> None:
    con = empty()
    line = json.dumps(
        {"many": [call("a", tokens=1), call("b", tokens="x"), call("c", tokens=2), call("d", tokens="y")]}
    ).encode()
    for number, reason in [(1, "unknown_key"), (2, "unknown_key"), (3, "unknown_key"), (4, "unknown_key")]:
        con.execute("INSERT INTO quarantine VALUES (?, 1, 'p', 1, 0, ?, ?, 'old', 'native', 0)", [number, line, reason])
    done = retry(con)
    assert (done.tried, done.taken, done.kept, done.inserted) == (4, 2, 2, 2)
    assert [reason for _, reason, _ in quarantined(con)] == ["bad_value", "bad_value"]
    assert (retry(con).duplicates, stored(con)) == (2, 2)


def test_what_cannot_be_tried_is_said(tmp_path: Path) -> None:
    con, write = empty(), Writer(tmp_path)
    write.load(con, call("i1"), call("i1", latency_ms=4), call("i2", note="x" * 70_000))
    load(con, [write(b"ok?", name="cut.jsonl")], source="native", transform=Privacy(redact=True))
    con.execute("INSERT INTO quarantine VALUES (90, 1, 'p', 1, 0, 'x'::BLOB, 'missing', 'a', 'my-map', 0)")
    con.execute("INSERT INTO quarantine VALUES (91, 1, 'p', 1, 0, '{\"a\":'::BLOB, 'truncated', 'a', 'native', 0)")
    done = retry(con)
    assert dict(done.skipped) == {"conflict": 1, "cut": 1, "outline": 1, "unknown_format": 1, "truncated": 1}
    assert (done.tried, stored(con)) == (0, 1)
    with pytest.raises(UsageError, match="no rejected row 77"):
        retry(con, number=77)


def test_another_format_for_the_rows_of_a_source(tmp_path: Path) -> None:
    class Mapped(Format):
        name: ClassVar[str] = "mine"
        description: ClassVar[str] = "a map"

        def sniff(self, objects: Sequence[Mapping[str, Any]]) -> float:
            return 0.0

        def read(self, line: bytes, number: int, offset: int) -> Sequence[Item]:
            value = json.loads(line)
            found = from_fields("interaction", {"interaction_id": value["id"], "ts": value["at"], "model": "m"})
            assert not isinstance(found, str)
            return (found,)

    con, write = empty(), Writer(tmp_path)
    load(
        con,
        [write({"id": "a", "at": "2026-11-01T10:00:00Z"}, {"id": "b", "at": "2026-11-01T10:00:00Z"})],
        source="native",
    )
    load(con, [write({"litellm_call_id": "c"})], source="litellm")
    assert retry(con, source="litellm", fmt=None).kept == 1
    done = retry(con, source="native", fmt=Mapped())
    assert (done.taken, done.inserted) == (2, 2)
    assert rows(con, "SELECT interaction_id, source FROM interaction ORDER BY 1") == [("a", "mine"), ("b", "mine")]


@pytest.mark.usefixtures("newer")
def test_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    con, write = empty(), Writer(tmp_path)
    bad(con, write)
    before = quarantined(con)

    def broken(*args: Any) -> None:
        raise duckdb.IOException("disk full")

    monkeypatch.setattr(load_merge, "finish", broken)
    with pytest.raises(StoreError, match="nothing was stored"):
        retry(con)
    assert (quarantined(con), stored(con)) == (before, 2)


@pytest.mark.usefixtures("newer")
def test_a_conflict_goes_back_as_one(tmp_path: Path) -> None:
    con, write = empty(), Writer(tmp_path)
    write.load(con, call("good"), call("good", tokens=5))
    done = retry(con)
    assert (done.taken, done.conflicts, done.inserted) == (1, 1, 0)
    assert [(reason, detail) for _, reason, detail in quarantined(con)] == [
        ("conflict", "the interaction with this id differs in output_tokens")
    ]
    assert retry(con).skipped == {"conflict": 1}


@pytest.mark.usefixtures("newer")
def test_privacy_holds_for_what_is_tried_again(tmp_path: Path) -> None:
    con, write = empty(), Writer(tmp_path)
    write.load(con, call("i1", tokens=1, unit_id="u1", prompt_text="secret"))
    retry(con, transform=Privacy(redact=True, key=b"0123456789abcdef"), keep_text=True)
    assert rows(con, "SELECT count(*) FROM interaction_text") == [(0,)]
    assert len(rows(con, "SELECT unit_id FROM interaction")[0][0]) == 64
    with pytest.raises(UsageError, match="hashed"):
        retry(con)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    db, write = tmp_path / "s.duckdb", Writer(tmp_path)
    run(capsys, "ingest", write(call("i1", tokens=5), b"nope", call("i2", note="x" * 70_000)), "--db", db)
    assert run(capsys, "quarantine", "retry", "--db", db, "--id", 99).code == 2
    said = run(capsys, "quarantine", "retry", "--db", db)
    assert said.code == 0
    assert "2 rows tried: 0 are out of quarantine" in said.out
    assert "only their first 64 KB were kept" in said.out
    monkeypatch.setattr(retry_module, "formats", lambda: {"native": Lenient(), "litellm": Lenient()})
    data = run(capsys, "quarantine", "retry", "--db", db, "--source", "native", "--json").json
    assert (data["schema"], data["taken"], data["inserted"], data["skipped"]) == (
        "abtest.quarantine_retry/1",
        1,
        1,
        {"cut": 1},
    )
    with Store(db) as store:
        assert [r[1] for r in quarantined(store.connection)] == ["json", "unknown_key"]


def test_the_real_formats_read_what_they_rejected(tmp_path: Path) -> None:
    """A reject of a gateway's row holds the whole text, so that a mended rule can take it."""
    con, write = empty(), Writer(tmp_path)
    line = litellm("g1", "resp-1")
    del line["startTime"]
    report = write.load(con, litellm("g0", "resp-0"), line)
    assert (report.inserted, report.quarantined) == (1, 1)
    assert json.loads(bytes(rows(con, "SELECT raw FROM quarantine")[0][0])) == line
    assert isinstance(retry(con).to_dict()["reasons"], dict)
    assert Reject(1, 0, b"", "a: b").code == "a"


def test_a_better_map_takes_what_the_first_one_could_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db, write = tmp_path / "s.duckdb", Writer(tmp_path)
    path = write({"id": "a", "at": 1793527200, "m": "x"}, {"id": "b", "at": 1793527201, "m": "x", "user": "u1"})
    first, better = tmp_path / "ours.toml", tmp_path / "better.toml"
    first.write_text('interaction_id = "$.id"\nts = "$.at"\nmodel = "$.m"\n')
    better.write_text(
        'interaction_id = "$.id"\nts = { path = "$.at", from = "epoch_s" }\nmodel = "$.m"\nunit_id = "$.user"\n'
    )
    done = run(capsys, "ingest", path, "--map", first, "--db", db, "--json").json
    assert (done["inserted"], done["quarantined"]) == (0, 2)
    assert "name it with --map" in run(capsys, "quarantine", "retry", "--db", db).out
    again = run(capsys, "quarantine", "retry", "--map", better, "--db", db, "--json").json
    assert (again["taken"], again["inserted"], again["kept"]) == (2, 2, 0)
    with Store(db) as store:
        assert rows(store.connection, "SELECT interaction_id, unit_id, source FROM interaction ORDER BY 1") == [
            ("a", None, "map_better"), ("b", "u1", "map_better"),
        ]  # fmt: skip
    assert run(capsys, "ingest", path, "--map", better, "--source", "otel", "--db", db).code == 2
    assert run(capsys, "ingest", path, "--map", tmp_path / "none.toml", "--db", db).code == 2
