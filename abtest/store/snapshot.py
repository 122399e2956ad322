"""Whole copies of a store: the published snapshot for readers, the compacted file after a deletion, Parquet for others.

A copy is written into a hidden folder beside its target, flushed to disk, and put in place by one rename: a reader has the
old copy or the new one, never half of one. Folders of processes that were killed are swept by the next copy.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from abtest.errors import NoDataError, StoreError, StoreLockedError, UsageError

_PAUSE = 0.05
_NEW = ".abtest-new-"
_STALE_SECONDS = 60.0
_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


def snapshot(con: duckdb.DuckDBPyConnection, target: str | Path) -> int:
    """Copy an open store to `target`, replacing an older copy whole; returns the size in bytes.

    The copy is of one moment: what other threads commit meanwhile is in it whole, or not at all.

    Args:
        con: A connection to the store, outside any transaction.
        target: The file to publish. Readers that have the old one open keep it.

    Raises:
        UsageError: The target is the store itself, or a folder.
        StoreError: The target's folder cannot be written, or the disk is full; the old copy stays as it was.
    """
    source = con.execute(
        "SELECT current_database(), path FROM duckdb_databases() WHERE database_name = current_database()"
    )
    name, path = source.fetchall()[0]
    return _publish(con, str(name), Path(path) if path else None, Path(target))


def snapshot_file(path: str | Path, target: str | Path, *, wait: float = 5.0) -> int:
    """Copy a store file that nobody writes at the moment; other readers are not disturbed. Returns the size in bytes.

    Raises:
        NoDataError: There is no such store.
        StoreLockedError: A process that writes holds it longer than `wait` seconds.
        UsageError, StoreError: As `snapshot`.
    """
    path = Path(path)
    if not path.exists():
        raise NoDataError("there is no store here", file=str(path), hint="`abtest ingest PATH...` makes one")
    until = time.monotonic() + wait
    con = duckdb.connect(config=_CONFIG)
    try:
        while True:
            try:
                con.execute(f"ATTACH {_quoted(path)} AS abtest_source (READ_ONLY)")
                break
            except duckdb.Error as error:
                if "lock" not in str(error):
                    raise StoreError(f"cannot be opened: {str(error).splitlines()[0]}", file=str(path)) from error
                if time.monotonic() >= until:
                    raise StoreLockedError(
                        "the store is held by a process that writes", file=str(path), hint="wait until it ends"
                    ) from error
                time.sleep(_PAUSE)
        return _publish(con, "abtest_source", path, Path(target))
    finally:
        con.close()


def compact(con: duckdb.DuckDBPyConnection, path: str | Path) -> int:
    """Rewrite the file of an open store so that deleted rows are gone from its bytes; returns the new size in bytes.

    The connection holds the old file afterwards and must be closed; nothing may be written with it any more.
    """
    con.execute("CHECKPOINT")
    name = con.execute("SELECT current_database()").fetchall()[0][0]
    return _publish(con, str(name), None, Path(path))


def export(con: duckdb.DuckDBPyConnection, folder: str | Path) -> dict[str, int]:
    """Write every table as one Parquet file into a new folder; returns the rows by table.

    Raises:
        UsageError: The folder exists and is not empty, so that nothing is overwritten.
        StoreError: It cannot be written; nothing is left behind.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError("is there already", file=str(target), hint="name a new or an empty folder")
    listed = con.execute(
        "SELECT table_name FROM duckdb_tables() WHERE NOT temporary AND NOT internal ORDER BY table_name"
    )
    tables = [str(row[0]) for row in listed.fetchall()]
    rows: dict[str, int] = {}
    with staging(target) as stage:
        ready = stage / "export"
        try:
            ready.mkdir()
            con.execute("BEGIN")  # one moment for all tables
            for table in tables:
                file = ready / f"{table}.parquet"
                written = con.execute(
                    f'COPY "{table}" TO {_quoted(file)} (FORMAT parquet, COMPRESSION zstd)'
                ).fetchall()
                rows[table] = int(written[0][0])
                flush(file)
            con.execute("COMMIT")
            flush(ready)
            if target.exists():
                target.rmdir()
            ready.rename(target)
            flush(target.absolute().parent)
        except (OSError, duckdb.Error) as error:
            _roll_back(con)
            raise StoreError(f"cannot be written: {_first_line(error)}", file=str(target)) from error
    return rows


@contextmanager
def staging(target: Path) -> Generator[Path]:
    """Yield a hidden folder beside `target`, removed at the end; those of dead processes are removed first.

    Raises:
        StoreError: The folder of the target does not exist or cannot be written.
    """
    parent = target.absolute().parent
    prefix = f".{target.name}.tmp-"
    try:
        _sweep(parent, prefix)
        fresh = Path(tempfile.mkdtemp(prefix=_NEW, dir=parent))
    except OSError as error:
        raise StoreError(f"its folder cannot be written: {_first_line(error)}", file=str(target)) from error
    # Locked before it gets the name by which others look for it, so that nobody finds it unlocked.
    lock = _lock(fresh)
    folder = fresh.rename(parent / f"{prefix}{fresh.name.removeprefix(_NEW)}")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def flush(path: Path) -> None:
    """Make a file, or the names in a folder, survive a power cut."""
    if sys.platform == "win32" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _publish(con: duckdb.DuckDBPyConnection, source: str, path: Path | None, target: Path) -> int:
    """Copy the attached database `source` into place."""
    if target.is_dir():
        raise UsageError("is a folder, a snapshot is a file", file=str(target), hint="name the file to write")
    if path is not None and target.exists() and target.samefile(path):
        raise UsageError("is the store itself", file=str(target), hint="name another file")
    with staging(target) as stage:
        copy = stage / "copy.duckdb"
        alias = f"abtest_copy_{os.getpid()}"
        try:
            con.execute(f"ATTACH {_quoted(copy)} AS {alias}")
            try:
                con.execute(f'COPY FROM DATABASE "{source}" TO {alias}')
                con.execute(f"CHECKPOINT {alias}")
            finally:
                con.execute(f"DETACH {alias}")
            if (left := copy.with_name(copy.name + ".wal")).exists():  # a copy is one file
                raise StoreError("the copy was not written whole", file=str(left))
            if target.exists():
                shutil.copymode(target, copy)
            flush(copy)
            size = copy.stat().st_size
            copy.replace(target)
            flush(target.absolute().parent)
        except (OSError, duckdb.Error) as error:
            raise StoreError(f"cannot be written: {_first_line(error)}", file=str(target)) from error
    return size


def _sweep(parent: Path, prefix: str) -> None:
    """Remove the folders that killed processes left."""
    for folder in parent.glob(f"{prefix}*"):
        lock = _lock(folder)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
    for folder in parent.glob(f"{_NEW}*"):  # killed in the instant before it was locked and named; always empty
        try:
            if time.time() - folder.stat().st_mtime > _STALE_SECONDS:
                folder.rmdir()
        except OSError:
            continue


def _lock(folder: Path) -> int | None:
    """Lock a folder until the handle is closed or the process dies; None when another process has it, or on Windows."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _roll_back(con: duckdb.DuckDBPyConnection) -> None:
    try:
        con.execute("ROLLBACK")
    except duckdb.Error:  # no transaction was open
        return


def _quoted(path: Path) -> str:
    """Return a path as an SQL string: ATTACH and COPY take no parameters."""
    return "'" + str(path.absolute()).replace("'", "''") + "'"


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
