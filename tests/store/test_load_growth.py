"""Files that grow, are rotated, copied and packed: nothing is lost, nothing is there twice, nothing is read twice."""

from __future__ import annotations

import gzip
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from load_samples import call, check, check_ledger, ids, line, lines, one

from abtest.store import load_state
from abtest.store.load_files import LogFile
from abtest.store.load_pieces import Pieces
from abtest.store.load_report import IngestReport
from abtest.store.privacy import privacy
from abtest.store.store import Store

Ingest = Callable[..., IngestReport]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "s.duckdb") as opened:
        yield opened


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder


@pytest.fixture
def ingest(store: Store, logs: Path) -> Ingest:
    def ingest(*paths: Path | str, **options: Any) -> IngestReport:
        return check(store, store.ingest(*(paths or (logs,)), **options))

    return ingest


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as stream:
        stream.write(data)


def old(path: Path, seconds: float = 3600) -> None:
    """Make a file look as if it was changed long ago."""
    at = time.time() - seconds
    os.utime(path, (at, at))


def pieces(store: Store) -> list[tuple[Any, ...]]:
    query = "SELECT file_id, parent_id, start_byte, bytes, records FROM file_ledger ORDER BY 1"
    return store.connection.execute(query).fetchall()


def test_only_what_is_new_is_read(store: Store, logs: Path, ingest: Ingest) -> None:
    path = logs / "a.ndjson"
    path.write_bytes(line("a") + b"bad\n")
    assert (ingest().inserted, ingest().skipped_files) == (1, 1)
    append(path, line("b") + b"worse\n")
    report = ingest()
    assert (report.inserted, report.duplicates, report.quarantined, report.lines) == (1, 0, 1, 2)
    size = len(line("a"))
    assert pieces(store) == [(1, None, 0, size + 4, 2), (2, 1, size + 4, size + 6, 2)]
    rows = store.connection.execute("SELECT line, byte_offset, file_id FROM quarantine ORDER BY 1").fetchall()
    assert rows == [(2, size, 1), (4, 2 * size + 4, 2)]


def test_a_last_line_without_newline(store: Store, logs: Path, ingest: Ingest) -> None:
    """A whole object counts at once; half a one is quarantined, and forgotten when the rest has come."""
    path = logs / "a.ndjson"
    path.write_bytes(line("a") + line("b").rstrip())
    assert ingest().inserted == 2
    append(path, b"\n" + line("c") + line("d")[:30])
    report = ingest()
    assert (report.inserted, report.duplicates, report.reasons) == (1, 0, {"truncated": 1})
    assert report.lines == 2
    append(path, line("d")[30:50])
    assert ingest().reasons == {"truncated": 1}
    rows = store.connection.execute("SELECT line, byte_offset, raw FROM quarantine").fetchall()
    assert rows == [(4, 3 * len(line("a")), line("d")[:50])]
    append(path, line("d")[50:] + line("e"))
    report = ingest()
    assert (report.inserted, report.quarantined, one(store, "SELECT count(*) FROM quarantine")) == (2, 0, 0)
    assert ids(store) == list("abcde")
    assert ingest().records == 0


def test_the_unfinished_line_is_looked_at_once(store: Store, logs: Path, ingest: Ingest) -> None:
    path = logs / "a.ndjson"
    path.write_bytes(line("a") + line("b")[:30])
    ingest()
    os.utime(path)  # touched, not changed
    report = ingest()
    assert (report.records, report.skipped_files, one(store, "SELECT count(*) FROM quarantine")) == (0, 1, 1)


def test_a_line_that_ends_broken_is_no_longer_truncated(store: Store, logs: Path, ingest: Ingest) -> None:
    path = logs / "a.ndjson"
    path.write_bytes(line("a") + b'{"interaction_id":')
    ingest()
    append(path, b"\n" + line("b"))
    assert ingest().reasons == {"json": 1}
    assert store.connection.execute("SELECT reason, line FROM quarantine").fetchall() == [("json", 2)]


