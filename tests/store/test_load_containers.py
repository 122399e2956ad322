"""What files are made of: the contract that every codec and container keeps, and what each of them is for."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from load_samples import FIXTURES, call, check, ids, line, lines, one
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from abtest.errors import LogReadError
from abtest.ingest.base import Reject
from abtest.store.containers.base import Container, DamagedError, Reading
from abtest.store.containers.registry import choose, codecs, containers
from abtest.store.load_files import Limits, LogFile, is_log_name
from abtest.store.store import Store


def trace_request(n: int) -> ExportTraceServiceRequest:
    """Return a request with one chat span."""
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.name = n.to_bytes(16, "big"), (n + 1).to_bytes(8, "big"), "chat m"
    span.start_time_unix_nano, span.end_time_unix_nano = 1_793_527_200_000_000_000, 1_793_527_201_000_000_000
    for key, value in (("gen_ai.operation.name", "chat"), ("gen_ai.request.model", "m")):
        attribute = span.attributes.add()
        attribute.key, attribute.value.string_value = key, value
    return request


def framed(*messages: bytes) -> bytes:
    return b"".join(len(message).to_bytes(4, "big") + message for message in messages)


def table(rows: list[dict[str, Any]], delimiter: str = ",") -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def parquet(frame: pl.DataFrame, **options: Any) -> bytes:
    out = io.BytesIO()
    frame.write_parquet(out, **options)
    return out.getvalue()


ROWS = [call(f"i{n}") for n in range(3)]
SAMPLES: dict[str, list[bytes]] = {
    "lines": [lines(f"i{n}" for n in range(3)), b"\xef\xbb\xbf\n\n" + line("a"), line("a").rstrip()],
    "document": [
        json.dumps(ROWS).encode(),
        b"\xef\xbb\xbf" + json.dumps(ROWS, indent=2).encode() + b"\n",
        "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(),
    ],
    "csv": [table(ROWS), table(ROWS, ";"), b"\xef\xbb\xbf" + table(ROWS, "\t")],
    "parquet": [parquet(pl.DataFrame(ROWS))],
    "otlp_protobuf": [
        trace_request(1).SerializeToString(),
        framed(*(trace_request(n).SerializeToString() for n in range(1, 4))),
    ],
}
WIRE = Path(__file__).parents[1] / "ingest" / "fixtures" / "langsmith_wire" / "runs_multipart_1.body"
SAMPLES["multipart"] = [WIRE.read_bytes()]
by_sample = pytest.mark.parametrize(
    ("name", "data"), [(name, data) for name, samples in SAMPLES.items() for data in samples]
)


def file_of(folder: Path, data: bytes, name: str = "input") -> LogFile:
    path = folder / name
    path.write_bytes(data)
    return LogFile(path, str(path))


def read(container: Container, file: LogFile, start: int = 0, number: int = 0) -> tuple[list[Any], Reading]:
    reading = Reading(file, start, number)
    return list(container.texts(reading)), reading


def test_every_container_has_samples() -> None:
    assert SAMPLES.keys() == containers().keys()


@by_sample
def test_exactly_one_container_claims_a_file_whatever_its_name(tmp_path: Path, name: str, data: bytes) -> None:
    for file_name in ("input", "input.json", "input.ndjson.1", "other.json-20261101"):
        file = file_of(tmp_path, data, file_name)
        assert [each.name for each in containers().values() if each.claims(file)] == [name]
        assert choose(file).name == name


@by_sample
@pytest.mark.parametrize("codec", ["", "gzip", "zstd"])
def test_packed_or_not_the_same_texts(tmp_path: Path, name: str, data: bytes, codec: str) -> None:
    if name == "parquet":
        codec = ""  # it packs itself
    pack = {"": bytes, "gzip": gzip.compress, "zstd": zstandard.compress}[codec]
    plain, _ = read(containers()[name], file_of(tmp_path, data))
    file = file_of(tmp_path, pack(data), "packed")
    assert (file.codec.name if file.codec else "") == codec
    found, _ = read(choose(file), file)
    assert found == plain
    assert found
    for text, number, offset in found:
        assert isinstance(json.loads(text), dict)
        assert b"\n" not in text
        assert number >= 1
        assert offset >= 0


@by_sample
def test_everything_was_taken_and_is_accounted_for(tmp_path: Path, name: str, data: bytes) -> None:
    import hashlib

    found, reading = read(containers()[name], file_of(tmp_path, data))
    if reading.tail is not None:
        assert reading.tail.text is not None
        reading.take_tail()
    assert reading.end == len(data)
    assert reading.digests()[0] == hashlib.sha256(data).hexdigest()
    assert len(found) >= 1


@by_sample
def test_what_grows_can_be_read_on_from_any_place(tmp_path: Path, name: str, data: bytes) -> None:
    """Cut at every byte, read, read on: the same texts as in one go, with the same numbers and offsets."""
    container = containers()[name]
    if not container.grows:
        return  # it has to be read anew
    whole, reading = read(container, file_of(tmp_path, data))
    if reading.tail and reading.tail.text:
        whole.append((reading.tail.text, reading.tail.number, reading.tail.offset))
    for cut in range(0, len(data), 1 if len(data) < 400 else 7):
        file = file_of(tmp_path, data[:cut])
        if not container.claims(file):
            continue
        first, before = read(container, file)
        more, after = read(container, file_of(tmp_path, data), before.end, before.end_number)
        if after.tail and after.tail.text:
            more.append((after.tail.text, after.tail.number, after.tail.offset))
        assert first + more == whole, cut


@by_sample
@settings(max_examples=40)
@given(seed=st.integers(0, 10_000))
def test_damage_is_a_log_read_error_or_a_reject_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes, seed: int
) -> None:
    rng = random.Random(seed)
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(damaged))
        damaged[at : at + rng.randint(0, 8)] = rng.randbytes(rng.randint(0, 8))
    file = file_of(tmp_path_factory.mktemp("damaged"), bytes(damaged[: rng.randint(1, len(damaged))]))
    with contextlib.suppress(LogReadError):
        for item in choose(file).texts(Reading(file)):
            assert isinstance(item, Reject) or isinstance(item[0], bytes)


@pytest.mark.parametrize("name", list(codecs()))
@given(cut=st.floats(0, 1, exclude_max=True), size=st.integers(0, 5000))
def test_a_codec_gives_all_or_says_that_it_is_damaged(name: str, cut: float, size: int) -> None:
    data = random.Random(size).randbytes(size)
    packed = gzip.compress(data) if name == "gzip" else zstandard.compress(data)
    codec = codecs()[name]
    assert b"".join(codec.chunks(io.BytesIO(packed))) == data
    assert b"".join(codec.chunks(io.BytesIO(packed + packed))) == data + data
    if at := int(len(packed) * cut):
        with pytest.raises(DamagedError):
            b"".join(codec.chunks(io.BytesIO(packed[:at])))


def test_names_of_logs_in_folders() -> None:
    yes = [
        "a.jsonl", "a.ndjson", "a.json", "a.csv", "a.tsv", "a.parquet", "a.pb", "a.gz", "a.log.zst", "A.JSONL.GZ",
        "a.ndjson.1", "a.ndjson.12.gz", "a.ndjson-20261101", "a.jsonl.2026-11-01_10-05", "a.json-20261101.gz",
    ]  # fmt: skip
    no = ["a.txt", "a.json.tmp", "a.jsonx", "a.ndjson.bak", "a.toml", "a.duckdb", "json", "a.json5"]
    assert [name for name in yes if not is_log_name(name)] == []
    assert [name for name in no if is_log_name(name)] == []


# -- CSV ---------------------------------------------------------------------------------------------------------------


def test_csv_rows_become_objects_of_strings(tmp_path: Path) -> None:
    data = b'id,note,n\r\n1,"two\nlines, ""quoted""",\r\n\r\n2,\xc3\xa9,5\r\n'
    found, reading = read(containers()["csv"], file_of(tmp_path, data, "a.csv"))
    assert [(json.loads(text), number, offset) for text, number, offset in found] == [
        ({"id": "1", "note": 'two\nlines, "quoted"', "n": ""}, 2, 11),
        ({"id": "2", "note": "é", "n": "5"}, 5, data.index(b"2,\xc3")),
    ]
    assert (reading.end, reading.end_number) == (len(data), 5)


