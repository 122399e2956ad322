"""snapshot, export, prune, forget: copies of the store, and what has to leave it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from abtest.cli.common import DEFAULT_DB, DbOption, JsonOption, emit, existing_store, note, say

if TYPE_CHECKING:
    from abtest.store.retention import Removed

DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only count what would go.")]


def snapshot(
    target: Annotated[Path, typer.Argument(help="The file to publish.", metavar="FILE", show_default=False)],
    db: DbOption = DEFAULT_DB,
    as_json: JsonOption = False,
) -> int:
    """Publish a consistent copy of the store for readers; an older copy is replaced whole.

    Example: abtest snapshot published/abtest.duckdb
    """
    from abtest.store.snapshot import snapshot_file

    size = snapshot_file(db, target)
    if as_json:
        emit({"schema": "abtest.snapshot/1", "file": str(target), "bytes": size})
    else:
        say(f"{target}: {size:,} bytes")
    return 0


def export(
    folder: Annotated[Path, typer.Argument(help="A new folder.", metavar="DIR", show_default=False)],
    db: DbOption = DEFAULT_DB,
    as_json: JsonOption = False,
) -> int:
    """Write every table as a Parquet file into a new folder.

    Example: abtest export backup-2026-11-23
    """
    from abtest.store.snapshot import export as write

    with existing_store(db) as store:
        rows = write(store.connection, folder)
    if as_json:
        emit({"schema": "abtest.export/1", "folder": str(folder), "tables": rows})
        return 0
    for table, count in rows.items():
        say(f"{table}.parquet: {count:,} rows")
    return 0


def prune(
    before: Annotated[
        str,
        typer.Option(
            "--before",
            help="A time or a date (its beginning, UTC); what is later stays.",
            metavar="TS",
            show_default=False,
        ),
    ],
    db: DbOption = DEFAULT_DB,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> int:
    """Remove calls, texts, scores, assignments and rejected rows from before a time, for good.

    Example: abtest prune --before 2026-08-01T00:00:00Z --dry-run
    """
    from abtest.store import retention

    at = _beginning(before)
    with existing_store(db) as store:
        removed = retention.prune(store.connection, at, dry_run=dry_run)
        if not dry_run:
            _compact(store.connection, db)
    if removed.in_use:
        note(
            f"abtest: {removed.in_use:,} of the assignments {'are' if dry_run else 'were'} still in force: "
            "later calls of their units have no arm without them"
        )
    return _say_removed("abtest.prune/1", removed, dry_run=dry_run, as_json=as_json)


def forget(
    unit: Annotated[
        str, typer.Option("--unit", help="The unit's id, as the logs write it.", metavar="ID", show_default=False)
    ],
    db: DbOption = DEFAULT_DB,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> int:
    """Remove everything of one user, session or other unit, for good; later loads ignore it.

    Where unit ids are hashed, ABTEST_UNIT_KEY has to be set. Published snapshots and reports are not touched.

    Example: abtest forget --unit user-4711 --dry-run
    """
    from abtest.store import privacy, retention

    with existing_store(db) as store:
        stored = privacy.stored_unit(store.connection, unit)
        removed = retention.forget(store.connection, unit, stored=stored, dry_run=dry_run)
        if not dry_run:
            _compact(store.connection, db)
    return _say_removed("abtest.forget/1", removed, dry_run=dry_run, as_json=as_json)


def _beginning(text: str) -> int:
    """Read `--before`: a moment, or a date, which means its beginning in UTC (nothing of that day goes)."""
    from abtest.analysis.times import parse_moment

    text = text.strip()
    return parse_moment(f"{text}T00:00:00Z" if len(text) == len("2026-11-20") else text, key="--before")


def _compact(con: object, db: Path) -> None:
    """Rewrite the file; the store must be closed right after."""
    import duckdb

    from abtest.errors import StoreError
    from abtest.store.snapshot import compact

    assert isinstance(con, duckdb.DuckDBPyConnection)
    try:
        compact(con, db)
    except StoreError as error:
        hint = "the rows are gone from the tables; free disk and run it again, so that their bytes go too"
        raise StoreError(error.message, file=error.file, hint=hint) from error


def _say_removed(schema: str, removed: Removed, *, dry_run: bool, as_json: bool) -> int:
    if as_json:
        emit({"schema": schema, "dry_run": dry_run, "rows": removed.rows, "assignments_in_use": removed.in_use})
        return 0
    say(f"{removed.total:,} rows {'would go' if dry_run else 'are gone'}")
    for table, count in removed.rows.items():
        say(f"  {count:,} x {table}")
    return 0


def add(app: typer.Typer) -> None:
    """Add this group's commands."""
    for command in (snapshot, export, prune, forget):
        app.command()(command)