def test_an_unfinished_line_waits_while_the_file_may_grow(store: Store, logs: Path, ingest: Ingest) -> None:
    path = logs / "a.ndjson"
    path.write_bytes(line("a") + line("b")[:30])
    for _ in range(2):
        report = ingest(final=False)
        assert (report.quarantined, report.waiting_lines) == (0, 1)
    append(path, line("b")[30:] + line("c").rstrip())
    report = ingest(final=False)
    assert (report.inserted, report.waiting_lines) == (2, 0)
    append(path, b"\n" + line("d")[:30])
    assert ingest(final=False).waiting_lines == 1
    old(path, load_state.QUIET_SECONDS + 10)  # nobody is writing any more
    report = ingest(final=False)
    assert (report.reasons, report.waiting_lines) == ({"truncated": 1}, 0)
    append(path, line("d")[30:])
    assert ingest(final=False).inserted == 1
    assert (ids(store), one(store, "SELECT count(*) FROM quarantine")) == (list("abcd"), 0)


def test_a_waiting_line_is_taken_up_by_a_final_look(store: Store, logs: Path, ingest: Ingest) -> None:
    path = logs / "a.ndjson"
    path.write_bytes(line("a")[:30])
    report = ingest(final=False)
    assert (report.waiting_files, report.waiting_lines, report.records) == (1, 1, 0)
    assert ingest(final=True).reasons == {"truncated": 1}
    append(path, line("a")[30:])
    assert (ingest(final=False).inserted, one(store, "SELECT count(*) FROM quarantine")) == (1, 0)


def test_a_file_being_written_is_no_failure_yet(logs: Path, ingest: Ingest) -> None:
    path = logs / "a.ndjson.gz"
    path.write_bytes(gzip.compress(line("a"))[:-9])
    report = ingest(final=False)
    assert (report.waiting_files, report.failed_files, report.exit_code) == (1, (), 0)
    assert ingest(final=True).exit_code == 40
    old(path)
    assert ingest(final=False).exit_code == 40
    path.write_bytes(gzip.compress(line("a")))
    assert ingest(final=False).inserted == 1


def test_rotation_by_rename(store: Store, logs: Path, ingest: Ingest) -> None:
    path = logs / "a.ndjson"
    path.write_bytes(line("a") + line("b")[:30])
    ingest()
    append(path, line("b")[30:] + line("c"))
    path.rename(logs / "a.ndjson.1")
    path.write_bytes(line("d"))
    report = ingest()
    assert (report.inserted, report.duplicates) == (3, 0)
    assert one(store, "SELECT count(*) FROM quarantine") == 0
    (logs / "a.ndjson.1").rename(logs / "a.ndjson.2")
    path.rename(logs / "a.ndjson.1")
    append(logs / "a.ndjson.1", line("e"))
    path.write_bytes(line("f"))
    report = ingest()
    assert (report.inserted, report.duplicates, report.skipped_files) == (2, 0, 1)
    assert ids(store) == list("abcdef")


def test_rotation_by_copy_and_truncate(store: Store, logs: Path, ingest: Ingest) -> None:
    path = logs / "a.ndjson"
    path.write_bytes(line("a") + line("b"))
    ingest()
    append(path, line("c") + line("d")[:30])
    shutil.copyfile(path, logs / "a.ndjson.1")
    path.write_bytes(line("e"))
    report = ingest()
    assert (report.inserted, report.duplicates, report.reasons) == (2, 0, {"truncated": 1})
    append(path, line("f"))
    assert ingest().inserted == 1
    path.write_bytes(b"")
    assert (ingest().records, ids(store)) == (0, list("abcef"))


def test_truncated_and_longer_than_before(store: Store, logs: Path, ingest: Ingest) -> None:
    """The size alone would say that the file has grown."""
    path = logs / "a.ndjson"
    path.write_bytes(line("a"))
    ingest()
    path.write_bytes(line("b") + line("c"))
    assert (ingest().inserted, ids(store)) == (2, list("abc"))