def test_bad_csv_rows_are_rejects_with_their_line(tmp_path: Path) -> None:
    data = b'a,b,c\n1,2\n1,2,3,4\n1,"x"y,3\n1,\xff,3\nok,2,3\n1,"never closed,3\nx,y,z\n'
    found, reading = read(containers()["csv"], file_of(tmp_path, data))
    rejects = [(item.line, item.reason) for item in found if isinstance(item, Reject)]
    assert rejects == [
        (2, "csv: 2 cells, the header has 3"),
        (3, "csv: 4 cells, the header has 3"),
        (4, "csv: ',' expected after '\"'"),
        (5, "csv: not UTF-8"),
    ]
    assert [json.loads(item[0])["a"] for item in found if not isinstance(item, Reject)] == ["ok"]
    assert reading.tail is not None
    assert (reading.tail.number, reading.tail.text) == (7, None)


def test_a_header_with_two_equal_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogReadError, match="two columns are called 'b'"):
        read(containers()["csv"], file_of(tmp_path, b"a,b,b\n1,2,3\n"))


def test_cells_of_a_megabyte(tmp_path: Path) -> None:
    data = b"a,b,c\n1," + b"x" * 1_000_000 + b",3\n"
    ((text, *_),), _ = read(containers()["csv"], file_of(tmp_path, data))
    assert len(json.loads(text)["b"]) == 1_000_000


