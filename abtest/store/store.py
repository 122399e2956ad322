"""The store: one DuckDB file with the logs, the frozen constants and the decision ledger."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import duckdb

from abtest.errors import NoDataError, StoreError, StoreLockedError, StoreVersionError
from abtest.store.engines.duckdb import DuckDBEngine
from abtest.store.files import load_sql, sql_root

if TYPE_CHECKING:
    from abtest.ingest import Format
    from abtest.records import AnyRecord
    from abtest.store.load import IngestReport
    from abtest.store.own_calls import OwnCalls

_CONFIG: dict[str, str | bool | int | float | list[str]] = {
    # DuckDB must never reach for the network, and errors of a missing extension must come at once.
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
_WAIT_SECONDS = 5.0


class Store:
    """A DuckDB file. Use it as a context manager: a store that is open for writing keeps every other process out.

    Args:
        path: The file; it is made when it does not exist, unless `read_only`.
        read_only: Open beside other readers; nothing can be recorded.
        wait: Seconds to wait for another process to let go.

    Raises:
        StoreLockedError: another process holds the file (its pid is named).
        StoreVersionError: a newer abtest wrote it.
        NoDataError: `read_only`, and there is no such file.
        StoreError: not a DuckDB file, a folder, no permission.
    """

    own_calls: OwnCalls | None = None
    """The calls of some experiments, kept for the analyses that follow (`abtest.analysis.together`)."""

    def __init__(
        self, path: str | Path = "abtest.duckdb", *, read_only: bool = False, wait: float = _WAIT_SECONDS
    ) -> None:
        self.path = Path(path)
        self.read_only = read_only
        self._con = self._connect(wait)
        try:
            self._con.execute("SET TimeZone='UTC'")
            with suppress(duckdb.InvalidInputException):  # Jupyter without widgets has none to switch off
                self._con.execute("SET enable_progress_bar = false")  # it would draw on stdout
            self._migrate()
        except BaseException:
            self._con.close()
            raise

    # -- life ----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._con.close()

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """Return the DuckDB connection, for queries of your own."""
        return self._con

    @property
    def engine(self) -> DuckDBEngine:
        """Return the engine that runs the queries of `sql/` here."""
        return DuckDBEngine(self._con)

    # -- logs ----------------------------------------------------------------------------------------------------

    def ingest(
        self,
        *paths: str | Path,
        source: str = "auto",
        keep_text: bool = False,
        progress: Callable[[str, int, int], None] | None = None,
        fmt: Format | None = None,
        transform: Callable[[AnyRecord], AnyRecord] | None = None,
        formats: Callable[[AnyRecord], AnyRecord] | None = None,
        final: bool = True,
        max_expansion: float = 500.0,
        max_bytes: int = 1 << 40,
    ) -> IngestReport:
        """Read log files, folders, globs or stdin ("-") into the store; see `abtest.store.load.load`."""
        from abtest.store.load import load

        return load(
            self._con,
            paths,
            source=source,
            keep_text=keep_text,
            progress=progress,
            fmt=fmt,
            transform=transform,
            formats=formats,
            final=final,
            max_expansion=max_expansion,
            max_bytes=max_bytes,
        )

    def newest_us(self) -> int | None:
        """Return the time of the newest event (call, assignment, score) in microseconds since 1970; None for an empty store."""
        row = self._con.execute(load_sql("newest")).fetchone()
        return int(row[0]) if row and row[0] is not None else None

    def last_file(self) -> int:
        """Return the number of the last load: a decision names it, so that its replay sees the same rows."""
        row = self._con.execute("select coalesce(max(file_id), 0) from file_ledger").fetchone()
        return int(row[0]) if row else 0

    # -- frozen constants ----------------------------------------------------------------------------------------

    def frozen(
        self, experiment: str, revision: int, *, as_of_us: int = 2**62, max_file: int = 2**62
    ) -> dict[str, dict[str, float]]:
        """Return the frozen constants that were known at a watermark: metric -> name -> value."""
        rows = self._con.execute(
            """select metric, name, value from frozen
            where experiment = $e and revision = $r and watermark_us <= $as_of and file_id <= $max_file order by metric, name""",
            {"e": experiment, "r": revision, "as_of": as_of_us, "max_file": max_file},
        ).fetchall()
        out: dict[str, dict[str, float]] = {}
        for metric, name, value in rows:
            out.setdefault(str(metric), {})[str(name)] = float(value)
        return out

    def freeze(
        self,
        experiment: str,
        revision: int,
        metric: str,
        values: Mapping[str, float],
        *,
        source: str,
        watermark_us: int,
        file_id: int,
    ) -> None:
        """Write a metric's constants once; what is frozen already stays."""
        known = self.frozen(experiment, revision).get(metric, {})
        rows = [
            [experiment, revision, metric, name, value, source, watermark_us, file_id]
            for name, value in values.items()
            if name not in known
        ]
        if rows:
            self._con.executemany("insert into frozen values (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    # -- parts ---------------------------------------------------------------------------------------------------

    def _connect(self, wait: float) -> duckdb.DuckDBPyConnection:
        if self.path.is_dir():
            raise StoreError("this is a folder, a store is a file", file=str(self.path), hint="--db abtest.duckdb")
        if self.read_only and not self.path.exists():
            raise NoDataError("there is no store here", file=str(self.path), hint="`abtest ingest PATH...` makes one")
        if not self.path.absolute().parent.is_dir():
            raise StoreError(
                "its folder does not exist", file=str(self.path), hint="make the folder, or give another --db"
            )
        until = time.monotonic() + wait
        while True:
            try:
                return duckdb.connect(str(self.path), read_only=self.read_only, config=_CONFIG)
            except duckdb.Error as error:
                if "lock" not in str(error) or time.monotonic() >= until:
                    raise self._connect_error(error) from error
                time.sleep(0.05)

    def _connect_error(self, error: duckdb.Error) -> StoreError:
        text = str(error)
        holder = re.search(r"held in (.*?)\(PID (\d+)\)", text)
        if "lock" in text:
            who = f"process {holder.group(2)}" if holder else "another process"
            return StoreLockedError(
                f"the store is held by {who}", file=str(self.path), hint="wait until it ends, or stop it"
            )
        if "database version" in text or "storage version" in text or "newer version" in text.lower():
            return StoreVersionError(
                "the store was written by another DuckDB version", file=str(self.path), hint="install duckdb>=2,<3"
            )
        if "not a valid DuckDB database" in text or "valid DuckDB" in text:
            return StoreError("this is not an abtest store", file=str(self.path), hint="give another --db")
        return StoreError(f"cannot be opened: {text.splitlines()[0]}", file=str(self.path))

    def _migrate(self) -> None:
        have, known = self._schema_version(), schema_version()
        if have > known:
            raise StoreVersionError(
                f"the store has schema version {have}, this abtest knows up to {known}",
                file=str(self.path),
                hint="install the newer abtest that wrote it",
            )
        if have == known:
            return
        if self.read_only:
            raise StoreVersionError(
                f"the store has the old schema version {have}",
                file=str(self.path),
                hint="open it once for writing: `abtest status`",
            )
        for number, name in _migrations().items():
            if number <= have:
                continue
            self._con.execute("begin")
            try:
                self._con.execute(load_sql(f"migrations/{name}"))
                self._con.execute("create table if not exists schema_version (version integer not null)")
                self._con.execute("delete from schema_version")
                self._con.execute("insert into schema_version values ($v)", {"v": number})
                self._con.execute("commit")
            except BaseException:
                self._con.execute("rollback")
                raise

    def _schema_version(self) -> int:
        tables = {str(r[0]) for r in self._con.execute("select table_name from duckdb_tables()").fetchall()}
        if "schema_version" not in tables:
            if tables:
                raise StoreError(
                    "this DuckDB file is not an abtest store", file=str(self.path), hint="give another --db"
                )
            return 0
        row = self._con.execute("select max(version) from schema_version").fetchone()
        return int(row[0]) if row and row[0] is not None else 0


def _migrations() -> dict[int, str]:
    return {int(p.stem.split("_")[0]): p.stem for p in sorted((sql_root() / "migrations").glob("*.sql"))}


def schema_version() -> int:
    """Return the newest schema version that this code knows."""
    return max(_migrations())