def test_a_changed_beginning_is_read_anew_and_counts_once(store: Store, logs: Path, ingest: Ingest) -> None:
    path = logs / "a.ndjson"
    path.write_bytes(line("a") + line("b"))
    ingest()
    path.write_bytes(line("b") + line("a") + line("c"))
    report = ingest()
    assert (report.inserted, report.duplicates) == (1, 2)


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_packed_copy(store: Store, logs: Path, ingest: Ingest, suffix: str) -> None:
    def pack(data: bytes) -> bytes:
        return gzip.compress(data) if suffix == ".gz" else zstandard.compress(data)

    path = logs / "a.ndjson"
    path.write_bytes(line("a") + line("b"))
    ingest()
    append(path, line("c")[:30])
    ingest()
    whole = path.read_bytes() + line("c")[30:]
    (logs / f"b.ndjson{suffix}").write_bytes(pack(path.read_bytes()))
    report = ingest()
    assert (report.records, report.skipped_files) == (0, 2)
    (logs / f"c.ndjson{suffix}").write_bytes(pack(whole + line("d")))
    report = ingest()
    assert (report.inserted, report.duplicates, report.skipped_files) == (2, 0, 2)
    assert one(store, "SELECT count(*) FROM quarantine") == 0  # the line is whole, though in another file
    append(path, line("c")[30:] + line("d"))
    assert (ingest().records, ids(store)) == (0, list("abcd"))


def test_gzip_that_grows_by_members(store: Store, logs: Path, ingest: Ingest) -> None:
    path = logs / "a.ndjson.gz"
    for name in "abc":
        append(path, gzip.compress(line(name)))
        report = ingest()
        assert (report.inserted, report.duplicates) == (1, 0)


def test_copies_in_one_load_are_read_once(store: Store, logs: Path, ingest: Ingest) -> None:
    """The pieces of files that are not stored yet count, too."""
    for name, data in (("a", "ab"), ("b", "ab"), ("c", "abc"), ("d", "abcd")):
        (logs / f"{name}.ndjson").write_bytes(lines(data) + b"half")
    report = ingest()
    assert (report.inserted, report.duplicates, report.skipped_files) == (4, 0, 1)
    assert one(store, "SELECT count(*) FROM quarantine") == report.quarantined == 3