# -- Parquet -----------------------------------------------------------------------------------------------------------


def test_native_parquet_is_the_same_as_native_lines(tmp_path: Path) -> None:
    """What DuckDB, polars or pandas write under our names: times with a zone, gaps in columns, attributes as JSON text."""
    source = Path(__file__).parents[1] / "ingest" / "fixtures" / "native" / "sample.ndjson"
    rows = [json.loads(each) for each in source.read_bytes().splitlines() if each.strip()]
    for row in rows:
        for key in {"ts", "updated_at"} & row.keys():
            row[key] = datetime.fromisoformat(row[key])
        if "attributes" in row:
            row["attributes"] = json.dumps(row["attributes"])
    with Store(tmp_path / "lines.duckdb") as expected, Store(tmp_path / "parquet.duckdb") as store:
        for kind in ("interaction", "assignment", "score"):
            chosen = [row for row in rows if row.get("type", "interaction") == kind]
            frame = pl.DataFrame(chosen, infer_schema_length=None)
            floats = [name for name, dtype in frame.schema.items() if dtype.is_integer()]  # pandas, with gaps
            frame.with_columns(pl.col(floats).cast(pl.Float64)).write_parquet(tmp_path / f"{kind}.parquet")
        assert check(expected, expected.ingest(source)).quarantined == 0
        report = check(store, store.ingest(tmp_path))
        assert report.sources == {"native": 3}
        assert report.reasons == {}
        for name in ("interaction", "assignment", "score"):
            query = f"SELECT * EXCLUDE (file_id) FROM {name} ORDER BY ALL"
            assert store.connection.execute(query).fetchall() == expected.connection.execute(query).fetchall()


def test_parquet_of_nested_and_odd_types(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "s": [{"a": 1, "b": None, "c": [{"d": datetime(2026, 11, 1, tzinfo=UTC)}]}, None],
            "naive": [datetime(2026, 11, 1, 10, 0, 0, 123456), None],
            "l": [[1, None, 2], []],
            "map": [[{"key": "k", "value": 1.5}], None],
            "gap": [1.0, None],
            "f": [0.5, float("nan")],
            "day": [date(2026, 11, 1), None],
            "price": [Decimal("0.125"), Decimal(2)],
            "bytes": [b"text", b"\xff"],
            "attributes": ['{"a": 1}', "no json"],
        }
    )
    found, reading = read(containers()["parquet"], file_of(tmp_path, parquet(frame)))
    assert [(number, offset) for _, number, offset in found] == [(1, 0), (2, 1)]
    assert reading.end_number == 2
    assert json.loads(found[0][0]) == {
        "s": {"a": 1, "c": [{"d": "2026-11-01 00:00:00+00:00"}]},
        "naive": "2026-11-01 10:00:00.123456",
        "l": [1, None, 2],
        "map": {"k": 1.5},
        "gap": 1,
        "f": 0.5,
        "day": "2026-11-01",
        "price": 0.125,
        "bytes": "text",
        "attributes": {"a": 1},
    }
    assert found[1][0] == b'{"l":[],"f":NaN,"price":2,"bytes":"/w==","attributes":"no json"}'


