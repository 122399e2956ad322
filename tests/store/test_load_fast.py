"""Large files: the fast way leaves in the store exactly what the general way leaves."""

from __future__ import annotations

import gzip
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from abtest.errors import StoreError
from abtest.ingest.validate import from_json
from abtest.store import load as load_module
from abtest.store import load_fast, load_files, load_gate, load_workers
from abtest.store.load_fast import Rounds
from abtest.store.load_gate import Piece, check
from abtest.store.load_limits import limited
from abtest.store.load_report import IngestReport
from abtest.store.load_workers import Workers
from abtest.store.store import Store

TABLES = {
    "interaction": "*",
    "interaction_text": "*",
    "assignment": "*",
    "score": "*",
    "quarantine": "* EXCLUDE (quarantine_id, at_us)",
    "file_ledger": "* EXCLUDE (ingested_us)",
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is large, pieces hold a few lines, rounds a few pieces."""
    monkeypatch.setattr(load_files, "CHUNK", 190)
    monkeypatch.setattr(load_module, "LARGE_BYTES", 0)
    monkeypatch.setattr(load_fast, "PIECE_BYTES", 700)
    monkeypatch.setattr(load_gate, "BLOCK_BYTES", 300)
    monkeypatch.setattr(load_fast, "ROUND_ROWS", 9)
    monkeypatch.setattr(load_fast, "AHEAD", 2)


def content(con: duckdb.DuckDBPyConnection) -> dict[str, list[tuple[Any, ...]]]:
    """Return everything that a load stores; rows have no order."""
    return {
        table: sorted(con.execute(f"SELECT {columns} FROM {table}").fetchall(), key=repr)
        for table, columns in TABLES.items()
    }


def outcome(report: IngestReport) -> dict[str, Any]:
    return {key: value for key, value in report.to_dict().items() if key != "seconds"}


def both(paths: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[dict[str, Any]]:
    """Load files the fast and the general way, one after the other; each gives its content and its reports."""
    found: list[dict[str, Any]] = []
    for large in (0, 1 << 60):
        monkeypatch.setattr(load_module, "LARGE_BYTES", large)
        with Store(folder / f"{len(list(folder.iterdir()))}.duckdb") as store:
            reports = [outcome(store.ingest(path, **options)) for path in paths]
            found.append({"content": content(store.connection), "reports": reports})
    return found


def spy(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Tell which files went the fast way to its end."""
    seen: list[bool] = []
    lines = Rounds.lines

    def watched(self: Rounds, *arguments: Any) -> dict[int, bytes]:
        seen.append(False)
        found = lines(self, *arguments)
        seen[-1] = True
        return found

    monkeypatch.setattr(Rounds, "lines", watched)
    return seen


QUICK = (Phase.explicit, Phase.generate)
"""No shrinking: each try makes two stores."""


# --- any lines whatever ----------------------------------------------------------------------------------------------

IDS = st.sampled_from(["a", "b", "c", "d", "e", 'q"', "q\\", "ü", "x:y"])
TIMES = st.sampled_from(
    [
        "2026-11-01T10:00:00Z",
        "2026-11-01t10:00:00.123456789z",
        "1969-12-31 23:59:59.5-23:59",
        "0001-01-01T00:00:00+15:59",
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(['":', "\\"]),
)
KEYS = st.one_of(st.sampled_from(["k", "a\\", "b:", 'c"', " ", "attributes", "interaction_id"]), st.text(max_size=4))
ATTRIBUTES = st.dictionaries(
    KEYS, st.one_of(SCALARS, st.lists(SCALARS, max_size=2), st.dictionaries(KEYS, SCALARS, max_size=2)), max_size=3
)
TEXTS = st.one_of(
    st.text(max_size=12), st.sampled_from(['{"a":1,"a":2}', '":', ':"', "\\", '\\":', "ends with \\", 'x" :', "  :"])
)


@st.composite
def interactions(draw: st.DrawFn) -> dict[str, Any]:
    more = st.fixed_dictionaries(
        {},
        optional={
            "type": st.just("interaction"),
            "unit_id": st.one_of(st.none(), TEXTS),
            "exposed": st.one_of(st.booleans(), st.none()),
            "turn": st.one_of(st.integers(-1, 3), st.just(2.0)),
            "latency_ms": st.one_of(st.floats(), st.integers(0, 2**66), st.just("12")),
            "input_tokens": st.one_of(st.integers(-1, 2**63), st.just(True)),
            "is_error": st.booleans(),
            "response_text": TEXTS,
            "prompt_text": TEXTS,
            "attributes": ATTRIBUTES,
            "modle": st.just("x"),
        },
    )
    return {"interaction_id": draw(IDS), "ts": draw(TIMES), "model": "m", **draw(more)}


ASSIGNMENTS = st.fixed_dictionaries(
    {"type": st.just("assignment"), "experiment_id": IDS, "unit_id": IDS, "variant": st.just("v"), "ts": TIMES}
)
SCORES = st.fixed_dictionaries(
    {
        "type": st.just("score"),
        "score_id": IDS,
        "name": st.just("helpful"),
        "scorer_kind": st.sampled_from(["human", "judge", "robot"]),
        "ts": TIMES,
        "interaction_id": IDS,
        "value": st.one_of(st.floats(), st.none()),
    },
    optional={"updated_at": TIMES},
)
STYLES: list[Callable[[Any], str]] = [
    lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False),
    lambda value: json.dumps(value, separators=(",", ":"), sort_keys=True),
    json.dumps,
    lambda value: json.dumps(value, sort_keys=True),
    lambda value: json.dumps(value, separators=(", ", " : ")),
    lambda value: json.dumps(value, separators=(",", "\r:"), ensure_ascii=False),
]


@st.composite
def objects(draw: st.DrawFn) -> bytes:
    value = draw(st.one_of(interactions(), interactions(), interactions(), ASSIGNMENTS, SCORES))
    line = draw(st.sampled_from(STYLES))(value).encode("utf-8", "surrogatepass")
    if draw(st.integers(0, 9)) == 0:  # a key twice, plain or in disguise
        key = draw(st.sampled_from([b'"model":"m"', b'"\\u006dodel":"m"', b'"attributes":{"k":1,"k":2}', b'"_a":{}']))
        line = line[:-1] + b"," + key + b"}"
    return line


LINES = st.one_of(
    objects(),
    objects(),
    objects(),
    objects().map(lambda line: b" " + line + b"\t\r"),
    objects().map(lambda line: line + b"\x0b"),
    objects().map(lambda line: line[: len(line) // 2]),
    st.tuples(objects(), objects()).map(lambda two: two[0] + b"," + two[1]),
    st.sampled_from([b"", b"  ", b"\r", b"{}", b"[]", b"null", b"\xff\xfe", b"\x00", b":", b'":', b"\xef\xbb\xbf{}"]),
    st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")),
)
SURE = b'{"interaction_id":"first","ts":"2026-11-01T10:00:00Z","model":"m","unit_id":"u"}'
"""So that the file is known for a native one."""

ENDS = st.sampled_from([b"\n", b"", b"\r\n", b"\n\n", b'\n{"interaction_id":"cut","ts":"2026-', b"\n" + SURE])


@settings(max_examples=60, deadline=None, phases=QUICK, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=st.lists(LINES, max_size=30), second=st.lists(LINES, max_size=30), end=ENDS, keep_text=st.booleans())
def test_both_ways_leave_the_same(
    small: None,
    tmp_path_factory: pytest.TempPathFactory,
    first: list[bytes],
    second: list[bytes],
    end: bytes,
    keep_text: bool,
) -> None:
    folder = tmp_path_factory.mktemp("both")
    paths = [folder / "1.ndjson", folder / "2.ndjson"]
    for path, lines in zip(paths, (first, second), strict=True):
        path.write_bytes(b"\n".join([SURE, *lines]) + end)
    with pytest.MonkeyPatch.context() as patch:
        ways = spy(patch)
        fast, general = both(paths, folder, patch, source="native", keep_text=keep_text)
    assert ways
    assert all(ways)
    assert fast == general
    assert all(report["failed_files"] == [] for report in fast["reports"])


@settings(max_examples=300, deadline=None, phases=QUICK)
@given(lines=st.lists(LINES, min_size=1, max_size=12))
def test_the_gate_says_what_validation_says(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("gate") / "piece"
    path.write_bytes(b"\n".join(lines) + b"\n")
    passed = check(Piece(str(path), 100, 1000))
    expected: dict[int, str] = {}
    for number, line in enumerate(lines, 101):
        if text := line.strip():
            record = from_json(text)
            expected[number] = record if isinstance(record, str) else record.type
    found = {reject.line: reject.reason for reject in passed.rejects}
    found |= {int(number): table for table, rows in passed.tables.items() for number in rows.lines}
    assert found == expected
    offsets = np.cumsum([1000, *(len(line) + 1 for line in lines)])
    for rows in passed.tables.values():
        assert [int(offset) for offset in rows.offsets] == [int(offsets[number - 101]) for number in rows.lines]
        assert rows.longest == max(len(line) for line in Path(rows.path).read_bytes().split(b"\n")) + 1


# --- large files -----------------------------------------------------------------------------------------------------


def calls(count: int, first: int = 0, **fields: Any) -> list[bytes]:
    value = {"ts": "2026-11-01T10:00:00Z", "model": "m", "attributes": {"b": 1, "a": "x"}, **fields}
    return [json.dumps({"interaction_id": f"i{first + n}", **value}).encode() for n in range(count)]


def write(path: Path, lines: list[bytes], end: bytes = b"\n") -> Path:
    path.write_bytes(b"\n".join(lines) + end)
    return path


@pytest.fixture
def in_processes(small: None, monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Pieces are checked by two processes; returns them."""
    monkeypatch.setattr(load_fast, "WORKERS_BYTES", 0)
    monkeypatch.setattr(load_workers, "cores", lambda: 2)
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def watched(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", watched)
    return started


def test_processes_leave_the_same(
    in_processes: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        *calls(40),
        b"no json",
        *calls(3, 38),
        *calls(2, 1, model="other"),
        b'{"interaction_id":"x"}',
        *calls(30, 50),
    ]
    path = write(tmp_path / "log.ndjson", lines)
    packed = tmp_path / "again.ndjson.gz"
    packed.write_bytes(gzip.compress(b"\n".join([*calls(1, 99), *lines]) + b"\n"))
    fast, general = both([path, packed], tmp_path, monkeypatch)
    assert fast == general
    assert fast["reports"][0]["inserted"] == 71
    assert (fast["reports"][1]["inserted"], fast["reports"][1]["duplicates"]) == (1, 73)
    assert len(in_processes) == 4
    assert all(process.poll() is not None for process in in_processes)


def test_a_killed_process_is_a_clear_error_and_nothing_is_taken(
    in_processes: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "log.ndjson", calls(60))
    add = load_fast.add

    def kill_then_add(*arguments: Any, **options: Any) -> Any:
        for process in in_processes:
            process.kill()
        return add(*arguments, **options)

    with Store(tmp_path / "s.duckdb") as store:
        with monkeypatch.context() as patch:
            patch.setattr(load_fast, "add", kill_then_add)
            with pytest.raises(StoreError, match=r"a process that checked log lines ended \(exit -9\)"):
                store.ingest(path)
        assert content(store.connection)["interaction"] == []
        assert content(store.connection)["file_ledger"] == []
        assert store.ingest(path).inserted == 60
    assert all(process.poll() is not None for process in in_processes)


def test_a_fault_of_a_process_is_told(in_processes: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    with Workers(1) as workers, pytest.raises(StoreError, match="FileNotFoundError"):
        workers.submit(Piece(str(tmp_path / "missing"), 0, 0)).result()


def test_one_core_needs_no_processes(
    in_processes: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_workers, "cores", lambda: 1)
    with Store(tmp_path / "s.duckdb") as store:
        assert store.ingest(write(tmp_path / "log.ndjson", calls(30))).inserted == 30
    assert in_processes == []


def test_where_no_process_can_be_started_the_loader_checks_itself(
    in_processes: list[subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with Store(tmp_path / "s.duckdb") as store:
        assert store.ingest(write(tmp_path / "log.ndjson", calls(30))).inserted == 30


@pytest.mark.parametrize(
    ("lines", "inserted"),
    [
        ([b"\xef\xbb\xbf" + calls(1)[0], *calls(20, 1)], 21),
        ([*calls(20), b'{"interaction_id":"' + b"x" * 5000 + b'"}', *calls(5, 20)], 25),
    ],
    ids=["byte order mark", "line that is too long"],
)
def test_what_is_unusual_goes_the_general_way(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[bytes], inserted: int
) -> None:
    monkeypatch.setattr("abtest.ingest.lines.LINE_LIMIT", 4000)
    ways = spy(monkeypatch)
    fast, general = both([write(tmp_path / "log.ndjson", lines)], tmp_path, monkeypatch)
    assert ways == [False]
    assert fast == general
    assert fast["reports"][0]["inserted"] == inserted


def test_a_damaged_large_file_leaves_nothing(small: None, tmp_path: Path) -> None:
    good = write(tmp_path / "a.ndjson", calls(20))
    packed = gzip.compress(b"\n".join(calls(3000, 100)) + b"\n", compresslevel=0)
    bad = tmp_path / "b.ndjson.gz"
    bad.write_bytes(packed[:-4] + b"\0\0\0\0")
    last = write(tmp_path / "c.ndjson", calls(20, 50))
    with Store(tmp_path / "s.duckdb") as store:
        report = store.ingest(good, bad, last)
        assert (report.inserted, [Path(failed.file).name for failed in report.failed_files]) == (40, ["b.ndjson.gz"])
        assert len(content(store.connection)["file_ledger"]) == 2
    assert [path.name for path in tmp_path.iterdir() if "piece" in path.name] == []


def test_an_unfinished_line_is_taken_when_it_is_whole(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = calls(30)
    path = tmp_path / "log.ndjson"
    found: list[dict[str, Any]] = []
    for large in (0, 1 << 60):
        monkeypatch.setattr(load_module, "LARGE_BYTES", large)
        with Store(tmp_path / f"{large}.duckdb") as store:
            write(path, lines[:20], b"\n" + lines[20][:15])
            first = store.ingest(path)
            write(path, lines)
            second = store.ingest(path)
            assert (first.inserted, first.reasons, second.inserted) == (20, {"truncated": 1}, 10)
            found.append(content(store.connection))
    assert found[0] == found[1]
    assert found[0]["quarantine"] == []


def test_other_formats_go_in_rounds(small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file fills the spool several times, in one transaction."""
    monkeypatch.setattr(load_fast, "ROUND_BYTES", 3000)
    added: list[int] = []
    add = load_fast.add
    monkeypatch.setattr(load_fast, "add", lambda *a, **k: added.append(1) or add(*a, **k))
    base = {
        "litellm_call_id": "c",
        "model": "m",
        "startTime": 1761990000.0,
        "endTime": 1761990001.0,
        "status": "success",
    }
    lines = [json.dumps({**base, "litellm_call_id": f"c{n}", "id": f"r{n}"}).encode() for n in range(40)]
    fast, general = both(
        [write(tmp_path / "log.ndjson", [*lines, *lines[:3]])], tmp_path, monkeypatch, source="litellm"
    )
    assert len(added) > 3
    assert fast == general
    assert (fast["reports"][0]["inserted"], fast["reports"][0]["duplicates"]) == (40, 3)


# --- limits ----------------------------------------------------------------------------------------------------------

SETTINGS = (
    "SELECT current_setting('memory_limit'), current_setting('threads'), current_setting('preserve_insertion_order')"
)


@pytest.mark.parametrize("memory", ["3GB", "900MiB", "200MB", "1TB"])
def test_limits_hold_for_the_load_only(memory: str) -> None:
    with duckdb.connect() as con:
        con.execute(f"SET memory_limit = '{memory}'; SET threads = 7; SET preserve_insertion_order = false")
        before = con.execute(SETTINGS).fetchall()
        with limited(con):
            within = con.execute(SETTINGS).fetchall()[0]
        assert within == (before[0][0] if memory == "200MB" else "480.0 MiB", 4, True)
        for _ in range(3):
            with limited(con):
                pass
        assert con.execute(SETTINGS).fetchall() == before