def test_unchanged_files_cost_a_stat_only(
    store: Store, logs: Path, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(1000):
        (logs / f"{n}.ndjson").write_bytes(line(f"i{n}"))
        old(logs / f"{n}.ndjson", 10)
    assert ingest().inserted == 1000

    def must_not(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a known file was opened")

    with monkeypatch.context() as patch:
        patch.setattr(LogFile, "_content", must_not)
        patch.setattr(LogFile, "head", must_not)
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            report = store.ingest(logs)
            seconds.append(time.perf_counter() - started)
            assert (report.skipped_files, report.records) == (1000, 0)
    assert min(seconds) < 0.5  # 0.03 on an idle machine
    append(logs / "7.ndjson", line("new"))
    assert (ingest().inserted, one(store, "SELECT count(*) FROM file_state")) == (1, 1000)


def test_a_change_within_the_clock_tick_is_seen(store: Store, logs: Path, ingest: Ingest) -> None:
    """Same size, same time stamp: such a stat proves nothing when it is as young as the look."""
    path = logs / "a.ndjson"
    path.write_bytes(line("a"))
    stamp = time.time_ns()
    os.utime(path, ns=(stamp, stamp))
    ingest()
    path.write_bytes(line("b"))
    os.utime(path, ns=(stamp, stamp))
    assert (ingest().inserted, ids(store)) == (1, ["a", "b"])


def test_the_cache_may_be_lost(store: Store, logs: Path, ingest: Ingest) -> None:
    path = logs / "a.ndjson"
    path.write_bytes(line("a"))
    ingest()
    append(path, line("b"))
    store.connection.execute("DELETE FROM file_state")
    assert (ingest().inserted, ingest().skipped_files) == (1, 1)


def test_a_large_known_file_is_compared_at_its_edges(
    store: Store, logs: Path, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abtest.store.load_pieces.PROBE_BYTES", 50_000)
    path = logs / "a.ndjson"
    path.write_bytes(lines(f"i{n}" for n in range(1000)))
    ingest()
    append(path, line("x"))
    with monkeypatch.context() as patch:
        patch.setattr(Pieces, "_walk", lambda *args: pytest.fail("the file was read from its beginning"))
        assert ingest().inserted == 1
        path.rename(logs / "b.ndjson")
        append(logs / "b.ndjson", line("y"))
        assert ingest().inserted == 1
    path.write_bytes(lines(f"j{n}" for n in range(1002)))  # as long, other content
    assert ingest().inserted == 1002
    check_ledger(store)


def test_a_file_followed_for_long_is_recognised_piece_by_piece(store: Store, logs: Path, ingest: Ingest) -> None:
    path = logs / "a.ndjson"
    for n in range(30):
        append(path, line(f"i{n}"))
        assert ingest().inserted == 1
    (logs / "copy.ndjson.gz").write_bytes(gzip.compress(path.read_bytes() + line("end")))
    report = ingest()
    assert (report.inserted, report.duplicates) == (1, 0)


def test_content_of_a_store_from_before_there_were_pieces(store: Store, logs: Path, ingest: Ingest) -> None:
    path = logs / "a.ndjson"
    path.write_bytes(line("a") + line("b")[:30])
    ingest()
    data = path.read_bytes()
    store.connection.execute("DELETE FROM file_state")
    store.connection.execute(
        """UPDATE file_ledger SET parent_id = NULL, root_id = NULL, start_byte = NULL, end_number = NULL, head = NULL,
        tail = NULL, container = NULL, bytes = $size, sha256 = sha256($data::BLOB)""",
        {"size": len(data), "data": data},
    )
    assert (store.ingest(path).skipped_files, store.ingest(path).skipped_files) == (1, 1)
    append(path, line("b")[30:])
    report = ingest()
    assert (report.inserted, report.duplicates, one(store, "SELECT count(*) FROM quarantine")) == (1, 1, 0)


def test_an_array_that_is_written_anew(store: Store, logs: Path, ingest: Ingest) -> None:
    path = logs / "a.json"
    body = [line(name).rstrip() for name in "abc"]
    path.write_bytes(b"[" + b",\n".join(body[:2]) + b",\n" + body[2][:30])
    report = ingest()
    assert (report.inserted, report.reasons) == (2, {"truncated": 1})
    path.write_bytes(b"[" + b",\n".join(body) + b"]")
    report = ingest()
    assert (report.inserted, report.duplicates, one(store, "SELECT count(*) FROM quarantine")) == (1, 2, 0)


def test_a_file_that_is_gone_when_its_turn_comes(
    store: Store, logs: Path, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rotation between the search and the look: the next search finds it."""
    (logs / "a.ndjson").write_bytes(line("a"))
    (logs / "b.ndjson").write_bytes(line("b"))
    real = LogFile.__init__

    def vanish(self: LogFile, path: Path, *args: Any, **kwargs: Any) -> None:
        if path.name == "b.ndjson":
            path.rename(logs / "b.ndjson.1")
        real(self, path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(LogFile, "__init__", vanish)
        report = ingest()
    assert (report.files, report.inserted, report.failed_files) == (1, 1, ())
    assert ingest().inserted == 1


def test_a_load_that_fails_is_not_remembered(
    store: Store, logs: Path, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    import duckdb

    (logs / "a.ndjson").write_bytes(line("a") + b"half")

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise duckdb.ConversionException("no such number")

    with monkeypatch.context() as patch:
        patch.setattr("abtest.store.load.merge", refuse)
        assert ingest().exit_code == 40
    assert one(store, "SELECT count(*) FROM file_state") == 0
    assert (ingest().inserted, one(store, "SELECT count(*) FROM quarantine")) == (1, 1)


def test_an_unfinished_line_without_its_text(store: Store, logs: Path, ingest: Ingest) -> None:
    """With --redact the quarantine holds an outline only; the line is recognised by its digest."""
    hide = privacy(redact=True)
    path = logs / "a.ndjson"
    path.write_bytes(line("a") + line("secret")[:40])
    assert ingest(transform=hide).reasons == {"truncated": 1}
    assert b"secret" not in one(store, "SELECT raw FROM quarantine")
    os.utime(path)
    assert ingest(transform=hide).records == 0
    append(path, line("secret")[40:])
    assert (ingest(transform=hide).inserted, one(store, "SELECT count(*) FROM quarantine")) == (1, 0)


def test_transform_sees_every_record(store: Store, logs: Path) -> None:
    (logs / "a.ndjson").write_bytes(line("a", unit_id="u", prompt_text="secret") + line("b"))
    report = store.ingest(
        logs,
        keep_text=True,
        transform=lambda r: r.model_copy(update={"unit_id": "hashed", "prompt_text": None}),
    )
    check(store, report)
    assert store.connection.execute("SELECT DISTINCT unit_id FROM interaction").fetchall() == [("hashed",)]
    assert one(store, "SELECT count(*) FROM interaction_text") == 0
    assert call()["interaction_id"] == "i1"