def test_a_bad_row_of_a_parquet_file(tmp_path: Path) -> None:
    rows = pl.DataFrame([call("a", latency_ms=1.0), call("b", latency_ms=float("nan")), call("c", latency_ms=-1.0)])
    rows.write_parquet(tmp_path / "a.parquet")
    with Store(tmp_path / "s.duckdb") as store:
        report = check(store, store.ingest(tmp_path / "a.parquet"))
        assert (report.inserted, report.lines, report.reasons) == (1, 3, {"bad_value": 2})
        rows = store.connection.execute("SELECT line, detail FROM quarantine ORDER BY 1").fetchall()
        assert [(number, detail.partition(":")[0]) for number, detail in rows] == [(2, "latency_ms"), (3, "latency_ms")]
        assert store.ingest(tmp_path / "a.parquet").skipped_files == 1


def test_damaged_and_packed_parquet_is_refused(tmp_path: Path) -> None:
    data = parquet(pl.DataFrame(ROWS))
    (tmp_path / "odd [name]*.parquet").write_bytes(data)
    (tmp_path / "cut.parquet").write_bytes(data[:-20])
    (tmp_path / "packed.parquet.gz").write_bytes(gzip.compress(data))
    (tmp_path / "twice.json.gz").write_bytes(gzip.compress(gzip.compress(line("a"))))
    with Store(tmp_path / "s.duckdb") as store:
        report = check(store, store.ingest(tmp_path))
        assert ids(store) == ["i0", "i1", "i2"]
        assert [failed.message.partition(":")[0].partition(" (")[0] for failed in report.failed_files] == [
            "Parquet is damaged", "is Parquet inside gzip", "is packed twice",
        ]  # fmt: skip


# -- OTLP protobuf -----------------------------------------------------------------------------------------------------


def test_protobuf_and_its_json_give_the_same_rows(tmp_path: Path) -> None:
    requests = [trace_request(n) for n in range(1, 20)]
    data = framed(*(request.SerializeToString() for request in requests))
    (tmp_path / "a.pb").write_bytes(data[:-10])
    with Store(tmp_path / "s.duckdb") as store:
        report = check(store, store.ingest(tmp_path / "a.pb"))
        assert (report.inserted, report.reasons, report.sources) == (18, {"truncated": 1}, {"otel": 1})
        (tmp_path / "a.pb").write_bytes(data)
        report = check(store, store.ingest(tmp_path / "a.pb"))
        assert (report.inserted, report.duplicates, report.records) == (1, 0, 1)
        assert one(store, "SELECT count(*) FROM quarantine") == 0
        assert ids(store)[0] == f"{1:032x}:{2:016x}"


def test_a_request_that_is_broken_among_others(tmp_path: Path) -> None:
    good = [trace_request(n).SerializeToString() for n in (1, 2)]
    (tmp_path / "a.pb").write_bytes(framed(good[0], b"\xff\xff\xff", good[1]))
    with Store(tmp_path / "s.duckdb") as store:
        report = check(store, store.ingest(tmp_path / "a.pb"))
        assert (report.inserted, report.reasons) == (2, {"protobuf": 1})
        assert one(store, "SELECT line FROM quarantine") == 2


def test_the_wrong_kind_of_binary_file(tmp_path: Path) -> None:
    (tmp_path / "a.pb").write_bytes(ExportLogsServiceRequest().SerializeToString() + b"\x00\x01\x02\n\xff")
    with Store(tmp_path / "s.duckdb") as store:
        assert "binary" in store.ingest(tmp_path / "a.pb").failed_files[0].message


# -- large, hostile ----------------------------------------------------------------------------------------------------


