"""One malformed case a file, as they are in the shared fixtures: what goes in, what does not, where and why."""

from __future__ import annotations

from pathlib import Path

import pytest
from load_samples import FIXTURES, Plain, check, ids, one

from abtest.store.store import Store

DIRTY = FIXTURES / "dirty"
SHARED = Path(__file__).parents[3] / "shared" / "fixtures" / "logs" / "duckdb_dirty"

# file: (ids that go in, {line: reason code}, lines in all); written by hand, from looking at the files
CASES: dict[str, tuple[list[str], dict[int, str], int]] = {
    "array.json": (["r0", "r1"], {}, 1),
    "blank.ndjson": (["r0", "r1"], {}, 4),
    "bom.ndjson": (["r0", "r1"], {}, 2),
    "case.ndjson": ([], {1: "missing", 2: "missing"}, 2),
    "crlf.ndjson": (["r0", "r1"], {}, 2),
    "deep.ndjson": (["r0", "r2"], {2: "json"}, 3),
    "deep100k.ndjson": (["r0", "r2"], {2: "json"}, 3),
    "dupkey_in_obj.ndjson": (["r1"], {1: "duplicate_key"}, 2),
    "empty.ndjson": ([], {}, 0),
    "mid.ndjson": (["r0", "r1", "r2", "r3"], {3: "json"}, 5),
    "mid_nonl.ndjson": (["r0", "r3"], {2: "json"}, 3),
    "multi.ndjson.gz": (["r0", "r1", "r2"], {}, 3),
    "nan.ndjson": (["r0", "r4"], dict.fromkeys((2, 3, 4), "bad_value"), 5),
    "nul.ndjson": (["r0", "r1"], {2: "json"}, 3),
    "nulesc.ndjson": (["a\x00b", "r0", "r1"], {}, 3),
    "ok.ndjson": (["r0", "r1", "r2", "r3", "r4"], {}, 5),
    "ok.ndjson.gz": (sorted(f"r{n}" for n in range(20_000)), {}, 20_000),
    "scalar.ndjson": (["r0", "r1"], dict.fromkeys((2, 3, 4, 5), "not_object"), 6),
    "surr.ndjson": (["r0", "r1"], {2: "json"}, 3),
    "trunc.ndjson": (["r0", "r1"], {3: "truncated"}, 3),
    "type.ndjson": (["r0", "r4"], dict.fromkeys((2, 3, 4, 6, 7, 8, 9, 10), "bad_value"), 10),
    "utf8.ndjson": (["r0", "r2"], {2: "json"}, 3),
}
# Packed files that are damaged: nothing of them goes in, whatever of it could be read.
DAMAGED = {
    "badcrc.ndjson.gz": "gzip is damaged: CRC check failed",
    "corrupt.ndjson.gz": "gzip is damaged",
    "nocrc.ndjson.gz": "gzip is damaged: Compressed file ended before the end-of-stream marker was reached",
    "notgz.ndjson.gz": "is named .gz and is no gzip file",
    "trail.ndjson.gz": "gzip is damaged: Not a gzipped file",
    "trunc.ndjson.gz": "gzip is damaged: Compressed file ended before the end-of-stream marker was reached",
}


def where(name: str) -> Path:
    """Return a file: the copy here, else the shared one; the large ones have no copy."""
    for folder in (DIRTY, SHARED):
        if (folder / name).exists():
            return folder / name
    pytest.skip("the shared fixtures are not beside this checkout")


def test_every_file_has_its_case() -> None:
    assert {path.name for path in DIRTY.iterdir()} <= CASES.keys() | DAMAGED.keys()
    if SHARED.is_dir():
        assert {path.name for path in SHARED.iterdir()} == CASES.keys() | DAMAGED.keys()


@pytest.mark.parametrize("name", list(CASES))
def test_dirty(tmp_path: Path, name: str) -> None:
    path = where(name)
    expected, rejected, count = CASES[name]
    with Store(tmp_path / "s.duckdb") as store:
        report = check(store, store.ingest(path, fmt=Plain()))
        assert report.failed_files == ()
        assert ids(store) == expected
        assert report.lines == count
        assert report.records == len(expected) + len(rejected)
        assert (report.inserted, report.quarantined) == (len(expected), len(rejected))
        query = "SELECT line, reason, byte_offset, raw FROM quarantine ORDER BY line"
        found = store.connection.execute(query).fetchall()
        assert {number: reason for number, reason, *_ in found} == rejected
        raw = path.read_bytes().split(b"\n") if found else []
        for number, _, offset, kept in found:
            assert offset == sum(len(each) + 1 for each in raw[: number - 1])
            assert kept == raw[number - 1].strip()[:65_536]
        again = check(store, store.ingest(path, fmt=Plain()))
        assert (again.records, again.skipped_files) == (0, bool(count))


@pytest.mark.parametrize("name", list(DAMAGED))
def test_damaged(tmp_path: Path, name: str) -> None:
    with Store(tmp_path / "s.duckdb") as store:
        report = check(store, store.ingest(where(name), fmt=Plain()))
        assert (report.exit_code, report.records, ids(store)) == (40, 0, [])
        assert report.failed_files[0].message.startswith(DAMAGED[name])
        assert one(store, "SELECT count(*) FROM file_ledger") == 0


def test_all_of_them_in_one_load(tmp_path: Path) -> None:
    """Damaged files among good ones: they fail alone; the same ids come in several files."""
    with Store(tmp_path / "s.duckdb") as store:
        report = check(store, store.ingest(DIRTY, fmt=Plain()))
        here = [path.name for path in DIRTY.iterdir()]
        assert report.files == len(here)
        assert len(report.failed_files) == len([name for name in here if name in DAMAGED])
        cases = [CASES[name] for name in here if name in CASES]
        assert report.quarantined == sum(len(rejected) for _, rejected, _ in cases)
        assert report.inserted == len({each for expected, *_ in cases for each in expected})
        # ok.ndjson is read on where multi.ndjson.gz, with the same first three lines, ended.
        assert report.records == sum(len(expected) + len(rejected) for expected, rejected, _ in cases) - 3


def test_they_do_not_pass_for_logs_of_a_known_format(tmp_path: Path) -> None:
    with Store(tmp_path / "s.duckdb") as store:
        report = check(store, store.ingest(DIRTY / "ok.ndjson"))
        assert "id, x, n, t" in report.failed_files[0].message
