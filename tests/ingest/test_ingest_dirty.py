"""One malformed case a file: which lines go in, which go to quarantine, where and why."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from abtest.store.load import load

# file: (ids that go in, {line: reason code}, lines in all)
CASES: dict[str, tuple[list[str], dict[int, str], int]] = {
    "array.json": (["r0", "r1"], {}, 1),
    "blank.ndjson": (["r0", "r1"], {}, 4),
    "bom.ndjson": (["r0", "r1"], {}, 2),
    "case.ndjson": ([], {1: "missing", 2: "missing"}, 2),
    "crlf.ndjson": (["r0", "r1"], {}, 2),
    "deep.ndjson": (["r0", "r2"], {2: "json"}, 3),
    "dupkey_in_obj.ndjson": (["r1"], {1: "duplicate_key"}, 2),
    "mid.ndjson": (["r0", "r1", "r2", "r3"], {3: "json"}, 5),
    "mid_nonl.ndjson": (["r0", "r3"], {2: "json"}, 3),
    "nan.ndjson": (["r0", "r4"], {2: "bad_value", 3: "bad_value", 4: "bad_value"}, 5),
    "nul.ndjson": (["r0", "r1"], {2: "json"}, 3),
    "nulesc.ndjson": (["a\x00b", "r0", "r1"], {}, 3),
    "ok.ndjson": (["r0", "r1", "r2", "r3", "r4"], {}, 5),
    "scalar.ndjson": (["r0", "r1"], dict.fromkeys((2, 3, 4, 5), "not_object"), 6),
    "surr.ndjson": (["r0", "r1"], {2: "json"}, 3),
    "trunc.ndjson": (["r0", "r1"], {3: "truncated"}, 3),
    "type.ndjson": (["r0", "r4"], dict.fromkeys((2, 3, 4, 6, 7, 8, 9, 10), "bad_value"), 10),
    "utf8.ndjson": (["r0", "r2"], {2: "json"}, 3),
}


def test_every_dirty_file_has_a_case(fixtures: Path) -> None:
    assert sorted(CASES) == sorted(path.name for path in (fixtures / "dirty").iterdir())


@pytest.mark.parametrize("name", list(CASES))
def test_dirty(con: duckdb.DuckDBPyConnection, fixtures: Path, name: str) -> None:
    path = fixtures / "dirty" / name
    ids, rejected, lines = CASES[name]
    report = load(con, [path])
    assert report.failed_files == ()
    stored = [row[0] for row in con.execute("SELECT interaction_id FROM interaction ORDER BY 1").fetchall()]
    assert stored == ids
    content = path.read_bytes().split(b"\n")
    quarantine = con.execute(
        "SELECT line, reason, byte_offset, raw, path, source FROM quarantine ORDER BY line"
    ).fetchall()
    assert {line: reason for line, reason, *_ in quarantine} == rejected
    for line, _, offset, raw, where, source in quarantine:
        assert offset == sum(len(each) + 1 for each in content[: line - 1])
        assert raw == content[line - 1].strip()
        assert where == str(path.resolve())
        assert source == "native"
    assert report.lines == lines
    assert report.records == len(ids) + len(rejected) == report.inserted + report.quarantined


def test_all_of_them_at_once(con: duckdb.DuckDBPyConnection, fixtures: Path) -> None:
    """The same ids come in several files, some with other content: nothing is overwritten, everything is counted."""
    report = load(con, [fixtures / "dirty"])
    assert report.files == len(CASES)
    assert report.records == sum(len(ids) + len(rejected) for ids, rejected, _ in CASES.values())
    assert report.quarantined == sum(len(rejected) for _, rejected, _ in CASES.values())
    assert report.inserted + report.duplicates + report.conflicts == sum(len(ids) for ids, *_ in CASES.values())
    assert report.inserted == len({name for ids, *_ in CASES.values() for name in ids})


def test_details_of_the_type_file(con: duckdb.DuckDBPyConnection, fixtures: Path) -> None:
    load(con, [fixtures / "dirty" / "type.ndjson"])
    details = [row[0] for row in con.execute("SELECT detail FROM quarantine ORDER BY line").fetchall()]
    assert [detail.partition(":")[0] for detail in details] == [
        "latency_ms",
        "input_tokens",
        "input_tokens",
        "input_tokens",
        "latency_ms",
        "ts",
        "ts",
        "interaction_id",
    ]