def test_a_large_array_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("wb") as stream:
        stream.write(b"[\n")
        for n in range(20_000):
            stream.write((b",\n" if n else b"") + line(f"i{n}", attributes={"note": "x" * 900}).rstrip())
        stream.write(b"\n]\n")
    assert path.stat().st_size > 20_000_000
    file = LogFile(path, str(path))
    tracemalloc.start()
    count = sum(1 for _ in choose(file).texts(Reading(file)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (count, peak < 10_000_000) == (20_000, True)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_bomb_is_refused_by_ratio(tmp_path: Path, suffix: str) -> None:
    size = 200_000_000
    path = tmp_path / f"bomb.ndjson{suffix}"
    zeros = b'{"a": "' + b" " * size + b'"}\n'
    path.write_bytes(gzip.compress(zeros) if suffix == ".gz" else zstandard.compress(zeros))
    del zeros
    with Store(tmp_path / "s.duckdb") as store:
        tracemalloc.start()
        report = store.ingest(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert "more than 500 times" in report.failed_files[0].message
        assert "max_expansion" in report.failed_files[0].message
        assert peak < 400_000_000
        assert "more than 1,000 bytes" in store.ingest(path, max_bytes=1000).failed_files[0].message


def test_a_log_that_packs_well_is_no_bomb(tmp_path: Path) -> None:
    path = tmp_path / "a.ndjson.gz"
    body = lines((f"i{n * 7919 % 36_000}" for n in range(36_000)), attributes={"note": "word " * 400})
    path.write_bytes(gzip.compress(body))
    file = LogFile(path, str(path))
    assert len(body) > 70_000_000
    assert 50 < len(body) / path.stat().st_size < 500
    assert sum(map(len, file.chunks())) == len(body)
    file.limits = Limits(max_expansion=20)
    with pytest.raises(LogReadError, match="20 times"):
        sum(map(len, file.chunks()))


def test_hostile_records(tmp_path: Path) -> None:
    """SQL, HTML, control characters, 1 MB strings, deep nesting, NaN and 1e999: stored as they are, or rejected."""
    nasty = [
        "'; DROP TABLE interaction; --",
        "<script>alert(1)</script>",
        "\x00\x1b[2J\u202e",
        "x" * 1_000_000,
        "\U0001f600",
    ]
    good = [call(f"i{n}", surface=text[:50], attributes={text[:50]: text}) for n, text in enumerate(nasty)]
    deep = json.dumps(call("deep"))[:-1].encode() + b',"attributes":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001
    bad = [deep, line("n")[:-2] + b', "latency_ms": NaN}', line("x")[:-2] + b', "latency_ms": 1e999}']
    (tmp_path / "a.ndjson").write_bytes(b"\n".join([*(json.dumps(row).encode() for row in good), *bad]) + b"\n")
    with Store(tmp_path / "s.duckdb") as store:
        report = check(store, store.ingest(tmp_path / "a.ndjson"))
        assert (report.inserted, report.quarantined) == (5, 3), one(store, "SELECT string_agg(detail) FROM quarantine")
        assert set(report.reasons) <= {"json", "bad_value"}
        stored = store.connection.execute("SELECT surface FROM interaction ORDER BY interaction_id").fetchall()
        assert [text for (text,) in stored] == [text[:50] for text in nasty]
        assert one(store, "SELECT max(length(attributes)) FROM interaction") > 1_000_000


# -- stdin and pipes ---------------------------------------------------------------------------------------------------


def run_cli(db: Path, *arguments: str, data: bytes) -> dict[str, Any]:
    code = (
        "import json, sys\nfrom abtest.store.store import Store\n"
        "with Store(sys.argv[1]) as store:\n    print(json.dumps(store.ingest(*sys.argv[2:]).to_dict()))\n"
    )
    command = [sys.executable, "-c", code, str(db), *arguments]
    done = subprocess.run(command, input=data, capture_output=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])  # DuckDB may have drawn a progress bar before it


def test_stdin(tmp_path: Path) -> None:
    db = tmp_path / "s.duckdb"
    report = run_cli(db, "-", data=gzip.compress(line("a") + b"bad\n"))
    assert (report["inserted"], report["quarantined"]) == (1, 1)
    assert run_cli(db, "-", data=line("a") + b"bad\n")["skipped_files"] == 1
    assert run_cli(db, "-", data=line("a") + b"bad\n" + line("b"))["duplicates"] == 0
    with Store(db) as store:
        assert ids(store) == ["a", "b"]
        assert store.connection.execute("SELECT DISTINCT path FROM file_ledger").fetchall() == [("-",)]
        assert one(store, "SELECT count(*) FROM file_state") == 0
        assert one(store, "SELECT path FROM quarantine") == "-"


def test_a_named_pipe_is_read_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.ndjson"
    os.mkfifo(pipe)
    writer: Callable[..., Any] = subprocess.Popen
    with (
        writer([sys.executable, "-c", f"open({str(pipe)!r}, 'wb').write({line('a')!r})"]),
        Store(tmp_path / "s.duckdb") as store,
    ):
        assert check(store, store.ingest(pipe)).inserted == 1
        assert one(store, "SELECT count(*) FROM file_state") == 0


def test_fixture_folder_exists() -> None:
    assert (FIXTURES / "dirty").is_dir()
