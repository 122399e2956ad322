"""From files to tables: exactly once, all or nothing, everything counted."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from abtest.errors import LogReadError, StoreError, UsageError
from abtest.ingest import formats
from abtest.store import load as load_module
from abtest.store import load_merge
from abtest.store.load import load
from abtest.store.load_report import TABLES, IngestReport
from abtest.store.load_scratch import PREFIX, scratch

Con = duckdb.DuckDBPyConnection
Write = Callable[..., Path]
Call = Callable[..., dict[str, Any]]


def rows(con: Con, query: str) -> list[tuple[Any, ...]]:
    return con.execute(query).fetchall()


def one(con: Con, query: str) -> Any:
    return rows(con, query)[0][0]


def check(con: Con, report: IngestReport) -> IngestReport:
    """Everything adds up: the report in itself, and the ledger with the tables."""
    parts = (report.inserted, report.duplicates, report.conflicts, report.quarantined, report.ignored)
    assert report.records == sum(parts)
    assert report.inserted == sum(report.by_table.values())
    assert sum(report.reasons.values()) == report.quarantined + report.conflicts
    stored = sum(one(con, f"SELECT count(*) FROM {table}") for table in TABLES)
    assert stored == one(con, "SELECT coalesce(sum(inserted), 0) FROM file_ledger")
    assert one(con, "SELECT count(*) FROM interaction") == one(
        con, "SELECT count(DISTINCT interaction_id) FROM interaction"
    )
    assert (
        one(
            con,
            "SELECT count(*) FROM file_ledger "
            "WHERE records <> inserted + duplicates + conflicts + quarantined + ignored",
        )
        == 0
    )
    assert report.to_dict()["schema"] == "abtest.ingest/1"
    json.dumps(report.to_dict(), allow_nan=False)
    return report


def logs_in(folder: Path) -> list[Path]:
    """Return the logs of a folder that are text (a byte before a packed one or a Parquet file would break it)."""
    return [path for path in sorted(folder.iterdir()) if path.suffix in (".jsonl", ".ndjson", ".json")]


def count_by_hand(path: Path) -> tuple[int, int, int, int]:
    """Count interactions, assignments, scores and the rest without the reader under test."""
    calls = assigned = scores = rest = 0
    for line in path.read_text().splitlines():
        value = json.loads(line)
        if "litellm_call_id" in value:
            calls += 1
        elif "resourceMetrics" in value:
            rest += 1
        elif "resourceSpans" in value:
            is_call = any(f'"stringValue":"{name}"' in line for name in ("chat", "embeddings"))
            calls, rest = calls + is_call, rest + (not is_call)
        else:
            assigned += '"eventName":"feature_flag.evaluation"' in line
            scores += '"eventName":"gen_ai.evaluation.result"' in line
            rest += '"eventName":"gen_ai.client.inference.operation.details"' in line
    return calls, assigned, scores, rest


@pytest.mark.parametrize("folder", ["otel", "litellm"])
def test_genuine_files_counted_independently(con: Con, fixtures: Path, folder: str) -> None:
    for path in sorted((fixtures / folder).iterdir()):
        report = check(con, load(con, [path]))
        found = tuple(report.by_table.values())
        assert (*found, report.ignored) == count_by_hand(path), path.name
        assert (report.quarantined, report.duplicates, report.conflicts) == (0, 0, 0)
        assert report.records == report.lines == len(path.read_text().splitlines())
        assert report.sources == {folder: 1}


@pytest.mark.parametrize("name", list(formats()))
def test_every_format_again_inserts_nothing(con: Con, fixtures: Path, tmp_path: Path, name: str) -> None:
    first = check(con, load(con, [fixtures / name]))
    assert first.inserted > 0
    again = check(con, load(con, [fixtures / name]))
    assert (again.files, again.skipped_files, again.records) == (first.files, first.files, 0)
    for path in logs_in(fixtures / name):  # other content, same records
        (tmp_path / path.name).write_bytes(b"\n" + path.read_bytes())
    third = check(con, load(con, [tmp_path]))
    assert third.inserted == 0
    assert third.duplicates == first.inserted
    assert third.ignored == first.ignored


@pytest.mark.parametrize("name", list(formats()))
def test_gzip_is_the_same(con: Con, fixtures: Path, tmp_path: Path, name: str) -> None:
    for path in logs_in(fixtures / name):
        (tmp_path / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    zipped = check(con, load(con, [str(tmp_path / "*.gz")]))
    plain = check(con, load(con, [fixtures / name]))
    assert zipped.inserted > 0
    assert plain.skipped_files == plain.files == zipped.files


def test_native_columns(con: Con, fixtures: Path) -> None:
    check(con, load(con, [fixtures / "native"]))
    assert rows(
        con,
        "SELECT interaction_id, ts_us, exposed, turn, is_error, latency_ms, response_chars, attributes, source, file_id"
        " FROM interaction ORDER BY 1 LIMIT 2",
    ) == [
        (
            "i1",
            1_793_527_200_250_000,
            True,
            1,
            False,
            512.5,
            None,
            '{"nested":{"a":[1,2],"b":1},"tier":"gold"}',
            "native",
            1,
        ),
        ("i2", 1_793_527_200_000_000, False, 1, False, None, 14, None, "native", 1),
    ]
    assert rows(con, "SELECT unit_id, variant, ts_us, reason, ruleset_version FROM assignment ORDER BY 1") == [
        ("u1", "control", 1_793_527_199_000_000, "split", "12"),
        ("u2", "treatment", 1_793_527_199_000_000, None, None),
    ]
    assert rows(con, "SELECT value, label_probability, updated_us FROM score WHERE score_id = 'by-id'") == [
        (0.5, 0.25, None)
    ]


def test_text_is_stored_only_on_demand(con: Con, fixtures: Path, write: Write, call: Call) -> None:
    load(con, [fixtures / "native"])
    assert one(con, "SELECT count(*) FROM interaction_text") == 0
    path = write(call("new", prompt_text="q", response_text="a\x00é"), call("none"))
    load(con, [path], keep_text=True)
    assert rows(con, "SELECT * FROM interaction_text") == [("new", "q", "a\x00é", 2)]
    assert one(con, "SELECT response_chars FROM interaction WHERE interaction_id = 'new'") == 3


def test_a_file_that_grew_gives_only_what_is_new(con: Con, write: Write, call: Call) -> None:
    path = write(call("a"), b"bad", call("b"))
    assert check(con, load(con, [path])).inserted == 2
    with path.open("ab") as stream:
        stream.write(json.dumps(call("c")).encode() + b"\n")
    report = check(con, load(con, [path]))
    assert (report.inserted, report.duplicates, report.quarantined) == (1, 0, 0)
    assert rows(con, "SELECT line, byte_offset, raw FROM quarantine") == [(2, len(json.dumps(call("a"))) + 1, b"bad")]
    assert rows(con, "SELECT file_id FROM file_ledger") == [(1,), (2,)]


def test_a_rotated_copy_doubles_nothing(con: Con, write: Write, call: Call) -> None:
    path = write(*(call(f"i{n}") for n in range(20)))
    load(con, [path])
    rotated = path.rename(path.with_name("log.1.ndjson"))
    fresh = write(call("i20"))
    report = check(con, load(con, [rotated, fresh]))
    assert (report.files, report.skipped_files, report.inserted) == (2, 1, 1)


def test_conflict_keeps_the_first_and_quarantines_the_other(con: Con, write: Write, call: Call) -> None:
    load(con, [write(call("a", latency_ms=1), call("b"))])
    second = write(call("b"), call("a", latency_ms=2, refused=True), name="second.ndjson")
    report = check(con, load(con, [second]))
    assert (report.inserted, report.duplicates, report.conflicts, report.quarantined) == (0, 1, 1, 0)
    assert report.reasons == {"conflict": 1}
    assert one(con, "SELECT latency_ms FROM interaction WHERE interaction_id = 'a'") == 1
    ((line, offset, raw, detail, file_id),) = rows(
        con, "SELECT line, byte_offset, raw, detail, file_id FROM quarantine WHERE reason = 'conflict'"
    )
    assert (line, offset, file_id) == (2, len(json.dumps(call("b"))) + 1, 2)
    assert json.loads(raw) == call("a", latency_ms=2, refused=True)
    assert detail == "the interaction with this id differs in latency_ms, refused"


@pytest.mark.parametrize("field", ["unit_id", "ts", "attributes", "response_text", "exposed", "turn", "is_error"])
def test_every_column_counts_in_a_conflict(con: Con, write: Write, call: Call, field: str) -> None:
    value = {"ts": "2026-11-01T10:00:00.000001Z", "attributes": {"a": 1}, "exposed": False, "turn": 2, "is_error": True}
    load(con, [write(call("a"))])
    report = check(con, load(con, [write(call("a", **{field: value.get(field, "x")}))]))
    assert report.conflicts == 1


def test_the_same_content_in_another_spelling_is_a_duplicate(con: Con, write: Write) -> None:
    load(con, [write(b'{"interaction_id":"a","ts":"2026-11-01T10:00:00Z","model":"m","attributes":{"x":1,"y":[2]}}')])
    other = (
        b'{ "attributes": {"y": [2], "x": 1}, "ts":"2026-11-01T12:00:00.000+02:00",'
        b'"turn":1,"model":"\\u006d","interaction_id":"a"}'
    )
    report = check(con, load(con, [write(other)]))
    assert (report.duplicates, report.conflicts) == (1, 0)


def test_repeats_inside_one_load(con: Con, write: Write, call: Call) -> None:
    a = write(call("a", turn=1), call("a", turn=1), call("a", turn=2), call("b"), name="a.ndjson")
    b = write(call("b"), call("b", turn=9), name="b.ndjson")
    report = check(con, load(con, [a, b]))
    assert (report.inserted, report.duplicates, report.conflicts) == (2, 2, 2)
    assert rows(con, "SELECT interaction_id, turn FROM interaction ORDER BY 1") == [("a", 1), ("b", 1)]
    assert rows(con, "SELECT inserted, duplicates, conflicts FROM file_ledger ORDER BY file_id") == [
        (2, 1, 1),
        (0, 1, 1),
    ]


def test_assignments_are_identified_by_all_their_columns(con: Con, write: Write) -> None:
    base = {
        "type": "assignment",
        "experiment_id": "e",
        "unit_id": "u",
        "variant": "a",
        "ts": "2026-11-01T10:00:00Z",
    }
    others = [{**base, "variant": "b"}, {**base, "reason": "split"}, {**base, "ts": "2026-11-01T10:00:01Z"}]
    report = check(con, load(con, [write(base, base, *others, others[1])]))
    assert (report.by_table["assignment"], report.duplicates, report.conflicts) == (4, 2, 0)
    again = check(con, load(con, [write(base, *others, {**base, "provider": "flagd"})]))
    assert (again.inserted, again.duplicates) == (1, 4)


def test_known_content_under_another_name_is_skipped_within_one_load_too(con: Con, write: Write, call: Call) -> None:
    a, b = write(call(), name="a.ndjson"), write(call(), name="b.ndjson")
    zipped = b.with_name("c.ndjson.gz")
    zipped.write_bytes(gzip.compress(b.read_bytes()))
    report = check(con, load(con, [a, b, zipped]))
    assert (report.files, report.skipped_files, report.inserted, report.duplicates) == (3, 2, 1, 0)


def test_one_file_given_twice_is_read_once(con: Con, write: Write, call: Call) -> None:
    path = write(call())
    assert load(con, [path, path, path.parent, str(path.parent / "*.ndjson")]).files == 1


def test_last_line_without_newline(con: Con, write: Write, call: Call) -> None:
    whole = write(call("a"), call("b"), name="whole.ndjson", end=b"")
    assert check(con, load(con, [whole])).inserted == 2
    bad = write(call("c"), call("d", latency=1), name="bad.ndjson", end=b"")
    assert check(con, load(con, [bad])).reasons == {"unknown_key": 1}


def test_truncated_line_is_forgotten_when_it_is_completed(con: Con, write: Write, call: Call) -> None:
    half, rest = json.dumps(call("b"))[:30].encode(), json.dumps(call("b"))[30:].encode()
    path = write(call("a"), half, end=b"")
    first = check(con, load(con, [path]))
    assert (first.inserted, first.reasons) == (1, {"truncated": 1})
    with path.open("ab") as stream:
        stream.write(rest + b"\n" + half)
    second = check(con, load(con, [path]))
    assert (second.inserted, second.duplicates, second.reasons) == (1, 0, {"truncated": 1})
    assert rows(con, "SELECT line, reason, raw FROM quarantine") == [(3, "truncated", half.strip())]


def test_a_file_that_only_begins(con: Con, write: Write) -> None:
    report = check(con, load(con, [write(b'{"interaction_id": "a", "ts', end=b"")]))
    assert (report.reasons, report.failed_files) == ({"truncated": 1}, ())


def test_empty_and_blank_files(con: Con, write: Write) -> None:
    report = check(con, load(con, [write(name="empty.ndjson", end=b""), write(b"", b" \r", name="blank.ndjson")]))
    assert (report.files, report.lines, report.records, report.failed_files) == (2, 2, 0, ())
    assert one(con, "SELECT count(*) FROM file_ledger") == 0


def test_damaged_gzip_files_fail_alone(con: Con, tmp_path: Path, write: Write, call: Call) -> None:
    data = b"".join(json.dumps(call(f"i{n}")).encode() + b"\n" for n in range(8_000))
    good = gzip.compress(data)
    cases = {
        "crc": good[:-8] + bytes([good[-8] ^ 1]) + good[-7:],
        "size": good[:-1] + bytes([good[-1] ^ 1]),
        "cut": good[: len(good) // 2],
        "no_trailer": good[:-8],
        "middle": good[:5000] + b"\xff" * 50 + good[5050:],
        "garbage": good + b"garbage",
        "plain": data,
        "header": good[:3],
    }
    for name, content in cases.items():
        (tmp_path / f"{name}.ndjson.gz").write_bytes(content)
    fine = write(call("fine"))
    report = check(con, load(con, [tmp_path / f"{name}.ndjson.gz" for name in cases] + [fine]))
    assert report.inserted == 1
    assert rows(con, "SELECT interaction_id FROM interaction") == [("fine",)]
    assert [Path(failed.file).name.partition(".")[0] for failed in report.failed_files] == list(cases)
    assert all("gzip" in failed.message for failed in report.failed_files)
    assert report.exit_code == 40
    assert report.files == 9
    assert report.to_dict()["failed_files"][0].keys() == {"file", "message"}


def test_gzip_of_several_members_and_without_the_suffix(con: Con, tmp_path: Path, call: Call) -> None:
    members = b"".join(gzip.compress(json.dumps(call(name)).encode() + b"\n") for name in "abc")
    path = tmp_path / "members.log"
    path.write_bytes(members)
    assert check(con, load(con, [path])).inserted == 3
    assert load(con, [path]).skipped_files == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PAR1....", "Parquet is damaged"),
        (b"\x28\xb5\x2f\xfd\x00", "zstd is damaged"),
        (b"PK\x03\x04....", "a zip file"),
        ("{}".encode("utf-16"), "UTF-16"),
        (b"\x00\x01\x02\n\x00", "binary"),
        (b"INFO: started\n", "no JSON object"),
        (b'{"id": 1, "x": 2}\n', "id, x"),
        (b"[1, 2]", "no JSON object"),
    ],
)
def test_files_that_are_no_logs(con: Con, tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "file.json").write_bytes(content)
    report = check(con, load(con, [tmp_path]))
    assert (report.records, report.exit_code) == (0, 40)
    assert words in report.failed_files[0].message


def test_one_large_record_has_to_be_a_line(con: Con, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abtest.store.containers.document.DOCUMENT_LIMIT", 50)
    (tmp_path / "file.json").write_bytes(b'[{"interaction_id": "a"},\n{"x": "' + b"x" * 3_000_000 + b'"}]')
    assert "one object a line" in load(con, [tmp_path]).failed_files[0].message


def test_paths_that_name_nothing(con: Con, tmp_path: Path) -> None:
    for path, words in (
        (tmp_path / "no.ndjson", "no such file"),
        (tmp_path, "no log file"),
        ("*.zzz", "no file matches"),
    ):
        with pytest.raises(LogReadError, match=words):
            load(con, [path])
    with pytest.raises(UsageError, match="did you mean 'otel'"):
        load(con, [], source="otell")


def test_an_unreadable_file_fails_alone(con: Con, tmp_path: Path, write: Write, call: Call) -> None:
    (tmp_path / "dangling.ndjson").symlink_to(tmp_path / "gone")
    fine = write(call())
    with pytest.raises(LogReadError):
        load(con, [tmp_path / "dangling.ndjson", fine])
    assert load(con, [tmp_path]).inserted == 1  # a folder takes what is there


def test_folders_are_searched_in_order(con: Con, tmp_path: Path, call: Call) -> None:
    for name in ("b/z.jsonl", "a.ndjson", "b/a.json", "skip.txt", "b/deep/x.ndjson.gz"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = json.dumps(call(name)).encode()
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert load(con, [tmp_path]).files == 4
    ordered = [name for (name,) in rows(con, "SELECT interaction_id FROM interaction ORDER BY file_id")]
    assert ordered == ["a.ndjson", "b/a.json", "b/deep/x.ndjson.gz", "b/z.jsonl"]


def test_source_can_be_said(con: Con, write: Write) -> None:
    report = check(con, load(con, [write({"id": 1, "x": 2})], source="native"))
    assert report.reasons == {"missing": 1}
    report = check(con, load(con, [write({"id": 1, "x": 3})], source="otel"))
    assert report.reasons == {"not_otlp": 1}


def test_json_array_and_indented_object(con: Con, tmp_path: Path, call: Call, fixtures: Path) -> None:
    array = tmp_path / "array.json"
    array.write_text(json.dumps([call("a"), {"no": 1}, call("b"), 7], indent=2))
    report = check(con, load(con, [array]))
    assert (report.inserted, report.reasons) == (2, {"missing": 1, "not_object": 1})
    ((line, offset),) = rows(con, "SELECT line, byte_offset FROM quarantine WHERE reason = 'missing'")
    assert array.read_text().splitlines()[line - 1].strip() == "{"
    assert array.read_bytes()[offset:].startswith(b'{\n    "no"')
    payload = json.loads((fixtures / "litellm" / "standard_logging_payload.jsonl").read_text().splitlines()[0])
    (tmp_path / "object.json").write_text(json.dumps(payload, indent=1))
    assert check(con, load(con, [tmp_path / "object.json"])).by_table["interaction"] == 1


def test_a_crash_inside_the_transaction_leaves_nothing(
    con: Con, write: Write, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(call("a"), b"bad")

    def crash(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(load_merge, "_write_ledger", crash)
        with pytest.raises(KeyboardInterrupt):
            load(con, [path])
    for table in (*TABLES, "quarantine", "file_ledger", "score_target"):
        assert one(con, f"SELECT count(*) FROM {table}") == 0
    assert check(con, load(con, [path])).inserted == 1


def test_kill_at_any_moment_and_run_again(tmp_path: Path, call: Call) -> None:
    """SIGKILL between and inside transactions; the next run finishes, and nothing is there twice."""
    logs = tmp_path / "logs"
    logs.mkdir()
    for n in range(12):
        content = [json.dumps(call(f"{n}-{m}", response_text="x" * 200)).encode() for m in range(1500)]
        (logs / f"{n:02}.ndjson").write_bytes(b"\n".join([*content, b"bad"]) + b"\n")
    code = (
        "import sys, duckdb\n"
        "from abtest.store import load as module\n"
        "from abtest.store.store import Store\n"
        "module.BATCH_FILES = 1\n"
        "con = Store(sys.argv[1]).connection\n"
        "print('ready', flush=True)\n"
        "module.load(con, [sys.argv[2]])\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "killed.duckdb"), str(logs)]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch)}
    for delay in (0.05, 0.35, 0.7):
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay)
            process.kill()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    assert list(scratch.iterdir()) == []
    con = duckdb.connect(str(tmp_path / "killed.duckdb"))
    assert rows(con, "SELECT count(*), count(DISTINCT interaction_id) FROM interaction") == [(18_000, 18_000)]
    assert rows(con, "SELECT count(*), sum(inserted), sum(quarantined) FROM file_ledger") == [(12, 18_000, 12)]
    assert one(con, "SELECT count(*) FROM quarantine") == 12
    con.close()


def test_what_duckdb_refuses_fails_the_file_not_the_ingest(
    con: Con, write: Write, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = write(call("a"), name="a.ndjson"), write(call("b"), name="b.ndjson")
    monkeypatch.setattr(load_module, "BATCH_FILES", 1)
    original = load_merge._quarantine
    calls: list[int] = []

    def refuse_first(*args: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise duckdb.ConversionException("no such number")
        original(*args)

    monkeypatch.setattr(load_merge, "_quarantine", refuse_first)
    report = check(con, load(con, [a, b]))
    assert (report.inserted, [Path(f.file).name for f in report.failed_files]) == (1, ["a.ndjson"])
    assert rows(con, "SELECT file_id FROM file_ledger") == [(1,)]


def test_a_store_that_cannot_write_says_so(con: Con, write: Write, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise duckdb.IOException("disk full")

    monkeypatch.setattr(load_merge, "_write_ledger", full)
    with pytest.raises(StoreError, match="disk full"):
        load(con, [write(call())])


def test_a_full_temporary_folder_says_so(con: Con, write: Write, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("abtest.store.load_spool.Table.write", full)
    with pytest.raises(StoreError, match=r"No space left.*TMPDIR"):
        load(con, [write(call())])
    assert one(con, "SELECT count(*) FROM file_ledger") == 0


def test_many_small_files_share_transactions(
    con: Con, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_module, "BATCH_FILES", 7)
    merges: list[int] = []
    monkeypatch.setattr(
        load_module, "merge", lambda *args, **kw: (merges.append(len(args[2])), load_merge.merge(*args, **kw))
    )
    for n in range(20):
        (tmp_path / f"{n:02}.json").write_text(json.dumps(call(f"i{n}")))
    report = check(con, load(con, [tmp_path]))
    assert (report.inserted, merges) == (20, [7, 7, 6])
    assert rows(con, "SELECT file_id, inserted FROM file_ledger ORDER BY 1") == [(n, 1) for n in range(1, 21)]


def test_long_lines_and_deep_nesting(con: Con, write: Write, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abtest.ingest.lines.LINE_LIMIT", 20_000_000)
    deep = json.dumps(call("deep"))[:-1].encode() + b', "attributes": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}"
    path = write(call("a"), call("long", response_text="x" * 18_000_000), deep, b"x" * 20_000_001, call("b"))
    report = check(con, load(con, [path]))
    assert (report.inserted, report.reasons) == (3, {"json": 1, "too_long": 1})
    assert one(con, "SELECT response_chars FROM interaction WHERE interaction_id = 'long'") == 18_000_000
    assert one(con, "SELECT max(octet_length(raw)) FROM quarantine") == 65_536


def test_progress_reaches_the_end(con: Con, write: Write, call: Call) -> None:
    seen: list[tuple[str, int, int]] = []
    path = write(call())
    load(con, [path], progress=lambda *args: seen.append(args))
    assert seen[-1] == (str(path), path.stat().st_size, path.stat().st_size)


def test_nothing_is_left_behind(
    con: Con, write: Write, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    load(con, [write(call("a"), b"bad", call("a", turn=2))])
    assert list(folder.iterdir()) == []
    assert one(con, "SELECT count(*) FROM duckdb_tables() WHERE temporary") == 0


def test_folders_of_killed_loads_are_removed_and_those_of_live_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stale = tmp_path / f"{PREFIX}stale"
    stale.mkdir()
    (stale / "lock").touch()
    unready = tmp_path / f"{PREFIX}unready"
    unready.mkdir()
    with scratch() as live, scratch() as other:
        assert not stale.exists()
        assert live.is_dir()
        assert other.is_dir()
        assert unready.is_dir()
    assert list(tmp_path.iterdir()) == [unready]


def test_the_file_can_be_moved_away_after_the_load(con: Con, write: Write, call: Call, tmp_path: Path) -> None:
    path = write(call())
    load(con, [path])
    shutil.move(path, tmp_path / "away.ndjson")
    assert load(con, [tmp_path / "away.ndjson"]).skipped_files == 1
